//! Cross-layer equalization and bias absorption: DFQ (Nagel et al. 2019, arXiv:1906.04721, section 4.1). Float graph in, float
//! graph out.
//!
//! A positive factor per channel passes through ReLU: relu(W₁x + b₁) with the rows of W₁ and b₁ divided by s, read by W₂ with its
//! columns multiplied by s, is the same function. With rᵢ⁽¹⁾ the largest weight of row i of W₁ and rᵢ⁽²⁾ that of column i of
//! W₂, factors are chosen so that R₁·R₂ with R₁ = maxᵢ rᵢ⁽¹⁾/sᵢ and R₂ = maxᵢ rᵢ⁽²⁾·sᵢ is least: no channel is rounded with a scale
//! that only another one needs. This is repeated over all pairs until no factor is far from 1. Then, where a channel's pre-activation
//! lies c = max(0, β - 3γ) above zero all but never passed below, c moves into the bias of the layer behind.
//!
//! Differs from the paper:
//! - The paper's sᵢ = √(rᵢ⁽¹⁾·rᵢ⁽²⁾)/rᵢ⁽²⁾ also makes R₁·R₂ least, where every channel may move. Where some may not, it widens a
//!   layer for channels that a fixed one makes wide anyway. Here the factors are those nearest to 1 among the best.
//! - No factor passes through ReLU6: replacing it by ReLU, as the paper does, is another function (`docs/data-free.md`). So a channel moves only as far as it stays below the clip ([`Ceiling::Bound`]).
//! - A bias is absorbed only where the layer behind pads nothing, since padding does not carry c.

use lowbit_graph::{Activation, AutoPad, Graph, Node, Op};
use serde::{Deserialize, Serialize};

use crate::insert::Rows;
use crate::pairs::{Pair, bias_of, groups, input_channel, pairs, set_bias, set_rows};
use crate::{BatchNormStatistics, Normal};

/// How [`equalize`] goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Equalization {
    /// What becomes of a clip at a positive limit between two layers.
    pub ceiling: Ceiling,
    /// Whether biases are absorbed.
    pub absorb: bool,
}

/// What becomes of a clip at a positive limit, such as ReLU6, between two layers: no factor passes through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ceiling {
    /// It is replaced by ReLU, as in the paper: another function wherever the limit was reached.
    Replace,
    /// Channels that BatchNormalization says stay below the limit (β + 3γ) are scaled as far as they still do; the others are left
    /// alone. Without statistics all are.
    Bound,
    /// Such pairs are left alone.
    Skip,
}

impl Equalization {
    /// The paper's, with clips kept.
    pub const DFQ: Equalization = Equalization { ceiling: Ceiling::Bound, absorb: true };
}

/// Sweeps over all pairs at most.
const SWEEPS_MAX: usize = 50;
/// Factors this close to 1 end the sweeps.
const CLOSE: f32 = 1e-3;
/// A channel is all but always within this many standard deviations of its mean (the paper's 3: 99.865 % on either side).
const REACH: f32 = 3.0;
/// Channels whose largest weight is smaller carry nothing.
const RANGE_LEAST: f32 = 1e-12;
/// Ranges of the first layer that are tried, in steps from its present one.
const STEPS: (i32, i32) = (-300, 100);
const STEPS_PER_OCTAVE: f32 = 20.0;
/// What moving the range by an octave costs, in octaves of the product: enough to decide between equals.
const CHANGE_COST: f32 = 0.01;

