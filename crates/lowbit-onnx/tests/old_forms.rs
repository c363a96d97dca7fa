//! Older forms of operators become the newest; forms of the wrong opset, and values that are not supported, are refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use lowbit_onnx::import_bytes;
use lowbit_onnx::proto::attribute_proto::AttributeType;
use lowbit_onnx::proto::tensor_proto::DataType;
use lowbit_onnx::proto::tensor_shape_proto::{Dimension, dimension};
use lowbit_onnx::proto::type_proto::{Tensor as TensorType, Value};
use lowbit_onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto,
};
use prost::Message;

/// What an attribute holds.
enum Is {
    Int(i64),
    Float(f32),
    Ints(&'static [i64]),
    Text(&'static str),
}
use Is::{Float, Int, Ints, Text};

type Attributes<'a> = &'a [(&'a str, Is)];

fn attribute((name, value): &(&str, Is)) -> AttributeProto {
    let mut made = AttributeProto { name: Some((*name).to_owned()), ..AttributeProto::default() };
    match value {
        Int(i) => {
            made.set_type(AttributeType::Int);
            made.i = Some(*i);
        }
        Float(f) => {
            made.set_type(AttributeType::Float);
            made.f = Some(*f);
        }
        Ints(ints) => {
            made.set_type(AttributeType::Ints);
            made.ints = ints.to_vec();
        }
        Text(text) => {
            made.set_type(AttributeType::String);
            made.s = Some(text.as_bytes().to_vec());
        }
    }
    made
}

fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim =
        |&d: &i64| Dimension { value: Some(dimension::Value::DimValue(d)), ..Dimension::default() };
    let tensor = TensorType {
        elem_type: Some(DataType::Float as i32),
        shape: Some(TensorShapeProto { dim: dims.iter().map(dim).collect() }),
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { value: Some(Value::TensorType(tensor)), ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}

/// A model of one node, "n", that reads `x` and other values and makes `y`.
fn model(opset: i64, op: &str, inputs: &str, attributes: Attributes<'_>) -> Vec<u8> {
    let (domain, op) = op.rsplit_once(':').unwrap_or(("", op));
    let node = NodeProto {
        name: Some("n".into()),
        op_type: Some(op.to_owned()),
        domain: Some(domain.to_owned()),
        input: inputs.split_whitespace().map(str::to_owned).collect(),
        output: vec!["y".into()],
        attribute: attributes.iter().map(attribute).collect(),
        ..NodeProto::default()
    };
    let flag = TensorProto {
        name: Some("true".into()),
        data_type: Some(DataType::Bool as i32),
        raw_data: Some(vec![1]),
        ..TensorProto::default()
    };
    let graph = GraphProto {
        node: vec![node],
        initializer: vec![flag],
        input: vec![value("x", &[2, 3, 4]), value("image", &[2, 3, 4, 4]), value("w", &[5, 3, 2])],
        output: vec![value("y", &[])],
        ..GraphProto::default()
    };
    let opset_import =
        vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(opset) }];
    let model = ModelProto {
        ir_version: Some(4),
        opset_import,
        graph: Some(graph),
        ..ModelProto::default()
    };
    model.encode_to_vec()
}

/// `expected` is the dump of the nodes with the values of the constants that came from attributes.
fn check(opset: i64, op: &str, inputs: &str, attributes: Attributes<'_>, expected: &str) {
    let graph = import_bytes(&model(opset, op, inputs, attributes), None).unwrap();
    let dump = graph.dump();
    let nodes: Vec<&str> =
        dump.lines().filter(|l| !l.starts_with("input") && !l.starts_with("output")).collect();
    let mut found = nodes.join("; ");
    for (value, tensor) in graph.constants().filter(|(v, _)| graph.value_name(*v).starts_with("n_"))
    {
        let name = graph.value_name(value);
        let shown = format!("{name}: {}{}", tensor.dtype(), tensor.shape());
        found = found.replace(&shown, &format!("{:?}", tensor.to_f64()));
    }
    assert_eq!(found, expected);
}

fn refuse(opset: i64, op: &str, inputs: &str, attributes: Attributes<'_>, message: &str) {
    let error = import_bytes(&model(opset, op, inputs, attributes), None).unwrap_err().to_string();
    assert!(error.contains(message), "{error}\n  lacks {message}");
    assert!(error.contains("node \"n\""), "{error}");
}

#[test]
fn attributes_become_inputs() {
    check(9, "Clip", "x", &[("max", Float(6.0)), ("min", Float(0.0))], "y = Clip(x, [0.0], [6.0])");
    check(9, "Clip", "x", &[("max", Float(6.0))], "y = Clip(x, -, [6.0])");
    check(9, "Clip", "x", &[], "y = Clip(x)");
    check(
        9,
        "Slice",
        "x",
        &[("starts", Ints(&[1])), ("ends", Ints(&[2]))],
        "y = Slice(x, [1.0], [2.0])",
    );
    let axes = [("starts", Ints(&[1])), ("ends", Ints(&[-1])), ("axes", Ints(&[2]))];
    check(9, "Slice", "x", &axes, "y = Slice(x, [1.0], [-1.0], [2.0])");
    check(12, "Squeeze", "x", &[("axes", Ints(&[0]))], "y = Squeeze(x, [0.0])");
    check(12, "Squeeze", "x", &[], "y = Squeeze(x)");
    check(12, "Unsqueeze", "x", &[("axes", Ints(&[0, -1]))], "y = Unsqueeze(x, [0.0, -1.0])");
    let split = "y = Split(Split { axis: 2, outputs: 1 })(x, [4.0])";
    check(12, "Split", "x", &[("axis", Int(2)), ("split", Ints(&[4]))], split);
    let pad = "y = Pad(Pad { mode: Constant })(x, [0.0, 0.0, 1.0, 0.0, 0.0, 1.0], [2.5])";
    check(10, "Pad", "x", &[("pads", Ints(&[0, 0, 1, 0, 0, 1])), ("value", Float(2.5))], pad);
}

#[test]
fn reductions_and_their_axes() {
    let mean = "y = Reduce(Reduce { kind: Mean, keep_dims: false, noop_with_empty_axes: false })(x, [1.0, 2.0])";
    check(17, "ReduceMean", "x", &[("axes", Ints(&[1, 2])), ("keepdims", Int(0))], mean);
    let sum = "y = Reduce(Reduce { kind: Sum, keep_dims: true, noop_with_empty_axes: false })(x)";
    check(12, "ReduceSum", "x", &[], sum);
    check(13, "ReduceSum", "x", &[], sum);
    refuse(13, "ReduceSum", "x", &[("axes", Ints(&[1]))], "attribute \"axes\": found [1]");
    refuse(18, "ReduceMean", "x", &[("axes", Ints(&[1]))], "attribute \"axes\": found [1]");
}

#[test]
fn softmax_was_flat_before_opset_13() {
    check(
        12,
        "Softmax",
        "x",
        &[],
        "y = Softmax(Softmax { axis: 1, log: false, flatten: true })(x)",
    );
    check(
        12,
        "Softmax",
        "x",
        &[("axis", Int(2))],
        "y = Softmax(Softmax { axis: 2, log: false, flatten: false })(x)",
    );
    check(
        13,
        "Softmax",
        "x",
        &[],
        "y = Softmax(Softmax { axis: -1, log: false, flatten: false })(x)",
    );
    check(
        11,
        "LogSoftmax",
        "x",
        &[],
        "y = Softmax(Softmax { axis: 1, log: true, flatten: true })(x)",
    );
}

#[test]
fn one_axis_becomes_two() {
    let graph = import_bytes(
        &model(13, "Conv", "x w", &[("pads", Ints(&[1, 0])), ("strides", Ints(&[2]))]),
        None,
    )
    .unwrap();
    let names: Vec<_> = graph.nodes.iter().map(|n| n.op.name()).collect();
    assert_eq!(names, ["Unsqueeze", "Unsqueeze", "Conv", "Squeeze"]);
    let graph =
        import_bytes(&model(13, "MaxPool", "x", &[("kernel_shape", Ints(&[2]))]), None).unwrap();
    let names: Vec<_> = graph.nodes.iter().map(|n| n.op.name()).collect();
    assert_eq!(names, ["Unsqueeze", "MaxPool", "Squeeze"]);
}

#[test]
fn operators_that_vanish() {
    check(11, "Dropout", "x", &[("ratio", Float(0.5))], "y = Identity(x)");
    check(12, "Dropout", "x", &[("seed", Int(1))], "y = Identity(x)");
    check(13, "Max", "x", &[], "y = Identity(x)");
    check(
        13,
        "Max",
        "x x x",
        &[],
        "n_pair_out = Binary(Max)(x, x); y = Binary(Max)(n_pair_out, x)",
    );
    refuse(13, "Dropout", "x x true", &[], "input 2 (training_mode): found true, supported: false");
    refuse(12, "Dropout", "x", &[("ratio", Float(0.5))], "attribute \"ratio\": found 0.5");
}

#[test]
fn attributes_of_other_opsets_are_refused() {
    refuse(
        13,
        "Clip",
        "x",
        &[("min", Float(0.0))],
        "attribute \"min\": found 0, supported: no such attribute in opset 13",
    );
    refuse(10, "Clip", "x x", &[], "number of inputs: found 2, supported: 1 before opset 11");
    refuse(12, "Squeeze", "x x", &[], "number of inputs: found 2, supported: 1 in opset 12");
    refuse(13, "Unsqueeze", "x", &[], "input 1 (axes): found none");
    refuse(13, "Reshape", "x x", &[("allowzero", Int(1))], "attribute \"allowzero\"");
    refuse(18, "Pad", "x x", &[("mode", Text("wrap"))], "attribute \"mode\": found wrap");
    refuse(17, "Split", "x", &[("num_outputs", Int(1))], "attribute \"num_outputs\"");
    refuse(12, "DequantizeLinear", "x x", &[("axis", Int(0))], "attribute \"axis\"");
    refuse(20, "DequantizeLinear", "x x", &[("block_size", Int(2))], "attribute \"block_size\"");
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn values_that_are_not_supported_are_refused() {
    refuse(
        17,
        "LayerNormalization",
        "x x",
        &[("stash_type", Int(10))],
        "attribute \"stash_type\": found 10, supported: 1",
    );
    refuse(
        15,
        "BatchNormalization",
        "x x x x x",
        &[("training_mode", Int(1))],
        "attribute \"training_mode\": found 1",
    );
    refuse(20, "Gelu", "x", &[("approximate", Text("fast"))], "found fast, supported: none, tanh");
    refuse(18, "Split", "x", &[("num_outputs", Int(3))], "attribute \"num_outputs\": found 3");
    refuse(13, "Cast", "x", &[("to", Int(8))], "attribute \"to\": found string");
    refuse(13, "Cast", "x", &[], "attribute \"to\": found none");
    refuse(
        13,
        "Constant",
        "",
        &[("value_string", Text("a"))],
        "attribute \"value_string\": found no value that is read",
    );
    refuse(13, "QuantizeLinear", "x x x", &[], "type of codes: found float32");
    refuse(13, "Concat", "x x", &[], "attribute \"axis\": found none");
    refuse(
        13,
        "MaxPool",
        "image",
        &[("kernel_shape", Ints(&[2, 2])), ("auto_pad", Text("SAME"))],
        "found SAME",
    );
    let both = [
        ("kernel_shape", Ints(&[2, 2])),
        ("auto_pad", Text("VALID")),
        ("pads", Ints(&[1, 1, 1, 1])),
    ];
    refuse(13, "MaxPool", "image", &both, "attribute \"pads\"");
    refuse(
        13,
        "MaxPool",
        "image",
        &[("kernel_shape", Ints(&[2, 2])), ("ceil_mode", Int(2))],
        "found 2, supported: 0 or 1",
    );
    refuse(13, "MaxPool", "image", &[], "attribute \"kernel_shape\": found none");
    let last = [("channels_last", Int(1))];
    refuse(
        13,
        "com.microsoft:QLinearGlobalAveragePool",
        "x x x x x",
        &last,
        "attribute \"channels_last\": found 1",
    );
    refuse(
        13,
        "com.microsoft:QLinearConcat",
        "x x x x x x",
        &[("axis", Int(1))],
        "number of inputs: found 6",
    );
    refuse(13, "com.microsoft:QLinearSoftmax", "x x x x x", &[], "attribute \"opset\": found none");
}
