//! Milliseconds of one training step of a residual block with quantized activations: recording, and the way back to weights and
//! scales. One thread.
//!
//! `cargo bench -p lowbit-graph --bench backward [-- BATCH]` prints the shortest of many.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::{Duration, Instant};

use lowbit_graph::{
    Binary, Blocking, Conv, DequantizeLinear, Graph, Op, QuantizeLinear, Session, Unary, ValueId,
    Workspace,
};
use lowbit_tensor::{DType, Rng, Tensor};

const CONV: Conv = Conv { pads: [1; 4], ..Conv::PLAIN };

fn random(dims: &[usize], rng: &mut Rng) -> Tensor {
    let len = dims.iter().product();
    Tensor::new(dims.to_vec(), (0..len).map(|_| rng.normal()).collect::<Vec<f32>>())
}

/// The graph, its feeds and which inputs are learned.
struct Block {
    graph: Graph,
    feeds: Vec<Tensor>,
    learned: Vec<ValueId>,
}

impl Block {
    fn input(&mut self, dims: &[usize], tensor: Tensor) -> ValueId {
        self.feeds.push(tensor);
        self.graph.add_input("input", DType::F32, dims.iter().map(|&d| Some(d)).collect())
    }

    fn conv(&mut self, x: ValueId, channels: usize, rng: &mut Rng) -> ValueId {
        let dims = [channels, channels, 3, 3];
        let weight = self.input(&dims, random(&dims, rng));
        let bias = self.input(&[channels], random(&[channels], rng));
        self.learned.extend([weight, bias]);
        self.graph.add_node("conv", Op::Conv(CONV), &[x, weight, bias])
    }

    fn quantized(&mut self, x: ValueId, bits: Bits) -> ValueId {
        let blocking = Blocking { axis: 0, block_size: 0 };
        let scale = self.input(&[], Tensor::scalar(0.25f32));
        self.learned.push(scale);
        let zero = self.graph.add_constant("zero", Tensor::scalar(0u8));
        let quantize = Op::QuantizeLinear(QuantizeLinear { blocking, to: DType::U8 });
        let mut codes = self.graph.add_node("q", quantize, &[x, scale, zero]);
        if let Bits::Four = bits {
            let limit = self.graph.add_constant("limit", Tensor::scalar(15u8));
            codes = self.graph.add_node("clip", Op::Clip, &[codes, zero, limit]);
        }
        let dequantize = Op::DequantizeLinear(DequantizeLinear { blocking });
        self.graph.add_node("dq", dequantize, &[codes, scale, zero])
    }
}

/// What activations are stored in.
#[derive(Clone, Copy, Debug)]
enum Bits {
    Float,
    Eight,
    Four,
}

fn block(bits: Bits, [n, channels, size]: [usize; 3]) -> Block {
    let mut block = Block { graph: Graph::new("block"), feeds: vec![], learned: vec![] };
    let mut rng = Rng::new(1);
    let dims = [n, channels, size, size];
    let x = block.input(&dims, random(&dims, &mut rng));
    let mut y = block.conv(x, channels, &mut rng);
    y = block.graph.add_node("relu", Op::Unary(Unary::Relu), &[y]);
    if !matches!(bits, Bits::Float) {
        y = block.quantized(y, bits);
    }
    y = block.conv(y, channels, &mut rng);
    y = block.graph.add_node("add", Op::Binary(Binary::Add), &[y, x]);
    y = block.graph.add_node("relu", Op::Unary(Unary::Relu), &[y]);
    block.graph.outputs = vec![y];
    block
}

/// The shortest of repeated steps: recording, way back.
fn times(block: &Block) -> [Duration; 2] {
    let session = Session::new(&block.graph).expect("the graph is sound");
    let feeds: Vec<&Tensor> = block.feeds.iter().collect();
    let mut work = Workspace::serial();
    let seeds = [(block.graph.outputs[0], block.feeds[0].clone())];
    let mut best = [Duration::MAX; 2];
    for _ in 0..100 {
        let begin = Instant::now();
        let tape = session.record(&feeds, &mut work).expect("it runs");
        let recorded = Instant::now();
        let grads = session.backward(&tape, &seeds, &block.learned, &mut work);
        best[0] = best[0].min(recorded - begin);
        best[1] = best[1].min(recorded.elapsed());
        grads.expect("it has gradients").into_iter().for_each(|grad| work.pool.give(grad));
        tape.recycle(&mut work);
    }
    best
}

fn main() {
    let given = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let n = given.unwrap_or(16);
    for [channels, size] in [[16, 32], [32, 16], [64, 8]] {
        for bits in [Bits::Float, Bits::Eight, Bits::Four] {
            let [record, back] = times(&block(bits, [n, channels, size]));
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            println!(
                "batch {n}, {channels:2} channels on {size:2}, {bits:?}: record {:.2} ms, back {:.2} ms",
                ms(record),
                ms(back),
            );
        }
    }
}
