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
            if dilations[axis] % strides[axis] == 0 { 1 } else { strides[axis].min(last(axis) + 1) }
        });
        let extent = std::array::from_fn(|axis| output[axis] + last(axis) / strides[axis]);
        Self { geometry: *geometry, phases, extent }
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

    /// The runs of input rows that fill a plane, in the order of the input.
    pub(crate) fn moves(&self, moves: &mut Vec<Move>) {
        let g = &self.geometry;
        moves.clear();
        for phase in 0..self.phases[0] * self.phases[1] {
            let (top, bottom, input_top) = self.inside(0, phase / self.phases[1]);
            let (left, right, input_left) = self.inside(1, phase % self.phases[1]);
            if left < right {
                moves.extend((top..bottom).map(|row| Move {
                    from: (input_top + (row - top) * g.strides[0]) * g.input[1] + input_left,
                    to: (phase * self.extent[0] + row) * self.extent[1] + left,
                    len: right - left,
                }));
            }
        }
        moves.sort_unstable_by_key(|run| run.from);
    }

    /// For one phase of an axis: the first and one-past-last position inside the image, and the input index of the first.
    fn inside(&self, axis: usize, phase: usize) -> (usize, usize, usize) {
        let g = &self.geometry;
        let (stride, pad) = (g.strides[axis], g.pads[axis]);
        let first = pad.saturating_sub(phase).div_ceil(stride);
        let end =
            (g.input[axis] + pad).saturating_sub(phase).div_ceil(stride).min(self.extent[axis]);
        (first.min(end), end, (phase + first * stride).saturating_sub(pad))
    }
}

/// A run of one input row on its way into a staged plane: element and word indices relative to the channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    from: usize,
    to: usize,
    len: usize,
}

/// Elements of a row: where they start in one or two channels, and the distance between them.
#[derive(Clone, Copy)]
struct Row {
    first: usize,
    second: Option<usize>,
    step: usize,
}

/// Elements that can be staged.
pub(crate) trait Feed: Copy + Send + Sync {
    /// Channels that share one word.
    const PACK: usize;
    /// The word of one element, or of one in each of two channels.
    fn word(self, first: usize, second: Option<usize>) -> u32;
    /// The words of `LANES` neighbours, unless they reach over the end.
    fn vector<A: Arch>(self, arch: A, first: usize, second: Option<usize>) -> Option<A::V>;
    /// The words themselves, where no conversion is needed.
    fn direct(&self) -> Option<&[u32]>;
}

/// `f32` elements, as their bits.
#[derive(Clone, Copy)]
pub(crate) struct Floats<'a>(pub(crate) &'a [u32]);

impl Feed for Floats<'_> {
    const PACK: usize = 1;

    #[inline(always)]
    fn word(self, first: usize, _: Option<usize>) -> u32 {
        self.0[first]
    }

    #[inline(always)]
    fn vector<A: Arch>(self, arch: A, first: usize, _: Option<usize>) -> Option<A::V> {
        let words = self.0.get(first..first + A::LANES)?;
        // SAFETY: the slice holds a whole vector.
        Some(unsafe { arch.load(words.as_ptr()) })
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
    fn word(self, first: usize, second: Option<usize>) -> u32 {
        let value = |at: usize| self.data[at].into() - self.zero_point;
        pair(value(first), second.map_or(0, value))
    }

    #[inline(always)]
    fn vector<A: Arch>(self, arch: A, first: usize, second: Option<usize>) -> Option<A::V> {
        let low = self.data.get(first..first + A::LANES)?;
        let mut words = [0; MAX_LANES];
        if let Some(second) = second {
            let high = self.data.get(second..second + A::LANES)?;
            for ((word, &low), &high) in words[..A::LANES].iter_mut().zip(low).zip(high) {
                *word = pair(low.into() - self.zero_point, high.into() - self.zero_point);
            }
        } else {
            for (word, &low) in words[..A::LANES].iter_mut().zip(low) {
                *word = pair(low.into() - self.zero_point, 0);
            }
        }
        // SAFETY: `LANES <= MAX_LANES` words.
        Some(unsafe { arch.load(words.as_ptr()) })
    }

    fn direct(&self) -> Option<&[u32]> {
        None
    }
}

