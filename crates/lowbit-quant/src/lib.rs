//! Quantizer mathematics that knows no graph: parameters, streaming statistics, and the rules that turn one into the other.

mod histogram;
mod qparams;
mod range;
mod weights;

pub use histogram::Histogram;
pub use qparams::{QParams, QuantError};
pub use range::{RangeRule, Statistics};
pub use weights::{ChannelScales, WeightRule, channel_scales, quantize_channels};

#[cfg(test)]
mod tests;
