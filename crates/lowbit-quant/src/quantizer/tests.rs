use lowbit_tensor::Rng;
use proptest::prelude::*;

use super::*;
use crate::preset::PRESETS;
use crate::{
    AdditivePowerOfTwo, Binary, ClusterStart, Clustering, Midpoint, Minifloat, PowerOfTwo,
    SizeBits, TernaryValues, pack, shared_size, unpack,
};

fn normal(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    (0..count).map(|_| rng.normal() * 0.1).collect()
}

const SHAPE: [usize; 4] = [6, 4, 3, 3];
const COUNT: usize = 216;

fn int(bits: u8) -> Grid {
    Grid::Uniform(Uniform { bits, codes: UniformCodes::Narrow })
}

fn codebook(entries: u32, numbers: Entries, prune: f64) -> Quantizer {
    let method = ClusterMethod::KMeans { start: ClusterStart::Linear, rounds: 50 };
    let clustering = Clustering { method, prune };
    let grid = Grid::Codebook(Codebook { entries, dimension: 1, numbers });
    Quantizer::per_channel(grid, ScaleRule::Cluster(clustering))
}

fn product(numbers: Entries) -> Quantizer {
    let method = ClusterMethod::KMeans { start: ClusterStart::PlusPlus, rounds: 20 };
    let grid = Grid::Codebook(Codebook { entries: 8, dimension: 9, numbers });
    let rule = ScaleRule::Cluster(Clustering { method, prune: 0.0 });
    Quantizer { granularity: Granularity::Tensor, ..Quantizer::per_channel(grid, rule) }
}

fn squared_error(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(x - y).powi(2)).sum()
}

/// What holds of every coded weight.
fn check(quantizer: &Quantizer, fitted: &CodedWeight, weight: &[f32]) {
    let name = format!("{quantizer:?}");
    let decoded = fitted.decode();
    assert!(decoded.iter().all(|x| x.is_finite()), "{name}");
    // Decoding fixes the codes.
    let again = fitted.round_to(&decoded).unwrap();
    assert_eq!(again.decode(), decoded, "{name}");
    assert_eq!(fitted.with_packed(&fitted.packed()).unwrap(), *fitted, "{name}");
    let compressed = fitted.compressed().unwrap();
    assert_eq!(fitted.with_compressed(&compressed).unwrap(), *fitted, "{name}");
    assert_eq!(fitted.packed().len() as u64, fitted.size().codes.div_ceil(8), "{name}");
    if let Some((integers, scales)) = fitted.integers() {
        let per_channel = weight.len() / scales.len();
        let product = |(e, &q): (usize, &i8)| f32::from(q) * scales[e / per_channel];
        let values: Vec<f32> = integers.iter().enumerate().map(product).collect();
        assert_eq!(values, decoded, "{name}");
    }
    for (e, &w) in weight.iter().enumerate().step_by(7) {
        let (below, above) = fitted.neighbours(e, w);
        let mut codes = fitted.codes().to_vec();
        if let Some(levels) = fitted.table_of(e).levels() {
            let scale = fitted.scales()[fitted.group_of(e)];
            assert!(below == 0 || levels.value(below) * scale <= w * (1.0 + 1e-6 * w.signum()));
            assert!(above >= below && above - below <= 1, "{name}");
            codes[e] = above;
            let moved = fitted.with_codes(codes).unwrap();
            assert_eq!(moved.decode()[e], levels.value(above) * scale, "{name}");
        }
    }
}

