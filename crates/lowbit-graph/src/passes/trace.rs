//! What a run of the graph tells about shapes: the passes' only source of them.

use std::collections::{HashMap, HashSet};

use lowbit_tensor::{DType, Shape, Tensor};

use crate::{Graph, GraphError, Node, Op, Session, ValueId, Workspace};

/// Shapes, and integer values that follow from shapes alone, for batches of one and of two images.
#[derive(Debug, Default)]
pub struct Trace {
    shapes: [HashMap<ValueId, Shape>; 2],
    integers: [HashMap<ValueId, Tensor>; 2],
}

impl Trace {
    /// The value's shape for a batch of one.
    #[must_use]
    pub fn shape(&self, value: ValueId) -> Option<&Shape> {
        self.shapes[0].get(&value)
    }

    /// The value's shape for a batch of two.
    #[must_use]
    pub fn shape_of_two(&self, value: ValueId) -> Option<&Shape> {
        self.shapes[1].get(&value)
    }

    /// An integer value that shapes alone decide: for a batch of one and of two.
    #[must_use]
    pub fn integers(&self, value: ValueId) -> Option<(&Tensor, &Tensor)> {
        Some((self.integers[0].get(&value)?, self.integers[1].get(&value)?))
    }
}

/// Runs `graph` on `example` (one image) and on two copies of it; what only values decide is not computed.
///
/// # Errors
/// When the graph does not run. A graph whose batch is fixed is traced at that batch only.
pub fn trace(graph: &Graph, example: &[Tensor]) -> Result<Trace, GraphError> {
    let derived = shape_derived(graph);
    let session = Session::sketch(graph, &exact(graph, &derived))?;
    let mut traced = Trace::default();
    let fixed = graph.inputs.iter().all(|i| i.dims.first().is_none_or(Option::is_some));
    for copies in 0..2 {
        if fixed && copies == 1 {
            traced.shapes[1] = traced.shapes[0].clone();
            traced.integers[1] = traced.integers[0].clone();
            break;
        }
        let feeds: Vec<Tensor> = example.iter().map(|t| repeat(t, copies + 1)).collect();
        let (shapes, integers) = (&mut traced.shapes[copies], &mut traced.integers[copies]);
        for (value, tensor) in graph.constants() {
            shapes.insert(value, tensor.shape().clone());
        }
        session.run_observed(&feeds, &mut Workspace::parallel(), &mut |value, tensor| {
            shapes.insert(value, tensor.shape().clone());
            if tensor.dtype() != DType::F32 && derived.contains(&value) {
                integers.insert(value, tensor.clone());
            }
        })?;
    }
    Ok(traced)
}

/// Values that do not depend on the data the caller feeds, only on its shape.
fn shape_derived(graph: &Graph) -> HashSet<ValueId> {
    let mut derived: HashSet<ValueId> = graph.constants().map(|(value, _)| value).collect();
    for node in &graph.nodes {
        let known = |node: &Node| node.inputs.iter().flatten().all(|v| derived.contains(v));
        if matches!(node.op, Op::Shape(_)) || known(node) {
            derived.extend(node.outputs.iter().flatten());
        }
    }
    derived
}

/// Those of `derived` whose numbers matter: not weights as floats, which only an operator on data reads.
fn exact(graph: &Graph, derived: &HashSet<ValueId>) -> HashSet<ValueId> {
    let made = |node: &Node| node.outputs.iter().flatten().any(|value| derived.contains(value));
    let read: HashSet<ValueId> = graph
        .nodes
        .iter()
        .filter(|node| made(node))
        .flat_map(|node| node.inputs.iter().flatten().copied())
        .collect();
    let mut exact = derived.clone();
    for node in graph.nodes.iter().filter(|node| matches!(node.op, Op::DequantizeLinear(_))) {
        for value in node.outputs.iter().flatten().filter(|value| !read.contains(value)) {
            exact.remove(value);
        }
    }
    exact
}

/// `tensor` repeated along its first axis.
fn repeat(tensor: &Tensor, copies: usize) -> Tensor {
    if copies == 1 || tensor.rank() == 0 || tensor.dtype() != DType::F32 {
        return tensor.clone();
    }
    let mut dims = tensor.shape().to_vec();
    dims[0] *= copies;
    Tensor::new(dims, tensor.f32s().repeat(copies))
}
