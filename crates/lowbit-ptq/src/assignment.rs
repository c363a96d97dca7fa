//! Which layer gets which quantizers: weights by layer, activations by what reads them.

use std::collections::{BTreeMap, HashMap, HashSet};

use lowbit_graph::{Graph, Node, Op, ValueId};
use lowbit_quant::Quantizer;

use crate::Plan;
use crate::plan::moves;

/// Bits of an activation that nobody asked to be narrower: what integer additions and poolings compute in.
pub(crate) const WIDE_BITS: u8 = 8;

/// The quantizers of one convolution or fully connected layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Of its weights.
    pub weights: Quantizer,
    /// Bits of the activation it reads, 2 to 8.
    pub activation_bits: u8,
}

/// Where a layer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// It reads the image.
    First,
    /// Between others.
    Middle,
    /// It makes the scores.
    Last,
}

/// The quantizers of every layer with weights, by index of its node in the float graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assignment {
    /// Layers by node index.
    pub layers: BTreeMap<usize, Layer>,
}

/// Bits of the activations that follow from an [`Assignment`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ActivationBits {
    /// Per group of the plan.
    pub(crate) groups: Vec<u8>,
    /// Nodes that read fewer bits than their group has, because an operator beside them reads it too: node index to bits.
    pub(crate) narrowed: BTreeMap<usize, u8>,
}

impl Assignment {
    /// Asks `choose` for every node with constant weights.
    pub fn new(graph: &Graph, mut choose: impl FnMut(&Node, Position) -> Layer) -> Assignment {
        let positions = positions(graph);
        let weighted = graph.nodes.iter().enumerate().filter(|(_, node)| weighted(graph, node));
        Assignment { layers: weighted.map(|(i, node)| (i, choose(node, positions[i]))).collect() }
    }

    /// An activation that only layers of one width read has that width. One that others read too (a residual stream) stays at 8
    /// bits, and a quantizer of fewer bits is put before each narrower reader.
    pub(crate) fn activation_bits(&self, graph: &Graph, plan: &Plan) -> ActivationBits {
        let mut groups = vec![WIDE_BITS; plan.groups.len()];
        let mut narrowed = BTreeMap::new();
        for (index, group) in plan.groups.iter().enumerate() {
            let reads =
                |node: &Node| node.inputs.iter().flatten().any(|v| group.members.contains(v));
            let inside = |node: &Node| moves(&node.op) && group.members.contains(&node.output());
            let readers: Vec<(usize, &Node)> =
                graph.nodes.iter().enumerate().filter(|(_, n)| reads(n) && !inside(n)).collect();
            let bits = |i: usize| self.layers.get(&i).map_or(WIDE_BITS, |l| l.activation_bits);
            let read_outside = group.members.iter().any(|v| graph.outputs.contains(v));
            let first = readers.first().map_or(WIDE_BITS, |&(i, _)| bits(i));
            if !read_outside && readers.iter().all(|&(i, _)| bits(i) == first) {
                groups[index] = first;
                continue;
            }
            narrowed.extend(readers.iter().map(|&(i, _)| (i, bits(i))).filter(|r| r.1 < WIDE_BITS));
        }
        ActivationBits { groups, narrowed }
    }
}

/// A convolution or fully connected layer with constant weights.
pub(crate) fn weighted(graph: &Graph, node: &Node) -> bool {
    matches!(node.op, Op::Conv(_) | Op::Gemm(_)) && graph.constant_input(node, 1).is_some()
}

/// First: no other layer lies before it. Last: none lies behind it. A layer that is both counts as last.
fn positions(graph: &Graph) -> Vec<Position> {
    let mut behind_layer: HashSet<ValueId> = HashSet::new();
    let mut position = vec![Position::Middle; graph.nodes.len()];
    for (i, node) in graph.nodes.iter().enumerate() {
        let behind = node.inputs.iter().flatten().any(|v| behind_layer.contains(v));
        if weighted(graph, node) && !behind {
            position[i] = Position::First;
        }
        if behind || weighted(graph, node) {
            behind_layer.extend(node.outputs.iter().flatten());
        }
    }
    let mut before_layer: HashMap<ValueId, bool> = HashMap::new();
    for (i, node) in graph.nodes.iter().enumerate().rev() {
        let before = before_layer.get(&node.output()).copied().unwrap_or(false);
        if weighted(graph, node) && !before {
            position[i] = Position::Last;
        }
        if before || weighted(graph, node) {
            before_layer.extend(node.inputs.iter().flatten().map(|&v| (v, true)));
        }
    }
    position
}
