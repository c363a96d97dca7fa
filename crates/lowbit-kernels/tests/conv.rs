//! Convolutions of every tier against their definition, on random shapes.

use lowbit_kernels::nhwc::Pool;
use lowbit_kernels::{
    Activation, ConvCall, ConvGeometry, ConvGradient, IntSlice, Isa, PackedConv, PackedQConv,
    Parallel, QConvCall, Scratch, naive,
};
use proptest::prelude::*;

/// Groups, input and output channels: dense, depthwise, grouped.
fn channels() -> impl Strategy<Value = (usize, usize, usize)> {
    prop_oneof![
        3 => (1..=70usize, 1..=70usize).prop_map(|(inputs, outputs)| (1, inputs, outputs)),
        2 => (1..=40usize).prop_map(|channels| (channels, channels, channels)),
        1 => (2..=5usize, 1..=5usize, 1..=9usize).prop_map(|(g, i, o)| (g, g * i, g * o)),
    ]
}

fn geometry() -> impl Strategy<Value = ConvGeometry> {
    let axis = || (1..=5usize, 1..=3usize, 1..=2usize, 0..=3usize, 0..=3usize);
    (channels(), axis(), axis(), 1..=40usize, 1..=40usize).prop_map(
        |((groups, i, o), a, b, h, w)| {
            let least = |(k, _, d, before, after): (usize, usize, usize, usize, usize)| {
                ((k - 1) * d + 1).saturating_sub(before + after).max(1)
            };
            ConvGeometry {
                channels_in: i,
                channels_out: o,
                input: [h.max(least(a)), w.max(least(b))],
                kernel: [a.0, b.0],
                strides: [a.1, b.1],
                dilations: [a.2, b.2],
                pads: [a.3, b.3, a.4, b.4],
                groups,
            }
        },
    )
}

/// Numbers in 0..modulus from a fixed linear recurrence.
fn noise(len: usize, seed: u64, modulus: u64) -> Vec<i32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % modulus) as i32
        })
        .collect()
}

fn floats(len: usize, seed: u64) -> Vec<f32> {
    noise(len, seed, 2001).into_iter().map(|x| (x - 1000) as f32 / 500.0).collect()
}

fn check_float(g: &ConvGeometry, n: usize, activation: Activation, parallel: Parallel) {
    let x = floats(n * g.input_len(), 1);
    let weight = floats(g.weight_shape().iter().product(), 2);
    let bias = floats(g.channels_out, 3);
    let abs = |values: &[f32]| values.iter().map(|v| v.abs()).collect::<Vec<_>>();
    let expected = naive::conv_f32(&x, &weight, Some(&bias), n, g);
    let size = naive::conv_f32(&abs(&x), &abs(&weight), Some(&abs(&bias)), n, g);
    for isa in Isa::available() {
        let packed = PackedConv::for_isa(isa, &weight, g.weight_shape(), (Some(&bias), g.groups));
        let mut scratch = Scratch::new();
        let mut out = vec![f32::NAN; expected.len()];
        for _ in 0..2 {
            packed.run(
                &x,
                &ConvCall { n, geometry: g, activation, parallel },
                &mut out,
                &mut scratch,
            );
        }
        for (at, ((&out, &expected), &size)) in out.iter().zip(&expected).zip(&size).enumerate() {
            let expected = activation.apply(expected);
            assert!(
                (out - expected).abs() <= 1e-5 * size,
                "{} {at}: {out} {expected} {g:?}",
                isa.name()
            );
        }
        if n == 1 {
            let mut shared = vec![f32::NAN; out.len()];
            let pool = Pool::new(3);
            packed.run_on(&x, (g, activation), &mut shared, (&pool, &mut scratch));
            assert!(same_bits(&shared, &out), "{} {g:?}", isa.name());
        }
    }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.iter().map(|a| a.to_bits()).eq(b.iter().map(|b| b.to_bits()))
}

