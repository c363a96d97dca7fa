//! Quantizer mathematics that knows no graph: parameters, streaming statistics, and the rules that turn one into the other.
//!
//! Activations are described by [`Statistics`] and get a [`QParams`]. Weights are given to a [`Quantizer`], plain data
//! that says grid, granularity, scale rule, zero point, rounding and gradient rule, and become a [`CodedWeight`].

mod allocate;
mod cluster;
mod coded;
mod entropy;
mod error;
mod gradient;
mod granularity;
mod grid;
mod histogram;
mod pack;
mod preset;
mod qparams;
mod quantizer;
mod range;
mod scale;
mod sorted;

pub use allocate::allocate_channel_bits;
pub use cluster::{ClusterMethod, ClusterStart, Clustering, optimal_clusters};
pub use coded::{CodedWeight, SizeBits, Table, shared_size};
pub use entropy::{decode_codes, encode_codes, entropy_bits};
pub use error::QuantError;
pub use gradient::{GradientRule, Point};
pub use granularity::{Granularity, Groups};
pub use grid::{
    AdditivePowerOfTwo, Basis, BasisDigits, Binary, Codebook, Companded, Companding, Entries, Grid,
    Hashed, Levels, Midpoint, Minifloat, PowerOfTwo, Uniform, UniformCodes,
};
pub use histogram::Histogram;
pub use pack::{pack, packed_bytes, unpack};
pub use preset::{PRESETS, Preset};
pub use qparams::QParams;
pub use quantizer::{Quantizer, Rounding, ZeroPoint};
pub use range::{RangeRule, Statistics};
pub use scale::{BasisStart, Density, Exponent, FoundBasis, ScaleRule, TernaryValues};

#[cfg(test)]
mod tests;
