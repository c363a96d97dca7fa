use lowbit_tensor::Rng;

use super::*;
use crate::Op;
use crate::op::dispatch::testing::{check, check_close, normal, range, refuse, run};

const PLAIN: Pool2d = Pool2d {
    kernel: [3, 3],
    strides: [1, 1],
    dilations: [1, 1],
    pads: [0; 4],
    auto_pad: AutoPad::Explicit,
    ceil_mode: false,
    count_include_pad: false,
};

/// Window by window, element by element; `None` where the element is padding.
fn naive(pool: &Pool2d, x: &Tensor, of_window: impl Fn(&[Option<f32>]) -> f32) -> Tensor {
    let [n, c, h, w] = x.shape().to_vec()[..] else {
        panic!("rank 4");
    };
    let spec = WindowSpec {
        kernel: pool.kernel,
        strides: pool.strides,
        dilations: pool.dilations,
        pads: pool.pads,
        auto_pad: pool.auto_pad,
        ceil_mode: pool.ceil_mode,
    };
    let Window { output: [oh, ow], pads } = resolve_window([h, w], &spec).unwrap();
    let mut out = vec![];
    for plane in x.f32s().chunks_exact(h * w) {
        for (i, j) in (0..oh * ow).map(|p| (p / ow, p % ow)) {
            let mut window = vec![];
            for (k, l) in (0..pool.kernel.iter().product())
                .map(|p: usize| (p / pool.kernel[1], p % pool.kernel[1]))
            {
                let y = i * pool.strides[0] + k * pool.dilations[0];
                let x = j * pool.strides[1] + l * pool.dilations[1];
                let overhangs = y >= h + pads[0] + pads[2] || x >= w + pads[1] + pads[3];
                let inside = y >= pads[0] && y < h + pads[0] && x >= pads[1] && x < w + pads[1];
                if inside {
                    window.push(Some(plane[(y - pads[0]) * w + x - pads[1]]));
                } else if !overhangs {
                    window.push(None);
                }
            }
            out.push(of_window(&window));
        }
    }
    Tensor::new([n, c, oh, ow], out)
}

fn mean_of(window: &[Option<f32>], include_pad: bool) -> f32 {
    let total: f64 = window.iter().flatten().map(|&x| f64::from(x)).sum();
    let counted = if include_pad { window.len() } else { window.iter().flatten().count() };
    (total / counted as f64) as f32
}

#[test]
fn pools_equal_the_definition() {
    let mut rng = Rng::new(8);
    for _ in 0..300 {
        let pool = Pool2d {
            kernel: [1 + rng.below(3), 1 + rng.below(3)],
            strides: [1 + rng.below(3), 1 + rng.below(3)],
            dilations: [1 + rng.below(2), 1 + rng.below(2)],
            pads: std::array::from_fn(|_| rng.below(2)),
            auto_pad: [AutoPad::Explicit, AutoPad::SameUpper, AutoPad::SameLower, AutoPad::Valid]
                [rng.below(4)],
            ceil_mode: rng.below(2) == 1,
            count_include_pad: rng.below(2) == 1,
        };
        let dims = [1 + rng.below(2), 1 + rng.below(3), 5 + rng.below(5), 5 + rng.below(5)];
        let x = normal(&dims, &mut rng);
        if pool.max(&Inputs(&[Some(&x)]), &mut Workspace::serial()).is_err() {
            continue;
        }
        let largest = |w: &[Option<f32>]| w.iter().flatten().fold(f32::LOWEST, |a, &b| a.max(b));
        check(&Op::MaxPool(pool), &[&x], &naive(&pool, &x, largest));
        let average = naive(&pool, &x, |w| mean_of(w, pool.count_include_pad));
        check_close(&Op::AveragePool(pool), &[&x], &average);
    }
}

#[test]
fn bytes_pool_as_floats_do() {
    let mut rng = Rng::new(9);
    let codes: Vec<u8> = (0..3 * 9 * 11).map(|_| rng.below(256) as u8).collect();
    let floats = codes.iter().map(|&c| f32::from(c)).collect();
    let signed = codes.iter().map(|&c| c as i8).collect::<Vec<_>>();
    let shifted = signed.iter().map(|&c| f32::from(c)).collect();
    let pool = Op::MaxPool(Pool2d { strides: [2, 2], pads: [1; 4], ..PLAIN });
    let shape = [1, 3, 9, 11];
    let same = |codes: Tensor, floats: Vec<f32>| {
        let codes = run(&pool, &[&codes]).unwrap().to_f64();
        assert_eq!(codes, run(&pool, &[&Tensor::new(shape, floats)]).unwrap().to_f64());
    };
    same(Tensor::new(shape, codes), floats);
    same(Tensor::new(shape, signed), shifted);
}

#[test]
fn examples_of_the_standard() {
    let x = Tensor::new([1, 1, 4, 4], (1..=16).map(|i| i as f32).collect());
    let ceil = Pool2d { strides: [2, 2], ceil_mode: true, ..PLAIN };
    let expected = Tensor::new([1, 1, 2, 2], vec![11.0f32, 12.0, 15.0, 16.0]);
    check(&Op::MaxPool(ceil), &[&x], &expected);
    let expected = Tensor::new([1, 1, 2, 2], vec![6.0f32, 7.5, 12.0, 13.5]);
    check(&Op::AveragePool(ceil), &[&x], &expected);
    let dilated = Pool2d { kernel: [2, 2], dilations: [2, 2], ..PLAIN };
    let expected = Tensor::new([1, 1, 2, 2], vec![11.0f32, 12.0, 15.0, 16.0]);
    check(&Op::MaxPool(dilated), &[&x], &expected);
}

#[test]
fn nan_and_global_pools() {
    let x = Tensor::new([1, 2, 1, 2], vec![1.0, f32::NAN, -3.0, -5.0]);
    let expected = |a, b| Tensor::new([1, 2, 1, 1], vec![a, b]);
    check_close(&Op::GlobalMaxPool, &[&x], &expected(f32::NAN, -3.0));
    check_close(&Op::GlobalAveragePool, &[&x], &expected(f32::NAN, -4.0));
    let pool = Op::MaxPool(Pool2d { kernel: [1, 2], ..PLAIN });
    check_close(&pool, &[&x], &expected(f32::NAN, -3.0));
    let volume = run(&Op::GlobalAveragePool, &[&range(&[1, 2, 2, 2, 2])]).unwrap();
    assert_eq!(volume, Tensor::new([1, 2, 1, 1, 1], vec![3.5f32, 11.5]));
}

#[test]
fn what_does_not_fit_is_refused() {
    let x = range(&[1, 1, 4, 4]);
    refuse(&Op::MaxPool(PLAIN), &[&range(&[1, 4, 4])], "supported: rank 4");
    refuse(&Op::MaxPool(Pool2d { pads: [3; 4], ..PLAIN }), &[&x], "reach past windows");
    refuse(&Op::MaxPool(Pool2d { kernel: [5, 5], ..PLAIN }), &[&x], "does not fit");
    let huge = Pool2d { kernel: [1, 1 << 30], pads: [0, 1 << 29, 0, 1 << 29], ..PLAIN };
    refuse(&Op::MaxPool(huge), &[&x], "limit");
    refuse(&Op::AveragePool(PLAIN), &[&Tensor::full([1, 1, 4, 4], 1u8)], "expected float32");
    refuse(&Op::GlobalAveragePool, &[&range(&[2, 3])], "rank 4");
}
