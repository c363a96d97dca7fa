//! k-means of numbers.

use lowbit_tensor::Rng;
use serde::{Deserialize, Serialize};

use crate::scale::Group;
use crate::sorted::Sorted;

/// Where centers start (Han et al. 2016, arXiv:1510.00149, compares the first two with a random choice).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterStart {
    /// Evenly from the smallest to the largest value: large weights, which are few, keep centers near them.
    Linear,
    /// At evenly spaced ranks.
    Density,
    /// Values drawn with a probability that grows with the squared distance to the centers there are (Arthur and
    /// Vassilvitskii 2007, "k-means++").
    PlusPlus,
}

/// Centers after at most `rounds` rounds, ascending. A cluster that loses all its values keeps its center.
pub(super) fn fit(
    group: &Group,
    entries: usize,
    start: ClusterStart,
    (rounds, seed): (usize, u64),
) -> Vec<f32> {
    let sorted = Sorted::of(group);
    let mut centers = match start {
        ClusterStart::Linear => linear(&sorted.values, entries),
        ClusterStart::Density => density(&sorted.values, entries),
        ClusterStart::PlusPlus => plus_plus(group, entries, &mut Rng::new(seed)),
    };
    for _ in 0..rounds {
        if !round(&sorted, &mut centers) {
            break;
        }
    }
    centers.into_iter().map(|c| c as f32).collect()
}

/// Rounds that refine centers which are near their places already.
const REFINING_ROUNDS: usize = 20;

/// Ascending centers moved by a few rounds.
pub(super) fn improve(group: &Group, centers: &[f64]) -> Vec<f32> {
    let sorted = Sorted::of(group);
    let mut centers = centers.to_vec();
    for _ in 0..REFINING_ROUNDS {
        if !round(&sorted, &mut centers) {
            break;
        }
    }
    centers.into_iter().map(|c| c as f32).collect()
}

/// One round of Lloyd's: whether a center moved.
fn round(sorted: &Sorted, centers: &mut [f64]) -> bool {
    let before = centers.to_vec();
    let mut from = 0;
    for (j, center) in centers.iter_mut().enumerate() {
        let to = before.get(j + 1).map_or(sorted.values.len(), |&next| {
            let bound = f64::midpoint(before[j], next);
            sorted.index(bound).max(from)
        });
        if let Some(mean) = sorted.mean(from, to) {
            *center = mean;
        }
        from = to;
    }
    // Rounding may swap centers that nearly coincide.
    centers.sort_by(f64::total_cmp);
    before != centers
}

fn linear(values: &[f64], entries: usize) -> Vec<f64> {
    let (low, high) = (values[0], values[values.len() - 1]);
    let last = (entries.max(2) - 1) as f64;
    (0..entries).map(|j| low + (high - low) * j as f64 / last).collect()
}

pub(super) fn density(values: &[f64], entries: usize) -> Vec<f64> {
    let rank = |j: usize| (2 * j + 1) * values.len() / (2 * entries);
    (0..entries).map(|j| values[rank(j).min(values.len() - 1)]).collect()
}

fn plus_plus(group: &Group, entries: usize, rng: &mut Rng) -> Vec<f64> {
    let values: Vec<f64> = group.values.iter().map(|&w| f64::from(w)).collect();
    let mut centers = vec![values[rng.below(values.len())]];
    let mut distances = vec![f64::INFINITY; values.len()];
    while centers.len() < entries {
        let newest = centers[centers.len() - 1];
        let costs: Vec<f64> = distances
            .iter_mut()
            .enumerate()
            .map(|(i, distance)| {
                *distance = distance.min((values[i] - newest).powi(2));
                group.weight(i) * *distance
            })
            .collect();
        let Some(chosen) = draw(&costs, rng) else { break };
        centers.push(values[chosen]);
    }
    centers.sort_by(f64::total_cmp);
    centers
}

/// An index with probability proportional to its cost; `None` when all costs are 0.
pub(super) fn draw(costs: &[f64], rng: &mut Rng) -> Option<usize> {
    let total: f64 = costs.iter().sum();
    let mut left = f64::from(rng.uniform()) * total;
    let mut last = None;
    for (i, &cost) in costs.iter().enumerate().filter(|(_, cost)| **cost > 0.0) {
        last = Some(i);
        left -= cost;
        if left < 0.0 {
            break;
        }
    }
    last
}
