use super::*;
use crate::tests::{Noise, errors, residual, rounding};
use crate::{Plan, calibrate, quantize};
use lowbit_quant::RangeRule;

fn quantized(graph: &Graph) -> QuantizedGraph {
    let plan = Plan::new(graph, false).unwrap();
    let calibration = calibrate(graph, &plan, &Noise(8), RangeRule::MinMax, &|_| {}).unwrap();
    quantize(graph, &plan, &calibration, &rounding(graph, ("int4-mse", 8))).unwrap()
}

#[test]
fn errors_of_kernels_and_channels_cancel() {
    let graph = residual();
    let (turned, reports) = squant(&graph, &quantized(&graph)).unwrap();
    for (weight, report) in turned.weights.iter().zip(&reports) {
        assert!(report.error[1] <= report.error[0], "{report:?}");
        let decoded = weight.coded.decode();
        let per_channel = decoded.len() / weight.shape[0];
        let kernel = weight.shape[2] * weight.shape[3];
        for (c, scale) in weight.coded.scales().iter().enumerate() {
            let run = c * per_channel..(c + 1) * per_channel;
            let errors: Vec<f32> = decoded[run.clone()]
                .iter()
                .zip(&weight.target[run])
                // Weights beyond the outermost level have nowhere to turn.
                .map(|(q, w)| ((q - w) / scale).clamp(-1.0, 1.0))
                .collect();
            let sum: f32 = errors.iter().sum();
            assert!(sum.abs() <= 0.5001, "{}: channel {c} sums to {sum} steps", weight.node);
            for errors in errors.chunks(kernel) {
                let sum: f32 = errors.iter().sum();
                assert!(sum.abs() <= 1.0001, "{}: a kernel of {c} sums to {sum}", weight.node);
            }
        }
    }
}

#[test]
fn means_are_kept_where_inputs_are_alike() {
    let graph = residual();
    let before = quantized(&graph);
    let (after, _) = squant(&graph, &before).unwrap();
    let shift = |quantized: &QuantizedGraph| -> f64 {
        let found = errors(&graph, quantized);
        found.last().unwrap().mean_shift.iter().map(|s| s * s).sum()
    };
    // Noise has mean zero under all taps: the sums matter little, and nothing may get much worse.
    assert!(shift(&after) < shift(&before) * 1.5, "{} {}", shift(&before), shift(&after));
}
