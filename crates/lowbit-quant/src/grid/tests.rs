use proptest::prelude::*;

use super::*;

/// Every family with fixed levels.
fn fixed() -> Vec<Grid> {
    let mut grids = vec![
        Grid::Ternary,
        Grid::Binary { levels: Binary::PlusMinus },
        Grid::Binary { levels: Binary::ZeroOne },
    ];
    for bits in [1, 2, 3, 4, 8, 16] {
        for codes in [
            UniformCodes::Signed,
            UniformCodes::Unsigned,
            UniformCodes::Narrow,
            UniformCodes::MidRise,
        ] {
            if bits > 1 || codes != UniformCodes::Narrow {
                grids.push(Grid::Uniform(Uniform { bits, codes }));
            }
        }
    }
    for format in [Minifloat::E4m3, Minifloat::E5m2, Minifloat::E2m1, Minifloat::E3m2] {
        grids.push(Grid::Minifloat { format });
    }
    for bits in 2..=9 {
        for term_bits in 1..=3 {
            grids.push(Grid::AdditivePowerOfTwo(AdditivePowerOfTwo { bits, term_bits }));
        }
    }
    for exponents in [1, 3, 7, 8, 15] {
        let midpoint = Midpoint::Arithmetic;
        grids.push(Grid::PowerOfTwo(PowerOfTwo { exponents, midpoint }));
    }
    for curve in [Companding::Power { exponent: 2.0 }, Companding::MuLaw { mu: 255.0 }] {
        grids.push(Grid::Companded(Companded { bits: 4, curve }));
    }
    grids
}

/// The one slow definition: the nearest level; of two equally near ones, what the family's documentation says.
fn slow(grid: &Grid, x: f32) -> u16 {
    let values = grid.levels().unwrap().unwrap().values();
    let distance = |i: &usize| (f64::from(values[*i]) - f64::from(x)).abs();
    let least = (0..values.len()).map(|i| distance(&i)).fold(f64::INFINITY, f64::min);
    let nearest: Vec<usize> = (0..values.len()).filter(|i| distance(i) == least).collect();
    let even = |i: &&usize| match grid {
        Grid::Minifloat { .. } => grid.bit_pattern(**i as u16).unwrap().is_multiple_of(2),
        _ => values[**i] % 2.0 == 0.0,
    };
    let smaller = nearest
        .iter()
        .copied()
        .reduce(|a, b| if values[b].abs() <= values[a].abs() { b } else { a });
    let to_even = match grid {
        Grid::Uniform(uniform) => uniform.codes != UniformCodes::MidRise,
        Grid::Minifloat { .. } => true,
        _ => false,
    };
    let tied_even = nearest.iter().find(even).filter(|_| to_even && nearest.len() == 2);
    *tied_even.unwrap_or(&smaller.unwrap()) as u16
}

fn check(grid: &Grid, x: f32) {
    let levels = grid.levels().unwrap().unwrap();
    let code = levels.project(x);
    assert_eq!(code, slow(grid, x), "{grid:?}, {x}");
    assert_eq!(levels.project(levels.value(code)), code, "not idempotent: {grid:?}, {x}");
    let (below, above) = levels.neighbours(x);
    assert!(code == below || code == above, "{grid:?}, {x}: {code}, {below}, {above}");
    assert!(levels.value(below) <= x || below == 0, "{grid:?}, {x}");
    assert!(levels.value(above) > x || usize::from(above) + 1 == levels.len(), "{grid:?}, {x}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn projections_are_nearest_levels(
        grid in prop::sample::select(fixed()), x in -1.3f32..1.3, y in -1.3f32..1.3,
    ) {
        let levels = grid.levels().unwrap().unwrap();
        let top = levels.value((levels.len() - 1) as u16);
        check(&grid, x * top);
        // The levels of floats crowd around zero.
        check(&grid, x * x * x * x * x * top);
        prop_assert!(x > y || levels.project(x * top) <= levels.project(y * top));
    }
}

#[test]
fn ties_and_levels_project_as_stated() {
    for grid in fixed().iter().filter(|grid| grid.bits().unwrap() <= 8) {
        let levels = grid.levels().unwrap().unwrap();
        for threshold in levels.thresholds() {
            check(grid, threshold as f32);
        }
        for code in 0..levels.len() {
            assert_eq!(usize::from(levels.project(levels.value(code as u16))), code);
        }
    }
}