fn check_int(g: &ConvGeometry, n: usize, zero_points: (i32, i32), parallel: Parallel) {
    let x: Vec<u8> = noise(n * g.input_len(), 1, 256).into_iter().map(|x| x as u8).collect();
    let weight: Vec<i8> =
        noise(g.weight_shape().iter().product(), 2, 256).into_iter().map(|w| w as i8).collect();
    let weight_zero_points: Vec<i32> =
        (0..g.channels_out as i32).map(|o| (o + zero_points.1) % 128).collect();
    let wide = |values: &[u8]| values.iter().map(|&v| i32::from(v)).collect::<Vec<_>>();
    let wide_weight: Vec<i32> = weight.iter().map(|&w| i32::from(w)).collect();
    let expected =
        naive::conv_i32((&wide(&x), zero_points.0), (&wide_weight, &weight_zero_points), n, g);
    let call = QConvCall { n, geometry: g, x_zero_point: zero_points.0, parallel };
    for isa in Isa::available() {
        let shape = g.weight_shape();
        let packed = PackedQConv::for_isa(
            isa,
            IntSlice::I8(&weight),
            shape,
            (&weight_zero_points, g.groups),
        );
        let mut out = vec![i32::MIN; expected.len()];
        packed.run(IntSlice::U8(&x), &call, &mut out, &mut Scratch::new());
        assert!(out == expected, "{} {g:?}", isa.name());
        let signed: Vec<i8> = x.iter().map(|&x| (x ^ 128) as i8).collect();
        let shifted = QConvCall { x_zero_point: zero_points.0 - 128, ..call };
        packed.run(IntSlice::I8(&signed), &shifted, &mut out, &mut Scratch::new());
        assert!(out == expected, "signed {} {g:?}", isa.name());
    }
}

fn check_gradients(g: &ConvGeometry, n: usize, parallel: Parallel) {
    let x = floats(n * g.input_len(), 1);
    let weight = floats(g.weight_shape().iter().product(), 2);
    let grad = floats(n * g.output_len(), 3);
    let abs = |values: &[f32]| values.iter().map(|v| v.abs()).collect::<Vec<_>>();
    let of_x = naive::conv_f32_input_gradient(&grad, &weight, n, g);
    let of_x_size = naive::conv_f32_input_gradient(&abs(&grad), &abs(&weight), n, g);
    let of_weight = naive::conv_f32_weight_gradient(&x, &grad, n, g);
    let of_weight_size = naive::conv_f32_weight_gradient(&abs(&x), &abs(&grad), n, g);
    let near = |what: &str, found: &[f32], expected: &[f32], size: &[f32]| {
        for (at, ((&f, &e), &s)) in found.iter().zip(expected).zip(size).enumerate() {
            assert!((f - e).abs() <= 1e-5 * s, "{what} {at}: {f} {e} {g:?}");
        }
    };
    for isa in Isa::available() {
        let gradient = ConvGradient { isa, n, geometry: g, parallel };
        let mut scratch = Scratch::new();
        let mut found = (vec![f32::NAN; of_x.len()], vec![f32::NAN; of_weight.len()]);
        for _ in 0..2 {
            gradient.input(&grad, &weight, &mut found.0, &mut scratch);
            near(isa.name(), &found.0, &of_x, &of_x_size);
            gradient.weight(&x, &grad, &mut found.1, &mut scratch);
            near(isa.name(), &found.1, &of_weight, &of_weight_size);
        }
    }
}

fn parallel() -> impl Strategy<Value = Parallel> {
    prop_oneof![Just(Parallel::Serial), Just(Parallel::Rayon)]
}

