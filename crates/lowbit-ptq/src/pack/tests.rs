use lowbit_graph::passes::{fold_constants, lower_qdq};
use lowbit_graph::{Op, Session, Workspace};
use lowbit_quant::{Granularity, PRESETS, Quantizer};

use super::*;
use crate::tests::{Noise, mixed, rounding_by};
use crate::{Plan, Samples, calibrate, quantize};
use lowbit_quant::RangeRule;

fn quantized(weights: &Quantizer) -> QuantizedGraph {
    let graph = mixed();
    let plan = Plan::new(&graph, false).unwrap();
    let calibration = calibrate(&graph, &plan, &Noise(4), RangeRule::MinMax, &|_| {}).unwrap();
    quantize(&graph, &plan, &calibration, &rounding_by(&graph, weights)).unwrap()
}

fn outputs(graph: &Graph) -> Vec<u32> {
    let (lowered, _) = lower_qdq(graph).unwrap();
    let image = Noise(1).get(0).unwrap();
    let made = Session::new(&lowered).unwrap().run(&[image], &mut Workspace::serial()).unwrap();
    made[0].f32s().iter().map(|x| x.to_bits()).collect()
}

/// Packs, folds and compares with what was packed: each weight, then the model's result. Returns how many weights are packed.
fn check(name: &str, weights: &Quantizer) -> usize {
    let quantized = quantized(weights);
    let packed = pack(&quantized).unwrap();
    let folded = fold_constants(&packed).unwrap();
    for weight in &quantized.weights {
        let held = |graph: &Graph| {
            let node = graph.nodes.iter().find(|node| node.name == weight.node).unwrap();
            let producer = graph.producers().get(&node.inputs[1].unwrap()).copied();
            let value = producer.map_or(node.inputs[1], |i| graph.nodes[i].inputs[0]).unwrap();
            graph.constant(value).unwrap().clone()
        };
        assert_eq!(held(&folded), held(&quantized.graph), "{name}: {}", weight.node);
    }
    assert_eq!(outputs(&folded), outputs(&quantized.graph), "{name}");
    packed.nodes.iter().filter(|node| matches!(node.op, Op::Cast(_))).count()
}

#[test]
fn every_quantizer_decodes_from_its_packed_form_bit_for_bit() {
    // One of them asks for an importance of each weight, which a recipe does not give.
    for preset in PRESETS.iter().filter(|preset| preset.name != "int4-fisher") {
        let weights = (preset.quantizer)();
        let packed = check(preset.name, &weights);
        assert!(packed > 0 || weights.grid.bits().unwrap() > 4, "{} is not packed", preset.name);
    }
}

#[test]
fn every_granularity_decodes_from_its_packed_form_bit_for_bit() {
    let sizes = [5, 9, 12, 1000].map(|size| Granularity::Group { size });
    for name in
        ["int4-mse", "int3-mse", "dorefa-4", "apot-4", "kmeans-16", "lq-nets-2", "fp4-e2m1", "twn"]
    {
        let preset = Quantizer::preset(name).unwrap();
        let others = [Granularity::Tensor, Granularity::Pixel, Granularity::Row];
        for granularity in others.into_iter().chain(sizes) {
            let weights = Quantizer { granularity, ..preset.clone() };
            check(&format!("{name} {granularity:?}"), &weights);
        }
    }
}

#[test]
fn uniform_and_ternary_codes_are_stored_in_their_own_width() {
    for (name, expected) in [
        ("int4-mse", DType::I4),
        ("int3-mse", DType::I4),
        ("int2-mse", DType::I2),
        ("twn", DType::I2),
        ("bwn", DType::I2),
        ("pot-4", DType::U4),
    ] {
        let packed = pack(&quantized(&Quantizer::preset(name).unwrap())).unwrap();
        let stored =
            |dtype| packed.constants().filter(|(_, tensor)| tensor.dtype() == dtype).count();
        assert_eq!(stored(expected), 3, "{name} as {expected}");
    }
}
