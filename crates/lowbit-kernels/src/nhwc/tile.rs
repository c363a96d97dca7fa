//! The register tile: a few pixels against one panel of outputs, over the whole inner dimension.

use std::ops::Range;
use std::sync::atomic::{Ordering, compiler_fence};

use super::codes::Codes;
use super::finish::{At, Write, finish};
use super::forms::Form;
use super::layout::ImageLayout;
use super::panels::Panel;
use super::spec::{ConvSpec, ResidualAdd};

/// A layer and the images of one run. The pointers are those of slices of the lengths that `spec` says.
#[derive(Clone, Copy)]
pub(crate) struct Layer<'a> {
    pub(crate) spec: &'a ConvSpec,
    pub(crate) offsets: &'a [u32],
    pub(crate) bias: &'a [i32],
    pub(crate) factors: &'a [f32],
    pub(crate) write: &'a Write,
    pub(crate) x: *const u8,
    pub(crate) images: At,
}

// SAFETY: threads read `x` and the other image, and write disjoint pixels or channels of the result.
unsafe impl Sync for Layer<'_> {}

impl Layer<'_> {
    /// Where the first taps of `R` pixels from row `y` and column `x` on are.
    #[inline(always)]
    pub(crate) fn taps<const R: usize>(&self, [y, x]: [usize; 2]) -> [*const u8; R] {
        let (input, [down, right]) = (&self.spec.input, self.spec.strides);
        let first = self.spec.tap([y, x], [0, 0]);
        let (pitch, step) = (down * input.row(), right * input.pixel);
        offsets::<R>(self.spec.output.width, x, (first, pitch, step))
            .map(|offset| self.x.wrapping_add(offset))
    }

    /// Pixels that the register tile takes at a time.
    pub(crate) fn tile_pixels<A: Codes>(&self) -> usize {
        let width = self.spec.output.width;
        if A::PIXELS == 8 && !width.is_multiple_of(8) && width.is_multiple_of(7) {
            7
        } else {
            A::PIXELS
        }
    }

    /// Computes `panel` of all `pixels` in tiles; they are at least as many as [`Layer::tile_pixels`].
    /// # Safety
    /// The pixels are pixels of the result, and the panel is the layer's; no other thread writes the same.
    #[inline(always)]
    pub(crate) unsafe fn run<A: Codes, F: Form<A>>(
        &self,
        arch: A,
        form: F,
        (panel, weights): (&Panel, &[u32]),
        pixels: Range<usize>,
    ) {
        let at = (panel, weights, pixels);
        // SAFETY: as this function's.
        unsafe {
            match (panel.columns > A::LANES, self.tile_pixels::<A>()) {
                (true, 8) => self.tiles::<A, F, 8, 2, 1>(arch, form, at),
                (false, 8) => self.tiles::<A, F, 8, 1, 2>(arch, form, at),
                (true, 7) => self.tiles::<A, F, 7, 2, 1>(arch, form, at),
                (false, 7) => self.tiles::<A, F, 7, 1, 2>(arch, form, at),
                (true, 6) => self.tiles::<A, F, 6, 2, 1>(arch, form, at),
                (false, 6) => self.tiles::<A, F, 6, 1, 2>(arch, form, at),
                (true, _) => self.tiles::<A, F, 4, 2, 1>(arch, form, at),
                (false, _) => self.tiles::<A, F, 4, 1, 1>(arch, form, at),
            }
        }
    }

    /// Computes `panel` of all `pixels`, one by one.
    /// # Safety
    /// As [`Layer::run`].
    #[inline(always)]
    pub(crate) unsafe fn run_one_by_one<A: Codes, F: Form<A>>(
        &self,
        arch: A,
        form: F,
        (panel, weights): (&Panel, &[u32]),
        pixels: Range<usize>,
    ) {
        let at = (panel, weights, pixels);
        // SAFETY: as this function's.
        unsafe {
            if panel.columns > A::LANES {
                self.tiles::<A, F, 1, 2, 8>(arch, form, at);
            } else {
                self.tiles::<A, F, 1, 1, 8>(arch, form, at);
            }
        }
    }

    /// Tiles of `R` pixels; the last one overlaps the one before it, and writes the same again.
    /// # Safety
    /// As [`Layer::run`]; there are at least `R` pixels.
    #[inline(always)]
    unsafe fn tiles<A: Codes, F: Form<A>, const R: usize, const N: usize, const S: usize>(
        &self,
        arch: A,
        form: F,
        (panel, weights, pixels): (&Panel, &[u32], Range<usize>),
    ) {
        let bounds = arch.bounds(self.write.last_clamp());
        let width = self.spec.output.width;
        let offsets = &self.offsets[panel.offsets.clone()];
        let words = offsets.len().div_ceil(F::WORDS) * N * A::LANES;
        let weights = &weights[..words];
        let bias = &self.bias[panel.column..][..N * A::LANES];
        let factors = &self.factors[panel.column..][..N * A::LANES];
        for first in pixels.clone().step_by(R) {
            let first = first.min(pixels.end - R);
            let at = [first / width, first % width];
            // SAFETY: every word of every tap lies inside the input; weights and biases were sliced to their lengths.
            let sums = unsafe {
                let from = (weights.as_ptr(), bias.as_ptr());
                sums::<A, F, R, N, S>(arch, form, self.taps(at), offsets, from)
            };
            // SAFETY: the pixels and the panel's outputs lie inside the images; the factors were sliced.
            unsafe {
                finish(arch, bounds, sums, factors.as_ptr(), Places { layer: self, panel, at });
            }
        }
    }
}

