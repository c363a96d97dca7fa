use lowbit_tensor::{DType, Rng, Tensor};

use super::*;
use crate::op::quantize_bias;
use crate::op::testing::normal;
use crate::passes::testing::{POOL, names, run};
use crate::{
    Binary, Blocking, Cast, Concat, Conv, DequantizeLinear, Gemm, Pad, PadMode, Pool2d,
    QuantizeLinear, Reshape, Softmax, Transpose,
};

/// What codes mean: scale, zero point, type.
#[derive(Clone, Copy)]
struct Meaning(f32, i32, DType);

const X: Meaning = Meaning(0.02, 120, DType::U8);
const Y: Meaning = Meaning(0.03, 110, DType::U8);
const SIGNED_X: Meaning = Meaning(0.02, -5, DType::I8);
const SIGNED_Y: Meaning = Meaning(0.03, 7, DType::I8);
/// All codes stand for values from 0 on.
const POSITIVE: Meaning = Meaning(0.015, 0, DType::U8);

/// What is expected of a node.
enum Expected {
    Integer(&'static str),
    Codes,
    Float(&'static str),
}
use Expected::{Codes, Float, Integer};

/// A quantized graph being made.
struct Qdq {
    graph: Graph,
    rng: Rng,
}

fn along(axis: i64) -> Blocking {
    Blocking { axis, block_size: 0 }
}

fn code(code: i32, dtype: DType) -> Tensor {
    crate::op::testing::codes(dtype, &[], &[code])
}

impl Qdq {
    fn new() -> Qdq {
        Qdq { graph: Graph::new("qdq"), rng: Rng::new(5) }
    }

    fn node(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        let name = format!("{}{}", op.name(), self.graph.nodes.len());
        self.graph.add_node(&name, op, inputs)
    }

    /// The operands beside codes or values.
    fn operands(&mut self, Meaning(scale, zero_point, dtype): Meaning) -> [ValueId; 2] {
        let scale = self.graph.add_constant("scale", Tensor::scalar(scale));
        [scale, self.graph.add_constant("zero_point", code(zero_point, dtype))]
    }

    fn quantize(&mut self, value: ValueId, meaning: Meaning) -> ValueId {
        let [scale, zero_point] = self.operands(meaning);
        let op = Op::QuantizeLinear(QuantizeLinear { blocking: along(1), to: meaning.2 });
        self.node(op, &[value, scale, zero_point])
    }

    fn dequantize(&mut self, codes: ValueId, meaning: Meaning) -> ValueId {
        let [scale, zero_point] = self.operands(meaning);
        let op = Op::DequantizeLinear(DequantizeLinear { blocking: along(1) });
        self.node(op, &[codes, scale, zero_point])
    }

    fn through(&mut self, value: ValueId, meaning: Meaning) -> ValueId {
        let codes = self.quantize(value, meaning);
        self.dequantize(codes, meaning)
    }

    /// The graph's one float input of these dimensions, quantized.
    fn input(&mut self, dims: &[usize], meaning: Meaning) -> ValueId {
        let dims = dims.iter().map(|&d| Some(d)).collect();
        let x = self.graph.add_input("x", DType::F32, dims);
        self.through(x, meaning)
    }

    fn codes(&mut self, dims: &[usize], dtype: DType) -> ValueId {
        let (low, high) = dtype.range().unwrap();
        let width = (high - low + 1) as usize;
        let len = dims.iter().product();
        let values: Vec<i32> = (0..len).map(|_| low + self.rng.below(width) as i32).collect();
        self.graph.add_constant("codes", crate::op::testing::codes(dtype, dims, &values))
    }

    /// int8 codes with a scale per line of `axis`, dequantized; and the scales.
    fn weight(&mut self, dims: &[usize], axis: usize) -> (ValueId, Vec<f32>) {
        let codes = self.codes(dims, DType::I8);
        let scales: Vec<f32> = (0..dims[axis]).map(|i| 0.001 + 0.0005 * i as f32).collect();
        let scale = self.graph.add_constant("scale", Tensor::vector(scales.clone()));
        let zeros = self.graph.add_constant("zeros", Tensor::full([dims[axis]], 0i8));
        let op = Op::DequantizeLinear(DequantizeLinear { blocking: along(axis as i64) });
        (self.node(op, &[codes, scale, zeros]), scales)
    }

    /// int32 codes at `scales`, dequantized.
    fn bias(&mut self, scales: &[f32]) -> ValueId {
        let codes = scales.iter().map(|&s| quantize_bias(self.rng.normal() * 0.3, s)).collect();
        let codes = self.graph.add_constant("bias", Tensor::vector::<i32>(codes));
        let scale = self.graph.add_constant("scale", Tensor::vector(scales.to_vec()));
        let op = Op::DequantizeLinear(DequantizeLinear { blocking: along(0) });
        self.node(op, &[codes, scale])
    }

    /// A convolution of `x` (4 channels) to 6 channels with a bias, its result not yet quantized.
    fn conv(&mut self, x: ValueId, x_scale: f32, conv: Conv) -> ValueId {
        let (weight, scales) = self.weight(&[6, 4 / conv.groups, 3, 3], 0);
        let products: Vec<f32> = scales.iter().map(|s| s * x_scale).collect();
        let bias = self.bias(&products);
        self.node(Op::Conv(conv), &[x, weight, bias])
    }

    /// Lowers the graph that ends in `value`, quantized to `meaning`, and checks every node's placement and the result.
    fn check(mut self, value: ValueId, meaning: Meaning, expected: &[Expected]) -> Graph {
        let output = self.through(value, meaning);
        self.ends(output, meaning.0, expected)
    }

    /// As [`Qdq::check`], for a graph whose output may differ by `step`.
    fn ends(mut self, output: ValueId, step: f32, expected: &[Expected]) -> Graph {
        self.graph.outputs.push(output);
        let (lowered, placements) = lower_qdq(&self.graph).unwrap();
        let found: Vec<&Runs> = placements.iter().map(|p| &p.runs).collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            let fits = match (found, expected) {
                (Runs::Integer(found), Integer(name)) => found == name,
                (Runs::Codes, Codes) => true,
                (Runs::Float(reason), Float(why)) => reason.contains(why),
                _ => false,
            };
            let names = ["Integer", "Codes", "Float"];
            let wanted = match expected {
                Integer(name) => (names[0], *name),
                Codes => (names[1], ""),
                Float(why) => (names[2], *why),
            };
            assert!(fits, "{found:?}, expected {wanted:?}\n{}", self.graph.dump());
        }
        assert_eq!(lower_qdq(&self.graph).unwrap().0, lowered, "lowering depends on chance");
        // What moves codes or stays float is exact.
        let exact = !expected.iter().any(|e| matches!(e, Integer(_)));
        let tolerance = if exact { 0.0 } else { step * 1.001 };
        let dims: Vec<usize> = self.graph.inputs[0].dims.iter().map(|d| d.unwrap()).collect();
        let x = normal(&dims, &mut Rng::new(9));
        let (before, after) = (run(&self.graph, &x).remove(0), run(&lowered, &x).remove(0));
        assert_eq!(before.shape(), after.shape());
        for (b, a) in before.to_f64().iter().zip(after.to_f64()) {
            let near = (b - a).abs() <= f64::from(tolerance);
            assert!(near, "{a}, expected {b} by {tolerance}\n{}", lowered.dump());
        }
        lowered
    }
}

const PLANES: [usize; 4] = [2, 4, 6, 5];

#[test]
fn convolutions() {
    for (from, to) in [(X, Y), (SIGNED_X, SIGNED_Y)] {
        for groups in [1, 2] {
            let mut q = Qdq::new();
            let x = q.input(&PLANES, from);
            let conv = Conv { groups, strides: [2, 1], pads: [1, 0, 2, 1], ..Conv::PLAIN };
            let y = q.conv(x, from.0, conv);
            let lowered = q.check(y, to, &[Integer("QLinearConv")]);
            let expected = ["QuantizeLinear", "QLinearConv", "DequantizeLinear"];
            assert_eq!(names(&lowered), expected);
        }
    }
}

#[test]
fn a_relu_or_clip_goes_into_the_codes_when_they_hold_no_more() {
    let absorbed = "part of the operator before it";
    let behind = |activation: &dyn Fn(&mut Qdq, ValueId) -> ValueId| {
        let mut q = Qdq::new();
        let x = q.input(&PLANES, X);
        let y = q.conv(x, X.0, Conv::PLAIN);
        let y = activation(&mut q, y);
        (q, y)
    };
    let relu = |q: &mut Qdq, y| q.node(Op::Unary(Unary::Relu), &[y]);
    let clip = |q: &mut Qdq, y| {
        let limits = [0.0f32, 2.0].map(|l| q.graph.add_constant("limit", Tensor::scalar(l)));
        q.node(Op::Clip, &[y, limits[0], limits[1]])
    };
    let inside = Meaning(2.0 / 256.0, 0, DType::U8);
    let outside = Meaning(2.5 / 255.0, 0, DType::U8);
    let signed = Meaning(2.0 / 256.0, -128, DType::I8);
    let (q, y) = behind(&relu);
    let lowered = q.check(y, POSITIVE, &[Integer("QLinearConv"), Integer(absorbed)]);
    assert_eq!(lowered.nodes.len(), 3);
    let (q, y) = behind(&clip);
    q.check(y, inside, &[Integer("QLinearConv"), Integer(absorbed)]);
    let below = "goes below its Relu";
    let (q, y) = behind(&relu);
    q.check(y, Y, &[Float(below), Float("no integer form of Relu on its own")]);
    let (q, y) = behind(&clip);
    q.check(y, outside, &[Float("exceeds its Clip"), Float("on its own")]);
    let (q, y) = behind(&clip);
    q.check(y, signed, &[Float("expected one type"), Float("on its own")]);
}

#[test]
fn a_fused_activation_is_held_to_the_same_rule() {
    for (to, expected) in [(POSITIVE, Integer("QLinearConv")), (Y, Float("below its Relu"))] {
        let mut q = Qdq::new();
        let x = q.input(&PLANES, X);
        let y = q.conv(x, X.0, Conv { activation: crate::Activation::Relu, ..Conv::PLAIN });
        q.check(y, to, &[expected]);
    }
}

#[test]
fn codes_without_zero_point_have_the_type_they_are_made_as() {
    // int8 codes around 0: Relu is not what saturation does.
    let mut q = Qdq::new();
    let x = q.input(&PLANES, SIGNED_X);
    let y = q.conv(x, SIGNED_X.0, Conv::PLAIN);
    let y = q.node(Op::Unary(Unary::Relu), &[y]);
    let scale = q.graph.add_constant("scale", Tensor::scalar(0.03f32));
    let to = QuantizeLinear { blocking: along(1), to: DType::I8 };
    let codes = q.node(Op::QuantizeLinear(to), &[y, scale]);
    let op = Op::DequantizeLinear(DequantizeLinear { blocking: along(1) });
    let y = q.node(op, &[codes, scale]);
    q.ends(y, 0.03, &[Float("below its Relu"), Float("on its own")]);
}

#[test]
fn biases() {
    let with_bias = |make: &dyn Fn(&mut Qdq, &[f32]) -> ValueId, expected| {
        let mut q = Qdq::new();
        let x = q.input(&PLANES, X);
        let (weight, scales) = q.weight(&[6, 4, 3, 3], 0);
        let products: Vec<f32> = scales.iter().map(|s| s * X.0).collect();
        let bias = make(&mut q, &products);
        let y = q.node(Op::Conv(Conv::PLAIN), &[x, weight, bias]);
        q.check(y, Y, &[expected]);
    };
    let floats = |q: &mut Qdq, _: &[f32]| {
        let values = normal(&[6], &mut q.rng);
        q.graph.add_constant("bias", values)
    };
    with_bias(&floats, Integer("QLinearConv"));
    let other = |q: &mut Qdq, products: &[f32]| {
        q.bias(&products.iter().map(|s| s * 1.01).collect::<Vec<f32>>())
    };
    with_bias(&other, Float("bias scale is not input scale x weight scale"));
    let of_first = |q: &mut Qdq, products: &[f32]| {
        let codes = q.graph.add_constant("bias", Tensor::vector(vec![40i32; 6]));
        let scale = q.graph.add_constant("scale", Tensor::scalar(products[0]));
        let op = Op::DequantizeLinear(DequantizeLinear { blocking: along(0) });
        q.node(op, &[codes, scale])
    };
    with_bias(&of_first, Float("bias scale is not input scale x weight scale"));
    let bytes = |q: &mut Qdq, _: &[f32]| {
        let codes = q.codes(&[6], DType::I8);
        q.dequantize(codes, Meaning(0.01, 0, DType::I8))
    };
    with_bias(&bytes, Float("the bias is int8, expected int32"));
}

#[test]
fn weights() {
    let with_weight = |make: &dyn Fn(&mut Qdq) -> ValueId, expected| {
        let mut q = Qdq::new();
        let x = q.input(&PLANES, X);
        let weight = make(&mut q);
        let y = q.node(Op::Conv(Conv::PLAIN), &[x, weight]);
        q.check(y, Y, &[expected]);
    };
    let constant = |dtype: DType| {
        move |q: &mut Qdq| {
            let codes = q.codes(&[6, 4, 3, 3], dtype);
            q.dequantize(codes, Meaning(0.002, 1, dtype))
        }
    };
    with_weight(&constant(DType::I8), Integer("QLinearConv"));
    with_weight(&constant(DType::U8), Integer("QLinearConv"));
    with_weight(&constant(DType::I4), Float("the weight is int4, expected int8 or uint8"));
    with_weight(&|q| q.weight(&[6, 4, 3, 3], 1).0, Float("not along its output channels"));
    let floats = |q: &mut Qdq| {
        let values = normal(&[6, 4, 3, 3], &mut q.rng);
        q.graph.add_constant("weight", values)
    };
    with_weight(&floats, Float("does not come from DequantizeLinear"));
}

#[test]
fn a_4_bit_weight_behind_a_cast_is_an_8_bit_weight_once_constants_are_folded() {
    let mut q = Qdq::new();
    let x = q.input(&PLANES, X);
    let packed = q.codes(&[6, 4, 3, 3], DType::I4);
    let codes = q.node(Op::Cast(Cast { to: DType::I8 }), &[packed]);
    let weight = q.dequantize(codes, Meaning(0.05, 0, DType::I8));
    let y = q.node(Op::Conv(Conv::PLAIN), &[x, weight]);
    q.graph = crate::passes::fold_constants(&q.graph).unwrap();
    q.check(y, Y, &[Integer("QLinearConv")]);
}

#[test]
fn gemms_give_floats_or_codes() {
    for transpose_b in [false, true] {
        let make = || {
            let mut q = Qdq::new();
            let x = q.input(&[3, 8], X);
            let (dims, axis) = if transpose_b { ([5, 8], 0) } else { ([8, 5], 1) };
            let (weight, scales) = q.weight(&dims, axis);
            let bias = q.bias(&scales.iter().map(|s| s * X.0).collect::<Vec<f32>>());
            let y = q.node(Op::Gemm(Gemm { transpose_b, ..Gemm::PLAIN }), &[x, weight, bias]);
            (q, y)
        };
        let (q, y) = make();
        let lowered = q.check(y, Y, &[Integer("QGemm")]);
        assert_eq!(names(&lowered), ["QuantizeLinear", "QGemm", "DequantizeLinear"]);
        let (q, y) = make();
        let lowered = q.ends(y, 1e-6, &[Integer("QGemm")]);
        assert_eq!(names(&lowered), ["QuantizeLinear", "QGemm"]);
    }
    let mut q = Qdq::new();
    let x = q.input(&[3, 8], X);
    let weight = q.weight(&[8, 5], 1).0;
    let y = q.node(Op::Gemm(Gemm { alpha: 0.5, ..Gemm::PLAIN }), &[x, weight]);
    q.check(y, Y, &[Float("alpha 0.5")]);
}

#[test]
fn a_gemm_keeps_its_fused_activation() {
    for (to, step) in [(Some(POSITIVE), POSITIVE.0), (Some(Y), Y.0), (None, 1e-6)] {
        let mut q = Qdq::new();
        let x = q.input(&[3, 8], X);
        let weight = q.weight(&[8, 5], 1).0;
        let gemm = Gemm { activation: crate::Activation::Relu, ..Gemm::PLAIN };
        let mut y = q.node(Op::Gemm(gemm), &[x, weight]);
        if let Some(to) = to {
            y = q.through(y, to);
        }
        q.ends(y, step, &[Integer("QGemm")]);
    }
}

#[test]
fn a_gemm_whose_bias_is_not_one_per_column_stays_float() {
    for dims in [&[1][..], &[3, 5], &[3, 1]] {
        let mut q = Qdq::new();
        let x = q.input(&[3, 8], X);
        let weight = q.weight(&[8, 5], 1).0;
        let values = normal(dims, &mut q.rng);
        let bias = q.graph.add_constant("bias", values);
        let y = q.node(Op::Gemm(Gemm::PLAIN), &[x, weight, bias]);
        q.check(y, Y, &[Float("expected [5]")]);
    }
}

#[test]
fn products() {
    let mut q = Qdq::new();
    let x = q.input(&[2, 3, 5, 5], X);
    let y = q.node(Op::MatMul, &[x, x]);
    q.check(y, Y, &[Integer("QLinearMatMul")]);
    for (axis, expected) in [(1, Integer("QLinearMatMul")), (0, Float("not along"))] {
        let mut q = Qdq::new();
        let x = q.input(&[3, 5], X);
        let weight = q.weight(&[5, 5], axis).0;
        let y = q.node(Op::MatMul, &[x, weight]);
        q.check(y, Y, &[if axis == 0 { Float("do not run along") } else { expected }]);
    }
}

#[test]
fn sums_products_and_joins() {
    let binary = |op: Binary, dims: &'static [usize]| {
        move |q: &mut Qdq, x: ValueId| {
            let codes = q.codes(dims, DType::U8);
            let other = q.dequantize(codes, Meaning(0.01, 100, DType::U8));
            q.node(Op::Binary(op), &[x, other])
        }
    };
    let check = |make: &dyn Fn(&mut Qdq, ValueId) -> ValueId, expected: &[Expected]| {
        let mut q = Qdq::new();
        let x = q.input(&PLANES, X);
        let y = make(&mut q, x);
        q.check(y, POSITIVE, expected);
    };
    check(&binary(Binary::Add, &[2, 4, 6, 5]), &[Integer("QLinearAdd")]);
    check(&binary(Binary::Mul, &[2, 4, 1, 1]), &[Integer("QLinearMul")]);
    check(&binary(Binary::Sub, &[2, 4, 1, 1]), &[Float("no integer form of Sub")]);
    let relu = |q: &mut Qdq, x| {
        let sum = binary(Binary::Add, &[2, 4, 6, 5])(q, x);
        q.node(Op::Unary(Unary::Relu), &[sum])
    };
    check(&relu, &[Integer("QLinearAdd"), Integer("part of the operator before it")]);
    let join = |q: &mut Qdq, x| {
        let codes = q.codes(&[2, 3, 6, 5], DType::U8);
        let other = q.dequantize(codes, Meaning(0.01, 100, DType::U8));
        q.node(Op::Concat(Concat { axis: 1 }), &[x, other])
    };
    check(&join, &[Integer("QLinearConcat")]);
    let mixed = |q: &mut Qdq, x| {
        let codes = q.codes(&[2, 4, 6, 5], DType::I8);
        let other = q.dequantize(codes, Meaning(0.01, 3, DType::I8));
        q.node(Op::Binary(Binary::Add), &[x, other])
    };
    check(&mixed, &[Float("operands of uint8 and int8, expected one type")]);
}

