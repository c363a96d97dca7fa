use lowbit_graph::passes::{fold_constants, lower_qdq};
use lowbit_graph::{Session, Workspace};
use lowbit_quant::{Quantizer, RangeRule};

use super::*;
use crate::tests::{Noise, mixed, rounding_by};
use crate::{Plan, Samples, calibrate, quantize};

fn form(weights: &str) -> (Result<Graph, PtqError>, QuantizedGraph) {
    let graph = mixed();
    let plan = Plan::new(&graph, false).unwrap();
    let calibration = calibrate(&graph, &plan, &Noise(4), RangeRule::MinMax, &|_| {}).unwrap();
    let rounding = rounding_by(&graph, &Quantizer::preset(weights).unwrap());
    let quantized = quantize(&graph, &plan, &calibration, &rounding).unwrap();
    (qcdq(&quantized, &rounding.assignment), quantized)
}

fn outputs(graph: &Graph) -> Vec<u32> {
    let (lowered, _) = lower_qdq(&fold_constants(graph).unwrap()).unwrap();
    let image = Noise(1).get(0).unwrap();
    let made = Session::new(&lowered).unwrap().run(&[image], &mut Workspace::serial()).unwrap();
    made[0].f32s().iter().map(|x| x.to_bits()).collect()
}

#[test]
fn floats_behind_quantizers_mean_the_same_bit_for_bit() {
    for name in
        ["int8", "int6-mse", "int4-mse", "int3-mse", "int2-mse", "twn", "ttq", "bwn", "lsq-4"]
    {
        let (form, quantized) = form(name);
        if name == "ttq" && form.is_err() {
            continue; // where its two values differ, they are no integers
        }
        assert_eq!(outputs(&form.unwrap()), outputs(&quantized.graph), "{name}");
    }
}

#[test]
fn other_grids_are_refused_by_layer_and_grid() {
    for (name, expected) in [
        ("pot-4", "grid power-of-two per channel"),
        ("kmeans-16", "grid codebook per tensor"),
        ("int4-group64", "grid uniform per group"),
        ("sawb-2", "grid uniform per channel"),
    ] {
        let error = form(name).0.unwrap_err().to_string();
        assert!(error.contains("conv101") && error.contains(expected), "{name}: {error}");
    }
}