/// Words of the widest vector.
const MAX_LANES: usize = 16;

/// Writes the elements of a row, whole vectors at a time for the strides 1 and 2.
#[inline(always)]
fn fill<A: Arch, F: Feed>(arch: A, feed: F, to: &mut [u32], row: Row) {
    let mut done = 0;
    while done < to.len() {
        let to = &mut to[done..];
        let at = |lane: usize| (row.first + lane, row.second.map(|second| second + lane));
        let vector = |lane: usize| {
            let (first, second) = at(lane);
            feed.vector(arch, first, second)
        };
        let words = match row.step {
            1 => vector(done),
            2 => vector(2 * done)
                .zip(vector(2 * done + A::LANES))
                .map(|(low, high)| arch.evens(low, high)),
            _ => None,
        };
        let len = to.len().min(A::LANES);
        match words {
            // SAFETY: `LANES` words are left in `to`.
            Some(words) if len == A::LANES => unsafe { arch.store(to.as_mut_ptr(), words) },
            // SAFETY: `len` words are left in `to`.
            Some(words) => unsafe { arch.store_part(to.as_mut_ptr(), words, len) },
            None => {
                for (lane, to) in to[..len].iter_mut().enumerate() {
                    let (first, second) = at((done + lane) * row.step);
                    *to = feed.word(first, second);
                }
            }
        }
        done += len;
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

/// Staged channels of one image.
pub(crate) fn staged_channels<F: Feed>(geometry: &ConvGeometry) -> usize {
    geometry.groups * (geometry.channels_in / geometry.groups).div_ceil(F::PACK)
}

/// Stages consecutive planes: plane `i` of `to` is staged channel `first + i`, counted through groups and images.
pub(crate) struct StageTask<'a, F> {
    pub(crate) stager: Stager<'a, F>,
    pub(crate) first: usize,
    pub(crate) to: &'a mut [u32],
}

impl<F: Feed> Task for StageTask<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self, arch: A) {
        self.to.fill(0);
        for (index, plane) in self.to.chunks_exact_mut(self.stager.layout.plane()).enumerate() {
            self.stager.stage(arch, self.first + index, plane);
        }
    }
}

/// What is needed to stage any plane.
#[derive(Clone, Copy)]
pub(crate) struct Stager<'a, F> {
    pub(crate) feed: F,
    pub(crate) layout: &'a Layout,
    pub(crate) moves: &'a [Move],
}

impl<F: Feed> Stager<'_, F> {
    /// Writes the elements of a plane; the pads of `to` are zeros already.
    #[inline(always)]
    pub(crate) fn stage<A: Arch>(&self, arch: A, index: usize, to: &mut [u32]) {
        match self.layout.geometry.strides[1] {
            1 => self.stage_step(arch, index, 1, to),
            2 => self.stage_step(arch, index, 2, to),
            step => self.stage_step(arch, index, step, to),
        }
    }

    /// The body for a step that the compiler may know.
    #[inline(always)]
    fn stage_step<A: Arch>(&self, arch: A, index: usize, step: usize, to: &mut [u32]) {
        let g = &self.layout.geometry;
        let group_inputs = g.channels_in / g.groups;
        let words = group_inputs.div_ceil(F::PACK);
        let (group, word) = (index / words, index % words);
        let area = g.input[0] * g.input[1];
        let first = (group * group_inputs + word * F::PACK) * area;
        let second = (F::PACK == 2 && word * 2 + 1 < group_inputs).then_some(first + area);
        for run in self.moves {
            let second = second.map(|second| second + run.from);
            let row = Row { first: first + run.from, second, step };
            fill(arch, self.feed, &mut to[run.to..run.to + run.len], row);
        }
    }
}
