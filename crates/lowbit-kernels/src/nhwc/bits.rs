//! Convolution of signs: 32 channels in a word, products by xor, sums by counting bits.
//!
//! A set bit is +1, a clear one -1; bits beyond the channels, and the border of an image, are clear. Taps on pads add 0: as the
//! border says -1, their weights are added back with the biases, of which there is a set for each way to lie at the edge.
//!
//! ```text
//! sum = sum of |w| + sum of the w on pads - 2 * u * popcount((x ^ sign(w)) & (w != 0))      where each |w| is u or 0
//! ```

use std::ops::Range;

use super::arena::Words;
use super::codes::Codes;
use super::conv::for_each_part;
use super::finish::{At, Write, finish};
use super::layout::ImageLayout;
use super::panels::Panel;
use super::pool::Pool;
use super::popcount::{SignTask, Signs, V, dispatch, has_popcount};
use super::spec::{ConvSpec, Finish};
use super::tile::{Layer, Places};
use crate::arch::Arch;
use crate::isa::{Isa, Task, kernel_name};

/// Channels of a word.
const WORD: usize = 32;

/// Where a number becomes a bit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// One for each channel: the least number whose bit is set.
    pub at_least: Vec<i32>,
    /// One for each channel: whether the bit is turned round.
    pub inverted: Vec<bool>,
}

/// What becomes of a sum of products of signs.
#[derive(Clone, Debug, PartialEq)]
pub enum SignFinish {
    /// Codes or floats, as of any sum.
    Sums(Finish),
    /// A sign, into an image of bits: that of the sum of products, without any bias.
    Bits(Thresholds),
}

/// A convolution of signs by weights of -u, 0 and u, u a power of two, packed for one tier.
#[derive(Clone, Debug)]
pub struct SignConv {
    isa: Isa,
    spec: ConvSpec,
    panels: Vec<Panel>,
    offsets: Vec<u32>,
    /// `[panel][word of the inner dimension][plane][lane]`: signs, and where any weight is 0 the bits that are not.
    words: Words,
    planes: usize,
    /// The power of two that weights are multiples of.
    unit: u8,
    edges: Edges,
    factors: Vec<f32>,
    ending: Ending,
}

#[derive(Clone, Debug)]
enum Ending {
    Sums(Write),
    /// In the order of the lanes, and a word of inversions for each panel.
    Bits {
        at_least: Vec<i32>,
        inverted: Vec<u32>,
    },
}

/// Biases by the way in which a pixel lies at the edge.
#[derive(Clone, Debug)]
struct Edges {
    /// The set of each row's missing taps, times the number of sets of columns.
    rows: Vec<usize>,
    columns: Vec<usize>,
    /// `[set of rows][set of columns][lane of all panels]`.
    bias: Vec<i32>,
    lanes: usize,
}

impl SignConv {
    /// Packs `weights`, `[o, i, kh, kw]`, each -u, 0 or u for one power of two u. `spec.input` is an image of bits, and so is `spec.output` where bits are
    /// written; there is one group.
    /// # Panics
    /// When the sizes do not fit one another or the images, weights have other values, a list has not one entry for each output,
    /// or a multiplier is not finite.
    #[must_use]
    pub fn new(isa: Isa, spec: ConvSpec, weights: &[i8], finish: SignFinish) -> Self {
        let outputs = spec.output.channels;
        assert!(spec.groups == 1, "signs have one group");
        assert!(weights.len() == spec.weight_len(), "the weight has the length of its shape");
        let unit = weights.iter().map(|weight| weight.unsigned_abs()).max().unwrap_or(1).max(1);
        assert!(
            unit.is_power_of_two() && weights.iter().all(|w| [0, unit].contains(&w.unsigned_abs())),
            "weights are -u, 0 or u for a power of two u"
        );
        assert!(8 * spec.input.pixel >= spec.input.channels, "a pixel holds its bits");
        assert!(weights.len() / outputs <= 1 << 24, "the sum of the taps fits in i32");
        let mut bytes = spec.clone();
        bytes.input.channels = bytes.input.pixel;
        if let SignFinish::Bits(_) = finish {
            assert!(
                8 * spec.output.pixel >= outputs.next_multiple_of(WORD),
                "a pixel holds its bits"
            );
            bytes.output.channels = bytes.output.pixel;
        }
        bytes.check();
        bytes.output.channels = outputs;
        let planes = if weights.contains(&0) { 2 } else { 1 };
        let (panels, lanes) = panels(&spec, isa);
        let (ending, bias, mut factors) = Ending::new(finish, (&bytes, weights), &panels);
        factors.resize(lanes, 0.0);
        let edges = Edges::new(&spec, weights, &bias, lanes);
        Self {
            isa,
            words: Words::new(&pack(&spec, weights, planes, &panels)),
            offsets: offsets(&bytes),
            planes,
            unit,
            edges,
            factors,
            ending,
            panels,
            spec: bytes,
        }
    }

