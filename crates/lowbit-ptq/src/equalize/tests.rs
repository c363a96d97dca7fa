use lowbit_graph::{Session, Workspace};
use lowbit_quant::{Granularity, Quantizer, RangeRule};

use super::*;
use crate::tests::{Net, Noise, errors};
use crate::{Assignment, Layer, Plan, Rounding, Samples, calibrate, quantize};

/// Three layers whose channels differ in magnitude, the first two with this activation.
fn chain(activation: Activation) -> Graph {
    let (mut net, x) = Net::new();
    let a = net.conv(x, 3, activation);
    let b = net.conv(a, 1, activation);
    let y = net.conv(b, 1, Activation::None);
    net.finish(y)
}

/// What BatchNormalization would say of the first two layers of a chain.
fn statistics(graph: &Graph, normal: Normal) -> BatchNormStatistics {
    let layers = graph.nodes[..2].iter().map(|node| (node.name.clone(), vec![normal; 4]));
    BatchNormStatistics { layers: layers.collect() }
}

fn outputs(graph: &Graph) -> Vec<Vec<f32>> {
    let session = Session::new(graph).unwrap();
    let run = |i| session.run(&[Noise(4).get(i).unwrap()], &mut Workspace::serial()).unwrap();
    (0..4).map(|i| run(i)[0].f32s().to_vec()).collect()
}

/// The largest difference between the outputs before and after, with the graph after.
fn check(activation: Activation, normal: Normal, ceiling: Ceiling) -> (f32, Graph) {
    let graph = chain(activation);
    let settings = Equalization { ceiling, absorb: true };
    let (after, _) = equalize(&graph, &statistics(&graph, normal), settings);
    let (old, new) = (outputs(&graph).concat(), outputs(&after).concat());
    let difference = old.iter().zip(&new).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    (difference, after)
}

const SMALL: Normal = Normal { mean: 0.0, deviation: 0.5 };
const CLIP: Activation = Activation::Clip { min: 0.0, max: 6.0 };

#[test]
fn the_function_stays_the_same() {
    for activation in [Activation::None, Activation::Relu] {
        assert!(check(activation, SMALL, Ceiling::Bound).0 < 1e-5, "{activation:?}");
    }
    assert!(check(CLIP, SMALL, Ceiling::Bound).0 < 1e-5, "no channel reaches the clip");
    assert_eq!(check(CLIP, SMALL, Ceiling::Skip).1, chain(CLIP));
    let large = Normal { mean: 0.0, deviation: 5.0 };
    assert_eq!(check(CLIP, large, Ceiling::Bound).0, 0.0, "channels that are cut stay as they are");
}

#[test]
fn the_product_of_ranges_is_that_of_the_widest_channel() {
    let (_, graph) = check(Activation::Relu, SMALL, Ceiling::Skip);
    for pair in pairs(&graph) {
        let channels = channels(&graph, pair, None);
        let most = |of: fn(&Channel) -> f32| channels.iter().map(of).fold(0.0, f32::max);
        let product = most(|c| c.ranges[0]) * most(|c| c.ranges[1]);
        let least = most(|c| c.ranges[0] * c.ranges[1]);
        assert!(product < least * 1.1, "{product}, {least}");
    }
}

#[test]
fn a_channel_that_may_not_move_keeps_its_factor() {
    let channel = |r1, r2, least| Channel { ranges: [r1, r2], least };
    let found = factors(&[channel(1.0, 1.0, None), channel(8.0, 0.1, Some(0.0))]);
    assert!(found[0] == 1.0 && (7.9..8.4).contains(&found[1]), "{found:?}");
    let found = factors(&[channel(1.0, 1.0, Some(0.0)), channel(0.1, 10.0, Some(0.5))]);
    assert!(found[1] >= 0.5, "{found:?}");
}

#[test]
fn what_a_channel_always_has_is_absorbed() {
    let graph = chain(Activation::Relu);
    let high = Normal { mean: 2.0, deviation: 0.5 };
    let mut high_statistics = statistics(&graph, high);
    let mut moved = graph.clone();
    // Layers whose results are indeed well above zero.
    for i in 0..2 {
        let bias = bias_of(&moved, i).unwrap().iter().map(|b| b + 8.0).collect();
        set_bias(&mut moved, i, bias);
    }
    let before = outputs(&moved).concat();
    for pair in pairs(&graph) {
        absorb(&mut moved, &mut high_statistics, pair, None);
    }
    let after = outputs(&moved).concat();
    let difference = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(difference < 1e-4, "{difference}");
    assert!((high_statistics.layers[&graph.nodes[0].name][0].mean - 1.5).abs() < 1e-6);
}

/// Signal to noise of the result with one weight scale a layer.
fn per_tensor_db(graph: &Graph) -> f64 {
    let plan = Plan::new(graph, false).unwrap();
    let calibration = calibrate(graph, &plan, &Noise(16), RangeRule::MinMax, &|_| {}).unwrap();
    let weights =
        Quantizer { granularity: Granularity::Tensor, ..Quantizer::preset("int8").unwrap() };
    let layer = |_: &Node, _| Layer { weights: weights.clone(), activation_bits: 8 };
    let rounding = Rounding::new(Assignment::new(graph, layer), 0);
    let quantized = quantize(graph, &plan, &calibration, &rounding).unwrap();
    errors(graph, &quantized).last().unwrap().sqnr_db
}

#[test]
fn one_scale_a_layer_gets_closer() {
    let mut graph = chain(Activation::Relu);
    // The last layer makes up for the magnitudes of the channels before it, as after folding.
    let mut rows = Rows::of(&graph, &graph.nodes[1]).unwrap();
    rows.values.iter_mut().enumerate().for_each(|(i, w)| *w *= [1.0, 3.0, 10.0, 100.0][i % 4]);
    set_rows(&mut graph, 1, rows);
    let (after, _) = equalize(&graph, &BatchNormStatistics::default(), Equalization::DFQ);
    let (old, new) = (per_tensor_db(&graph), per_tensor_db(&after));
    assert!(new > old + 3.0, "{old} dB before, {new} dB after");
}
