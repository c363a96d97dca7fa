use lowbit_tensor::{DType, Rng};

use super::*;
use crate::Op;
use crate::op::testing::{check, codes, refuse, run};

/// One of many cases that tell how onnxruntime 1.31.1 contracts the fixed part: with two roundings it would be 193.
#[test]
fn add_folds_the_zero_points_as_onnxruntime_does() {
    let one = |code: u8| Tensor::vector(vec![code]);
    let inputs = [
        one(143),
        Tensor::scalar(0.038_426_697_f32),
        Tensor::scalar(227u8),
        one(245),
        Tensor::scalar(0.016_507_976_f32),
        Tensor::scalar(51u8),
        Tensor::scalar(0.050_589_29_f32),
        Tensor::scalar(194u8),
    ];
    let inputs: Vec<Option<&Tensor>> = inputs.iter().map(Some).collect();
    let sum = add(&Inputs(&inputs), &mut Workspace::serial()).unwrap();
    assert_eq!(sum, one(194));
}

/// A random code, scale and zero point.
fn parameters(dtype: DType, rng: &mut Rng) -> (f32, i32) {
    let low = dtype.range().unwrap().0;
    (0.005 + 0.05 * rng.uniform(), low + rng.below(256) as i32)
}

fn operand(dtype: DType, dims: &[usize], rng: &mut Rng) -> (Vec<i32>, f32, i32, Vec<Tensor>) {
    let low = dtype.range().unwrap().0;
    let len = dims.iter().product();
    let values: Vec<i32> = (0..len).map(|_| low + rng.below(256) as i32).collect();
    let (scale, zero) = parameters(dtype, rng);
    let tensors =
        vec![codes(dtype, dims, &values), Tensor::scalar(scale), codes(dtype, &[], &[zero])];
    (values, scale, zero, tensors)
}

/// Shapes [2, 3, 4] and one that broadcasts to it, with the position in it of a position in the whole.
type At = fn(usize) -> usize;
const BROADCASTS: [(&[usize], At); 4] =
    [(&[2, 3, 4], |i| i), (&[2, 3, 1], |i| i / 4), (&[4], |i| i % 4), (&[3, 1], |i| i / 4 % 3)];

/// `op` gives `code(a, b, (s_a, z_a), (s_b, z_b), (s_y, z_y))` of every pair, clamped.
fn check_pairs(op: &Op, code: &dyn Fn([i32; 2], [(f32, i32); 3]) -> f32) {
    for seed in 0..100 {
        let rng = &mut Rng::new(seed);
        let dtype = [DType::U8, DType::I8][rng.below(2)];
        let (low, high) = dtype.range().unwrap();
        let (dims, at) = BROADCASTS[rng.below(4)];
        let (a, s_a, z_a, mut inputs) = operand(dtype, &[2, 3, 4], rng);
        let (b, s_b, z_b, right) = operand(dtype, dims, rng);
        let (s_y, z_y) = parameters(dtype, rng);
        inputs.extend(right);
        inputs.extend([Tensor::scalar(s_y), codes(dtype, &[], &[z_y])]);
        let one = |i: usize| {
            let y = code([a[i], b[at(i)]], [(s_a, z_a), (s_b, z_b), (s_y, z_y)]);
            y.clamp(low as f32, high as f32) as i32
        };
        let expected: Vec<i32> = (0..24).map(one).collect();
        let expected = codes(dtype, &[2, 3, 4], &expected);
        check(op, &inputs.iter().collect::<Vec<_>>(), &expected);
    }
}

#[test]
fn sums_are_two_fused_steps_on_the_raw_codes() {
    check_pairs(&Op::QLinearAdd, &|[a, b], [(s_a, z_a), (s_b, z_b), (s_y, z_y)]| {
        let (r_a, r_b) = (s_a / s_y, s_b / s_y);
        let fixed = z_y as f32 - r_a.mul_add(z_a as f32, r_b * z_b as f32);
        (a as f32).mul_add(r_a, (b as f32).mul_add(r_b, fixed)).round_ties_even()
    });
}

