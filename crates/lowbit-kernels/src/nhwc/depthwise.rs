//! Convolution of each channel by itself.
//!
//! Vectors lie over channels. Up to four rows of a column of taps are interleaved, so that each lane holds four codes of its
//! channel and one dot product adds them. Along a row of the result a column serves all outputs that it is a tap of: their
//! sums roll through registers.
//!
//! ```text
//! for each block of channels, for each row of the result:
//!     sums = []
//!     for each column of the input:
//!         push a new output's biases; words = interleave(rows of the column)
//!         for each output in reach: sums[output] += dot(words, weights[column - output])
//!         finish and pop the oldest output, if this was its last column
//! ```
//!
//! Where a vector has room for the channels of two or four pixels, these are computed together, as if they were one pixel of all
//! their channels and the stride as long.

use std::ops::Range;

use super::arena::Words;
use super::codes::{Codes, interleaved};
use super::conv::{Conv, are_few, dot_zero_point, fold_zero_point, share};
use super::finish::{At, Other, SumVectors, Write, codes, plain, scaled};
use super::pool::Pool;
use super::spec::{ConvSpec, Finish, WeightForm};
use crate::isa::{Isa, Task, kernel_name};

/// A convolution of each channel by itself, its weights packed for one tier.
#[derive(Clone, Debug)]
pub struct Depthwise(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Channels(Box<Channels>),
    /// Several outputs a channel.
    Groups(Box<Conv>),
}

#[derive(Clone, Debug)]
struct Channels {
    isa: Isa,
    spec: ConvSpec,
    /// Channels of a block: bytes of a vector.
    block: usize,
    /// Pixels that a block holds, where their channels fill no more than half of it.
    joined: usize,
    /// `[block][four rows][column][vector][lane]`, four rows of weights a word.
    words: Words,
    /// `[block][vector][lane]`.
    bias: Vec<i32>,
    /// `[block][vector][lane]`.
    factors: Vec<f32>,
    write: Write,
}

impl Depthwise {
    /// Packs `weights`, `[o, 1, kh, kw]`, and folds `x_zero_point` into the biases. Several outputs a channel are computed
    /// by the slower [`Conv`].
    /// # Panics
    /// When the groups are not the channels of the input, and as [`Conv::new`].
    #[must_use]
    pub fn new(isa: Isa, spec: ConvSpec, weights: &[i8], x_zero_point: u8, finish: Finish) -> Self {
        assert!(spec.groups == spec.input.channels, "a group is a channel");
        if spec.output.channels != spec.groups {
            let conv = Conv::new(isa, spec, (weights, WeightForm::Int8), x_zero_point, finish);
            return Self(Kind::Groups(Box::new(conv)));
        }
        spec.check();
        let (write, bias, factors) = Write::split(finish, &spec, weights);
        let bias = fold_zero_point(&spec, weights, dot_zero_point(isa, x_zero_point), bias);
        let block = block_of(isa);
        let joined = joined(&spec, &write, block);
        let channels = Channels {
            block,
            joined,
            words: Words::new(&pack(spec.kernel, &weights.repeat(joined), block)),
            bias: order(&bias.repeat(joined), block),
            factors: order(&factors.repeat(joined), block),
            isa,
            spec,
            write,
        };
        Self(Kind::Channels(Box::new(channels)))
    }

    /// The sizes.
    #[must_use]
    pub fn spec(&self) -> &ConvSpec {
        match &self.0 {
            Kind::Channels(channels) => &channels.spec,
            Kind::Groups(conv) => conv.spec(),
        }
    }