/// Equalizes all pairs of layers and absorbs biases, with the statistics that then hold.
#[must_use]
pub fn equalize(
    graph: &Graph,
    statistics: &BatchNormStatistics,
    settings: Equalization,
) -> (Graph, BatchNormStatistics) {
    let (mut graph, mut statistics) = (graph.clone(), statistics.clone());
    let mut found = vec![];
    for pair in pairs(&graph) {
        if settings.ceiling == Ceiling::Replace {
            replace_ceiling(&mut graph.nodes[pair.first]);
        }
        let (ceiling, passes) = ceiling_of(&graph.nodes[pair.first]);
        if passes && (ceiling.is_none() || settings.ceiling == Ceiling::Bound) {
            found.push((pair, ceiling));
        }
    }
    for _ in 0..SWEEPS_MAX {
        let mut furthest = 0.0f32;
        for &(pair, ceiling) in &found {
            let limits = ceiling.map(|ceiling| (ceiling, &statistics));
            let factors = factors(&channels(&graph, pair, limits));
            furthest = factors.iter().fold(furthest, |m, s| m.max(s.ln().abs()));
            scale(&mut graph, &mut statistics, (pair, &factors));
        }
        if furthest < CLOSE {
            break;
        }
    }
    if settings.absorb {
        found
            .iter()
            .for_each(|&(pair, ceiling)| absorb(&mut graph, &mut statistics, pair, ceiling));
    }
    graph.remove_dead();
    (graph, statistics)
}

fn replace_ceiling(node: &mut Node) {
    let activation = match &mut node.op {
        Op::Conv(conv) => &mut conv.activation,
        Op::Gemm(gemm) => &mut gemm.activation,
        _ => return,
    };
    if matches!(activation, Activation::Clip { min: 0.0, .. }) {
        *activation = Activation::Relu;
    }
}

/// The limit of the activation that is part of a layer, and whether factors pass below it.
fn ceiling_of(node: &Node) -> (Option<f32>, bool) {
    let activation = match &node.op {
        Op::Conv(conv) => conv.activation,
        Op::Gemm(gemm) => gemm.activation,
        _ => return (None, false),
    };
    match activation {
        Activation::None | Activation::Relu => (None, true),
        Activation::Clip { min, max } => (Some(max), min == 0.0 && max > 0.0),
    }
}

/// What a pair's factors are found from, per channel.
struct Channel {
    /// Largest weights of its row in the first layer and of its column in the second.
    ranges: [f32; 2],
    /// The factor is at least this: below it the clip would cut what it did not cut before. `None` where it must be 1.
    least: Option<f32>,
}

/// The channels between two layers.
fn channels(
    graph: &Graph,
    pair: Pair,
    limits: Option<(f32, &BatchNormStatistics)>,
) -> Vec<Channel> {
    let (first, second) = (&graph.nodes[pair.first], &graph.nodes[pair.second]);
    let (Some(made), Some(read)) = (Rows::of(graph, first), Rows::of(graph, second)) else {
        return vec![];
    };
    let largest = |row: &[f32]| row.iter().fold(0.0f32, |m, w| m.max(w.abs()));
    let rows: Vec<f32> = made.values.chunks(made.per_channel()).map(largest).collect();
    let mut columns = vec![0.0f32; rows.len()];
    let channel = input_channel(&second.op, &read, rows.len());
    for (i, w) in read.values.iter().enumerate() {
        columns[channel(i)] = columns[channel(i)].max(w.abs());
    }
    let least = |c: usize| match limits {
        None => Some(0.0),
        Some((ceiling, statistics)) => {
            let normal = statistics.layers.get(&first.name)?.get(c)?;
            let top = normal.mean + REACH * normal.deviation;
            (top < ceiling).then_some((top / ceiling).max(0.0))
        }
    };
    let one = |c: usize| {
        let ranges = [rows[c], columns[c]];
        let usable = ranges.iter().all(|&range| range > RANGE_LEAST);
        Channel { ranges, least: least(c).filter(|_| usable) }
    };
    (0..rows.len()).map(one).collect()
}

/// The factors nearest to 1 of those under which the product of the layers' largest weights is least.
fn factors(channels: &[Channel]) -> Vec<f32> {
    let widest = channels.iter().map(|c| c.ranges[0]).fold(0.0, f32::max);
    let fixed = channels.iter().filter(|c| c.least.is_none());
    let fixed = fixed.map(|c| c.ranges[0]).fold(0.0, f32::max);
    let least = |c: &Channel, r1: f32| c.least.map_or(1.0, |least| least.max(c.ranges[0] / r1));
    let second = |r1: f32| {
        channels.iter().map(|c| c.ranges[1] * least(c, r1)).fold(f32::MIN_POSITIVE, f32::max)
    };
    let mut best = (f32::INFINITY, widest);
    for step in STEPS.0..=STEPS.1 {
        let octaves = step as f32 / STEPS_PER_OCTAVE;
        let r1 = widest * octaves.exp2();
        if r1 < fixed * (1.0 - CLOSE) {
            continue;
        }
        let cost = r1.log2() + second(r1).log2() + CHANGE_COST * octaves.abs();
        if cost < best.0 {
            best = (cost, r1);
        }
    }
    let (r1, r2) = (best.1, second(best.1));
    let factor = |c: &Channel| {
        if c.least.is_none() {
            return 1.0;
        }
        let least = least(c, r1);
        1f32.max(least).min((r2 / c.ranges[1]).max(least))
    };
    channels.iter().map(factor).collect()
}

