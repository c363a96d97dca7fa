//! What is done to a model: plain data.

use lowbit_quant::{RangeRule, WeightRule};
use serde::{Deserialize, Serialize};

/// How a model is quantized to int8.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// How activation ranges are chosen.
    pub activations: RangeRule,
    /// How weight scales are chosen.
    pub weights: WeightRule,
    /// Whether biases take back the mean shift that quantization causes in each channel.
    pub bias_correction: bool,
    /// Whether activations get a scale per channel where their neighbours absorb it.
    pub channel_scales: bool,
}

impl Recipe {
    /// The name of the recipe, as it appears in file names and results.
    pub const NAME: &'static str = "int8";
}

impl Default for Recipe {
    fn default() -> Self {
        Recipe {
            activations: RangeRule::Mse,
            weights: WeightRule::MaxAbs,
            bias_correction: true,
            channel_scales: true,
        }
    }
}
