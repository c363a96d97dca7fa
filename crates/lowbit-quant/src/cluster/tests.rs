use lowbit_tensor::Rng;

use super::*;

fn normal(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    (0..count).map(|_| rng.normal()).collect()
}

fn importance(seed: u64, count: usize) -> Vec<f32> {
    normal(seed, count).iter().map(|x| x * x).collect()
}

fn cost(group: &Group, found: &Clusters) -> f64 {
    let term = |i: usize| {
        let center = found.centers[usize::from(found.codes[i])];
        group.weight(i) * f64::from(group.values[i] - center).powi(2)
    };
    (0..group.values.len()).map(term).sum()
}

fn k_means(start: ClusterStart, rounds: usize) -> Clustering {
    Clustering { method: ClusterMethod::KMeans { start, rounds }, prune: 0.0 }
}

const STARTS: [ClusterStart; 3] =
    [ClusterStart::Linear, ClusterStart::Density, ClusterStart::PlusPlus];

#[test]
fn rounds_of_k_means_never_raise_the_error() {
    let (values, h) = (normal(1, 500), importance(2, 500));
    for importance in [None, Some(&h[..])] {
        let group = Group { values: &values, importance };
        for start in STARTS {
            let mut last = f64::INFINITY;
            for rounds in 0..15 {
                let found = cost(&group, &scalars(&k_means(start, rounds), &group, 8, 7));
                assert!(found <= last * (1.0 + 1e-6), "{start:?}, {rounds}: {found}, {last}");
                last = found;
            }
        }
    }
}

/// The least error over all cuts of sorted values into at most k runs.
fn brute_force(points: &[(f64, f64)], k: usize) -> f64 {
    let cost = |run: &[(f64, f64)]| {
        let h: f64 = run.iter().map(|p| p.1).sum();
        let mean = run.iter().map(|p| p.0 * p.1).sum::<f64>() / h;
        run.iter().map(|p| p.1 * (p.0 - mean).powi(2)).sum::<f64>()
    };
    if k == 1 || points.len() < 2 {
        return cost(points);
    }
    let split = |i: usize| cost(&points[..i]) + brute_force(&points[i..], k - 1);
    (1..points.len()).map(split).fold(cost(points), f64::min)
}

#[test]
fn the_dynamic_program_finds_the_optimum() {
    for seed in 0..20 {
        let mut values = normal(seed, 12);
        values.sort_by(f32::total_cmp);
        let h = importance(seed + 100, 12);
        let points: Vec<(f64, f64)> =
            values.iter().zip(&h).map(|(&w, &h)| (w.into(), f64::from(h) + 0.01)).collect();
        for k in 1..=5 {
            let centers = optimal_clusters(&points, k);
            assert_eq!(centers.len(), k);
            let nearest =
                |w: f64| centers.iter().map(|c| (w - c).powi(2)).fold(f64::INFINITY, f64::min);
            let found: f64 = points.iter().map(|&(w, h)| h * nearest(w)).sum();
            let best = brute_force(&points, k);
            assert!(found <= best + 1e-9, "seed {seed}, {k}: {found}, {best}");
        }
    }
    assert!(optimal_clusters(&[], 3).is_empty());
    assert_eq!(optimal_clusters(&[(2.0, 1.0)], 3), [2.0]);
}

#[test]
fn no_start_beats_the_optimum() {
    let (values, h) = (normal(3, 1000), importance(4, 1000));
    let group = Group { values: &values, importance: Some(&h) };
    let optimal = Clustering { method: ClusterMethod::Optimal, prune: 0.0 };
    let best = cost(&group, &scalars(&optimal, &group, 16, 0));
    for start in STARTS {
        let found = cost(&group, &scalars(&k_means(start, 100), &group, 16, 1));
        assert!(best <= found * (1.0 + 1e-5), "{start:?}: {found}, {best}");
    }
    // So many values that they are merged first.
    let many = normal(5, 40_000);
    let group = Group { values: &many, importance: None };
    let merged = cost(&group, &scalars(&optimal, &group, 16, 0));
    let lloyd = cost(&group, &scalars(&k_means(ClusterStart::Density, 200), &group, 16, 0));
    assert!(merged <= lloyd * 1.001, "{merged}, {lloyd}");
}

