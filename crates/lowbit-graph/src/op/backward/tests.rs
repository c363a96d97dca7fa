use lowbit_tensor::{DType, Rng, Shape};

use super::*;
use crate::Conv;
use crate::Gemm;
use crate::op::dispatch::testing::{codes, ints, normal};
use crate::passes::testing::POOL;
use crate::*;

/// Σ seed · outputs, in f64.
fn loss(op: &Op, inputs: &[Option<&Tensor>], seeds: &[Tensor]) -> f64 {
    let outputs = op.forward(&Inputs(inputs), &mut Workspace::serial()).unwrap();
    let one = |(y, s): (&Tensor, &Tensor)| -> f64 {
        y.f32s().iter().zip(s.f32s()).map(|(&y, &s)| f64::from(y) * f64::from(s)).sum()
    };
    outputs.iter().zip(seeds).map(one).sum()
}

/// The wanted gradients for random seeds of the outputs, and those seeds.
fn gradients(op: &Op, inputs: &[Option<&Tensor>], wanted: &[usize]) -> (Vec<Tensor>, Vec<Tensor>) {
    let mut work = Workspace::serial();
    let outputs = op.forward(&Inputs(inputs), &mut work).unwrap();
    let mut rng = Rng::new(7);
    let seeds: Vec<Tensor> = outputs.iter().map(|y| normal(y.shape(), &mut rng)).collect();
    work.pool.give(Tensor::full([1 << 12], f32::NAN));
    let back = |work: &mut Workspace, mask: &dyn Fn(usize) -> bool| {
        let back = Back {
            inputs: &Inputs(inputs),
            outputs: &outputs.iter().map(Some).collect::<Vec<_>>(),
            grads: &seeds.iter().map(Some).collect::<Vec<_>>(),
            wanted: &(0..inputs.len()).map(mask).collect::<Vec<_>>(),
        };
        op.backward(&back, work).unwrap_or_else(|e| panic!("{op:?}: {e}"))
    };
    let all = back(&mut work, &|i| wanted.contains(&i));
    let found = wanted.iter().map(|&i| all[i].clone().expect("a wanted gradient")).collect();
    for &i in wanted {
        let mut alone = back(&mut Workspace::parallel(), &|j| i == j);
        assert_eq!(alone[i].take(), all[i], "{op:?}: input {i} alone");
        assert!(alone.iter().all(Option::is_none), "{op:?}: only input {i} was wanted");
    }
    (found, seeds)
}

/// Gradients of the `wanted` inputs are those of central differences.
fn check(op: &Op, inputs: &[&Tensor], wanted: &[usize]) {
    const STEP: f32 = 1.0 / 128.0;
    let given: Vec<Option<&Tensor>> = inputs.iter().map(|&t| Some(t)).collect();
    let (found, seeds) = gradients(op, &given, wanted);
    for (&input, found) in wanted.iter().zip(&found) {
        assert_eq!(found.shape(), inputs[input].shape(), "{op:?}");
        for at in 0..found.len() {
            let moved = |by: f32| {
                let mut tensor = inputs[input].clone();
                tensor.as_mut_slice::<f32>().unwrap()[at] += by;
                let mut given = given.clone();
                given[input] = Some(&tensor);
                loss(op, &given, &seeds)
            };
            let expected = (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP);
            let near =
                (f64::from(found.f32s()[at]) - expected).abs() <= 2e-3 * (1.0 + expected.abs());
            assert!(
                near,
                "{op:?} input {input} at {at}: {}, expected {expected}",
                found.f32s()[at]
            );
        }
    }
}

