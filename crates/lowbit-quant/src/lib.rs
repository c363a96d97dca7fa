//! Quantizer mathematics that knows no graph: parameters, streaming statistics, and the rules that turn one into the other.

mod error;
mod grid;
mod histogram;
mod pack;
mod qparams;
mod range;
mod weights;

pub use error::QuantError;
pub use grid::{
    AdditivePowerOfTwo, Basis, BasisDigits, Binary, Codebook, Companded, Companding, Entries, Grid,
    Hashed, Levels, Midpoint, Minifloat, PowerOfTwo, Uniform, UniformCodes,
};
pub use histogram::Histogram;
pub use pack::{pack, packed_bytes, unpack};
pub use qparams::QParams;
pub use range::{RangeRule, Statistics};
pub use weights::{ChannelScales, WeightRule, channel_scales, quantize_channels};

#[cfg(test)]
mod tests;
