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
mod tile;

use self::digits::Digits;
use self::edges::Edges;
pub use self::pack::PackBits;
use self::tile::{Part, carries};
use super::arena::Words;
use super::codes::Codes;
use super::conv::for_each_part;
use super::finish::{At, Write};
use super::panels::Panel;
use super::pool::Pool;
use super::popcount::{dispatch, has_popcount};
use super::spec::{ConvSpec, Finish};
use super::tile::Layer;
use crate::isa::{Isa, Task, kernel_name};

/// Channels of a word.
const WORD: usize = 32;

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

    fn check(&self, outputs: usize) {
        assert_eq!(self.inverted.len(), outputs, "a threshold for each output");
        assert!(
            (1..=PLANES_MAX).contains(&self.planes())
                && (self.at_least.len() + 1).is_power_of_two(),
            "thresholds of 1 to 4 bits"
        );
        assert!(
            self.at_least.iter().all(|list| list.len() == outputs),
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
    /// Whether words are added bit by bit before they are counted.
    carried: bool,
}

#[derive(Clone, Debug)]
enum Ending {
    Sums(Write),
    /// A code is reached where bits differ at most as often as [`Edges::numbers`] say.
    Bits {
        planes: usize,
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
            thresholds.check(outputs);
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
        let (ending, at_least, mut bias, mut factors) = match finish {
            BitFinish::Sums(finish) => {
                let (write, bias, factors) = Write::split(finish, &bytes, weights);
                (Ending::Sums(write), Vec::new(), bias, factors)
            }
            BitFinish::Bits(all) => {
                (Ending::bits(&all, &panels), all.at_least, vec![0; outputs], Vec::new())
            }
        };
        factors.resize(lanes, 0.0);
        for (bias, weights) in bias.iter_mut().zip(weights.chunks_exact(taps)) {
            *bias = bias.wrapping_add(constant(weights, digits, values));
        }
        let mut edges = Edges::new(&spec, (weights, values.zero), &bias, lanes);
        if matches!(ending, Ending::Bits { .. }) {
            edges.limit(&at_least, i64::from(values.step) * i64::from(digits.unit));
        }
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
            carried: !digits.masked && carries(isa),
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
            bias: &self.edges.numbers,
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
    fn bits(thresholds: &Thresholds, panels: &[Panel]) -> Self {
        let all = &thresholds.inverted;
        let of_panel = |panel: &Panel| {
            let bits = &all[panel.output.min(all.len())..][..panel.outputs];
            bits.iter().enumerate().fold(0, |word, (at, &bit)| word | u32::from(bit) << at)
        };
        let inverted = panels.iter().map(of_panel).collect();
        Self::Bits { planes: thresholds.planes(), inverted }
    }
}

#[cfg(test)]
mod tests {
    use super::{BitConv, BitFinish, Isa, Thresholds, Values};
    use crate::nhwc::spec::samples::{noise, three_by_three};
    use crate::nhwc::{ImageLayout, Pool};

    /// The way that this CPU is slower with is tested too.
    #[test]
    fn bits_added_before_they_are_counted_give_the_same() {
        let (channels, outputs) = (96, 40);
        for planes in [1, 2] {
            let input = ImageLayout::bits([7, 9, channels], planes, [1; 4]);
            let output = ImageLayout::bits([7, 9, outputs], planes, [0; 4]);
            let spec = three_by_three(input, output);
            let sign = |byte: u8| if byte < 128 { -1 } else { 1 };
            let weights: Vec<i8> = noise(spec.weight_len(), 0).into_iter().map(sign).collect();
            let x = noise(spec.input.len(), 7);
            let values = Values { planes, ..Values::SIGNS };
            let at_least = (0..(1 << planes) - 1).map(|code| vec![20 * code; outputs]).collect();
            let thresholds = Thresholds { at_least, inverted: vec![false; outputs] };
            for isa in Isa::available() {
                let finish = BitFinish::Bits(thresholds.clone());
                let mut conv = BitConv::new(isa, spec.clone(), &weights, values, finish);
                let results = [true, false].map(|carried| {
                    conv.carried = carried;
                    let mut out = vec![0; spec.output.len()];
                    conv.run(&x, None, &mut out, &Pool::new(1));
                    out
                });
                assert!(results[0].iter().any(|&byte| byte != 0), "{}", isa.name());
                assert_eq!(results[0], results[1], "{}", isa.name());
            }
        }
    }
}
