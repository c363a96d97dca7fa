//! In which order a run takes the nodes, and which of them at once. Knows no values.
//!
//! ```text
//! y = Conv(x); s = y + other; z = Relu(s), each read by the next alone:
//!     z = kernel(x), added to `other` where it lies and cut off while the sums are in registers
//! ```
//! The kernel rounds as the three nodes do, one after the other: the bits are the same, and only who watches a run sees y and s.

use std::collections::HashMap;

use crate::op::Prepared;
use crate::passes::as_activation;
use crate::{Activation, Binary, Graph, Op, ValueId};

/// Steps in order, and what may be forgotten after each.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// Per step, the values nobody reads after it.
    pub(super) expiring: Vec<Vec<ValueId>>,
    /// The narrow places, in order.
    pub(super) narrows: Vec<Narrow>,
}

/// A place between two steps where all that later ones read of earlier ones is one value, images along its first axis: a convolution
/// reads it.
#[derive(Debug)]
pub(super) struct Narrow {
    /// The step behind it.
    pub(super) step: usize,
    pub(super) value: ValueId,
    /// Of the convolutions up to the next such place: floats of all their weights, and the most channels they read or make.
    pub(super) weights: usize,
    pub(super) channels: usize,
}

impl Narrow {
    /// Whether the weights behind it outweigh the activations of an image, the value's shape being `shape`.
    pub(super) fn is_heavy(&self, shape: &[usize]) -> bool {
        let area = shape.iter().skip(2).product::<usize>();
        self.weights > self.channels.saturating_mul(area)
    }
}

/// Nodes that run at once: each one's output is read by the next alone.
#[derive(Debug)]
pub(super) struct Step {
    /// Their indices, at least one.
    pub(super) nodes: Vec<usize>,
    /// How they run at once, where they are more than one.
    pub(super) onto: Option<Onto>,
}

/// A convolution that is added to another value.
#[derive(Debug)]
pub(super) struct Onto {
    pub(super) other: ValueId,
    pub(super) activation: Activation,
}

impl Plan {
    /// Node by node.
    pub(super) fn plain(graph: &Graph) -> Plan {
        Plan::new(graph, (0..graph.nodes.len()).map(Step::alone).collect(), &[])
    }

    /// With convolutions, sums and activations joined.
    pub(super) fn joined(graph: &Graph, prepared: &[Prepared]) -> Plan {
        let producers = graph.producers();
        let mut steps: Vec<Step> = vec![];
        let mut done = vec![false; graph.nodes.len()];
        for (index, packed) in prepared.iter().enumerate() {
            if done[index] {
                continue;
            }
            let linear =
                matches!(packed, Prepared::Conv(conv, _) if conv.activation == Activation::None);
            let found = if linear { residual(graph, &producers, index) } else { None };
            let step = found.unwrap_or_else(|| Step::alone(index));
            step.nodes.iter().for_each(|&node| done[node] = true);
            steps.push(step);
        }
        Plan::new(graph, steps, prepared)
    }

    fn new(graph: &Graph, steps: Vec<Step>, prepared: &[Prepared]) -> Plan {
        let mut last: HashMap<ValueId, usize> = HashMap::new();
        for (i, step) in steps.iter().enumerate() {
            for node in step.nodes.iter().map(|&node| &graph.nodes[node]) {
                // A value nobody reads expires where it is made.
                for &value in node.inputs.iter().chain(&node.outputs).flatten() {
                    last.insert(value, i);
                }
            }
        }
        let narrows = narrows(graph, &steps, &last, prepared);
        let mut expiring = vec![Vec::new(); steps.len()];
        for (value, i) in last {
            if !graph.outputs.contains(&value) && graph.constant(value).is_none() {
                expiring[i].push(value);
            }
        }
        // A map's order differs from run to run; buffers must not.
        expiring.iter_mut().for_each(|values| values.sort_unstable());
        Plan { steps, expiring, narrows }
    }
}

impl Step {
    fn alone(node: usize) -> Step {
        Step { nodes: vec![node], onto: None }
    }

    /// The node whose output is the step's.
    pub(super) fn last(&self) -> usize {
        self.nodes[self.nodes.len() - 1]
    }
}

/// The step that starts at the convolution `index`, when a sum reads it whose other operand is known by then.
fn residual(graph: &Graph, producers: &HashMap<ValueId, usize>, index: usize) -> Option<Step> {
    let made = graph.nodes[index].output();
    let sum = graph.only_consumer(made)?;
    let node = &graph.nodes[sum];
    if node.op != Op::Binary(Binary::Add) {
        return None;
    }
    let other = node.inputs.iter().flatten().copied().find(|&value| value != made)?;
    if producers.get(&other).is_some_and(|&producer| producer > index) {
        return None;
    }
    let mut nodes = vec![index, sum];
    let mut activation = Activation::None;
    if let Some(reader) = graph.only_consumer(node.output())
        && graph.nodes[reader].input(0) == Some(node.output())
        && let Some(found) = as_activation(graph, &graph.nodes[reader])
    {
        activation = found;
        nodes.push(reader);
    }
    Some(Step { nodes, onto: Some(Onto { other, activation }) })
}

/// The places over which one value passes, `last` being the last step that reads each, and a packed convolution reads it.
fn narrows(
    graph: &Graph,
    steps: &[Step],
    last: &HashMap<ValueId, usize>,
    prepared: &[Prepared],
) -> Vec<Narrow> {
    let mut passing: Vec<ValueId> = graph.inputs.iter().map(|input| input.value).collect();
    let mut found: Vec<Narrow> = vec![];
    for (i, step) in steps.iter().enumerate() {
        passing.retain(|v| graph.outputs.contains(v) || last.get(v).is_some_and(|&last| last >= i));
        let reads = |step: &Step, value| match &prepared[step.nodes[0]] {
            Prepared::Conv(..) => graph.nodes[step.nodes[0]].input(0) == Some(value),
            _ => false,
        };
        if let [value] = passing[..]
            && !graph.outputs.contains(&value)
            && !prepared.is_empty()
            && steps[i..].iter().any(|step| reads(step, value))
        {
            found.push(Narrow { step: i, value, weights: 0, channels: 0 });
        }
        if let Some(narrow) = found.last_mut()
            && let Some(Prepared::Conv(conv, packed)) = prepared.get(step.nodes[0])
        {
            let [o, i, kh, kw] = packed.shape;
            narrow.weights += o * i * kh * kw;
            narrow.channels = narrow.channels.max(o).max(i * conv.groups);
        }
        passing.extend(graph.nodes[step.last()].outputs.iter().flatten());
    }
    found
}
