//! Which activations may have scales per channel, and which of those must have the same ones up to a constant.
//!
//! A factor per channel passes through whatever is linear in each channel: pooling, and multiplication by a squeeze-and-excitation
//! gate. So the values between the operators that can absorb factors fall into regions with one set of factors each. It would
//! pass through residual additions too, but sharing factors along a residual stream cost ResNet-8 0.25 points of agreement
//! (10,000 CIFAR-10 images, 98.76 against 99.01 %), so additions end a region.

use std::collections::HashMap;

use lowbit_graph::{Activation, Binary, Graph, Node, Op, Unary, ValueId};

use crate::plan::{Group, before_activation, runs_in_float};

/// What makes or reads a value, as far as scales per channel are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Operators that run in float: the QuantizeLinear or DequantizeLinear beside them takes the scales.
    Float,
    /// Convolutions and fully connected layers, whose weights take the factors.
    Weighted,
    /// An operator that factors pass through.
    Linear,
}

/// Who absorbs a value's scales per channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Absorbers {
    /// What makes the value.
    pub maker: Side,
    /// What reads it: `Float`, or a mixture of the others.
    pub reader: Side,
    /// Upper limit of the Clip that is part of the convolution that makes it.
    pub ceiling: Option<f32>,
    /// Whether a fully connected layer reads it, flattened: this asks for one element per channel.
    pub flattened: bool,
}

/// Groups of the plan that have the same factors per channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Indices of the groups.
    pub groups: Vec<usize>,
    /// Weighted nodes that read them: (group, index of the node in the graph).
    pub readers: Vec<(usize, usize)>,
}

/// Finds the absorbers of every group and joins the groups that must have the same factors.
pub(crate) fn find(graph: &Graph, groups: &mut [Group]) -> Vec<Region> {
    let members =
        groups.iter().enumerate().flat_map(|(i, g)| g.members.iter().map(move |&v| (v, i)));
    let group_of: HashMap<ValueId, usize> = members.collect();
    let mut region_of: Vec<usize> = (0..groups.len()).collect();
    let mut broken = vec![false; groups.len()];
    for node in &graph.nodes {
        let Some(operands) = linear_operands(graph, node) else { continue };
        let values = operands.into_iter().chain([result(graph, node)]);
        let joined: Vec<Option<usize>> = values.map(|v| group_of.get(&v).copied()).collect();
        let known: Vec<usize> = joined.iter().copied().flatten().collect();
        for &group in &known {
            broken[group] |= known.len() < joined.len();
            let (from, to) = (region_of[group], region_of[known[0]]);
            region_of.iter_mut().filter(|r| **r == from).for_each(|r| *r = to);
        }
    }
    let found: Vec<Option<Absorbers>> = groups.iter().map(|g| absorbers(graph, g)).collect();
    let mut regions = vec![];
    for label in 0..groups.len() {
        let inside: Vec<usize> = (0..groups.len()).filter(|&g| region_of[g] == label).collect();
        if inside.is_empty() || inside.iter().any(|&g| broken[g] || found[g].is_none()) {
            continue;
        }
        for &group in &inside {
            groups[group].absorbers = found[group];
        }
        let reads = |node: &Node| -> Option<usize> {
            let group = *group_of.get(&node.input(0)?)?;
            (weighted(graph, node) && inside.contains(&group)).then_some(group)
        };
        let nodes = graph.nodes.iter().enumerate();
        let readers = nodes.filter_map(|(i, node)| Some((reads(node)?, i))).collect();
        regions.push(Region { groups: inside, readers });
    }
    regions
}

/// A convolution or fully connected layer that can take factors into its weights.
fn weighted(graph: &Graph, node: &Node) -> bool {
    let constant = |i: usize| node.input(i).is_none() || graph.constant_input(node, i).is_some();
    let plain = match &node.op {
        Op::Conv(_) => true,
        Op::Gemm(gemm) => gemm.alpha == 1.0 && gemm.beta == 1.0 && !gemm.transpose_a,
        _ => false,
    };
    plain && constant(1) && constant(2)
}

/// The operands whose factors per channel pass through `node`; `None` where they do not.
fn linear_operands(graph: &Graph, node: &Node) -> Option<Vec<ValueId>> {
    let operands: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
    match &node.op {
        Op::GlobalAveragePool | Op::AveragePool(_) => Some(vec![*operands.first()?]),
        Op::Binary(Binary::Mul) => {
            let gates = |v: ValueId| {
                let scalar = graph.constant(v).is_some_and(|c| c.len() == 1);
                let maker = graph.nodes.iter().find(|n| n.outputs.contains(&Some(v)));
                let gate = |n: &Node| {
                    matches!(n.op, Op::Unary(Unary::Sigmoid | Unary::HardSigmoid { .. }))
                };
                scalar || maker.is_some_and(gate)
            };
            match operands[..] {
                [a, b] if gates(b) && !gates(a) && graph.constant(a).is_none() => Some(vec![a]),
                [a, b] if gates(a) && !gates(b) && graph.constant(b).is_none() => Some(vec![b]),
                _ => None,
            }
        }
        _ => None,
    }
}

