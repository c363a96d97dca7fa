//! What a model consists of, and what of it runs as integers where.

use std::collections::HashMap;

use lowbit_graph::passes::{Placement, Runs, Trace, trace};
use lowbit_graph::{Graph, Node, Op};
use lowbit_tensor::Tensor;
use serde::Serialize;

use crate::{Error, Model};

/// Where a model would run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// lowbit itself.
    Lowbit,
    /// onnxruntime's CPU provider, version 1.31, default optimizations.
    Ort,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// Shape of its first result for a batch of one.
    pub shape: Vec<usize>,
    /// Weights and biases, elements.
    pub parameters: u64,
    /// Multiply-accumulates for one image.
    pub macs: u64,
    /// Bits of a weight.
    pub bits_w: Option<u32>,
    /// Whether it computes on integers.
    pub integer: bool,
    /// What it runs as.
    pub runs_as: String,
    /// Why it does not run as integer.
    pub reason: Option<String>,
    /// What would make it.
    pub fix: Option<String>,
}

/// A model, node by node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// The nodes in running order.
    pub nodes: Vec<NodeReport>,
    /// Shape of the input for a batch of one.
    pub input: Vec<usize>,
    /// Shape of the first output.
    pub output: Vec<usize>,
    /// All weights and biases, elements.
    pub parameters: u64,
    /// Multiply-accumulates for one image.
    pub macs: u64,
    /// Bytes of the file.
    pub size_bytes: u64,
    /// Whether the model is quantized.
    pub quantized: bool,
}

/// Looks at a model as it would run on `target`.
///
/// # Errors
/// `Graph` when the model does not run.
pub fn inspect(model: &Model, target: Target) -> Result<Inspection, Error> {
    let graph = &model.graph;
    let traced = trace(graph, &[Tensor::full(model.input_shape.to_vec(), 0.5f32)])?;
    let placed: HashMap<&str, &Placement> =
        model.placements.iter().flatten().map(|p| (p.node.as_str(), p)).collect();
    let stored = stored_bits(&model.imported);
    let mut nodes: Vec<NodeReport> = vec![];
    for node in &graph.nodes {
        let verdict = match (model.is_quantized(), placed.get(node.name.as_str())) {
            (false, _) => Verdict::float(node.op.name(), "the model is float".into()),
            (true, Some(placement)) => Verdict::of(placement, target),
            (true, None) => Verdict::border(node),
        };
        let shape = traced.shape(node.output()).map_or(vec![], |s| s.to_vec());
        let [parameters, bits] = weights(graph, node);
        let bits = stored.get(node.name.as_str()).map_or(bits, |&stored| stored.min(bits));
        nodes.push(NodeReport {
            name: node.name.clone(),
            op: placed.get(node.name.as_str()).map_or(node.op.name(), |p| p.op).to_owned(),
            shape,
            parameters,
            macs: macs(graph, node, &traced),
            bits_w: u32::try_from(bits).ok().filter(|&bits| bits > 0),
            integer: verdict.integer,
            runs_as: verdict.runs_as,
            reason: verdict.reason,
            fix: verdict.fix,
        });
    }
    let output =
        graph.outputs.first().and_then(|&v| traced.shape(v)).map_or(vec![], |s| s.to_vec());
    Ok(Inspection {
        parameters: nodes.iter().map(|n| n.parameters).sum(),
        macs: nodes.iter().map(|n| n.macs).sum(),
        nodes,
        input: model.input_shape.to_vec(),
        output,
        size_bytes: model.size_bytes,
        quantized: model.is_quantized(),
    })
}

/// How one node runs.
struct Verdict {
    integer: bool,
    runs_as: String,
    reason: Option<String>,
    fix: Option<String>,
}

impl Verdict {
    fn integer(runs_as: &str) -> Verdict {
        Verdict { integer: true, runs_as: runs_as.to_owned(), reason: None, fix: None }
    }

    fn float(op: &str, reason: String) -> Verdict {
        let fix = fix(op, &reason).map(str::to_owned);
        Verdict { integer: false, runs_as: format!("float {op}"), reason: Some(reason), fix }
    }

    /// QuantizeLinear and DequantizeLinear where floats enter and leave.
    fn border(node: &Node) -> Verdict {
        match node.op {
            Op::QuantizeLinear(_) | Op::DequantizeLinear(_) => Verdict::integer(node.op.name()),
            _ => Verdict::float(node.op.name(), "its operands are not quantized".into()),
        }
    }

    fn of(placement: &Placement, target: Target) -> Verdict {
        match (&placement.runs, target) {
            (Runs::Integer(name), _) => Verdict::integer(name),
            (Runs::Codes, Target::Lowbit) => Verdict::integer(placement.op),
            (Runs::Codes, Target::Ort) if ORT_MOVES_CODES.contains(&placement.op) => {
                Verdict::integer(placement.op)
            }
            (Runs::Codes, Target::Ort) => Verdict::float(
                placement.op,
                format!("onnxruntime has no rule for {} between quantizers", placement.op),
            ),
            (Runs::Float(reason), _) => Verdict::float(placement.op, reason.clone()),
        }
    }
}

/// What onnxruntime 1.31 does on codes when scale and zero point stay the same.
const ORT_MOVES_CODES: &[&str] = &[
    "MaxPool",
    "Reshape",
    "Flatten",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Slice",
    "Gather",
    "Split",
    "Expand",
    "Identity",
    // Of codes, below 8 bits.
    "Clip",
];