    /// Bytes that the packed weights take.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        size_of_val(&self.words[..])
    }

    /// The kind of kernel and the tier that runs.
    #[must_use]
    pub fn kernel_name(&self) -> &'static str {
        match (has_popcount(self.isa), self.planes) {
            (true, 1) => "binary avx512 popcnt",
            (true, _) => "ternary avx512 popcnt",
            (false, 1) => kernel_name!("binary", self.isa.vectors()),
            (false, _) => kernel_name!("ternary", self.isa.vectors()),
        }
    }

    /// Writes the codes or the bits of the result to `out`, but not its border. `other` is the image that is added.
    /// # Panics
    /// When an image is shorter than its layout says, `other` is missing, or the result is floats.
    pub fn run(&self, x: &[u8], other: Option<&[u8]>, out: &mut [u8], pool: &Pool) {
        let images = match &self.ending {
            Ending::Sums(write) => write.images(&self.spec, other, out),
            Ending::Bits { .. } => {
                Write::Plain(super::codes::Clamp::NONE).images(&self.spec, None, out)
            }
        };
        self.run_images(x, images, pool);
    }

    /// Writes the floats of the result to `out`, `[y][x][channel]` without border.
    /// # Panics
    /// When an image is shorter than its layout says, or the result is not floats.
    pub fn run_float(&self, x: &[u8], out: &mut [f32], pool: &Pool) {
        let Ending::Sums(write) = &self.ending else { panic!("the result is floats") };
        self.run_images(x, write.float_images(&self.spec, out), pool);
    }

    fn run_images(&self, x: &[u8], images: At, pool: &Pool) {
        const PLAIN: &Write = &Write::Plain(super::codes::Clamp::NONE);
        assert!(x.len() >= self.spec.input.len(), "an image has the length of its layout");
        let layer = Layer {
            spec: &self.spec,
            offsets: &self.offsets,
            bias: &self.edges.bias,
            factors: &self.factors,
            write: match &self.ending {
                Ending::Sums(write) => write,
                Ending::Bits { .. } => PLAIN,
            },
            x: x.as_ptr(),
            images,
        };
        let pixels = self.spec.output.height * self.spec.output.width;
        for_each_part(pool, pixels, self.panels.len(), &|panels, pixels| {
            dispatch(self.isa, Part { conv: self, layer, panels, pixels });
        });
    }
}

/// Panels of two vectors, whole words of outputs in all, and their lanes.
fn panels(spec: &ConvSpec, isa: Isa) -> (Vec<Panel>, usize) {
    struct Lanes;
    impl Task for Lanes {
        type Output = usize;

        #[inline(always)]
        fn run<A: Codes>(self, _: A) -> usize {
            2 * A::LANES
        }
    }
    let (columns, outputs) = (isa.dispatch(Lanes), spec.output.channels);
    let inner = spec.kernel[0] * spec.kernel[1] * spec.input.channels.div_ceil(WORD);
    let lanes = outputs.next_multiple_of(WORD);
    let panels = (0..lanes).step_by(columns).map(|output| Panel {
        output,
        outputs: outputs.saturating_sub(output).min(columns),
        columns,
        // Lanes are outputs, as panels have no gaps.
        column: output,
        words: output * inner,
        offsets: 0..inner,
    });
    (panels.collect(), lanes)
}

