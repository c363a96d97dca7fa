use lowbit_graph::Graph;
use lowbit_quant::RangeRule;

use super::*;
use crate::tests::{Noise, one_image, residual, rounding, rounding_by, squeeze_excite};
use crate::{Plan, calibrate, quantize};

/// 3-bit weights and activations of `bits`, rounded to nearest.
fn nearest(graph: &Graph, bits: u8, channel_scales: bool) -> QuantizedGraph {
    let plan = Plan::new(graph, channel_scales).unwrap();
    let calibration = calibrate(graph, &plan, &Noise(16), RangeRule::Mse, &|_| {}).unwrap();
    quantize(graph, &plan, &calibration, &rounding(graph, ("int3-mse", bits))).unwrap()
}

fn quick(settings: Reconstruction) -> Reconstruction {
    Reconstruction { iterations: 60, batch: 8, rate: 3.0 * settings.rate, ..settings }
}

fn check(name: &str, graph: &Graph, start: &QuantizedGraph) {
    let settings = quick(Reconstruction::named(name).unwrap());
    let (learned, reports) = reconstruct(graph, start, &Noise(16), &settings, &|_| {}).unwrap();
    assert!(!reports.is_empty());
    for report in &reports {
        assert!(report.error[1] <= report.error[0], "{name}: {report:?}");
    }
    // A network of random weights on noise has no scores worth keeping; every block has an output.
    let lower = reports.iter().any(|r| r.error[1] < 0.995 * r.error[0]);
    assert!(lower || name == "distillation", "{name}: {reports:?}");
    // Soft weights became codes: nothing else is in the graph.
    for (weight, before) in learned.weights.iter().zip(&start.weights) {
        let levels = weight.coded.integers().unwrap().0;
        assert_eq!(weight.coded.bits(), before.coded.bits());
        assert!(levels.iter().all(|q| weight.coded.bits() == 8 || (-4..=3).contains(q)));
    }
}

#[test]
fn every_algorithm_lowers_the_error_of_its_units() {
    for name in Reconstruction::NAMES.split(", ") {
        for bits in [8, 4] {
            check(name, &residual(), &nearest(&residual(), bits, false));
        }
        check(name, &squeeze_excite(), &nearest(&squeeze_excite(), 8, true));
    }
}

#[test]
fn pruned_weights_stay_zero() {
    let graph = residual();
    let mut quantizer = lowbit_quant::Quantizer::preset("kmeans-16").unwrap();
    if let lowbit_quant::ScaleRule::Cluster(clustering) = &mut quantizer.scale {
        clustering.prune = 0.5;
    }
    assert!(quantizer.prunes());
    let plan = Plan::new(&graph, false).unwrap();
    let calibration = calibrate(&graph, &plan, &Noise(16), RangeRule::Mse, &|_| {}).unwrap();
    let start = quantize(&graph, &plan, &calibration, &rounding_by(&graph, &quantizer)).unwrap();
    for name in ["brecq", "adaround"] {
        let settings = quick(Reconstruction::named(name).unwrap());
        let (learned, _) = reconstruct(&graph, &start, &Noise(16), &settings, &|_| {}).unwrap();
        let changed = learned.weights.iter().zip(&start.weights).any(|(a, b)| a.coded != b.coded);
        assert!(changed, "{name} learns");
        for weight in &learned.weights {
            let decoded = weight.coded.decode();
            let pruned = decoded.iter().zip(&weight.pruned).filter(|(_, pruned)| **pruned);
            let kept = pruned.clone().filter(|(w, _)| **w == 0.0).count();
            assert!(kept > 0 && kept == pruned.count(), "{name}: {kept}");
        }
    }
}

