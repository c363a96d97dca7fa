//! Layers of which one alone reads the other, through nothing but operators that a positive factor per channel passes through.

use lowbit_graph::{Graph, Node, Op, Unary, ValueId};
use lowbit_tensor::Tensor;

use crate::assignment::weighted;
use crate::insert::{Rows, turn};

/// Two layers: the channels that `first` makes are read by `second` alone. Indices of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) first: usize,
    pub(crate) second: usize,
}

/// All pairs, in graph order. Whether a factor passes the activation that is part of `first` is for the caller to see.
pub(crate) fn pairs(graph: &Graph) -> Vec<Pair> {
    let layers = (0..graph.nodes.len()).filter(|&i| plain(graph, &graph.nodes[i]));
    layers
        .filter_map(|first| {
            let second = reader(graph, graph.nodes[first].output())?;
            let made = Rows::of(graph, &graph.nodes[first])?.channels();
            let groups = groups(&graph.nodes[second].op);
            let rows = Rows::of(graph, &graph.nodes[second])?;
            // Each channel is read by a whole number of weights of a row.
            let fits = made.is_multiple_of(groups) && rows.per_channel() % (made / groups) == 0;
            fits.then_some(Pair { first, second })
        })
        .collect()
}

/// The layer that alone reads `value`.
fn reader(graph: &Graph, value: ValueId) -> Option<usize> {
    let index = graph.only_consumer(value)?;
    let node = &graph.nodes[index];
    if node.input(0) != Some(value) {
        return None;
    }
    if plain(graph, node) {
        return Some(index);
    }
    let zero_padding = || {
        let value = graph.constant_input(node, 2);
        value.is_none_or(|v| v.f32s().iter().all(|&x| x == 0.0))
    };
    let passes = match &node.op {
        Op::MaxPool(_) | Op::AveragePool(_) | Op::GlobalAveragePool | Op::Flatten(_) => true,
        Op::Unary(Unary::Relu | Unary::LeakyRelu { .. }) => true,
        Op::Pad(_) => zero_padding(),
        _ => false,
    };
    if passes { reader(graph, node.output()) } else { None }
}

/// A layer whose weight and bias are constants that a factor can be multiplied into.
fn plain(graph: &Graph, node: &Node) -> bool {
    let constant_bias = node.input(2).is_none() || graph.constant_input(node, 2).is_some();
    let scaled =
        matches!(&node.op, Op::Gemm(g) if g.alpha != 1.0 || g.beta != 1.0 || g.transpose_a);
    weighted(graph, node) && constant_bias && !scaled
}

/// Groups of a convolution.
pub(crate) fn groups(op: &Op) -> usize {
    if let Op::Conv(conv) = op { conv.groups.max(1) } else { 1 }
}

/// The input channel of each weight of a row-major weight whose node reads `channels` channels.
pub(crate) fn input_channel(
    op: &Op,
    rows: &Rows,
    channels: usize,
) -> impl Fn(usize) -> usize + use<> {
    let groups = groups(op);
    let (per_row, per_group) = (rows.per_channel(), (channels / groups).max(1));
    let taps = (per_row / per_group).max(1);
    let rows_per_group = (rows.channels() / groups).max(1);
    move |i| i / per_row / rows_per_group * per_group + i % per_row / taps
}

/// Replaces the weight of a node by rows, under a name of its own.
pub(crate) fn set_rows(graph: &mut Graph, index: usize, rows: Rows) {
    let mut shape = rows.shape.clone();
    let values = if rows.turned {
        shape.reverse();
        turn(&rows.values, rows.values.len() / rows.shape[0].max(1))
    } else {
        rows.values
    };
    let name = format!("{}_weight", graph.nodes[index].name);
    let value = graph.add_constant(&name, Tensor::new(shape, values));
    graph.nodes[index].inputs[1] = Some(value);
}

/// The bias of a node, one number per output channel.
pub(crate) fn bias_of(graph: &Graph, index: usize) -> Option<Vec<f32>> {
    graph.constant_input(&graph.nodes[index], 2).map(|bias| bias.f32s().to_vec())
}

/// Replaces the bias of a node, under a name of its own.
pub(crate) fn set_bias(graph: &mut Graph, index: usize, bias: Vec<f32>) {
    let name = format!("{}_bias", graph.nodes[index].name);
    let value = graph.add_constant(&name, Tensor::vector(bias));
    let inputs = &mut graph.nodes[index].inputs;
    inputs.resize(inputs.len().max(3), None);
    inputs[2] = Some(value);
}
