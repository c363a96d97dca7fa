//! A ReActNet-style network from a float file to bits: quantized, written in each format, read back, compiled.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::error::Error;
use std::fs;
use std::path::Path;

use lowbit::{Float, Format, Model, Notes, Recipe, Runner};
use lowbit_graph::{Binary, Conv, Flatten, Gemm, Graph, Op, ValueId, Workspace};
use lowbit_kernels::Isa;
use lowbit_ptq::Samples;
use lowbit_runtime::{Network, Plan};
use lowbit_tensor::{DType, Rng, Tensor};

const CHANNELS: usize = 40;
const DIMS: [usize; 4] = [1, 3, 12, 12];

struct Noise;

impl Samples for Noise {
    fn len(&self) -> usize {
        6
    }

    fn get(&self, index: usize) -> Result<Tensor, Box<dyn Error + Send + Sync>> {
        let mut rng = Rng::new(index as u64);
        let values = (0..DIMS.iter().product()).map(|_| rng.normal()).collect::<Vec<f32>>();
        Ok(Tensor::new(DIMS.to_vec(), values))
    }
}

/// Constants and nodes of a network.
struct Net {
    graph: Graph,
    rng: Rng,
}

impl Net {
    fn constant(&mut self, shape: &[usize], deviation: f32) -> ValueId {
        let count: usize = shape.iter().product();
        let values = (0..count).map(|_| deviation * self.rng.normal()).collect::<Vec<f32>>();
        self.graph.add_constant("c", Tensor::new(shape.to_vec(), values))
    }

    fn binary(&mut self, binary: Binary, a: ValueId, b: ValueId) -> ValueId {
        self.graph.add_node("binary", Op::Binary(binary), &[a, b])
    }

    /// A convolution of signs of shifted values, summed with them, and a shifted PRelu.
    fn block(&mut self, x: ValueId, ternary: bool) -> ValueId {
        let [shift, before, after] = [0.3, 0.1, 0.1].map(|d| self.constant(&[CHANNELS, 1, 1], d));
        let [zero, one, minus] =
            [0.0, 1.0, -1.0f32].map(|x| self.graph.add_constant("c", Tensor::scalar(x)));
        let shifted = self.binary(Binary::Add, x, shift);
        let positive = self.binary(Binary::GreaterOrEqual, shifted, zero);
        let sign = self.graph.add_node("where", Op::Where, &[positive, one, minus]);
        let shape = vec![CHANNELS, CHANNELS, 3, 3];
        let magnitude = |o: usize| 0.02 + 0.001 * o as f32;
        let level = |rng: &mut Rng| {
            if ternary { rng.below(3) as f32 - 1.0 } else { rng.below(2) as f32 * 2.0 - 1.0 }
        };
        let weights = (0..shape.iter().product())
            .map(|i: usize| level(&mut self.rng) * magnitude(i / (9 * CHANNELS)))
            .collect::<Vec<f32>>();
        let weights = self.graph.add_constant("w", Tensor::new(shape, weights));
        let bias = self.constant(&[CHANNELS], 0.2);
        let conv = Conv { pads: [1; 4], ..Conv::PLAIN };
        let y = self.graph.add_node("signs", Op::Conv(conv), &[sign, weights, bias]);
        let y = self.binary(Binary::Add, y, x);
        let y = self.binary(Binary::Add, y, before);
        let slope = self.graph.add_constant("slope", Tensor::scalar(0.25f32));
        let y = self.graph.add_node("prelu", Op::PRelu, &[y, slope]);
        self.binary(Binary::Add, y, after)
    }
}

fn network() -> Graph {
    let mut net = Net { graph: Graph::new("net"), rng: Rng::new(1) };
    let dims = DIMS.map(Some).to_vec();
    let x = net.graph.add_input("image", DType::F32, dims);
    let weights = net.constant(&[CHANNELS, 3, 3, 3], 0.2);
    let mut x =
        net.graph.add_node("first", Op::Conv(Conv { pads: [1; 4], ..Conv::PLAIN }), &[x, weights]);
    for ternary in [false, true] {
        x = net.block(x, ternary);
    }
    let x = net.graph.add_node("mean", Op::GlobalAveragePool, &[x]);
    let x = net.graph.add_node("flat", Op::Flatten(Flatten { axis: 1 }), &[x]);
    let weights = net.constant(&[CHANNELS, 10], 0.2);
    let scores = net.graph.add_node("scores", Op::Gemm(Gemm::PLAIN), &[x, weights]);
    net.graph.outputs = vec![scores];
    net.graph
}

#[test]
fn a_float_network_of_signs_runs_on_bits_from_every_format() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("signs.onnx");
    fs::write(&path, lowbit_onnx::export_bytes(&network()).unwrap()).unwrap();
    let float = Float::load(&path, None).unwrap();
    let recipe = Recipe::default();
    let calibrated = float.calibrate(&Noise, &recipe, &|_| {}).unwrap();
    let quantized = calibrated.quantize(&Noise, 0, &()).unwrap();
    let scores = |runner: &Runner| -> Vec<u32> {
        let score = |i| runner.scores(Noise.get(i).unwrap(), &mut Workspace::serial()).unwrap();
        (0..6).flat_map(score).map(f32::to_bits).collect()
    };
    let expected = scores(&Runner::oracle(&quantized.integer).unwrap());
    for format in [Format::Qdq, Format::QdqPacked, Format::Qonnx] {
        fs::write(&path, quantized.to_bytes(format, &Notes::default()).unwrap()).unwrap();
        let graph = Model::load(&path, None).unwrap().graph;
        let runner = Runner::new(&graph, &DIMS).unwrap();
        assert!(runner.is_compiled() && scores(&runner) == expected, "{format:?}");
        let plan = Plan::new(&Network::new(&graph, &DIMS).unwrap(), Isa::Portable);
        let steps = plan.steps();
        let kernels = ["binary portable", "ternary portable"];
        for kernel in kernels {
            let of_kernel = steps.iter().filter(|step| step.kernel == Some(kernel));
            let kinds: Vec<&str> = of_kernel.map(|step| step.kind).collect();
            assert_eq!(kinds, ["conv + add"], "{format:?}: {kernel}");
        }
        let count = |kind: &str| steps.iter().filter(|step| step.kind == kind).count();
        assert_eq!([count("pack"), count("table"), count("island")], [2, 2, 0], "{format:?}");
    }
}
