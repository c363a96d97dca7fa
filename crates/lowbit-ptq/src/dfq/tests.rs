use std::collections::BTreeMap;

use super::*;
use crate::tests::{Noise, errors, residual, rounding};
use crate::{Samples, calibrate, quantize};
use lowbit_graph::Session;

#[test]
fn quantiles_are_those_of_the_normal() {
    let table = normal_quantiles();
    let (mean, variance) = moments(&table);
    assert!(mean.abs() < 1e-6 && (variance - 1.0).abs() < 0.01, "{mean} {variance}");
    // Φ(1) = 0.841345
    let below = table.iter().filter(|&&x| x < 1.0).count() as f64 / SAMPLES as f64;
    assert!((below - 0.841_345).abs() < 1.0 / SAMPLES as f64, "{below}");
}

/// The moments of every layer's result before its activation, measured.
fn measured(graph: &Graph) -> BatchNormStatistics {
    let mut bare = graph.clone();
    for node in &mut bare.nodes {
        if let Op::Conv(conv) = &mut node.op {
            conv.activation = Activation::None;
        }
    }
    let mut layers = BTreeMap::new();
    for (index, node) in graph.nodes.iter().enumerate().filter(|(_, n)| weighted(graph, n)) {
        // All before this layer as it is, the layer itself without activation.
        let mut part = graph.clone();
        part.nodes[index] = bare.nodes[index].clone();
        let part = part.between(part.inputs.clone(), vec![node.output()]);
        let session = Session::new(&part).unwrap();
        let mut channels = vec![vec![]; 4];
        for i in 0..16 {
            let image = Noise(16).get(i).unwrap();
            let made = session.run(&[image], &mut Workspace::serial()).unwrap();
            let planes = made[0].f32s().chunks(36).enumerate();
            planes.for_each(|(c, plane)| channels[c].extend_from_slice(plane));
        }
        let normal = |channel: &Vec<f32>| {
            let (mean, variance) = moments(channel);
            Normal { mean: mean as f32, deviation: variance.sqrt() as f32 }
        };
        layers.insert(node.name.clone(), channels.iter().map(normal).collect());
    }
    BatchNormStatistics { layers }
}

#[test]
fn statistics_serve_nearly_as_well_as_images() {
    let graph = residual();
    let plan = Plan::new(&graph, false).unwrap();
    let statistics = measured(&graph);
    let found =
        calibrate_from_statistics(&graph, &plan, &statistics, (RangeRule::Mse, &[(-1.0, 1.0)]));
    let images = calibrate(&graph, &plan, &Noise(16), RangeRule::Mse, &|_| {}).unwrap();
    let db = |calibration: &Calibration| {
        let made = quantize(&graph, &plan, calibration, &rounding(&graph, ("int8", 8))).unwrap();
        errors(&graph, &made).last().unwrap().sqnr_db
    };
    let (without, with) = (db(&found.unwrap()), db(&images));
    assert!(without > with - 6.0, "{without} dB without images, {with} dB with");
}

#[test]
fn what_statistics_do_not_reach_is_named() {
    let graph = residual();
    let plan = Plan::new(&graph, false).unwrap();
    let none = BatchNormStatistics::default();
    let rule = (RangeRule::MinMax, &[(-1.0, 1.0)][..]);
    let error = calibrate_from_statistics(&graph, &plan, &none, rule).unwrap_err().to_string();
    assert!(error.contains("BatchNormalization"), "{error}");
}