#[test]
fn one_operand_functions() {
    let check = |op: Op, expected| {
        for (from, to) in [(X, Y), (SIGNED_X, SIGNED_Y)] {
            let mut q = Qdq::new();
            let x = q.input(&PLANES, from);
            let y = q.node(op.clone(), &[x]);
            q.check(y, to, &[Integer(expected)]);
        }
    };
    let pool = Pool2d { pads: [1, 0, 0, 1], count_include_pad: true, ..POOL };
    check(Op::GlobalAveragePool, "QLinearGlobalAveragePool");
    check(Op::AveragePool(POOL), "QLinearAveragePool");
    check(Op::AveragePool(pool), "QLinearAveragePool");
    check(Op::Unary(Unary::Sigmoid), "QLinearSigmoid");
    check(Op::Unary(Unary::LeakyRelu { alpha: 0.1 }), "QLinearLeakyRelu");
    let softmax = Softmax { axis: 1, log: false, flatten: false };
    check(Op::Softmax(softmax), "QLinearSoftmax");
    let mut q = Qdq::new();
    let x = q.input(&PLANES, X);
    let y = q.node(Op::Unary(Unary::HardSwish), &[x]);
    q.check(y, Y, &[Float("no integer form of HardSwish")]);
}

#[test]
fn what_moves_elements_moves_codes_between_equal_parameters() {
    let check = |make: &dyn Fn(&mut Qdq, ValueId) -> ValueId| {
        for meaning in [X, SIGNED_X] {
            let mut q = Qdq::new();
            let x = q.input(&PLANES, meaning);
            let y = make(&mut q, x);
            let lowered = q.check(y, meaning, &[Codes]);
            assert_eq!(lowered.nodes.len(), 3, "{}", lowered.dump());
            let mut q = Qdq::new();
            let x = q.input(&PLANES, meaning);
            let y = make(&mut q, x);
            let other = Meaning(meaning.0 * 1.5, meaning.1, meaning.2);
            q.check(y, other, &[Float("different scales or zero points")]);
        }
    };
    let ints =
        |q: &mut Qdq, values: &[i64]| q.graph.add_constant("ints", Tensor::vector(values.to_vec()));
    let pool = Pool2d { pads: [1; 4], ..POOL };
    check(&|q, x| q.node(Op::MaxPool(pool), &[x]));
    check(&|q, x| q.node(Op::Transpose(Transpose { perm: Some(vec![0, 2, 3, 1]) }), &[x]));
    check(&|q, x| {
        let shape = ints(q, &[2, -1]);
        q.node(Op::Reshape(Reshape { allow_zero: false }), &[x, shape])
    });
    check(&|q, x| {
        let (starts, ends, axes) = (ints(q, &[1]), ints(q, &[3]), ints(q, &[2]));
        q.node(Op::Slice, &[x, starts, ends, axes])
    });
    for mode in [PadMode::Constant, PadMode::Edge] {
        check(&|q, x| {
            let pads = ints(q, &[0, 0, 1, 2, 0, 0, 1, 0]);
            q.node(Op::Pad(Pad { mode }), &[x, pads])
        });
    }
    check(&|q, x| {
        let pads = ints(q, &[0, 0, 1, 2, 0, 0, 1, 0]);
        let value = q.graph.add_constant("value", Tensor::scalar(0.5f32));
        q.node(Op::Pad(Pad { mode: PadMode::Constant }), &[x, pads, value])
    });
}

