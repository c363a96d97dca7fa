//! Which activations are quantized, and which of them share one quantizer.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use lowbit_graph::{Binary, Graph, Node, Op, Unary, ValueId};

use crate::PtqError;
use crate::functions::{functions, sign_of};
use crate::regions::{self, Absorbers, Region};

/// Activations that share scale and zero point: a value and what only moves its elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The value that is observed: the others hold its elements.
    pub root: ValueId,
    /// All members, the root first.
    pub members: Vec<ValueId>,
    /// Beyond these limits every reader saturates, so the range need not go there.
    pub limits: (f32, f32),
    /// A constant that Pad adds to the elements.
    pub includes: Vec<f32>,
    /// Who absorbs a scale per channel, where somebody does.
    pub absorbers: Option<Absorbers>,
    /// Of signs: every element is this number, its negative or 0, which a quantizer of this scale holds exactly.
    pub sign: Option<f32>,
}

/// The activations to quantize, in graph order.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// One quantizer each.
    pub groups: Vec<Group>,
    /// Groups with scales per channel.
    pub regions: Vec<Region>,
    /// Sums and products with constants that belong to a function of single elements, by index of the node: computed in float, as
    /// that function is.
    pub(crate) functions: BTreeSet<usize>,
}

/// What an operator asks of its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Computes on codes, and needs its result quantized to do so.
    Integer,
    /// Computes on codes; its result may stay float.
    IntegerToFloat,
    /// Moves elements.
    Movement,
    /// Computes in float.
    Float,
}

fn kind(op: &Op) -> Kind {
    match op {
        Op::Conv(_)
        | Op::MatMul
        | Op::Binary(Binary::Add | Binary::Mul)
        | Op::Concat(_)
        | Op::GlobalAveragePool
        | Op::AveragePool(_)
        | Op::Unary(Unary::Sigmoid | Unary::LeakyRelu { .. }) => Kind::Integer,
        Op::Gemm(_) => Kind::IntegerToFloat,
        op if op.moves_elements() => Kind::Movement,
        _ => Kind::Float,
    }
}

/// As [`kind`], for a node of a graph whose [`functions`] are known.
fn kind_of(graph: &Graph, index: usize, functions: &BTreeSet<usize>) -> Kind {
    if functions.contains(&index) { Kind::Float } else { kind(&graph.nodes[index].op) }
}

/// Whether an operator moves elements, so that codes can be moved in their place.
pub(crate) fn moves(op: &Op) -> bool {
    kind(op) == Kind::Movement
}

/// Whether an operator computes in float whatever surrounds it.
pub(crate) fn runs_in_float(op: &Op) -> bool {
    kind(op) == Kind::Float
}

impl Plan {
    /// Decides for a canonical float graph.
    ///
    /// A value is quantized when an integer operator reads it, or when one makes it (a last fully connected layer excepted:
    /// logits stay float). Data movement shares its operand's quantizer. Between an Add and the Relu or Clip that alone
    /// reads it nothing is quantized: the two are one operator.
    ///
    /// With `channel_scales`, values whose neighbours can absorb it get a scale per channel ([`Region`]).
    ///
    /// # Errors
    /// `AlreadyQuantized`, `Inputs` or `NothingToQuantize`.
    pub fn new(graph: &Graph, channel_scales: bool) -> Result<Plan, PtqError> {
        check(graph)?;
        let functions = functions(graph);
        let quantized = quantized_values(graph, &functions);
        let mut group_of: HashMap<ValueId, ValueId> = HashMap::new();
        let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
        let mut order: HashMap<ValueId, usize> = HashMap::new();
        for (i, &value) in quantized.iter().enumerate() {
            let producer = graph.nodes.iter().find(|n| n.outputs.contains(&Some(value)));
            let shared = producer
                .filter(|node| kind(&node.op) == Kind::Movement)
                .and_then(|node| group_of.get(&node.input(0)?).copied());
            let root = shared.unwrap_or(value);
            group_of.insert(value, root);
            let position = *order.entry(root).or_insert(i);
            let group = groups.entry(position).or_insert_with(|| Group {
                root,
                members: vec![],
                limits: (f32::NEG_INFINITY, f32::INFINITY),
                includes: vec![],
                absorbers: None,
                sign: sign_of(graph, root),
            });
            group.members.push(value);
            if shared.is_some()
                && let Some(padding) = producer.and_then(|node| pad_value(graph, node))
            {
                group.includes.push(padding);
            }
        }
        let mut groups: Vec<Group> = groups.into_values().collect();
        for group in &mut groups {
            group.limits = limits(graph, group);
        }
        let regions = if channel_scales { regions::find(graph, &mut groups) } else { vec![] };
        Ok(Plan { groups, regions, functions })
    }
}

