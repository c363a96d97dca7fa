//! Convolution of codes of few bits: 32 channels in a word, products by xor, sums by counting bits.
//!
//! An image has a plane of bits for each power of two; a weight is a sum of digits -1, 0 and 1, as far as there are powers of two.
//! Each plane of the image meets each digit of the weights, and their counts add up. Signs are one plane: a set bit is +1, a clear one -1.
//!
//! ```text
//! value  = step * sum(2^i * bit[i]) - zero              weight = unit * sum(2^j * digit[j])
//! sum    = step * unit * (levels * sum(2^j for digits of +1) - sum(2^(i + j) * popcount((x[i] ^ sign(w[j])) & (w[j] != 0))))
//!          - zero * sum(w not on pads)                  where levels = 2^planes - 1
//! ```
//!
//! Bits beyond the channels, and those of a border, are clear, so that taps on pads give `-zero`: their weights are added back with the
//! biases, of which there is a set for each way to lie at the edge.

mod digits;
mod edges;
mod pack;

use std::ops::Range;

use self::digits::Digits;
use self::edges::Edges;
pub use self::pack::PackBits;
use self::pack::flip;
use super::arena::Words;
use super::codes::Codes;
use super::conv::for_each_part;
use super::finish::{At, Write, finish};
use super::panels::Panel;
use super::pool::Pool;
use super::popcount::{SignTask, Signs, V, dispatch, has_popcount};
use super::spec::{ConvSpec, Finish};
use super::tile::{Layer, Places};
use crate::arch::Arch;
use crate::isa::{Isa, Task, kernel_name};

/// Channels of a word.
const WORD: usize = 32;

/// Pixels that are computed together where words are added bit by bit: the sums of both powers of two fit in registers.
const PIXELS: usize = 4;

/// Planes of an image or of weights, at most.
pub const PLANES_MAX: usize = 4;

/// What the bits of an image mean: `step * sum(2^p * bit of plane p) - zero`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Values {
    /// Planes: at most [`PLANES_MAX`].
    pub planes: usize,
    /// Between neighbouring values: a power of two, at most 128.
    pub step: u8,
    /// What is taken off; a clear bit in every plane is the value `-zero`.
    pub zero: i32,
}

impl Values {
    /// -1 and 1.
    pub const SIGNS: Self = Self { planes: 1, step: 2, zero: 1 };

    /// The greatest code.
    fn levels(self) -> i32 {
        (1 << self.planes) - 1
    }
}

/// Where a number becomes a code of few bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// For each code from 1 to the greatest, and each channel: the least number whose code is at least that. The second list has no
    /// number below that of the first one, and so on.
    pub at_least: Vec<Vec<i32>>,
    /// One for each channel: whether all bits of the code are turned round.
    pub inverted: Vec<bool>,
}

impl Thresholds {
    /// Bits of the codes.
    #[must_use]
    pub fn planes(&self) -> usize {
        (self.at_least.len() + 1).ilog2() as usize
    }

    fn check(&self) {
        assert!(
            (1..=PLANES_MAX).contains(&self.planes())
                && (self.at_least.len() + 1).is_power_of_two(),
            "thresholds of 1 to 4 bits"
        );
        let channels = self.inverted.len();
        assert!(
            self.at_least.iter().all(|list| list.len() == channels),
            "a threshold for each channel"
        );
    }
}

/// What becomes of a sum of products of bits.
#[derive(Clone, Debug, PartialEq)]
pub enum BitFinish {
    /// Codes or floats, as of any sum.
    Sums(Finish),
    /// A code of few bits, into an image of bits: where the sum of products, without any bias, reaches thresholds.
    Bits(Thresholds),
}

/// A convolution of an image of bits, packed for one tier.
#[derive(Clone, Debug)]
pub struct BitConv {
    isa: Isa,
    spec: ConvSpec,
    values: Values,
    digits: Digits,
    panels: Vec<Panel>,
    /// Bytes of a plane in a pixel of the image.
    plane: usize,
    /// Of the first plane.
    offsets: Vec<u32>,
    /// `[panel][plane][word of the inner dimension][signs, mask][lane]`
    words: Words,
    edges: Edges,
    factors: Vec<f32>,
    ending: Ending,
}

#[derive(Clone, Debug)]
enum Ending {
    Sums(Write),
    Bits {
        planes: usize,
        /// `[code][lane of all panels]`
        at_least: Vec<i32>,
        /// A word for each panel.
        inverted: Vec<u32>,
    },
}

