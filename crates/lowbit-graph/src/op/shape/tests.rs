use super::*;
use crate::Op;
use crate::op::dispatch::testing::{check, ints, range, refuse};

#[test]
fn dimensions_are_sliced_and_clamped() {
    let x = range(&[2, 3, 4]);
    let shape = |start, end, expected: &[i64]| {
        check(&Op::Shape(ShapeOf { start, end }), &[&x], &ints(expected));
    };
    shape(0, None, &[2, 3, 4]);
    shape(1, None, &[3, 4]);
    shape(-1, None, &[4]);
    shape(0, Some(-1), &[2, 3]);
    shape(-9, Some(9), &[2, 3, 4]);
    shape(2, Some(1), &[]);
    shape(i64::MIN, Some(i64::MIN), &[]);
}

#[test]
fn constants_fill_any_shape() {
    let fill = |value: Tensor| Op::ConstantOfShape(ConstantOfShape { value });
    let one = fill(Tensor::vector(vec![1i32]));
    check(&one, &[&ints(&[2, 2])], &Tensor::full([2, 2], 1i32));
    check(&one, &[&ints(&[])], &Tensor::scalar(1i32));
    check(&one, &[&ints(&[0, 3])], &Tensor::full([0, 3], 1i32));
    refuse(&one, &[&ints(&[-1])], "extent -1");
    refuse(&one, &[&ints(&[1 << 40, 1 << 40])], "exceeds the limit");
    refuse(&fill(range(&[2])), &[&ints(&[1])], "expected one element");
}
