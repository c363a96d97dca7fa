use std::error::Error;

use lowbit_graph::passes::{Runs, lower_qdq};
use lowbit_graph::{Activation, Binary, Conv, Gemm, Graph, Op, Unary, ValueId};
use lowbit_quant::{Quantizer, RangeRule};
use lowbit_tensor::{DType, Tensor};

use super::*;

/// Numbers in -1..1 that look random.
pub(crate) fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

pub(crate) struct Noise(pub(crate) usize);

impl Samples for Noise {
    fn len(&self) -> usize {
        self.0
    }

    fn get(&self, index: usize) -> Result<Tensor, Box<dyn Error + Send + Sync>> {
        Ok(Tensor::new([1, 4, 6, 6].to_vec(), noise(index as u64 + 1, 4 * 36)))
    }
}

pub(crate) struct Net {
    pub(crate) graph: Graph,
    seed: u64,
}

impl Net {
    pub(crate) fn new() -> (Net, ValueId) {
        let mut graph = Graph::new("net");
        let x = graph.add_input("x", DType::F32, [1, 4, 6, 6].map(Some).to_vec());
        (Net { graph, seed: 100 }, x)
    }

    /// A convolution of 4 channels whose outputs differ in magnitude.
    pub(crate) fn conv(&mut self, x: ValueId, kernel: usize, activation: Activation) -> ValueId {
        self.seed += 1;
        let mut weight = noise(self.seed, 16 * kernel * kernel);
        let row = weight.len() / 4;
        weight.iter_mut().enumerate().for_each(|(i, w)| *w *= [1.0, 0.3, 0.1, 0.03][i / row]);
        let weight = Tensor::new(vec![4, 4, kernel, kernel], weight);
        let name = format!("conv{}", self.seed);
        let weight = self.graph.add_constant(&format!("{name}_w"), weight);
        let bias = Tensor::vector(noise(self.seed + 50, 4).iter().map(|b| b * 0.1).collect());
        let bias = self.graph.add_constant(&format!("{name}_b"), bias);
        let pad = kernel / 2;
        let conv = Conv { pads: [pad; 4], activation, ..Conv::PLAIN };
        self.graph.add_node(&name, Op::Conv(conv), &[x, weight, bias])
    }

    pub(crate) fn node(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        self.seed += 1;
        self.graph.add_node(&format!("node{}", self.seed), op, inputs)
    }

    pub(crate) fn finish(mut self, output: ValueId) -> Graph {
        self.graph.outputs = vec![output];
        self.graph
    }
}

pub(crate) fn residual() -> Graph {
    let (mut net, x) = Net::new();
    let a = net.conv(x, 3, Activation::Relu);
    let b = net.conv(a, 3, Activation::None);
    let sum = net.node(Op::Binary(Binary::Add), &[a, b]);
    let y = net.conv(sum, 1, Activation::None);
    net.finish(y)
}

pub(crate) fn squeeze_excite() -> Graph {
    let (mut net, x) = Net::new();
    let a = net.conv(x, 3, Activation::None);
    let a = net.node(Op::Unary(Unary::HardSwish), &[a]);
    let pooled = net.node(Op::GlobalAveragePool, &[a]);
    let gate = net.conv(pooled, 1, Activation::None);
    let gate = net.node(Op::Unary(Unary::HardSigmoid { alpha: 0.2, beta: 0.5 }), &[gate]);
    let product = net.node(Op::Binary(Binary::Mul), &[a, gate]);
    let y = net.conv(product, 1, Activation::None);
    net.finish(y)
}

/// Every layer with one preset for its weights and activations of some bits, the first and last at 8.
pub(crate) fn rounding(graph: &Graph, (weights, bits): (&str, u8)) -> Rounding {
    let assignment = Assignment::new(graph, |_, position| {
        let wide = position != Position::Middle;
        Layer {
            weights: Quantizer::preset(if wide { "int8" } else { weights }).unwrap(),
            activation_bits: if wide { 8 } else { bits },
        }
    });
    Rounding::new(assignment, 0)
}