    /// Bytes that the packed weights take.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        match &self.0 {
            Kind::Channels(channels) => size_of_val(&channels.words[..]),
            Kind::Groups(conv) => conv.weight_bytes(),
        }
    }

    /// The kind of kernel and the tier that runs.
    #[must_use]
    pub fn kernel_name(&self) -> &'static str {
        match &self.0 {
            Kind::Channels(channels) => kernel_name!("depthwise", channels.isa.vectors()),
            Kind::Groups(conv) => conv.kernel_name(),
        }
    }

    /// Writes the codes of the result to `out`, but not its border. `other` is the image that is added.
    /// # Panics
    /// When an image is shorter than its layout says, `other` is missing, or the result is floats.
    pub fn run(&self, x: &[u8], other: Option<&[u8]>, out: &mut [u8], pool: &Pool) {
        match &self.0 {
            Kind::Channels(channels) => {
                channels.run(x, channels.write.images(&channels.spec, other, out), pool);
            }
            Kind::Groups(conv) => conv.run(x, other, out, pool),
        }
    }

    /// Writes the floats of the result to `out`, `[y][x][channel]` without border.
    /// # Panics
    /// When an image is shorter than its layout says, or the result is codes.
    pub fn run_float(&self, x: &[u8], out: &mut [f32], pool: &Pool) {
        match &self.0 {
            Kind::Channels(channels) => {
                channels.run(x, channels.write.float_images(&channels.spec, out), pool);
            }
            Kind::Groups(conv) => conv.run_float(x, out, pool),
        }
    }
}

impl Channels {
    fn run(&self, x: &[u8], images: At, pool: &Pool) {
        assert!(x.len() >= self.spec.input.len(), "an image has the length of its layout");
        let rolling = Rolling { channels: self, x: x.as_ptr(), images };
        let (blocks, height) = (self.lanes().div_ceil(self.block), self.spec.output.height);
        let run = |rows: Range<usize>, of_blocks: Range<usize>| {
            self.isa.dispatch(Part { rolling, rows, of_blocks });
        };
        // As convolutions share them, so that a thread reads what it wrote.
        if are_few(pool, height * self.spec.output.width) || height < pool.threads() {
            let rows = blocks * height;
            let parts = pool.threads().min(rows);
            pool.run(parts, &|part| run(0..height, share(rows, part, parts)));
        } else {
            let parts = pool.threads();
            pool.run(parts, &|part| {
                let rows = share(height, part, parts);
                run(rows.clone(), 0..blocks * rows.len());
            });
        }
    }
}

impl Channels {
    /// Channels of the pixels that are computed together.
    fn lanes(&self) -> usize {
        self.joined * self.spec.output.channels
    }
}

/// How many neighbours along a row share a block: those of few channels, where pixels lie without gaps and the kernel has a rolling
/// form.
fn joined(spec: &ConvSpec, write: &Write, block: usize) -> usize {
    let (input, output) = (&spec.input, &spec.output);
    let dense =
        [input.pixel, output.pixel, write.add().map_or(output.pixel, |add| add.other.pixel)]
            .iter()
            .all(|&pixel| pixel == output.channels);
    let rolls =
        matches!(spec.kernel, [3, 3] | [5, 5]) && [spec.strides[1], spec.dilations[1]] == [1, 1];
    let fits =
        |&pixels: &usize| pixels * output.channels <= block && output.width.is_multiple_of(pixels);
    if dense && rolls { [4, 2].into_iter().find(fits).unwrap_or(1) } else { 1 }
}

/// `[block][four rows][column][vector][lane]`: the weights of four rows of taps a word, zeros where there is none.
fn pack([kh, kw]: [usize; 2], weights: &[i8], block: usize) -> Vec<u32> {
    let channels = weights.len() / (kh * kw);
    let mut words = Vec::new();
    for first in (0..channels).step_by(block) {
        for rows in (0..kh).step_by(4) {
            for column in 0..kw {
                words.extend((0..block).map(|at| {
                    let channel = first + interleaved(at / (block / 4), at % (block / 4));
                    u32::from_le_bytes(std::array::from_fn(|row| {
                        if channel < channels && rows + row < kh {
                            weights[(channel * kh + rows + row) * kw + column] as u8
                        } else {
                            0
                        }
                    }))
                }));
            }
        }
    }
    words
}

/// `values`, one for each channel, as `[block][vector][lane]`; zeros in lanes without channel.
fn order<T: Copy + Default>(values: &[T], block: usize) -> Vec<T> {
    (0..values.len().next_multiple_of(block))
        .map(|at| {
            let (first, at) = (at / block * block, at % block);
            let channel = first + interleaved(at / (block / 4), at % (block / 4));
            values.get(channel).copied().unwrap_or_default()
        })
        .collect()
}

