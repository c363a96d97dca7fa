//! Turns a graph with QuantizeLinear and DequantizeLinear pairs into one of integer operators: the integer semantics.
//!
//! The rules are those by which onnxruntime 1.31 fuses such graphs on a CPU, so that what runs here as integers runs there as
//! the same integers. A node becomes integer when every activation it reads comes from a DequantizeLinear and its one
//! reader is a QuantizeLinear; data movement between equal parameters works on the codes themselves. What cannot become
//! integer stays float, and says why.

mod fuse;
mod movement;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use lowbit_tensor::{DType, Tensor};

use crate::{Graph, GraphError, Node, Op, Unary, ValueId};

/// How one node of a quantized graph runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// The node's name.
    pub node: String,
    /// Its operator before lowering.
    pub op: &'static str,
    /// Where and as what it runs.
    pub runs: Runs,
}

/// Where a node runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Runs {
    /// As this integer operator.
    Integer(&'static str),
    /// On codes, moving them.
    Codes,
    /// In float, for this reason.
    Float(String),
}

/// Lowers a quantized graph. Graphs without DequantizeLinear come back as they are.
///
/// # Errors
/// When the result is not a valid graph: a mistake of this pass.
pub fn lower_qdq(graph: &Graph) -> Result<(Graph, Vec<Placement>), GraphError> {
    let mut lowering = Lowering::new(graph);
    let mut placements = Vec::new();
    for node in &graph.nodes {
        if matches!(node.op, Op::QuantizeLinear(_) | Op::DequantizeLinear(_)) {
            continue;
        }
        let runs = match lowering.lower(node) {
            Ok(runs) => runs,
            Err(reason) => Runs::Float(reason),
        };
        placements.push(Placement { node: node.name.clone(), op: node.op.name(), runs });
    }
    let mut lowered = lowering.finish();
    lowered.remove_dead();
    lowered.sort()?;
    lowered.verify()?;
    // What is left of dequantized constants feeds float nodes: compute it once.
    let lowered = super::constants::fold(&lowered, |op| matches!(op, Op::DequantizeLinear(_)))?;
    Ok((lowered, placements))
}

/// A tensor of codes and what they mean: the operands of a DequantizeLinear or QuantizeLinear.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coded {
    pub(super) codes: ValueId,
    pub(super) scale: ValueId,
    pub(super) zero_point: Option<ValueId>,
}

/// The graph being lowered. Nodes are replaced in place; what becomes unused is dropped at the end.
pub(super) struct Lowering {
    pub(super) graph: Graph,
    producers: HashMap<ValueId, Node>,
    readers: HashMap<ValueId, Vec<Node>>,
    /// What stands for the node that makes a value; ordered, so that equal graphs are lowered to equal graphs.
    replaced: BTreeMap<ValueId, Vec<Node>>,
}

impl Lowering {
    fn new(graph: &Graph) -> Self {
        let mut producers = HashMap::new();
        let mut readers: HashMap<ValueId, Vec<Node>> = HashMap::new();
        for node in &graph.nodes {
            for &value in node.outputs.iter().flatten() {
                producers.insert(value, node.clone());
            }
            for &value in node.inputs.iter().flatten() {
                readers.entry(value).or_default().push(node.clone());
            }
        }
        Lowering { graph: graph.clone(), producers, readers, replaced: BTreeMap::new() }
    }

    fn finish(self) -> Graph {
        let mut graph = self.graph;
        let added: Vec<Node> = self.replaced.into_values().flatten().collect();
        // A code value that a new node makes is no longer made by the old QuantizeLinear.
        let made: std::collections::HashSet<ValueId> =
            added.iter().flat_map(|n| n.outputs.iter().flatten().copied()).collect();
        graph.nodes.retain(|node| !node.outputs.iter().flatten().any(|v| made.contains(v)));
        graph.nodes.extend(added);
        graph
    }

    fn lower(&mut self, node: &Node) -> Result<Runs, String> {
        match &node.op {
            Op::Conv(_) => self.conv(node),
            Op::Gemm(_) => self.gemm(node),
            Op::MatMul => self.matmul(node),
            Op::Binary(binary) => self.binary(node, *binary),
            Op::Concat(concat) => self.concat(node, *concat),
            Op::GlobalAveragePool => self.pool(node, Op::QLinearGlobalAveragePool),
            Op::AveragePool(pool) => self.pool(node, Op::QLinearAveragePool(*pool)),
            Op::Softmax(softmax) if !softmax.log => self.pool(node, Op::QLinearSoftmax(*softmax)),
            Op::Unary(unary @ (Unary::Sigmoid | Unary::LeakyRelu { .. })) => {
                self.pool(node, Op::QLinearUnary(*unary))
            }
            Op::Clip if self.clips_codes(node) => Ok(Runs::Codes),
            Op::Unary(Unary::Relu) | Op::Clip => self.activation(node),
            op if op.moves_elements() => self.movement(node),
            Op::QLinearConv(_)
            | Op::QLinearMatMul
            | Op::ConvInteger(_)
            | Op::MatMulInteger
            | Op::QGemm(_)
            | Op::QLinearAdd
            | Op::QLinearMul
            | Op::QLinearConcat(_)
            | Op::QLinearGlobalAveragePool
            | Op::QLinearAveragePool(_)
            | Op::QLinearUnary(_)
            | Op::QLinearSoftmax(_) => Ok(Runs::Integer(node.op.name())),
            op => Err(format!("no integer form of {}", op.name())),
        }
    }

