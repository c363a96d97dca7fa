//! QONNX: quantizers written as its operators and read back mean the same; what it leaves open is refused by name.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use lowbit_graph::{
    Binary, Blocking, Conv, DequantizeLinear, Graph, Op, QuantizeLinear, Session, ValueId,
    Workspace,
};
use lowbit_onnx::proto::{AttributeProto, ModelProto};
use lowbit_onnx::{export_qonnx_bytes, import_bytes};
use lowbit_tensor::{Buffer, DType, Rng, Tensor};
use prost::Message;

/// A convolution of quantized weights on quantized images: codes of `dtype` between `limits`, `channels` scales.
fn graph(dtype: DType, limits: (i32, i32), channels: usize) -> Graph {
    let mut graph = Graph::new("g");
    let x = graph.add_input("x", DType::F32, [None, Some(2), Some(4), Some(4)].to_vec());
    let x = quantized(&mut graph, "image", x, (DType::U8, (0, 15), 1));
    let mut rng = Rng::new(3);
    let scales: Vec<f32> = (0..channels).map(|c| 0.11 + 0.07 * c as f32).collect();
    let (low, high) = limits;
    let code = |rng: &mut Rng| match rng.below((high - low) as usize + 1) as i32 + low {
        0 if limits == (-1, 1) => 1,
        code => code,
    };
    let weight: Vec<f32> = (0..3 * 18)
        .map(|i| code(&mut rng) as f32 * scales[if channels == 1 { 0 } else { i / 18 }])
        .collect();
    let weight = graph.add_constant("weight", Tensor::new([3, 2, 3, 3], weight));
    let weight = quantized(&mut graph, "weight", weight, (dtype, limits, channels));
    let conv = Conv { pads: [1; 4], ..Conv::PLAIN };
    graph.outputs = vec![graph.add_node("conv", Op::Conv(conv), &[x, weight])];
    graph
}

fn quantized(
    graph: &mut Graph,
    name: &str,
    x: ValueId,
    (dtype, limits, channels): (DType, (i32, i32), usize),
) -> ValueId {
    let scales: Vec<f32> = (0..channels).map(|c| 0.11 + 0.07 * c as f32).collect();
    let zeros = integers(dtype, vec![channels], vec![0; channels]);
    let scale = graph.add_constant(&format!("{name}_s"), Tensor::vector(scales));
    let zero = graph.add_constant(&format!("{name}_z"), zeros);
    let blocking = Blocking { axis: 0, block_size: 0 };
    let quantize = Op::QuantizeLinear(QuantizeLinear { blocking, to: dtype });
    let codes = graph.add_node(&format!("{name}_q"), quantize, &[x, scale, zero]);
    let low = graph.add_constant(&format!("{name}_low"), integers(dtype, vec![], vec![limits.0]));
    let high = graph.add_constant(&format!("{name}_high"), integers(dtype, vec![], vec![limits.1]));
    let codes = graph.add_node(&format!("{name}_c"), Op::Clip, &[codes, low, high]);
    let dequantize = Op::DequantizeLinear(DequantizeLinear { blocking });
    graph.add_node(&format!("{name}_d"), dequantize, &[codes, scale, zero])
}

fn integers(dtype: DType, dims: Vec<usize>, values: Vec<i32>) -> Tensor {
    let buffer = match dtype {
        DType::I8 => Buffer::I8(values.iter().map(|&v| v as i8).collect()),
        DType::U8 => Buffer::U8(values.iter().map(|&v| v as u8).collect()),
        DType::I16 => Buffer::I16(values.iter().map(|&v| v as i16).collect()),
        _ => Buffer::U16(values.iter().map(|&v| v as u16).collect()),
    };
    Tensor::try_new(dtype, dims, buffer).unwrap()
}

fn outputs(graph: &Graph) -> Vec<u32> {
    let mut rng = Rng::new(5);
    let image = Tensor::new([1, 2, 4, 4], (0..32).map(|_| rng.normal()).collect::<Vec<f32>>());
    let made = Session::new(graph).unwrap().run(&[image], &mut Workspace::serial()).unwrap();
    made[0].f32s().iter().map(|x| x.to_bits()).collect()
}

#[test]
fn quantizers_of_any_width_come_back() {
    for (dtype, limits, op, channels) in [
        (DType::I8, (-8, 7), "IntQuant", 3),
        (DType::I8, (-7, 7), "IntQuant", 1),
        (DType::I8, (-3, 3), "IntQuant", 3),
        (DType::U8, (0, 3), "IntQuant", 3),
        (DType::I16, (-2048, 2047), "IntQuant", 3),
        (DType::U16, (0, 65535), "IntQuant", 1),
        (DType::I8, (-1, 1), "BipolarQuant", 3),
    ] {
        let graph = graph(dtype, limits, channels);
        let bytes = export_qonnx_bytes(&graph).unwrap();
        let proto = ModelProto::decode(bytes.as_slice()).unwrap().graph.unwrap();
        let ops: Vec<&str> = proto.node.iter().map(|n| n.op_type.as_deref().unwrap()).collect();
        assert_eq!(ops, ["IntQuant", op, "Conv"], "{limits:?}");
        let unread = |name: &str| !proto.node.iter().any(|n| n.input.iter().any(|i| i == name));
        assert!(!proto.initializer.iter().any(|t| unread(t.name.as_deref().unwrap())));
        let read = import_bytes(&bytes, None).unwrap();
        assert_eq!(outputs(&read), outputs(&graph), "{dtype} {limits:?}");
    }
}