/// Where the results of pixels go, from row and column `at` on, and what is added to them. Each ending asks for what it needs alone.
#[derive(Clone, Copy)]
pub(crate) struct Places<'a> {
    pub(crate) layer: &'a Layer<'a>,
    pub(crate) panel: &'a Panel,
    pub(crate) at: [usize; 2],
}

impl Places<'_> {
    /// Outputs of each pixel.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.panel.outputs
    }

    /// Of `R` pixels.
    #[inline(always)]
    pub(crate) fn codes<const R: usize>(&self) -> [*mut u8; R] {
        let offsets = self.offsets::<R>(&self.layer.spec.output);
        offsets.map(|offset| self.layer.images.codes.wrapping_add(offset))
    }

    /// Of `R` pixels of the image that is added.
    #[inline(always)]
    pub(crate) fn other<const R: usize>(&self, add: &ResidualAdd) -> [*const u8; R] {
        let offsets = self.offsets::<R>(&add.other);
        offsets.map(|offset| self.layer.images.other.wrapping_add(offset))
    }

    /// Of `R` pixels.
    #[inline(always)]
    pub(crate) fn floats<const R: usize>(&self) -> [*mut f32; R] {
        let (output, [y, x]) = (&self.layer.spec.output, self.at);
        let mut floats = [self.layer.images.floats; R];
        for (r, to) in floats.iter_mut().enumerate() {
            let pixel = y * output.width + x + r;
            *to = to.wrapping_add(pixel * output.channels + self.panel.output);
        }
        floats
    }

    #[inline(always)]
    fn offsets<const R: usize>(&self, layout: &ImageLayout) -> [usize; R] {
        let [y, x] = self.at;
        let first = layout.at(y, x) + self.panel.output;
        offsets::<R>(self.layer.spec.output.width, x, (first, layout.row(), layout.pixel))
    }
}

/// The offsets of `R` pixels from column `x` of a row of `width` on, the first being at `first`; `step` bytes lie from one to the
/// next, and `pitch` from row to row.
#[inline(always)]
pub(crate) fn offsets<const R: usize>(
    width: usize,
    x: usize,
    (first, pitch, step): (usize, usize, usize),
) -> [usize; R] {
    let mut offsets = [first; R];
    if x + R <= width {
        for (r, offset) in offsets.iter_mut().enumerate() {
            *offset += r * step;
        }
        return offsets;
    }
    let (mut at, mut left) = (first, width - x);
    for offset in &mut offsets {
        *offset = at;
        (at, left) = (at + step, left - 1);
        if left == 0 {
            (at, left) = (at + pitch - width * step, width);
        }
    }
    offsets
}

/// The sums of `R` pixels and `N` vectors of outputs. `S` sets of sums take turns, so that enough are independent.
/// # Safety
/// Four bytes are readable at each pixel and offset, `N` vectors of weights for each `F::WORDS` offsets, and of biases.
#[inline(always)]
pub(crate) unsafe fn sums<A: Codes, F: Form<A>, const R: usize, const N: usize, const S: usize>(
    arch: A,
    form: F,
    x: [*const u8; R],
    offsets: &[u32],
    (weights, bias): (*const u32, *const i32),
) -> [[A::V; N]; R] {
    let block = const {
        let sets = if S > F::WORDS { S } else { F::WORDS };
        if sets > A::RUN { sets } else { A::RUN }
    };
    let mut sums = [[[arch.splat(0); N]; R]; S];
    for n in 0..N {
        // SAFETY: the caller promises `N` vectors of biases.
        let bias = unsafe { arch.load(bias.add(n * A::LANES).cast()) };
        for row in &mut sums[0] {
            row[n] = bias;
        }
    }
    let mut weights = weights;
    let mut blocks = offsets.chunks_exact(block);
    for offsets in &mut blocks {
        if A::RUN == 4 && offsets.windows(2).all(|pair| pair[1] == pair[0] + 4) {
            for j in (0..block).step_by(A::RUN) {
                // SAFETY: the caller promises what these words of the inner dimension read.
                unsafe {
                    run_of_four::<A, F, R, N, S>(
                        arch,
                        form,
                        x,
                        (offsets[j], weights, j),
                        &mut sums,
                    );
                }
            }
        } else {
            for j in 0..block {
                // SAFETY: the caller promises what one word of the inner dimension reads.
                unsafe {
                    step::<A, F, R, N>(arch, form, x, (offsets[j], weights, j), &mut sums[j % S]);
                }
                if block > 1 {
                    // Else the codes of all words are read first, and there are not registers for so many.
                    compiler_fence(Ordering::SeqCst);
                }
            }
        }
        // SAFETY: the weights of this block are followed by those of the rest.
        weights = unsafe { weights.add(block / F::WORDS * N * A::LANES) };
    }
    let rest = blocks.remainder();
    for j in 0..block {
        if j < rest.len() {
            // SAFETY: as above.
            unsafe { step::<A, F, R, N>(arch, form, x, (rest[j], weights, j), &mut sums[j % S]) };
        }
    }
    let mut total = sums[0];
    for set in &sums[1..] {
        for (total, sum) in total.iter_mut().zip(set) {
            for n in 0..N {
                total[n] = arch.add_i32(total[n], sum[n]);
            }
        }
    }
    total
}

