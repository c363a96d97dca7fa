//! Gives every layer's result back its mean, or mean and spread, as measured on the quantized network: empirical bias correction
//! (Nagel et al. 2019, arXiv:1906.04721, appendix D) and BatchNorm re-estimation for normalizations that are folded (Hubara et
//! al. 2020, arXiv:2006.10518, section 3.4: para-normalization).
//!
//! ```text
//! for each layer, in order:
//!     μ, σ = mean and deviation per channel of its result before the activation, in the float network
//!     m, s = the same in the quantized network, all layers before it already corrected
//!     bias = μ + g·(bias - m) and weight scale = g · weight scale, with g = σ/s, or 1 where the spread is left alone
//! ```
//!
//! The statistics are taken over as many images as there are, folded in image order. A gain is bounded ([`GAIN_MAX`]) and left out where
//! a layer's channels share a scale.

use lowbit_graph::{Activation, Graph, Op, Session, ValueId, Workspace};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::insert::channel_map;
use crate::{Progress, PtqError, QuantizedGraph, Samples, UnitReport};

/// What of a layer's result is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// The mean: empirical bias correction.
    Mean,
    /// Mean and spread: BatchNorm re-estimation.
    Spread,
}

/// A gain lies within this factor of 1.
const GAIN_MAX: f64 = 2.0;
/// Images under way at once.
const UNDER_WAY: usize = 16;

/// Corrects every layer. The reports give the mean over channels of the squared shift of the mean before, in units of the
/// channel's variance; nothing but the rounding of biases is left of it after. `progress` hears of every image, once a layer.
///
/// # Errors
/// `Sample` or `Graph` when an image cannot be read or run, `Value` when a scale becomes senseless.
pub fn reestimate(
    float: &Graph,
    quantized: &QuantizedGraph,
    samples: &dyn Samples,
    moment: Moment,
    progress: Progress<'_>,
) -> Result<(QuantizedGraph, Vec<UnitReport>), PtqError> {
    let mut corrected = quantized.clone();
    let mut reports = vec![];
    for index in 0..quantized.weights.len() {
        let weight = &corrected.weights[index];
        let Some(bias) = weight.bias.as_ref().map(|bias| bias.values.clone()) else { continue };
        let node = &float.nodes[weight.index];
        let Some(wanted) = measure(float, &node.name, samples, &|_| {})? else { continue };
        let Some(found) = measure(&corrected.graph, &node.name, samples, progress)? else {
            continue;
        };
        let map = channel_map(quantized.site(node.output()));
        let wanted: Vec<[f64; 2]> = wanted.iter().enumerate().map(|(c, w)| map(c, *w)).collect();
        let scales = weight.coded.scales();
        let free = moment == Moment::Spread && scales.len() == wanted.len();
        let gain = |c: usize| {
            let ratio = wanted[c][1] / found[c][1];
            let usable = free && ratio.is_normal();
            if usable { ratio.clamp(1.0 / GAIN_MAX, GAIN_MAX) } else { 1.0 }
        };
        let gains: Vec<f64> = (0..wanted.len()).map(gain).collect();
        let values = (0..wanted.len())
            .map(|c| (wanted[c][0] + gains[c] * (f64::from(bias[c]) - found[c][0])) as f32);
        let values: Vec<f32> = values.collect();
        if free {
            let scales = scales.iter().zip(&gains).map(|(s, g)| (f64::from(*s) * g) as f32);
            let coded = weight.coded.with_scales(scales.collect());
            let named = |source| PtqError::Value { name: node.name.clone(), source };
            let coded = coded.map_err(named)?;
            corrected.set_weight(index, coded);
        }
        corrected.set_bias(index, values);
        let error = [shift(&wanted, &found), 0.0];
        reports.push(UnitReport { name: node.name.clone(), error, images: samples.len() });
    }
    Ok((corrected, reports))
}

/// The mean over channels of the squared shift of the mean, in units of the variance.
fn shift(wanted: &[[f64; 2]], found: &[[f64; 2]]) -> f64 {
    let square = |(w, f): (&[f64; 2], &[f64; 2])| ((f[0] - w[0]) / w[1].max(1e-12)).powi(2);
    wanted.iter().zip(found).map(square).sum::<f64>() / wanted.len().max(1) as f64
}

/// Mean and deviation per channel of a layer's result before its activation.
fn measure(
    graph: &Graph,
    name: &str,
    samples: &dyn Samples,
    progress: Progress<'_>,
) -> Result<Option<Vec<[f64; 2]>>, PtqError> {
    let Some((part, output)) = bare(graph, name) else { return Ok(None) };
    let session = Session::new(&part.between(part.inputs.clone(), vec![output]))?;
    let mut sums: Vec<[f64; 2]> = vec![];
    let mut count = 0;
    for first in (0..samples.len()).step_by(UNDER_WAY) {
        let indices: Vec<usize> = (first..(first + UNDER_WAY).min(samples.len())).collect();
        let one = |&index: &usize| {
            let image = samples.get(index);
            let image = image.map_err(|source| PtqError::Sample { index, source })?;
            let made = session.run(&[image], &mut Workspace::serial())?;
            progress(1);
            Ok(crate::zeroq::channel_sums(&made[0]))
        };
        let parts: Vec<(Vec<[f64; 2]>, usize)> =
            indices.par_iter().map(one).collect::<Result<_, PtqError>>()?;
        for (part, elements) in parts {
            sums.resize(part.len(), [0.0; 2]);
            sums.iter_mut().zip(&part).for_each(|(s, p)| *s = [s[0] + p[0], s[1] + p[1]]);
            count += elements;
        }
    }
    let count = count.max(1) as f64;
    let moments = |s: &[f64; 2]| {
        let mean = s[0] / count;
        [mean, (s[1] / count - mean * mean).max(0.0).sqrt()]
    };
    Ok(Some(sums.iter().map(moments).collect()))
}

/// The graph with one layer's activation taken off, and that layer's result.
fn bare(graph: &Graph, name: &str) -> Option<(Graph, ValueId)> {
    let mut part = graph.clone();
    let node = part.nodes.iter_mut().find(|node| node.name == name)?;
    match &mut node.op {
        Op::Conv(conv) => conv.activation = Activation::None,
        Op::Gemm(gemm) => gemm.activation = Activation::None,
        _ => return None,
    }
    let output = node.output();
    Some((part, output))
}

#[cfg(test)]
mod tests;
