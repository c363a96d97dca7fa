//! Every operator on its way out: in which opset, and that it comes back as it was.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use lowbit_graph::*;
use lowbit_onnx::proto::ModelProto;
use lowbit_onnx::{export_bytes, import_bytes};
use lowbit_tensor::{Buffer, DType, Tensor};
use prost::Message;

/// A graph of one operator; each letter is an operand.
fn graph(op: Op, operands: &str) -> Graph {
    let mut graph = Graph::new("g");
    let mut inputs = Vec::new();
    for (i, letter) in operands.chars().enumerate() {
        let name = format!("v{i}");
        inputs.push(match letter {
            'x' => graph.add_input(&name, DType::F32, vec![None, Some(2), Some(4), Some(4)]),
            'm' => graph.add_input(&name, DType::F32, vec![None, Some(4)]),
            'q' => graph.add_input(&name, DType::U8, vec![None, Some(2), Some(4), Some(4)]),
            'Q' => graph.add_input(&name, DType::U8, vec![None, Some(4)]),
            'w' => graph.add_constant(&name, Tensor::full([2, 2, 3, 3], 0.5f32)),
            'W' => graph.add_constant(&name, Tensor::full([2, 2, 3, 3], 3i8)),
            'g' => graph.add_constant(&name, Tensor::full([4, 4], 0.5f32)),
            'G' => graph.add_constant(&name, Tensor::full([4, 4], 3i8)),
            'v' => graph.add_constant(&name, Tensor::full([4], 0.5f32)),
            'c' => graph.add_constant(&name, Tensor::full([2], 0.5f32)),
            's' => graph.add_constant(&name, Tensor::scalar(0.5f32)),
            'z' => graph.add_constant(&name, Tensor::scalar(3u8)),
            'Z' => graph.add_constant(&name, Tensor::scalar(0i8)),
            'h' => graph.add_constant(&name, Tensor::scalar(3u16)),
            '1' => graph.add_constant(&name, Tensor::vector(vec![1i64])),
            'p' => graph.add_constant(&name, Tensor::vector(vec![0i64, 0, 1, 1, 0, 0, 1, 1])),
            '4' => graph.add_constant(&name, narrow(DType::I4)),
            '2' => graph.add_constant(&name, narrow(DType::I2)),
            'b' => graph.add_constant(&name, Tensor::full([4, 2], 0.5f32)),
            other => panic!("no operand {other}"),
        });
    }
    let y = graph.add_node("n", op, &inputs);
    graph.outputs.push(y);
    graph
}

fn narrow(dtype: DType) -> Tensor {
    Tensor::try_new(
        dtype,
        [4, 4],
        Buffer::I8(vec![-2, 1, 0, -1, 1, 1, 0, 0, -1, -1, -2, 0, 1, 1, 1, 1]),
    )
    .unwrap()
}

/// Writes the graph, and looks at the opset and at the nodes, with their domains.
fn written(graph: &Graph, opset: i64, nodes: &str) -> Vec<u8> {
    let bytes = export_bytes(graph).unwrap();
    let model = ModelProto::decode(bytes.as_slice()).unwrap();
    assert_eq!(model.opset_import[0].version(), opset, "{nodes}");
    let microsoft = model.opset_import.len() == 2;
    let proto = model.graph.unwrap();
    let found: Vec<&str> = proto.node.iter().map(|n| n.op_type()).collect();
    assert_eq!(found.join(" "), nodes);
    assert_eq!(microsoft, proto.node.iter().any(|n| n.domain() == "com.microsoft"), "{nodes}");
    // Every operator of the table has a rank that is known beforehand.
    let output = proto.output[0].r#type.as_ref().unwrap().value.as_ref().unwrap();
    assert!(format!("{output:?}").contains("shape: Some"), "{nodes}");
    if let Some(folder) = std::env::var_os("LOWBIT_WRITE_FORMS") {
        let name = format!("{}_{opset}_{:08x}.onnx", nodes.replace(' ', "_"), bytes.len());
        std::fs::write(std::path::Path::new(&folder).join(name), &bytes).unwrap();
    }
    bytes
}

