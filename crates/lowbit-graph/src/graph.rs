//! The graph: values, constants and nodes in an order in which they can run.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use lowbit_tensor::{DType, Tensor};

use crate::{GraphError, Op};

/// Names one value of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(usize);

impl ValueId {
    /// As [`Graph::index_of`].
    pub(crate) fn index(self) -> usize {
        self.0
    }
}

/// One operator applied to values.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The name errors and tables use.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// What it reads, in ONNX's order; `None` where an optional input is left out.
    pub inputs: Vec<Option<ValueId>>,
    /// What it makes; `None` where an optional output is not asked for.
    pub outputs: Vec<Option<ValueId>>,
}

impl Node {
    /// The value at input `index`, if given.
    #[must_use]
    pub fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    /// The first output.
    ///
    /// # Panics
    /// When the node has none: [`Graph::verify`] refuses that.
    #[must_use]
    pub fn output(&self) -> ValueId {
        self.outputs[0].expect("every node makes its first output")
    }
}

/// A value the caller provides.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Which value.
    pub value: ValueId,
    /// Its element type.
    pub dtype: DType,
    /// Its dimensions; `None` where any size is accepted (the batch, first of all).
    pub dims: Vec<Option<usize>>,
}

/// A static graph. Nodes stand in an order in which they can run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// The graph's name.
    pub name: String,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// What the caller provides.
    pub inputs: Vec<Input>,
    /// What the caller gets.
    pub outputs: Vec<ValueId>,
    /// Free-form notes kept with the model (ONNX `metadata_props`).
    pub metadata: BTreeMap<String, String>,
    names: Vec<String>,
    constants: BTreeMap<ValueId, Arc<Tensor>>,
}

