//! Dimensions that follow from constants.

use lowbit_graph::{Flatten, Graph, Op, Reshape, ShapeOf};
use lowbit_tensor::{DType, Tensor};

use super::*;

fn check(op: Op, constants: &[Vec<i64>], expected: &[Option<usize>]) {
    let mut graph = Graph::new("g");
    let mut inputs = vec![graph.add_input("x", DType::F32, vec![None, Some(3), Some(4)])];
    for ints in constants {
        inputs.push(graph.add_constant("c", Tensor::vector(ints.clone())));
    }
    let y = graph.add_node("n", op, &inputs);
    assert_eq!(infer(&graph).get(y).unwrap().dims.as_deref(), Some(expected));
}

#[test]
fn dimensions_follow_from_constants() {
    let reshape = || Op::Reshape(Reshape { allow_zero: false });
    check(reshape(), &[vec![0, -1]], &[None, None]);
    check(reshape(), &[vec![0, 12]], &[None, Some(12)]);
    check(Op::Flatten(Flatten { axis: 1 }), &[], &[None, Some(12)]);
    check(Op::Slice, &[vec![1], vec![i64::MAX], vec![1]], &[None, Some(2), Some(4)]);
    check(Op::Unsqueeze, &[vec![0, -1]], &[Some(1), None, Some(3), Some(4), Some(1)]);
    check(Op::Shape(ShapeOf { start: 0, end: None }), &[], &[Some(3)]);
    check(Op::MatMul, &[vec![1; 4]], &[None, Some(3)]);
}
