//! Writes equivalent operators in the one form that quantizes well.

use lowbit_tensor::Tensor;

use super::Trace;
use crate::{Activation, Binary, Gemm, Graph, GraphError, Node, Op, ReduceKind, ValueId};

/// MatMul with a constant matrix becomes Gemm; an Add of constants per channel goes into the bias before it; a mean over both spatial axes
/// becomes GlobalAveragePool.
///
/// # Errors
/// None of its own.
pub fn normalize_linear(graph: &Graph, trace: &Trace) -> Result<Graph, GraphError> {
    let mut normal = graph.clone();
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        match &node.op {
            Op::MatMul => matmul_to_gemm(&mut normal, trace, index),
            Op::Reduce(reduce) if reduce.kind == ReduceKind::Mean => {
                mean_to_pool(&mut normal, trace, index);
            }
            _ => {}
        }
    }
    // Backwards: an Add that goes stands behind its Gemm, so that the places before keep their nodes.
    for index in (0..normal.nodes.len()).rev() {
        add_to_bias(&mut normal, index);
    }
    Ok(normal)
}

fn matmul_to_gemm(graph: &mut Graph, trace: &Trace, index: usize) {
    let node = &graph.nodes[index];
    let rank2 = |value: Option<ValueId>| {
        value.and_then(|v| trace.shape(v)).is_some_and(|shape| shape.len() == 2)
    };
    if rank2(node.input(0)) && rank2(node.input(1)) && graph.constant_input(node, 1).is_some() {
        graph.nodes[index].op = Op::Gemm(Gemm::PLAIN);
    }
}

fn mean_to_pool(graph: &mut Graph, trace: &Trace, index: usize) {
    let node = graph.nodes[index].clone();
    let Op::Reduce(reduce) = node.op else { return };
    let rank4 = node.input(0).and_then(|v| trace.shape(v)).is_some_and(|s| s.len() == 4);
    let axes = graph.constant_input(&node, 1).and_then(|axes| axes.to_i64());
    let Some(mut axes) = axes.filter(|_| rank4) else {
        return;
    };
    axes.iter_mut().filter(|a| **a < 0).for_each(|a| *a += 4);
    axes.sort_unstable();
    if axes != [2, 3] {
        return;
    }
    graph.nodes[index].op = Op::GlobalAveragePool;
    graph.nodes[index].inputs.truncate(1);
    if reduce.keep_dims {
        return;
    }
    let name = format!("{}_pooled", node.name);
    let pooled = graph.fresh(&name);
    graph.nodes[index].outputs = vec![Some(pooled)];
    let flatten = Op::Flatten(crate::Flatten { axis: 1 });
    graph.nodes.push(Node {
        name: format!("{}_flatten", node.name),
        op: flatten,
        inputs: vec![Some(pooled)],
        outputs: node.outputs,
    });
}

/// A Conv or Gemm without bias, or with a constant one, that only an Add of one constant per output channel reads, takes
/// those constants into its bias.
fn add_to_bias(graph: &mut Graph, index: usize) {
    let node = graph.nodes[index].clone();
    let Some(channels) = output_channels(graph, &node) else { return };
    let Some(reader) = graph.only_consumer(node.output()) else { return };
    let add = graph.nodes[reader].clone();
    if add.op != Op::Binary(Binary::Add) {
        return;
    }
    let other = add.inputs.iter().flatten().find(|&&v| v != node.output());
    let Some(added) = other.and_then(|&v| graph.constant(v)).cloned() else { return };
    // [c, 1, 1] or [1, c, 1, 1] behind Conv, [n] or [1, n] behind Gemm.
    let trailing = if matches!(node.op, Op::Conv(_)) { 3 } else { 1 };
    let at = added.rank().checked_sub(trailing);
    let per_channel = at.is_some_and(|axis| added.shape()[axis] == channels)
        && added.rank() <= trailing + 1
        && added.len() == channels;
    let before = match node.input(2) {
        None => Some(vec![0.0; channels]),
        Some(bias) => graph
            .constant(bias)
            .filter(|bias| bias.len() == channels && bias.rank() == 1)
            .map(|bias| bias.f32s().to_vec()),
    };
    let Some(before) = before.filter(|_| per_channel) else { return };
    let sum = before.iter().zip(added.f32s()).map(|(a, b)| a + b).collect();
    let bias = graph.add_constant(&format!("{}_bias", node.name), Tensor::vector::<f32>(sum));
    let node = &mut graph.nodes[index];
    node.inputs.resize(2, None);
    node.inputs.push(Some(bias));
    node.outputs = add.outputs.clone();
    graph.nodes.retain(|n| *n != add);
}

/// Output channels of a linear operator whose bias can take constants.
fn output_channels(graph: &Graph, node: &Node) -> Option<usize> {
    let weight = graph.constant_input(node, 1)?;
    match node.op {
        Op::Conv(conv) if conv.activation == Activation::None => weight.shape().first().copied(),
        Op::Gemm(gemm) if gemm.activation == Activation::None && gemm.beta == 1.0 => {
            Some(columns(weight, gemm.transpose_b))
        }
        _ => None,
    }
}

fn columns(b: &Tensor, transposed: bool) -> usize {
    b.shape()[usize::from(!transposed)]
}

#[cfg(test)]
mod tests;