/// From a pixel's first tap to each word of the inner dimension.
fn offsets(spec: &ConvSpec) -> Vec<u32> {
    let base = spec.tap([0, 0], [0, 0]);
    let mut offsets = Vec::new();
    for ky in 0..spec.kernel[0] {
        for kx in 0..spec.kernel[1] {
            let tap = spec.tap([0, 0], [ky, kx]) - base;
            let words = (0..spec.input.pixel).step_by(4);
            offsets.extend(words.map(|word| (tap + word) as u32));
        }
    }
    offsets
}

/// `[panel][word of the inner dimension][plane][lane]`.
fn pack(spec: &ConvSpec, weights: &[i8], planes: usize, panels: &[Panel]) -> Vec<u32> {
    let (channels, [kh, kw]) = (spec.input.channels, spec.kernel);
    let mut words = Vec::new();
    for panel in panels {
        for tap in 0..kh * kw {
            for first in (0..channels).step_by(WORD) {
                for plane in 0..planes {
                    words.extend((0..panel.columns).map(|lane| {
                        if lane >= panel.outputs {
                            return 0;
                        }
                        (first..channels.min(first + WORD)).fold(0, |word, channel| {
                            let output = panel.output + lane;
                            let weight = weights[(output * channels + channel) * kh * kw + tap];
                            let bit = if plane == 0 { weight > 0 } else { weight != 0 };
                            word | u32::from(bit) << (channel - first)
                        })
                    }));
                }
            }
        }
    }
    words
}

impl Ending {
    /// What to do, the biases and the factors of the outputs.
    fn new(
        finish: SignFinish,
        (spec, weights): (&ConvSpec, &[i8]),
        panels: &[Panel],
    ) -> (Self, Vec<i32>, Vec<f32>) {
        let outputs = spec.output.channels;
        let Thresholds { mut at_least, inverted } = match finish {
            SignFinish::Sums(finish) => {
                let (write, bias, factors) = Write::split(finish, spec, weights);
                return (Self::Sums(write), bias, factors);
            }
            SignFinish::Bits(thresholds) => thresholds,
        };
        assert!([at_least.len(), inverted.len()] == [outputs; 2], "a threshold for each output");
        // What no sum reaches: bits beyond the outputs are clear.
        at_least.resize(outputs.next_multiple_of(WORD), i32::MAX);
        let of_panel = |panel: &Panel| {
            let bits = &inverted[panel.output.min(outputs)..][..panel.outputs];
            bits.iter().enumerate().fold(0, |word, (at, &bit)| word | u32::from(bit) << at)
        };
        let inverted = panels.iter().map(of_panel).collect();
        (Self::Bits { at_least, inverted }, vec![0; outputs], Vec::new())
    }
}

impl Edges {
    fn new(spec: &ConvSpec, weights: &[i8], bias: &[i32], lanes: usize) -> Self {
        let (rows, row_sets) = missing(spec, 0);
        let (columns, column_sets) = missing(spec, 1);
        let taps = weights.len() / bias.len();
        let mut all = Vec::new();
        for rows in &row_sets {
            for columns in &column_sets {
                let first = all.len();
                all.resize(first + lanes, 0);
                for (output, weights) in weights.chunks_exact(taps).enumerate() {
                    let kernels = weights.chunks_exact(rows.len() * columns.len());
                    let on_pads: i32 = kernels
                        .flat_map(|kernel| kernel.iter().enumerate())
                        .filter(|(at, _)| rows[at / columns.len()] || columns[at % columns.len()])
                        .map(|(_, &weight)| i32::from(weight))
                        .sum();
                    let used: i32 = weights.iter().map(|&weight| i32::from(weight).abs()).sum();
                    all[first + output] = bias[output].wrapping_add(used + on_pads);
                }
            }
        }
        let rows = rows.into_iter().map(|set| set * column_sets.len()).collect();
        Self { rows, columns, bias: all, lanes }
    }

    /// Where the biases of the pixel at row `y` and column `x` begin.
    #[inline(always)]
    fn at(&self, y: usize, x: usize) -> usize {
        (self.rows[y] + self.columns[x]) * self.lanes
    }
}

