//! Clustering: finds the entries of a codebook and which weight takes which.
//!
//! Scalars are sorted once, so that a round of k-means costs O(k log n) by prefix sums. Vectors are runs of
//! neighbouring weights. Equal seeds give equal clusters. Knows neither shapes nor scales.

mod ecsq;
mod kmeans;
mod optimal;
mod product;

use serde::{Deserialize, Serialize};

pub use kmeans::ClusterStart;
pub use optimal::optimal_clusters;

pub(crate) use product::{assign, vectors};

use crate::error::setting;
use crate::scale::Group;
use crate::{Levels, QuantError};

/// How a codebook is found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clustering {
    /// The algorithm.
    pub method: ClusterMethod,
    /// Part of the weights, those of least magnitude, that become 0 before clustering; 0 keeps all, below 1 (Han et al.
    /// 2016, arXiv:1510.00149). Where it is above 0, one entry is 0. Scalars only.
    pub prune: f64,
}

/// The clustering algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "method")]
pub enum ClusterMethod {
    /// Lloyd's k-means; with importance Hessian-weighted (Choi et al. 2017, arXiv:1612.01543): c_j = Σhw/Σh. The error
    /// never rises from round to round.
    KMeans {
        /// Where the centers start.
        start: ClusterStart,
        /// Rounds at most; it ends when nothing changes.
        rounds: usize,
    },
    /// The clusters of least squared error, by dynamic programming: [`optimal_clusters`]. Exact up to 16384 distinct
    /// values; beyond, the values are first merged into that many runs of equal count, and rounds of k-means follow.
    /// Scalars only.
    Optimal,
    /// Entropy-constrained scalar quantization (Choi et al. 2017, arXiv:1612.01543): assignments minimize h(w - c_j)² -
    /// λ·`E[hw²]`·log2 p_j, so that λ has no unit. Scalars only.
    Entropy {
        /// λ, at least 0: the part of the mean energy that a bit may cost.
        lambda: f64,
        /// Rounds at most.
        rounds: usize,
    },
}

impl From<ClusterMethod> for Clustering {
    /// Without pruning.
    fn from(method: ClusterMethod) -> Self {
        Clustering { method, prune: 0.0 }
    }
}

impl Clustering {
    pub(crate) fn check(&self) -> Result<(), QuantError> {
        setting("pruned part", self.prune, (0.0..1.0).contains(&self.prune), "0 up to below 1")?;
        if let ClusterMethod::Entropy { lambda, .. } = self.method {
            setting("λ", lambda, lambda >= 0.0 && lambda.is_finite(), "at least 0")?;
        }
        Ok(())
    }

    /// Refuses what vectors do not have.
    pub(crate) fn check_vectors(&self) -> Result<(), QuantError> {
        let found = match self.method {
            ClusterMethod::Optimal => "optimal",
            ClusterMethod::Entropy { .. } => "entropy",
            ClusterMethod::KMeans { start: ClusterStart::Linear, .. } => "linear start",
            ClusterMethod::KMeans { start: ClusterStart::Density, .. } => "density start",
            ClusterMethod::KMeans { start: ClusterStart::PlusPlus, .. } if self.prune > 0.0 => {
                "pruning"
            }
            ClusterMethod::KMeans { start: ClusterStart::PlusPlus, .. } => return Ok(()),
        };
        Err(QuantError::Unsuited {
            part: "clustering",
            found,
            with: "vectors",
            expected: "k-means from a plus-plus start, without pruning",
        })
    }
}

/// Centers, and which each value takes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Clusters {
    pub(crate) centers: Vec<f32>,
    pub(crate) codes: Vec<u16>,
}

/// At most `entries` clusters of a group's values.
pub(crate) fn scalars(
    clustering: &Clustering,
    group: &Group,
    entries: usize,
    seed: u64,
) -> Clusters {
    let pruned = pruned(group.values, clustering.prune);
    if !pruned.contains(&true) {
        return unpruned(clustering, group, entries, seed);
    }
    let kept: Vec<usize> = (0..pruned.len()).filter(|&i| !pruned[i]).collect();
    let values: Vec<f32> = kept.iter().map(|&i| group.values[i]).collect();
    let importance: Option<Vec<f32>> =
        group.importance.map(|h| kept.iter().map(|&i| h[i]).collect());
    let survivors = Group { values: &values, importance: importance.as_deref() };
    // The last center is the 0 of the pruned.
    let mut centers = vec![];
    let mut codes = vec![0; pruned.len()];
    if entries > 1 && !values.is_empty() {
        let found = unpruned(clustering, &survivors, entries - 1, seed);
        centers = found.centers;
        kept.iter().zip(found.codes).for_each(|(&i, code)| codes[i] = code);
    }
    let zero = centers.len() as u16;
    centers.push(0.0);
    for (code, _) in codes.iter_mut().zip(&pruned).filter(|(_, pruned)| **pruned || zero == 0) {
        *code = zero;
    }
    Clusters { centers, codes }
}

fn unpruned(clustering: &Clustering, group: &Group, entries: usize, seed: u64) -> Clusters {
    let centers = match clustering.method {
        ClusterMethod::KMeans { start, rounds } => {
            kmeans::fit(group, entries, start, (rounds, seed))
        }
        ClusterMethod::Optimal => optimal::fit(group, entries),
        ClusterMethod::Entropy { lambda, rounds } => {
            return ecsq::fit(group, entries, lambda, rounds);
        }
    };
    let levels = Levels::nearest(centers);
    let codes = group.values.iter().map(|&w| levels.project(w)).collect();
    Clusters { centers: levels.values(), codes }
}

/// Which values are among the ⌊part · n⌋ of least magnitude; of equal ones the first.
fn pruned(values: &[f32], part: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].abs().total_cmp(&values[b].abs()));
    let mut pruned = vec![false; values.len()];
    let count = (values.len() as f64 * part).floor() as usize;
    order[..count].iter().for_each(|&i| pruned[i] = true);
    pruned
}

#[cfg(test)]
mod tests;
