use lowbit_tensor::{DType, Rng, Tensor};

use crate::op::testing::{check, codes, refuse};
use crate::{Gemm, Op};

const TYPES: [DType; 2] = [DType::U8, DType::I8];

fn random(len: usize, dtype: DType, rng: &mut Rng) -> Vec<i32> {
    let (low, high) = dtype.range().unwrap();
    (0..len).map(|_| low + rng.below((high - low) as usize + 1) as i32).collect()
}

fn positive(len: usize, rng: &mut Rng) -> Vec<f32> {
    (0..len).map(|_| 0.002 + 0.05 * rng.uniform()).collect()
}

/// Matrices a [m, k] and b [k, n] of codes.
struct Case {
    m: usize,
    k: usize,
    n: usize,
    a: Vec<i32>,
    b: Vec<i32>,
    a_type: DType,
    b_type: DType,
}

impl Case {
    fn new(rng: &mut Rng) -> Case {
        let [m, k, n] = [4, 40, 20].map(|limit| 1 + rng.below(limit));
        let (a_type, b_type) = (TYPES[rng.below(2)], TYPES[rng.below(2)]);
        let (a, b) = (random(m * k, a_type, rng), random(k * n, b_type, rng));
        Case { m, k, n, a, b, a_type, b_type }
    }

    /// Σ (a - z_a[i])·(b - z_b[j]), row by row.
    fn sums(&self, z_a: &[i32], z_b: &[i32]) -> Vec<i32> {
        let cell = |i: usize, j: usize| -> i32 {
            let term = |k: usize| {
                (self.a[i * self.k + k] - z_a[i % z_a.len()])
                    * (self.b[k * self.n + j] - z_b[j % z_b.len()])
            };
            (0..self.k).map(term).sum()
        };
        (0..self.m * self.n).map(|at| cell(at / self.n, at % self.n)).collect()
    }

    fn tensors(&self) -> [Tensor; 2] {
        [
            codes(self.a_type, &[self.m, self.k], &self.a),
            codes(self.b_type, &[self.k, self.n], &self.b),
        ]
    }
}

/// One value has no axis, several have one.
fn shape(len: usize, single: bool) -> Vec<usize> {
    if single { vec![] } else { vec![len] }
}

#[test]
fn matmul_integer_gives_the_exact_sums() {
    for seed in 0..100 {
        let rng = &mut Rng::new(seed);
        let case = Case::new(rng);
        let (rows, columns) = (rng.below(2) == 0, rng.below(2) == 0);
        let z_a = random(if rows { 1 } else { case.m }, case.a_type, rng);
        let z_b = random(if columns { 1 } else { case.n }, case.b_type, rng);
        let [a, b] = case.tensors();
        let expected = Tensor::new([case.m, case.n], case.sums(&z_a, &z_b));
        let z_a = codes(case.a_type, &shape(z_a.len(), rows), &z_a);
        let z_b = codes(case.b_type, &shape(z_b.len(), columns), &z_b);
        check(&Op::MatMulInteger, &[&a, &b, &z_a, &z_b], &expected);
    }
}

#[test]
fn products_broadcast_over_batches() {
    let a = codes(DType::U8, &[2, 1, 1, 2], &[1, 2, 3, 4]);
    let b = codes(DType::I8, &[3, 2, 1], &[1, 10, -1, 0, 0, -1]);
    let expected = Tensor::new([2, 3, 1, 1], vec![21i32, -1, -2, 43, -3, -4]);
    check(&Op::MatMulInteger, &[&a, &b], &expected);
}

#[test]
fn qlinear_matmul_rounds_the_scaled_sums() {
    for seed in 0..100 {
        let rng = &mut Rng::new(seed);
        let case = Case::new(rng);
        let per_column = rng.below(2) == 0;
        let scales = positive(if per_column { case.n } else { 1 }, rng);
        let (s_a, s_y) = (positive(1, rng)[0], 5.0 * positive(1, rng)[0]);
        let (z_a, z_b) = (random(1, case.a_type, rng), random(1, case.b_type, rng));
        let z_y = random(1, case.a_type, rng)[0];
        let (low, high) = case.a_type.range().unwrap();
        let code = |(i, sum): (usize, i32)| {
            let multiplier = s_a * scales[i % case.n % scales.len()] / s_y;
            let rounded = (sum as f32 * multiplier).round_ties_even() + z_y as f32;
            rounded.clamp(low as f32, high as f32) as i32
        };
        let expected: Vec<i32> = case.sums(&z_a, &z_b).into_iter().enumerate().map(code).collect();
        let expected = codes(case.a_type, &[case.m, case.n], &expected);
        let [a, b] = case.tensors();
        let s_b = Tensor::new(shape(scales.len(), !per_column), scales.clone());
        let [s_a, s_y] = [s_a, s_y].map(Tensor::scalar);
        let (z_a, z_b) = (codes(case.a_type, &[], &z_a), codes(case.b_type, &[], &z_b));
        let z_y = codes(case.a_type, &[], &[z_y]);
        check(&Op::QLinearMatMul, &[&a, &s_a, &z_a, &b, &s_b, &z_b, &s_y, &z_y], &expected);
    }
}