fn activation() -> impl Strategy<Value = Activation> {
    prop_oneof![
        Just(Activation::None),
        Just(Activation::Relu),
        Just(Activation::Clip { min: -0.5, max: 6.0 }),
        Just(Activation::LeakyRelu(0.125)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn float_equals_definition(g in geometry(), n in 1..4usize, a in activation(), p in parallel()) {
        check_float(&g, n, a, p);
    }

    #[test]
    fn sums_onto_the_output_equal_two_passes(g in geometry(), n in 1..4usize, a in activation(), p in parallel()) {
        check_onto(&g, n, a, p);
    }

    #[test]
    fn gradients_equal_definition(g in geometry(), n in 1..4usize, p in parallel()) {
        check_gradients(&g, n, p);
    }

    #[test]
    fn int_equals_definition(g in geometry(), n in 1..4usize, zero in (0..=255i32, 0..=127i32), p in parallel()) {
        check_int(&g, n, zero, p);
    }
}

fn square(channels: [usize; 2], size: usize, kernel: usize, pad: usize) -> ConvGeometry {
    ConvGeometry {
        channels_in: channels[0],
        channels_out: channels[1],
        input: [size; 2],
        kernel: [kernel; 2],
        strides: [1, 1],
        dilations: [1, 1],
        pads: [pad; 4],
        groups: 1,
    }
}

/// Sizes around the tiles: plain 1x1 maps, whole and part vectors, maps smaller than a vector across images.
#[test]
fn tile_edges() {
    for size in [1, 2, 3, 4, 5, 7, 8, 12, 14, 16, 17] {
        for (kernel, pad) in [(1, 0), (3, 1)] {
            for n in [1, 2, 5] {
                check_float(
                    &square([9, 17], size, kernel, pad),
                    n,
                    Activation::Relu,
                    Parallel::Serial,
                );
                check_int(&square([9, 17], size, kernel, pad), n, (128, 3), Parallel::Rayon);
            }
        }
    }
}

/// The same bits, whatever the batch and the threads.
#[test]
fn batch_and_threads_do_not_matter() {
    let g = square([13, 21], 9, 3, 1);
    let x = floats(6 * g.input_len(), 1);
    let weight = floats(g.weight_shape().iter().product(), 2);
    let mut scratch = Scratch::new();
    for isa in Isa::available() {
        let packed = PackedConv::for_isa(isa, &weight, g.weight_shape(), (None, 1));
        let mut run = |x: &[f32], n: usize, parallel: Parallel| {
            let mut out = vec![0.0; n * g.output_len()];
            let call = ConvCall { n, geometry: &g, activation: Activation::None, parallel };
            packed.run(x, &call, &mut out, &mut scratch);
            out
        };
        let batch = run(&x, 6, Parallel::Serial);
        assert_eq!(batch, run(&x, 6, Parallel::Rayon));
        let single: Vec<f32> =
            x.chunks(g.input_len()).flat_map(|x| run(x, 1, Parallel::Rayon)).collect();
        assert_eq!(batch, single);
    }
}

/// What the output holds is added after the bias and before the activation, as if by passes of their own.
fn check_onto(g: &ConvGeometry, n: usize, activation: Activation, parallel: Parallel) {
    let x = floats(n * g.input_len(), 1);
    let weight = floats(g.weight_shape().iter().product(), 2);
    let bias = floats(g.channels_out, 3);
    let held = floats(n * g.output_len(), 4);
    for isa in Isa::available() {
        let packed = PackedConv::for_isa(isa, &weight, g.weight_shape(), (Some(&bias), g.groups));
        let (mut alone, mut onto) = (vec![f32::NAN; held.len()], held.clone());
        let mut scratch = Scratch::new();
        let plain = ConvCall { n, geometry: g, activation: Activation::None, parallel };
        packed.run(&x, &plain, &mut alone, &mut scratch);
        packed.run_onto(&x, &ConvCall { activation, ..plain }, &mut onto, &mut scratch);
        for (at, ((&alone, &held), &onto)) in alone.iter().zip(&held).zip(&onto).enumerate() {
            let expected = activation.apply(alone + held);
            assert!(onto == expected, "{} {at}: {onto} {expected} {g:?}", isa.name());
        }
    }
}

/// The largest sums: every product is 255 * 255.
#[test]
fn extremes_do_not_wrap() {
    let g = square([130, 5], 6, 3, 0);
    let x = vec![255u8; g.input_len()];
    let weight = vec![-128i8; g.weight_shape().iter().product()];
    for isa in Isa::available() {
        let packed =
            PackedQConv::for_isa(isa, IntSlice::I8(&weight), g.weight_shape(), (&[127], 1));
        let mut out = vec![0; g.output_len()];
        let call = QConvCall { n: 1, geometry: &g, x_zero_point: 0, parallel: Parallel::Serial };
        packed.run(IntSlice::U8(&x), &call, &mut out, &mut Scratch::new());
        assert!(out.iter().all(|&sum| sum == -255 * 255 * 130 * 9));
    }
}
