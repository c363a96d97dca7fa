//! Writes equivalent operators in the one form that quantizes well.

use std::sync::Arc;

use lowbit_tensor::Tensor;

use super::Trace;
use crate::{Activation, Binary, Gemm, Graph, GraphError, Node, Op, ReduceKind, ValueId};

/// MatMul with a constant matrix (and the Add of a constant bias behind it) becomes Gemm; a mean over both spatial axes
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
        value
            .and_then(|v| trace.shape(v))
            .is_some_and(|shape| shape.len() == 2)
    };
    if rank2(node.input(0)) && rank2(node.input(1)) && graph.constant_input(node, 1).is_some() {
        graph.nodes[index].op = Op::Gemm(Gemm {
            alpha: 1.0,
            beta: 1.0,
            transpose_a: false,
            transpose_b: false,
            activation: Activation::None,
        });
    }
}

fn mean_to_pool(graph: &mut Graph, trace: &Trace, index: usize) {
    let node = graph.nodes[index].clone();
    let Op::Reduce(reduce) = node.op else { return };
    let rank4 = node
        .input(0)
        .and_then(|v| trace.shape(v))
        .is_some_and(|s| s.len() == 4);
    let axes = graph
        .constant_input(&node, 1)
        .and_then(|axes| axes.to_i64());
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

/// Gemm without C, followed only by an Add of a constant row, takes that row as C.
fn add_to_bias(graph: &mut Graph, index: usize) {
    let node = &graph.nodes[index];
    let Op::Gemm(gemm) = node.op else { return };
    if node.input(2).is_some() || gemm.activation != Activation::None {
        return;
    }
    let Some(reader) = graph.only_consumer(node.output()) else {
        return;
    };
    let add = graph.nodes[reader].clone();
    if add.op != Op::Binary(Binary::Add) {
        return;
    }
    let other = add.inputs.iter().flatten().find(|&&v| v != node.output());
    let Some(row) = other.and_then(|&v| graph.constant(v)).cloned() else {
        return;
    };
    let columns = graph
        .constant_input(node, 1)
        .map(|b| columns(b, gemm.transpose_b));
    let bias = match columns {
        Some(n) if row.len() == n && row.rank() <= 2 && row.shape().last() == Some(&n) => {
            Tensor::vector(row.f32s().to_vec())
        }
        _ => return,
    };
    let name = format!("{}_bias", node.name);
    let bias = graph.add_constant(&name, Arc::new(bias));
    let node = &mut graph.nodes[index];
    node.inputs.resize(2, None);
    node.inputs.push(Some(bias));
    node.outputs = add.outputs.clone();
    graph.nodes.retain(|n| *n != add);
}

fn columns(b: &Tensor, transposed: bool) -> usize {
    b.shape()[usize::from(!transposed)]
}

#[cfg(test)]
mod tests;