#[test]
fn bit_patterns_name_every_code() {
    for grid in fixed() {
        let levels = grid.levels().unwrap().unwrap();
        for code in (0..levels.len()).step_by(levels.len() / 256 + 1) {
            let pattern = grid.bit_pattern(code as u16).unwrap();
            assert_eq!(usize::from(grid.code_of(pattern).unwrap()), code, "{grid:?}");
        }
        assert!(levels.len() == 65536 || grid.bit_pattern(levels.len() as u16).is_err());
    }
    let int4 = Grid::Uniform(Uniform { bits: 4, codes: UniformCodes::Signed });
    assert_eq!((int4.bit_pattern(0).unwrap(), int4.bit_pattern(7).unwrap()), (0b1000, 0b1111));
    let e4m3 = Grid::Minifloat { format: Minifloat::E4m3 };
    let one = e4m3.levels().unwrap().unwrap().project(1.0);
    assert_eq!((e4m3.bit_pattern(one).unwrap(), e4m3.code_of(0x80).unwrap()), (0x38, 126));
    assert!(e4m3.code_of(0x7F).is_err(), "NaN is no level");
}

#[test]
fn families_have_the_levels_of_their_papers() {
    let positive = |grid: &Grid| -> Vec<f32> {
        grid.levels().unwrap().unwrap().values().into_iter().filter(|&x| x >= 0.0).collect()
    };
    let apot = |bits| Grid::AdditivePowerOfTwo(AdditivePowerOfTwo { bits, term_bits: 2 });
    assert_eq!(positive(&apot(4)), [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0]);
    assert_eq!(positive(&apot(3)), [0.0, 1.0, 2.0, 4.0]);
    // {0, 2^-1, 2^-3, 2^-5} + {0, 2^-2, 2^-4, 2^-6} over 2^-6.
    assert_eq!(positive(&apot(5)).last(), Some(&48.0));
    assert_eq!(positive(&apot(6)).last(), Some(&100.0));
    let e2m1 = Grid::Minifloat { format: Minifloat::E2m1 };
    assert_eq!(positive(&e2m1), [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]);
    for (format, largest) in
        [(Minifloat::E4m3, 448.0), (Minifloat::E5m2, 57344.0), (Minifloat::E3m2, 28.0)]
    {
        assert_eq!(positive(&Grid::Minifloat { format }).last(), Some(&largest));
    }
}

#[test]
fn a_geometric_midpoint_rounds_the_logarithm() {
    let grid = Grid::PowerOfTwo(PowerOfTwo { exponents: 7, midpoint: Midpoint::Geometric });
    let levels = grid.levels().unwrap().unwrap();
    for i in 1..1000 {
        let x = i as f32 * 0.07 + 0.501;
        let rounded = 2f32.powf(x.log2().round().clamp(0.0, 6.0));
        assert_eq!(levels.value(levels.project(x)), rounded, "{x}");
        assert_eq!(levels.value(levels.project(-x)), -rounded, "{x}");
    }
    assert_eq!(levels.value(levels.project(0.4)), 0.0);
}

#[test]
fn bits_are_those_of_the_family() {
    let pot =
        |exponents| Grid::PowerOfTwo(PowerOfTwo { exponents, midpoint: Midpoint::Arithmetic });
    for (grid, bits) in [
        (pot(8), 5),
        (pot(7), 4),
        (pot(1), 2),
        (Grid::Ternary, 2),
        (Grid::Binary { levels: Binary::PlusMinus }, 1),
        (Grid::Minifloat { format: Minifloat::E3m2 }, 6),
        (Grid::AdditivePowerOfTwo(AdditivePowerOfTwo { bits: 4, term_bits: 2 }), 4),
        (Grid::Hashed(Hashed { buckets: 64 }), 0),
        (Grid::Codebook(Codebook { entries: 17, dimension: 4, numbers: Entries::Float }), 5),
        (Grid::Basis(Basis { bases: 3, digits: BasisDigits::PlusMinus }), 3),
    ] {
        assert_eq!(grid.bits().unwrap(), bits, "{grid:?}");
    }
    assert!(Grid::Uniform(Uniform { bits: 17, codes: UniformCodes::Signed }).levels().is_err());
    assert!(Grid::Uniform(Uniform { bits: 1, codes: UniformCodes::Narrow }).levels().is_err());
    assert!(pot(32).bits().is_err());
}