#[test]
fn products_add_the_zero_point_before_they_round() {
    check_pairs(&Op::QLinearMul, &|[a, b], [(s_a, z_a), (s_b, z_b), (s_y, z_y)]| {
        let product = (a - z_a) as f32 * (b - z_b) as f32;
        (product * (s_a * s_b / s_y) + z_y as f32).round_ties_even()
    });
}

#[test]
fn parts_of_other_parameters_are_quantized_again() {
    for seed in 0..50 {
        let rng = &mut Rng::new(seed);
        let dtype = [DType::U8, DType::I8][rng.below(2)];
        let (low, high) = dtype.range().unwrap();
        let (s_y, z_y) = parameters(dtype, rng);
        let mut inputs = vec![Tensor::scalar(s_y), codes(dtype, &[], &[z_y])];
        let mut expected = vec![];
        for _ in 0..3 {
            let (values, scale, zero, tensors) = operand(dtype, &[2, 3], rng);
            inputs.extend(tensors);
            expected.extend(values.iter().map(|v| {
                let real = (v - zero) as f32 * scale;
                let code = (real / s_y).round_ties_even() + z_y as f32;
                code.clamp(low as f32, high as f32) as i32
            }));
        }
        // A part that is at the result's parameters already.
        inputs.extend([codes(dtype, &[1, 3], &[low, 0, high])]);
        inputs.extend([Tensor::scalar(s_y), codes(dtype, &[], &[z_y])]);
        expected.extend([low, 0, high]);
        let expected = codes(dtype, &[7, 3], &expected);
        let op = Op::QLinearConcat(Concat { axis: 0 });
        check(&op, &inputs.iter().collect::<Vec<_>>(), &expected);
    }
}

#[test]
fn functions_are_those_of_the_dequantized_codes() {
    let softmax = Softmax { axis: -1, log: false, flatten: false };
    let functions = [
        (Op::QLinearUnary(Unary::Sigmoid), Op::Unary(Unary::Sigmoid)),
        (
            Op::QLinearUnary(Unary::LeakyRelu { alpha: 0.1 }),
            Op::Unary(Unary::LeakyRelu { alpha: 0.1 }),
        ),
        (Op::QLinearSoftmax(softmax), Op::Softmax(softmax)),
    ];
    for seed in 0..30 {
        let rng = &mut Rng::new(seed);
        let dtype = [DType::U8, DType::I8][rng.below(2)];
        let (low, high) = dtype.range().unwrap();
        let (values, scale, zero, mut inputs) = operand(dtype, &[4, 50], rng);
        let (s_y, z_y) = parameters(dtype, rng);
        inputs.extend([Tensor::scalar(s_y), codes(dtype, &[], &[z_y])]);
        let reals = values.iter().map(|v| (v - zero) as f32 * scale).collect::<Vec<f32>>();
        let reals = Tensor::new([4, 50], reals);
        for (integer, float) in &functions {
            let code = |y: &f32| {
                let code = (y / s_y).round_ties_even() + z_y as f32;
                code.clamp(low as f32, high as f32) as i32
            };
            let expected: Vec<i32> =
                run(float, &[&reals]).unwrap().f32s().iter().map(code).collect();
            let expected = codes(dtype, &[4, 50], &expected);
            check(integer, &inputs.iter().collect::<Vec<_>>(), &expected);
        }
    }
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let x = codes(DType::U8, &[2], &[1, 2]);
    let three = codes(DType::U8, &[3], &[1, 2, 3]);
    let (scale, zero) = (Tensor::scalar(0.1f32), codes(DType::U8, &[], &[0]));
    let signed = codes(DType::I8, &[], &[0]);
    let run = |b: &Tensor, zero_y: &Tensor, why: &str| {
        let inputs = [&x, &scale, &zero, b, &scale, &zero, &scale, zero_y];
        refuse(&Op::QLinearAdd, &inputs, why);
        refuse(&Op::QLinearMul, &inputs, why);
    };
    run(&three, &zero, "one that broadcasts with [2]");
    run(&codes(DType::I8, &[2], &[1, 2]), &zero, "input 3: found int8, expected uint8");
    run(&x, &signed, "input 7: found int8, expected uint8");
}
