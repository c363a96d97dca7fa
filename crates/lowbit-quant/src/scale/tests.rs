use lowbit_tensor::Rng;
use proptest::prelude::*;

use super::*;
use crate::{
    AdditivePowerOfTwo, Basis, BasisDigits, Binary, Midpoint, Minifloat, PowerOfTwo, Uniform,
};

fn normal(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    (0..count).map(|_| rng.normal()).collect()
}

fn uniform(bits: u8, codes: UniformCodes) -> Grid {
    Grid::Uniform(Uniform { bits, codes })
}

fn levels_of(grid: &Grid) -> Levels {
    grid.levels().unwrap().unwrap()
}

fn error(values: &[f32], importance: &[f32], levels: &Levels, scale: f64) -> f64 {
    let term = |(&w, &h): (&f32, &f32)| {
        let level = levels.value(levels.project((f64::from(w) / scale) as f32));
        f64::from(h) * (f64::from(w) - scale * f64::from(level)).powi(2)
    };
    values.iter().zip(importance).map(term).sum()
}

/// Every interval between breakpoints: its assignment's best scale.
fn brute_force(values: &[f32], importance: &[f32], levels: &Levels) -> f64 {
    let thresholds = levels.thresholds();
    let pairs = values.iter().flat_map(|&w| thresholds.iter().map(move |t| f64::from(w) / t));
    let mut breakpoints: Vec<f64> = pairs.filter(|s| s.is_finite() && *s > 0.0).collect();
    breakpoints.sort_by(f64::total_cmp);
    let (first, last) = (breakpoints.first().map_or(0.5, |s| s / 2.0), 1e3);
    let ends = [vec![first], breakpoints, vec![last]].concat();
    let mut best = error(values, importance, levels, 1e30);
    for pair in ends.windows(2) {
        let s = f64::midpoint(pair[0], pair[1]);
        let (mut a, mut b) = (0.0, 0.0);
        for (&w, &h) in values.iter().zip(importance) {
            let level = f64::from(levels.value(levels.project((f64::from(w) / s) as f32)));
            (a, b) = (a + f64::from(h * w) * level, b + f64::from(h) * level * level);
        }
        if a > 0.0 && b > 0.0 {
            best = best.min(error(values, importance, levels, a / b));
        }
    }
    best
}