fn block_of(isa: Isa) -> usize {
    struct Bytes;
    impl Task for Bytes {
        type Output = usize;

        #[inline(always)]
        fn run<A: Codes>(self, _: A) -> usize {
            4 * A::LANES
        }
    }
    isa.dispatch(Bytes)
}

/// A layer and the images of one run. The pointers are those of slices of the lengths that the sizes say.
#[derive(Clone, Copy)]
struct Rolling<'a> {
    channels: &'a Channels,
    x: *const u8,
    images: At,
}

// SAFETY: threads read `x` and the other image, and write disjoint rows of blocks of the result.
unsafe impl Sync for Rolling<'_> {}

/// Some rows of the result, and which of the rows of all blocks there, counted block by block.
struct Part<'a> {
    rolling: Rolling<'a>,
    rows: Range<usize>,
    of_blocks: Range<usize>,
}

/// One row of a block: where its taps begin, what its words are, and where its results go.
struct Row {
    x: *const u8,
    words: *const u32,
    bias: *const i32,
    factors: *const f32,
    at: At,
    /// Channels.
    len: usize,
}

impl Task for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Codes>(self, arch: A) {
        let (rolling, height) = (self.rolling, self.rows.len());
        let spec = &rolling.channels.spec;
        let bounds = arch.bounds(rolling.channels.write.last_clamp());
        for row in self.of_blocks {
            let row = rolling.row(row / height, self.rows.start + row % height);
            // SAFETY: the row is one of the result, whose lengths were checked; parts do not share rows of blocks.
            unsafe {
                match (spec.kernel, spec.strides[1] * rolling.channels.joined, spec.dilations[1]) {
                    ([3, 3], 1, 1) => rolling.roll::<A, 3, 1, 3>(arch, bounds, &row),
                    ([3, 3], 2, 1) => rolling.roll::<A, 3, 2, 2>(arch, bounds, &row),
                    ([3, 3], 4, 1) => rolling.roll::<A, 3, 4, 1>(arch, bounds, &row),
                    ([5, 5], 1, 1) => rolling.roll::<A, 5, 1, 5>(arch, bounds, &row),
                    ([5, 5], 2, 1) => rolling.roll::<A, 5, 2, 3>(arch, bounds, &row),
                    ([5, 5], 4, 1) => rolling.roll::<A, 5, 4, 2>(arch, bounds, &row),
                    _ => rolling.pixels(arch, bounds, &row),
                }
            }
        }
    }
}

/// Codes of the other image in the order of interleaved rows.
struct Interleaved {
    from: *const u8,
    len: usize,
}

impl<A: Codes> Other<A> for Interleaved {
    #[inline(always)]
    fn load(self, arch: A) -> [A::V; 4] {
        // SAFETY: the other image has the extent of the result, so the pixel's channels are readable.
        let bytes = unsafe { arch.load_bytes(self.from, self.len) };
        arch.interleave([bytes, arch.splat(0), arch.splat(0), arch.splat(0)])
    }
}

