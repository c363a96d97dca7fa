//! Bits for the channels that need them: the per-channel allocation of ACIQ (Banner et al. 2019, arXiv:1810.05723, section 4).
//!
//! A channel whose weights reach α_i rounds with a mean squared error of about α_i²/(3·4^(M_i)); with the mean of the bits M_i kept, a
//! channel gets M_i ≈ M + log₂(α_i/ᾱ) of them ([`lowbit_quant::allocate_channel_bits`]). α_i is where the layer's own scale rule
//! clips. A layer whose squared error would not fall keeps equal bits.

use lowbit_quant::{
    CodedWeight, Granularity, Grid, QuantError, Quantizer, Rounding, allocate_channel_bits,
};
use serde::{Deserialize, Serialize};

use crate::{Assignment, PtqError, QuantizedGraph, UnitReport, Weight};

/// How far bits may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ChannelBits {
    /// Fewest bits of a channel.
    pub least: u8,
    /// Most.
    pub most: u8,
}

impl ChannelBits {
    /// Two to eight.
    pub const USUAL: ChannelBits = ChannelBits { least: 2, most: 8 };
}

/// Gives the channels of every layer with a uniform grid and a scale per channel bits of their own. The reports give mean squared
/// errors of weights before and after.
///
/// # Errors
/// `Value` names a layer whose bits do not lie within the settings'.
pub fn allocate_bits(
    quantized: &QuantizedGraph,
    assignment: &Assignment,
    settings: ChannelBits,
) -> Result<(QuantizedGraph, Vec<UnitReport>), PtqError> {
    let mut allocated = quantized.clone();
    let mut reports = vec![];
    for (index, weight) in quantized.weights.iter().enumerate() {
        let Some(layer) = assignment.layers.get(&weight.index) else { continue };
        let Grid::Uniform(uniform) = layer.weights.grid else { continue };
        let plain = layer.weights.granularity == Granularity::Channel
            && layer.weights.rounding == Rounding::Nearest;
        if !plain || !(settings.least..=settings.most).contains(&uniform.bits) {
            continue;
        }
        let named = |source| PtqError::Value { name: weight.node.clone(), source };
        let coded = refit(weight, &layer.weights, (uniform.bits, settings)).map_err(named)?;
        let error = [&weight.coded, &coded].map(|coded| squared_error(coded, &weight.target));
        let better = error[1] < error[0];
        let error = [error[0], error[0].min(error[1])];
        reports.push(UnitReport { name: weight.node.clone(), error, images: 0 });
        if better {
            allocated.set_weight(index, coded);
        }
    }
    Ok((allocated, reports))
}

fn refit(
    weight: &Weight,
    quantizer: &Quantizer,
    (bits, settings): (u8, ChannelBits),
) -> Result<CodedWeight, QuantError> {
    let reach = (1u32 << (bits - 1)) as f32;
    let clips: Vec<f32> = weight.coded.scales().iter().map(|scale| scale * reach).collect();
    let widths = allocate_channel_bits(&clips, bits, settings.least, settings.most)?;
    quantizer.fit_with_channel_bits(&weight.target, &weight.shape, None, &widths)
}

fn squared_error(coded: &CodedWeight, target: &[f32]) -> f64 {
    let decoded = coded.decode();
    let squares = decoded.iter().zip(target).map(|(q, w)| f64::from(q - w) * f64::from(q - w));
    squares.sum::<f64>() / target.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use lowbit_quant::RangeRule;

    use super::*;
    use crate::tests::{Noise, errors, residual, rounding};
    use crate::{Plan, calibrate, quantize};

    #[test]
    fn errors_fall_at_the_same_size() {
        let graph = residual();
        let plan = Plan::new(&graph, false).unwrap();
        let calibration = calibrate(&graph, &plan, &Noise(8), RangeRule::MinMax, &|_| {}).unwrap();
        let rounding = rounding(&graph, ("int4-mse", 8));
        let before = quantize(&graph, &plan, &calibration, &rounding).unwrap();
        let assignment = &rounding.assignment;
        let (after, reports) = allocate_bits(&before, assignment, ChannelBits::USUAL).unwrap();
        assert!(reports.iter().all(|r| r.error[1] <= r.error[0]), "{reports:?}");
        assert!(reports[1].error[1] < 0.5 * reports[1].error[0], "channels differ: {reports:?}");
        let codes = |q: &QuantizedGraph| q.weights[1].coded.size().codes;
        assert_eq!(codes(&after), codes(&before));
        let last = |quantized| errors(&graph, quantized).last().unwrap().sqnr_db;
        assert!(last(&after) > last(&before) - 0.5, "{} {}", last(&before), last(&after));
    }
}
