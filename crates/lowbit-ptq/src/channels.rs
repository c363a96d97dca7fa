//! Scales per channel for activations, where the operators on either side can absorb them.
//!
//! Integer convolution wants one scale for its whole input and one for its whole output, so a channel that uses a tenth of the range
//! gets a tenth of the levels. But a convolution can multiply each output channel by any factor (through that channel's weight
//! scale and bias, at no cost) and divide each input channel by one (through its weights); and QuantizeLinear and
//! DequantizeLinear beside an operator that runs in float take a scale per channel as they are. So the codes of a value
//! that one such operator makes and one such operator reads may mean something else in every channel:
//!
//! - made by a convolution, read in float: any scale and zero point per channel, for nothing;
//! - made in float or by a convolution, read by a depthwise convolution: any scale per channel, for nothing;
//! - ... read by another convolution: its weights' columns move by the inverse factors, which costs weight resolution, so the
//!   factors are the square roots of those that would make all channels equal.
//!
//! Between convolutions this is cross-layer equalization (Nagel et al. 2019, arXiv:1906.04721, section 4.1) aimed at
//! activations; across a hard-swish, which no factor passes through, it is what per-axis quantizers make possible.

use lowbit_graph::{Activation, Graph, Node, Op, ValueId};
use lowbit_quant::QParams;

/// How far a channel's scale may lie below the largest: beyond this the channel hardly matters.
const RATIO_MAX: f32 = 64.0;

/// Who reads a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// An operator that runs in float.
    Float,
    /// A depthwise convolution.
    Depthwise,
    /// Another convolution.
    Convolution,
}

/// Why a value may have scales per channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Absorbers {
    /// Whether a convolution makes the value (else an operator in float does).
    pub made_by_convolution: bool,
    /// Who reads it.
    pub reader: Reader,
    /// Upper limit of the Clip that is part of the convolution that makes it.
    pub ceiling: Option<f32>,
}

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

impl Absorbers {
    /// Finds them for `value`; `None` where it must have one scale.
    #[must_use]
    pub(crate) fn of(graph: &Graph, value: ValueId) -> Option<Absorbers> {
        let reader = &graph.nodes[graph.only_consumer(value)?];
        let maker = graph.nodes.iter().find(|node| node.outputs.contains(&Some(value)))?;
        if reader.input(0) != Some(value) {
            return None;
        }
        let reader = match &reader.op {
            Op::Unary(_) => Reader::Float,
            Op::Conv(_) if !constant_convolution(graph, reader) => return None,
            Op::Conv(conv) => {
                let weight = graph.constant_input(reader, 1)?;
                let depthwise = weight.shape()[1] == 1 && weight.shape()[0] == conv.groups;
                if depthwise { Reader::Depthwise } else { Reader::Convolution }
            }
            _ => return None,
        };
        let (made_by_convolution, ceiling) = match &maker.op {
            Op::Unary(_) if reader != Reader::Float => (false, None),
            Op::Conv(conv) if constant_convolution(graph, maker) => match conv.activation {
                Activation::None | Activation::Relu => (true, None),
                Activation::Clip { min: 0.0, max } if max > 0.0 => (true, Some(max)),
                Activation::Clip { .. } => return None,
            },
            _ => return None,
        };
        Some(Absorbers { made_by_convolution, reader, ceiling })
    }
}

fn constant_convolution(graph: &Graph, node: &Node) -> bool {
    let bias = node.input(2).is_none() || graph.constant_input(node, 2).is_some();
    graph.constant_input(node, 1).is_some() && bias
}

impl Channels {
    /// Quantizers of the channels' ranges, and that of the tensor which the convolutions beside it see.
    #[must_use]
    pub(crate) fn new(ranges: &[(f32, f32)], absorbers: Absorbers) -> Option<(QParams, Channels)> {
        let ranges: Vec<(f32, f32)> =
            ranges.iter().map(|&(low, high)| (low.min(0.0), high.max(0.0))).collect();
        let widest = ranges.iter().map(|&(low, high)| high - low).fold(0.0, f32::max);
        if widest < f32::MIN_POSITIVE || !widest.is_finite() {
            return None;
        }
        if absorbers.reader == Reader::Float {
            let scale = |&(low, high): &(f32, f32)| (high - low).max(widest / RATIO_MAX) / 255.0;
            let scales: Vec<f32> = ranges.iter().map(scale).collect();
            let zero = |(&(low, _), scale): (&(f32, f32), &f32)| {
                (-low / scale).round_ties_even().clamp(0.0, 255.0) as i32
            };
            let zero_points = ranges.iter().zip(&scales).map(zero).collect();
            let tensor = QParams { scale: widest / 255.0, zero_point: 0, qmin: 0, qmax: 255 };
            return Some((tensor, Channels { scales, zero_points, absorbers }));
        }
        Some(Channels::shared_zero_point(&ranges, absorbers))
    }

    /// Padding with zeros needs one code for zero, so the zero point is shared: the one that keeps the scales small.
    fn shared_zero_point(
        ranges: &[(f32, f32)],
        absorbers: Absorbers,
    ) -> (QParams, Channels) {
        let scale = |zero_point: i32, &(low, high): &(f32, f32)| {
            let below = if zero_point > 0 { -low / zero_point as f32 } else { 0.0 };
            let above = if zero_point < 255 { high / (255 - zero_point) as f32 } else { 0.0 };
            let cut = (zero_point == 0 && low < 0.0) || (zero_point == 255 && high > 0.0);
            if cut { f32::INFINITY } else { below.max(above) }
        };
        let total = |zero_point: i32| -> f64 {
            ranges.iter().map(|range| f64::from(scale(zero_point, range))).sum()
        };
        let zero_point = (0..=255).min_by(|&a, &b| total(a).total_cmp(&total(b))).unwrap_or(0);
        let equal: Vec<f32> = ranges.iter().map(|range| scale(zero_point, range)).collect();
        let largest = equal.iter().copied().fold(0.0, f32::max);
        let share = |&s: &f32| {
            let bounded = s.max(largest / RATIO_MAX);
            match absorbers.reader {
                Reader::Convolution => (bounded * largest).sqrt(),
                Reader::Depthwise | Reader::Float => bounded,
            }
        };
        let scales: Vec<f32> = equal.iter().map(share).collect();
        // A Clip behind the convolution must not cut what saturation would keep.
        let scale = absorbers.ceiling.map_or(largest, |ceiling| ceiling / 255.0);
        let zero_points = vec![zero_point; scales.len()];
        let tensor = QParams { scale, zero_point, qmin: 0, qmax: 255 };
        (tensor, Channels { scales, zero_points, absorbers })
    }
}