pub(crate) fn quantized(
    graph: &Graph,
    channel_scales: bool,
    bias_correction: bool,
) -> (Plan, QuantizedGraph) {
    let plan = Plan::new(graph, channel_scales).unwrap();
    let calibration = calibrate(graph, &plan, &Noise(16), RangeRule::MinMax, &|_| {}).unwrap();
    let quantized = quantize(graph, &plan, &calibration, &rounding(graph, ("int8", 8))).unwrap();
    let corrected = self::bias_correction(graph, &quantized, &calibration);
    (plan, if bias_correction { corrected } else { quantized })
}

pub(crate) fn errors(graph: &Graph, quantized: &QuantizedGraph) -> Vec<LayerError> {
    let (integer, placements) = lower_qdq(&quantized.graph).unwrap();
    for placement in &placements {
        let in_float = matches!(placement.runs, Runs::Float(_));
        assert!(!in_float || placement.op.starts_with("Hard"), "{placement:?}");
    }
    layer_errors(graph, quantized, &integer, &Noise(16), &|_| {}).unwrap()
}

#[test]
fn factors_pass_through_gates_but_not_residual_adds() {
    let plan = Plan::new(&residual(), true).unwrap();
    assert!(plan.regions.is_empty(), "{plan:?}");
    let plan = Plan::new(&squeeze_excite(), true).unwrap();
    assert!(plan.regions.iter().any(|r| r.groups.len() == 3 && r.readers.len() == 2), "{plan:?}");
}

#[test]
fn everything_but_activations_runs_on_integers_and_scales_per_channel_help() {
    for graph in [residual(), squeeze_excite()] {
        let last = |channel_scales| {
            let (_, quantized) = quantized(&graph, channel_scales, true);
            errors(&graph, &quantized).last().unwrap().sqnr_db
        };
        let (without, with) = (last(false), last(true));
        assert!(with > without - 0.5 && with > 25.0, "{with} dB with, {without} dB without");
    }
}

#[test]
fn what_every_reader_cuts_is_no_error() {
    let (mut net, x) = Net::new();
    let a = net.conv(x, 3, Activation::None);
    // Most of it lies below -3, where hard-swish is 0 and no range is spent.
    let scale = net.graph.add_constant("scale", Tensor::scalar(20.0f32));
    let a = net.node(Op::Binary(Binary::Mul), &[a, scale]);
    let swish = net.node(Op::Unary(Unary::HardSwish), &[a]);
    let y = net.conv(swish, 1, Activation::None);
    let graph = net.finish(y);
    let (plan, quantized) = quantized(&graph, false, false);
    assert!(plan.groups.iter().any(|group| group.root == a && group.limits.0 == -3.0), "{plan:?}");
    let errors = errors(&graph, &quantized);
    let of = |value| errors.iter().find(|error| error.value == value).unwrap().sqnr_db;
    assert!(of(a) > 35.0 && of(swish) > 35.0, "{} dB, {} dB", of(a), of(swish));
}

#[test]
fn calibration_is_the_same_at_any_thread_count() {
    let graph = squeeze_excite();
    let plan = Plan::new(&graph, true).unwrap();
    for rule in RangeRule::NAMES.split(", ") {
        let rule = RangeRule::parse(rule).unwrap();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| calibrate(&graph, &plan, &Noise(20), rule, &|_| {}).unwrap())
        };
        let (one, two) = (run(1), run(2));
        assert_eq!(one.channels, two.channels, "{rule:?}");
        assert_eq!(one.means, two.means, "{rule:?}");
        let parameters =
            |c: &Calibration| c.parameters(&graph, &plan, &vec![8; plan.groups.len()]).unwrap();
        assert_eq!(parameters(&one), parameters(&two));
    }
}