fn check(op: Op, operands: &str, opset: i64) {
    let graph = graph(op, operands);
    let bytes = written(&graph, opset, graph.nodes[0].op.name());
    let again = import_bytes(&bytes, None).unwrap();
    assert_eq!(again.nodes[0].op, graph.nodes[0].op);
    assert_eq!(again.dump(), import_bytes(&export_bytes(&again).unwrap(), None).unwrap().dump());
}

/// An operator that ONNX says in several nodes.
fn check_split(op: Op, operands: &str, nodes: &str) {
    written(&graph(op, operands), 13, nodes);
}

const CONV: Conv = Conv { strides: [2, 1], pads: [1, 0, 1, 0], ..Conv::PLAIN };

const GEMM: Gemm = Gemm { alpha: 0.5, beta: 2.0, transpose_b: true, ..Gemm::PLAIN };

const POOL: Pool2d = Pool2d {
    kernel: [2, 3],
    strides: [1, 2],
    dilations: [1, 1],
    pads: [1, 0, 0, 1],
    auto_pad: AutoPad::Explicit,
    ceil_mode: true,
    count_include_pad: false,
};

fn blocking(axis: i64, block_size: usize) -> Blocking {
    Blocking { axis, block_size }
}

fn softmax(axis: i64, flatten: bool) -> Softmax {
    Softmax { axis, log: false, flatten }
}

#[test]
fn windows_and_products() {
    check(Op::Conv(CONV), "xwc", 13);
    check(Op::Conv(Conv { kernel: Some([3, 3]), ..CONV }), "xw", 13);
    check(Op::Conv(Conv { pads: [0; 4], auto_pad: AutoPad::SameLower, ..CONV }), "xw", 13);
    check(Op::Gemm(GEMM), "mgv", 13);
    check(Op::MaxPool(Pool2d { dilations: [2, 1], ..POOL }), "x", 13);
    check(Op::AveragePool(Pool2d { count_include_pad: true, ..POOL }), "x", 13);
    check(Op::AveragePool(Pool2d { dilations: [2, 1], ..POOL }), "x", 19);
    check(Op::LayerNorm(LayerNorm { axis: -1, epsilon: 1e-3 }), "mvv", 17);
    check(Op::BatchNorm(BatchNorm { epsilon: 1e-3 }), "xcccc", 13);
}

#[test]
fn activations() {
    check(Op::Unary(Unary::HardSwish), "x", 14);
    check(Op::Unary(Unary::HardSigmoid { alpha: 0.1, beta: 0.25 }), "x", 13);
    check(Op::Unary(Unary::LeakyRelu { alpha: 0.3 }), "x", 13);
    check(Op::Unary(Unary::Gelu), "x", 20);
    check(Op::Unary(Unary::GeluTanh), "x", 20);
    check(Op::Clip, "xss", 13);
    check(Op::Softmax(softmax(1, false)), "x", 13);
    check(Op::Softmax(Softmax { log: true, ..softmax(-1, false) }), "x", 13);
}

#[test]
fn forms_that_came_later() {
    let reduce = |kind, noop_with_empty_axes| {
        Op::Reduce(Reduce { kind, keep_dims: false, noop_with_empty_axes })
    };
    check(reduce(ReduceKind::Mean, false), "x", 13);
    check(reduce(ReduceKind::Mean, false), "x1", 18);
    check(reduce(ReduceKind::Mean, true), "x", 18);
    check(reduce(ReduceKind::Sum, true), "x1", 13);
    check(Op::Pad(Pad { mode: PadMode::Reflect }), "xp", 13);
    check(Op::Pad(Pad { mode: PadMode::Wrap }), "xp", 19);
    check(Op::Reshape(Reshape { allow_zero: true }), "x1", 14);
    check(Op::Shape(ShapeOf { start: 0, end: None }), "x", 13);
    check(Op::Shape(ShapeOf { start: 1, end: Some(-1) }), "x", 15);
    check(Op::Split(Split { axis: 1, outputs: 1 }), "x", 18);
    check(Op::Split(Split { axis: 1, outputs: 1 }), "m1", 13);
    check(Op::Binary(Binary::Add), "qq", 14);
    check(Op::Cast(Cast { to: DType::I8 }), "4", 21);
}