/// Divides what `first` makes by the factors and multiplies what `second` reads by them.
fn scale(graph: &mut Graph, statistics: &mut BatchNormStatistics, (pair, factors): (Pair, &[f32])) {
    let (first, second) = (&graph.nodes[pair.first], &graph.nodes[pair.second]);
    let (Some(mut made), Some(mut read)) = (Rows::of(graph, first), Rows::of(graph, second)) else {
        return;
    };
    if let Some(normals) = statistics.layers.get_mut(&first.name) {
        for (normal, s) in normals.iter_mut().zip(factors) {
            *normal = Normal { mean: normal.mean / s, deviation: normal.deviation / s };
        }
    }
    read.scale_inputs(&second.op, Some(factors));
    let per_channel = made.per_channel();
    for (row, s) in made.values.chunks_mut(per_channel).zip(factors) {
        row.iter_mut().for_each(|w| *w /= s);
    }
    if let Some(mut bias) = bias_of(graph, pair.first) {
        bias.iter_mut().zip(factors).for_each(|(b, s)| *b /= s);
        set_bias(graph, pair.first, bias);
    }
    set_rows(graph, pair.first, made);
    set_rows(graph, pair.second, read);
}

/// Moves what a channel always has above zero into the bias of the layer behind.
fn absorb(
    graph: &mut Graph,
    statistics: &mut BatchNormStatistics,
    pair: Pair,
    ceiling: Option<f32>,
) {
    let (first, second) = (&graph.nodes[pair.first], &graph.nodes[pair.second]);
    let relu = ceiling.is_some() || activation_is_relu(first);
    let direct = graph.only_consumer(first.output()) == Some(pair.second);
    let Some(normals) = statistics.layers.get_mut(&first.name) else { return };
    let Some(read) = Rows::of(graph, second).filter(|_| relu && direct && !pads(second)) else {
        return;
    };
    let height = |normal: &Normal| {
        let free = ceiling.is_none_or(|c| normal.mean + REACH * normal.deviation < c);
        if free { (normal.mean - REACH * normal.deviation).max(0.0) } else { 0.0 }
    };
    let heights: Vec<f32> = normals.iter().map(height).collect();
    let Some(mut made) = bias_of(graph, pair.first) else { return };
    let channel = input_channel(&second.op, &read, heights.len());
    let mut moved = bias_of(graph, pair.second).unwrap_or_else(|| vec![0.0; read.channels()]);
    for (i, w) in read.values.iter().enumerate() {
        moved[i / read.per_channel()] += w * heights[channel(i)];
    }
    made.iter_mut().zip(&heights).for_each(|(b, c)| *b -= c);
    normals.iter_mut().zip(&heights).for_each(|(normal, c)| normal.mean -= c);
    set_bias(graph, pair.first, made);
    set_bias(graph, pair.second, moved);
}

fn activation_is_relu(node: &Node) -> bool {
    match &node.op {
        Op::Conv(conv) => conv.activation == Activation::Relu,
        Op::Gemm(gemm) => gemm.activation == Activation::Relu,
        _ => false,
    }
}

/// Whether a layer reads zeros beside what it is given.
fn pads(node: &Node) -> bool {
    match &node.op {
        Op::Conv(conv) => match conv.auto_pad {
            AutoPad::Explicit => conv.pads != [0; 4],
            AutoPad::Valid => false,
            AutoPad::SameUpper | AutoPad::SameLower => {
                groups(&node.op) > 1 || conv.kernel != Some([1, 1])
            }
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests;