/// The gradients of the inputs are exactly `expected(seed)`, one list per wanted input.
fn check_formula(
    op: &Op,
    inputs: &[&Tensor],
    wanted: &[usize],
    expected: impl Fn(&[f32]) -> Vec<Vec<f32>>,
) {
    let given: Vec<Option<&Tensor>> = inputs.iter().map(|&t| Some(t)).collect();
    let (found, seeds) = gradients(op, &given, wanted);
    for (found, expected) in found.iter().zip(expected(seeds[0].f32s())) {
        for (f, e) in found.f32s().iter().zip(&expected) {
            assert!((f - e).abs() <= 1e-5 * (1.0 + e.abs()), "{op:?}: {found:?}, {expected:?}");
        }
        assert_eq!(found.len(), expected.len());
    }
}

fn random(shape: &[usize], seed: u64) -> Tensor {
    normal(shape, &mut Rng::new(seed))
}

/// Multiples of 1/4, all different, in a random order, none at 0: steps of a difference cross no kink.
fn distinct(shape: &[usize], seed: u64) -> Tensor {
    let len: usize = shape.iter().product();
    let order = Rng::new(seed).sample(len, len);
    let value = |i: usize| (i as f32 - len as f32 / 2.0) / 4.0 + 0.1;
    Tensor::new(Shape::from(shape), order.into_iter().map(value).collect())
}

/// Between 1/2 and 2.
fn positive(shape: &[usize], seed: u64) -> Tensor {
    let len: usize = shape.iter().product();
    let mut rng = Rng::new(seed);
    Tensor::new(Shape::from(shape), (0..len).map(|_| 0.5 + 1.5 * rng.uniform()).collect())
}

#[test]
fn convolutions() {
    let (x, bias) = (random(&[2, 4, 6, 5], 1), random(&[6], 2));
    let check_conv = |conv: Conv, weight: [usize; 4]| {
        check(&Op::Conv(conv), &[&x, &random(&weight, 3), &bias], &[0, 1, 2]);
    };
    check_conv(Conv::PLAIN, [6, 4, 1, 1]);
    check_conv(Conv { pads: [1, 0, 2, 1], ..Conv::PLAIN }, [6, 4, 3, 2]);
    check_conv(Conv { strides: [2, 1], dilations: [1, 2], groups: 2, ..Conv::PLAIN }, [6, 2, 3, 2]);
    check_conv(Conv { strides: [2, 2], auto_pad: AutoPad::SameUpper, ..Conv::PLAIN }, [6, 4, 3, 3]);
    let depthwise = Conv { groups: 4, pads: [1; 4], strides: [2, 2], ..Conv::PLAIN };
    check(&Op::Conv(depthwise), &[&x, &random(&[4, 1, 3, 3], 4)], &[0, 1]);
}

#[test]
fn fused_activations_stop_gradients_at_their_limits() {
    let x = Tensor::new([1, 1, 1, 4], vec![-1.0f32, 1.0, 3.0, 7.0]);
    let weight = Tensor::full([1, 1, 1, 1], 1.0f32);
    let on = |activation| Op::Conv(Conv { activation, ..Conv::PLAIN });
    let inputs = [&x, &weight];
    let kept = |mask: [f32; 4]| {
        move |g: &[f32]| vec![g.iter().zip(mask).map(|(g, m)| g * m).collect::<Vec<f32>>()]
    };
    check_formula(&on(Activation::Relu), &inputs, &[0], kept([0.0, 1.0, 1.0, 1.0]));
    let clip = Activation::Clip { min: 0.0, max: 6.0 };
    check_formula(&on(clip), &inputs, &[0], kept([0.0, 1.0, 1.0, 0.0]));
}

#[test]
fn products() {
    let c = [random(&[3, 5], 1), random(&[5], 2), random(&[3, 1], 3), random(&[], 4)];
    for (i, c) in c.iter().enumerate() {
        for (a, transpose_a) in [(random(&[3, 4], 5), false), (random(&[4, 3], 6), true)] {
            for (b, transpose_b) in [(random(&[4, 5], 7), false), (random(&[5, 4], 8), true)] {
                let (alpha, beta) = if i == 0 { (1.0, 1.0) } else { (0.5, -2.0) };
                let gemm = Gemm { alpha, beta, transpose_a, transpose_b, ..Gemm::PLAIN };
                check(&Op::Gemm(gemm), &[&a, &b, c], &[0, 1, 2]);
            }
        }
    }
}

