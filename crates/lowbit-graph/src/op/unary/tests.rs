use super::*;
use crate::Op;
use crate::op::dispatch::testing::{check, check_close, range, refuse};

const X: [f32; 13] = [-12.5, -8.0, -5.0, -1.5, -1.0, -0.3, -1e-4, 0.7, 0.999, 1.5, 3.0, 5.5, 9.0];

fn close(op: Unary, x: &[f32], expected: &[f32]) {
    let (x, expected) = (Tensor::vector(x.to_vec()), Tensor::vector(expected.to_vec()));
    check_close(&Op::Unary(op), &[&x], &expected);
}

/// Expected values are the C library's double erf, erfc and exp, rounded to f32.
#[test]
fn transcendental_functions_are_close_to_their_values() {
    #[rustfmt::skip]
    close(Unary::Erf, &X, &[
        -1.0, -1.0, -1.0, -0.966_105_16, -0.842_700_8, -0.328_626_78, -0.000_112_837_915, 0.677_801_2, 0.842_285_3,
        0.966_105_16, 0.999_977_9, 1.0, 1.0,
    ]);
    #[rustfmt::skip]
    close(Unary::Gelu, &X, &[
        -4.665_705_3e-35, -4.976_768_3e-15, -1.433_257_8e-6, -0.100_210_8, -0.158_655_26, -0.114_626_58, -4.999_600_8e-5,
        0.530_625_4, 0.840_261_6, 1.399_789_2, 2.995_950_2, 5.5, 9.0,
    ]);
    #[rustfmt::skip]
    close(Unary::GeluTanh, &X, &[
        -0.0, -3.107_783e-21, -2.291_796_2e-7, -0.100_428_425, -0.158_808, -0.114_629_08, -4.999_600_8e-5, 0.530_570_15,
        0.840_109_17, 1.399_571_5, 2.996_362_7, 5.5, 9.0,
    ]);
    #[rustfmt::skip]
    close(Unary::Sigmoid, &X, &[
        3.726_639_3e-6, 0.000_335_350_14, 0.006_692_851, 0.182_425_53, 0.268_941_43, 0.425_557_5, 0.499_975, 0.668_187_7,
        0.730_861_9, 0.817_574_5, 0.952_574_13, 0.995_929_84, 0.999_876_6,
    ]);
    let wide: Vec<f64> = X.iter().map(|&x| f64::from(x)).collect();
    let of = |g: fn(f64) -> f64| wide.iter().map(|&x| g(x) as f32).collect::<Vec<_>>();
    close(Unary::Tanh, &X, &of(f64::tanh));
    close(Unary::Exp, &X, &of(f64::exp));
    close(Unary::Silu, &X, &of(|x| x / (1.0 + (-x).exp())));
}

#[test]
fn infinities_and_nan() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let x = [nan, inf, -inf];
    close(Unary::Relu, &x, &[nan, inf, 0.0]);
    close(Unary::Sigmoid, &x, &[nan, 1.0, 0.0]);
    close(Unary::Tanh, &x, &[nan, 1.0, -1.0]);
    close(Unary::Sign, &x, &[nan, 1.0, -1.0]);
    close(Unary::Erf, &x, &[nan, 1.0, -1.0]);
    close(Unary::HardSigmoid { alpha: 0.2, beta: 0.5 }, &x, &[nan, 1.0, 0.0]);
    close(Unary::HardSwish, &x, &[nan, inf, nan]);
    close(Unary::Gelu, &x, &[nan, inf, nan]);
    close(Unary::Exp, &x, &[nan, inf, 0.0]);
}

#[test]
fn piecewise_functions() {
    let x = [-4.0, -1.5, -0.0, 0.5, 2.5, 4.0];
    close(Unary::Relu, &x, &[0.0, 0.0, 0.0, 0.5, 2.5, 4.0]);
    close(Unary::LeakyRelu { alpha: 0.1 }, &x, &[-0.4, -0.15, 0.0, 0.5, 2.5, 4.0]);
    close(Unary::HardSigmoid { alpha: 0.5, beta: 0.5 }, &x, &[0.0, 0.0, 0.5, 0.75, 1.0, 1.0]);
    close(Unary::HardSwish, &x, &[0.0, -0.375, 0.0, 0.291_666_66, 2.291_666_7, 4.0]);
    close(Unary::Floor, &x, &[-4.0, -2.0, 0.0, 0.0, 2.0, 4.0]);
    close(Unary::Ceil, &x, &[-4.0, -1.0, 0.0, 1.0, 3.0, 4.0]);
    close(Unary::Sign, &x, &[-1.0, -1.0, 0.0, 1.0, 1.0, 1.0]);
    close(Unary::Neg, &x, &[4.0, 1.5, 0.0, -0.5, -2.5, -4.0]);
    close(Unary::Abs, &x, &[4.0, 1.5, 0.0, 0.5, 2.5, 4.0]);
    close(Unary::Sqrt, &[4.0, -1.0], &[2.0, f32::NAN]);
}

#[test]
fn integers() {
    let bytes = |v: &[i8]| Tensor::vector(v.to_vec());
    let x = bytes(&[-128, -1, 0, 127]);
    check(&Op::Unary(Unary::Neg), &[&x], &bytes(&[-128, 1, 0, -127]));
    check(&Op::Unary(Unary::Abs), &[&x], &bytes(&[-128, 1, 0, 127]));
    check(&Op::Unary(Unary::Relu), &[&x], &bytes(&[0, 0, 0, 127]));
    refuse(&Op::Unary(Unary::Exp), &[&x], "input 0: found int8, expected float32");
    refuse(&Op::Unary(Unary::Relu), &[&Tensor::vector(vec![true])], "found bool");
}

#[test]
fn clip_has_optional_ends() {
    let v = |v: &[f32]| Tensor::vector(v.to_vec());
    let (x, low, high) = (v(&[-2.0, 0.0, 2.0]), Tensor::scalar(-1f32), Tensor::scalar(1f32));
    check(&Op::Clip, &[&x, &low, &high], &v(&[-1.0, 0.0, 1.0]));
    check(&Op::Clip, &[&x, &high, &low], &v(&[-1.0; 3]));
    check(&Op::Clip, &[&x, &low], &v(&[-1.0, 0.0, 2.0]));
    check(&Op::Clip, &[&x], &x);
    let bytes = Tensor::vector(vec![0u8, 9]);
    check(&Op::Clip, &[&bytes, &Tensor::scalar(3u8)], &Tensor::vector(vec![3u8, 9]));
    refuse(&Op::Clip, &[&x, &Tensor::scalar(1i64)], "input 1: found int64");
    refuse(&Op::Clip, &[&x, &x], "expected one element");
}

#[test]
fn prelu_broadcasts_the_slope() {
    let x = Tensor::new([1, 2, 2], vec![-1.0f32, 2.0, -3.0, 4.0]);
    let slope = Tensor::new([2, 1], vec![0.5f32, 2.0]);
    let expected = Tensor::new([1, 2, 2], vec![-0.5f32, 2.0, -6.0, 4.0]);
    check(&Op::PRelu, &[&x, &slope], &expected);
    refuse(&Op::PRelu, &[&x, &range(&[2, 2, 2])], "broadcasts to [1, 2, 2]");
}
