//! Outlier channel splitting: OCS (Zhao et al. 2019, arXiv:1901.09504). Float graph in, a slightly wider float graph out.
//!
//! The input channel that holds a layer's largest weight is doubled and its weights are halved: the function is the same and the
//! range, and with it the rounding step of a scale per tensor, smaller. Again and again, until a share of channels is new.
//!
//! ```text
//! w·x = (w - Δ/2)/2·x + (w + Δ/2)/2·x
//! ```
//! The Δ/2 (Δ: the step that the layer had at `bits` bits before) keeps the sum of both roundings that of w alone, as in the paper.
//!
//! Differs from the paper: channels are doubled only where one ungrouped layer alone reads those of another ([`crate::equalize`] has
//! the same pairs), whose rows are doubled with them.

use lowbit_graph::{Graph, Node};
use serde::{Deserialize, Serialize};

use crate::insert::Rows;
use crate::pairs::{Pair, bias_of, groups, input_channel, pairs, set_bias, set_rows};
use crate::{BatchNormStatistics, Normal};

/// How [`split_outliers`] goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OutlierSplitting {
    /// Share of a layer's channels that are new.
    pub share: f32,
    /// Bits of the weights to come.
    pub bits: u8,
}

impl OutlierSplitting {
    /// One channel in twenty, for 8 bits.
    pub const USUAL: OutlierSplitting = OutlierSplitting { share: 0.05, bits: 8 };
}

/// Splits the outliers of every pair of ungrouped layers, with the statistics that then hold.
#[must_use]
pub fn split_outliers(
    graph: &Graph,
    statistics: &BatchNormStatistics,
    settings: OutlierSplitting,
) -> (Graph, BatchNormStatistics) {
    let (mut graph, mut statistics) = (graph.clone(), statistics.clone());
    for pair in pairs(&graph) {
        if [pair.first, pair.second].iter().all(|&i| groups(&graph.nodes[i].op) == 1) {
            let name = graph.nodes[pair.first].name.clone();
            let normals = statistics.layers.get_mut(&name);
            split(&mut graph, normals, (pair, settings));
        }
    }
    graph.remove_dead();
    (graph, statistics)
}

fn split(
    graph: &mut Graph,
    mut normals: Option<&mut Vec<Normal>>,
    (pair, settings): (Pair, OutlierSplitting),
) {
    let (first, second) = (&graph.nodes[pair.first], &graph.nodes[pair.second]);
    let (Some(mut made), Some(mut read)) = (Rows::of(graph, first), Rows::of(graph, second)) else {
        return;
    };
    let mut bias = bias_of(graph, pair.first);
    let channels = made.channels();
    let widest = read.values.iter().fold(0.0f32, |m, w| m.max(w.abs()));
    let levels = (1u32 << (settings.bits - 1)) - 1;
    let half_step = 0.5 * widest / levels.max(1) as f32;
    let new = (settings.share * channels as f32).ceil() as usize;
    for _ in 0..new {
        let outlier = outlier(second, &read, made.channels());
        double_row(&mut made, outlier);
        if let Some(normals) = &mut normals {
            normals.extend(normals.get(outlier).copied());
        }
        if let Some(bias) = &mut bias {
            bias.push(bias[outlier]);
        }
        read = split_column(&read, (outlier, made.channels() - 1), half_step);
    }
    set_rows(graph, pair.first, made);
    set_rows(graph, pair.second, read);
    if let Some(bias) = bias {
        set_bias(graph, pair.first, bias);
    }
}

/// The input channel of the largest weight.
fn outlier(node: &Node, read: &Rows, channels: usize) -> usize {
    let channel = input_channel(&node.op, read, channels);
    let largest = read.values.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
    largest.map_or(0, |(i, _)| channel(i))
}

/// The same row once more, behind the others.
fn double_row(rows: &mut Rows, row: usize) {
    let per_channel = rows.per_channel();
    let copy = rows.values[row * per_channel..(row + 1) * per_channel].to_vec();
    rows.values.extend(copy);
    rows.shape[0] += 1;
}

