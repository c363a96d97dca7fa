//! Removes nodes that change nothing.

use super::Trace;
use crate::{Graph, GraphError, Node, Op};

/// Removes Identity, and Pad, Slice, Reshape, Flatten, Squeeze, Unsqueeze, Transpose and Expand where their result is
/// their input.
///
/// # Errors
/// None of its own.
pub fn remove_noops(graph: &Graph, trace: &Trace) -> Result<Graph, GraphError> {
    let mut kept = graph.clone();
    for node in graph.nodes.iter().filter(|node| changes_nothing(graph, trace, node)) {
        // The node may read a value that an earlier removal replaced.
        let present = kept.nodes.iter().find(|n| n.outputs == node.outputs);
        let Some(from) = present.and_then(|n| n.input(0)) else { continue };
        // An output that is an input or another output must stay a node: a name would be lost.
        let taken = kept.inputs.iter().any(|i| i.value == from) || kept.outputs.contains(&from);
        if !(taken && kept.outputs.contains(&node.output())) {
            kept.replace_uses(node.output(), from);
            kept.nodes.retain(|n| n.outputs != node.outputs);
        }
    }
    Ok(kept)
}

fn changes_nothing(graph: &Graph, trace: &Trace, node: &Node) -> bool {
    let (Some(from), to) = (node.input(0), node.output()) else {
        return false;
    };
    let same = |f: fn(&Trace, crate::ValueId) -> Option<&lowbit_tensor::Shape>| {
        f(trace, from).is_some() && f(trace, from) == f(trace, to)
    };
    let same_shape = same(Trace::shape) && same(Trace::shape_of_two);
    match &node.op {
        Op::Identity => true,
        // The same extents: nothing was cut, and with steps of 1 nothing was turned round.
        Op::Slice => same_shape && forward_steps(graph, node),
        Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze | Op::Unsqueeze | Op::Expand => same_shape,
        Op::Pad(_) => graph
            .constant_input(node, 1)
            .and_then(|pads| pads.to_i64())
            .is_some_and(|pads| pads.iter().all(|&p| p == 0)),
        Op::Transpose(transpose) => transpose
            .perm
            .as_ref()
            .is_some_and(|perm| perm.iter().enumerate().all(|(i, &p)| i == p)),
        _ => false,
    }
}

fn forward_steps(graph: &Graph, node: &Node) -> bool {
    match node.input(4) {
        None => true,
        Some(steps) => graph
            .constant(steps)
            .and_then(|steps| steps.to_i64())
            .is_some_and(|steps| steps.iter().all(|&s| s > 0)),
    }
}

#[cfg(test)]
mod tests;
