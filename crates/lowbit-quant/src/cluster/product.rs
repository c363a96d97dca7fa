//! k-means of vectors: product quantization.
//!
//! With an importance for each number the error is Σ_n Σ_d h_nd (w_nd - c_d)². Given the second moment of each input as
//! importance it is the expected squared error of the layer's output, inputs taken as uncorrelated (And the Bit Goes
//! Down, Stock et al. 2020, arXiv:1907.05686, with the diagonal of x̃x̃ᵀ).

use lowbit_tensor::Rng;

use super::Clusters;
use super::kmeans::draw;
use crate::scale::Group;

/// At most `entries` centers of `dimension` numbers each, one after the other, and the code of each vector.
pub(crate) fn vectors(
    group: &Group,
    dimension: usize,
    entries: usize,
    (rounds, seed): (usize, u64),
) -> Clusters {
    let mut rng = Rng::new(seed);
    let points = Points { group, dimension };
    let mut centers = points.plus_plus(entries, &mut rng);
    let mut codes = vec![];
    for _ in 0..rounds.max(1) {
        let next = points.assign(&centers);
        let done = next == codes;
        codes = next;
        if done {
            break;
        }
        points.move_to_means(&mut centers, &codes);
    }
    let codes = points.assign(&centers);
    Clusters { centers, codes }
}

/// The code of the center nearest to each vector, the first of equals.
pub(crate) fn assign(group: &Group, dimension: usize, centers: &[f32]) -> Vec<u16> {
    Points { group, dimension }.assign(centers)
}

struct Points<'a> {
    group: &'a Group<'a>,
    dimension: usize,
}

impl Points<'_> {
    fn count(&self) -> usize {
        self.group.values.len() / self.dimension
    }

    fn point(&self, n: usize) -> &[f32] {
        &self.group.values[n * self.dimension..(n + 1) * self.dimension]
    }

    fn distance(&self, n: usize, center: &[f32]) -> f64 {
        let base = n * self.dimension;
        let terms = self.point(n).iter().zip(center).enumerate();
        terms.map(|(d, (w, c))| self.group.weight(base + d) * f64::from(w - c).powi(2)).sum()
    }

    fn nearest(&self, n: usize, centers: &[f32]) -> (f64, u16) {
        let mut best = (f64::INFINITY, 0);
        for (code, center) in centers.chunks(self.dimension).enumerate() {
            let distance = self.distance(n, center);
            if distance < best.0 {
                best = (distance, code as u16);
            }
        }
        best
    }

    fn assign(&self, centers: &[f32]) -> Vec<u16> {
        (0..self.count()).map(|n| self.nearest(n, centers).1).collect()
    }

    fn plus_plus(&self, entries: usize, rng: &mut Rng) -> Vec<f32> {
        let mut centers = self.point(rng.below(self.count())).to_vec();
        let mut costs = vec![f64::INFINITY; self.count()];
        while centers.len() < entries * self.dimension {
            let newest = centers[centers.len() - self.dimension..].to_vec();
            for (n, cost) in costs.iter_mut().enumerate() {
                *cost = cost.min(self.distance(n, &newest));
            }
            let Some(chosen) = draw(&costs, rng) else { break };
            centers.extend_from_slice(self.point(chosen));
        }
        centers
    }

    /// Weighted means; a center that nobody takes goes to the vector of largest error, which cannot raise the error.
    fn move_to_means(&self, centers: &mut [f32], codes: &[u16]) {
        let mut sums = vec![[0.0f64; 2]; centers.len()];
        let mut counts = vec![0usize; centers.len() / self.dimension];
        for (n, &code) in codes.iter().enumerate() {
            counts[usize::from(code)] += 1;
            for (d, &w) in self.point(n).iter().enumerate() {
                let h = self.group.weight(n * self.dimension + d);
                let sum = &mut sums[usize::from(code) * self.dimension + d];
                *sum = [sum[0] + h, sum[1] + h * f64::from(w)];
            }
        }
        for (center, [h, hw]) in centers.iter_mut().zip(sums).filter(|(_, sum)| sum[0] > 0.0) {
            *center = (hw / h) as f32;
        }
        for empty in (0..counts.len()).filter(|&code| counts[code] == 0) {
            let errors = (0..self.count()).map(|n| (self.nearest(n, centers).0, n));
            let worst = errors.max_by(|a, b| a.0.total_cmp(&b.0)).map_or(0, |(_, n)| n);
            let place = empty * self.dimension..(empty + 1) * self.dimension;
            centers[place].copy_from_slice(self.point(worst));
        }
    }
}
