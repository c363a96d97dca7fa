use lowbit_tensor::{DType, Rng, Tensor};

use super::*;
use crate::Op;
use crate::op::testing::{check, codes, refuse, run_all};

const TYPES: [DType; 8] =
    [DType::U8, DType::I8, DType::U4, DType::I4, DType::U2, DType::I2, DType::U16, DType::I16];
const DIMS: [usize; 3] = [3, 5, 4];

fn quantize(axis: i64, block_size: usize, to: DType) -> Op {
    Op::QuantizeLinear(QuantizeLinear { blocking: Blocking { axis, block_size }, to })
}

fn dequantize(axis: i64, block_size: usize) -> Op {
    Op::DequantizeLinear(DequantizeLinear { blocking: Blocking { axis, block_size } })
}

/// Both directions on random data, `index` naming the scale of each element, with scales of shape `scales`.
fn check_both(axis: i64, block_size: usize, scales: &[usize], index: &dyn Fn([usize; 3]) -> usize) {
    for (seed, dtype) in TYPES.into_iter().enumerate() {
        let rng = &mut Rng::new(seed as u64);
        let (low, high) = dtype.range().unwrap();
        let count: usize = scales.iter().product();
        let mut code = || low + rng.below((high - low) as usize + 1) as i32;
        let zeros: Vec<i32> = (0..count).map(|_| code()).collect();
        let given: Vec<i32> = (0..60).map(|_| code()).collect();
        let s: Vec<f32> = (0..count).map(|_| 0.01 + rng.uniform()).collect();
        let width = (high - low) as f32;
        let x: Vec<f32> = (0..60).map(|_| width * (rng.uniform() - 0.5)).collect();
        let of = |i: usize| index([i / 20, i / 4 % 5, i % 4]);
        let quantized = |i: usize| {
            let rounded = i64::from((x[i] / s[of(i)]).round_ties_even() as i32);
            (rounded + i64::from(zeros[of(i)])).clamp(low.into(), high.into()) as i32
        };
        let value = |i: usize| (given[i] - zeros[of(i)]) as f32 * s[of(i)];
        let expected: Vec<i32> = (0..60).map(quantized).collect();
        let expected = codes(dtype, &DIMS, &expected);
        let values = Tensor::new(DIMS, (0..60).map(value).collect::<Vec<f32>>());
        let scale = Tensor::new(scales, s.clone());
        let zero = codes(dtype, scales, &zeros);
        let x = Tensor::new(DIMS, x.clone());
        check(&quantize(axis, block_size, dtype), &[&x, &scale, &zero], &expected);
        let given = codes(dtype, &DIMS, &given);
        check(&dequantize(axis, block_size), &[&given, &scale, &zero], &values);
    }
}

#[test]
fn one_scale() {
    check_both(1, 0, &[], &|_| 0);
    check_both(1, 0, &[1], &|_| 0);
}

#[test]
fn a_scale_per_line() {
    for axis in 0..3 {
        check_both(axis as i64, 0, &[DIMS[axis]], &|at| at[axis]);
        check_both(axis as i64 - 3, 0, &[DIMS[axis]], &|at| at[axis]);
    }
}

#[test]
fn a_scale_per_block() {
    check_both(0, 2, &[2, 5, 4], &|at| at[0] / 2 * 20 + at[1] * 4 + at[2]);
    check_both(0, 3, &[1, 5, 4], &|at| at[1] * 4 + at[2]);
    check_both(1, 2, &[3, 3, 4], &|at| (at[0] * 3 + at[1] / 2) * 4 + at[2]);
    check_both(-1, 2, &[3, 5, 2], &|at| (at[0] * 5 + at[1]) * 2 + at[2] / 2);
    check_both(2, 9, &[3, 5, 1], &|at| at[0] * 5 + at[1]);
}