impl Graph {
    /// An empty graph.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Graph { name: name.to_owned(), ..Graph::default() }
    }

    /// Makes a value. The name should be unique; [`Graph::verify`] does not insist, [`Graph::fresh`] sees to it.
    pub fn add_value(&mut self, name: &str) -> ValueId {
        self.names.push(name.to_owned());
        ValueId(self.names.len() - 1)
    }

    /// Makes a value whose name is `name`, or `name` with a number when that is taken.
    pub fn fresh(&mut self, name: &str) -> ValueId {
        let taken = |n: &str| self.names.iter().any(|other| other == n);
        let (mut unique, mut number) = (name.to_owned(), 0);
        while taken(&unique) {
            number += 1;
            unique = format!("{name}_{number}");
        }
        self.add_value(&unique)
    }

    /// Makes a constant value.
    pub fn add_constant(&mut self, name: &str, tensor: impl Into<Arc<Tensor>>) -> ValueId {
        let value = self.fresh(name);
        self.constants.insert(value, tensor.into());
        value
    }

    /// Turns an existing value into a constant, or replaces the constant it is.
    pub fn set_constant(&mut self, value: ValueId, tensor: impl Into<Arc<Tensor>>) {
        self.constants.insert(value, tensor.into());
    }

    /// Adds an input that the caller provides.
    pub fn add_input(&mut self, name: &str, dtype: DType, dims: Vec<Option<usize>>) -> ValueId {
        let value = self.add_value(name);
        self.inputs.push(Input { value, dtype, dims });
        value
    }

    /// Appends a node with one new output, named after the node, and returns that output.
    pub fn add_node(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> ValueId {
        let output = self.fresh(&format!("{name}_out"));
        self.nodes.push(Node {
            name: name.to_owned(),
            op,
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: vec![Some(output)],
        });
        output
    }

    /// The value's name.
    #[must_use]
    pub fn value_name(&self, value: ValueId) -> &str {
        &self.names[value.0]
    }

    /// Number of values ever made; ids are below it.
    #[must_use]
    pub fn value_count(&self) -> usize {
        self.names.len()
    }

    /// A dense index below [`Graph::value_count`].
    #[must_use]
    pub fn index_of(&self, value: ValueId) -> usize {
        value.0
    }

    /// The constant behind a value, if it is one.
    #[must_use]
    pub fn constant(&self, value: ValueId) -> Option<&Arc<Tensor>> {
        self.constants.get(&value)
    }

    /// All constants in the order they were made.
    pub fn constants(&self) -> impl Iterator<Item = (ValueId, &Arc<Tensor>)> {
        self.constants.iter().map(|(&value, tensor)| (value, tensor))
    }

    /// The constant at a node's input, if that input is given and constant.
    #[must_use]
    pub fn constant_input(&self, node: &Node, index: usize) -> Option<&Arc<Tensor>> {
        self.constant(node.input(index)?)
    }

    /// For every value, the index of the node that makes it.
    #[must_use]
    pub fn producers(&self) -> HashMap<ValueId, usize> {
        let made = |(i, node): (usize, &Node)| {
            node.outputs.iter().flatten().map(|&v| (v, i)).collect::<Vec<_>>()
        };
        self.nodes.iter().enumerate().flat_map(made).collect()
    }

    /// For every value, the indices of the nodes that read it, in order, one entry per reading input.
    #[must_use]
    pub fn consumers(&self) -> HashMap<ValueId, Vec<usize>> {
        let mut readers: HashMap<ValueId, Vec<usize>> = HashMap::new();
        for (i, node) in self.nodes.iter().enumerate() {
            for &value in node.inputs.iter().flatten() {
                readers.entry(value).or_default().push(i);
            }
        }
        readers
    }

    /// The one node that reads `value`; `None` when there are more, none, or the value is also a graph output.
    #[must_use]
    pub fn only_consumer(&self, value: ValueId) -> Option<usize> {
        if self.outputs.contains(&value) {
            return None;
        }
        let mut found = None;
        for (i, node) in self.nodes.iter().enumerate() {
            for &input in node.inputs.iter().flatten() {
                if input == value && found.replace(i).is_some() {
                    return None;
                }
            }
        }
        found
    }

    /// Makes every reader of `from` (and the graph outputs) read `to` instead.
    ///
    /// A graph output keeps its name: `to` takes the name of `from` over.
    pub fn replace_uses(&mut self, from: ValueId, to: ValueId) {
        for node in &mut self.nodes {
            for input in node.inputs.iter_mut().flatten() {
                if *input == from {
                    *input = to;
                }
            }
        }
        if self.outputs.contains(&from) {
            self.names.swap(from.0, to.0);
        }
        for output in self.outputs.iter_mut().filter(|output| **output == from) {
            *output = to;
        }
    }

    /// The part of the graph between `inputs` and `outputs`: the inputs, computed or constant here, are fed there. Values keep their
    /// ids. The rest of the graph's own inputs stays where it is still read.
    #[must_use]
    pub fn between(&self, inputs: Vec<Input>, outputs: Vec<ValueId>) -> Graph {
        let mut part = self.clone();
        let fed = |value: &ValueId| inputs.iter().any(|input| input.value == *value);
        part.constants.retain(|value, _| !fed(value));
        part.nodes.retain(|node| !node.outputs.iter().flatten().any(fed));
        part.outputs = outputs;
        part.remove_dead();
        let read = |value| part.nodes.iter().any(|node| node.inputs.contains(&Some(value)));
        part.inputs.retain(|input| !fed(&input.value) && read(input.value));
        part.inputs.splice(0..0, inputs.iter().cloned());
        part
    }

    /// Drops nodes and constants that no output needs, whatever order the nodes are in. Inputs stay.
    pub fn remove_dead(&mut self) {
        let producers = self.producers();
        let mut live: HashSet<ValueId> = HashSet::new();
        let mut needed = vec![false; self.nodes.len()];
        let mut pending = self.outputs.clone();
        while let Some(value) = pending.pop() {
            if !live.insert(value) {
                continue;
            }
            if let Some(&i) = producers.get(&value)
                && !std::mem::replace(&mut needed[i], true)
            {
                pending.extend(self.nodes[i].inputs.iter().flatten());
            }
        }
        let mut needed = needed.into_iter();
        self.nodes.retain(|_| needed.next().unwrap_or(false));
        self.constants.retain(|value, _| live.contains(value));
    }

    /// Puts the nodes into an order in which they can run, keeping the present order where it is one.
    ///
    /// # Errors
    /// `Cycle` when there is none.
    pub fn sort(&mut self) -> Result<(), GraphError> {
        let producers = self.producers();
        let mut pending: Vec<usize> = vec![0; self.nodes.len()];
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            for value in node.inputs.iter().flatten() {
                if let Some(&p) = producers.get(value) {
                    pending[i] += 1;
                    readers[p].push(i);
                }
            }
        }
        let mut ready: std::collections::BTreeSet<usize> =
            (0..self.nodes.len()).filter(|&i| pending[i] == 0).collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(i) = ready.pop_first() {
            order.push(i);
            for &reader in &readers[i] {
                pending[reader] -= 1;
                if pending[reader] == 0 {
                    ready.insert(reader);
                }
            }
        }
        if let Some(stuck) = pending.iter().position(|&p| p > 0) {
            return Err(GraphError::Cycle { node: self.nodes[stuck].name.clone() });
        }
        let mut slots: Vec<Option<Node>> =
            std::mem::take(&mut self.nodes).into_iter().map(Some).collect();
        self.nodes = order.into_iter().filter_map(|i| slots[i].take()).collect();
        Ok(())
    }

    /// Checks that every value is provided once, before it is read.
    ///
    /// # Errors
    /// `Duplicate`, `Undefined` or `Output`, naming the value.
    pub fn verify(&self) -> Result<(), GraphError> {
        let mut defined: HashSet<ValueId> = HashSet::new();
        let given = self.inputs.iter().map(|i| i.value).chain(self.constants.keys().copied());
        for value in given {
            self.define(&mut defined, value)?;
        }
        for node in &self.nodes {
            if let Some(&value) = node.inputs.iter().flatten().find(|v| !defined.contains(v)) {
                return Err(GraphError::Undefined {
                    node: node.name.clone(),
                    value: self.value_name(value).to_owned(),
                });
            }
            for &value in node.outputs.iter().flatten() {
                self.define(&mut defined, value)?;
            }
        }
        match self.outputs.iter().find(|v| !defined.contains(v)) {
            Some(&value) => Err(GraphError::Output { value: self.value_name(value).to_owned() }),
            None => Ok(()),
        }
    }

    fn define(&self, defined: &mut HashSet<ValueId>, value: ValueId) -> Result<(), GraphError> {
        if defined.insert(value) {
            Ok(())
        } else {
            Err(GraphError::Duplicate { value: self.value_name(value).to_owned() })
        }
    }

    /// The graph as text, one node a line: for snapshots and for reading.
    #[must_use]
    pub fn dump(&self) -> String {
        let mut text = String::new();
        let names = |values: &[Option<ValueId>]| {
            let one = |v: &Option<ValueId>| v.map_or("-".to_owned(), |v| self.show(v));
            values.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        for input in &self.inputs {
            let _ = writeln!(text, "input {}: {}", self.value_name(input.value), input.dtype);
        }
        for node in &self.nodes {
            let (ins, outs) = (names(&node.inputs), names(&node.outputs));
            let _ = writeln!(text, "{outs} = {:?}({ins})", node.op);
        }
        let outputs: Vec<_> = self.outputs.iter().map(|&v| self.value_name(v)).collect();
        let _ = writeln!(text, "output {}", outputs.join(", "));
        text
    }

    fn show(&self, value: ValueId) -> String {
        match self.constant(value) {
            Some(t) => format!("{}: {}{}", self.value_name(value), t.dtype(), t.shape()),
            None => self.value_name(value).to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
