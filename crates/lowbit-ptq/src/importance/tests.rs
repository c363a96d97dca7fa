use std::collections::BTreeMap;

use lowbit_graph::{Activation, Conv};
use lowbit_quant::{Quantizer, RangeRule};

use super::*;
use crate::tests::{Net, Noise, mixed, noise, rounding_by, squeeze_excite};
use crate::{Plan, Rounding, calibrate, quantize};

/// The importance of weight `j` by its definition: that of the layer's result when weight `j` alone is 1, and no bias.
fn check(graph: &Graph, index: usize, elements: &[usize]) {
    let found = importance(graph, &[index], &Noise(3), &|_| {}).unwrap().remove(&index).unwrap();
    let node = &graph.nodes[index];
    let weight = graph.constant_input(node, 1).unwrap();
    assert_eq!(found.len(), weight.len());
    for &j in elements {
        let mut one = graph.clone();
        let mut values = vec![0.0; weight.len()];
        values[j] = 1.0;
        one.set_constant(node.input(1).unwrap(), Tensor::new(weight.shape().clone(), values));
        if let Some(bias) = node.input(2) {
            let zeros = vec![0f32; graph.constant(bias).unwrap().len()];
            one.set_constant(bias, Tensor::vector(zeros));
        }
        if let Op::Conv(conv) = &mut one.nodes[index].op {
            conv.activation = Activation::None;
        }
        let session = Session::new(&one.between(one.inputs.clone(), vec![node.output()])).unwrap();
        let (mut sum, mut positions) = (0.0, 0);
        for i in 0..3 {
            let made = session.run(&[Noise(3).get(i).unwrap()], &mut Workspace::serial()).unwrap();
            sum += made[0].f32s().iter().map(|&y| f64::from(y) * f64::from(y)).sum::<f64>();
            let rows = Rows::of(graph, node).unwrap();
            positions += made[0].len() / rows.channels();
        }
        // Columns of a fully connected layer are rows here.
        let rows = Rows::of(graph, node).unwrap();
        let (per_row, channels) = (rows.per_channel(), rows.channels());
        let at = if rows.turned { j % channels * per_row + j / channels } else { j };
        let (expected, found) = (sum / positions as f64, f64::from(found[at]));
        assert!((found - expected).abs() < 1e-4 * (1.0 + expected), "{j}: {found}, {expected}");
    }
}

#[test]
fn importance_is_the_mean_square_of_what_a_weight_multiplies() {
    check(&mixed(), 0, &[0, 4, 17, 80, 143]);
    check(&mixed(), 1, &[0, 4, 17, 80, 143]);
    let last = mixed().nodes.len() - 1;
    check(&mixed(), last, &[0, 1, 12, 700, 1727]);
    let (mut net, x) = Net::new();
    let weight = net.graph.add_constant("w", Tensor::new(vec![4, 2, 3, 3], noise(3, 72)));
    let conv = Conv { strides: [2, 1], pads: [1, 0, 1, 0], groups: 2, ..Conv::PLAIN };
    let y = net.graph.add_node("grouped", Op::Conv(conv), &[x, weight]);
    check(&net.finish(y), 0, &[0, 8, 17, 18, 36, 40, 71]);
}

/// Sum over layers of the error of their results, inputs taken as uncorrelated.
fn error(graph: &Graph, rounding: &Rounding, weighed_by: &BTreeMap<usize, Vec<f32>>) -> f64 {
    let plan = Plan::new(graph, false).unwrap();
    let calibration = calibrate(graph, &plan, &Noise(8), RangeRule::Mse, &|_| {}).unwrap();
    let made = quantize(graph, &plan, &calibration, rounding).unwrap();
    let one = |weight: &crate::Weight| {
        let off = weight.coded.decode();
        let both = off.iter().zip(weight.target.iter()).zip(&weighed_by[&weight.index]);
        both.map(|((q, w), h)| f64::from(*h) * f64::from(q - w) * f64::from(q - w)).sum::<f64>()
    };
    made.weights.iter().map(one).sum()
}

#[test]
fn weights_fitted_with_importance_have_the_lower_weighted_error() {
    for graph in [mixed(), squeeze_excite()] {
        let nodes: Vec<usize> = (0..graph.nodes.len()).collect();
        let found = importance(&graph, &nodes, &Noise(8), &|_| {}).unwrap();
        for name in ["int3-mse", "optimal-16", "ecsq-32"] {
            let Ok(quantizer) = Quantizer::preset(name) else { panic!("{name}") };
            let plain = rounding_by(&graph, &quantizer);
            let weighted = Rounding { importance: found.clone(), ..plain.clone() };
            let errors = [&plain, &weighted].map(|rounding| error(&graph, rounding, &found));
            let least = if name == "ecsq-32" { f64::INFINITY } else { 1.0001 * errors[0] };
            assert!(errors[1] < least && errors[1] != errors[0], "{name}: {errors:?}");
        }
    }
}

#[test]
fn one_codebook_serves_the_layers_that_share_it() {
    let graph = mixed();
    let quantizer = Quantizer::preset("kmeans-16").unwrap();
    let nodes: Vec<usize> = (0..graph.nodes.len()).collect();
    let found = importance(&graph, &nodes, &Noise(8), &|_| {}).unwrap();
    for importance in [BTreeMap::new(), found] {
        let shared = Some(quantizer.clone());
        let rounding = Rounding { shared, importance, ..rounding_by(&graph, &quantizer) };
        let plan = Plan::new(&graph, false).unwrap();
        let calibration = calibrate(&graph, &plan, &Noise(8), RangeRule::Mse, &|_| {}).unwrap();
        let made = quantize(&graph, &plan, &calibration, &rounding).unwrap();
        let mut values: Vec<f32> = made.weights.iter().flat_map(|w| w.coded.decode()).collect();
        values.sort_by(f32::total_cmp);
        values.dedup();
        assert_eq!((made.weights.len(), values.len()), (3, 16));
        made.weights.iter().for_each(|w| assert_eq!(w.coded.shape(), w.shape));
    }
}