#[test]
fn every_preset_fits_and_survives_json() {
    let weight = normal(1, COUNT);
    let importance: Vec<f32> = normal(2, COUNT).iter().map(|x| x.abs()).collect();
    for preset in PRESETS {
        let quantizer = (preset.quantizer)();
        let fitted = quantizer.fit(&weight, &SHAPE, Some(&importance), 3).unwrap();
        check(&quantizer, &fitted, &weight);
        assert_eq!(fitted, quantizer.fit(&weight, &SHAPE, Some(&importance), 3).unwrap());
        let json = serde_json::to_string(&quantizer).unwrap();
        assert_eq!(serde_json::from_str::<Quantizer>(&json).unwrap(), quantizer, "{json}");
        let zeros = quantizer.fit(&[0.0; COUNT], &SHAPE, Some(&importance), 0).unwrap();
        assert!(zeros.decode().iter().all(|x| x.abs() < 1e-30), "{}", preset.name);
        let indifferent = quantizer.fit(&weight, &SHAPE, Some(&[0.0; COUNT]), 3).unwrap();
        check(&quantizer, &indifferent, &weight);
        let energy = squared_error(&weight, &[0.0; COUNT]);
        let error = squared_error(&weight, &fitted.decode());
        assert!(error < energy, "{}: {error} of {energy}", preset.name);
    }
}

#[test]
fn integer_families_give_integers() {
    let weight = normal(3, COUNT);
    let midpoint = Midpoint::Arithmetic;
    let mut quantizers: Vec<Quantizer> =
        (2..=8).map(|bits| Quantizer::per_channel(int(bits), ScaleRule::Mse)).collect();
    quantizers.extend([
        Quantizer::per_channel(Grid::Ternary, ScaleRule::Twn),
        Quantizer::per_channel(Grid::Binary { levels: Binary::PlusMinus }, ScaleRule::MeanAbs),
        Quantizer::per_channel(Grid::Minifloat { format: Minifloat::E2m1 }, ScaleRule::MaxAbs),
        Quantizer::per_channel(
            Grid::PowerOfTwo(PowerOfTwo { exponents: 7, midpoint }),
            ScaleRule::LogRange,
        ),
        codebook(16, Entries::Int8, 0.0),
        product(Entries::Int8),
    ]);
    for bits in 2..=6 {
        let grid = Grid::AdditivePowerOfTwo(AdditivePowerOfTwo { bits, term_bits: 2 });
        quantizers.push(Quantizer::per_channel(grid, ScaleRule::Mse));
    }
    for codes in [UniformCodes::Signed, UniformCodes::MidRise] {
        quantizers.push(Quantizer::per_channel(
            Grid::Uniform(Uniform { bits: 7, codes }),
            ScaleRule::MaxAbs,
        ));
    }
    for quantizer in quantizers {
        let fitted = quantizer.fit(&weight, &SHAPE, None, 0).unwrap();
        let (integers, scales) = fitted.integers().unwrap_or_else(|| panic!("{quantizer:?}"));
        assert_eq!(integers.len(), COUNT);
        assert_eq!(scales.len(), fitted.scales().len());
        check(&quantizer, &fitted, &weight);
        if let Some(table) = fitted.integer_table() {
            let Some(levels) = fitted.tables()[0].levels() else { continue };
            assert_eq!(table.len(), levels.len());
            for (&code, &integer) in fitted.codes().iter().zip(&integers) {
                assert_eq!(table[usize::from(code)], integer);
            }
        }
    }
    for grid in [
        Grid::Minifloat { format: Minifloat::E4m3 },
        Grid::PowerOfTwo(PowerOfTwo { exponents: 8, midpoint }),
        Grid::Uniform(Uniform { bits: 9, codes: UniformCodes::Signed }),
    ] {
        let fitted =
            Quantizer::per_channel(grid, ScaleRule::MaxAbs).fit(&weight, &SHAPE, None, 0).unwrap();
        assert_eq!(fitted.integers(), None);
    }
    let groups = Granularity::Group { size: 16 };
    let grouped =
        Quantizer { granularity: groups, ..Quantizer::per_channel(int(4), ScaleRule::Mse) };
    assert_eq!(grouped.fit(&weight, &SHAPE, None, 0).unwrap().integers(), None);
}