/// For each place along an axis the index of its set, and the sets: which taps lie on pads.
fn missing(spec: &ConvSpec, axis: usize) -> (Vec<usize>, Vec<Vec<bool>>) {
    let (extent, outputs) =
        [(spec.input.height, spec.output.height), (spec.input.width, spec.output.width)][axis];
    let mut sets: Vec<Vec<bool>> = Vec::new();
    let of_output = |at: usize| {
        let set: Vec<bool> = (0..spec.kernel[axis])
            .map(|k| {
                let tap = at * spec.strides[axis] + k * spec.dilations[axis];
                tap < spec.pads[axis] || tap - spec.pads[axis] >= extent
            })
            .collect();
        sets.iter().position(|known| *known == set).unwrap_or_else(|| {
            sets.push(set);
            sets.len() - 1
        })
    };
    ((0..outputs).map(of_output).collect(), sets)
}

struct Part<'a> {
    conv: &'a SignConv,
    layer: Layer<'a>,
    panels: Range<usize>,
    pixels: Range<usize>,
}

impl SignTask for Part<'_> {
    #[inline(always)]
    fn run<S: Signs>(self, signs: S) {
        let least = self.layer.tile_pixels::<S::A>();
        let tile = if self.pixels.len() < least { 1 } else { least };
        for panel in self.panels.clone() {
            // SAFETY: the lengths of the images were checked, and parts share neither pixels nor panels.
            unsafe {
                match (tile, self.conv.planes) {
                    (8, 1) => self.tiles::<S, 8, 1>(signs, panel),
                    (8, _) => self.tiles::<S, 8, 2>(signs, panel),
                    (7, 1) => self.tiles::<S, 7, 1>(signs, panel),
                    (7, _) => self.tiles::<S, 7, 2>(signs, panel),
                    (4, 1) => self.tiles::<S, 4, 1>(signs, panel),
                    (4, _) => self.tiles::<S, 4, 2>(signs, panel),
                    (_, 1) => self.tiles::<S, 1, 1>(signs, panel),
                    (_, _) => self.tiles::<S, 1, 2>(signs, panel),
                }
            }
        }
    }
}

impl Part<'_> {
    /// Tiles of `R` pixels and `P` planes of weights; the last one overlaps the one before it.
    /// # Safety
    /// The pixels are pixels of the result, at least `R`; no other thread writes the same.
    #[inline(always)]
    unsafe fn tiles<S: Signs, const R: usize, const P: usize>(&self, signs: S, index: usize) {
        let (conv, arch) = (self.conv, signs.codes());
        let (panel, width) = (&conv.panels[index], conv.spec.output.width);
        let columns = 2 * <S::A as Arch>::LANES;
        let inner = conv.offsets.len();
        let weights = &conv.words[panel.words * P..][..inner * P * columns];
        let bounds = arch.bounds(self.layer.write.last_clamp());
        // Counts of 15 bits are multiplied by -2 * unit, in the lower half of each lane.
        let short = inner * WORD <= i16::MAX as usize;
        let factor = arch.splat(u32::from((-2 * i16::from(conv.unit)).cast_unsigned()));
        for first in self.pixels.clone().step_by(R) {
            let first = first.min(self.pixels.end - R);
            let at = [first / width, first % width];
            // SAFETY: every word of every tap lies inside the input; the weights were sliced to their length.
            let counts = unsafe {
                counts::<S, R, P>(signs, self.layer.taps(at), &conv.offsets, weights.as_ptr())
            };
            let mut sums = [[arch.splat(0); 2]; R];
            let pixels = pixels::<R>(at, width);
            for ((sums, counts), [y, x]) in sums.iter_mut().zip(counts).zip(pixels) {
                let bias = &conv.edges.bias[conv.edges.at(y, x) + panel.column..][..columns];
                for (n, (sum, count)) in sums.iter_mut().zip(counts).enumerate() {
                    // SAFETY: the panel has two vectors of biases.
                    let bias =
                        unsafe { arch.load(bias.as_ptr().add(n * <S::A as Arch>::LANES).cast()) };
                    *sum = if short {
                        arch.dot_i16(bias, count, factor)
                    } else {
                        arch.sub_i32(bias, shifted(arch, count, 2 * u32::from(conv.unit)))
                    };
                }
            }
            match &conv.ending {
                // SAFETY: the pixels and the panel's outputs lie inside the images; a panel has its factors.
                Ending::Sums(_) => unsafe {
                    if panel.outputs > 0 {
                        let factors = conv.factors[panel.column..][..columns].as_ptr();
                        let places = Places { layer: &self.layer, panel, at };
                        finish(arch, bounds, sums, factors, places);
                    }
                },
                Ending::Bits { at_least, inverted } => {
                    let at_least = &at_least[panel.column..][..columns];
                    for (sums, [y, x]) in sums.into_iter().zip(pixels) {
                        // SAFETY: the panel has two vectors of thresholds.
                        let bits = unsafe { bits_of(signs, sums, at_least.as_ptr()) };
                        let pixel = conv.spec.output.at(y, x);
                        // SAFETY: the pixel has the bytes of this panel's bits.
                        unsafe {
                            let to = self.layer.images.codes.add(pixel + panel.output / 8);
                            store_bits(to, bits ^ inverted[index], columns / 8);
                        }
                    }
                }
            }
        }
    }
}

