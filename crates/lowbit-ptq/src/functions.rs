//! Functions of single elements that are not computed on codes: PRelu, signs, and what belongs to them.
//!
//! A Sum or product with a constant beside such an operator belongs to its function, as the biases of ReActNet's RSign and RPReLU do
//! (Liu et al. 2020, arXiv:2003.03488): quantized by itself it would cost a rounding and a quantizer.

use std::collections::{BTreeSet, HashMap};

use lowbit_graph::{Binary, Graph, Inputs, Node, Op, Unary, ValueId, Workspace};
use lowbit_tensor::{DType, Tensor};

/// More different numbers than that are no levels.
const LEVELS_MAX: usize = 64;

/// Sums and products with a constant that belong to a function, by index of the node.
pub(crate) fn functions(graph: &Graph) -> BTreeSet<usize> {
    let producers = graph.producers();
    let mut found = BTreeSet::new();
    loop {
        let before = found.len();
        for (index, node) in graph.nodes.iter().enumerate() {
            let Some(value) = with_constant(graph, node) else { continue };
            let belongs = |i: usize| found.contains(&i) || is_function(&graph.nodes[i].op);
            let made = producers.get(&value).is_some_and(|&i| belongs(i));
            let reads = |n: &Node| n.inputs.contains(&Some(node.output()));
            let read = (0..graph.nodes.len()).any(|i| reads(&graph.nodes[i]) && belongs(i));
            if made || read {
                found.insert(index);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

fn is_function(op: &Op) -> bool {
    match op {
        Op::PRelu | Op::Where | Op::Unary(Unary::Sign) => true,
        Op::Binary(binary) => binary.is_comparison(),
        _ => false,
    }
}

/// The operand beside a constant.
fn with_constant(graph: &Graph, node: &Node) -> Option<ValueId> {
    if !matches!(node.op, Op::Binary(Binary::Add | Binary::Mul)) {
        return None;
    }
    let (a, b) = (node.input(0)?, node.input(1)?);
    match (graph.constant(a), graph.constant(b)) {
        (None, Some(_)) => Some(a),
        (Some(_), None) => Some(b),
        _ => None,
    }
}

/// The number whose multiples by -1, 0 and 1 are all that `value` can hold: what signs are, however they are spelled.
pub(crate) fn sign_of(graph: &Graph, value: ValueId) -> Option<f32> {
    let levels = Levels { graph, producers: graph.producers() }.of(value)?;
    let levels = levels.as_slice::<f32>().ok()?;
    let unit = levels.iter().fold(0f32, |unit, level| unit.max(level.abs()));
    let fits = levels.iter().all(|level| level.abs() == unit || *level == 0.0);
    (fits && unit.is_normal()).then_some(unit)
}

/// Finds the numbers that values can hold, backwards from a value.
struct Levels<'a> {
    graph: &'a Graph,
    producers: HashMap<ValueId, usize>,
}

impl Levels<'_> {
    /// All numbers that `value` can hold, where they are few.
    fn of(&self, value: ValueId) -> Option<Tensor> {
        let node = &self.graph.nodes[*self.producers.get(&value)?];
        match &node.op {
            Op::Binary(binary) if binary.is_comparison() => {
                return Some(Tensor::vector(vec![false, true]));
            }
            Op::Unary(_) | Op::Clip | Op::Where | Op::Binary(_) | Op::Identity => {}
            Op::Cast(cast) if cast.to == DType::F32 => {}
            _ => return None,
        }
        let mut operands = vec![];
        for &id in &node.inputs {
            operands.push(match id.map(|id| (id, self.graph.constant(id))) {
                None => None,
                Some((_, Some(constant))) if constant.len() == 1 => Some(constant.as_ref().clone()),
                // One number after the other, against every level.
                Some((_, Some(constant))) if constant.len() <= LEVELS_MAX => {
                    Some(reshaped(constant, [1, constant.len()])?)
                }
                Some((_, Some(_))) => return None,
                Some((id, None)) => {
                    let levels = match (&node.op, self.of(id)) {
                        (_, Some(levels)) => levels,
                        (Op::Unary(Unary::Sign), None) => Tensor::vector(vec![-1f32, 0.0, 1.0]),
                        (_, None) => return None,
                    };
                    Some(reshaped(&levels, [levels.len(), 1])?)
                }
            });
        }
        let operands: Vec<Option<&Tensor>> = operands.iter().map(Option::as_ref).collect();
        let made = node.op.forward(&Inputs(&operands), &mut Workspace::serial()).ok()?;
        distinct(made.first()?)
    }
}

fn reshaped(tensor: &Tensor, shape: [usize; 2]) -> Option<Tensor> {
    Tensor::try_new(tensor.dtype(), shape.to_vec(), tensor.buffer().clone()).ok()
}

/// Every number once.
fn distinct(tensor: &Tensor) -> Option<Tensor> {
    if let Ok(flags) = tensor.as_slice::<bool>() {
        return Some(Tensor::vector(flags.to_vec()));
    }
    let mut levels = tensor.as_slice::<f32>().ok()?.to_vec();
    levels.sort_by(f32::total_cmp);
    levels.dedup();
    (levels.len() <= LEVELS_MAX).then(|| Tensor::vector(levels))
}

#[cfg(test)]
mod tests;