#[test]
fn sizes_are_exact() {
    let weight = normal(4, COUNT);
    let check = |quantizer: Quantizer, codes: u64, scales: u64, tables: u64| {
        let size = quantizer.fit(&weight, &SHAPE, None, 0).unwrap().size();
        assert_eq!(size, SizeBits { codes, scales, tables }, "{quantizer:?}");
    };
    let n = COUNT as u64;
    check(Quantizer::per_channel(int(4), ScaleRule::Mse), 4 * n, 6 * 32, 0);
    let of = Box::new(ScaleRule::MaxAbs);
    let exponent = crate::Exponent::Nearest;
    check(Quantizer::per_channel(int(4), ScaleRule::PowerOfTwo { of, exponent }), 4 * n, 6 * 8, 0);
    check(codebook(4, Entries::Float, 0.0), 2 * n, 0, 6 * 4 * 32);
    check(product(Entries::Float), 3 * 24, 0, 8 * 9 * 32);
    check(product(Entries::Int8), 3 * 24, 32, 8 * 9 * 8);
    let rule = ScaleRule::MaxFraction { fraction: 0.05, values: TernaryValues::Two };
    check(Quantizer::per_channel(Grid::Ternary, rule), 2 * n, 0, 6 * 64);
    let hashed =
        Quantizer::per_channel(Grid::Hashed(crate::Hashed { buckets: 10 }), ScaleRule::BucketMeans);
    check(Quantizer { granularity: Granularity::Tensor, ..hashed }, 0, 0, 10 * 32 + 64);
    let unsigned = Grid::Uniform(Uniform { bits: 4, codes: UniformCodes::Unsigned });
    let affine = Quantizer {
        zero_point: ZeroPoint::Affine,
        ..Quantizer::per_channel(unsigned, ScaleRule::Mse)
    };
    check(affine, 4 * n, 6 * 32, 6 * 4);
    let basis = crate::Basis { bases: 2, digits: crate::BasisDigits::PlusMinus };
    let rule = ScaleRule::Basis { start: crate::BasisStart::Uniform, rounds: 5 };
    check(Quantizer::per_channel(Grid::Basis(basis), rule), 2 * n, 0, 6 * 2 * 32);
    assert_eq!(SizeBits { codes: 9, scales: 0, tables: 0 }.total_bytes(), 2);
}

#[test]
fn affine_codes_reach_both_ends() {
    let weight: Vec<f32> = normal(5, COUNT).iter().map(|w| w + 0.2).collect();
    let unsigned = Grid::Uniform(Uniform { bits: 4, codes: UniformCodes::Unsigned });
    let symmetric =
        Quantizer::per_channel(int(4), ScaleRule::Mse).fit(&weight, &SHAPE, None, 0).unwrap();
    let mut errors = vec![squared_error(&weight, &symmetric.decode())];
    for rule in [ScaleRule::MinMax, ScaleRule::Mse] {
        let quantizer = Quantizer {
            zero_point: ZeroPoint::Affine,
            ..Quantizer::per_channel(unsigned.clone(), rule)
        };
        let fitted = quantizer.fit(&weight, &SHAPE, None, 0).unwrap();
        check(&quantizer, &fitted, &weight);
        errors.push(squared_error(&weight, &fitted.decode()));
    }
    assert!(errors[2] <= errors[1] && errors[1] < errors[0], "{errors:?}");
}

#[test]
fn channels_may_differ_in_width() {
    let weight = normal(6, COUNT);
    let quantizer = Quantizer::per_channel(int(4), ScaleRule::Mse);
    let bits = [2, 4, 8, 3, 4, 6];
    let mixed = quantizer.fit_with_channel_bits(&weight, &SHAPE, None, &bits).unwrap();
    check(&quantizer, &mixed, &weight);
    assert_eq!(mixed.size().codes, 36 * 27);
    assert_eq!(mixed.bits(), 8);
    for (channel, &width) in bits.iter().enumerate() {
        let alone = Quantizer::per_channel(int(width), ScaleRule::Mse)
            .fit(&weight, &SHAPE, None, 0)
            .unwrap();
        let run = channel * 36..(channel + 1) * 36;
        assert_eq!(mixed.codes()[run.clone()], alone.codes()[run.clone()]);
        assert_eq!(mixed.decode()[run.clone()], alone.decode()[run]);
    }
    assert!(quantizer.fit_with_channel_bits(&weight, &SHAPE, None, &[4; 5]).is_err());
    assert!(quantizer.fit_with_channel_bits(&weight, &SHAPE, None, &[4, 4, 0, 4, 4, 4]).is_err());
}

