use super::*;
use crate::Op;
use crate::op::dispatch::testing::{check, check_close, range, refuse};

fn v(values: &[f32]) -> Tensor {
    Tensor::vector(values.to_vec())
}

#[test]
fn batch_norm_is_affine_per_channel() {
    let op = Op::BatchNorm(BatchNorm { epsilon: 1.0 });
    let x = range(&[2, 2, 1, 2]);
    let (scale, bias) = (v(&[2.0, 6.0]), v(&[1.0, 0.0]));
    let (mean, variance) = (v(&[1.0, 2.0]), v(&[3.0, 8.0]));
    let expected = vec![0.0f32, 1.0, 0.0, 2.0, 4.0, 5.0, 8.0, 10.0];
    let expected = Tensor::new([2, 2, 1, 2], expected);
    check(&op, &[&x, &scale, &bias, &mean, &variance], &expected);
    let flat = x.clone().reshape([4, 2]).unwrap();
    let expected = vec![0.0f32, -2.0, 2.0, 2.0, 4.0, 6.0, 6.0, 10.0];
    check(&op, &[&flat, &scale, &bias, &mean, &variance], &Tensor::new([4, 2], expected));
    refuse(&op, &[&x, &scale, &v(&[1.0]), &mean, &variance], "input 2: found B of shape [1]");
    refuse(&op, &[&v(&[1.0]), &scale, &bias, &mean, &variance], "rank 2 or more");
}

#[test]
fn layer_norm_over_the_last_axes() {
    let op = |axis| Op::LayerNorm(LayerNorm { axis, epsilon: 0.0 });
    let x = Tensor::new([2, 2], vec![1.0f32, 3.0, 1e4, 1e4 + 2.0]);
    let scale = v(&[2.0, 3.0]);
    let expected = Tensor::new([2, 2], vec![-2.0f32, 3.0, -2.0, 3.0]);
    check_close(&op(-1), &[&x, &scale], &expected);
    let expected = Tensor::new([2, 2], vec![-1.0f32, 4.0, -1.0, 4.0]);
    check_close(&op(1), &[&x, &scale, &v(&[1.0])], &expected);
    refuse(&op(1), &[&x, &range(&[3])], "broadcasts to [2]");
    refuse(&op(2), &[&x, &scale], "axis 2 of a rank-2 tensor");
}