#[test]
fn functions_of_one_float() {
    let (x, positive) = (distinct(&[4, 5], 1), positive(&[7], 2));
    for op in [
        Unary::Relu,
        Unary::LeakyRelu { alpha: 0.25 },
        Unary::Sigmoid,
        Unary::Tanh,
        Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Unary::HardSwish,
        Unary::Silu,
        Unary::Gelu,
        Unary::GeluTanh,
        Unary::Erf,
        Unary::Exp,
        Unary::Neg,
        Unary::Abs,
        Unary::Floor,
        Unary::Ceil,
        Unary::Sign,
    ] {
        check(&Op::Unary(op), &[&x], &[0]);
    }
    check(&Op::Unary(Unary::Sqrt), &[&positive], &[0]);
}

#[test]
fn clip_passes_what_it_does_not_change() {
    let (low, high) = (Tensor::scalar(-1.0f32), Tensor::scalar(1.0f32));
    check(&Op::Clip, &[&distinct(&[20], 1), &low, &high], &[0, 1, 2]);
    let x = Tensor::vector(vec![-2.0f32, -1.0, 0.0, 1.0, 2.0]);
    let expected = |g: &[f32]| vec![vec![0.0, g[1], g[2], g[3], 0.0], vec![g[0]], vec![g[4]]];
    check_formula(&Op::Clip, &[&x, &low, &high], &[0, 1, 2], expected);
}

#[test]
fn two_operands_broadcast() {
    let (x, y) = (distinct(&[2, 3, 4], 1), positive(&[3, 1], 2));
    for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Min, Binary::Max] {
        check(&Op::Binary(op), &[&x, &y], &[0, 1]);
        check(&Op::Binary(op), &[&x, &positive(&[2, 3, 4], 3)], &[0, 1]);
        check(&Op::Binary(op), &[&random(&[4], 4), &y], &[0, 1]);
    }
    check(&Op::Binary(Binary::Pow), &[&positive(&[3, 2], 5), &y], &[0, 1]);
    check(&Op::Binary(Binary::Pow), &[&random(&[5], 6), &Tensor::scalar(2.0f32)], &[0]);
    let (one, ones) = (Tensor::scalar(1.0f32), Tensor::vector(vec![1.0f32]));
    check_formula(&Op::Binary(Binary::Max), &[&one, &ones], &[0, 1], |g| vec![vec![g[0] / 2.0]; 2]);
}

#[test]
fn elements_in_another_shape() {
    let x = random(&[2, 3, 1, 2], 1);
    check(&Op::Reshape(Reshape { allow_zero: false }), &[&x, &ints(&[3, -1])], &[0]);
    check(&Op::Flatten(Flatten { axis: 1 }), &[&x], &[0]);
    check(&Op::Squeeze, &[&x, &ints(&[2])], &[0]);
    check(&Op::Unsqueeze, &[&x, &ints(&[0])], &[0]);
    check(&Op::Identity, &[&x], &[0]);
}

#[test]
fn pools() {
    let x = distinct(&[2, 3, 5, 4], 1);
    check(&Op::GlobalAveragePool, &[&x], &[0]);
    check(&Op::GlobalMaxPool, &[&x], &[0]);
    let overlapping = Pool2d { kernel: [3, 2], pads: [1, 0, 0, 1], strides: [2, 1], ..POOL };
    for pool in [
        POOL,
        overlapping,
        Pool2d { dilations: [2, 1], ..overlapping },
        Pool2d { ceil_mode: true, ..POOL },
        Pool2d { count_include_pad: true, ..overlapping },
    ] {
        check(&Op::MaxPool(pool), &[&x], &[0]);
        check(&Op::AveragePool(pool), &[&x], &[0]);
    }
    let codes = codes(DType::U8, &[1, 1, 2, 2], &[3, 9, 9, 0]);
    check_formula(&Op::MaxPool(POOL), &[&codes], &[0], |g| vec![vec![0.0, g[0], 0.0, 0.0]]);
}

