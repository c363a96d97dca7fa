use lowbit_tensor::{DType, Rng, Tensor};

use crate::op::testing::{check, codes, refuse};
use crate::passes::testing::POOL;
use crate::{Op, Pool2d};

const DIMS: [usize; 4] = [2, 3, 6, 5];

/// A random operand: codes, scale, zero point.
struct Operand {
    codes: Vec<i32>,
    scale: f32,
    zero_point: i32,
    dtype: DType,
}

fn operand(seed: u64) -> (Operand, f32, i32) {
    let rng = &mut Rng::new(seed);
    let dtype = [DType::U8, DType::I8][rng.below(2)];
    let low = dtype.range().unwrap().0;
    let mut code = || low + rng.below(256) as i32;
    let codes = (0..DIMS.iter().product()).map(|_| code()).collect();
    let (zero_point, y_zero) = (code(), code());
    let scale = 0.01 + 0.1 * rng.uniform();
    (Operand { codes, scale, zero_point, dtype }, 0.01 + 0.1 * rng.uniform(), y_zero)
}

/// `op` on a random operand gives `code` of every output position, clamped to the type.
fn check_all(op: &Op, shape: [usize; 4], code: impl Fn(&Operand, (f32, f32), [usize; 4]) -> f32) {
    for seed in 0..60 {
        let (x, s_y, z_y) = operand(seed);
        let (low, high) = x.dtype.range().unwrap();
        let [_, c, h, w] = shape;
        let at = |i: usize| [i / (c * h * w), i / (h * w) % c, i / w % h, i % w];
        let one =
            |i: usize| code(&x, (s_y, z_y as f32), at(i)).clamp(low as f32, high as f32) as i32;
        let expected: Vec<i32> = (0..shape.iter().product()).map(one).collect();
        let expected = codes(x.dtype, &shape, &expected);
        let inputs = [
            codes(x.dtype, &DIMS, &x.codes),
            Tensor::scalar(x.scale),
            codes(x.dtype, &[], &[x.zero_point]),
            Tensor::scalar(s_y),
            codes(x.dtype, &[], &[z_y]),
        ];
        check(op, &inputs.iter().collect::<Vec<_>>(), &expected);
    }
}

#[test]
fn the_global_mean_is_one_scaled_sum() {
    let code = |x: &Operand, (s_y, z_y): (f32, f32), [n, c, ..]: [usize; 4]| {
        let plane = &x.codes[(n * 3 + c) * 30..][..30];
        let centered = plane.iter().sum::<i32>() - 30 * x.zero_point;
        (centered as f32 * (x.scale / (s_y * 30.0))).round_ties_even() + z_y
    };
    check_all(&Op::QLinearGlobalAveragePool, [2, 3, 1, 1], code);
}

#[test]
fn the_mean_of_windows_is_a_sum_of_floats() {
    for (pads, strides, count_include_pad) in [
        ([0; 4], [2, 2], false),
        ([1, 1, 1, 1], [1, 2], false),
        ([1, 1, 1, 1], [2, 1], true),
        ([0, 1, 1, 0], [1, 1], true),
    ] {
        let pool = Pool2d { kernel: [3, 2], strides, pads, count_include_pad, ..POOL };
        let extent = |axis: usize| {
            (DIMS[2 + axis] + pads[axis] + pads[axis + 2] - pool.kernel[axis]) / strides[axis] + 1
        };
        let code = |x: &Operand, (s_y, z_y): (f32, f32), [n, c, row, column]: [usize; 4]| {
            let (mut sum, mut count) = (0.0f32, 0);
            for (r, s) in (0..6).map(|t| (t / 2, t % 2)) {
                let y = (row * strides[0] + r).wrapping_sub(pads[0]);
                let at = (column * strides[1] + s).wrapping_sub(pads[1]);
                if y < 6 && at < 5 {
                    let code = x.codes[((n * 3 + c) * 6 + y) * 5 + at];
                    sum += (code - x.zero_point) as f32 * x.scale;
                    count += 1;
                }
            }
            let mean = sum / if count_include_pad { 6.0 } else { count as f32 };
            (mean / s_y + z_y).round_ties_even()
        };
        check_all(&Op::QLinearAveragePool(pool), [2, 3, extent(0), extent(1)], code);
    }
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let x = codes(DType::U8, &[1, 1, 2, 2], &[1; 4]);
    let (scale, zero) = (Tensor::scalar(0.1f32), codes(DType::U8, &[], &[0]));
    let signed = codes(DType::I8, &[], &[0]);
    let two = Tensor::vector(vec![0.1f32; 2]);
    let op = Op::QLinearGlobalAveragePool;
    refuse(&op, &[&x, &two, &zero, &scale, &zero], "expected float32 of one element");
    refuse(&op, &[&x, &scale, &zero, &scale, &signed], "input 4: found int8, expected uint8");
    let flat = codes(DType::U8, &[4], &[1; 4]);
    refuse(&op, &[&flat, &scale, &zero, &scale, &zero], "rank 4");
    let empty = codes(DType::U8, &[1, 1, 0, 2], &[]);
    refuse(&op, &[&empty, &scale, &zero, &scale, &zero], "mean over no elements");
}
