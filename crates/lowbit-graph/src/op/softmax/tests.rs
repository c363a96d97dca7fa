use lowbit_tensor::Rng;

use super::*;
use crate::Op;
use crate::op::dispatch::testing::{check_close, normal, range, refuse, run};

fn op(axis: i64, log: bool, flatten: bool) -> Op {
    Op::Softmax(Softmax { axis, log, flatten })
}

/// exp(x) / sum in f64 over the positions that share all indices outside `axis..last`.
fn naive(x: &Tensor, axis: usize, last: usize, log: bool) -> Tensor {
    let inner: usize = x.shape()[last..].iter().product();
    let row: usize = x.shape()[axis..last].iter().product();
    let value = |i: usize| {
        let start = i / (row * inner) * row * inner + i % inner;
        let total: f64 = (0..row).map(|r| f64::from(x.f32s()[start + r * inner]).exp()).sum();
        let x = f64::from(x.f32s()[i]);
        if log { (x - total.ln()) as f32 } else { (x.exp() / total) as f32 }
    };
    Tensor::new(x.shape().clone(), (0..x.len()).map(value).collect())
}

#[test]
fn equals_the_definition_on_every_axis() {
    let x = normal(&[3, 4, 5], &mut Rng::new(7));
    for axis in 0..3 {
        for log in [false, true] {
            check_close(&op(axis as i64, log, false), &[&x], &naive(&x, axis, axis + 1, log));
            check_close(&op(axis as i64 - 3, log, true), &[&x], &naive(&x, axis, 3, log));
        }
    }
}

#[test]
fn large_inputs_do_not_overflow() {
    let x = Tensor::new([1, 3], vec![1e4f32, 1e4, -1e4]);
    check_close(&op(1, false, false), &[&x], &Tensor::new([1, 3], vec![0.5f32, 0.5, 0.0]));
    let half = -(2f32.ln());
    let logs = Tensor::new([1, 3], vec![half, half, half - 2e4]);
    check_close(&op(1, true, false), &[&x], &logs);
    let nan = Tensor::vector(vec![1.0, f32::NAN]);
    check_close(&op(0, false, false), &[&nan], &Tensor::vector(vec![f32::NAN; 2]));
    assert!(run(&op(0, false, false), &[&range(&[0, 2])]).unwrap().is_empty());
    refuse(&op(2, false, false), &[&x], "axis 2 of a rank-2 tensor");
}
