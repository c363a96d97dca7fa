//! Removes nodes that change nothing.

use super::Trace;
use crate::{Graph, GraphError, Node, Op};

/// Removes Identity, and Pad, Slice, Reshape, Flatten, Transpose, Expand and Cast where their result is their input.
///
/// # Errors
/// None of its own.
pub fn remove_noops(graph: &Graph, trace: &Trace) -> Result<Graph, GraphError> {
    let mut kept = graph.clone();
    for node in &graph.nodes {
        let inputs: Vec<_> = graph.inputs.iter().map(|i| i.value).collect();
        let Some(from) = node.input(0) else { continue };
        // An output that is the input itself must stay a node: names would be lost.
        let ends = graph.outputs.contains(&node.output())
            && (inputs.contains(&from) || graph.outputs.contains(&from));
        if changes_nothing(graph, trace, node) && !ends {
            // The node may read a value that an earlier removal replaced.
            let position = kept.nodes.iter().position(|n| n.outputs == node.outputs);
            let from = position.and_then(|p| kept.nodes[p].input(0)).unwrap_or(from);
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
