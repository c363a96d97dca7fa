use lowbit_graph::{Activation, Cast, Conv};
use lowbit_quant::RangeRule;

use super::*;
use crate::tests::{Net, Noise, noise, quantized, rounding};
use crate::{Plan, calibrate, quantize};

fn scalar(graph: &mut Graph, x: f32) -> ValueId {
    graph.add_constant("c", Tensor::scalar(x))
}

/// What `sign_of` finds of the last value that `build` makes from an input.
fn check(build: impl Fn(&mut Graph, ValueId) -> ValueId, expected: Option<f32>) {
    let mut graph = Graph::new("signs");
    let x = graph.add_input("x", DType::F32, vec![None, Some(3), Some(4), Some(4)]);
    let y = build(&mut graph, x);
    assert_eq!(sign_of(&graph, y), expected, "{}", graph.dump());
}

#[test]
fn signs_are_known_however_they_are_spelled() {
    let compare = |g: &mut Graph, x, op| {
        let zero = scalar(g, 0.0);
        g.add_node("compare", Op::Binary(op), &[x, zero])
    };
    let choose = |[above, below]: [f32; 2]| {
        move |g: &mut Graph, x| {
            let c = compare(g, x, Binary::GreaterOrEqual);
            let (a, b) = (scalar(g, above), scalar(g, below));
            g.add_node("where", Op::Where, &[c, a, b])
        }
    };
    check(choose([1.0, -1.0]), Some(1.0));
    check(choose([-0.3, 0.3]), Some(0.3));
    check(choose([1.0, -0.9]), None);
    check(choose([0.0, 0.0]), None);
    check(|g, x| g.add_node("s", Op::Unary(Unary::Sign), &[x]), Some(1.0));
    check(|g, x| g.add_node("r", Op::Unary(Unary::Relu), &[x]), None);
    check(|_, x| x, None);
    // Greater * 2 - 1.
    check(
        |g, x| {
            let c = compare(g, x, Binary::Greater);
            let c = g.add_node("cast", Op::Cast(Cast { to: DType::F32 }), &[c]);
            let (two, one) = (scalar(g, 2.0), scalar(g, 1.0));
            let c = g.add_node("mul", Op::Binary(Binary::Mul), &[c, two]);
            g.add_node("sub", Op::Binary(Binary::Sub), &[c, one])
        },
        Some(1.0),
    );
    // Larq: sign(sign(x) + 0.1), times a scale.
    check(
        |g, x| {
            let s = g.add_node("s", Op::Unary(Unary::Sign), &[x]);
            let tenth = scalar(g, 0.1);
            let s = g.add_node("add", Op::Binary(Binary::Add), &[s, tenth]);
            let s = g.add_node("s", Op::Unary(Unary::Sign), &[s]);
            let half = scalar(g, 0.5);
            g.add_node("mul", Op::Binary(Binary::Mul), &[half, s])
        },
        Some(0.5),
    );
    // One scale for each channel is no sign of one scale.
    check(
        |g, x| {
            let s = g.add_node("s", Op::Unary(Unary::Sign), &[x]);
            let scales = g.add_constant("s", Tensor::new([3, 1, 1], vec![0.5f32, 0.5, 0.25]));
            g.add_node("mul", Op::Binary(Binary::Mul), &[s, scales])
        },
        None,
    );
}

#[test]
fn biases_beside_a_prelu_or_a_sign_belong_to_it_and_others_do_not() {
    let mut graph = Graph::new("rprelu");
    let x = graph.add_input("x", DType::F32, vec![None, Some(3), Some(4), Some(4)]);
    let bias = graph.add_constant("b", Tensor::new([3, 1, 1], vec![0.5f32, -0.5, 0.25]));
    let plain = graph.add_node("plain", Op::Binary(Binary::Add), &[x, bias]);
    let relu = graph.add_node("relu", Op::Unary(Unary::Relu), &[plain]);
    let before = graph.add_node("before", Op::Binary(Binary::Add), &[bias, relu]);
    let before = graph.add_node("also", Op::Binary(Binary::Mul), &[before, bias]);
    let y = graph.add_node("prelu", Op::PRelu, &[before, bias]);
    let y = graph.add_node("after", Op::Binary(Binary::Add), &[y, bias]);
    graph.add_node("residual", Op::Binary(Binary::Add), &[y, x]);
    let named: Vec<&str> =
        functions(&graph).into_iter().map(|i| graph.nodes[i].name.as_str()).collect();
    assert_eq!(named, ["before", "also", "after"]);
}

/// A convolution between signs, as in Bi-Real Net, of the given weights.
fn signs(weights: Vec<f32>) -> Graph {
    let (mut net, x) = Net::new();
    let a = net.conv(x, 3, Activation::None);
    let zero = net.graph.add_constant("zero", Tensor::scalar(0f32));
    let [above, below] = [0.75, -0.75].map(|x| net.graph.add_constant("c", Tensor::scalar(x)));
    let positive = net.node(Op::Binary(Binary::GreaterOrEqual), &[a, zero]);
    let sign = net.node(Op::Where, &[positive, above, below]);
    let weight = net.graph.add_constant("binary", Tensor::new([4, 4, 3, 3], weights));
    let bias = net.graph.add_constant("bias", Tensor::vector(vec![0.1f32, -0.2, 0.3, 0.0]));
    let conv = Conv { pads: [1; 4], ..Conv::PLAIN };
    let b = net.node(Op::Conv(conv), &[sign, weight, bias]);
    let sum = net.node(Op::Binary(Binary::Add), &[a, b]);
    let y = net.conv(sum, 1, Activation::None);
    net.finish(y)
}

#[test]
fn signs_and_their_weights_are_quantized_without_loss() {
    let scales = [0.37f32, 0.05, 1.0 / 3.0, 2.0];
    let signs_of: Vec<f32> = noise(3, 144).iter().map(|x| x.signum()).collect();
    let weights: Vec<f32> = signs_of
        .iter()
        .enumerate()
        .map(|(i, s)| if i % 5 == 0 { 0.0 } else { s * scales[i / 36] })
        .collect();
    let graph = signs(weights.clone());
    for (bits, zero_point) in [(8, 128), (4, 8), (2, 2)] {
        let plan = Plan::new(&graph, true).unwrap();
        let calibration = calibrate(&graph, &plan, &Noise(4), RangeRule::Mse, &|_| {}).unwrap();
        let rounding = rounding(&graph, ("int8", bits));
        let quantized = quantize(&graph, &plan, &calibration, &rounding).unwrap();
        let sign = quantized.sites.iter().find(|site| site.parameters.scale == 0.75).unwrap();
        assert_eq!(sign.parameters.zero_point, zero_point);
        assert!(sign.channels.is_none());
        let layer = &quantized.weights[1];
        assert_eq!(layer.coded.decode(), weights);
        let (integers, found) = layer.coded.integers().unwrap();
        assert!(integers.iter().all(|code| [0, 64].contains(&code.abs())), "{integers:?}");
        assert_eq!(found, scales.map(|scale| scale / 64.0));
    }
}

#[test]
fn weights_of_several_magnitudes_have_the_scales_of_their_rule() {
    let weights: Vec<f32> = (0..144u8).map(|i| [0.5, -0.25][usize::from(i % 7 == 0)]).collect();
    let graph = signs(weights);
    let (_, quantized) = quantized(&graph, true, false);
    let (integers, _) = quantized.weights[1].coded.integers().unwrap();
    assert!(integers.contains(&127), "{integers:?}");
}
