//! Sorted values with prefix sums, so that the sums of a run of neighbours cost two look-ups.

use crate::scale::Group;

/// A group's values in ascending order.
pub(crate) struct Sorted {
    pub(crate) values: Vec<f64>,
    pub(crate) importance: Vec<f64>,
    /// Sums over the values below index i: [h, h·w].
    below: Vec<[f64; 2]>,
}

impl Sorted {
    pub(crate) fn of(group: &Group) -> Self {
        let pair = |(i, &w): (usize, &f32)| (f64::from(w), group.weight(i));
        let mut pairs: Vec<(f64, f64)> = group.values.iter().enumerate().map(pair).collect();
        pairs.sort_by(|x, y| x.0.total_cmp(&y.0));
        let mut below = vec![[0.0; 2]];
        let mut sums = [0.0; 2];
        for (w, h) in &pairs {
            sums = [sums[0] + h, sums[1] + h * w];
            below.push(sums);
        }
        let (values, importance) = pairs.into_iter().unzip();
        Sorted { values, importance, below }
    }

    /// Number of values below `bound`.
    pub(crate) fn index(&self, bound: f64) -> usize {
        self.values.partition_point(|&w| w < bound)
    }

    /// [Σh, Σhw] of the values from..to.
    pub(crate) fn sums(&self, from: usize, to: usize) -> [f64; 2] {
        std::array::from_fn(|i| self.below[to][i] - self.below[from][i])
    }

    /// Weighted mean of the values from..to, if they weigh anything.
    pub(crate) fn mean(&self, from: usize, to: usize) -> Option<f64> {
        let [h, hw] = self.sums(from, to);
        (h > 0.0).then(|| hw / h)
    }
}
