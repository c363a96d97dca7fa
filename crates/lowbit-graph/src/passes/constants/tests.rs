use lowbit_tensor::{DType, Rng};

use super::*;
use crate::op::testing::normal;
use crate::passes::testing::{Maker, apply, names, only, same};
use crate::{Binary, Blocking, Cast, DequantizeLinear, QuantizeLinear, Transpose, Unary};

const DIMS: [usize; 4] = [1, 4, 2, 3];

fn example() -> Tensor {
    normal(&DIMS, &mut Rng::new(1))
}

/// Folding leaves one Reshape with this shape operand.
fn check_reshape(make: &dyn Fn(&mut Maker), expected: &[i64]) {
    for seed in 0..4 {
        let mut maker = Maker::new(&DIMS, seed);
        make(&mut maker);
        let graph = maker.finish();
        let after = apply(fold_shapes, &graph, &example());
        same(&graph, &after, &example(), "fold_shapes");
        assert_eq!(names(&after), ["Reshape"], "{}", after.dump());
        let operand = after.constant_input(only(&after, "Reshape"), 1).unwrap();
        assert_eq!(operand.to_i64().unwrap(), expected);
    }
}

#[test]
fn computed_shapes_become_constants_with_a_free_batch() {
    check_reshape(&|m| m.reshape_by_shape(&[24]), &[0, 24]);
    check_reshape(&|m| m.reshape_by_shape(&[-1]), &[0, -1]);
    check_reshape(&|m| m.reshape_by_shape(&[2, 2, 6]), &[0, 2, 2, 6]);
}

#[test]
fn a_batch_that_is_multiplied_becomes_the_rest() {
    let merged = |m: &mut Maker| {
        let shape = m.node(Op::Shape(crate::ShapeOf { start: 0, end: Some(1) }), &[m.value]);
        let (four, six) = (m.ints(&[4]), m.ints(&[6]));
        let rows = m.node(Op::Binary(Binary::Mul), &[shape, four]);
        let wanted = m.node(Op::Concat(crate::Concat { axis: 0 }), &[rows, six]);
        m.on(Op::Reshape(Reshape { allow_zero: false }), &[wanted]);
    };
    check_reshape(&merged, &[-1, 6]);
}

#[test]
fn what_neither_0_nor_the_rest_can_say_stays_computed() {
    let mut maker = Maker::new(&DIMS, 1);
    let shape = maker.node(Op::Shape(crate::ShapeOf { start: 0, end: Some(1) }), &[maker.value]);
    let (four, rest) = (maker.ints(&[4]), maker.ints(&[-1]));
    let rows = maker.node(Op::Binary(Binary::Mul), &[shape, four]);
    let wanted = maker.node(Op::Concat(crate::Concat { axis: 0 }), &[rows, rest]);
    maker.on(Op::Reshape(Reshape { allow_zero: false }), &[wanted]);
    let graph = maker.finish();
    let after = apply(fold_shapes, &graph, &example());
    same(&graph, &after, &example(), "fold_shapes");
    assert_eq!(names(&after), ["Shape", "Mul", "Concat", "Reshape"]);
}

#[test]
fn nodes_of_constants_go_but_dequantized_weights_stay() {
    let mut maker = Maker::new(&DIMS, 1);
    let weight = maker.floats(&[4, 4], 1.0);
    let turned = maker.node(Op::Transpose(Transpose { perm: None }), &[weight]);
    let codes = maker.node(Op::Cast(Cast { to: DType::I8 }), &[turned]);
    let (scale, zero) = (maker.scalar(0.1), maker.graph.add_constant("z", Tensor::scalar(0i8)));
    let blocking = crate::Blocking { axis: 0, block_size: 0 };
    let values =
        maker.node(Op::DequantizeLinear(DequantizeLinear { blocking }), &[codes, scale, zero]);
    let shape = maker.ints(&[4, 4, 1]);
    let values = maker.node(Op::Reshape(Reshape { allow_zero: false }), &[values, shape]);
    let size = maker.node(Op::Unary(Unary::Abs), &[values]);
    let shape = maker.ints(&[1, 4, 2, 2]);
    let sum = maker.node(Op::Reshape(Reshape { allow_zero: false }), &[size, shape]);
    maker.graph.outputs.push(sum);
    maker.on(Op::Unary(Unary::Neg), &[]);
    let graph = maker.finish();
    let after = apply(|graph, _| fold_constants(graph), &graph, &example());
    same(&graph, &after, &example(), "fold_constants");
    assert_eq!(names(&after), ["DequantizeLinear", "Reshape", "Abs", "Reshape", "Neg"]);
}

#[test]
fn a_result_too_large_to_keep_is_left_to_the_run() {
    let mut maker = Maker::new(&DIMS, 1);
    let (one, shape) = (maker.scalar(1.0), maker.ints(&[FOLD_LIMIT as i64 + 1]));
    maker.then(Op::Expand, &[one, shape]);
    let graph = maker.finish();
    assert_eq!(names(&fold_constants(&graph).unwrap()), ["Expand"]);
}

#[test]
fn codes_of_large_constants_are_not_taken_for_shapes() {
    let mut maker = Maker::new(&DIMS, 1);
    let weight = maker.graph.add_constant("w", normal(&[1024, 24], &mut Rng::new(2)));
    let scale = maker.scalar(0.1);
    let blocking = Blocking { axis: 1, block_size: 0 };
    let quantize = Op::QuantizeLinear(QuantizeLinear { blocking, to: DType::I8 });
    let codes = maker.node(quantize, &[weight, scale]);
    let weight = maker.node(Op::DequantizeLinear(DequantizeLinear { blocking }), &[codes, scale]);
    let kind = crate::ReduceKind::Sum;
    let sum = crate::Reduce { kind, keep_dims: true, noop_with_empty_axes: false };
    let sum = maker.node(Op::Reduce(sum), &[weight]);
    maker.on(Op::Binary(Binary::Add), &[sum]);
    let graph = maker.finish();
    let after = apply(fold_shapes, &graph, &example());
    same(&graph, &after, &example(), "fold_shapes");
}

#[test]
fn an_output_may_be_a_constant() {
    let mut maker = Maker::new(&DIMS, 1);
    let one = maker.scalar(1.0);
    maker.then(Op::Unary(Unary::Neg), &[one]);
    let graph = maker.finish();
    let after = apply(|graph, _| fold_constants(graph), &graph, &example());
    same(&graph, &after, &example(), "fold_constants");
    assert!(after.nodes.is_empty());
}