#[test]
fn weights_that_are_not_finite_are_refused_by_name() {
    let mut graph = residual();
    let weight = graph.nodes[1].input(1).unwrap();
    let mut values = graph.constant(weight).unwrap().f32s().to_vec();
    values[3] = f32::NAN;
    graph.set_constant(weight, Tensor::new(vec![4, 4, 3, 3], values));
    let plan = Plan::new(&graph, false).unwrap();
    let clean = residual();
    let calibration = calibrate(&clean, &plan, &Noise(2), RangeRule::Mse, &|_| {}).unwrap();
    let rounding = rounding(&graph, ("int8", 8));
    let error = quantize(&graph, &plan, &calibration, &rounding).unwrap_err().to_string();
    assert!(error.contains(&graph.nodes[1].name), "{error}");
}

#[test]
fn quantized_and_empty_graphs_are_refused() {
    let (_, quantized) = quantized(&residual(), true, true);
    let again = Plan::new(&quantized.graph, true);
    assert!(matches!(again, Err(PtqError::AlreadyQuantized { .. })), "{again:?}");
    let (mut net, x) = Net::new();
    let y = net.node(Op::Unary(Unary::Relu), &[x]);
    let nothing = Plan::new(&net.finish(y), true);
    assert!(matches!(nothing, Err(PtqError::NothingToQuantize)), "{nothing:?}");
}

#[test]
fn logits_of_a_last_fully_connected_layer_stay_float() {
    let (mut net, x) = Net::new();
    let a = net.conv(x, 3, Activation::Relu);
    let pooled = net.node(Op::GlobalAveragePool, &[a]);
    let flat = net.node(Op::Flatten(lowbit_graph::Flatten { axis: 1 }), &[pooled]);
    let weight = net.graph.add_constant("fc", Tensor::new(vec![4, 3], noise(7, 12)));
    let gemm = Gemm::PLAIN;
    let logits = net.node(Op::Gemm(gemm), &[flat, weight]);
    let graph = net.finish(logits);
    let (plan, quantized) = quantized(&graph, true, true);
    assert!(plan.groups.iter().all(|group| !group.members.contains(&logits)));
    assert_eq!(plan.regions.len(), 1, "{plan:?}");
    assert!(errors(&graph, &quantized).last().unwrap().sqnr_db > 25.0);
}

/// Two convolutions and a fully connected layer of columns.
pub(crate) fn mixed() -> Graph {
    let (mut net, x) = Net::new();
    let b = two_convolutions(&mut net, x);
    let flat = net.node(Op::Flatten(lowbit_graph::Flatten { axis: 1 }), &[b]);
    with_columns(net, flat)
}

/// As [`mixed`], with a batch of one image written into a Reshape.
pub(crate) fn one_image() -> Graph {
    let (mut net, x) = Net::new();
    let b = two_convolutions(&mut net, x);
    let shape = net.graph.add_constant("shape", Tensor::vector(vec![1i64, 144]));
    let flat = net.node(Op::Reshape(lowbit_graph::Reshape { allow_zero: false }), &[b, shape]);
    with_columns(net, flat)
}

fn two_convolutions(net: &mut Net, x: ValueId) -> ValueId {
    let a = net.conv(x, 3, Activation::Relu);
    net.conv(a, 3, Activation::Relu)
}

/// Ends in a fully connected layer that reads 144 numbers.
fn with_columns(mut net: Net, flat: ValueId) -> Graph {
    let weight = net.graph.add_constant("fc", Tensor::new(vec![144, 12], noise(7, 144 * 12)));
    let gemm = Gemm::PLAIN;
    let logits = net.node(Op::Gemm(gemm), &[flat, weight]);
    net.finish(logits)
}

/// Every layer with one quantizer.
pub(crate) fn rounding_by(graph: &Graph, weights: &Quantizer) -> Rounding {
    let layer = |_: &lowbit_graph::Node, _| Layer { weights: weights.clone(), activation_bits: 8 };
    Rounding::new(Assignment::new(graph, layer), 0)
}
