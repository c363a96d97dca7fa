use lowbit_tensor::Rng;

use super::*;
use crate::Op;
use crate::op::dispatch::testing::{check, check_close, normal, range, refuse, run};

fn f(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::new(Shape::from(shape), values.to_vec())
}

fn i(values: &[i64]) -> Tensor {
    Tensor::vector(values.to_vec())
}

#[test]
fn operands_broadcast_as_index_arithmetic_says() {
    let mut rng = Rng::new(1);
    for round in 0..300 {
        let rank = rng.below(5);
        let dims: Vec<usize> = (0..rank).map(|_| 1 + rng.below(4)).collect();
        let mut operand = || {
            let cut = rng.below(rank + 1);
            let kept = |&d: &usize| if rng.below(3) == 0 { 1 } else { d };
            dims[cut..].iter().map(kept).collect::<Vec<_>>()
        };
        let (a_dims, b_dims) = (operand(), operand());
        let (a, b) = (normal(&a_dims, &mut rng), normal(&b_dims, &mut rng));
        let shape = a.shape().broadcast(b.shape()).unwrap();
        let at = |tensor: &Tensor, mut linear: usize| {
            let mut index = 0;
            let mut stride = 1;
            for axis in (0..shape.len()).rev() {
                let position = linear % shape[axis];
                linear /= shape[axis];
                if let Some(own) = (axis + tensor.rank()).checked_sub(shape.len()) {
                    index += stride * if tensor.shape()[own] == 1 { 0 } else { position };
                    stride *= tensor.shape()[own];
                }
            }
            tensor.f32s()[index]
        };
        let expected = (0..shape.numel()).map(|l| at(&a, l) - at(&b, l)).collect();
        let found = run(&Op::Binary(Binary::Sub), &[&a, &b]).unwrap();
        let expected = Tensor::new(shape.clone(), expected);
        assert_eq!(found, expected, "round {round}: {a_dims:?} and {b_dims:?}");
    }
}

#[test]
fn large_maps_are_the_same_on_many_threads() {
    let mut rng = Rng::new(2);
    let x = normal(&[2, 17, 61, 67], &mut rng);
    for other in [&[2, 17, 61, 67][..], &[1, 17, 1, 1], &[17, 1, 1], &[2, 17, 1, 1], &[], &[67]] {
        run(&Op::Binary(Binary::Mul), &[&x, &normal(other, &mut rng)]).unwrap();
        run(&Op::Binary(Binary::Mul), &[&normal(other, &mut rng), &x]).unwrap();
    }
}

#[test]
fn integers_wrap_and_truncate() {
    let op = |b| Op::Binary(b);
    check(&op(Binary::Div), &[&i(&[-7, 7]), &i(&[2, -2])], &i(&[-3, -3]));
    check(&op(Binary::Add), &[&i(&[i64::MAX]), &i(&[1])], &i(&[i64::MIN]));
    check(&op(Binary::Div), &[&i(&[i64::MIN]), &i(&[-1])], &i(&[i64::MIN]));
    let bytes = |v: &[u8]| Tensor::vector(v.to_vec());
    check(&op(Binary::Sub), &[&bytes(&[1]), &bytes(&[2])], &bytes(&[255]));
    check(&op(Binary::Max), &[&bytes(&[1, 9]), &bytes(&[2])], &bytes(&[2, 9]));
    check(&op(Binary::Equal), &[&i(&[1, 2]), &i(&[1])], &Tensor::vector(vec![true, false]));
    let bools = Tensor::vector(vec![true, false]);
    check(&op(Binary::Equal), &[&bools, &bools], &Tensor::vector(vec![true, true]));
}

#[test]
fn comparisons_tell_which_is_larger() {
    let (a, b) = (f(&[4], &[-1.0, 2.0, 3.0, f32::NAN]), f(&[], &[2.0]));
    for (op, expected) in [
        (Binary::Greater, [false, false, true, false]),
        (Binary::GreaterOrEqual, [false, true, true, false]),
        (Binary::Less, [true, false, false, false]),
        (Binary::LessOrEqual, [true, true, false, false]),
    ] {
        check(&Op::Binary(op), &[&a, &b], &Tensor::vector(expected.to_vec()));
        assert!(op.is_comparison());
    }
    check(&Op::Binary(Binary::Less), &[&i(&[1, 3]), &i(&[2])], &Tensor::vector(vec![true, false]));
}

#[test]
fn nan_spreads_through_min_and_max() {
    let (x, nan) = (f(&[2], &[1.0, -1.0]), f(&[], &[f32::NAN]));
    for op in [Binary::Min, Binary::Max] {
        check_close(&Op::Binary(op), &[&x, &nan], &f(&[2], &[f32::NAN; 2]));
        check_close(&Op::Binary(op), &[&nan, &x], &f(&[2], &[f32::NAN; 2]));
    }
}

#[test]
fn powers() {
    let pow = Op::Binary(Binary::Pow);
    let x = f(&[3], &[1.0, 2.0, 3.0]);
    check(&pow, &[&x, &f(&[3], &[4.0, 5.0, 6.0])], &f(&[3], &[1.0, 32.0, 729.0]));
    check(&pow, &[&x, &f(&[], &[2.0])], &f(&[3], &[1.0, 4.0, 9.0]));
    check(&pow, &[&x, &i(&[3])], &f(&[3], &[1.0, 8.0, 27.0]));
    check(&pow, &[&f(&[], &[-1.0]), &i(&[16_777_217])], &f(&[1], &[-1.0]));
    check(&pow, &[&i(&[1, 2, 3]), &i(&[4, 5, 6])], &i(&[1, 32, 729]));
    check(&pow, &[&i(&[1, 2, 3]), &f(&[], &[2.0])], &i(&[1, 4, 9]));
    refuse(&pow, &[&i(&[2]), &i(&[-1])], "exponent -1");
}

#[test]
fn what_does_not_fit_is_refused() {
    let add = Op::Binary(Binary::Add);
    refuse(&add, &[&range(&[2]), &range(&[3])], "input 1: found shape [3]");
    refuse(&add, &[&range(&[2]), &i(&[1])], "input 1: found int64, expected float32");
    refuse(&add, &[&range(&[2])], "input 1 (B) is missing");
    refuse(&Op::Binary(Binary::Div), &[&i(&[1]), &i(&[0])], "integer 0");
    let huge = Tensor::new([1 << 40, 0, 1], Vec::<f32>::new());
    let empty = Tensor::new([1 << 40, 0, 1 << 30], Vec::<f32>::new());
    check(&add, &[&huge, &empty], &empty);
    let narrow = Tensor::try_new(lowbit_tensor::DType::U4, [1], Buffer::U8(vec![15])).unwrap();
    refuse(&add, &[&narrow, &narrow], "uint4");
    let (row, column) = (range(&[1, 1 << 13]), range(&[1 << 13, 1]));
    refuse(&add, &[&row, &column], "exceeds the limit");
}
