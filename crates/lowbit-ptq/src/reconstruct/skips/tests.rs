use lowbit_quant::RangeRule;

use super::*;
use crate::reconstruct::units::{Scope, units};
use crate::tests::{Noise, mixed, residual, rounding};
use crate::{Plan, Samples, calibrate, quantize};

/// The part of the network from the image to its scores, quantized.
fn whole(graph: &Graph) -> (QuantizedGraph, Graph) {
    let plan = Plan::new(graph, false).unwrap();
    let calibration = calibrate(graph, &plan, &Noise(8), RangeRule::Mse, &|_| {}).unwrap();
    let made = quantize(graph, &plan, &calibration, &rounding(graph, ("int3-mse", 4))).unwrap();
    let unit = units(graph, &made, Scope::Network).remove(0);
    let part = super::super::part(&made, &unit, &[1, 4, 6, 6]);
    (made, part)
}

fn run(part: &Graph, masks: Vec<Tensor>) -> Vec<f32> {
    let feeds: Vec<Tensor> = std::iter::once(Noise(1).get(0).unwrap()).chain(masks).collect();
    let session = Session::new(part).unwrap();
    session.run(&feeds, &mut Workspace::serial()).unwrap()[0].f32s().to_vec()
}

#[test]
fn masks_of_0_change_nothing_and_masks_of_1_leave_every_quantizer_out() {
    for graph in [residual(), mixed()] {
        let (quantized, part) = whole(&graph);
        let mut float = part.clone();
        // The inner of two first, so that its readers see through both.
        for site in quantized.narrowed.iter().chain(&quantized.sites) {
            if float.nodes.iter().any(|node| node.outputs.contains(&Some(site.result))) {
                float.replace_uses(site.result, site.value);
            }
        }
        let mut mixed = part.clone();
        let skips = Skips::insert(&quantized, &mut mixed, &[1, 4, 6, 6]).unwrap();
        assert!(skips.shapes.len() >= 3, "{skips:?}");
        let mut rng = Rng::new(1);
        assert_eq!(run(&mixed, skips.draw(1, 0.0, &mut rng)), run(&part, vec![]));
        let (found, expected) = (run(&mixed, skips.draw(1, 1.1, &mut rng)), run(&float, vec![]));
        let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 1e-4, "{off}");
        assert_ne!(expected, run(&part, vec![]));
    }
}