#[test]
fn qgemm_gives_floats_or_codes() {
    for seed in 0..100 {
        let rng = &mut Rng::new(seed);
        let case = Case::new(rng);
        let (z_a, z_b) = (random(1, case.a_type, rng), random(1, case.b_type, rng));
        let per_column = rng.below(2) == 0;
        let scales = positive(if per_column { case.n } else { 1 }, rng);
        let (s_a, s_y) = (positive(1, rng)[0], 5.0 * positive(1, rng)[0]);
        let z_y = random(1, case.a_type, rng)[0];
        let (low, high) = case.a_type.range().unwrap();
        let bias: Vec<i32> = (0..case.n).map(|_| rng.below(9000) as i32 - 4500).collect();
        let sums = case.sums(&z_a, &z_b);
        let scaled = |i: usize| {
            let column = i % case.n;
            ((sums[i] + bias[column]) as f32, s_a * scales[column % scales.len()])
        };
        let floats = (0..sums.len()).map(|i| scaled(i).0 * scaled(i).1).collect();
        let code = |i: usize| {
            let rounded = (scaled(i).0 * (scaled(i).1 / s_y)).round_ties_even() + z_y as f32;
            rounded.clamp(low as f32, high as f32) as i32
        };
        let rounded: Vec<i32> = (0..sums.len()).map(code).collect();
        let rounded = codes(case.a_type, &[case.m, case.n], &rounded);
        let floats = Tensor::new([case.m, case.n], floats);

        let transpose_b = rng.below(2) == 0;
        let [a, mut b] = case.tensors();
        if transpose_b {
            let turned = |i: usize| case.b[i % case.k * case.n + i / case.k];
            let turned: Vec<i32> = (0..case.b.len()).map(turned).collect();
            b = codes(case.b_type, &[case.n, case.k], &turned);
        }
        let s_b = Tensor::new(shape(scales.len(), !per_column), scales.clone());
        let [s_a, s_y] = [s_a, s_y].map(Tensor::scalar);
        let (z_a, z_b) = (codes(case.a_type, &[], &z_a), codes(case.b_type, &[], &z_b));
        let (z_y, bias) = (codes(case.a_type, &[], &[z_y]), Tensor::vector(bias.clone()));
        let op = Op::QGemm(Gemm { transpose_b, ..Gemm::PLAIN });
        check(&op, &[&a, &s_a, &z_a, &b, &s_b, &z_b, &bias], &floats);
        check(&op, &[&a, &s_a, &z_a, &b, &s_b, &z_b, &bias, &s_y, &z_y], &rounded);
    }
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let a = codes(DType::U8, &[2, 3], &[1; 6]);
    let b = codes(DType::I8, &[3, 2], &[1; 6]);
    let scale = Tensor::scalar(0.1f32);
    let [zero, signed] = TYPES.map(|dtype| codes(dtype, &[], &[0]));
    refuse(&Op::MatMulInteger, &[&a, &a], "inner extents");
    refuse(&Op::MatMulInteger, &[&a, &scale], "at least one axis");
    let many = Tensor::vector(vec![0.1f32; 3]);
    let inputs = [&a, &scale, &zero, &b, &many, &signed, &scale, &zero];
    refuse(&Op::QLinearMatMul, &inputs, "1 and 3 scales for 2 rows and 2 columns");
    let inputs = [&a, &scale, &zero, &b, &scale, &signed, &scale, &signed];
    refuse(&Op::QLinearMatMul, &inputs, "input 7: found int8, expected uint8");
    let bias = Tensor::vector(vec![1i32]);
    let inputs = [&a, &scale, &zero, &b, &scale, &signed, &bias];
    refuse(&Op::QGemm(Gemm::PLAIN), &inputs, "not one per column of 2");
    let form = Op::QGemm(Gemm { alpha: 2.0, ..Gemm::PLAIN });
    refuse(&form, &inputs[..6], "alpha 2");
}