#[test]
fn batched_products() {
    for (a, b) in [
        (vec![2, 3, 4], vec![4, 5]),
        (vec![3, 4], vec![2, 4, 2]),
        (vec![2, 1, 3, 4], vec![3, 4, 2]),
        (vec![4], vec![2, 4, 3]),
        (vec![2, 3, 4], vec![4]),
    ] {
        check(&Op::MatMul, &[&random(&a, 1), &random(&b, 2)], &[0, 1]);
    }
}

#[test]
fn normalizations() {
    let (x, positive) = (random(&[2, 3, 4], 1), positive(&[3], 2));
    let norm = Op::BatchNorm(BatchNorm { epsilon: 0.5 });
    let inputs = [&x, &random(&[3], 3), &random(&[3], 4), &random(&[3], 5), &positive];
    check(&norm, &inputs, &[0, 1, 2, 3, 4]);
    let layer = |axis| Op::LayerNorm(LayerNorm { axis, epsilon: 0.5 });
    check(&layer(-1), &[&x, &random(&[4], 6), &random(&[4], 7)], &[0, 1, 2]);
    check(&layer(1), &[&x, &random(&[4], 6), &random(&[3, 1], 7)], &[0, 1, 2]);
    check(&layer(2), &[&x, &random(&[1], 8)], &[0, 1]);
}

#[test]
fn softmax_along_any_axis() {
    for (axis, log, flatten) in
        [(-1, false, false), (1, true, false), (0, false, false), (1, true, true)]
    {
        let softmax = Op::Softmax(Softmax { axis, log, flatten });
        check(&softmax, &[&random(&[2, 3, 4], 1)], &[0]);
    }
}

#[test]
fn a_learned_slope() {
    check(&Op::PRelu, &[&distinct(&[2, 3, 4], 1), &random(&[3, 1], 2)], &[0, 1]);
}

#[test]
fn reductions() {
    let x = random(&[2, 3, 4], 1);
    for kind in [ReduceKind::Mean, ReduceKind::Sum] {
        for keep_dims in [false, true] {
            let reduce = Op::Reduce(Reduce { kind, keep_dims, noop_with_empty_axes: false });
            check(&reduce, &[&x, &ints(&[1])], &[0]);
            check(&reduce, &[&x, &ints(&[0, -1])], &[0]);
            check(&reduce, &[&x], &[0]);
        }
        let noop = Reduce { kind, keep_dims: true, noop_with_empty_axes: true };
        check(&Op::Reduce(noop), &[&x], &[0]);
    }
}

#[test]
fn elements_that_move() {
    let x = random(&[2, 3, 4], 1);
    check(&Op::Transpose(Transpose { perm: Some(vec![2, 0, 1]) }), &[&x], &[0]);
    check(
        &Op::Slice,
        &[&x, &ints(&[-1, 1]), &ints(&[-9, 3]), &ints(&[2, 1]), &ints(&[-2, 1])],
        &[0],
    );
    let pad = |mode| Op::Pad(Pad { mode });
    for mode in [PadMode::Constant, PadMode::Edge, PadMode::Reflect, PadMode::Wrap] {
        check(&pad(mode), &[&x, &ints(&[0, 1, 2, 0, -1, 1])], &[0]);
    }
    let value = Tensor::scalar(3.0f32);
    check(&pad(PadMode::Constant), &[&x, &ints(&[1, 1]), &value, &ints(&[1])], &[0]);
    check(&Op::Gather(Gather { axis: 1 }), &[&x, &ints(&[2, 0, -1, 2])], &[0]);
    check(&Op::Expand, &[&random(&[3, 1], 2), &ints(&[2, 1, 4])], &[0]);
    check(&Op::Split(Split { axis: 2, outputs: 2 }), &[&x, &ints(&[1, 3])], &[0]);
    let more = [random(&[2, 1, 4], 3), random(&[2, 2, 4], 4)];
    check(&Op::Concat(Concat { axis: 1 }), &[&x, &more[0], &more[1]], &[0, 1, 2]);
    let condition = Tensor::new([3, 1], vec![true, false, true]);
    check(&Op::Where, &[&condition, &x, &random(&[4], 5)], &[1, 2]);
}