/// What is quantized behind `node`: its output, or that of the Relu which belongs to it.
fn result(graph: &Graph, node: &Node) -> ValueId {
    let value = node.output();
    let relu = before_activation(graph, value).then(|| graph.only_consumer(value)).flatten();
    relu.map_or(value, |reader| graph.nodes[reader].output())
}

fn absorbers(graph: &Graph, group: &Group) -> Option<Absorbers> {
    // Signs have a scale of their own.
    if group.sign.is_some() {
        return None;
    }
    if group.members.iter().any(|v| graph.outputs.contains(v)) || !group.includes.is_empty() {
        return None;
    }
    let (maker, ceiling) = maker(graph, group.root)?;
    let mut found = Absorbers { maker, reader: Side::Linear, ceiling, flattened: false };
    let mut sides = vec![];
    for &member in &group.members {
        for node in graph.nodes.iter().filter(|n| n.inputs.contains(&Some(member))) {
            match reader(graph, node, group, member)? {
                Reading::Moved => {}
                Reading::Flattened => found.flattened = true,
                Reading::Absorbed(side) => sides.push(side),
            }
        }
    }
    let in_float = sides.iter().filter(|&&s| s == Side::Float).count();
    if in_float == sides.len() && !sides.is_empty() {
        found.reader = Side::Float;
    } else if in_float > 0 {
        return None;
    }
    let free = maker == Side::Float && found.reader == Side::Float;
    (!sides.is_empty() && !free).then_some(found)
}

fn maker(graph: &Graph, value: ValueId) -> Option<(Side, Option<f32>)> {
    let node = graph.nodes.iter().find(|node| node.outputs.contains(&Some(value)))?;
    if linear_operands(graph, node).is_some() {
        return Some((Side::Linear, None));
    }
    match &node.op {
        Op::Conv(conv) if weighted(graph, node) => match conv.activation {
            Activation::None | Activation::Relu => Some((Side::Weighted, None)),
            Activation::Clip { min: 0.0, max } if max > 0.0 => Some((Side::Weighted, Some(max))),
            Activation::Clip { .. } => None,
        },
        Op::Unary(unary) => {
            let input = node.input(0)?;
            if !before_activation(graph, input) {
                return runs_in_float(&node.op).then_some((Side::Float, None));
            }
            let sum = graph.nodes.iter().find(|n| n.outputs.contains(&Some(input)))?;
            let passes = *unary == Unary::Relu && linear_operands(graph, sum).is_some();
            passes.then_some((Side::Linear, None))
        }
        _ => None,
    }
}

/// How a node reads a value.
enum Reading {
    /// It moves elements within their channels.
    Moved,
    /// It removes the spatial axes.
    Flattened,
    /// It absorbs factors, or passes them on.
    Absorbed(Side),
}

fn reader(graph: &Graph, node: &Node, group: &Group, value: ValueId) -> Option<Reading> {
    let once = node.inputs.iter().filter(|&&v| v == Some(value)).count() == 1;
    let flat = value != group.root && !maxpooled(graph, value);
    if !once || node.input(0) != Some(value) && !matches!(node.op, Op::Binary(_)) {
        return None;
    }
    match &node.op {
        Op::Gemm(_) if flat && weighted(graph, node) => Some(Reading::Absorbed(Side::Weighted)),
        Op::Flatten(_) | Op::Reshape(_) | Op::Squeeze => Some(Reading::Flattened),
        _ if flat => None,
        Op::MaxPool(_) => Some(Reading::Moved),
        Op::Conv(_) if weighted(graph, node) => Some(Reading::Absorbed(Side::Weighted)),
        Op::Unary(_) if runs_in_float(&node.op) && value == group.root => {
            Some(Reading::Absorbed(Side::Float))
        }
        _ => {
            let passes = linear_operands(graph, node)?.contains(&value);
            passes.then_some(Reading::Absorbed(Side::Linear))
        }
    }
}

fn maxpooled(graph: &Graph, value: ValueId) -> bool {
    let maker = graph.nodes.iter().find(|node| node.outputs.contains(&Some(value)));
    maker.is_some_and(|node| matches!(node.op, Op::MaxPool(_)))
}