#[test]
fn blocks_along_an_axis_of_one_element_have_a_scale_each() {
    let x = Tensor::new([1, 3], vec![1.0f32; 3]);
    let scales = Tensor::new([1, 3], vec![1.0f32, 0.5, 0.25]);
    check(&quantize(0, 2, DType::U8), &[&x, &scales], &codes(DType::U8, &[1, 3], &[1, 2, 4]));
}

#[test]
fn ties_go_to_even_and_what_is_outside_saturates() {
    let x = [-1e9f32, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 1e9, f32::INFINITY, f32::NEG_INFINITY];
    let x = Tensor::vector(x.to_vec());
    let one = Tensor::scalar(1.0f32);
    for dtype in TYPES {
        let (low, high) = dtype.range().unwrap();
        let rounded = [low, -2, -2, 0, 0, 2, 2, 4, high, high, low].map(|c| c.clamp(low, high));
        let expected = codes(dtype, &[11], &rounded);
        check(&quantize(1, 0, dtype), &[&x, &one], &expected);
    }
}

#[test]
fn an_int32_bias_is_dequantized() {
    let bias = Tensor::vector(vec![-3i32, 16_777_217, i32::MIN]);
    let expected = Tensor::vector(vec![-1.5f32, 8_388_608.0, -1_073_741_824.0]);
    check(&dequantize(0, 0), &[&bias, &Tensor::scalar(0.5f32)], &expected);
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let x = Tensor::new([2, 3], vec![1.0f32; 6]);
    let (scale, three) = (Tensor::scalar(0.1f32), Tensor::vector(vec![0.1f32; 3]));
    refuse(&quantize(0, 0, DType::U8), &[&x, &three], "input 1: found shape [3], expected [2]");
    refuse(&quantize(2, 0, DType::U8), &[&x, &three], "axis 2 of a rank-2 tensor");
    refuse(&quantize(1, 2, DType::U8), &[&x, &three], "expected [2, 2]");
    let zeros = codes(DType::U8, &[2], &[0; 2]);
    refuse(&quantize(1, 0, DType::U8), &[&x, &three, &zeros], "3, one per scale");
    let signed = codes(DType::I8, &[], &[-3]);
    refuse(&quantize(1, 0, DType::U8), &[&x, &scale, &signed], "found int8, expected uint8");
    refuse(&quantize(1, 0, DType::I32), &[&x, &scale], "integers of 2, 4, 8 and 16 bits");
    refuse(&dequantize(1, 0), &[&x, &scale], "an integer type of at most 32 bits");
}

#[test]
fn dynamic_parameters_cover_the_range_and_zero() {
    for (values, scale, zero_point) in [
        (vec![0.0f32, 2.0, -3.0, -2.5, 1.34, 0.5], 5.0 / 255.0, 153u8),
        (vec![1.0, 2.1, 1.3, 2.5, 3.34, 4.0], 4.0 / 255.0, 0),
        (vec![-1.0, -2.0], 2.0 / 255.0, 255),
        (vec![0.0, 0.0], 1.0, 0),
    ] {
        let x = Tensor::vector(values.clone());
        let found = run_all(&Op::DynamicQuantizeLinear, &[Some(&x)]).unwrap();
        let code = |v: &f32| ((v / scale).round_ties_even() + f32::from(zero_point)) as u8;
        let expected: Vec<u8> = values.iter().map(code).collect();
        let parameters = [Tensor::scalar(scale), Tensor::scalar(zero_point)];
        assert_eq!(found[0], Tensor::vector(expected));
        assert_eq!(found[1..], parameters);
    }
}

#[test]
fn biases_round_to_even_and_saturate() {
    assert_eq!(quantize_bias(2.5, 1.0), 2);
    assert_eq!(quantize_bias(-3.5, 1.0), -4);
    assert_eq!(quantize_bias(1e30, 1.0), i32::MAX);
    assert_eq!(quantize_bias(-1e30, 1.0), i32::MIN);
}