#[test]
fn training_may_move_scales() {
    let weight = normal(12, COUNT);
    let fitted = Quantizer::preset("lsq-4").unwrap().fit(&weight, &SHAPE, None, 0).unwrap();
    let half: Vec<f32> = fitted.scales().iter().map(|s| s / 2.0).collect();
    let moved = fitted.with_scales(half.clone()).unwrap();
    assert_eq!((moved.codes(), moved.scales()), (fitted.codes(), &half[..]));
    let rounded = moved.round_to(&weight).unwrap();
    let error = |coded: &CodedWeight| squared_error(&weight, &coded.decode());
    assert!(error(&rounded) < error(&moved));
    assert!(fitted.with_scales(vec![0.0]).is_err() && fitted.with_scales(vec![]).is_err());
    assert!(Quantizer::preset("lsq-4").unwrap().scale.is_learned());
    assert!(Quantizer::preset("lsq-5").is_err());
}

#[test]
fn one_codebook_serves_several_weights() {
    let (a, b) = (normal(7, 100), normal(8, 50));
    let quantizer =
        Quantizer { granularity: Granularity::Tensor, ..codebook(8, Entries::Float, 0.0) };
    let (a_shape, b_shape) = ([10, 10], [2, 5, 5]);
    let shared = quantizer.fit_shared(&[(&a, &a_shape), (&b, &b_shape)], None, 0).unwrap();
    let both = quantizer.fit(&[&a[..], &b].concat(), &[150], None, 0).unwrap();
    let decoded = [shared[0].decode(), shared[1].decode()].concat();
    assert_eq!(decoded, both.decode());
    assert_eq!([shared[0].shape(), shared[1].shape()], [&a_shape[..], &b_shape[..]]);
    assert_eq!(shared_size(&shared), both.size());
    let steps = Quantizer::per_channel(int(4), ScaleRule::Mse);
    assert!(quantizer.is_shareable() && !steps.is_shareable());
    assert!(steps.fit_shared(&[(&a, &a_shape)], None, 0).is_err());
}

#[test]
fn rules_that_take_an_importance_heed_it_and_the_others_do_not() {
    let (weight, mut rng) = (normal(9, COUNT), Rng::new(4));
    let importance: Vec<f32> = (0..COUNT).map(|_| rng.uniform().powi(4)).collect();
    for preset in crate::PRESETS {
        let quantizer = (preset.quantizer)();
        let plain = quantizer.fit(&weight, &SHAPE, None, 0);
        let weighted = quantizer.fit(&weight, &SHAPE, Some(&importance), 0).unwrap();
        let heeded = plain.map_or(true, |plain| plain.decode() != weighted.decode());
        assert!(!heeded || quantizer.takes_importance(), "{} heeds it", preset.name);
        // A table with an entry for every weight has no errors to weigh.
        let codes = weighted.codes().len() / weighted.tables().len();
        let exact = codes <= 1 << weighted.bits() && matches!(quantizer.grid, Grid::Codebook(_));
        assert!(heeded || exact || !quantizer.takes_importance(), "{} does not", preset.name);
    }
}

#[test]
fn stochastic_rounding_is_unbiased() {
    let weight = vec![0.3f32; 20_000];
    let quantizer = Quantizer {
        rounding: Rounding::Stochastic,
        granularity: Granularity::Tensor,
        ..Quantizer::per_channel(int(3), ScaleRule::MaxAbs)
    };
    // The first weight makes the step 1.
    let weight = [&[3.0], &weight[..]].concat();
    let decoded = quantizer.fit(&weight, &[weight.len()], None, 5).unwrap().decode();
    let mean = decoded[1..].iter().sum::<f32>() / 20_000.0;
    assert!((mean - 0.3).abs() < 0.015, "{mean}");
    assert!(decoded[1..].iter().all(|&x| x == 0.0 || x == 1.0));
}

