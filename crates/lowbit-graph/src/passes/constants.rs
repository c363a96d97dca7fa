//! Computes once what does not depend on the image.

use std::sync::Arc;

use lowbit_tensor::Tensor;

use super::Trace;
use crate::{Graph, GraphError, Inputs, Node, Op, OpError, Reshape, Workspace};

/// Elements a folded constant may have: a graph cannot blow itself up by folding.
const FOLD_LIMIT: usize = 1 << 24;

/// Replaces nodes whose inputs are all constant by their results.
///
/// Dequantized weights stay as they are, as codes: quantized graphs are made of them.
///
/// # Errors
/// When such a node refuses its inputs.
pub fn fold_constants(graph: &Graph) -> Result<Graph, GraphError> {
    fold(graph, |op| !matches!(op, Op::DequantizeLinear(_)))
}

/// Replaces the nodes that `wanted` accepts and whose inputs are all constant.
pub(super) fn fold(graph: &Graph, wanted: impl Fn(&Op) -> bool) -> Result<Graph, GraphError> {
    let mut folded = graph.clone();
    let mut work = Workspace::serial().with_limit(FOLD_LIMIT);
    for node in &graph.nodes {
        if !wanted(&node.op) {
            continue;
        }
        if let Some(made) = evaluate(&folded, node, &mut work)? {
            for (value, tensor) in node.outputs.iter().zip(made) {
                if let Some(value) = *value {
                    folded.set_constant(value, tensor);
                }
            }
        }
    }
    let known = |node: &Node| node.outputs.iter().flatten().all(|&v| folded.constant(v).is_some());
    let kept = folded.nodes.iter().filter(|node| !known(node)).cloned().collect();
    folded.nodes = kept;
    Ok(folded)
}

/// The node's results, when its inputs are constant and the results not too large.
fn evaluate(
    graph: &Graph,
    node: &Node,
    work: &mut Workspace,
) -> Result<Option<Vec<Tensor>>, GraphError> {
    let constants: Option<Vec<Option<&Arc<Tensor>>>> = node
        .inputs
        .iter()
        .map(|input| match input {
            None => Some(None),
            Some(value) => graph.constant(*value).map(Some),
        })
        .collect();
    let Some(constants) = constants else {
        return Ok(None);
    };
    let inputs: Vec<Option<&Tensor>> = constants.iter().map(|c| c.map(AsRef::as_ref)).collect();
    match node.op.forward(&Inputs(&inputs), work) {
        Ok(made) => Ok(Some(made)),
        // Too large to keep as a constant, not too large to compute.
        Err(OpError::TooLarge { .. }) => Ok(None),
        Err(source) => Err(GraphError::Op { node: node.name.clone(), op: node.op.name(), source }),
    }
}

/// Replaces shape computations by constants where the batch size does not matter, and by -1 or 0 ("the rest", "as the
/// input") in the shape of a Reshape where it does.
///
/// # Errors
/// None of its own.
pub fn fold_shapes(graph: &Graph, trace: &Trace) -> Result<Graph, GraphError> {
    let mut folded = graph.clone();
    for index in 0..folded.nodes.len() {
        let node = folded.nodes[index].clone();
        for (position, value) in node.inputs.iter().enumerate() {
            let Some(value) = *value else { continue };
            if folded.constant(value).is_some() {
                continue;
            }
            let Some((one, two)) = trace.integers(value) else {
                continue;
            };
            let tensor = match &node.op {
                _ if one == two => one.clone(),
                Op::Reshape(_) if position == 1 => {
                    let Some(operand) = reshape_operand(trace, &node, one, two) else { continue };
                    folded.nodes[index].op = Op::Reshape(Reshape { allow_zero: false });
                    operand
                }
                _ => continue,
            };
            let name = format!("{}_folded", folded.value_name(value));
            let constant = folded.add_constant(&name, tensor);
            folded.nodes[index].inputs[position] = Some(constant);
        }
    }
    Ok(folded)
}

/// The shape operand with its batch-dependent entry written as 0 or -1; `None` when that cannot say it.
fn reshape_operand(trace: &Trace, node: &Node, one: &Tensor, two: &Tensor) -> Option<Tensor> {
    let (one, two) = (one.to_i64()?, two.to_i64()?);
    // An extent that is 0 cannot be said where 0 copies.
    let empty = node.op == Op::Reshape(Reshape { allow_zero: true })
        && (one.contains(&0) || two.contains(&0));
    if one.len() != two.len() || empty {
        return None;
    }
    let input = trace.shape(node.input(0)?)?;
    let input_of_two = trace.shape_of_two(node.input(0)?)?;
    let copies = |i: usize| {
        let same =
            |shape: &[usize], v: i64| shape.get(i).is_some_and(|&d| i64::try_from(d) == Ok(v));
        same(input, one[i]) && same(input_of_two, two[i])
    };
    let mut spec = one.clone();
    for i in (0..one.len()).filter(|&i| one[i] != two[i]) {
        spec[i] = if copies(i) {
            0
        } else if spec.contains(&-1) {
            return None;
        } else {
            -1
        };
    }
    Some(Tensor::vector(spec))
}

#[cfg(test)]
mod tests;