impl Rolling<'_> {
    fn row(&self, block: usize, y: usize) -> Row {
        let (channels, spec) = (self.channels, &self.channels.spec);
        let (first, [kh, kw]) = (block * channels.block, spec.kernel);
        let words = &channels.words[block * kh.div_ceil(4) * kw * channels.block..];
        let other = self.channels.write.add().map_or(spec.output, |add| add.other);
        let pixel = y * spec.output.width * spec.output.channels;
        Row {
            x: self.x.wrapping_add(spec.tap([y, 0], [0, 0]) + first),
            words: words.as_ptr(),
            bias: channels.bias[first..].as_ptr(),
            factors: channels.factors[first..].as_ptr(),
            at: At {
                codes: self.images.codes.wrapping_add(spec.output.at(y, 0) + first),
                floats: self.images.floats.wrapping_add(pixel + first),
                other: self.images.other.wrapping_add(other.at(y, 0) + first),
            },
            len: channels.block.min(channels.lanes() - first),
        }
    }

    /// From the first row of taps to those of rows `4 * rows ..`, in bytes. Rows beyond the kernel have no weights, so that any
    /// code will do: the last row stands for them.
    #[inline(always)]
    fn offsets(&self, rows: usize) -> [usize; 4] {
        let spec = &self.channels.spec;
        let pitch = spec.dilations[0] * spec.input.row();
        [0, 1, 2, 3].map(|r| (4 * rows + r).min(spec.kernel[0] - 1) * pitch)
    }

    /// A row of the result, each column of the input once. The kernel is square; `LIVE` outputs see a column: the quotient of
    /// `K` and `STRIDE`, rounded up.
    /// # Safety
    /// The row is one of the result; no other thread writes it.
    #[inline(always)]
    unsafe fn roll<A: Codes, const K: usize, const STRIDE: usize, const LIVE: usize>(
        &self,
        arch: A,
        bounds: A::Bounds,
        row: &Row,
    ) {
        let spec = &self.channels.spec;
        let outputs = spec.output.width / self.channels.joined;
        let columns = (outputs - 1) * STRIDE + K;
        let offsets = [self.offsets(0), self.offsets(1)];
        // SAFETY: the row is one of this layer's.
        let bias = unsafe { bias(arch, row) };
        let mut sums = [bias; LIVE];
        for step in 0..outputs + LIVE - 1 {
            for s in 0..STRIDE {
                let column = step * STRIDE + s;
                if column >= columns {
                    break;
                }
                for (rows, &offsets) in offsets.iter().enumerate().take(const { K.div_ceil(4) }) {
                    // SAFETY: the column is a tap of an output of this row.
                    let words = unsafe {
                        let x = row.x.add(column * spec.input.pixel);
                        words::<A>(arch, x, offsets, (row.len, K - 4 * rows))
                    };
                    for (age, sums) in sums.iter_mut().enumerate() {
                        if s + age * STRIDE < K {
                            let tap = rows * K + s + age * STRIDE;
                            // SAFETY: a column of the kernel.
                            unsafe { add(arch, sums, words, row.words.add(tap * 4 * A::LANES)) };
                        }
                    }
                }
            }
            if step + 1 >= LIVE {
                // SAFETY: the output is a pixel of this row.
                unsafe { self.finish(arch, bounds, sums[LIVE - 1], (row, step + 1 - LIVE)) };
            }
            for age in (1..LIVE).rev() {
                sums[age] = sums[age - 1];
            }
            sums[0] = bias;
        }
    }

    /// A row of the result for any kernel, pixel by pixel.
    /// # Safety
    /// As [`Rolling::roll`].
    #[inline(always)]
    unsafe fn pixels<A: Codes>(&self, arch: A, bounds: A::Bounds, row: &Row) {
        let spec = &self.channels.spec;
        for output in 0..spec.output.width {
            // SAFETY: the row is one of this layer's.
            let mut sums = unsafe { bias(arch, row) };
            for rows in 0..spec.kernel[0].div_ceil(4) {
                let offsets = self.offsets(rows);
                for kx in 0..spec.kernel[1] {
                    let column = output * spec.strides[1] + kx * spec.dilations[1];
                    let tap = rows * spec.kernel[1] + kx;
                    // SAFETY: the column is a tap of this output.
                    unsafe {
                        let x = row.x.add(column * spec.input.pixel);
                        let words = words::<A>(arch, x, offsets, (row.len, 4));
                        add(arch, &mut sums, words, row.words.add(tap * 4 * A::LANES));
                    }
                }
            }
            // SAFETY: the output is a pixel of this row.
            unsafe { self.finish(arch, bounds, sums, (row, output)) };
        }
    }

    /// Writes the results of pixel `x` of the row, or of the pixels that are joined.
    /// # Safety
    /// As [`Rolling::roll`].
    #[inline(always)]
    unsafe fn finish<A: Codes>(
        &self,
        arch: A,
        bounds: A::Bounds,
        sums: [A::V; 4],
        (row, x): (&Row, usize),
    ) {
        let (spec, write) = (&self.channels.spec, &self.channels.write);
        let x = x * self.channels.joined;
        // SAFETY: a block has four vectors of factors.
        let scaled = unsafe { scaled(arch, sums, row.factors) };
        let bytes = match write {
            Write::Float => {
                // SAFETY: the pixel lies in the result.
                return unsafe {
                    let to = row.at.floats.add(x * spec.output.channels);
                    store_floats(arch, scaled, to, row.len);
                };
            }
            Write::Plain(_) => plain(arch, bounds, scaled),
            Write::Table(_, table) => arch.lookup_bytes(plain(arch, bounds, scaled), table),
            Write::Sum(sum) => {
                let other = self.other(row, x).load(arch);
                arch.join(SumVectors::new(arch, sum).codes(arch, scaled, other), bounds)
            }
            Write::Codes(how) => arch.join(codes(arch, how, scaled, self.other(row, x)), bounds),
        };
        // SAFETY: the pixel lies in the result.
        unsafe { arch.store_bytes(row.at.codes.add(x * spec.output.pixel), bytes, row.len) };
    }

    /// The codes that are added to those of pixel `x` of the row.
    #[inline(always)]
    fn other(&self, row: &Row, x: usize) -> Interleaved {
        let pixel = self.channels.write.add().map_or(0, |add| add.other.pixel);
        Interleaved { from: row.at.other.wrapping_add(x * pixel), len: row.len }
    }
}