fn check(graph: &Graph) -> Result<(), PtqError> {
    let inputs = graph.inputs.len();
    if inputs != 1 {
        return Err(PtqError::Inputs { found: inputs });
    }
    let integer = |node: &&Node| {
        let op = node.op.name();
        op.contains("Quantize") || op.starts_with('Q') || op.ends_with("Integer")
    };
    if let Some(node) = graph.nodes.iter().find(integer) {
        return Err(PtqError::AlreadyQuantized { op: node.op.name(), node: node.name.clone() });
    }
    let weighted = |node: &Node| {
        matches!(node.op, Op::Conv(_) | Op::Gemm(_)) && graph.constant_input(node, 1).is_some()
    };
    if !graph.nodes.iter().any(weighted) {
        return Err(PtqError::NothingToQuantize);
    }
    Ok(())
}

/// Values to quantize, in the order in which they become known.
fn quantized_values(graph: &Graph, functions: &BTreeSet<usize>) -> Vec<ValueId> {
    let wanted = wanted_by_readers(graph, functions);
    let mut quantized: Vec<ValueId> = Vec::new();
    let mut chosen: HashSet<ValueId> = HashSet::new();
    let mut choose = |value: ValueId, yes: bool| {
        if yes && chosen.insert(value) {
            quantized.push(value);
        }
        yes
    };
    let input = graph.inputs[0].value;
    let mut known: HashSet<ValueId> = HashSet::new();
    if choose(input, wanted.contains(&input)) {
        known.insert(input);
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        let value = node.output();
        let made = match kind_of(graph, index, functions) {
            Kind::Integer => true,
            Kind::IntegerToFloat | Kind::Float => false,
            Kind::Movement => node.input(0).is_some_and(|v| known.contains(&v)),
        };
        let behind_add = || {
            matches!(node.op, Op::Unary(Unary::Relu) | Op::Clip)
                && node.input(0).is_some_and(|v| before_activation(graph, v))
        };
        let quantize = (made || wanted.contains(&value) || behind_add())
            && !before_activation(graph, value)
            && is_float(graph, node);
        if choose(value, quantize) {
            known.insert(value);
        }
    }
    quantized
}

/// Integers that shape computations left behind are not activations.
fn is_float(graph: &Graph, node: &Node) -> bool {
    !matches!(node.op, Op::Shape(_) | Op::Cast(_)) && {
        let first = node.input(0).and_then(|v| graph.constant(v));
        first.is_none_or(|t| t.as_slice::<f32>().is_ok())
    }
}

/// Values that an integer operator reads, directly or after data movement.
fn wanted_by_readers(graph: &Graph, functions: &BTreeSet<usize>) -> HashSet<ValueId> {
    let mut wanted = HashSet::new();
    for (index, node) in graph.nodes.iter().enumerate().rev() {
        match kind_of(graph, index, functions) {
            Kind::Integer => wanted.extend(node.inputs.iter().flatten()),
            Kind::IntegerToFloat => wanted.extend(node.input(0)),
            Kind::Movement if wanted.contains(&node.output()) => wanted.extend(node.input(0)),
            Kind::Movement | Kind::Float => {}
        }
    }
    wanted
}

/// Whether `value` is a sum that only a Relu or Clip reads.
pub(crate) fn before_activation(graph: &Graph, value: ValueId) -> bool {
    let added = graph.nodes.iter().any(|n| {
        n.outputs.contains(&Some(value)) && matches!(n.op, Op::Binary(Binary::Add | Binary::Mul))
    });
    added && graph.only_consumer(value).is_some_and(|reader| constant_clip(graph, reader))
}

fn constant_clip(graph: &Graph, index: usize) -> bool {
    let node = &graph.nodes[index];
    match node.op {
        Op::Unary(Unary::Relu) => true,
        Op::Clip => [1, 2].iter().all(|&i| {
            node.input(i).is_none() || graph.constant_input(node, i).is_some_and(|c| c.len() == 1)
        }),
        _ => false,
    }
}

fn pad_value(graph: &Graph, node: &Node) -> Option<f32> {
    matches!(node.op, Op::Pad(_)).then(|| graph.constant_input(node, 2))??.f32s().first().copied()
}

/// Where all readers of the group's values saturate.
fn limits(graph: &Graph, group: &Group) -> (f32, f32) {
    let mut limits = (f32::INFINITY, f32::NEG_INFINITY);
    for node in &graph.nodes {
        if !node.inputs.iter().flatten().any(|v| group.members.contains(v))
            || node.outputs.iter().flatten().any(|v| group.members.contains(v))
        {
            continue;
        }
        let (low, high) = match node.op {
            // x · clamp(x / 6 + 0.5, 0, 1) is 0 below -3.
            Op::Unary(Unary::HardSwish) => (-3.0, f32::INFINITY),
            Op::Unary(Unary::HardSigmoid { alpha, beta }) if alpha > 0.0 => {
                (-beta / alpha, (1.0 - beta) / alpha)
            }
            _ => (f32::NEG_INFINITY, f32::INFINITY),
        };
        limits = (limits.0.min(low), limits.1.max(high));
    }
    let read_outside = group.members.iter().any(|v| graph.outputs.contains(v));
    if limits.0 > limits.1 || read_outside {
        return (f32::NEG_INFINITY, f32::INFINITY);
    }
    limits
}
