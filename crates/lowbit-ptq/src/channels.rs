//! Scales per channel for activations, where the operators on either side can absorb them.
//!
//! Integer convolution wants one scale for its whole input and one for its whole output, so a channel that uses a tenth of the range
//! gets a tenth of the levels. But a convolution can multiply each output channel by any factor (through that channel's weight
//! scale and bias, at no cost) and divide each input channel by one (through its weights); and QuantizeLinear and
//! DequantizeLinear beside an operator that runs in float take a scale per channel as they are. So the codes of a value
//! between such operators may mean something else in every channel:
//!
//! - made by a convolution, read in float: any scale and zero point per channel, for nothing;
//! - elsewhere any scale per channel, for nothing where depthwise convolutions read, while the weights of other convolutions lose
//!   resolution as their columns move by the inverse factors: there the factors are the square roots of those that would make all
//!   channels equal.
//!
//! Between convolutions this is cross-layer equalization (Nagel et al. 2019, arXiv:1906.04721, section 4.1) aimed at
//! activations; across a hard-swish, which no factor passes through, it is what per-axis quantizers make possible.

use lowbit_quant::QParams;

use crate::Absorbers;

/// How far a channel's scale may lie below the largest: beyond this the channel hardly matters.
const RATIO_MAX: f64 = 64.0;

/// Largest code of an activation.
const CODE_MAX: f32 = 255.0;

/// What the codes of each channel mean: x ≈ scale[c] · (q - zero_point[c]).
#[derive(Clone, Debug, PartialEq)]
pub struct Channels {
    /// One scale per channel.
    pub scales: Vec<f32>,
    /// One zero point per channel.
    pub zero_points: Vec<i32>,
    /// Who absorbs them.
    pub absorbers: Absorbers,
}

/// A value of a region: what it would like.
pub(crate) struct Wish {
    absorbers: Absorbers,
    /// The scales that would use all codes in every channel, and the zero point they share.
    equal: Vec<f64>,
    zero_point: i32,
}

/// What reads the values of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Depthwise convolutions, which take factors for nothing.
    Depthwise,
    /// Others among them.
    Any,
}

/// Quantizers of a value whose channels are free of each other: each takes its own range.
pub(crate) fn independent(
    ranges: &[(f32, f32)],
    absorbers: Absorbers,
) -> Option<(QParams, Channels)> {
    let widest = ranges.iter().map(|&(low, high)| high - low).fold(0.0, f32::max);
    if widest < f32::MIN_POSITIVE || !widest.is_finite() {
        return None;
    }
    let least = widest / RATIO_MAX as f32;
    let scales: Vec<f32> =
        ranges.iter().map(|&(low, high)| (high - low).max(least) / CODE_MAX).collect();
    let zero = |(&(low, _), scale): (&(f32, f32), &f32)| {
        (-low / scale).round_ties_even().clamp(0.0, CODE_MAX) as i32
    };
    let zero_points = ranges.iter().zip(&scales).map(zero).collect();
    let tensor = QParams { scale: widest / CODE_MAX, zero_point: 0, qmin: 0, qmax: 255 };
    Some((tensor, Channels { scales, zero_points, absorbers }))
}

impl Wish {
    /// Number of channels.
    pub(crate) fn channels(&self) -> usize {
        self.equal.len()
    }

    /// `ranges` hold zero. `None` when the value is constant zero.
    pub(crate) fn new(ranges: &[(f32, f32)], absorbers: Absorbers) -> Option<Wish> {
        // Padding with zeros needs one code for zero, so the zero point is shared: the one that keeps the scales small.
        let scale = |zero_point: i32, &(low, high): &(f32, f32)| {
            let below = if zero_point > 0 { -low / zero_point as f32 } else { 0.0 };
            let above = if zero_point < 255 { high / (255 - zero_point) as f32 } else { 0.0 };
            let cut = (zero_point == 0 && low < 0.0) || (zero_point == 255 && high > 0.0);
            if cut { f64::INFINITY } else { f64::from(below.max(above)) }
        };
        let total =
            |zero_point: i32| -> f64 { ranges.iter().map(|range| scale(zero_point, range)).sum() };
        let zero_point = (0..=255).min_by(|&a, &b| total(a).total_cmp(&total(b))).unwrap_or(0);
        let equal: Vec<f64> = ranges.iter().map(|range| scale(zero_point, range)).collect();
        let largest = equal.iter().copied().fold(0.0, f64::max);
        let usable = largest >= f64::from(f32::MIN_POSITIVE) && largest.is_finite();
        let equal = equal.iter().map(|s| s.max(largest / RATIO_MAX)).collect();
        usable.then_some(Wish { absorbers, equal, zero_point })
    }

    /// The smallest scale of the whole tensor under which no channel is cut.
    fn tensor_scale(&self, factors: &[f64]) -> f64 {
        self.equal.iter().zip(factors).map(|(e, f)| e / f).fold(0.0, f64::max)
    }
}

/// One set of factors for all values of a region, and the quantizers that follow from it.
pub(crate) fn shared(wishes: &[Wish], reader: Reader) -> Vec<(QParams, Channels)> {
    let mut factors = factors(wishes, reader);
    // A Clip behind a convolution must not cut what saturation would keep.
    let ceilings =
        wishes.iter().filter_map(|w| Some((w, f64::from(w.absorbers.ceiling? / CODE_MAX))));
    let raise = ceilings.map(|(w, ceiling)| w.tensor_scale(&factors) / ceiling).fold(0.0, f64::max);
    if raise > 0.0 {
        factors.iter_mut().for_each(|f| *f *= raise);
    }
    let parameters = |wish: &Wish| {
        let found = wish.tensor_scale(&factors) as f32;
        let scale = wish.absorbers.ceiling.map_or(found, |ceiling| ceiling / CODE_MAX);
        let tensor = QParams { scale, zero_point: wish.zero_point, qmin: 0, qmax: 255 };
        let scales: Vec<f32> = factors.iter().map(|&f| (f64::from(scale) * f) as f32).collect();
        let zero_points = vec![wish.zero_point; scales.len()];
        (tensor, Channels { scales, zero_points, absorbers: wish.absorbers })
    };
    wishes.iter().map(parameters).collect()
}

/// The largest is 1. Where weights pay for them they are the square roots of what would equalize the channels. Balancing against the
/// weights' columns too lost 6 points of agreement on EfficientNet-Lite0; choosing the power by an estimate of the noise gained 2 dB
/// before the last layer of one model and lost 2 dB in another, with agreement the same within noise (800 images each).
fn factors(wishes: &[Wish], reader: Reader) -> Vec<f64> {
    let power = match reader {
        Reader::Depthwise => 1.0,
        Reader::Any => 0.5,
    };
    let mean = |c: usize| {
        let logarithms = wishes.iter().map(|wish| wish.equal[c].ln());
        (power * logarithms.sum::<f64>() / wishes.len() as f64).exp()
    };
    let means: Vec<f64> = (0..wishes[0].equal.len()).map(mean).collect();
    let largest = means.iter().copied().fold(0.0, f64::max);
    means.iter().map(|f| f / largest).collect()
}