    /// Whether a Clip narrows the codes that a QuantizeLinear makes.
    fn clips_codes(&self, node: &Node) -> bool {
        let producer = node.input(0).and_then(|value| self.producers.get(&value));
        producer.is_some_and(|producer| matches!(producer.op, Op::QuantizeLinear(_)))
    }

    /// What input `index` of `node` is dequantized from.
    pub(super) fn dequantized(&self, node: &Node, index: usize) -> Result<Coded, String> {
        let value = node.input(index).ok_or_else(|| format!("input {index} is not given"))?;
        let name = self.graph.value_name(value);
        let producer = self.producers.get(&value);
        match producer.map(|p| (&p.op, p)) {
            Some((Op::DequantizeLinear(_), dequantize)) => coded(dequantize, dequantize.input(0))
                .ok_or_else(|| format!("the DequantizeLinear of \"{name}\" lacks an operand")),
            _ => Err(format!("input {index} (\"{name}\") does not come from DequantizeLinear")),
        }
    }

    /// As [`Lowering::dequantized`], for an activation: 8-bit codes with one scale.
    pub(super) fn activation_input(&self, node: &Node, index: usize) -> Result<Coded, String> {
        let coded = self.dequantized(node, index)?;
        if self.constant(coded.scale).is_none_or(|scale| scale.len() != 1) {
            return Err(format!("input {index} has more than one scale, or one that is computed"));
        }
        Ok(coded)
    }

    /// The QuantizeLinear that is the only reader of `value`: what its codes mean.
    pub(super) fn quantized(&self, value: ValueId) -> Result<Coded, String> {
        let name = self.graph.value_name(value);
        if self.graph.outputs.contains(&value) {
            return Err(format!("its result \"{name}\" is a float output of the model"));
        }
        match self.readers.get(&value).map(Vec::as_slice) {
            Some([reader]) if matches!(reader.op, Op::QuantizeLinear(_)) => {
                let coded = coded(reader, Some(reader.output()))
                    .ok_or_else(|| format!("the QuantizeLinear of \"{name}\" lacks an operand"))?;
                if self.constant(coded.scale).is_none_or(|scale| scale.len() != 1) {
                    return Err(format!("its result \"{name}\" is not quantized per tensor"));
                }
                Ok(coded)
            }
            _ => Err(format!("its result \"{name}\" does not go to one QuantizeLinear alone")),
        }
    }

    /// The only reader of `value`.
    pub(super) fn only_reader(&self, value: ValueId) -> Option<&Node> {
        match self.readers.get(&value).map(Vec::as_slice) {
            Some([reader]) if !self.graph.outputs.contains(&value) => Some(reader),
            _ => None,
        }
    }

    pub(super) fn constant(&self, value: ValueId) -> Option<&Arc<Tensor>> {
        self.graph.constant(value)
    }

    /// The type of codes: their zero point's; where that is left out, what they are made as.
    pub(super) fn code_type(&self, coded: Coded) -> DType {
        let given = coded.zero_point.and_then(|z| self.constant(z)).map(|z| z.dtype());
        let constant = || self.constant(coded.codes).map(|codes| codes.dtype());
        let made = || match self.producers.get(&coded.codes)?.op {
            Op::QuantizeLinear(quantize) => Some(quantize.to),
            _ => None,
        };
        let fed = || self.graph.inputs.iter().find(|i| i.value == coded.codes).map(|i| i.dtype);
        given.or_else(constant).or_else(made).or_else(fed).unwrap_or(DType::U8)
    }

    /// (scale, zero point, smallest code, largest code) of an activation.
    pub(super) fn parameters(&self, coded: Coded) -> Option<(f32, i32, (i32, i32))> {
        let scale = *self.constant(coded.scale)?.as_slice::<f32>().ok()?.first()?;
        let zero_point = match coded.zero_point {
            None => 0,
            Some(value) => i32::try_from(*self.constant(value)?.to_i64()?.first()?).ok()?,
        };
        Some((scale, zero_point, self.code_range(coded)?))
    }

    /// Smallest and largest code: the type's, or those of the Clip that alone reads the codes (activations below 8 bits).
    fn code_range(&self, coded: Coded) -> Option<(i32, i32)> {
        let whole = self.code_type(coded).range()?;
        let Some(clip) = self.only_reader(coded.codes).filter(|reader| reader.op == Op::Clip)
        else {
            return Some(whole);
        };
        let limit = |index: usize| -> Option<i32> {
            i32::try_from(*self.constant(clip.input(index)?)?.to_i64()?.first()?).ok()
        };
        Some((limit(1).unwrap_or(whole.0).max(whole.0), limit(2).unwrap_or(whole.1).min(whole.1)))
    }

    /// Puts `nodes` in the place of what `node` and its QuantizeLinear did.
    pub(super) fn replace(&mut self, node: &Node, nodes: Vec<Node>) {
        self.replaced.insert(node.output(), nodes);
    }

    /// A zero point operand, made when it was left out.
    pub(super) fn zero_point(&mut self, coded: Coded, dtype: DType) -> Option<ValueId> {
        if coded.zero_point.is_some() {
            return coded.zero_point;
        }
        let zero = match dtype {
            DType::I8 => Tensor::scalar(0i8),
            _ => Tensor::scalar(0u8),
        };
        Some(self.graph.add_constant("zero_point", zero))
    }
}

fn coded(node: &Node, codes: Option<ValueId>) -> Option<Coded> {
    Some(Coded { codes: codes?, scale: node.input(1)?, zero_point: node.input(2) })
}

#[cfg(test)]
mod tests;