/// `count * factor`, a power of two, by doubling.
#[inline(always)]
fn shifted<A: Arch>(arch: A, count: A::V, factor: u32) -> A::V {
    let mut scaled = count;
    for _ in 0..factor.trailing_zeros() {
        scaled = arch.add_i32(scaled, scaled);
    }
    scaled
}

/// The rows and columns of `R` pixels from a row and column on.
#[inline(always)]
fn pixels<const R: usize>([mut y, mut x]: [usize; 2], width: usize) -> [[usize; 2]; R] {
    let mut pixels = [[0; 2]; R];
    for pixel in &mut pixels {
        *pixel = [y, x];
        x += 1;
        if x == width {
            (y, x) = (y + 1, 0);
        }
    }
    pixels
}

/// A bit for each lane: whether its sum reaches its threshold.
/// # Safety
/// Two vectors are readable at `at_least`.
#[inline(always)]
unsafe fn bits_of<S: Signs>(signs: S, sums: [V<S>; 2], at_least: *const i32) -> u32 {
    let (arch, lanes) = (signs.codes(), <S::A as Arch>::LANES);
    // SAFETY: as this function's.
    let [low, high] =
        unsafe { [arch.load(at_least.cast()), arch.load(at_least.add(lanes).cast())] };
    signs.at_least(sums[0], low) | signs.at_least(sums[1], high) << lanes
}

/// Writes the first `len` bytes of a word.
/// # Safety
/// `len` bytes are writable at `to`.
#[inline(always)]
unsafe fn store_bits(to: *mut u8, bits: u32, len: usize) {
    if len == 4 {
        // SAFETY: as this function's; the write needs no alignment.
        return unsafe { to.cast::<[u8; 4]>().write(bits.to_le_bytes()) };
    }
    for (at, byte) in bits.to_le_bytes().into_iter().enumerate().take(len) {
        // SAFETY: as this function's.
        unsafe { to.add(at).write(byte) };
    }
}

/// How often the signs of `R` pixels differ from those of two vectors of outputs.
/// # Safety
/// Four bytes are readable at each pixel and offset, and two vectors of `P` planes for each offset.
#[inline(always)]
unsafe fn counts<S: Signs, const R: usize, const P: usize>(
    signs: S,
    x: [*const u8; R],
    offsets: &[u32],
    mut weights: *const u32,
) -> [[V<S>; 2]; R] {
    let (arch, lanes) = (signs.codes(), <S::A as Arch>::LANES);
    let mut counts = [[arch.splat(0); 2]; R];
    for &offset in offsets {
        let mut w = [[arch.splat(0); 2]; P];
        for (plane, w) in w.iter_mut().enumerate() {
            for (n, w) in w.iter_mut().enumerate() {
                // SAFETY: as this function's.
                *w = unsafe { arch.load(weights.add((2 * plane + n) * lanes)) };
            }
        }
        for (counts, x) in counts.iter_mut().zip(x) {
            // SAFETY: as this function's; the read needs no alignment.
            let word = unsafe { x.add(offset as usize).cast::<u32>().read_unaligned() };
            let x = arch.splat(u32::from_le(word));
            for (n, count) in counts.iter_mut().enumerate() {
                *count = if P == 1 {
                    signs.differing(*count, x, w[0][n])
                } else {
                    signs.differing_in(*count, x, (w[0][n], w[P - 1][n]))
                };
            }
        }
        // SAFETY: the weights of this word are followed by those of the next.
        weights = unsafe { weights.add(2 * P * lanes) };
    }
    counts
}