/// Half of column `from` in its place, half behind the others; there are `columns` before.
fn split_column(read: &Rows, (from, columns): (usize, usize), half_step: f32) -> Rows {
    let per_channel = read.per_channel();
    let taps = per_channel / columns.max(1);
    let mut values = Vec::with_capacity(read.values.len() + read.channels() * taps);
    for row in read.values.chunks(per_channel) {
        let column = from * taps..(from + 1) * taps;
        values.extend(
            row.iter().enumerate().map(
                |(i, &w)| {
                    if column.contains(&i) { 0.5 * (w - half_step) } else { w }
                },
            ),
        );
        values.extend(row[column].iter().map(|w| 0.5 * (w + half_step)));
    }
    let mut shape = read.shape.clone();
    shape[1] += per_channel_of(&read.shape, columns);
    Rows { values, shape, turned: read.turned }
}

/// How many entries of the second axis a channel has: taps that were flattened into it.
fn per_channel_of(shape: &[usize], columns: usize) -> usize {
    shape[1] / columns.max(1)
}

#[cfg(test)]
mod tests {
    use lowbit_graph::{Activation, Session, Workspace};
    use lowbit_quant::{Granularity, Quantizer, RangeRule};

    use super::{
        BatchNormStatistics, Graph, Node, OutlierSplitting, Rows, set_rows, split_outliers,
    };
    use crate::tests::{Net, Noise, errors};
    use crate::{Assignment, Layer, Plan, Rounding, Samples, calibrate, quantize};

    fn chain() -> Graph {
        let (mut net, x) = Net::new();
        let a = net.conv(x, 3, Activation::Relu);
        let b = net.conv(a, 3, Activation::Relu);
        let y = net.conv(b, 1, Activation::None);
        let mut graph = net.finish(y);
        let mut rows = Rows::of(&graph, &graph.nodes[1]).unwrap();
        rows.values[13] *= 10.0;
        set_rows(&mut graph, 1, rows);
        graph
    }

    fn split(graph: &Graph) -> Graph {
        split_outliers(graph, &BatchNormStatistics::default(), OutlierSplitting::USUAL).0
    }

    fn outputs(graph: &Graph) -> Vec<f32> {
        let session = Session::new(graph).unwrap();
        let image = Noise(1).get(0).unwrap();
        session.run(&[image], &mut Workspace::serial()).unwrap()[0].f32s().to_vec()
    }

    fn db(graph: &Graph) -> f64 {
        let plan = Plan::new(graph, false).unwrap();
        let calibration = calibrate(graph, &plan, &Noise(8), RangeRule::MinMax, &|_| {}).unwrap();
        let int8 = Quantizer::preset("int8").unwrap();
        let weights = Quantizer { granularity: Granularity::Tensor, ..int8 };
        let layer = |_: &Node, _| Layer { weights: weights.clone(), activation_bits: 8 };
        let rounding = Rounding::new(Assignment::new(graph, layer), 0);
        let quantized = quantize(graph, &plan, &calibration, &rounding).unwrap();
        errors(graph, &quantized).last().unwrap().sqnr_db
    }

    #[test]
    fn the_function_stays_and_the_range_halves() {
        let graph = chain();
        let after = split(&graph);
        let widest = |graph: &Graph| {
            let rows = Rows::of(graph, &graph.nodes[1]).unwrap();
            (rows.values.iter().fold(0.0f32, |m, w| m.max(w.abs())), rows.shape[1])
        };
        assert_eq!(widest(&after).1, 5);
        assert!(widest(&after).0 < 0.52 * widest(&graph).0);
        let (old, new) = (outputs(&graph), outputs(&after));
        assert!(old.iter().zip(&new).all(|(a, b)| (a - b).abs() < 1e-4), "{old:?}\n{new:?}");
    }

    #[test]
    fn one_scale_a_layer_gets_closer() {
        let graph = chain();
        let (old, new) = (db(&graph), db(&split(&graph)));
        assert!(new > old, "{old} dB before, {new} dB after");
    }
}
