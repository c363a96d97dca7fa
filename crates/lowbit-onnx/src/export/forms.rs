//! How each operator is written: its name, its domain and its attributes.

use lowbit_graph::{
    Activation, AutoPad, Blocking, ConstantOfShape, Conv, Gemm, LayerNorm, Node, Op, PadMode,
    Pool2d, QuantizeLinear, Reduce, ReduceKind, ShapeOf, Softmax, Split, Unary,
};
use lowbit_tensor::DType;

use crate::OnnxError;
use crate::proto::AttributeProto;
use crate::proto::attribute_proto::AttributeType;
use crate::tensor::{code_of, tensor_to_proto};

/// One node's operator and attributes.
pub(super) struct Form {
    pub(super) op: &'static str,
    pub(super) microsoft: bool,
    pub(super) attributes: Vec<AttributeProto>,
}

fn onnx(op: &'static str, attributes: Vec<AttributeProto>) -> Form {
    Form { op, microsoft: false, attributes }
}

fn microsoft(op: &'static str, attributes: Vec<AttributeProto>) -> Form {
    Form { op, microsoft: true, attributes }
}

/// The form of a node whose fused activation, if it has one, is written apart.
///
/// # Errors
/// `Node` for what ONNX cannot say.
pub(super) fn form(node: &Node) -> Result<Form, OnnxError> {
    let name = node.op.name();
    Ok(match &node.op {
        Op::Conv(c) | Op::ConvInteger(c) => onnx(name, conv(c)),
        Op::QLinearConv(c) => {
            unfused(node, c.activation)?;
            onnx(name, conv(c))
        }
        Op::Gemm(g) => onnx(name, [vec![float("beta", g.beta)], gemm(g)].concat()),
        Op::QGemm(g) => {
            unfused(node, g.activation)?;
            microsoft(name, gemm(g))
        }
        Op::BatchNorm(b) => onnx(name, vec![float("epsilon", b.epsilon)]),
        Op::LayerNorm(l) => onnx(name, layer_norm(l)),
        Op::Unary(u) => onnx(name, unary(*u)),
        Op::Softmax(s) => onnx(name, vec![int("axis", s.axis)]),
        Op::MaxPool(p) => onnx(name, [window(p), vec![sizes("dilations", &p.dilations)]].concat()),
        Op::AveragePool(p) => onnx(name, average(p)),
        Op::QLinearAveragePool(p) => microsoft(name, qlinear_average(node, p)?),
        Op::Reduce(r) => onnx(name, reduce(r, node.input(1).is_some())),
        Op::Concat(c) => onnx(name, vec![int("axis", c.axis)]),
        Op::QLinearConcat(c) => microsoft(name, vec![int("axis", c.axis)]),
        Op::Split(s) => onnx(name, split(s, node.input(1).is_some())),
        Op::Pad(p) => onnx(name, vec![string("mode", pad_mode(p.mode))]),
        Op::Reshape(r) => onnx(name, when(r.allow_zero, int("allowzero", 1))),
        Op::Flatten(f) => onnx(name, vec![int("axis", f.axis)]),
        Op::Transpose(t) => onnx(name, t.perm.iter().map(|p| sizes("perm", p)).collect()),
        Op::Gather(g) => onnx(name, vec![int("axis", g.axis)]),
        Op::Shape(s) => onnx(name, shape(s)),
        Op::ConstantOfShape(c) => onnx(name, vec![value(c)]),
        Op::Cast(c) => onnx(name, vec![int("to", i64::from(code_of(c.to) as i32))]),
        Op::QuantizeLinear(q) => onnx(name, quantize(q, node.input(2).is_some())),
        Op::DequantizeLinear(d) => onnx(name, blocking(d.blocking)),
        Op::QLinearUnary(u) => qlinear_unary(node, *u)?,
        Op::QLinearSoftmax(s) => microsoft(name, qlinear_softmax(node, s)?),
        Op::QLinearGlobalAveragePool => microsoft(name, vec![int("channels_last", 0)]),
        Op::QLinearAdd | Op::QLinearMul => microsoft(name, vec![]),
        Op::MatMul | Op::QLinearMatMul | Op::MatMulInteger | Op::DynamicQuantizeLinear => {
            onnx(name, vec![])
        }
        Op::Clip | Op::PRelu | Op::Binary(_) | Op::Where | Op::Identity | Op::Expand => {
            onnx(name, vec![])
        }
        Op::GlobalAveragePool | Op::GlobalMaxPool => onnx(name, vec![]),
        Op::Slice | Op::Squeeze | Op::Unsqueeze => onnx(name, vec![]),
    })
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(kind as i32),
        ..AttributeProto::default()
    }
}

pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeType::Float) }
}

pub(super) fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.as_bytes().to_vec()), ..attribute(name, AttributeType::String) }
}

fn sizes(name: &str, values: &[usize]) -> AttributeProto {
    let ints = values.iter().map(|&v| i64::try_from(v).unwrap_or(i64::MAX)).collect();
    AttributeProto { ints, ..attribute(name, AttributeType::Ints) }
}

pub(super) fn flag(name: &str, value: bool) -> AttributeProto {
    int(name, i64::from(value))
}

fn when(present: bool, attribute: AttributeProto) -> Vec<AttributeProto> {
    if present { vec![attribute] } else { vec![] }
}

fn refused(node: &Node, what: &str, found: String, supported: &str) -> OnnxError {
    OnnxError::Node {
        node: node.name.clone(),
        op: node.op.name(),
        what: what.to_owned(),
        found,
        supported: supported.to_owned(),
    }
}

fn unfused(node: &Node, activation: Activation) -> Result<(), OnnxError> {
    match activation {
        Activation::None => Ok(()),
        other => Err(refused(
            node,
            "activation on export",
            format!("{other:?}"),
            "none: the output's range clips",
        )),
    }
}

fn padding(auto_pad: AutoPad, pads: &[usize]) -> AttributeProto {
    match auto_pad {
        AutoPad::Explicit => sizes("pads", pads),
        AutoPad::SameUpper => string("auto_pad", "SAME_UPPER"),
        AutoPad::SameLower => string("auto_pad", "SAME_LOWER"),
        AutoPad::Valid => string("auto_pad", "VALID"),
    }
}

fn conv(conv: &Conv) -> Vec<AttributeProto> {
    let mut attributes: Vec<_> = conv.kernel.iter().map(|k| sizes("kernel_shape", k)).collect();
    attributes.push(sizes("strides", &conv.strides));
    attributes.push(sizes("dilations", &conv.dilations));
    attributes.push(int("group", i64::try_from(conv.groups).unwrap_or(i64::MAX)));
    attributes.push(padding(conv.auto_pad, &conv.pads));
    attributes
}

fn gemm(gemm: &Gemm) -> Vec<AttributeProto> {
    vec![
        float("alpha", gemm.alpha),
        flag("transA", gemm.transpose_a),
        flag("transB", gemm.transpose_b),
    ]
}

fn layer_norm(norm: &LayerNorm) -> Vec<AttributeProto> {
    vec![int("axis", norm.axis), float("epsilon", norm.epsilon)]
}

fn unary(unary: Unary) -> Vec<AttributeProto> {
    match unary {
        Unary::LeakyRelu { alpha } => vec![float("alpha", alpha)],
        Unary::HardSigmoid { alpha, beta } => vec![float("alpha", alpha), float("beta", beta)],
        Unary::GeluTanh => vec![string("approximate", "tanh")],
        Unary::Gelu => vec![string("approximate", "none")],
        Unary::Relu
        | Unary::Sigmoid
        | Unary::Tanh
        | Unary::HardSwish
        | Unary::Silu
        | Unary::Erf => vec![],
        Unary::Sqrt
        | Unary::Exp
        | Unary::Neg
        | Unary::Abs
        | Unary::Floor
        | Unary::Ceil
        | Unary::Sign => vec![],
    }
}

/// What all pools have.
fn window(pool: &Pool2d) -> Vec<AttributeProto> {
    vec![
        sizes("kernel_shape", &pool.kernel),
        sizes("strides", &pool.strides),
        padding(pool.auto_pad, &pool.pads),
        flag("ceil_mode", pool.ceil_mode),
    ]
}

