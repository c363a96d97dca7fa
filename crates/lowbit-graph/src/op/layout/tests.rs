use lowbit_tensor::{DType, Rng};

use super::*;
use crate::Op;
use crate::op::dispatch::testing::{check, ints, normal, range, refuse, run};

fn reshaped(input: &[usize], wanted: &[i64], allow_zero: bool) -> Vec<usize> {
    let op = Op::Reshape(Reshape { allow_zero });
    let found = run(&op, &[&range(input), &ints(wanted)]).unwrap();
    assert_eq!(found.f32s(), range(input).f32s());
    found.shape().to_vec()
}

#[test]
fn reshape_reads_0_and_minus_1() {
    assert_eq!(reshaped(&[2, 3, 4], &[4, 2, 3], false), [4, 2, 3]);
    assert_eq!(reshaped(&[2, 3, 4], &[0, -1], false), [2, 12]);
    assert_eq!(reshaped(&[2, 3, 4], &[-1, 2, 3, 4], false), [1, 2, 3, 4]);
    assert_eq!(reshaped(&[0, 3, 4], &[3, 4, 0], true), [3, 4, 0]);
    assert_eq!(reshaped(&[1], &[], false), [0usize; 0]);
    let op = Op::Reshape(Reshape { allow_zero: false });
    for wanted in [&[5][..], &[-1, -1], &[-2, 12], &[-1, 5], &[2, 3, 4, 0], &[1 << 62, 8, 1]] {
        refuse(&op, &[&range(&[2, 3, 4]), &ints(wanted)], "input 1: found shape");
    }
    let zero = Op::Reshape(Reshape { allow_zero: true });
    refuse(&zero, &[&range(&[0, 3]), &ints(&[0, -1])], "input 1: found shape");
}

#[test]
fn flatten_cuts_before_the_axis() {
    let flat = |axis| run(&Op::Flatten(Flatten { axis }), &[&range(&[2, 3, 4])]);
    for (axis, dims) in [(0, [1, 24]), (1, [2, 12]), (3, [24, 1]), (-1, [6, 4]), (-3, [1, 24])] {
        assert_eq!(flat(axis).unwrap().shape().to_vec(), dims, "axis {axis}");
    }
    assert!(flat(4).is_err() && flat(-4).is_err());
}

#[test]
fn axes_of_extent_1_come_and_go() {
    let x = range(&[1, 3, 1, 5]);
    let shape = |op: &Op, inputs: &[&Tensor]| run(op, inputs).unwrap().shape().to_vec();
    assert_eq!(shape(&Op::Squeeze, &[&x]), [3, 5]);
    assert_eq!(shape(&Op::Squeeze, &[&x, &ints(&[-2])]), [1, 3, 5]);
    assert_eq!(shape(&Op::Unsqueeze, &[&x, &ints(&[5, 0])]), [1, 1, 3, 1, 5, 1]);
    assert_eq!(shape(&Op::Unsqueeze, &[&x, &ints(&[-1])]), [1, 3, 1, 5, 1]);
    refuse(&Op::Squeeze, &[&x, &ints(&[1])], "expected extent 1 on axis 1");
    refuse(&Op::Squeeze, &[&x, &ints(&[0, -4])], "named twice");
    refuse(&Op::Unsqueeze, &[&x, &ints(&[5])], "axis 5 of a rank-5 tensor");
    check(&Op::Identity, &[&x], &x);
}

/// Index arithmetic, element by element.
fn transposed(x: &Tensor, perm: &[usize]) -> Tensor {
    let dims: Vec<usize> = perm.iter().map(|&p| x.shape()[p]).collect();
    let strides = x.shape().strides();
    let value = |mut linear: usize| {
        let mut from = 0;
        for axis in (0..dims.len()).rev() {
            from += linear % dims[axis] * strides[perm[axis]];
            linear /= dims[axis];
        }
        x.f32s()[from]
    };
    Tensor::new(dims.clone(), (0..x.len()).map(value).collect())
}

#[test]
fn transpose_is_index_arithmetic_and_undone_by_its_inverse() {
    let mut rng = Rng::new(3);
    for _ in 0..200 {
        let rank = rng.below(6);
        let dims: Vec<usize> = (0..rank).map(|_| 1 + rng.below(7)).collect();
        let x = normal(&dims, &mut rng);
        let perm = rng.sample(rank, rank);
        let op = |perm: &[usize]| Op::Transpose(Transpose { perm: Some(perm.to_vec()) });
        let y = transposed(&x, &perm);
        check(&op(&perm), &[&x], &y);
        let inverse: Vec<usize> =
            (0..rank).filter_map(|i| perm.iter().position(|&p| p == i)).collect();
        check(&op(&inverse), &[&y], &x);
    }
}

#[test]
fn transpose_of_images() {
    let mut rng = Rng::new(4);
    let x = normal(&[2, 19, 33, 35], &mut rng);
    for perm in [[0, 2, 3, 1], [3, 2, 1, 0], [1, 0, 2, 3], [0, 1, 3, 2], [2, 0, 3, 1]] {
        let op = Op::Transpose(Transpose { perm: Some(perm.to_vec()) });
        check(&op, &[&x], &transposed(&x, &perm));
    }
    check(&Op::Transpose(Transpose { perm: None }), &[&x], &transposed(&x, &[3, 2, 1, 0]));
    for perm in [vec![0, 1], vec![0, 0, 1, 2], vec![0, 1, 2, 4]] {
        refuse(&Op::Transpose(Transpose { perm: Some(perm) }), &[&x], "no permutation");
    }
}

#[test]
fn narrow_types_stay_narrow() {
    let codes = |shape: [usize; 2], v: Vec<i8>| Tensor::try_new(DType::I4, shape, I8(v)).unwrap();
    use lowbit_tensor::Buffer::I8;
    let x = codes([2, 3], vec![0, 1, 2, 3, 4, 5]);
    check(&Op::Transpose(Transpose { perm: None }), &[&x], &codes([3, 2], vec![0, 3, 1, 4, 2, 5]));
    check(&Op::Identity, &[&x], &x);
}

#[test]
fn expand_broadcasts_both_ways() {
    let x = range(&[3, 1]);
    let wide = vec![0.0f32, 0.0, 1.0, 1.0, 2.0, 2.0];
    check(&Op::Expand, &[&x, &ints(&[2])], &Tensor::new([3, 2], wide.clone()));
    check(&Op::Expand, &[&x, &ints(&[1, 1, 2])], &Tensor::new([1, 3, 2], wide));
    refuse(&Op::Expand, &[&x, &ints(&[2, 2])], "input 1: found shape [2, 2]");
    refuse(&Op::Expand, &[&x, &ints(&[-1])], "extent -1");
    refuse(&Op::Expand, &[&x, &ints(&[1 << 60, 1 << 60, 3, 1])], "exceeds the limit");
}