#[test]
fn codes_that_move_have_float_gradients() {
    let q = codes(DType::I4, &[2, 2], &[-8, 0, 1, 7]);
    let turn = Op::Transpose(Transpose { perm: None });
    check_formula(&turn, &[&q], &[0], |g| vec![vec![g[0], g[2], g[1], g[3]]]);
    let (low, high) = (codes(DType::I8, &[], &[-4]), codes(DType::I8, &[], &[3]));
    let q = codes(DType::I8, &[5], &[-5, -4, 0, 3, 4]);
    let kept = |g: &[f32]| vec![vec![0.0, g[1], g[2], g[3], 0.0]];
    check_formula(&Op::Clip, &[&q, &low, &high], &[0], kept);
}

#[test]
fn other_operators_have_none() {
    let x = random(&[2], 1);
    let back = Back {
        inputs: &Inputs(&[Some(&x)]),
        outputs: &[Some(&x)],
        grads: &[Some(&x)],
        wanted: &[true],
    };
    let found = Op::Cast(Cast { to: DType::F32 }).backward(&back, &mut Workspace::serial());
    assert_eq!(found, Err(OpError::NoGradient));
}

fn quantize(axis: i64, block_size: usize, to: DType) -> Op {
    Op::QuantizeLinear(QuantizeLinear { blocking: Blocking { axis, block_size }, to })
}

fn dequantize(axis: i64, block_size: usize) -> Op {
    Op::DequantizeLinear(DequantizeLinear { blocking: Blocking { axis, block_size } })
}

#[test]
fn quantizing_passes_gradients_straight_through_where_codes_do_not_saturate() {
    let x = Tensor::vector(vec![-0.6f32, -0.2, 0.3, 1.0, 63.6, 64.0]);
    let (scale, zero) = (Tensor::scalar(0.25f32), codes(DType::U8, &[], &[1]));
    // Codes: -0.6 / 0.25 + 1 = -1.4 rounds to -1 and saturates, -0.2 gives 0; 63.6 gives 255, 64 saturates.
    let expected = |g: &[f32]| {
        let of_x = vec![0.0, 4.0 * g[1], 4.0 * g[2], 4.0 * g[3], 4.0 * g[4], 0.0];
        let of_scale = -(g[1] * -0.2 + g[2] * 0.3 + g[3] + g[4] * 63.6) * 16.0;
        vec![of_x, vec![of_scale]]
    };
    let inputs = [&x, &scale, &zero];
    check_formula(&quantize(0, 0, DType::U8), &inputs, &[0, 1], expected);
}

#[test]
fn dequantizing_scales_gradients() {
    let x = codes(DType::I8, &[2, 2], &[-3, 0, 5, 127]);
    let (scale, zero) = (Tensor::vector(vec![0.5f32, 2.0]), codes(DType::I8, &[2], &[1, -1]));
    let per_line = |g: &[f32]| {
        let of_scale = vec![-4.0 * g[0] - g[1], g[2] * 6.0 + g[3] * 128.0];
        vec![vec![0.5 * g[0], 0.5 * g[1], 2.0 * g[2], 2.0 * g[3]], of_scale]
    };
    check_formula(&dequantize(0, 0), &[&x, &scale, &zero], &[0, 1], per_line);
    let scales = Tensor::new([2, 1], vec![0.5f32, 2.0]);
    let zeros = codes(DType::I8, &[2, 1], &[1, -1]);
    check_formula(&dequantize(1, 2), &[&x, &scales, &zeros], &[0, 1], per_line);
}
