//! Calibration without images: DFQ's activation ranges from BatchNormalization (Nagel et al. 2019, arXiv:1906.04721, sections 4.2
//! and 5).
//!
//! A normalization says that channel c of what it makes is about N(β_c, γ_c²). Each channel of each value is stood for by the same
//! number of samples: quantiles of that normal, in an order of their own. What the network does to an element is done to the samples
//! (activations, sums of values that count as independent); pooling and reshaping leave them; layers without normalization make
//! normals whose moments follow from those of their input. So ranges come out of the same rules as with images, and the means that
//! bias correction wants are those of clipped normals, as in the paper.
//!
//! Differs from the paper: ranges are not β ± 6γ but what the recipe's rule makes of the samples.

use std::collections::HashMap;

use lowbit_graph::{Activation, Graph, Inputs, Node, Op, ValueId, Workspace};
use lowbit_quant::{Histogram, RangeRule, Statistics};
use lowbit_tensor::{Rng, Tensor};

use crate::assignment::weighted;
use crate::insert::Rows;
use crate::pairs::input_channel;
use crate::{BatchNormStatistics, Calibration, ChannelStatistics, Normal, Plan, PtqError};

/// Samples of each channel.
const SAMPLES: usize = 512;

/// What calibration would have found on the images that the normalizations remember. `limits` are the smallest and largest values of each
/// channel of the image, or one pair for all.
///
/// # Errors
/// `NoBatchNorm` without statistics, `Unreached` where they do not reach a value that is quantized.
pub fn calibrate_from_statistics(
    graph: &Graph,
    plan: &Plan,
    statistics: &BatchNormStatistics,
    (rule, limits): (RangeRule, &[(f32, f32)]),
) -> Result<Calibration, PtqError> {
    if statistics.is_empty() {
        return Err(PtqError::NoBatchNorm);
    }
    let mut known = Known { values: HashMap::new(), table: normal_quantiles(), rng: Rng::new(0) };
    known.image(graph, limits);
    for node in &graph.nodes {
        if let Some(samples) = known.node(graph, node, statistics) {
            known.values.insert(node.output(), samples);
        }
    }
    let mut found = Calibration {
        statistics: vec![],
        rule,
        channels: std::collections::BTreeMap::new(),
        means: std::collections::BTreeMap::new(),
    };
    for (i, group) in plan.groups.iter().enumerate() {
        let samples = known.values.get(&group.root).ok_or_else(|| PtqError::Unreached {
            value: graph.value_name(group.root).to_owned(),
        })?;
        found.statistics.push(summary(samples, rule));
        if group.absorbers.is_some() {
            let ranges = samples.iter().map(|channel| lowbit_graph::minmax(channel)).collect();
            found.channels.insert(i, ChannelStatistics { ranges, plane: plane(graph, group.root) });
        }
    }
    for node in graph.nodes.iter().filter(|node| weighted(graph, node)) {
        let Some(input) = node.input(0) else { continue };
        let Some(samples) = known.values.get(&input) else { continue };
        found.means.insert(input, samples.iter().map(|channel| moments(channel).0).collect());
    }
    Ok(found)
}

/// Elements a channel has: 1 behind global pooling, else more.
fn plane(graph: &Graph, value: ValueId) -> usize {
    let maker = graph.nodes.iter().find(|node| node.outputs.contains(&Some(value)));
    match maker {
        Some(node) if matches!(node.op, Op::GlobalAveragePool | Op::GlobalMaxPool) => 1,
        _ => 2,
    }
}

fn summary(samples: &[Vec<f32>], rule: RangeRule) -> Statistics {
    let mut statistics = Statistics::default();
    let mut histogram = Histogram::default();
    for channel in samples {
        let (low, high) = lowbit_graph::minmax(channel);
        statistics.add_extremes(low, high, &rule);
        if rule.needs_histogram() {
            histogram.add(channel);
        }
    }
    // The extremes of all channels are those of one image: an average over channels would mean nothing.
    statistics.average = statistics.average.map(|_| (statistics.min, statistics.max));
    statistics.histogram = histogram;
    statistics
}

/// Mean and variance.
fn moments(samples: &[f32]) -> (f64, f64) {
    let count = samples.len().max(1) as f64;
    let mean = samples.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let square = samples.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>();
    (mean, square / count)
}

/// Φ⁻¹((k + ½) / n) for every k: the density summed up by trapezoids.
fn normal_quantiles() -> Vec<f32> {
    const STEP: f64 = 1e-3;
    let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let (mut x, mut below) = (-8.0, 0.0);
    let quantile = |k: usize| {
        let wanted = (k as f64 + 0.5) / SAMPLES as f64;
        loop {
            let more = 0.5 * STEP * (density(x) + density(x + STEP));
            if below + more >= wanted {
                return (x + STEP * (wanted - below) / more) as f32;
            }
            below += more;
            x += STEP;
        }
    };
    (0..SAMPLES).map(quantile).collect()
}

/// The samples of each value that statistics reach, per channel.
struct Known {
    values: HashMap<ValueId, Vec<Vec<f32>>>,
    table: Vec<f32>,
    rng: Rng,
}

impl Known {
    /// The image is anything within its limits.
    fn image(&mut self, graph: &Graph, limits: &[(f32, f32)]) {
        let Some(input) = graph.inputs.first() else { return };
        let channels = input.dims.get(1).copied().flatten().unwrap_or(limits.len());
        let uniform = |c: usize| {
            let (low, high) = *limits.get(c).or(limits.first()).unwrap_or(&(-1.0, 1.0));
            let at = |k: usize| low + (high - low) * k as f32 / (SAMPLES - 1) as f32;
            (0..SAMPLES).map(at).collect::<Vec<f32>>()
        };
        let samples = (0..channels).map(uniform).collect();
        self.values.insert(input.value, samples);
    }

