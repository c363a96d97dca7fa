use lowbit_quant::RangeRule;

use super::*;
use crate::tests::{Noise, errors, residual, rounding, squeeze_excite};
use crate::{Plan, calibrate, quantize};

fn quantized(graph: &Graph) -> QuantizedGraph {
    let plan = Plan::new(graph, false).unwrap();
    let calibration = calibrate(graph, &plan, &Noise(16), RangeRule::MinMax, &|_| {}).unwrap();
    quantize(graph, &plan, &calibration, &rounding(graph, ("int4-mse", 8))).unwrap()
}

#[test]
fn errors_fall_and_the_result_gets_closer() {
    for graph in [residual(), squeeze_excite()] {
        let before = quantized(&graph);
        let (after, reports) = gptq(&graph, &before, &Noise(16), Gptq::PAPER, &|_| {}).unwrap();
        assert!(reports.iter().all(|r| r.error[1] <= r.error[0]), "{reports:?}");
        let middle = &reports[1];
        assert!(middle.error[1] < 0.9 * middle.error[0], "{middle:?}");
        let last = |quantized| errors(&graph, quantized).last().unwrap().sqnr_db;
        assert!(last(&after) > last(&before) - 0.1, "{} {}", last(&before), last(&after));
    }
}

#[test]
fn the_error_is_that_of_the_layers_result() {
    let graph = residual();
    let quantized = quantized(&graph);
    let weight = &quantized.weights[0];
    let input = quantized.graph.nodes.iter().find(|n| n.name == weight.node).unwrap().input(0);
    let part = quantized.graph.between(quantized.graph.inputs.clone(), vec![input.unwrap()]);
    let session = Session::new(&part).unwrap();
    let op = &graph.nodes[weight.index].op;
    let moments = second_moments(&session, (op, &weight.shape), &Noise(3), &|_| {}).unwrap();
    // The same layer, its weights being what rounding changed, applied to what it reads.
    let difference: Vec<f32> =
        weight.coded.decode().iter().zip(weight.target.iter()).map(|(q, w)| q - w).collect();
    let lowbit_graph::Op::Conv(conv) = op else { panic!("a convolution") };
    let conv = lowbit_graph::Conv { activation: lowbit_graph::Activation::None, ..*conv };
    let rows = lowbit_tensor::Tensor::new(weight.shape.clone(), difference);
    let (mut sum, mut count) = (0.0, 0);
    for i in 0..3 {
        let mut work = lowbit_graph::Workspace::serial();
        let read = session.run(&[Noise(3).get(i).unwrap()], &mut work).unwrap();
        let inputs = [Some(&read[0]), Some(&rows)];
        let made = lowbit_graph::Op::Conv(conv).forward(&lowbit_graph::Inputs(&inputs), &mut work);
        let made = made.unwrap();
        sum += made[0].f32s().iter().map(|y| f64::from(y * y)).sum::<f64>();
        count += made[0].len();
    }
    let (found, expected) = (moments.error(&weight.coded, &weight.target), sum / count as f64);
    assert!((found / expected - 1.0).abs() < 1e-3, "{found} {expected}");
}

#[test]
fn any_number_of_threads_rounds_alike() {
    let graph = residual();
    let before = quantized(&graph);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| gptq(&graph, &before, &Noise(6), Gptq::PAPER, &|_| {}).unwrap())
    };
    let (one, two) = (run(1), run(2));
    assert!(one.1 == two.1);
    assert!(one.0.weights.iter().zip(&two.0.weights).all(|(a, b)| a.coded == b.coded));
}
