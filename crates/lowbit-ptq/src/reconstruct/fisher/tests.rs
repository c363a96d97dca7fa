use lowbit_graph::Input;
use lowbit_quant::RangeRule;
use lowbit_tensor::DType;

use super::*;
use crate::reconstruct::capture::capture;
use crate::reconstruct::units::units;
use crate::tests::{Noise, residual, rounding, squeeze_excite};
use crate::{Plan, Reconstruction, Samples, Scope, calibrate, quantize, reconstruct};

fn nearest(graph: &Graph, channel_scales: bool) -> QuantizedGraph {
    let plan = Plan::new(graph, channel_scales).unwrap();
    let calibration = calibrate(graph, &plan, &Noise(16), RangeRule::Mse, &|_| {}).unwrap();
    quantize(graph, &plan, &calibration, &rounding(graph, ("int3-mse", 8))).unwrap()
}

/// -log p_label, from a value that all paths pass through.
fn loss(rest: &Session, value: &Tensor, label: usize) -> f64 {
    let made = rest.run(std::slice::from_ref(value), &mut Workspace::serial()).unwrap();
    let scores: Vec<f64> = made[0].f32s().iter().map(|&s| f64::from(s)).collect();
    scores.iter().map(|s| s.exp()).sum::<f64>().ln() - scores[label]
}

#[test]
fn gradients_are_those_of_the_label_that_was_drawn() {
    let graph = residual();
    let fisher = Fisher::new(&graph, 5).unwrap();
    let (value, scores) = (graph.nodes[0].output(), graph.outputs[0]);
    let fed = Input { value, dtype: DType::F32, dims: [1, 4, 6, 6].map(Some).to_vec() };
    let rest = Session::new(&graph.between(vec![fed], vec![scores])).unwrap();
    let mut work = Workspace::serial();
    let mut labels = vec![];
    for index in 0..4 {
        let image = Noise(4).get(index).unwrap();
        let at_scores = fisher.run(&image, (index, &[scores]), &mut work).unwrap();
        let label = at_scores[1].f32s().iter().position(|&g| g < 0.0).unwrap();
        labels.push(label);
        let made = fisher.run(&image, (index, &[value]), &mut work).unwrap();
        for i in (0..made[0].len()).step_by(11).filter(|&i| made[0].f32s()[i] > 0.02) {
            let moved = |by: f32| {
                let mut values = made[0].f32s().to_vec();
                values[i] += by;
                loss(&rest, &Tensor::new(made[0].shape().clone(), values), label)
            };
            let expected = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            let found = f64::from(made[1].f32s()[i]);
            assert!((found - expected).abs() < 1e-3, "{i}: {found} and {expected}");
        }
    }
    labels.dedup();
    assert!(labels.len() > 1, "labels are drawn, image by image: {labels:?}");
}

#[test]
fn weights_average_1_and_follow_their_formula_as_readers_see_them() {
    for (graph, channel_scales) in [(residual(), false), (squeeze_excite(), true)] {
        let start = nearest(&graph, channel_scales);
        let settings = Reconstruction { fisher: true, seed: 3, ..Reconstruction::adaround() };
        for unit in units(&graph, &start, Scope::Layer) {
            let pairs = capture((&graph, &start), &unit, &Noise(6), &settings).unwrap();
            let found = pairs.importance.unwrap();
            let fisher = Fisher::new(&graph, 3).unwrap();
            let mut all = vec![];
            for index in 0..6 {
                let image = Noise(6).get(index).unwrap();
                let wanted = [unit.output];
                let made = fisher.run(&image, (index, &wanted), &mut Workspace::serial());
                all.extend(made.unwrap()[1].f32s().iter().map(|&g| f64::from(g)));
            }
            // d(loss)/d(f·y) = d(loss)/dy / f.
            let plane = found.shape.iter().skip(2).product::<usize>();
            if let Some(factors) = reader_factors(&start, unit.output) {
                let factor = |i: usize| f64::from(factors[i / plane % factors.len()]);
                all.iter_mut().enumerate().for_each(|(i, g)| *g /= factor(i));
            }
            let root = (all.iter().map(|g| g * g).sum::<f64>() / all.len() as f64).sqrt();
            all.iter_mut().for_each(|g| *g = 1.0 + g.abs() / root);
            let mean = all.iter().map(|g| g * g).sum::<f64>() / all.len() as f64;
            for (g, &h) in all.iter().zip(&found.values) {
                assert!((g * g / mean - f64::from(h)).abs() < 1e-3 * (1.0 + f64::from(h)));
            }
        }
    }
}

#[test]
fn weighted_errors_lead_elsewhere_and_never_up() {
    let graph = residual();
    let start = nearest(&graph, false);
    let learn = |fisher| {
        let settings = Reconstruction { fisher, iterations: 60, ..Reconstruction::brecq() };
        reconstruct(&graph, &start, &Noise(16), &settings, &|_| {}).unwrap()
    };
    let (with, without) = (learn(true), learn(false));
    assert!(with.1.iter().all(|report| report.error[1] <= report.error[0]), "{:?}", with.1);
    assert!(with.1.iter().any(|report| report.error[1] < report.error[0]), "{:?}", with.1);
    let codes = |(learned, _): &(QuantizedGraph, Vec<crate::UnitReport>)| {
        learned.weights.iter().map(|w| w.coded.clone()).collect::<Vec<_>>()
    };
    assert!(codes(&with) != codes(&without));
}