/// What to do about a reason: (operator, start of the reason, advice); an empty operator is any.
const FIXES: &[(&str, &str, &str)] = &[
    ("", "the model is float", "quantize it: lowbit quantize"),
    ("Pad", "onnxruntime has no rule", "only moves data, so the cost is small; lowbit pads codes"),
    ("", "the result's range", "choose the result's range inside the activation's"),
    ("", "the bias scale", "set the bias scale to input scale x weight scale"),
    ("", "the bias is", "store the bias as int32 at input scale x weight scale"),
    ("", "its result", "put a QuantizeLinear, and nothing else, behind its result"),
    (
        "",
        "its input and its result have different",
        "give both sides the same scale and zero point",
    ),
    ("", "operands of", "use uint8 (or int8) for all activations"),
    ("", "the weight's scales", "let the scales run along the output channels"),
    ("HardSwish", "", "use Relu or Clip(0, 6), which have one, or run it with lowbit"),
    ("HardSigmoid", "", "use Sigmoid, which has one, or run it with lowbit"),
    ("Gelu", "", "use Relu, which has one"),
    ("Relu", "no integer form", "place it behind the Conv, Gemm or Add it belongs to"),
    ("Clip", "no integer form", "place it behind the Conv, Gemm or Add it belongs to"),
    ("Softmax", "", "runs once per image on the class scores: leave it"),
    ("", "input", "put a DequantizeLinear in front of it"),
];

fn fix(op: &str, reason: &str) -> Option<&'static str> {
    let fits =
        |row: &&(&str, &str, &str)| (row.0.is_empty() || row.0 == op) && reason.starts_with(row.1);
    FIXES.iter().find(fits).map(|row| row.2)
}

/// Elements of a node's weight and bias, and bits of the weight; zeros where it has none.
fn weights(graph: &Graph, node: &Node) -> [u64; 2] {
    let (weight, bias) = match node.op {
        Op::Conv(_) | Op::Gemm(_) | Op::ConvInteger(_) => (1, 2),
        Op::QLinearConv(_) => (3, 8),
        Op::QGemm(_) => (3, 6),
        Op::MatMul | Op::MatMulInteger => (1, usize::MAX),
        Op::QLinearMatMul => (3, usize::MAX),
        _ => return [0, 0],
    };
    let constant = |index: usize| graph.constant_input(node, index);
    let Some(weight) = constant(weight) else { return [0, 0] };
    let elements = weight.len() + constant(bias).map_or(0, |bias| bias.len());
    [elements as u64, weight.dtype().bits() as u64]
}

/// Bits of a weight as the file holds it, by node: of its codes, before constant operators decode them.
fn stored_bits(imported: &Graph) -> HashMap<&str, u64> {
    let producers = imported.producers();
    let producer = |value| producers.get(&value).map(|&i| &imported.nodes[i]);
    let mut found = HashMap::new();
    for node in &imported.nodes {
        if !matches!(node.op, Op::Conv(_) | Op::Gemm(_) | Op::MatMul) {
            continue;
        }
        let bits = node.input(1).and_then(|mut value| {
            // Each step goes to an earlier node, so that the walk ends.
            while let Some(maker) = producer(value) {
                match &maker.op {
                    Op::Gather(_) => return indexed_bits(imported, maker, &producer),
                    Op::Clip => return clipped_bits(imported, maker),
                    Op::QuantizeLinear(quantize) => return Some(quantize.to.bits() as u64),
                    _ => value = maker.input(0)?,
                }
            }
            imported.constant(value).map(|tensor| tensor.dtype().bits() as u64)
        });
        found.extend(bits.map(|bits| (node.name.as_str(), bits)));
    }
    found
}

/// Bits of indices into a table: those of their type, or fewer where the table has fewer entries.
fn indexed_bits<'a>(
    graph: &'a Graph,
    gather: &Node,
    producer: &impl Fn(lowbit_graph::ValueId) -> Option<&'a Node>,
) -> Option<u64> {
    let entries = graph.constant_input(gather, 0)?.shape().first().copied()?;
    let mut indices = gather.input(1)?;
    while let Some(maker) = producer(indices) {
        indices = maker.input(0)?;
    }
    let whole = graph.constant(indices)?.dtype().bits() as u64;
    Some(whole.min(u64::from(usize::BITS - entries.saturating_sub(1).leading_zeros()).max(1)))
}

/// Bits of the codes between the limits of a Clip.
fn clipped_bits(graph: &Graph, clip: &Node) -> Option<u64> {
    let limit = |index| graph.constant_input(clip, index)?.to_i64()?.first().copied();
    let levels = limit(2)?.checked_sub(limit(1)?)?;
    u64::try_from(levels).ok().map(|levels| u64::from(u64::BITS - levels.leading_zeros()).max(1))
}

/// Multiply-accumulates of a node for one image.
pub(crate) fn macs(graph: &Graph, node: &Node, traced: &Trace) -> u64 {
    let shape = |index: usize| {
        let value = node.input(index)?;
        let constant = graph.constant(value).map(|t| t.shape().clone());
        constant.or_else(|| traced.shape(value).cloned())
    };
    let result = traced.shape(node.output()).map_or(0, |s| s.numel());
    let per_result = match node.op {
        Op::Conv(_) | Op::ConvInteger(_) => shape(1).map(|w| w[1..].iter().product()),
        Op::QLinearConv(_) => shape(3).map(|w| w[1..].iter().product()),
        Op::Gemm(_) | Op::MatMul | Op::MatMulInteger | Op::QGemm(_) | Op::QLinearMatMul => {
            shape(0).and_then(|a| a.last().copied())
        }
        _ => None,
    };
    per_result.map_or(0, |n: usize| (n * result) as u64)
}