#[test]
fn wide_codes_move_where_the_operator_takes_them() {
    let wide = Meaning(0.001, 30_000, DType::U16);
    let mut q = Qdq::new();
    let x = q.input(&PLANES, wide);
    let y = q.node(Op::Transpose(Transpose { perm: None }), &[x]);
    q.check(y, wide, &[Codes]);
    let mut q = Qdq::new();
    let x = q.input(&PLANES, wide);
    let y = q.node(Op::MaxPool(POOL), &[x]);
    q.check(y, wide, &[Float("codes are uint16, expected uint8 or int8")]);
    let mut q = Qdq::new();
    let x = q.input(&PLANES, wide);
    let y = q.node(Op::GlobalAveragePool, &[x]);
    q.check(y, wide, &[Float("activations are uint16")]);
}

#[test]
fn two_readers_and_float_outputs_keep_a_node_float() {
    let mut q = Qdq::new();
    let x = q.input(&PLANES, X);
    let y = q.conv(x, X.0, Conv::PLAIN);
    let quantized = q.through(y, Y);
    let sum = q.node(Op::Binary(Binary::Add), &[quantized, y]);
    let one_reader = "does not go to one QuantizeLinear alone";
    let codes = "does not come from DequantizeLinear";
    q.check(sum, Y, &[Float(one_reader), Float(codes)]);

    let mut q = Qdq::new();
    let x = q.input(&PLANES, X);
    let y = q.conv(x, X.0, Conv::PLAIN);
    q.graph.outputs.push(y);
    q.check(y, Y, &[Float("is a float output of the model")]);
}

