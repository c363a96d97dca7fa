//! Found bases: min over v and digits e of Σh(w - v·e)², by turns.
//!
//! ```text
//! v = a start
//! repeat: each weight takes the nearest of the 2^K levels v·e     (the best digits for v)
//!         v = (Σh eeᵀ)⁻¹ Σh w e                                    (the best v for the digits)
//! ```
//!
//! Neither half-step raises the error, so that it falls to a local optimum.

use serde::{Deserialize, Serialize};

use super::Group;
use crate::{Basis, BasisDigits, Levels};

/// Where the search for a basis starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BasisStart {
    /// v_i ∝ 2^i up to the largest magnitude: the levels of a uniform quantizer, from where LQ-Nets' QEM goes (Zhang et
    /// al. 2018, arXiv:1807.10029).
    Uniform,
    /// The residual's mean magnitude and sign, one basis number after the other (alternating multi-bit quantization, Xu
    /// et al. 2018, arXiv:1802.00150).
    Greedy,
    /// ABC-Net: digits sign(w - mean + u_i·std) with u_i from -1 to 1, v by least squares (Lin et al. 2017,
    /// arXiv:1711.11294). Differs from the paper: each weight then takes its nearest level, which never raises the
    /// error.
    Shifted,
}

/// A found basis: its numbers, the sorted levels, and the digit pattern of each level.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundBasis {
    /// v.
    pub numbers: Vec<f32>,
    /// The distinct levels.
    pub levels: Levels,
    /// Bit i of a level's pattern is the digit of v_i.
    pub patterns: Vec<u16>,
}

/// The basis after `rounds` turns, or when nothing changes.
pub(super) fn fit(group: &Group, basis: Basis, start: BasisStart, rounds: usize) -> FoundBasis {
    let mut numbers = match start {
        BasisStart::Uniform => uniform(group, basis),
        BasisStart::Greedy => greedy(group, basis),
        BasisStart::Shifted => shifted(group, basis),
    };
    for _ in 0..rounds {
        let found = spell(basis, &numbers);
        let pattern = |w: f32| found.patterns[usize::from(found.levels.project(w))];
        let digits: Vec<u16> = group.values.iter().map(|&w| pattern(w)).collect();
        let Some(next) = least_squares(group, basis, &digits) else { break };
        if next == numbers {
            break;
        }
        numbers = next;
    }
    spell(basis, &numbers)
}

/// All levels of a basis, as stored: its numbers rounded to f32 first.
fn spell(basis: Basis, numbers: &[f64]) -> FoundBasis {
    let numbers: Vec<f32> = numbers.iter().map(|&v| v as f32).collect();
    let level = |pattern: u16| -> f32 {
        basis.digits(pattern).zip(&numbers).map(|(e, &v)| e * f64::from(v)).sum::<f64>() as f32
            + 0.0
    };
    let mut all: Vec<(f32, u16)> = (0..basis.patterns()).map(|p| (level(p), p)).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    all.dedup_by_key(|(level, _)| *level);
    let (values, patterns) = all.into_iter().unzip();
    FoundBasis { numbers, levels: Levels::nearest(values), patterns }
}

fn uniform(group: &Group, basis: Basis) -> Vec<f64> {
    let most = group.values.iter().fold(0.0f32, |m, w| m.max(w.abs()));
    let unit = f64::from(most) / f64::from((1u32 << basis.bases) - 1);
    (0..basis.bases).map(|i| unit * f64::from(1u32 << i)).collect()
}

fn greedy(group: &Group, basis: Basis) -> Vec<f64> {
    if basis.digits == BasisDigits::ZeroOne {
        return uniform(group, basis);
    }
    let mut residual: Vec<f64> = group.values.iter().map(|&w| f64::from(w)).collect();
    let total: f64 = (0..residual.len()).map(|i| group.weight(i)).sum();
    let mut numbers = vec![];
    for _ in 0..basis.bases {
        let sum: f64 = residual.iter().enumerate().map(|(i, r)| group.weight(i) * r.abs()).sum();
        let number = sum / total.max(f64::MIN_POSITIVE);
        residual.iter_mut().for_each(|r| *r -= if *r >= 0.0 { number } else { -number });
        numbers.push(number);
    }
    numbers
}

fn shifted(group: &Group, basis: Basis) -> Vec<f64> {
    let count = group.values.len() as f64;
    let mean = group.values.iter().map(|&w| f64::from(w)).sum::<f64>() / count;
    let square = |&w: &f32| (f64::from(w) - mean).powi(2);
    let deviation = (group.values.iter().map(square).sum::<f64>() / count).sqrt();
    let last = f64::from(basis.bases.max(2) - 1);
    // A single basis number keeps the sign of w - mean.
    let shift = |i: u8| if basis.bases == 1 { 0.0 } else { 2.0 * f64::from(i) / last - 1.0 };
    let pattern = |&w: &f32| -> u16 {
        let digit = |i: u8| f64::from(w) - mean + shift(i) * deviation >= 0.0;
        (0..basis.bases).map(|i| u16::from(digit(i)) << i).sum()
    };
    let digits: Vec<u16> = group.values.iter().map(pattern).collect();
    least_squares(group, basis, &digits).unwrap_or_else(|| greedy(group, basis))
}

/// v of least squared error for given digits: the normal equations by elimination. Where digits depend on one another a
/// ridge of 1e-9 of the diagonal picks the smallest of the equally good v.
fn least_squares(group: &Group, basis: Basis, patterns: &[u16]) -> Option<Vec<f64>> {
    let n = usize::from(basis.bases);
    let mut matrix = vec![vec![0.0; n]; n];
    let mut right = vec![0.0; n];
    for (i, (&pattern, &w)) in patterns.iter().zip(group.values).enumerate() {
        let digits: Vec<f64> = basis.digits(pattern).collect();
        for (row, e) in digits.iter().enumerate() {
            right[row] += group.weight(i) * e * f64::from(w);
            for (column, f) in digits.iter().enumerate() {
                matrix[row][column] += group.weight(i) * e * f;
            }
        }
    }
    let ridge = 1e-9 * (0..n).map(|i| matrix[i][i]).fold(0.0, f64::max);
    (0..n).for_each(|i| matrix[i][i] += ridge);
    solve(matrix, right)
}

/// x of matrix · x = right for a positive definite matrix; `None` where it is not one.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let n = right.len();
    for column in 0..n {
        let pivot = matrix[column][column];
        if pivot.is_nan() || pivot <= 0.0 {
            return None;
        }
        for row in column + 1..n {
            let factor = matrix[row][column] / pivot;
            let (above, below) = matrix.split_at_mut(row);
            below[0].iter_mut().zip(&above[column]).for_each(|(x, y)| *x -= factor * y);
            right[row] -= factor * right[column];
        }
    }
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|i| matrix[row][i] * right[i]).sum();
        right[row] = (right[row] - known) / matrix[row][row];
    }
    Some(right)
}