/// Up to four rows of a column, interleaved; those from `rows` on have no weights.
/// # Safety
/// `len` bytes are readable at each offset from `x`.
#[inline(always)]
unsafe fn words<A: Codes>(
    arch: A,
    x: *const u8,
    offsets: [usize; 4],
    (len, rows): (usize, usize),
) -> [A::V; 4] {
    let mut words = [arch.splat(0); 4];
    for (r, words) in words.iter_mut().enumerate() {
        if r < rows {
            // SAFETY: as this function's.
            *words = unsafe { arch.load_bytes(x.add(offsets[r]), len) };
        }
    }
    arch.interleave(words)
}

/// `sums` plus the taps whose weights are the four vectors at `weights`.
/// # Safety
/// Four vectors are readable at `weights`.
#[inline(always)]
unsafe fn add<A: Codes>(arch: A, sums: &mut [A::V; 4], words: [A::V; 4], weights: *const u32) {
    for (n, (sum, words)) in sums.iter_mut().zip(words).enumerate() {
        // SAFETY: as this function's.
        let weights = unsafe { arch.load(weights.add(n * A::LANES)) };
        *sum = arch.dot(*sum, arch.spread(words), arch.weights(weights));
    }
}

/// # Safety
/// The row is one of a layer, whose blocks have four vectors of biases.
#[inline(always)]
unsafe fn bias<A: Codes>(arch: A, row: &Row) -> [A::V; 4] {
    let mut bias = [arch.splat(0); 4];
    for (n, bias) in bias.iter_mut().enumerate() {
        // SAFETY: as this function's.
        *bias = unsafe { arch.load(row.bias.add(n * A::LANES).cast()) };
    }
    bias
}

/// Writes the first `len` floats in the order that [`Codes::interleave`] undoes.
/// # Safety
/// `len` floats are writable at `to`.
#[inline(always)]
unsafe fn store_floats<A: Codes>(arch: A, vectors: [A::V; 4], to: *mut f32, len: usize) {
    let mut floats = [[0u32; 16]; 4];
    for (floats, vector) in floats.iter_mut().zip(vectors) {
        // SAFETY: `floats` holds a vector.
        unsafe { arch.store(floats.as_mut_ptr(), vector) };
    }
    for (n, floats) in floats.iter().enumerate() {
        for (lane, &float) in floats.iter().enumerate().take(A::LANES) {
            let channel = interleaved(n, lane);
            if channel < len {
                // SAFETY: the caller promises `len` writable floats.
                unsafe { to.add(channel).write(f32::from_bits(float)) };
            }
        }
    }
}