/// Adds four words of the inner dimension that follow one another in each pixel, from the `j`th of the block that begins at `weights`.
/// # Safety
/// As [`sums`].
#[inline(always)]
unsafe fn run_of_four<A: Codes, F: Form<A>, const R: usize, const N: usize, const S: usize>(
    arch: A,
    form: F,
    x: [*const u8; R],
    (offset, weights, j): (u32, *const u32, usize),
    sums: &mut [[[A::V; N]; R]; S],
) {
    // SAFETY: the caller promises four bytes at each pixel and offset.
    let mut codes = [unsafe { arch.run(x[0].add(offset as usize)) }; R];
    for r in 1..R {
        // SAFETY: as above.
        codes[r] = unsafe { arch.run(x[r].add(offset as usize)) };
    }
    // Written out, as the compiler finds a loop around these too long to unroll.
    // SAFETY: as this function's.
    unsafe {
        word::<A, F, R, N, 0>(arch, form, &codes, (weights, j), &mut sums[j % S]);
        word::<A, F, R, N, 1>(arch, form, &codes, (weights, j + 1), &mut sums[(j + 1) % S]);
        word::<A, F, R, N, 2>(arch, form, &codes, (weights, j + 2), &mut sums[(j + 2) % S]);
        word::<A, F, R, N, 3>(arch, form, &codes, (weights, j + 3), &mut sums[(j + 3) % S]);
    }
}

/// Adds word `I` of a run, the `j`th of the block that begins at `weights`.
/// # Safety
/// As [`sums`].
#[inline(always)]
unsafe fn word<A: Codes, F: Form<A>, const R: usize, const N: usize, const I: i32>(
    arch: A,
    form: F,
    codes: &[A::X; R],
    (weights, j): (*const u32, usize),
    sums: &mut [[A::V; N]; R],
) {
    // SAFETY: as this function's.
    let w = unsafe { panel_word::<A, F, N>(arch, form, weights, j) };
    for r in 0..R {
        for n in 0..N {
            sums[r][n] = arch.dot_word::<I>(sums[r][n], codes[r], w[n]);
        }
    }
}

/// The weights of the `j`th word of the block that begins at `weights`.
/// # Safety
/// As [`sums`].
#[inline(always)]
unsafe fn panel_word<A: Codes, F: Form<A>, const N: usize>(
    arch: A,
    form: F,
    weights: *const u32,
    j: usize,
) -> [A::W; N] {
    let mut w = [arch.weights(arch.splat(0)); N];
    for (n, w) in w.iter_mut().enumerate() {
        // SAFETY: the caller promises `N` vectors for each `F::WORDS` words.
        let packed = unsafe { arch.load(weights.add((j / F::WORDS * N + n) * A::LANES)) };
        *w = arch.weights(form.unpack(arch, packed, j % F::WORDS));
    }
    w
}

/// Adds one word of the inner dimension, the `j`th of the block that begins at `weights`.
/// # Safety
/// As [`sums`].
#[inline(always)]
pub(crate) unsafe fn step<A: Codes, F: Form<A>, const R: usize, const N: usize>(
    arch: A,
    form: F,
    x: [*const u8; R],
    (offset, weights, j): (u32, *const u32, usize),
    sums: &mut [[A::V; N]; R],
) {
    // SAFETY: as this function's.
    let w = unsafe { panel_word::<A, F, N>(arch, form, weights, j) };
    for r in 0..R {
        // SAFETY: the caller promises four bytes at each pixel and offset.
        let x = unsafe { arch.activations(x[r].add(offset as usize)) };
        for n in 0..N {
            sums[r][n] = arch.dot_word::<0>(sums[r][n], x, w[n]);
        }
    }
}