impl BitConv {
    /// How often `weights` of so many taps an output would meet an image of such values, once for each plane of either, and whether a
    /// digit of theirs is 0, which takes words of masks. `None` where they have too many planes, or a sum might leave `i32`.
    #[must_use]
    pub fn passes_of(weights: &[i8], taps: usize, values: Values) -> Option<(usize, bool)> {
        let digits = Digits::of(weights);
        let most = i32::from(values.step) * values.levels() + values.zero.abs();
        let weight = weights.iter().map(|weight| weight.unsigned_abs()).max().unwrap_or(0);
        let fits = taps.saturating_mul(usize::from(weight) * most as usize) <= 1 << 29;
        (digits.planes <= PLANES_MAX && fits)
            .then_some((digits.planes * values.planes, digits.masked))
    }

    /// Packs `weights`, `[o, i, kh, kw]`. `spec.input` is an image of bits that mean `values`, and so is `spec.output` where bits are
    /// written; there is one group.
    /// # Panics
    /// When the sizes do not fit one another or the images, weights have more planes than [`PLANES_MAX`], a list has not one entry for each
    /// output, a multiplier is not finite, or a sum might leave `i32`.
    #[must_use]
    pub fn new(
        isa: Isa,
        spec: ConvSpec,
        weights: &[i8],
        values: Values,
        finish: BitFinish,
    ) -> Self {
        let outputs = spec.output.channels;
        assert!(spec.groups == 1, "bits have one group");
        assert!(weights.len() == spec.weight_len(), "the weight has the length of its shape");
        let taps = weights.len() / outputs;
        assert!(
            values.planes <= PLANES_MAX && Self::passes_of(weights, taps, values).is_some(),
            "at most 4 planes, and sums that fit in i32"
        );
        let digits = Digits::of(weights);
        assert!(values.step.is_power_of_two() && values.step <= 128, "steps are powers of two");
        assert_eq!(
            spec.input.pixel,
            values.planes * spec.input.plane(),
            "a pixel holds its planes of bits"
        );
        let mut bytes = spec.clone();
        bytes.input.channels = bytes.input.pixel;
        if let BitFinish::Bits(thresholds) = &finish {
            thresholds.check();
            assert_eq!(
                spec.output.pixel,
                thresholds.planes() * spec.output.plane(),
                "a pixel holds its planes of bits"
            );
            bytes.output.channels = bytes.output.pixel;
        }
        bytes.check();
        bytes.output.channels = outputs;
        let (panels, lanes) = panels(&spec, isa);
        let (ending, mut bias, mut factors) = Ending::new(finish, (&bytes, weights), &panels);
        factors.resize(lanes, 0.0);
        for (bias, weights) in bias.iter_mut().zip(weights.chunks_exact(taps)) {
            *bias = bias.wrapping_add(constant(weights, digits, values));
        }
        let edges = Edges::new(&spec, (weights, values.zero), &bias, lanes);
        Self {
            isa,
            words: Words::new(&digits.pack(&spec, weights, &panels)),
            plane: spec.input.plane(),
            offsets: offsets(&bytes, spec.input.plane()),
            values,
            digits,
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
        match (has_popcount(self.isa), self.passes(), self.digits.masked) {
            (true, 1, false) => "binary avx512 popcnt",
            (true, 1, true) => "ternary avx512 popcnt",
            (true, ..) => "bit-serial avx512 popcnt",
            (false, 1, false) => kernel_name!("binary", self.isa.vectors()),
            (false, 1, true) => kernel_name!("ternary", self.isa.vectors()),
            (false, ..) => kernel_name!("bit-serial", self.isa.vectors()),
        }
    }

    /// How often the weights meet the image: once for each plane of either.
    #[must_use]
    pub fn passes(&self) -> usize {
        self.values.planes * self.digits.planes
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

/// What is added to every sum of an output but the counts.
fn constant(weights: &[i8], digits: Digits, values: Values) -> i32 {
    let (mut positive, mut sum) = (0, 0);
    for &weight in weights {
        let set = (0..digits.planes).filter(|&plane| digits.digit(weight, plane) > 0);
        positive += set.map(|plane| 1 << plane).sum::<i32>();
        sum += i32::from(weight);
    }
    i32::from(values.step) * i32::from(digits.unit) * values.levels() * positive - values.zero * sum
}

/// From a pixel's first tap to each word of the inner dimension in the first plane, which has so many bytes.
fn offsets(spec: &ConvSpec, plane: usize) -> Vec<u32> {
    let base = spec.tap([0, 0], [0, 0]);
    let mut offsets = Vec::new();
    for ky in 0..spec.kernel[0] {
        for kx in 0..spec.kernel[1] {
            let tap = spec.tap([0, 0], [ky, kx]) - base;
            let words = (0..plane).step_by(4);
            offsets.extend(words.map(|word| (tap + word) as u32));
        }
    }
    offsets
}

impl Ending {
    /// What to do, the biases and the factors of the outputs.
    fn new(
        finish: BitFinish,
        (spec, weights): (&ConvSpec, &[i8]),
        panels: &[Panel],
    ) -> (Self, Vec<i32>, Vec<f32>) {
        let outputs = spec.output.channels;
        let thresholds = match finish {
            BitFinish::Sums(finish) => {
                let (write, bias, factors) = Write::split(finish, spec, weights);
                return (Self::Sums(write), bias, factors);
            }
            BitFinish::Bits(thresholds) => thresholds,
        };
        let planes = thresholds.planes();
        let Thresholds { at_least, inverted } = thresholds;
        assert_eq!(inverted.len(), outputs, "a threshold for each output");
        let lanes = outputs.next_multiple_of(WORD);
        let of_level = |mut level: Vec<i32>| {
            // What no sum reaches: bits beyond the outputs are clear.
            level.resize(lanes, i32::MAX);
            level
        };
        let at_least = at_least.into_iter().flat_map(of_level).collect();
        let of_panel = |panel: &Panel| {
            let bits = &inverted[panel.output.min(outputs)..][..panel.outputs];
            bits.iter().enumerate().fold(0, |word, (at, &bit)| word | u32::from(bit) << at)
        };
        let inverted = panels.iter().map(of_panel).collect();
        (Self::Bits { planes, at_least, inverted }, vec![0; outputs], Vec::new())
    }
}

struct Part<'a> {
    conv: &'a BitConv,
    layer: Layer<'a>,
    panels: Range<usize>,
    pixels: Range<usize>,
}

impl SignTask for Part<'_> {
    #[inline(always)]
    fn run<S: Signs>(self, signs: S) {
        let masked = self.conv.digits.masked;
        let least = if masked { self.layer.tile_pixels::<S::A>() } else { PIXELS };
        let tile = if self.pixels.len() < least { 1 } else { least };
        for panel in self.panels.clone() {
            // SAFETY: the lengths of the images were checked, and parts share neither pixels nor panels.
            unsafe {
                match (tile, masked) {
                    (1, false) => self.tiles::<S, 1, 1>(signs, panel),
                    (_, false) => self.tiles::<S, PIXELS, 1>(signs, panel),
                    (8, _) => self.tiles::<S, 8, 2>(signs, panel),
                    (7, _) => self.tiles::<S, 7, 2>(signs, panel),
                    (4, _) => self.tiles::<S, 4, 2>(signs, panel),
                    (_, _) => self.tiles::<S, 1, 2>(signs, panel),
                }
            }
        }
    }
}

impl Part<'_> {
    /// Tiles of `R` pixels and weights of `W` words a plane; the last tile overlaps the one before it.
    /// # Safety
    /// The pixels are pixels of the result, at least `R`; no other thread writes the same.
    #[inline(always)]
    unsafe fn tiles<S: Signs, const R: usize, const W: usize>(&self, signs: S, index: usize) {
        let (conv, arch) = (self.conv, signs.codes());
        let (panel, width) = (&conv.panels[index], conv.spec.output.width);
        let columns = 2 * <S::A as Arch>::LANES;
        let (inner, planes) = (conv.offsets.len(), conv.digits.planes);
        let weights = &conv.words[panel.words * planes * W..][..inner * planes * W * columns];
        let bounds = arch.bounds(self.layer.write.last_clamp());
        // Counts of 15 bits are multiplied in the lower half of each lane.
        let most = conv.values.levels() as usize * ((1 << planes) - 1) * inner * WORD;
        let short = most <= i16::MAX as usize;
        let scale = i16::from(conv.values.step) * i16::from(conv.digits.unit);
        let factor = arch.splat(u32::from((-scale).cast_unsigned()));
        for first in self.pixels.clone().step_by(R) {
            let first = first.min(self.pixels.end - R);
            let at = [first / width, first % width];
            // SAFETY: every word of every tap and plane lies inside the input; the weights were sliced to their length.
            let counts =
                unsafe { self.counts::<S, R, W>(signs, self.layer.taps(at), weights.as_ptr()) };
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
                        arch.sub_i32(bias, shifted(arch, count, scale))
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
                Ending::Bits { planes, at_least, inverted } => {
                    let ending = (*planes, &at_least[panel.column..], inverted[index]);
                    // SAFETY: the panel has two vectors of thresholds in each level, and its pixels bytes for them.
                    unsafe { self.write_bits::<S, R>(signs, (sums, pixels), ending, panel) };
                }
            }
        }
    }

    /// Writes where sums reach thresholds, as bits.
    /// # Safety
    /// The pixels are pixels of the result, and the thresholds those of the panel.
    #[inline(always)]
    unsafe fn write_bits<S: Signs, const R: usize>(
        &self,
        signs: S,
        (sums, pixels): ([[V<S>; 2]; R], [[usize; 2]; R]),
        (planes, at_least, inverted): (usize, &[i32], u32),
        panel: &Panel,
    ) {
        let (output, lanes) = (&self.conv.spec.output, self.conv.edges.lanes());
        let (plane, columns) = (output.plane(), panel.columns);
        let place = |[y, x]: [usize; 2]| {
            self.layer.images.codes.wrapping_add(output.at(y, x) + panel.output / 8)
        };
        // The common case, in a loop of its own that needs no memory for the sums.
        if planes == 1 {
            let at_least = at_least[..columns].as_ptr();
            for (sums, pixel) in sums.into_iter().zip(pixels) {
                // SAFETY: as this function's; the pixel has the bytes of this panel's bits.
                unsafe {
                    let bits = reached(signs, sums, at_least) ^ inverted;
                    store_bits(place(pixel), bits, columns / 8);
                }
            }
            return;
        }
        for (sums, pixel) in sums.into_iter().zip(pixels) {
            let mut words = [0; PLANES_MAX];
            for level in 0..(1 << planes) - 1 {
                let at_least = at_least[level * lanes..][..columns].as_ptr();
                // SAFETY: as this function's.
                flip(&mut words, level, unsafe { reached(signs, sums, at_least) });
            }
            for (number, bits) in words[..planes].iter().enumerate() {
                let to = place(pixel).wrapping_add(number * plane);
                // SAFETY: as above, in each plane.
                unsafe { store_bits(to, bits ^ inverted, columns / 8) };
            }
        }
    }

    /// How often the bits of `R` pixels differ from the signs of two vectors of outputs, times the powers of two of their planes.
    /// # Safety
    /// The words of every plane are readable at each pixel and offset, and the weights are those of a panel.
    #[inline(always)]
    unsafe fn counts<S: Signs, const R: usize, const W: usize>(
        &self,
        signs: S,
        x: [*const u8; R],
        weights: *const u32,
    ) -> [[V<S>; 2]; R] {
        let (conv, arch) = (self.conv, signs.codes());
        let words = conv.offsets.len() * W * 2 * <S::A as Arch>::LANES;
        let mut counts = [[arch.splat(0); 2]; R];
        // The powers of two of both sides, from the greatest sum of them on.
        for power in (0..conv.values.planes + conv.digits.planes - 1).rev() {
            let least = (power + 1).saturating_sub(conv.digits.planes);
            for of_x in least..conv.values.planes.min(power + 1) {
                let mut pixels = x;
                for pixel in &mut pixels {
                    *pixel = pixel.wrapping_add(of_x * conv.plane);
                }
                // SAFETY: as this function's.
                unsafe {
                    let weights = weights.add((power - of_x) * words);
                    if W == 1 && R == PIXELS {
                        add_carried::<S, R>(signs, &mut counts, pixels, &conv.offsets, weights);
                    } else {
                        add_counts::<S, R, W>(signs, &mut counts, pixels, &conv.offsets, weights);
                    }
                }
            }
            if power == 0 {
                break;
            }
            for counts in &mut counts {
                for count in counts {
                    *count = arch.add_i32(*count, *count);
                }
            }
        }
        counts
    }
}