#[test]
fn settings_that_would_be_ignored_are_refused() {
    let refused = |settings: Reconstruction, expected: &str| {
        let error = settings.validated().unwrap_err();
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    };
    let named = |name: &str| Reconstruction::named(name).unwrap().validated().unwrap();
    Reconstruction::NAMES.split(", ").for_each(|name| assert_eq!(named(name).name(), name));
    let (rounding, weights) = (named("adaround"), named("brecq"));
    refused(Reconstruction { scale_rate: 0.1, ..rounding }, "scale_rate: found 0.1, expected 0");
    refused(Reconstruction { settled: 0.5, ..rounding }, "settled: found 0.5, expected 0 unless");
    refused(Reconstruction { settled: 1.5, ..weights }, "settled: found 1.5, expected 0 to 1");
    refused(Reconstruction { pull: 3.0, ..weights }, "pull: found 3, expected 0 unless variable");
    refused(Reconstruction { features: 1.0, ..weights }, "features: found 1, expected 0 unless");
    let network = named("distillation");
    refused(Reconstruction { drop: 0.5, ..network }, "drop: found 0.5, expected 0");
    refused(Reconstruction { fisher: true, ..network }, "fisher: found true, expected false");
}

#[test]
fn the_result_is_the_same_at_any_thread_count() {
    let graph = residual();
    let start = nearest(&graph, 4, false);
    for name in ["brecq", "qdrop", "adaround", "distillation"] {
        let settings = Reconstruction { iterations: 5, ..Reconstruction::named(name).unwrap() };
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let learned =
                pool.install(|| reconstruct(&graph, &start, &Noise(16), &settings, &|_| {}));
            let (learned, reports) = learned.unwrap();
            let codes: Vec<_> = learned.weights.iter().map(|w| w.coded.clone()).collect();
            (codes, learned.sites, reports)
        };
        assert_eq!(run(1), run(3), "{name}");
    }
}

#[test]
fn a_small_budget_uses_fewer_images_and_still_runs() {
    let graph = residual();
    let start = nearest(&graph, 8, false);
    let settings = Reconstruction { budget_bytes: 3000, ..quick(Reconstruction::adaquant()) };
    let images = |settings: Reconstruction| {
        let (_, reports) = reconstruct(&graph, &start, &Noise(16), &settings, &|_| {}).unwrap();
        assert!(reports.iter().all(|report| (1..16).contains(&report.images)), "{reports:?}");
        reports.iter().map(|report| report.images).sum::<usize>()
    };
    // Weights of errors take memory too.
    assert!(images(Reconstruction { fisher: true, ..settings }) < images(settings));
}

#[test]
fn a_batch_written_into_a_reshape_is_kept() {
    for name in Reconstruction::NAMES.split(", ") {
        check(name, &one_image(), &nearest(&one_image(), 8, false));
    }
}

#[test]
fn blocks_end_where_one_value_is_alive() {
    let graph = residual();
    let start = nearest(&graph, 8, false);
    let blocks = units(&graph, &start, Scope::Block);
    assert_eq!(blocks.iter().map(|b| b.weights.len()).collect::<Vec<_>>(), [3]);
    assert_eq!(units(&graph, &start, Scope::Layer).len(), 3);
}

#[test]
fn gradients_of_roundings_follow_their_formula() {
    let graph = residual();
    let weight = nearest(&graph, 8, false).weights[1].clone();
    let mut rounding = crate::adaround::SoftRounding::new(&weight.coded, &weight.target, &[]);
    let count = weight.target.len();
    let pull = crate::adaround::Pull { strength: 0.3, exponent: 4.0 };
    // The loss Σ g·w̃ + λ·Σ (1 - |2h - 1|^β), by differences.
    let g: Vec<f32> = (0..count).map(|i| (i as f32 * 0.7).sin()).collect();
    for i in (0..count).step_by(7) {
        let mut loss = |v: f32| {
            let before = std::mem::replace(&mut rounding.variable[i], v);
            let w = f64::from(rounding.weight()[i]);
            rounding.variable[i] = before;
            let h = f64::from((1.2 / (1.0 + (-v).exp()) - 0.1).clamp(0.0, 1.0));
            f64::from(g[i]) * w + 0.3 * (1.0 - (2.0 * h - 1.0).abs().powi(4))
        };
        let v = 0.4 * (i as f32).cos();
        let (below, above) = weight.coded.neighbours(i, weight.target[i]);
        if below == above {
            continue; // beyond the grid there is nothing to choose
        }
        let expected = (loss(v + 1e-2) - loss(v - 1e-2)) / 2e-2;
        rounding.variable[i] = v;
        let found = f64::from(rounding.gradient(&g, pull)[i]);
        assert!((found - expected).abs() < 2e-3, "{i}: {found} and {expected}");
    }
}
