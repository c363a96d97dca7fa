//! Depthwise convolution: each channel staged alone, then slid over with all taps in registers.
//!
//! [`BAND`] output rows are computed together, so that their sums do not wait for each other; where rows are neither
//! strided nor dilated, a vector once loaded also serves every tap of its column. Taps are summed in the order row,
//! column in any case.

use crate::arch::Arch;
use crate::engine::Job;
use crate::isa::Task;
use crate::stage::{Feed, Layout, Stager};
use crate::tile::Sink;
use crate::word::Word;

/// Output rows computed together.
const BAND: usize = 4;

/// Words of staged planes, if several, that are made ready together: half of a small L1 cache.
const AHEAD_WORDS: usize = 1 << 12;

/// Consecutive output planes, the first being plane `first` counted through images and channels.
pub(crate) struct DepthwiseTask<'a, F, W> {
    pub(crate) job: Job<'a, F, W>,
    pub(crate) stager: Stager<'a, F>,
    pub(crate) first: usize,
    /// `[channel][tap]`
    pub(crate) weights: &'a [u32],
    pub(crate) bias: &'a [u32],
    pub(crate) out: &'a mut [u32],
    pub(crate) staged: &'a mut Vec<u32>,
}

impl<F: Feed, W: Word> Task for DepthwiseTask<'_, F, W> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self, arch: A) {
        let g = self.job.geometry;
        let dense_rows = g.strides[0] == 1 && g.dilations[0] == 1;
        let banded = g.output()[0] >= BAND;
        match (g.kernel, banded, dense_rows) {
            ([3, 3], true, true) => self.planes::<A, 3, 3, BAND>(arch),
            ([3, 3], true, false) => self.planes::<A, 9, 1, BAND>(arch),
            ([3, 3], false, _) => self.planes::<A, 9, 1, 1>(arch),
            ([5, 5], true, true) => self.planes::<A, 5, 5, BAND>(arch),
            ([5, 5], true, false) => self.planes::<A, 25, 1, BAND>(arch),
            ([5, 5], false, _) => self.planes::<A, 25, 1, 1>(arch),
            // The phases of the gradients of strided ones.
            ([1, 1], true, _) => self.planes::<A, 1, 1, BAND>(arch),
            ([1, 2] | [2, 1], true, _) => self.planes::<A, 2, 1, BAND>(arch),
            ([2, 2], true, _) => self.planes::<A, 4, 1, BAND>(arch),
            ([2, 3] | [3, 2], true, _) => self.planes::<A, 6, 1, BAND>(arch),
            _ => self.planes::<A, 0, 0, 1>(arch),
        }
    }
}

impl<F: Feed, W: Word> DepthwiseTask<'_, F, W> {
    /// `KH` steps of `KW` taps each. With more than one tap, a step is a kernel row and lies one pitch after the one
    /// before.
    #[inline(always)]
    fn planes<A: Arch, const KH: usize, const KW: usize, const ROWS: usize>(self, arch: A) {
        let g = self.job.geometry;
        let [rows, width] = g.output();
        let layout = self.stager.layout;
        let size = layout.plane();
        // Several small planes are staged before any is read, so that reads do not wait for the writes before them.
        let ahead = (AHEAD_WORDS / size).max(1);
        if self.staged.len() < ahead * size + A::LANES {
            self.staged.resize(ahead * size + A::LANES, 0);
        }
        self.staged[..ahead * size].fill(0);
        let taps = g.kernel[0] * g.kernel[1];
        let steps = Steps::<KH, KW>::new(layout, g.kernel[1], ROWS);
        let planes = self.out.len() / (rows * width);
        for (index, out) in self.out.chunks_exact_mut(rows * width).enumerate() {
            if index % ahead == 0 {
                for next in 0..ahead.min(planes - index) {
                    self.stager.stage(
                        arch,
                        self.first + index + next,
                        &mut self.staged[next * size..][..size],
                    );
                }
            }
            let channel = (self.first + index) % g.channels_out;
            let plane = Plane {
                staged: &self.staged[index % ahead * size..][..size + A::LANES],
                layout,
                kernel_width: g.kernel[1],
                weights: &self.weights[channel * taps..][..taps],
                bias: self.bias[channel],
                size: [rows, width],
            };
            if KH == 0 {
                plane.slide_any(arch, self.job.word, out);
            } else {
                plane.slide::<A, W, KH, KW, ROWS>(arch, self.job.word, &steps, out);
            }
        }
    }
}

/// Offsets of the taps of each step.
struct Steps<const KH: usize, const KW: usize> {
    offsets: [[usize; KW]; KH],
    reach: usize,
}

