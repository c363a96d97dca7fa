//! What is known of a graph's values before it runs: element types, and dimensions where they follow from constants.
//!
//! Exported files must state the rank of their outputs, and some older forms of operators mean different things at
//! different ranks. This is no check: contradictions make a value unknown, and are found when the graph runs.

mod rules;

use std::collections::HashMap;

use lowbit_graph::{Graph, Node, Op, ValueId};
use lowbit_tensor::{DType, Tensor};

/// Dimensions; `None` where the rank is unknown, or the extent of one axis.
pub type Dims = Option<Vec<Option<usize>>>;

/// What is known of one value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fact {
    /// Its element type.
    pub dtype: Option<DType>,
    /// Its dimensions.
    pub dims: Dims,
}

/// What is known of every value of a graph.
#[derive(Debug, Default)]
pub struct Facts(HashMap<ValueId, Fact>);

impl Facts {
    /// What is known of a value.
    #[must_use]
    pub fn get(&self, value: ValueId) -> Option<&Fact> {
        self.0.get(&value)
    }

    /// The element types that occur.
    pub(crate) fn dtypes(&self) -> impl Iterator<Item = DType> {
        self.0.values().filter_map(|fact| fact.dtype)
    }

    pub(crate) fn set_constant(&mut self, value: ValueId, tensor: &Tensor) {
        let dims = tensor.shape().iter().map(|&d| Some(d)).collect();
        self.0.insert(value, Fact { dtype: Some(tensor.dtype()), dims: Some(dims) });
    }
}

/// What is known of every value of a graph whose nodes stand in an order in which they can run.
#[must_use]
pub fn infer(graph: &Graph) -> Facts {
    let mut facts = given_facts(graph);
    for node in &graph.nodes {
        facts_of_node(graph, node, &mut facts);
    }
    facts
}

/// What is known of inputs and constants.
pub(crate) fn given_facts(graph: &Graph) -> Facts {
    let mut facts = Facts::default();
    for input in &graph.inputs {
        let fact = Fact { dtype: Some(input.dtype), dims: Some(input.dims.clone()) };
        facts.0.insert(input.value, fact);
    }
    for (value, tensor) in graph.constants() {
        facts.set_constant(value, tensor);
    }
    facts
}

/// Adds what is known of a node's outputs.
pub(crate) fn facts_of_node(graph: &Graph, node: &Node, facts: &mut Facts) {
    let known = Known { graph, node, facts };
    let dims = rules::dims(&known);
    let mut made = Vec::with_capacity(node.outputs.len());
    for (i, output) in node.outputs.iter().enumerate() {
        let Some(value) = *output else { continue };
        let dims = match (&node.op, i) {
            (Op::DynamicQuantizeLinear, 1 | 2) => Some(vec![]),
            _ => dims.clone(),
        };
        let dtype = rules::dtype(&known, i);
        made.push((value, Fact { dtype, dims }));
    }
    facts.0.extend(made);
}

/// A node and what is known of its inputs.
pub(crate) struct Known<'a> {
    graph: &'a Graph,
    node: &'a Node,
    facts: &'a Facts,
}

impl Known<'_> {
    fn dims(&self, index: usize) -> Dims {
        self.facts.get(self.node.input(index)?)?.dims.clone()
    }

    fn dtype(&self, index: usize) -> Option<DType> {
        self.facts.get(self.node.input(index)?)?.dtype
    }

    /// The integers at an input that is a constant.
    fn ints(&self, index: usize) -> Option<Vec<i64>> {
        self.graph.constant_input(self.node, index)?.to_i64()
    }
}

#[cfg(test)]
mod tests;
