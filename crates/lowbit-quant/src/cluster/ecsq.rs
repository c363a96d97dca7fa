//! Entropy-constrained scalar quantization: clusters that are cheap to name as well as near.
//!
//! ```text
//! centers at evenly spaced ranks, improved by k-means; p_j = part of the weights in cluster j
//! repeat: each weight takes the cluster of least h(w - c_j)² - λ'·log2 p_j       λ' = λ·E[hw²]
//!         c_j = Σhw/Σh,  p_j as before; clusters that nobody takes are gone
//! ```
//!
//! Each half-step lowers J = Σh(w - c)² + λ'·bits, or leaves it.

use super::{Clusters, kmeans};
use crate::scale::Group;
use crate::sorted::Sorted;

pub(super) fn fit(group: &Group, entries: usize, lambda: f64, rounds: usize) -> Clusters {
    let start = kmeans::density(&Sorted::of(group).values, entries);
    let mut centers: Vec<f64> = kmeans::improve(group, &start).into_iter().map(f64::from).collect();
    centers.dedup();
    let count = group.values.len() as f64;
    let energy: f64 =
        (0..group.values.len()).map(|i| group.weight(i) * f64::from(group.values[i]).powi(2)).sum();
    let price = lambda * energy / count;
    let even = (centers.len() as f64).log2();
    let mut lengths = vec![even; centers.len()];
    let mut codes: Vec<u16> = vec![];
    for _ in 0..rounds.max(1) {
        let next: Vec<u16> = (0..group.values.len())
            .map(|i| cheapest(group, i, &centers, (&lengths, price)))
            .collect();
        let done = next == codes;
        codes = next;
        (centers, lengths) = update(group, &mut codes, centers.len());
        if done {
            break;
        }
    }
    Clusters { centers: centers.into_iter().map(|c| c as f32).collect(), codes }
}

fn cheapest(group: &Group, i: usize, centers: &[f64], (lengths, price): (&[f64], f64)) -> u16 {
    let (w, h) = (f64::from(group.values[i]), group.weight(i));
    let costs = centers.iter().zip(lengths).map(|(c, bits)| h * (w - c).powi(2) + price * bits);
    let best = costs.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
    best.map_or(0, |(j, _)| j as u16)
}

/// Means and code lengths -log2 p of the clusters that are taken, renumbering the codes.
fn update(group: &Group, codes: &mut [u16], clusters: usize) -> (Vec<f64>, Vec<f64>) {
    // Count, Σh, Σhw, Σw.
    let mut sums = vec![[0.0f64; 4]; clusters];
    for (i, &code) in codes.iter().enumerate() {
        let (w, h) = (f64::from(group.values[i]), group.weight(i));
        let sum = &mut sums[usize::from(code)];
        *sum = [sum[0] + 1.0, sum[1] + h, sum[2] + h * w, sum[3] + w];
    }
    let mut number = 0;
    let renumbered: Vec<u16> = sums
        .iter()
        .map(|sum| {
            number += u16::from(sum[0] > 0.0);
            number.saturating_sub(1)
        })
        .collect();
    codes.iter_mut().for_each(|code| *code = renumbered[usize::from(*code)]);
    let taken = sums.iter().filter(|sum| sum[0] > 0.0);
    let count = group.values.len() as f64;
    taken.map(|[n, h, hw, w]| (if *h > 0.0 { hw / h } else { w / n }, (count / n).log2())).unzip()
}
