use super::*;

/// Numbers that look normal, some of them far out.
fn values(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| (0..6).map(|_| uniform()).product::<f32>() * 3.0 + uniform()).collect()
}

fn observed(values: &[f32], rule: &RangeRule) -> Statistics {
    let mut statistics = Statistics::default();
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    statistics.add_extremes(low, high, rule);
    statistics.histogram.add(values);
    statistics
}

const EVERYWHERE: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

fn squared_error(values: &[f32], (low, high): (f32, f32)) -> f64 {
    let q = QParams::affine_u8(low, high).unwrap();
    values.iter().map(|&x| f64::from(q.decode(q.encode(x)) - x).powi(2)).sum()
}

#[test]
fn a_histogram_is_the_sum_of_its_parts_in_any_order() {
    let all = values(1, 5000);
    let (mut whole, mut parts) = (Histogram::default(), Histogram::default());
    whole.add(&all);
    for part in all.chunks(777).rev() {
        let mut histogram = Histogram::default();
        histogram.add(part);
        parts.merge(&histogram);
    }
    assert_eq!(whole, parts);
    assert_eq!(whole.count(), 5000);
    assert_eq!(whole.bins().iter().map(|bin| bin.2).sum::<u64>(), 5000);
    assert!(whole.bins().windows(2).all(|pair| pair[0].1 <= pair[1].0));
}

#[test]
fn the_mse_range_is_nearly_as_good_as_the_best_of_many() {
    for seed in 1..5 {
        let mut values = values(seed, 4000);
        if seed > 2 {
            values.iter_mut().for_each(|x| *x = x.max(0.0));
        }
        let statistics = observed(&values, &RangeRule::Mse);
        let found = squared_error(&values, statistics.range(&RangeRule::Mse, EVERYWHERE).unwrap());
        let part = |i: u8, end: f32| end * f32::from(i) / 40.0;
        let ranges = (1..=40).flat_map(|i| (1..=40).map(move |j| (i, j)));
        let errors = ranges.map(|(i, j)| {
            squared_error(&values, (part(i, statistics.min), part(j, statistics.max)))
        });
        let best = errors.fold(f64::INFINITY, f64::min);
        assert!(found < 1.1 * best, "seed {seed}: {found}, best {best}");
    }
}

#[test]
fn few_levels_clip_more_and_come_near_the_best_of_many() {
    for (seed, bits) in [(1, 4), (2, 3), (3, 4), (4, 2)] {
        let mut values = values(seed, 4000);
        if seed > 2 {
            values.iter_mut().for_each(|x| *x = x.max(0.0));
        }
        let statistics = observed(&values, &RangeRule::Mse);
        let error = |(low, high): (f32, f32)| -> f64 {
            let q = QParams::affine(low, high, bits).unwrap();
            values.iter().map(|&x| f64::from(q.decode(q.encode(x)) - x).powi(2)).sum()
        };
        let range = statistics.range_for(&RangeRule::Mse, EVERYWHERE, 1 << bits).unwrap();
        let part = |i: u8, end: f32| end * f32::from(i) / 40.0;
        let ranges = (1..=40).flat_map(|i| (1..=40).map(move |j| (i, j)));
        let best = ranges
            .map(|(i, j)| error((part(i, statistics.min), part(j, statistics.max))))
            .fold(f64::INFINITY, f64::min);
        let found = error(range);
        assert!(found < 1.05 * best, "seed {seed}: {found}, best {best}");
        let kl = statistics.range_for(&RangeRule::Kl, EVERYWHERE, 1 << bits).unwrap();
        assert!(kl.0 < kl.1 && kl.1 <= statistics.max && range.1 <= statistics.max);
    }
}

#[test]
fn affine_codes_have_as_many_bits_as_asked() {
    for bits in 1..=16 {
        let q = QParams::affine(-1.0, 3.0, bits).unwrap();
        assert_eq!((q.qmin, q.qmax), (0, (1 << bits) - 1));
        assert_eq!((q.encode(-100.0), q.encode(100.0), q.decode(q.encode(0.0))), (0, q.qmax, 0.0));
    }
    assert!(matches!(QParams::affine(0.0, 1.0, 17), Err(QuantError::Bits { found: 17, .. })));
}

#[test]
fn a_percentile_cuts_what_sorting_would_cut() {
    let mut values = values(9, 10_000);
    let rule = RangeRule::Percentile { percent: 99.0 };
    let (low, high) = observed(&values, &rule).range(&rule, EVERYWHERE).unwrap();
    values.sort_by(f32::total_cmp);
    assert!((low - values[50]).abs() < 0.01 * values[50].abs(), "{low}, {}", values[50]);
    assert!((high - values[9949]).abs() < 0.01 * values[9949], "{high}, {}", values[9949]);
}

#[test]
fn no_rule_is_far_from_the_best_on_bounded_data() {
    let values: Vec<f32> = values(3, 20_000).iter().map(|x| x.clamp(-0.9, 1.0)).collect();
    for name in RangeRule::NAMES.split(", ") {
        let rule = RangeRule::parse(name).unwrap();
        let (low, high) = observed(&values, &rule).range(&rule, EVERYWHERE).unwrap();
        let signal: f64 = values.iter().map(|&x| f64::from(x).powi(2)).sum();
        let db = 10.0 * (signal / squared_error(&values, (low, high))).log10();
        assert!(db > 35.0, "{name}: [{low}, {high}] gives {db} dB");
    }
}

#[test]
fn codes_are_within_half_a_step_and_zero_is_exact() {
    for (low, high) in [(-1.0, 2.0), (0.0, 6.0), (-3.0, -1.0), (1.0, 4.0), (0.0, 0.0)] {
        let q = QParams::affine_u8(low, high).unwrap();
        assert_eq!(q.decode(q.encode(0.0)), 0.0);
        let (from, to) = q.range();
        for i in 0..=1000 {
            let x = from + (to - from) * i as f32 / 1000.0;
            assert!((q.decode(q.encode(x)) - x).abs() <= q.scale * 0.5001, "{q:?}, {x}");
        }
    }
    for end in [f32::NAN, f32::INFINITY] {
        assert!(matches!(QParams::affine_u8(-1.0, end), Err(QuantError::NotFinite { .. })));
    }
}

#[test]
fn weight_codes_are_symmetric_and_within_half_a_step() {
    let weights = values(5, 64);
    let int8 = Quantizer::preset("int8").unwrap();
    let coded = int8.fit(&weights, &[8, 8], None, 0).unwrap();
    let (codes, scales) = coded.integers().unwrap();
    for (i, (&code, &w)) in codes.iter().zip(&weights).enumerate() {
        assert!(
            code >= -127 && (f32::from(code) * scales[i / 8] - w).abs() <= scales[i / 8] * 0.5001
        );
    }
}
