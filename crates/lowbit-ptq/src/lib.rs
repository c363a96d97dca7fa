//! Post-training quantization: what to quantize, over which range, and how far each layer moved.
//!
//! Knows graphs and quantizer mathematics, but neither files nor data sets: images come through [`Samples`], progress goes out
//! through a callback.

mod bias_correction;
mod calibrate;
mod channels;
mod error;
mod insert;
mod layer_error;
mod plan;
mod regions;
mod samples;

pub use calibrate::{Calibration, ChannelStatistics, Found, calibrate};
pub use channels::Channels;
pub use error::PtqError;
pub use insert::{QuantizedGraph, Rounding, Site, Weight, quantize};
pub use layer_error::{LayerError, layer_errors};
pub use plan::{Group, Plan};
pub use regions::{Absorbers, Region, Side};
pub use samples::{Progress, Samples};

#[cfg(test)]
mod tests;
