//! Staging: an image copied into words such that every convolution reads it at constant offsets.
//!
//! Pads are written as zeros, and rows and columns are split by their remainder modulo the stride ("phases"), so that
//! the pixels `x, x + 1, ...` of an output row read neighbouring words for each tap, whatever the stride:
//!
//! ```text
//!     staged[channel][phase_y][phase_x][row][column] = padded[channel][phase_y + row * sy][phase_x + column * sx]
//!     tap (ky, kx) of output (y, x) lies at phase (ky * dy % sy, kx * dx % sx), row y + ky * dy / sy, and so on.
//! ```
//!
//! Integers lose their zero point here, so that a pad is a plain 0 and products need no correction; two channels
//! share one word. Nothing here knows weights or outputs.

use crate::arch::Arch;
use crate::geometry::ConvGeometry;
use crate::isa::Task;
use crate::word::pair;

/// Where things lie in a staged plane.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    geometry: ConvGeometry,
    phases: [usize; 2],
    /// Rows and columns of one phase.
    extent: [usize; 2],
}

impl Layout {
    pub(crate) fn new(geometry: &ConvGeometry) -> Self {
        let output = geometry.output();
        let (strides, dilations) = (geometry.strides, geometry.dilations);
        let last = |axis: usize| (geometry.kernel[axis] - 1) * dilations[axis];
        let phases = std::array::from_fn(|axis| {
            if dilations[axis] % strides[axis] == 0 {
                1
            } else {
                strides[axis].min(last(axis) + 1)
            }
        });
        let extent = std::array::from_fn(|axis| output[axis] + last(axis) / strides[axis]);
        Self {
            geometry: *geometry,
            phases,
            extent,
        }
    }

    pub(crate) fn pitch(&self) -> usize {
        self.extent[1]
    }

    /// Words of one staged channel.
    pub(crate) fn plane(&self) -> usize {
        self.phases[0] * self.phases[1] * self.extent[0] * self.extent[1]
    }

    /// Whether the input is already laid out so.
    pub(crate) fn is_identity(&self) -> bool {
        self.geometry.strides == [1, 1] && self.geometry.pads == [0; 4]
    }

    /// Offset in its plane of the tap, for output (0, 0).
    pub(crate) fn tap(&self, ky: usize, kx: usize) -> usize {
        let g = &self.geometry;
        let (y, x) = (ky * g.dilations[0], kx * g.dilations[1]);
        let phase = (y % g.strides[0]) * self.phases[1] + x % g.strides[1];
        (phase * self.extent[0] + y / g.strides[0]) * self.extent[1] + x / g.strides[1]
    }

    /// For one phase of an axis: the first and one-past-last position inside the image, and the input index of the first.
    #[inline(always)]
    fn inside(&self, axis: usize, phase: usize) -> (usize, usize, usize) {
        let g = &self.geometry;
        let (stride, pad) = (g.strides[axis], g.pads[axis]);
        let first = pad.saturating_sub(phase).div_ceil(stride);
        let end = (g.input[axis] + pad)
            .saturating_sub(phase)
            .div_ceil(stride)
            .min(self.extent[axis]);
        (
            first.min(end),
            end,
            (phase + first * stride).saturating_sub(pad),
        )
    }
}

/// One input row: the element index in one or two channels, and the distance between elements.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    first: usize,
    second: Option<usize>,
    step: usize,
}

/// Elements that can be staged.
pub(crate) trait Feed: Copy + Send + Sync {
    /// Channels that share one word.
    const PACK: usize;
    /// Writes consecutive elements of a row.
    fn fill<A: Arch>(self, arch: A, to: &mut [u32], row: Row);
    /// The words themselves, where no conversion is needed.
    fn direct(&self) -> Option<&[u32]>;
}

/// `f32` elements, as their bits.
#[derive(Clone, Copy)]
pub(crate) struct Floats<'a>(pub(crate) &'a [u32]);

impl Feed for Floats<'_> {
    const PACK: usize = 1;

    #[inline(always)]
    fn fill<A: Arch>(self, arch: A, to: &mut [u32], row: Row) {
        if row.step == 1 {
            copy(arch, to, &self.0[row.first..row.first + to.len()]);
        } else {
            each(to, &self.0[row.first..], row.step, |x| x);
        }
    }

    fn direct(&self) -> Option<&[u32]> {
        Some(self.0)
    }
}

/// 8-bit elements with their zero point.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) zero_point: i32,
}

