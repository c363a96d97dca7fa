//! Empirical bias correction (Nagel et al. 2019, arXiv:1906.04721, section 4.2).
//!
//! Rounding the weights of a channel by ΔW shifts the mean of its output by Σ ΔW·E[x]; the bias takes the shift back. The paper
//! derives E[x] from BatchNorm statistics; here it is measured on the calibration images, per input channel, and taps that
//! fall on padding are counted as if they did not.

use lowbit_graph::{Graph, Op};

use crate::{Calibration, QuantizedGraph, Side};

/// Takes the mean shift that rounding the weights causes back into the biases, with the channel means that calibration measured.
#[must_use]
pub fn bias_correction(
    float: &Graph,
    quantized: &QuantizedGraph,
    calibration: &Calibration,
) -> QuantizedGraph {
    let mut corrected = quantized.clone();
    for (index, weight) in quantized.weights.iter().enumerate() {
        let Some(bias) = &weight.bias else { continue };
        let Some(means) = calibration.means.get(&weight.input) else { continue };
        // What the codes stand for is the input channel divided by its factor.
        let site = quantized.sites.iter().find(|site| site.value == weight.input);
        let channels = site.and_then(|site| Some((site.parameters, site.channels.as_ref()?)));
        let absorbed = channels.filter(|(_, c)| c.absorbers.reader != Side::Float);
        let means: Vec<f64> = match absorbed {
            None => means.clone(),
            Some((tensor, channels)) => {
                let factor = |c: usize| f64::from(channels.scales[c] / tensor.scale);
                means.iter().enumerate().map(|(c, mean)| mean / factor(c)).collect()
            }
        };
        let decoded = weight.coded.decode();
        let error: Vec<f32> =
            decoded.iter().zip(weight.target.iter()).map(|(q, w)| q - w).collect();
        let op = &float.nodes[weight.index].op;
        let shift = mean_shift(op, &error, weight.shape[0], &means);
        let values = bias.values.iter().zip(shift);
        corrected.set_bias(index, values.map(|(b, s)| (f64::from(*b) - s) as f32).collect());
    }
    corrected
}

/// The mean shift of each output channel: Σ ΔW·E[x], with `error` = ΔW as rows [output channel][elements per channel] and
/// `means` per input channel of the node.
#[must_use]
pub(crate) fn mean_shift(op: &Op, error: &[f32], channels: usize, means: &[f64]) -> Vec<f64> {
    let per_channel = error.len() / channels.max(1);
    let groups = match op {
        Op::Conv(conv) => conv.groups.max(1),
        _ => 1,
    };
    let inputs = means.len() / groups;
    let taps = per_channel / inputs.max(1);
    let rows = error.chunks(per_channel.max(1)).enumerate();
    rows.map(|(o, row)| {
        let first = o / (channels / groups) * inputs;
        let terms = row.iter().enumerate();
        terms.map(|(i, &e)| f64::from(e) * means[first + i / taps.max(1)]).sum()
    })
    .collect()
}