/// `count * factor`, a power of two, by doubling.
#[inline(always)]
fn shifted<A: Arch>(arch: A, count: A::V, factor: i16) -> A::V {
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
unsafe fn reached<S: Signs>(signs: S, sums: [V<S>; 2], at_least: *const i32) -> u32 {
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

/// As [`add_counts`], for words of signs alone: the bits of each two words are added to those of all before, bit by bit, so that half
/// as many words are counted.
/// # Safety
/// As [`add_counts`].
#[inline(always)]
unsafe fn add_carried<S: Signs, const R: usize>(
    signs: S,
    counts: &mut [[V<S>; 2]; R],
    x: [*const u8; R],
    offsets: &[u32],
    mut weights: *const u32,
) {
    let (arch, lanes) = (signs.codes(), <S::A as Arch>::LANES);
    let (mut ones, mut twos) = ([[arch.splat(0); 2]; R], [[arch.splat(0); 2]; R]);
    let (pairs, last) = offsets.as_chunks::<2>();
    for pair in pairs {
        // SAFETY: as this function's.
        let w = unsafe { load_weights::<S, 2>(signs, weights) };
        for ((ones, twos), x) in ones.iter_mut().zip(&mut twos).zip(x) {
            let mut words = [arch.splat(0); 2];
            for (word, offset) in words.iter_mut().zip(pair) {
                // SAFETY: as this function's.
                *word = unsafe { spread(signs, x, *offset) };
            }
            for (n, (ones, twos)) in ones.iter_mut().zip(twos).enumerate() {
                let carried = signs.carry(ones, [words[0], w[0][n]], [words[1], w[1][n]]);
                *twos = signs.add_ones(*twos, carried);
            }
        }
        // SAFETY: the weights of these words are followed by those of the next.
        weights = unsafe { weights.add(4 * lanes) };
    }
    let added = counts.as_flattened_mut().iter_mut();
    for (count, (&ones, &twos)) in added.zip(ones.as_flattened().iter().zip(twos.as_flattened())) {
        *count = signs.add_ones(arch.add_i32(*count, arch.add_i32(twos, twos)), ones);
    }
    // SAFETY: as this function's; at most one word is left.
    unsafe { add_counts::<S, R, 1>(signs, counts, x, last, weights) };
}

/// Adds how often the bits of one plane of `R` pixels differ from the signs of one of two vectors of outputs.
/// # Safety
/// Four bytes are readable at each pixel and offset, and two vectors of `W` words for each offset.
#[inline(always)]
unsafe fn add_counts<S: Signs, const R: usize, const W: usize>(
    signs: S,
    counts: &mut [[V<S>; 2]; R],
    x: [*const u8; R],
    offsets: &[u32],
    mut weights: *const u32,
) {
    for &offset in offsets {
        // SAFETY: as this function's.
        let w = unsafe { load_weights::<S, W>(signs, weights) };
        for (counts, x) in counts.iter_mut().zip(x) {
            // SAFETY: as this function's.
            let x = unsafe { spread(signs, x, offset) };
            for (n, count) in counts.iter_mut().enumerate() {
                *count = if W == 1 {
                    signs.differing(*count, x, w[0][n])
                } else {
                    signs.differing_in(*count, x, (w[0][n], w[W - 1][n]))
                };
            }
        }
        // SAFETY: the weights of this word are followed by those of the next.
        weights = unsafe { weights.add(2 * W * <S::A as Arch>::LANES) };
    }
}

/// Two vectors of each of `W` words of weights.
/// # Safety
/// They are readable at `from`.
#[inline(always)]
unsafe fn load_weights<S: Signs, const W: usize>(signs: S, from: *const u32) -> [[V<S>; 2]; W] {
    let (arch, lanes) = (signs.codes(), <S::A as Arch>::LANES);
    let mut words = [[arch.splat(0); 2]; W];
    for (at, vector) in words.as_flattened_mut().iter_mut().enumerate() {
        // SAFETY: as this function's.
        *vector = unsafe { arch.load(from.add(at * lanes)) };
    }
    words
}

/// The word of a pixel at an offset, in all lanes.
/// # Safety
/// Four bytes are readable there.
#[inline(always)]
unsafe fn spread<S: Signs>(signs: S, pixel: *const u8, offset: u32) -> V<S> {
    // SAFETY: as this function's; the read needs no alignment.
    let word = unsafe { pixel.add(offset as usize).cast::<u32>().read_unaligned() };
    signs.codes().splat(u32::from_le(word))
}