fn grids() -> Vec<Grid> {
    vec![
        uniform(2, UniformCodes::Signed),
        uniform(4, UniformCodes::Narrow),
        uniform(3, UniformCodes::MidRise),
        uniform(4, UniformCodes::Unsigned),
        Grid::Ternary,
        Grid::Binary { levels: Binary::PlusMinus },
        Grid::Minifloat { format: Minifloat::E2m1 },
        Grid::PowerOfTwo(PowerOfTwo { exponents: 3, midpoint: Midpoint::Arithmetic }),
        Grid::AdditivePowerOfTwo(AdditivePowerOfTwo { bits: 4, term_bits: 2 }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_mse_scale_is_the_best_there_is(
        grid in prop::sample::select(grids()),
        pairs in prop::collection::vec((-2.0f32..2.0, 0.01f32..3.0), 1..12),
    ) {
        let (values, importance): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
        let levels = levels_of(&grid);
        let group = Group { values: &values, importance: Some(&importance) };
        let found = Prepared::new(&ScaleRule::Mse, &levels).find(&group).scale;
        let energy = values.iter().zip(&importance).map(|(w, h)| f64::from(h * w * w)).sum::<f64>();
        let (mine, best) = (error(&values, &importance, &levels, found), brute_force(&values, &importance, &levels));
        prop_assert!(mine <= best + 1e-5 * energy, "{:?}: {} at {}, best {}", grid, mine, found, best);
    }
}

#[test]
fn bisected_searches_are_no_worse_than_a_fine_scan() {
    let values = normal(1, 20_000);
    let ones = vec![1.0; values.len()];
    for (bits, codes) in [(8, UniformCodes::Narrow), (4, UniformCodes::Signed)] {
        let levels = levels_of(&uniform(bits, codes));
        let group = Group { values: &values, importance: None };
        let found = Prepared::new(&ScaleRule::Mse, &levels).find(&group).scale;
        let mine = error(&values, &ones, &levels, found);
        let full = group.max_abs() / Prepared::new(&ScaleRule::MaxAbs, &levels).top();
        for i in 1..200 {
            let other = error(&values, &ones, &levels, full * f64::from(i) / 199.0);
            assert!(mine <= other * (1.0 + 1e-6), "{bits} bits: {mine}, {other} at {i}");
        }
    }
}

#[test]
fn sorting_and_searching_find_the_same_ternary_scale() {
    for seed in 0..20 {
        let values = normal(seed, 50);
        let group = Group { values: &values, importance: None };
        let levels = levels_of(&Grid::Ternary);
        let scale = |rule| Prepared::new(&rule, &levels).find(&group).scale;
        let (sorted, searched) = (scale(ScaleRule::TernaryOptimal), scale(ScaleRule::Mse));
        assert!((sorted - searched).abs() < 1e-9, "{sorted}, {searched}");
        let ones = vec![1.0; 50];
        assert!(
            error(&values, &ones, &levels, sorted)
                <= error(&values, &ones, &levels, scale(ScaleRule::Twn))
        );
    }
}

fn check_near(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found}, expected {expected}");
}

#[test]
fn half_gaussian_steps_are_those_of_the_paper() {
    for (bits, step) in [(1, 0.799), (2, 0.538), (3, 0.3217), (4, 0.185)] {
        let levels = levels_of(&uniform(bits, UniformCodes::Unsigned));
        check_near(density::half_gauss_scale(&levels), step, 0.003);
    }
    // Levels of odd numbers are half a step apart from zero.
    for (bits, step) in [(1, 1.596), (2, 0.996), (3, 0.586), (4, 0.335)] {
        let levels = levels_of(&uniform(bits, UniformCodes::MidRise));
        check_near(2.0 * density::gauss_scale(&levels), step, 0.002);
    }
}

#[test]
fn aciq_clips_are_those_of_the_paper() {
    for (bits, clip) in [(2.0, 2.83), (3.0, 3.89), (4.0, 5.03)] {
        check_near(density::aciq_clip(Density::Laplace, bits), clip, 0.01);
    }
    for (bits, clip) in [(2.0, 1.71), (3.0, 2.15), (4.0, 2.55)] {
        check_near(density::aciq_clip(Density::Gauss, bits), clip, 0.01);
    }
}

#[test]
fn sawb_is_near_the_optimum_of_the_densities_it_was_fitted_to() {
    let values = normal(5, 20_000);
    let group = Group { values: &values, importance: None };
    for bits in [2, 3, 4] {
        for codes in [UniformCodes::MidRise, UniformCodes::Narrow] {
            let levels = levels_of(&uniform(bits, codes));
            let scale = |rule| Prepared::new(&rule, &levels).find(&group).scale;
            let ratio = scale(ScaleRule::Sawb) / scale(ScaleRule::Mse);
            assert!((0.85..1.15).contains(&ratio), "{bits} bits, {codes:?}: {ratio}");
        }
    }
    let (c1, c2) = density::sawb_coefficients(&levels_of(&uniform(2, UniformCodes::MidRise)));
    check_near(c1, 3.2, 0.2);
    check_near(c2, 2.1, 0.25);
}

#[test]
fn closed_forms_are_their_formulas() {
    let values = [0.5, -1.0, 0.0, 2.0, -0.25];
    let group = Group { values: &values, importance: None };
    let check = |rule: ScaleRule, grid: Grid, expected: f64| {
        rule.check(&grid).unwrap();
        let levels = levels_of(&grid);
        check_near(Prepared::new(&rule, &levels).find(&group).scale, expected, 1e-9);
    };
    let int4 = uniform(4, UniformCodes::Signed);
    check(ScaleRule::MaxAbs, int4.clone(), 2.0 / 7.0);
    check(ScaleRule::Percentile { percent: 80.0 }, int4.clone(), 1.0 / 7.0);
    check(ScaleRule::MeanAbs, Grid::Binary { levels: Binary::PlusMinus }, 0.75);
    // 0.7 · 0.75 lets 1 and 2 pass.
    check(ScaleRule::Twn, Grid::Ternary, 1.5);
    let one = TernaryValues::One;
    check(ScaleRule::MaxFraction { fraction: 0.2, values: one }, Grid::Ternary, 3.5 / 3.0);
    check(ScaleRule::Lsq, int4.clone(), 1.5 / 7f64.sqrt());
    let pot = Grid::PowerOfTwo(PowerOfTwo { exponents: 4, midpoint: Midpoint::Arithmetic });
    // ⌊log2(8/3)⌋ = 1, the largest level is 8.
    check(ScaleRule::LogRange, pot, 2.0 / 8.0);
    let of = Box::new(ScaleRule::MaxAbs);
    check(ScaleRule::PowerOfTwo { of: of.clone(), exponent: Exponent::Up }, int4.clone(), 0.5);
    check(ScaleRule::PowerOfTwo { of, exponent: Exponent::Nearest }, int4, 0.25);
}

#[test]
fn affine_searches_are_no_worse_than_a_fine_scan() {
    let values: Vec<f32> = normal(3, 500).iter().map(|x| x.powi(3) + 0.3).collect();
    let group = Group { values: &values, importance: None };
    let ones = vec![1.0; values.len()];
    let at = |zero_point: i32, scale: f64| {
        error(&values, &ones, &Levels::steps(-zero_point, 15 - zero_point), scale)
    };
    let cost = |rule: ScaleRule| {
        let (scale, zero_point) = affine(&rule, 16, &group).unwrap();
        assert!((0..16).contains(&zero_point));
        at(zero_point, scale)
    };
    let best = cost(ScaleRule::Mse);
    assert!(best < cost(ScaleRule::MinMax) && best < cost(ScaleRule::Kl));
    for zero_point in 0..16 {
        let least = (1..300).map(|i| at(zero_point, f64::from(i) * 0.01));
        assert!(best <= least.fold(f64::INFINITY, f64::min) * 1.000_001, "{zero_point}");
    }
    assert!(affine(&ScaleRule::Twn, 16, &group).is_err());
}

#[test]
fn turns_never_raise_the_error_of_a_basis() {
    let values = normal(11, 400);
    let importance: Vec<f32> = normal(12, 400).iter().map(|x| x.abs()).collect();
    let group = Group { values: &values, importance: Some(&importance) };
    for digits in [BasisDigits::PlusMinus, BasisDigits::ZeroOne] {
        for start in [BasisStart::Uniform, BasisStart::Greedy, BasisStart::Shifted] {
            for bases in 1..=4 {
                let mut last = f64::INFINITY;
                for rounds in 0..8 {
                    let found = basis::fit(&group, Basis { bases, digits }, start, rounds);
                    let cost = error(&values, &importance, &found.levels, 1.0);
                    assert!(
                        cost <= last * (1.0 + 1e-6),
                        "{start:?}, {bases}, {rounds}: {cost}, {last}"
                    );
                    last = cost;
                    let spelt = found.patterns.iter().map(|&p| {
                        let digits = Basis { bases, digits }.digits(p);
                        digits.zip(&found.numbers).map(|(e, &v)| e as f32 * v).sum::<f32>()
                    });
                    for (level, sum) in found.levels.values().iter().zip(spelt) {
                        assert!((level - sum).abs() < 1e-4, "{level}, {sum}");
                    }
                }
            }
        }
    }
}

#[test]
fn one_basis_number_is_the_mean_magnitude() {
    let values = normal(4, 100);
    let group = Group { values: &values, importance: None };
    let basis = Basis { bases: 1, digits: BasisDigits::PlusMinus };
    let found = basis::fit(&group, basis, BasisStart::Greedy, 5);
    check_near(found.numbers[0].into(), ternary::mean_beyond(&group, |_| true), 1e-6);
}

#[test]
fn divergence_clips_outliers() {
    let mut values = normal(21, 5000);
    values[0] = 40.0;
    let group = Group { values: &values, importance: None };
    let levels = levels_of(&uniform(8, UniformCodes::Narrow));
    let clip = Prepared::new(&ScaleRule::Kl, &levels).find(&group).scale * 127.0;
    assert!((2.5..20.0).contains(&clip), "{clip}");
}

#[test]
fn rules_refuse_grids_that_they_do_not_suit() {
    let refused = |rule: ScaleRule, grid: Grid| {
        assert!(
            matches!(rule.check(&grid), Err(QuantError::Unsuited { .. })),
            "{rule:?}, {grid:?}"
        );
    };
    refused(ScaleRule::Twn, uniform(4, UniformCodes::Signed));
    refused(ScaleRule::Mse, Grid::Basis(Basis { bases: 2, digits: BasisDigits::PlusMinus }));
    refused(ScaleRule::LogRange, Grid::Ternary);
    refused(ScaleRule::HalfGauss, uniform(4, UniformCodes::Signed));
    refused(ScaleRule::Learned { start: Box::new(ScaleRule::MeanAbs) }, Grid::Ternary);
    let percent = ScaleRule::Percentile { percent: 0.0 };
    assert!(matches!(percent.check(&Grid::Ternary), Err(QuantError::Setting { .. })));
}
