use super::*;
use crate::Op;
use crate::op::dispatch::testing::{check, ints, range, refuse, run};

fn reduce(kind: ReduceKind, keep_dims: bool) -> Op {
    Op::Reduce(Reduce { kind, keep_dims, noop_with_empty_axes: false })
}

fn f(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::new(Shape::from(shape), values.to_vec())
}

#[test]
fn any_axes_are_reduced() {
    let x = range(&[2, 3, 2]);
    let sum = reduce(ReduceKind::Sum, false);
    check(&sum, &[&x, &ints(&[2])], &f(&[2, 3], &[1.0, 5.0, 9.0, 13.0, 17.0, 21.0]));
    check(&sum, &[&x, &ints(&[1])], &f(&[2, 2], &[6.0, 9.0, 24.0, 27.0]));
    check(&sum, &[&x, &ints(&[-3, 2])], &f(&[3], &[14.0, 22.0, 30.0]));
    check(&sum, &[&x], &f(&[], &[66.0]));
    let mean = reduce(ReduceKind::Mean, true);
    check(&mean, &[&x, &ints(&[1, 2])], &f(&[2, 1, 1], &[2.5, 8.5]));
    check(&mean, &[&x, &ints(&[])], &f(&[1, 1, 1], &[5.5]));
    let noop =
        Op::Reduce(Reduce { kind: ReduceKind::Sum, keep_dims: true, noop_with_empty_axes: true });
    check(&noop, &[&x, &ints(&[])], &x);
    check(&noop, &[&x], &x);
}

#[test]
fn integers_and_empty_sets() {
    let x = Tensor::new([2, 2], vec![1i64, 2, -4, -1]);
    check(&reduce(ReduceKind::Sum, false), &[&x, &ints(&[1])], &Tensor::vector(vec![3i64, -5]));
    check(&reduce(ReduceKind::Mean, false), &[&x, &ints(&[1])], &Tensor::vector(vec![1i64, -2]));
    let sum = reduce(ReduceKind::Sum, true);
    check(&sum, &[&range(&[2, 0, 3]), &ints(&[1])], &f(&[2, 1, 3], &[0.0; 6]));
    check(&sum, &[&range(&[2, 0]), &ints(&[0])], &f(&[1, 0], &[]));
    let mean = run(&reduce(ReduceKind::Mean, true), &[&range(&[2, 0]), &ints(&[1])]).unwrap();
    assert!(mean.f32s().iter().all(|x| x.is_nan()));
    refuse(&sum, &[&range(&[2]), &ints(&[0, -1])], "named twice");
    refuse(&sum, &[&Tensor::vector(vec![1u8])], "input 0: found uint8");
}

#[test]
fn long_sums_are_exact_to_f32() {
    let x = Tensor::full([1_000_003], 0.1f32);
    let exact = 1_000_003.0 * f64::from(0.1f32);
    check(&reduce(ReduceKind::Sum, false), &[&x], &f(&[], &[exact as f32]));
    check(&reduce(ReduceKind::Mean, false), &[&x], &f(&[], &[0.1]));
}
