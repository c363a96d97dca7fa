//! Ternary rules: which weights are nonzero, and the one or two values they take.

use super::Group;

/// α of TWN and which weights are nonzero: Δ = 0.7·E|w|, α = E[|w| : |w| > Δ] (Li et al. 2016, arXiv:1605.04711).
pub(super) fn twn(group: &Group) -> (f64, f32) {
    let count = group.values.len() as f64;
    let mean = group.values.iter().map(|&w| f64::from(w.abs())).sum::<f64>() / count;
    let threshold = (0.7 * mean) as f32;
    (mean_beyond(group, |w| w.abs() > threshold), threshold)
}

/// Mean magnitude of the weights that `kept` names, 0 where it names none.
pub(super) fn mean_beyond(group: &Group, kept: impl Fn(f32) -> bool) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for (i, &w) in group.values.iter().enumerate().filter(|(_, w)| kept(**w)) {
        sum += group.weight(i) * f64::from(w.abs());
        count += group.weight(i);
    }
    if count > 0.0 { sum / count } else { 0.0 }
}

/// α of least squared error over all ternary quantizers (Yin et al. 2016 and LAT, Hou and Kwok 2018, arXiv:1802.08635):
/// with magnitudes in falling order, the largest (Σ_{j≤k} h|w|)² / Σ_{j≤k} h over k. O(n log n).
pub(super) fn optimal(group: &Group) -> f64 {
    let mut pairs: Vec<(f64, f64)> = group
        .values
        .iter()
        .enumerate()
        .map(|(i, &w)| (f64::from(w.abs()), group.weight(i)))
        .collect();
    pairs.sort_by(|x, y| y.0.total_cmp(&x.0));
    let (mut sum, mut count, mut best) = (0.0, 0.0, (0.0, 0.0));
    for (magnitude, h) in pairs {
        sum += h * magnitude;
        count += h;
        if count > 0.0 && sum * sum / count > best.0 {
            best = (sum * sum / count, sum / count);
        }
    }
    best.1
}