fn entropy(codes: &[u16], clusters: usize) -> f64 {
    let count = |j: usize| codes.iter().filter(|&&code| usize::from(code) == j).count() as f64;
    let total = codes.len() as f64;
    let term = |n: f64| if n > 0.0 { -n / total * (n / total).log2() } else { 0.0 };
    (0..clusters).map(|j| term(count(j))).sum()
}

#[test]
fn entropy_constraint_trades_error_for_bits() {
    let values = normal(6, 4000);
    let group = Group { values: &values, importance: None };
    let mut last = (f64::INFINITY, 0.0);
    for lambda in [0.0, 0.003, 0.01, 0.03, 0.1] {
        let method = ClusterMethod::Entropy { lambda, rounds: 60 };
        let found = scalars(&Clustering { method, prune: 0.0 }, &group, 32, 0);
        let now = (entropy(&found.codes, found.centers.len()), cost(&group, &found));
        assert!(now.0 < last.0 && now.1 > last.1, "λ {lambda}: {now:?} after {last:?}");
        last = now;
    }
    // At equal bits it errs less than plain k-means: theory says by up to 1.53 dB.
    let method = ClusterMethod::Entropy { lambda: 0.01, rounds: 60 };
    let constrained = scalars(&Clustering { method, prune: 0.0 }, &group, 32, 0);
    let bits = entropy(&constrained.codes, constrained.centers.len());
    let plain = (2..32)
        .map(|k| scalars(&k_means(ClusterStart::Density, 100), &group, k, 0))
        .filter(|found| entropy(&found.codes, found.centers.len()) <= bits)
        .map(|found| cost(&group, &found))
        .fold(f64::INFINITY, f64::min);
    assert!(cost(&group, &constrained) < plain);
}

#[test]
fn pruned_weights_are_zero_and_the_rest_is_clustered() {
    let values = normal(8, 1000);
    let group = Group { values: &values, importance: None };
    let clustering = Clustering { prune: 0.8, ..k_means(ClusterStart::Linear, 50) };
    let found = scalars(&clustering, &group, 16, 0);
    assert_eq!(found.centers.len(), 16);
    let zeros = found.codes.iter().filter(|&&c| found.centers[usize::from(c)] == 0.0).count();
    assert_eq!(zeros, 800);
    let only = scalars(&clustering, &group, 1, 0);
    assert_eq!(only.centers, [0.0]);
}

#[test]
fn vectors_cluster_by_weighted_distance() {
    let (values, h) = (normal(9, 1200), importance(10, 1200));
    let group = Group { values: &values, importance: Some(&h) };
    let cost = |found: &Clusters| -> f64 {
        let term = |i: usize| {
            let center = found.centers[usize::from(found.codes[i / 4]) * 4 + i % 4];
            group.weight(i) * f64::from(values[i] - center).powi(2)
        };
        (0..values.len()).map(term).sum()
    };
    let mut last = f64::INFINITY;
    for rounds in 1..10 {
        let found = vectors(&group, 4, 16, (rounds, 3));
        let now = cost(&found);
        assert!(now <= last * (1.0 + 1e-6), "{rounds}: {now}, {last}");
        last = now;
    }
    assert_eq!(vectors(&group, 4, 16, (9, 3)), vectors(&group, 4, 16, (9, 3)));
    // As many centers as vectors: no error.
    assert!(cost(&vectors(&group, 4, 300, (5, 0))) < 1e-9);
}

#[test]
fn starts_are_where_their_papers_put_them() {
    let values = [0.0, 0.1, 0.2, 0.3, 1.0];
    let group = Group { values: &values, importance: None };
    let start = |start| scalars(&k_means(start, 0), &group, 2, 0).centers;
    assert_eq!(start(ClusterStart::Linear), [0.0, 1.0]);
    assert_eq!(start(ClusterStart::Density), [0.1, 0.3]);
    assert!(start(ClusterStart::PlusPlus).iter().all(|c| values.contains(c)));
}
