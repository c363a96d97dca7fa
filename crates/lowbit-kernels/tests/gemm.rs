//! Matrix products of every tier against their definition, on random shapes.

use lowbit_kernels::nhwc::Pool;
use lowbit_kernels::{
    Activation, GemmCall, IntSlice, Isa, MatShape, Order, PackedGemm, PackedQGemm, Parallel,
    QGemmCall, QMat, Scratch, matmul, qmatmul,
};
use proptest::prelude::*;

fn bytes(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

fn floats(len: usize, seed: u32) -> Vec<f32> {
    bytes(len, seed).into_iter().map(|b| (f32::from(b) - 128.0) / 77.0).collect()
}

fn transpose<T: Copy>(w: &[T], [k, n]: [usize; 2]) -> Vec<T> {
    (0..k * n).map(|i| w[i % k * n + i / k]).collect()
}

fn check_float(m: usize, k: usize, n: usize, parallel: Parallel) {
    let (a, b, bias) = (floats(m * k, 1), floats(k * n, 2), floats(n, 3));
    let call = GemmCall { m, activation: Activation::Relu, parallel };
    for (isa, order) in
        Isa::available().into_iter().flat_map(|isa| [(isa, Order::Kn), (isa, Order::Nk)])
    {
        let w = if order == Order::Kn { b.clone() } else { transpose(&b, [k, n]) };
        let packed = PackedGemm::for_isa(isa, &w, (order, [k, n]), Some(&bias));
        let mut out = vec![f32::NAN; m * n];
        packed.run(&a, &call, &mut out, &mut Scratch::new());
        for (at, &out) in out.iter().enumerate() {
            let terms = (0..k).map(|i| f64::from(a[at / n * k + i]) * f64::from(b[i * n + at % n]));
            let size: f64 =
                terms.clone().map(f64::abs).sum::<f64>() + f64::from(bias[at % n].abs());
            let expected = (terms.sum::<f64>() + f64::from(bias[at % n])).max(0.0);
            assert!(
                (f64::from(out) - expected).abs() <= 1e-5 * size,
                "{} {m} {k} {n} {at}",
                isa.name()
            );
        }
        let mut shared = vec![f32::NAN; m * n];
        let how = (m, Activation::Relu);
        packed.run_on(&a, how, &mut shared, (&Pool::new(3), &mut Scratch::new()));
        let same = shared.iter().zip(&out).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{} {m} {k} {n} on a pool", isa.name());
    }
    let mut out = vec![f32::NAN; m * n];
    matmul(&a, &b, MatShape { m, k, n }, &mut out, parallel);
    assert!(out.iter().all(|v| v.is_finite()));
}

fn check_int(m: usize, k: usize, n: usize, parallel: Parallel) {
    let (a, b) = (bytes(m * k, 1), bytes(k * n, 2));
    let signed: Vec<i8> = b.iter().map(|&b| b as i8).collect();
    let a_zero_points: Vec<i32> = (0..m).map(|i| (i * 50 % 256) as i32).collect();
    let b_zero_points: Vec<i32> = (0..n).map(|i| (i * 70 % 256) as i32 - 128).collect();
    let expected: Vec<i32> = (0..m * n)
        .map(|at| {
            let (row, column) = (at / n, at % n);
            let left = |i: usize| i32::from(a[row * k + i]) - a_zero_points[row];
            let right = |i: usize| i32::from(signed[i * n + column]) - b_zero_points[column];
            (0..k).map(|i| left(i) * right(i)).sum()
        })
        .collect();
    let call = QGemmCall { m, a_zero_points: &a_zero_points, parallel };
    let mut out = vec![i32::MIN; m * n];
    for isa in Isa::available() {
        let packed =
            PackedQGemm::for_isa(isa, IntSlice::I8(&signed), (Order::Kn, [k, n]), &b_zero_points);
        packed.run(IntSlice::U8(&a), &call, &mut out, &mut Scratch::new());
        assert!(out == expected, "{} {m} {k} {n}", isa.name());
    }
    let left = QMat { values: IntSlice::U8(&a), zero_points: &a_zero_points };
    let right = QMat { values: IntSlice::I8(&signed), zero_points: &b_zero_points };
    qmatmul(left, right, MatShape { m, k, n }, &mut out, parallel);
    assert!(out == expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn products_equal_definition(m in 1..30usize, k in 1..80usize, n in 1..130usize, rayon in any::<bool>()) {
        let parallel = if rayon { Parallel::Rayon } else { Parallel::Serial };
        check_float(m, k, n, parallel);
        check_int(m, k, n, parallel);
    }
}