impl<T: Copy + Send + Sync + Into<i32>> Feed for Bytes<'_, T> {
    const PACK: usize = 2;

    #[inline(always)]
    fn fill<A: Arch>(self, _: A, to: &mut [u32], row: Row) {
        let Some(second) = row.second else {
            return each(to, &self.data[row.first..], row.step, |x| {
                pair(x.into() - self.zero_point, 0)
            });
        };
        let (low, high) = (&self.data[row.first..], &self.data[second..]);
        if row.step == 1 {
            for ((to, &low), &high) in to.iter_mut().zip(low).zip(high) {
                *to = pair(low.into() - self.zero_point, high.into() - self.zero_point);
            }
            return;
        }
        each(to, low, row.step, |x| pair(x.into() - self.zero_point, 0));
        let last = to.len() - 1;
        for (to, high) in to[..last].iter_mut().zip(high.chunks_exact(row.step)) {
            *to |= pair(0, high[0].into() - self.zero_point);
        }
        to[last] |= pair(0, high[last * row.step].into() - self.zero_point);
    }

    fn direct(&self) -> Option<&[u32]> {
        None
    }
}

/// `to[j] = map(from[j * step])`; the last element apart, because its chunk may be short.
#[inline(always)]
fn each<T: Copy>(to: &mut [u32], from: &[T], step: usize, map: impl Fn(T) -> u32) {
    let Some((last, head)) = to.split_last_mut() else {
        return;
    };
    *last = map(from[head.len() * step]);
    match step {
        1 => head
            .iter_mut()
            .zip(from)
            .for_each(|(to, &from)| *to = map(from)),
        2 => head
            .iter_mut()
            .zip(from.chunks_exact(2))
            .for_each(|(to, from)| *to = map(from[0])),
        _ => head
            .iter_mut()
            .zip(from.chunks_exact(step))
            .for_each(|(to, from)| *to = map(from[0])),
    }
}

/// Copies short slices without the call of `memcpy`.
#[inline(always)]
pub(crate) fn copy<A: Arch>(arch: A, to: &mut [u32], from: &[u32]) {
    let len = to.len();
    assert!(from.len() == len, "copy needs equal lengths");
    let (to, from) = (to.as_mut_ptr(), from.as_ptr());
    let mut at = 0;
    while at + A::LANES <= len {
        // SAFETY: `at + LANES <= len`, the length of both slices.
        let vector = unsafe { arch.load(from.add(at)) };
        // SAFETY: as for the load.
        unsafe { arch.store(to.add(at), vector) };
        at += A::LANES;
    }
    if at < len {
        // SAFETY: `len - at` words are left in both slices, fewer than a vector.
        let vector = unsafe { arch.load_part(from.add(at), len - at) };
        // SAFETY: as for the load.
        unsafe { arch.store_part(to.add(at), vector, len - at) };
    }
}

/// Stages consecutive planes: plane `i` of `to` is staged channel `first + i`, counted through groups and images.
pub(crate) struct StageTask<'a, F> {
    pub(crate) feed: F,
    pub(crate) layout: &'a Layout,
    pub(crate) first: usize,
    pub(crate) to: &'a mut [u32],
}

impl<F: Feed> Task for StageTask<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self, arch: A) {
        for (index, plane) in self.to.chunks_exact_mut(self.layout.plane()).enumerate() {
            stage_plane(arch, self.feed, self.layout, self.first + index, plane);
        }
    }
}

/// Staged channels of one image.
pub(crate) fn staged_channels<F: Feed>(geometry: &ConvGeometry) -> usize {
    geometry.groups * (geometry.channels_in / geometry.groups).div_ceil(F::PACK)
}

#[inline(always)]
pub(crate) fn stage_plane<A: Arch, F: Feed>(
    arch: A,
    feed: F,
    layout: &Layout,
    index: usize,
    to: &mut [u32],
) {
    let g = &layout.geometry;
    let group_inputs = g.channels_in / g.groups;
    let words = group_inputs.div_ceil(F::PACK);
    let (group, word) = (index / words, index % words);
    let area = g.input[0] * g.input[1];
    let first = (group * group_inputs + word * F::PACK) * area;
    let second = (F::PACK == 2 && word * 2 + 1 < group_inputs).then_some(first + area);
    to.fill(0);
    for phase_y in 0..layout.phases[0] {
        let (top, bottom, input_top) = layout.inside(0, phase_y);
        for phase_x in 0..layout.phases[1] {
            let (left, right, input_left) = layout.inside(1, phase_x);
            let phase = phase_y * layout.phases[1] + phase_x;
            for row in top..bottom * usize::from(right > left) {
                let from = (input_top + (row - top) * g.strides[0]) * g.input[1] + input_left;
                let at = (phase * layout.extent[0] + row) * layout.extent[1];
                let row = Row {
                    first: first + from,
                    second: second.map(|second| second + from),
                    step: g.strides[1],
                };
                feed.fill(arch, &mut to[at + left..at + right], row);
            }
        }
    }
}
