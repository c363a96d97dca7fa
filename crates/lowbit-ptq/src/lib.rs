//! Post-training quantization: what to quantize, over which range, and how far each layer moved.
//!
//! Knows graphs and quantizer mathematics, but neither files nor data sets: images come through [`Samples`], progress goes out
//! through a callback.

mod aciq;
mod adaquant;
mod adaround;
mod assignment;
mod batch_norm;
mod batch_norm_reestimation;
mod bias_correction;
mod brecq;
mod calibrate;
mod channels;
mod dfq;
mod distillation;
mod equalize;
mod error;
mod functions;
mod gptq;
mod importance;
mod insert;
mod layer_error;
mod ocs;
mod pack;
mod pairs;
mod plan;
mod qcdq;
mod qdrop;
mod reconstruct;
mod regions;
mod samples;
mod squant;
mod unfold;
mod zeroq;

pub use aciq::{ChannelBits, allocate_bits};
pub use assignment::{Assignment, Layer, Position};
pub use batch_norm::{BatchNormStatistics, Normal};
pub use batch_norm_reestimation::{Moment, reestimate};
pub use bias_correction::bias_correction;
pub use calibrate::{Calibration, ChannelStatistics, Found, calibrate};
pub use channels::Channels;
pub use dfq::calibrate_from_statistics;
pub use equalize::{Ceiling, Equalization, equalize};
pub use error::PtqError;
pub use gptq::{Gptq, gptq};
pub use importance::importance;
pub use insert::{Bias, QuantizedGraph, Rounding, Site, Weight, quantize};
pub use layer_error::{LayerError, layer_errors};
pub use ocs::{OutlierSplitting, split_outliers};
pub use pack::pack;
pub use plan::{Group, Plan};
pub use qcdq::qcdq;
pub use reconstruct::{
    Algorithm, Reconstruction, Scope, UnitReport, Variable, iterations, reconstruct,
};
pub use regions::{Absorbers, Region, Side};
pub use samples::{Progress, Samples};
pub use squant::squant;
pub use zeroq::{DistilledImages, ZeroQ, distill};

#[cfg(test)]
mod tests;
