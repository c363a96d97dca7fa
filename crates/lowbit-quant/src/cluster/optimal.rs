//! The clusters of numbers that have the least squared error (Wang and Song 2011, "Ckmeans.1d.dp"; divide and conquer
//! after Grønlund et al. 2017, arXiv:1701.07204).
//!
//! Optimal clusters of sorted numbers are runs. With D_j(i) the least error of the first i numbers in j runs,
//!
//! ```text
//! D_j(i) = min over m ≤ i of D_(j-1)(m) + cost(m, i),      cost by prefix sums
//! ```
//!
//! and the best m never falls as i grows: the middle i is solved first and halves the candidates of both sides.
//! O(k n log n) time and 4·k·n bytes.

use super::kmeans;
use crate::scale::Group;

/// Distinct values that the dynamic program is given.
const MOST: usize = 16384;

/// Centers of the optimum, ascending; beyond [`MOST`] distinct values, of the merged values, then improved by k-means.
pub(super) fn fit(group: &Group, entries: usize) -> Vec<f32> {
    let mut points = distinct(group);
    let merged = points.len() > MOST;
    if merged {
        points = merge(&points);
    }
    let centers = optimal_clusters(&points, entries);
    if merged {
        kmeans::improve(group, &centers)
    } else {
        centers.iter().map(|&c| c as f32).collect()
    }
}

/// Ascending distinct values that weigh anything, with their weights.
fn distinct(group: &Group) -> Vec<(f64, f64)> {
    let mut pairs: Vec<(f64, f64)> =
        group.values.iter().enumerate().map(|(i, &w)| (f64::from(w), group.weight(i))).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut points: Vec<(f64, f64)> = vec![];
    for (value, weight) in pairs {
        match points.last_mut() {
            Some(last) if last.0 == value => last.1 += weight,
            _first => points.push((value, weight)),
        }
    }
    // Weights that count for nothing still need a level.
    if points.iter().all(|p| p.1 == 0.0) {
        points.iter_mut().for_each(|p| p.1 = 1.0);
    }
    points.retain(|p| p.1 > 0.0);
    points
}

fn merge(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(MOST);
    let mean = |run: &[(f64, f64)]| {
        let weight: f64 = run.iter().map(|p| p.1).sum();
        (run.iter().map(|p| p.0 * p.1).sum::<f64>() / weight, weight)
    };
    points.chunks(size).map(mean).collect()
}

/// Prefix sums over centered values: Σh, Σhw, Σhw².
struct Costs(Vec<[f64; 3]>);

impl Costs {
    fn of(points: &[(f64, f64)], origin: f64) -> Self {
        let mut sums = vec![[0.0; 3]];
        for &(value, h) in points {
            let (w, [a, b, c]) = (value - origin, sums[sums.len() - 1]);
            sums.push([a + h, b + h * w, c + h * w * w]);
        }
        Costs(sums)
    }

    /// Squared error of the run from..to around its mean.
    fn of_run(&self, from: usize, to: usize) -> f64 {
        let [h, w, q] = std::array::from_fn(|i| self.0[to][i] - self.0[from][i]);
        if h > 0.0 { (q - w * w / h).max(0.0) } else { 0.0 }
    }
}

/// The at most `entries` centers of least squared error of ascending `points` (value, weight above 0): ascending, exact.
#[must_use]
pub fn optimal_clusters(points: &[(f64, f64)], entries: usize) -> Vec<f64> {
    let n = points.len();
    let entries = entries.min(n);
    if entries == 0 {
        return vec![];
    }
    let mass: f64 = points.iter().map(|p| p.1).sum();
    let origin = points.iter().map(|p| p.0 * p.1).sum::<f64>() / mass;
    let costs = Costs::of(points, origin);
    let mut errors: Vec<f64> = (0..=n).map(|i| costs.of_run(0, i)).collect();
    let mut splits: Vec<Vec<u32>> = vec![];
    for runs in 2..=entries {
        let mut row = Row {
            costs: &costs,
            before: &errors,
            errors: vec![f64::INFINITY; n + 1],
            splits: vec![0; n + 1],
        };
        row.solve(runs..n + 1, runs - 1..n);
        (errors, splits) = (row.errors, [splits, vec![row.splits]].concat());
    }
    let mut centers = vec![];
    let mut to = n;
    for row in splits.iter().rev() {
        let from = row[to] as usize;
        centers.push(mean(&costs, from, to) + origin);
        to = from;
    }
    centers.push(mean(&costs, 0, to) + origin);
    centers.reverse();
    centers
}

fn mean(costs: &Costs, from: usize, to: usize) -> f64 {
    (costs.0[to][1] - costs.0[from][1]) / (costs.0[to][0] - costs.0[from][0])
}

/// One j of the recurrence.
struct Row<'a> {
    costs: &'a Costs,
    before: &'a [f64],
    errors: Vec<f64>,
    splits: Vec<u32>,
}

impl Row<'_> {
    /// Solves the i in `ends`, whose best m lie in `starts` (its end included).
    fn solve(&mut self, ends: std::ops::Range<usize>, starts: std::ops::Range<usize>) {
        if ends.is_empty() {
            return;
        }
        let i = ends.start.midpoint(ends.end - 1);
        let mut best = (f64::INFINITY, starts.start);
        for m in starts.start..=starts.end.min(i - 1) {
            let error = self.before[m] + self.costs.of_run(m, i);
            if error < best.0 {
                best = (error, m);
            }
        }
        (self.errors[i], self.splits[i]) = (best.0, best.1 as u32);
        self.solve(ends.start..i, starts.start..best.1);
        self.solve(i + 1..ends.end, best.1..starts.end);
    }
}
