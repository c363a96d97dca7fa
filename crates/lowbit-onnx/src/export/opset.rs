//! The lowest opset that has every form a graph needs.

use lowbit_graph::{Binary, Graph, Node, Op, PadMode, Unary};
use lowbit_tensor::DType;

use crate::infer::Facts;

/// The oldest opset that is written: the first whose Softmax, Squeeze, Split and per-axis quantization are today's.
const OPSET_MIN: i64 = 13;

/// The file format that came with each opset: (first opset, IR version).
const IR_VERSIONS: &[(i64, i64)] =
    &[(13, 7), (15, 8), (19, 9), (21, 10), (23, 11), (24, 12), (25, 13)];

pub(super) fn ir_version(opset: i64) -> i64 {
    let reached = IR_VERSIONS.iter().rev().find(|(first, _)| *first <= opset);
    reached.expect("opsets are at least the oldest that is written").1
}

pub(super) fn least(graph: &Graph, facts: &Facts) -> i64 {
    let of_nodes = graph.nodes.iter().map(|node| of_node(node).max(of_operands(node, facts)));
    let quantized =
        graph.nodes.iter().any(|n| matches!(n.op, Op::QuantizeLinear(_) | Op::DequantizeLinear(_)));
    let of_types = facts.dtypes().map(|dtype| of_type(dtype, quantized));
    of_nodes.chain(of_types).fold(OPSET_MIN, i64::max)
}

fn of_type(dtype: DType, quantized: bool) -> i64 {
    match dtype {
        DType::I2 | DType::U2 => 25,
        DType::I4 | DType::U4 => 21,
        // As codes; the type itself is old.
        DType::I16 | DType::U16 if quantized => 21,
        _ => OPSET_MIN,
    }
}

/// Arithmetic on small integers came later than the operators.
fn of_operands(node: &Node, facts: &Facts) -> i64 {
    let dtype = node.input(0).and_then(|v| facts.get(v)?.dtype);
    let small = dtype.is_some_and(|d| d.bits() < 32 && d != DType::Bool);
    match node.op {
        Op::Binary(Binary::Add | Binary::Sub | Binary::Mul | Binary::Div) if small => 14,
        Op::Unary(Unary::Relu) if dtype != Some(DType::F32) => 14,
        _ => OPSET_MIN,
    }
}

fn of_node(node: &Node) -> i64 {
    match &node.op {
        Op::Unary(Unary::HardSwish) => 14,
        Op::Unary(Unary::Gelu | Unary::GeluTanh) => 20,
        Op::Reshape(reshape) if reshape.allow_zero => 14,
        Op::Shape(shape) if shape.start != 0 || shape.end.is_some() => 15,
        Op::LayerNorm(_) => 17,
        Op::Reduce(reduce) => super::forms::reduce_opset(reduce, node.input(1).is_some()),
        Op::Pad(pad) if pad.mode == PadMode::Wrap => 19,
        Op::Pad(_) if node.input(3).is_some() => 18,
        // Before, unequal parts could not be asked for without their sizes.
        Op::Split(_) if node.input(1).is_none() => 18,
        Op::AveragePool(pool) if pool.dilations != [1, 1] => 19,
        Op::QuantizeLinear(q) if q.blocking.block_size != 0 => 21,
        Op::QuantizeLinear(q) if node.input(2).is_none() && q.to != DType::U8 => 21,
        Op::DequantizeLinear(d) if d.blocking.block_size != 0 => 21,
        _ => OPSET_MIN,
    }
}