impl<const KH: usize, const KW: usize> Steps<KH, KW> {
    fn new(layout: &Layout, kernel_width: usize, rows: usize) -> Self {
        let tap = |step: usize, tap: usize| {
            let at = step * KW + tap;
            layout.tap(at / kernel_width, at % kernel_width)
        };
        let offsets: [[usize; KW]; KH] =
            std::array::from_fn(|step| std::array::from_fn(|t| tap(step, t)));
        let reach = offsets.as_flattened().iter().copied().max().unwrap_or(0);
        Self { offsets, reach: reach + (rows - 1) * layout.pitch() }
    }

    /// A vector of each of `ROWS` output rows.
    /// # Safety
    /// `LANES` words are readable at `from + offset`, for offsets up to `reach`.
    #[inline(always)]
    unsafe fn sums<A: Arch, W: Word, const ROWS: usize>(
        &self,
        (arch, word): (A, W),
        from: *const u32,
        pitch: usize,
        weights: &[[A::V; KW]; KH],
    ) -> [A::V; ROWS] {
        let mut sums = [arch.splat(0); ROWS];
        if KW == 1 {
            for (offset, weight) in self.offsets.iter().zip(weights) {
                for (r, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: the caller promises it up to `reach`, which counts the rows of the band.
                    let vector = unsafe { arch.load(from.add(r * pitch + offset[0])) };
                    *sum = word.mac(arch, *sum, vector, weight[0]);
                }
            }
            return sums;
        }
        for input in 0..ROWS + KH - 1 {
            for (t, offset) in self.offsets[0].iter().enumerate() {
                // SAFETY: the caller promises it up to `reach`, that of the last kernel row from the last output row.
                let vector = unsafe { arch.load(from.add(input * pitch + offset)) };
                for (r, sum) in sums.iter_mut().enumerate() {
                    if input >= r && input - r < KH {
                        *sum = word.mac(arch, *sum, vector, weights[input - r][t]);
                    }
                }
            }
        }
        sums
    }
}

struct Plane<'a> {
    staged: &'a [u32],
    layout: &'a Layout,
    kernel_width: usize,
    weights: &'a [u32],
    bias: u32,
    size: [usize; 2],
}

impl Plane<'_> {
    #[inline(always)]
    fn slide<A: Arch, W: Word, const KH: usize, const KW: usize, const ROWS: usize>(
        &self,
        arch: A,
        word: W,
        steps: &Steps<KH, KW>,
        out: &mut [u32],
    ) {
        let ([rows, width], pitch) = (self.size, self.layout.pitch());
        let mut weights = [[arch.splat(0); KW]; KH];
        for (weights, words) in weights.iter_mut().zip(self.weights.chunks_exact(KW)) {
            for (weight, &word) in weights.iter_mut().zip(words) {
                *weight = arch.splat(word);
            }
        }
        let bias = arch.splat(self.bias);
        let sink = Sink::new(out);
        let last = (rows - ROWS) * pitch + (width - 1) / A::LANES * A::LANES;
        assert!(
            last + steps.reach + A::LANES <= self.staged.len(),
            "every vector lies inside the staged plane"
        );
        for band in 0..rows.div_ceil(ROWS) {
            // The last band overlaps the one before rather than being short.
            let y = (band * ROWS).min(rows - ROWS);
            for x in (0..width).step_by(A::LANES) {
                let from = self.staged[y * pitch + x..].as_ptr();
                // SAFETY: `from` is at most `last`, for which the farthest offset was asserted.
                let sums: [A::V; ROWS] = unsafe { steps.sums((arch, word), from, pitch, &weights) };
                for (r, sum) in sums.into_iter().enumerate() {
                    let value = word.activate(arch, word.add(arch, sum, bias));
                    // SAFETY: `out` is borrowed exclusively by this call.
                    unsafe {
                        sink.store(arch, (y + r) * width + x, value, (width - x).min(A::LANES))
                    }
                }
            }
        }
    }

    /// Any number of taps.
    #[inline(always)]
    fn slide_any<A: Arch, W: Word>(&self, arch: A, word: W, out: &mut [u32]) {
        let [rows, width] = self.size;
        let bias = arch.splat(self.bias);
        let sink = Sink::new(out);
        for y in 0..rows {
            for x in (0..width).step_by(A::LANES) {
                let from = &self.staged[y * self.layout.pitch() + x..];
                let mut sum = arch.splat(0);
                for (t, &weight) in self.weights.iter().enumerate() {
                    let offset = self.layout.tap(t / self.kernel_width, t % self.kernel_width);
                    let from = &from[offset..][..A::LANES];
                    // SAFETY: the slice holds a whole vector.
                    let vector = unsafe { arch.load(from.as_ptr()) };
                    sum = word.mac(arch, sum, vector, arch.splat(weight));
                }
                let value = word.activate(arch, word.add(arch, sum, bias));
                // SAFETY: `out` is borrowed exclusively by this call.
                unsafe { sink.store(arch, y * width + x, value, (width - x).min(A::LANES)) }
            }
        }
    }
}