/// The signs of images of codes: a bit is set where the code of its channel reaches the threshold.
#[derive(Clone, Debug)]
pub struct PackSigns {
    isa: Isa,
    channels: usize,
    /// Whole blocks; 0 beyond the channels.
    at_least: Vec<u8>,
    /// Bits to turn round, a word for each block.
    inverted: Vec<u64>,
}

/// Codes that are compared at once.
const BLOCK: usize = 64;

impl PackSigns {
    /// # Panics
    /// When the lists of thresholds have not the same length.
    #[must_use]
    pub fn new(isa: Isa, thresholds: &Thresholds) -> Self {
        let channels = thresholds.at_least.len();
        assert_eq!(thresholds.inverted.len(), channels, "a threshold for each channel");
        let blocks = channels.div_ceil(BLOCK);
        let (mut at_least, mut inverted) = (vec![0; blocks * BLOCK], vec![0; blocks]);
        let each = thresholds.at_least.iter().zip(&thresholds.inverted);
        for (channel, (&least, &turned)) in each.enumerate() {
            // A code that none reaches is one that all reach, turned round.
            let never = least > 255;
            at_least[channel] = if never { 0 } else { least.max(0) as u8 };
            inverted[channel / BLOCK] |= u64::from(turned != never) << (channel % BLOCK);
        }
        for channel in channels..blocks * BLOCK {
            inverted[channel / BLOCK] |= 1 << (channel % BLOCK);
        }
        Self { isa, channels, at_least, inverted }
    }

    /// Writes the bits of an image, but not those of its border.
    /// # Panics
    /// When the images have not the same extent, or are shorter than their layouts say, or the thresholds are those of another
    /// number of channels.
    pub fn run(&self, (codes, x): (&ImageLayout, &[u8]), (bits, out): (&ImageLayout, &mut [u8])) {
        assert!(
            [codes.height, codes.width, codes.channels] == [bits.height, bits.width, bits.channels],
            "both images have the same extent"
        );
        assert!(
            8 * bits.pixel >= bits.channels && bits.pixel.is_multiple_of(4),
            "a pixel holds its bits in words"
        );
        assert_eq!(self.channels, codes.channels, "a threshold for each channel");
        for y in 0..codes.height {
            let from = &x[codes.at(y, 0)..][..codes.width * codes.pixel];
            let to = &mut out[bits.at(y, 0)..][..bits.width * bits.pixel];
            self.isa.dispatch(PackRow {
                signs: self,
                from: (from, codes.pixel),
                to: (to, bits.pixel),
            });
        }
    }
}

/// A row of pixels of so many bytes.
struct PackRow<'a> {
    signs: &'a PackSigns,
    from: (&'a [u8], usize),
    to: (&'a mut [u8], usize),
}

impl Task for PackRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Codes>(self, arch: A) {
        let PackRow { signs, from, to } = self;
        let channels = signs.channels;
        for (from, to) in from.0.chunks_exact(from.1).zip(to.0.chunks_exact_mut(to.1)) {
            let blocks = signs.at_least.chunks_exact(BLOCK).zip(&signs.inverted).enumerate();
            for (block, (at_least, inverted)) in blocks {
                let from = &from[block * BLOCK..channels.min((block + 1) * BLOCK)];
                let mut padded = [0; BLOCK];
                let codes = from.first_chunk().unwrap_or_else(|| {
                    padded[..from.len()].copy_from_slice(from);
                    &padded
                });
                let least = at_least.first_chunk().expect("a block of thresholds");
                let bits = arch.reach(codes, least) ^ inverted;
                let to = &mut to[block * BLOCK / 8..];
                // Pixels are words of 4 bytes.
                if let Some(to) = to.first_chunk_mut() {
                    *to = bits.to_le_bytes();
                } else if let Some(to) = to.first_chunk_mut() {
                    *to = (bits as u32).to_le_bytes();
                }
            }
            to.iter_mut().skip(signs.inverted.len() * BLOCK / 8).for_each(|byte| *byte = 0);
        }
    }
}
