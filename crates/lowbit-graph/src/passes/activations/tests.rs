use lowbit_tensor::{Rng, Tensor};

use super::*;
use crate::op::testing::normal;
use crate::passes::testing::{Maker, apply, names, only, same};
use crate::{Conv, Gemm};

fn example(dims: &[usize]) -> Tensor {
    normal(dims, &mut Rng::new(1))
}

fn recognized(maker: Maker) -> Graph {
    let graph = maker.finish();
    let after = apply(|graph, _| recognize_activations(graph), &graph, &example(&[1, 40]));
    same(&graph, &after, &example(&[1, 40]), "recognize_activations");
    after
}

#[test]
fn every_spelling_becomes_one_operator() {
    let check = |spell: &dyn Fn(&mut Maker), expected: Unary| {
        for seed in 0..4 {
            let mut maker = Maker::new(&[1, 40], seed);
            spell(&mut maker);
            let after = recognized(maker);
            assert_eq!(after.nodes.len(), 1, "{}", after.dump());
            assert_eq!(after.nodes[0].op, Op::Unary(expected));
        }
    };
    (0..4).for_each(|form| check(&|maker| maker.hard_swish(form), Unary::HardSwish));
    check(&Maker::silu, Unary::Silu);
    (0..3).for_each(|form| check(&|maker| maker.gelu(false, form), Unary::Gelu));
    (0..3).for_each(|form| check(&|maker| maker.gelu(true, form), Unary::GeluTanh));
}

#[test]
fn other_constants_are_another_function() {
    let mut maker = Maker::new(&[1, 40], 1);
    let (x, three, low, high) =
        (maker.value, maker.scalar(3.0), maker.scalar(0.0), maker.scalar(5.0));
    let sum = maker.node(Op::Binary(Binary::Add), &[x, three]);
    let gate = maker.node(Op::Clip, &[sum, low, high]);
    let sixth = maker.scalar(1.0 / 6.0);
    let product = maker.node(Op::Binary(Binary::Mul), &[x, gate]);
    maker.then(Op::Binary(Binary::Mul), &[product, sixth]);
    assert_eq!(names(&recognized(maker)), ["Add", "Clip", "Mul", "Mul"]);
}

#[test]
fn the_gate_of_another_value_is_no_activation() {
    let mut maker = Maker::new(&[1, 40], 1);
    let x = maker.value;
    let other = maker.node(Op::Unary(Unary::Neg), &[x]);
    let gate = maker.node(Op::Unary(Unary::Sigmoid), &[other]);
    maker.then(Op::Binary(Binary::Mul), &[x, gate]);
    assert_eq!(names(&recognized(maker)), ["Neg", "Sigmoid", "Mul"]);
}

#[test]
fn inner_values_that_others_read_stay() {
    let mut maker = Maker::new(&[1, 40], 1);
    maker.silu();
    let gate = maker.graph.nodes[0].output();
    maker.graph.outputs.push(gate);
    assert_eq!(names(&recognized(maker)), ["Sigmoid", "Silu"]);
}

fn fused(maker: Maker) -> Graph {
    let graph = maker.finish();
    let after = apply(|graph, _| fuse_activations(graph), &graph, &example(&[1, 4, 5, 5]));
    same(&graph, &after, &example(&[1, 4, 5, 5]), "fuse_activations");
    after
}

fn conv() -> Maker {
    let mut maker = Maker::new(&[1, 4, 5, 5], 3);
    let weight = maker.floats(&[4, 4, 1, 1], 0.5);
    maker.on(Op::Conv(crate::Conv::PLAIN), &[weight]);
    maker
}

fn activation_of(graph: &Graph) -> Activation {
    match only(graph, "Conv").op {
        Op::Conv(Conv { activation, .. }) => activation,
        _ => unreachable!("it is a Conv"),
    }
}

#[test]
fn relu_and_clip_join_the_convolution_before_them() {
    let mut maker = conv();
    maker.on(Op::Unary(Unary::Relu), &[]);
    let after = fused(maker);
    assert_eq!((after.nodes.len(), activation_of(&after)), (1, Activation::Relu));

    let mut maker = conv();
    let (min, max) = (maker.scalar(0.0), maker.scalar(6.0));
    maker.on(Op::Clip, &[min, max]);
    let after = fused(maker);
    assert_eq!(activation_of(&after), Activation::Clip { min: 0.0, max: 6.0 });

    let mut maker = conv();
    let min = maker.scalar(0.0);
    maker.on(Op::Clip, &[min]);
    assert_eq!(activation_of(&fused(maker)), Activation::Relu);
}

#[test]
fn relu_joins_a_gemm_with_factors() {
    let mut maker = Maker::new(&[1, 4], 3);
    let (weight, bias) = (maker.floats(&[4, 3], 0.5), maker.floats(&[1, 3], 0.5));
    maker.on(Op::Gemm(Gemm { alpha: 0.5, beta: 2.0, ..Gemm::PLAIN }), &[weight, bias]);
    maker.on(Op::Unary(Unary::Relu), &[]);
    let graph = maker.finish();
    let after = apply(|graph, _| fuse_activations(graph), &graph, &example(&[1, 4]));
    same(&graph, &after, &example(&[1, 4]), "fuse_activations");
    assert_eq!(after.nodes.len(), 1);
}

#[test]
fn a_result_with_two_readers_or_that_is_an_output_is_not_fused() {
    let mut maker = conv();
    let linear = maker.value;
    let relu = maker.on(Op::Unary(Unary::Relu), &[]);
    maker.then(Op::Binary(Binary::Add), &[relu, linear]);
    assert_eq!(names(&fused(maker)), ["Conv", "Relu", "Add"]);

    let mut maker = conv();
    maker.graph.outputs.push(maker.value);
    maker.on(Op::Unary(Unary::Relu), &[]);
    assert_eq!(names(&fused(maker)), ["Conv", "Relu"]);
}

#[test]
fn computed_limits_are_not_fused() {
    let mut maker = conv();
    let linear = maker.value;
    let one = maker.scalar(-0.1);
    let limit = maker.node(Op::Unary(Unary::Neg), &[one]);
    maker.then(Op::Clip, &[linear, one, limit]);
    assert_eq!(names(&fused(maker)), ["Conv", "Neg", "Clip"]);
}