#[test]
fn hashed_weights_are_where_their_hash_says() {
    let weight = normal(9, COUNT);
    let quantizer = Quantizer {
        granularity: Granularity::Tensor,
        ..Quantizer::per_channel(
            Grid::Hashed(crate::Hashed { buckets: 400 }),
            ScaleRule::BucketMeans,
        )
    };
    let fitted = quantizer.fit(&weight, &SHAPE, None, 1).unwrap();
    let Table::Hashed { values, seed } = &fitted.tables()[0] else { panic!("not hashed") };
    for (e, &x) in fitted.decode().iter().enumerate() {
        let (bucket, negative) = crate::Hashed { buckets: 400 }.place(e, *seed);
        assert_eq!(x, values[usize::from(bucket)] * if negative { -1.0 } else { 1.0 });
    }
    let mut codes = fitted.codes().to_vec();
    codes[0] ^= 1;
    assert!(fitted.with_codes(codes).is_err());
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let weight = normal(10, COUNT);
    let fit = |quantizer: Quantizer| quantizer.fit(&weight, &SHAPE, None, 0).unwrap_err();
    let unsuited = |quantizer: Quantizer| {
        let error = fit(quantizer);
        assert!(matches!(error, QuantError::Unsuited { .. }), "{error}");
    };
    unsuited(Quantizer::per_channel(int(4), ScaleRule::WeightedMse));
    unsuited(Quantizer::per_channel(int(4), ScaleRule::MinMax));
    unsuited(Quantizer::per_channel(int(4), ScaleRule::Twn));
    unsuited(Quantizer {
        zero_point: ZeroPoint::Affine,
        ..Quantizer::per_channel(Grid::Ternary, ScaleRule::Mse)
    });
    unsuited(Quantizer {
        rounding: Rounding::Stochastic,
        ..Quantizer::per_channel(Grid::Ternary, ScaleRule::Twn)
    });
    unsuited(Quantizer { granularity: Granularity::Pixel, ..product(Entries::Float) });
    unsuited(Quantizer::per_channel(
        Grid::Hashed(crate::Hashed { buckets: 4 }),
        ScaleRule::BucketMeans,
    ));
    let optimal = Clustering { method: ClusterMethod::Optimal, prune: 0.0 };
    unsuited(Quantizer { scale: ScaleRule::Cluster(optimal), ..product(Entries::Float) });
    assert!(matches!(fit(codebook(16, Entries::Float, 1.0)), QuantError::Setting { .. }));
    let odd = product(Entries::Float).fit(&weight[..20], &[2, 10], None, 0).unwrap_err();
    assert!(matches!(odd, QuantError::Length { found: 20, expected: 18, .. }), "{odd}");
    let int4 = Quantizer::per_channel(int(4), ScaleRule::Mse);
    let error = |weight: &[f32], shape: &[usize]| int4.fit(weight, shape, None, 0).unwrap_err();
    assert!(matches!(error(&[f32::NAN], &[1]), QuantError::NotFinite { .. }));
    assert!(matches!(error(&[1.0], &[2]), QuantError::Length { .. }));
    assert!(matches!(error(&[], &[0, 3]), QuantError::NoSamples));
    let negative = int4.fit(&[1.0], &[1], Some(&[-1.0]), 0).unwrap_err();
    assert!(matches!(negative, QuantError::Setting { .. }));
    let fitted = int4.fit(&weight, &SHAPE, None, 0).unwrap();
    assert!(matches!(fitted.with_codes(vec![15; COUNT]), Err(QuantError::Code { found: 15, .. })));
    let codes = fitted.codes();
    assert_eq!(unpack(&pack(codes, 4).unwrap(), 4, COUNT).unwrap(), codes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_weight_survives_every_preset(
        preset in prop::sample::select(PRESETS.iter().collect::<Vec<_>>()),
        seed in any::<u64>(), magnitude in -60i32..60, spikes in 0usize..4,
    ) {
        let mut weight = normal(seed, COUNT);
        weight.iter_mut().for_each(|w| *w *= 2f32.powi(magnitude));
        weight[..spikes].iter_mut().for_each(|w| *w *= 1000.0);
        weight[180..].fill(0.0);
        let quantizer = (preset.quantizer)();
        let fitted = quantizer.fit(&weight, &SHAPE, Some(&[0.5; COUNT]), seed).unwrap();
        check(&quantizer, &fitted, &weight);
    }
}