#[test]
fn codes_that_two_read_are_made_once() {
    let mut q = Qdq::new();
    let x = q.input(&PLANES, X);
    let y = q.conv(x, X.0, Conv::PLAIN);
    let codes = q.quantize(y, Y);
    q.graph.outputs.push(codes);
    let values = q.dequantize(codes, Y);
    let pooled = q.node(Op::GlobalAveragePool, &[values]);
    let expected = [Integer("QLinearConv"), Integer("QLinearGlobalAveragePool")];
    let lowered = q.check(pooled, Y, &expected);
    let quantizers = names(&lowered).iter().filter(|&&n| n == "QuantizeLinear").count();
    assert_eq!(quantizers, 1, "{}", lowered.dump());
}

#[test]
fn scales_per_channel_of_an_activation_make_a_float_island() {
    let mut q = Qdq::new();
    let dims = PLANES.iter().map(|&d| Some(d)).collect();
    let x = q.graph.add_input("x", DType::F32, dims);
    let scales = q.graph.add_constant("scales", Tensor::vector(vec![0.01f32, 0.02, 0.03, 0.04]));
    let zeros = q.graph.add_constant("zeros", Tensor::vector(vec![1u8, 2, 3, 4]));
    let quantize = QuantizeLinear { blocking: along(1), to: DType::U8 };
    let codes = q.node(Op::QuantizeLinear(quantize), &[x, scales, zeros]);
    let dequantize = Op::DequantizeLinear(DequantizeLinear { blocking: along(1) });
    let values = q.node(dequantize, &[codes, scales, zeros]);
    let y = q.node(Op::Unary(Unary::Sigmoid), &[values]);
    q.check(y, Y, &[Float("more than one scale")]);
}

#[test]
fn nodes_whose_values_share_a_name_are_all_lowered() {
    let mut q = Qdq::new();
    let x = q.input(&[2, 4, 6, 6], X);
    let mut y = x;
    for _ in 0..2 {
        let pooled = q.graph.add_value("pooled");
        q.graph.nodes.push(Node {
            name: "pool".into(),
            op: Op::AveragePool(POOL),
            inputs: vec![Some(y)],
            outputs: vec![Some(pooled)],
        });
        y = q.through(pooled, X);
    }
    let expected = [Integer("QLinearAveragePool"), Integer("QLinearAveragePool")];
    q.ends(y, X.0, &expected);
}

#[test]
fn a_float_graph_comes_back_as_it_is() {
    let (graph, _) = crate::passes::testing::random_graph(3);
    let (lowered, placements) = lower_qdq(&graph).unwrap();
    assert_eq!(lowered.dump(), graph.dump());
    assert!(placements.iter().all(|p| matches!(p.runs, Runs::Float(_))));
}