    /// Quantiles in an order of their own: values made apart count as independent.
    fn normals(&mut self, channels: &[Normal]) -> Vec<Vec<f32>> {
        let one = |normal: &Normal| {
            let order = self.rng.sample(SAMPLES, SAMPLES);
            order.iter().map(|&k| normal.mean + normal.deviation * self.table[k]).collect()
        };
        channels.iter().map(one).collect()
    }

    /// The samples of what a node makes, where they follow from what it reads.
    fn node(
        &mut self,
        graph: &Graph,
        node: &Node,
        statistics: &BatchNormStatistics,
    ) -> Option<Vec<Vec<f32>>> {
        if weighted(graph, node) {
            let normals = match statistics.layers.get(&node.name) {
                Some(normals) => normals.clone(),
                None => self.layer(graph, node)?,
            };
            return Some(activated(node, self.normals(&normals)));
        }
        match &node.op {
            Op::Binary(binary) if binary.is_comparison() => None,
            Op::Unary(_) | Op::Clip | Op::PRelu | Op::Binary(_) => self.elementwise(graph, node),
            Op::Pad(_) => self.padded(graph, node),
            Op::Concat(concat) if concat.axis == 1 => {
                let parts = node.inputs.iter().flatten().map(|v| self.values.get(v).cloned());
                Some(parts.collect::<Option<Vec<_>>>()?.concat())
            }
            Op::AveragePool(_) | Op::GlobalAveragePool | Op::GlobalMaxPool => {
                self.values.get(&node.input(0)?).cloned()
            }
            op if op.moves_elements() && !matches!(op, Op::Transpose(_) | Op::Gather(_)) => {
                self.values.get(&node.input(0)?).cloned()
            }
            _ => None,
        }
    }

    /// A layer without normalization: E[y] = Σ w·E[x] + b, Var[y] = Σ w²·Var[x].
    fn layer(&self, graph: &Graph, node: &Node) -> Option<Vec<Normal>> {
        let read = self.values.get(&node.input(0)?)?;
        let rows = Rows::of(graph, node)?;
        let of_inputs: Vec<(f64, f64)> = read.iter().map(|channel| moments(channel)).collect();
        let channel = input_channel(&node.op, &rows, read.len());
        let mut sums = vec![(0.0, 0.0); rows.channels()];
        for (i, &w) in rows.values.iter().enumerate() {
            let (mean, variance) = *of_inputs.get(channel(i))?;
            let (w, sum) = (f64::from(w), &mut sums[i / rows.per_channel()]);
            *sum = (sum.0 + w * mean, sum.1 + w * w * variance);
        }
        let bias = graph.constant_input(node, 2).map(|bias| bias.f32s().to_vec());
        let normal = |(c, (mean, variance)): (usize, (f64, f64))| {
            let bias = bias.as_ref().and_then(|bias| bias.get(c)).copied().unwrap_or(0.0);
            Normal { mean: mean as f32 + bias, deviation: variance.sqrt() as f32 }
        };
        Some(sums.into_iter().enumerate().map(normal).collect())
    }

    /// Runs the operator on the samples, as an image of one column.
    fn elementwise(&self, graph: &Graph, node: &Node) -> Option<Vec<Vec<f32>>> {
        let operand = |value: &Option<ValueId>| -> Option<Option<Tensor>> {
            let Some(value) = value else { return Some(None) };
            if let Some(constant) = graph.constant(*value) {
                return Some(Some(constant.as_ref().clone()));
            }
            let samples = self.values.get(value)?;
            Some(Some(Tensor::new([1, samples.len(), SAMPLES, 1], samples.concat())))
        };
        let operands: Vec<Option<Tensor>> =
            node.inputs.iter().map(operand).collect::<Option<_>>()?;
        let inputs: Vec<Option<&Tensor>> = operands.iter().map(Option::as_ref).collect();
        let made = node.op.forward(&Inputs(&inputs), &mut Workspace::serial()).ok()?;
        let made = made.first().filter(|t| t.len().is_multiple_of(SAMPLES) && t.rank() == 4)?;
        Some(made.f32s().chunks(SAMPLES).map(<[f32]>::to_vec).collect())
    }

    /// Channels that Pad adds hold its constant; spatial padding is not counted.
    fn padded(&self, graph: &Graph, node: &Node) -> Option<Vec<Vec<f32>>> {
        let samples = self.values.get(&node.input(0)?)?.clone();
        let pads = graph.constant_input(node, 1)?.to_i64()?;
        let constant = graph.constant_input(node, 2).map_or(0.0, |v| v.f32s()[0]);
        let count = |i: usize| usize::try_from(*pads.get(i).unwrap_or(&0)).ok();
        let (before, after) = (count(1)?, count(pads.len() / 2 + 1)?);
        let filled = |n: usize| vec![vec![constant; SAMPLES]; n];
        Some([filled(before), samples, filled(after)].concat())
    }
}

/// What the activation that is part of a layer makes of its samples.
fn activated(node: &Node, mut samples: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    let activation = match &node.op {
        Op::Conv(conv) => conv.activation,
        Op::Gemm(gemm) => gemm.activation,
        _ => Activation::None,
    };
    let (low, high) = match activation {
        Activation::None => return samples,
        Activation::Relu => (0.0, f32::INFINITY),
        Activation::Clip { min, max } => (min, max),
    };
    samples.iter_mut().flatten().for_each(|x| *x = x.max(low).min(high));
    samples
}

#[cfg(test)]
mod tests;