#[test]
fn signs_of_computed_values_are_a_choice_behind_which_a_quantizer_holds_them() {
    let weights = graph(DType::I8, (-1, 1), 3);
    let bytes = export_qonnx_bytes(&weights).unwrap();
    let bipolar = |change: &dyn Fn(&mut ModelProto)| {
        let mut model = ModelProto::decode(bytes.as_slice()).unwrap();
        let node = &mut model.graph.as_mut().unwrap().node[0];
        node.op_type = Some("BipolarQuant".into());
        node.input.truncate(2);
        node.attribute.clear();
        change(&mut model);
        import_bytes(&model.encode_to_vec(), None)
    };
    let read = bipolar(&|_| {}).unwrap();
    let ops: Vec<&str> = read.nodes.iter().map(|node| node.op.name()).collect();
    let signs = ["GreaterOrEqual", "Where", "QuantizeLinear", "DequantizeLinear"];
    assert!(signs.iter().all(|op| ops.contains(op)), "{ops:?}");
    // The same with the choice alone.
    let mut expected = weights.clone();
    let value =
        |graph: &Graph, name: &str| graph.nodes.iter().find(|n| n.name == name).unwrap().output();
    let [zero, above, below] =
        [0.0, 0.11, -0.11f32].map(|x| expected.add_constant("c", Tensor::scalar(x)));
    let x = expected.inputs[0].value;
    let positive = expected.add_node("positive", Op::Binary(Binary::GreaterOrEqual), &[x, zero]);
    let sign = expected.add_node("sign", Op::Where, &[positive, above, below]);
    expected.replace_uses(value(&weights, "image_d"), sign);
    expected.remove_dead();
    expected.sort().unwrap();
    assert_eq!(outputs(&read), outputs(&expected));
    assert_ne!(outputs(&read), outputs(&weights));
    let several = |model: &mut ModelProto| {
        let graph = model.graph.as_mut().unwrap();
        graph.node[0].input[1] = graph.node[1].input[1].clone();
    };
    let error = bipolar(&several).unwrap_err().to_string();
    assert!(error.contains("input 1 (scale): found 3 numbers"), "{error}");
}

/// The error of a file whose weight quantizer was changed.
fn check(change: impl Fn(&mut ModelProto), expected: &str) {
    let bytes = export_qonnx_bytes(&graph(DType::I8, (-8, 7), 3)).unwrap();
    let mut model = ModelProto::decode(bytes.as_slice()).unwrap();
    change(&mut model);
    match import_bytes(&model.encode_to_vec(), None) {
        Ok(_) => assert_eq!(expected, "", "is read"),
        Err(error) => {
            assert!(!expected.is_empty() && error.to_string().contains(expected), "{error}")
        }
    }
}

fn attribute<'a>(model: &'a mut ModelProto, name: &str) -> &'a mut AttributeProto {
    let node = &mut model.graph.as_mut().unwrap().node[1];
    node.attribute.iter_mut().find(|a| a.name.as_deref() == Some(name)).unwrap()
}

fn set(model: &mut ModelProto, input: usize, value: f32) {
    let graph = model.graph.as_mut().unwrap();
    let name = &graph.node[1].input[input];
    let tensor = graph.initializer.iter_mut().find(|t| t.name.as_ref() == Some(name)).unwrap();
    let count = tensor.raw_data.as_ref().unwrap().len() / 4;
    tensor.raw_data = Some(value.to_le_bytes().repeat(count));
}

#[test]
fn what_is_not_supported_is_refused_by_node_operator_and_attribute() {
    check(|_| {}, "");
    let floor = |m: &mut ModelProto| attribute(m, "rounding_mode").s = Some(b"FLOOR".to_vec());
    check(
        floor,
        "node \"weight_d\" (IntQuant): attribute \"rounding_mode\": found FLOOR, supported: ROUND",
    );
    check(|m| attribute(m, "narrow").i = Some(2), "attribute \"narrow\": found 2");
    check(
        |m| attribute(m, "signed").name = Some("sign".into()),
        "attribute \"signed\": found none",
    );
    check(|m| set(m, 3, 4.5), "input 3 (bitwidth): found 4.5");
    check(|m| set(m, 3, 17.0), "input 3 (bitwidth): found 17");
    check(|m| set(m, 3, 1.0), "found 1, supported: an integer of 2 to 16 (BipolarQuant");
    check(|m| set(m, 2, 0.5), "input 2 (zeropt): found 0.5");
    check(|m| set(m, 1, 0.0), "input 1 (scale): found 0");
    check(|m| set(m, 1, f32::NAN), "input 1 (scale): found NaN");
}

#[test]
fn older_names_of_the_domain_are_read() {
    for domain in ["onnx.brevitas", "finn.custom_op.general"] {
        let rename = |model: &mut ModelProto| {
            model.opset_import[1].domain = Some(domain.into());
            for node in model.graph.as_mut().unwrap().node.iter_mut().filter(|n| n.domain.is_some())
            {
                node.domain = Some(domain.into());
                node.op_type = Some("Quant".into());
            }
        };
        check(rename, "");
    }
}