fn average(pool: &Pool2d) -> Vec<AttributeProto> {
    let mut attributes = window(pool);
    attributes.push(flag("count_include_pad", pool.count_include_pad));
    attributes.extend(when(pool.dilations != [1, 1], sizes("dilations", &pool.dilations)));
    attributes
}

fn qlinear_average(node: &Node, pool: &Pool2d) -> Result<Vec<AttributeProto>, OnnxError> {
    if pool.dilations != [1, 1] {
        return Err(refused(
            node,
            "dilations on export",
            format!("{:?}", pool.dilations),
            "[1, 1]",
        ));
    }
    Ok([average(pool), vec![int("channels_last", 0)]].concat())
}

/// The opset that has this form of a reduction.
pub(super) fn reduce_opset(reduce: &Reduce, has_axes: bool) -> i64 {
    match reduce.kind {
        ReduceKind::Sum => 13,
        ReduceKind::Mean if has_axes || reduce.noop_with_empty_axes => 18,
        ReduceKind::Mean => 13,
    }
}

fn reduce(reduce: &Reduce, has_axes: bool) -> Vec<AttributeProto> {
    let mut attributes = vec![flag("keepdims", reduce.keep_dims)];
    let newer = reduce.kind == ReduceKind::Sum || reduce_opset(reduce, has_axes) >= 18;
    attributes.extend(when(newer, flag("noop_with_empty_axes", reduce.noop_with_empty_axes)));
    attributes
}

fn split(split: &Split, has_sizes: bool) -> Vec<AttributeProto> {
    let mut attributes = vec![int("axis", split.axis)];
    attributes.extend(when(!has_sizes, sizes_one("num_outputs", split.outputs)));
    attributes
}

fn sizes_one(name: &str, value: usize) -> AttributeProto {
    int(name, i64::try_from(value).unwrap_or(i64::MAX))
}

fn pad_mode(mode: PadMode) -> &'static str {
    match mode {
        PadMode::Constant => "constant",
        PadMode::Edge => "edge",
        PadMode::Reflect => "reflect",
        PadMode::Wrap => "wrap",
    }
}

fn shape(shape: &ShapeOf) -> Vec<AttributeProto> {
    let mut attributes = when(shape.start != 0, int("start", shape.start));
    attributes.extend(shape.end.map(|end| int("end", end)));
    attributes
}

fn value(constant: &ConstantOfShape) -> AttributeProto {
    AttributeProto {
        t: Some(tensor_to_proto("", &constant.value)),
        ..attribute("value", AttributeType::Tensor)
    }
}

fn blocking(blocking: Blocking) -> Vec<AttributeProto> {
    let mut attributes = when(blocking.axis != 1, int("axis", blocking.axis));
    attributes.extend(when(blocking.block_size != 0, sizes_one("block_size", blocking.block_size)));
    attributes
}

fn quantize(quantize: &QuantizeLinear, has_zero_point: bool) -> Vec<AttributeProto> {
    let named = !has_zero_point && quantize.to != DType::U8;
    let to = int("output_dtype", i64::from(code_of(quantize.to) as i32));
    [blocking(quantize.blocking), when(named, to)].concat()
}

fn qlinear_unary(node: &Node, unary: Unary) -> Result<Form, OnnxError> {
    match unary {
        Unary::Sigmoid => Ok(microsoft("QLinearSigmoid", vec![])),
        Unary::LeakyRelu { alpha } => {
            Ok(microsoft("QLinearLeakyRelu", vec![float("alpha", alpha)]))
        }
        other => {
            Err(refused(node, "function on export", other.name().to_owned(), "Sigmoid, LeakyRelu"))
        }
    }
}

fn qlinear_softmax(node: &Node, softmax: &Softmax) -> Result<Vec<AttributeProto>, OnnxError> {
    if softmax.log {
        return Err(refused(node, "function on export", "LogSoftmax".into(), "Softmax"));
    }
    let opset = if softmax.flatten { 12 } else { 13 };
    Ok(vec![int("axis", softmax.axis), int("opset", opset)])
}