#[test]
fn quantization() {
    let quantize = |to, blocking| Op::QuantizeLinear(QuantizeLinear { blocking, to });
    let dequantize = |blocking| Op::DequantizeLinear(DequantizeLinear { blocking });
    check(quantize(DType::U8, blocking(1, 0)), "xsz", 13);
    check(quantize(DType::U8, blocking(1, 0)), "xs", 13);
    check(quantize(DType::I8, blocking(1, 0)), "xs", 21);
    check(quantize(DType::U16, blocking(1, 0)), "xsh", 21);
    check(dequantize(blocking(0, 0)), "Gv", 13);
    check(dequantize(blocking(1, 2)), "Gb", 21);
    check(dequantize(blocking(0, 0)), "4v", 21);
    check(dequantize(blocking(0, 0)), "2v", 25);
    check(Op::DynamicQuantizeLinear, "x", 13);
    check(Op::QLinearConv(CONV), "qszWsZsz", 13);
    check(Op::ConvInteger(CONV), "qWz", 13);
    check(Op::QLinearMatMul, "QszGsZsz", 13);
    check(Op::MatMulInteger, "QGz", 13);
}

#[test]
fn operators_of_microsoft() {
    let gemm = Gemm { beta: 1.0, ..GEMM };
    check(Op::QGemm(gemm), "QszGsZ", 13);
    check(Op::QLinearAdd, "qszqszsz", 13);
    check(Op::QLinearMul, "qszqszsz", 13);
    check(Op::QLinearConcat(Concat { axis: 1 }), "szqszqsz", 13);
    check(Op::QLinearGlobalAveragePool, "qszsz", 13);
    check(Op::QLinearAveragePool(POOL), "qszsz", 13);
    check(Op::QLinearSoftmax(softmax(1, true)), "qszsz", 13);
    check(Op::QLinearSoftmax(softmax(-1, false)), "qszsz", 13);
    written(&graph(Op::QLinearUnary(Unary::Sigmoid), "qszsz"), 13, "QLinearSigmoid");
    written(
        &graph(Op::QLinearUnary(Unary::LeakyRelu { alpha: 0.1 }), "qszsz"),
        13,
        "QLinearLeakyRelu",
    );
}

#[test]
fn what_onnx_says_in_several_nodes() {
    let relu = Activation::Relu;
    let relu6 = Activation::Clip { min: 0.0, max: 6.0 };
    check_split(Op::Conv(Conv { activation: relu, ..CONV }), "xwc", "Conv Relu");
    check_split(Op::Conv(Conv { activation: relu6, ..CONV }), "xw", "Conv Clip");
    check_split(Op::Gemm(Gemm { activation: relu, ..GEMM }), "mg", "Gemm Relu");
    check_split(Op::Unary(Unary::Silu), "x", "Sigmoid Mul");
    check_split(Op::Softmax(softmax(1, true)), "x", "Shape Flatten Softmax Reshape");
}

#[test]
fn an_infinite_limit_is_left_out() {
    let activation = Activation::Clip { min: f32::NEG_INFINITY, max: 6.0 };
    let bytes = written(&graph(Op::Conv(Conv { activation, ..CONV }), "xw"), 13, "Conv Clip");
    let clip = &import_bytes(&bytes, None).unwrap().nodes[1];
    assert!(clip.input(1).is_none() && clip.input(2).is_some());
}

#[test]
fn what_onnx_cannot_say_is_refused() {
    let refused = |op: Op, operands: &str, message: &str| {
        let error = export_bytes(&graph(op, operands)).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    };
    let activation = Activation::Relu;
    refused(Op::QLinearConv(Conv { activation, ..CONV }), "qszWsZsz", "activation on export");
    refused(Op::QLinearUnary(Unary::Exp), "qszsz", "supported: Sigmoid, LeakyRelu");
    refused(
        Op::QLinearAveragePool(Pool2d { dilations: [2, 2], ..POOL }),
        "qszsz",
        "dilations on export",
    );
}

#[test]
fn a_failed_export_leaves_no_file() {
    let folder = std::env::temp_dir().join(format!("lowbit-export-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("model.onnx");
    let fine = graph(Op::Unary(Unary::Relu), "x");
    lowbit_onnx::export(&fine, &path).unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(lowbit_onnx::export(&graph(Op::QLinearUnary(Unary::Exp), "qszsz"), &path).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), before, "the old file stays");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing half-written");
    std::fs::remove_dir_all(&folder).unwrap();
}
