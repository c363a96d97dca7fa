//! Depthwise convolution: each channel staged alone, then slid over with all taps in registers.

use crate::arch::Arch;
use crate::engine::Job;
use crate::isa::Task;
use crate::stage::{Feed, Layout, stage_plane};
use crate::tile::Sink;
use crate::word::Word;

/// Consecutive output planes, the first being plane `first` counted through images and channels.
pub(crate) struct DepthwiseTask<'a, F, W> {
    pub(crate) job: Job<'a, F, W>,
    pub(crate) layout: &'a Layout,
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
        let [rows, width] = g.output();
        let plane = self.layout.plane();
        if self.staged.len() < plane + A::LANES {
            self.staged.resize(plane + A::LANES, 0);
        }
        for (index, out) in self.out.chunks_exact_mut(rows * width).enumerate() {
            stage_plane(
                arch,
                self.job.feed,
                self.layout,
                self.first + index,
                &mut self.staged[..plane],
            );
            let channel = (self.first + index) % g.channels_out;
            let taps = g.kernel[0] * g.kernel[1];
            let plane = Plane {
                staged: &self.staged[..plane + A::LANES],
                layout: self.layout,
                kernel_width: g.kernel[1],
                weights: &self.weights[channel * taps..][..taps],
                bias: self.bias[channel],
                size: [rows, width],
            };
            match taps {
                9 => plane.slide::<A, W, 9>(arch, self.job.word, out),
                25 => plane.slide::<A, W, 25>(arch, self.job.word, out),
                _ => plane.slide_any(arch, self.job.word, out),
            }
        }
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
    fn slide<A: Arch, W: Word, const TAPS: usize>(&self, arch: A, word: W, out: &mut [u32]) {
        let [rows, width] = self.size;
        let offsets: [usize; TAPS] = std::array::from_fn(|t| {
            self.layout
                .tap(t / self.kernel_width, t % self.kernel_width)
        });
        let weights: [A::V; TAPS] = std::array::from_fn(|t| arch.splat(self.weights[t]));
        let bias = arch.splat(self.bias);
        let sink = Sink::new(out);
        let last = (rows - 1) * self.layout.pitch() + (width - 1) / A::LANES * A::LANES;
        for offset in offsets {
            assert!(
                last + offset + A::LANES <= self.staged.len(),
                "every vector lies inside the staged plane"
            );
        }
        for y in 0..rows {
            for x in (0..width).step_by(A::LANES) {
                let from = self.staged[y * self.layout.pitch() + x..].as_ptr();
                let mut sum = arch.splat(0);
                for (&offset, &weight) in offsets.iter().zip(&weights) {
                    // SAFETY: `from` is at most `last`, for which every offset was asserted.
                    let vector = unsafe { arch.load(from.add(offset)) };
                    sum = word.mac(arch, sum, vector, weight);
                }
                let value = word.finish(arch, sum, bias);
                // SAFETY: `out` is borrowed exclusively by this call.
                unsafe { sink.store(arch, y * width + x, value, (width - x).min(A::LANES)) }
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
                    let offset = self
                        .layout
                        .tap(t / self.kernel_width, t % self.kernel_width);
                    let from = &from[offset..][..A::LANES];
                    // SAFETY: the slice holds a whole vector.
                    let vector = unsafe { arch.load(from.as_ptr()) };
                    sum = word.mac(arch, sum, vector, arch.splat(weight));
                }
                let value = word.finish(arch, sum, bias);
                // SAFETY: `out` is borrowed exclusively by this call.
                unsafe { sink.store(arch, y * width + x, value, (width - x).min(A::LANES)) }
            }
        }
    }
}
