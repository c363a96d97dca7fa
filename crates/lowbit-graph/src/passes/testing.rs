//! What the passes' tests share: random float graphs, and runs of a graph before and after a rewrite.

use lowbit_tensor::{DType, Rng, Tensor};

use super::{Pass, canonicalize, trace};
use crate::op::testing::normal;
use crate::{
    AutoPad, BatchNorm, Binary, Concat, Conv, Flatten, Gather, Gemm, Graph, Node, Op, Pad, PadMode,
    Pool2d, Reduce, ReduceKind, Reshape, Session, ShapeOf, Transpose, Unary, ValueId, Workspace,
};

/// The outputs of `graph` for one float input.
pub(crate) fn run(graph: &Graph, feed: &Tensor) -> Vec<Tensor> {
    let session = Session::new(graph).unwrap_or_else(|e| panic!("{e}\n{}", graph.dump()));
    let outputs = session.run(std::slice::from_ref(feed), &mut Workspace::serial());
    outputs.unwrap_or_else(|e| panic!("{e}\n{}", graph.dump()))
}

/// What `pass` makes of `graph`, tidied as [`canonicalize`] does.
pub(crate) fn apply(pass: Pass, graph: &Graph, example: &Tensor) -> Graph {
    let traced = trace(graph, std::slice::from_ref(example)).unwrap();
    let mut graph = pass(graph, &traced).unwrap();
    graph.remove_dead();
    graph.sort().unwrap();
    graph.verify().unwrap();
    graph
}

/// The canonical form of `graph`.
pub(crate) fn canonical(graph: &Graph, example: &Tensor) -> Graph {
    canonicalize(graph, std::slice::from_ref(example)).unwrap()
}

/// Operators' names in order.
pub(crate) fn names(graph: &Graph) -> Vec<&'static str> {
    graph.nodes.iter().map(|node| node.op.name()).collect()
}

/// The names the caller sees: inputs, then outputs.
pub(crate) fn ends(graph: &Graph) -> Vec<String> {
    let values = graph.inputs.iter().map(|i| i.value).chain(graph.outputs.iter().copied());
    values.map(|v| graph.value_name(v).to_owned()).collect()
}

/// Rewrites reorder float sums: outputs may differ by this part of the largest output (or of 1).
const TOLERANCE: f32 = 2e-5;

/// Both graphs have the same ends and compute the same for batches of one, two and three.
pub(crate) fn same(before: &Graph, after: &Graph, example: &Tensor, what: &str) {
    assert_eq!(ends(before), ends(after), "{what}");
    for batch in 1..=3 {
        let mut dims = example.shape().to_vec();
        dims[0] = batch;
        let feed = normal(&dims, &mut Rng::new(batch as u64));
        let (expected, found) = (run(before, &feed), run(after, &feed));
        for (e, f) in expected.iter().zip(&found) {
            assert_eq!(e.shape(), f.shape(), "{what}, batch {batch}");
            let largest = e.f32s().iter().fold(1.0f32, |m, x| m.max(x.abs()));
            for (e, f) in e.f32s().iter().zip(f.f32s()) {
                let near = (e - f).abs() <= TOLERANCE * largest;
                let dumps = || format!("{}\n{}", before.dump(), after.dump());
                assert!(near, "{what}, batch {batch}: {f}, expected {e}\n{}", dumps());
            }
        }
    }
}

/// A window of 2x2 in steps of 2.
pub(crate) const POOL: Pool2d = Pool2d {
    kernel: [2, 2],
    strides: [2, 2],
    dilations: [1, 1],
    pads: [0; 4],
    auto_pad: AutoPad::Explicit,
    ceil_mode: false,
    count_include_pad: false,
};

/// A graph being made, one block behind the other.
pub(crate) struct Maker {
    pub(crate) graph: Graph,
    pub(crate) rng: Rng,
    /// The last value.
    pub(crate) value: ValueId,
    /// Its shape for a batch of one.
    pub(crate) dims: Vec<usize>,
    earlier: Vec<(ValueId, Vec<usize>)>,
}

impl Maker {
    /// A graph of one float input with a free batch.
    pub(crate) fn new(dims: &[usize], seed: u64) -> Maker {
        let mut graph = Graph::new("made");
        let free = dims.iter().enumerate().map(|(i, &d)| (i > 0).then_some(d)).collect();
        let value = graph.add_input("x", DType::F32, free);
        Maker { graph, rng: Rng::new(seed), value, dims: dims.to_vec(), earlier: vec![] }
    }

    /// The graph whose one further output is the last value.
    pub(crate) fn finish(mut self) -> Graph {
        self.graph.outputs.push(self.value);
        self.graph
    }

    /// Appends `op` and makes its output the last value.
    pub(crate) fn then(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        self.value = self.node(op, inputs);
        self.value
    }

    /// Appends `op` on the last value and `more`.
    pub(crate) fn on(&mut self, op: Op, more: &[ValueId]) -> ValueId {
        let inputs: Vec<ValueId> = [&[self.value], more].concat();
        self.then(op, &inputs)
    }

    /// Appends `op` beside the last value.
    pub(crate) fn node(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        let name = format!("{}{}", op.name(), self.graph.nodes.len());
        self.graph.add_node(&name, op, inputs)
    }

    pub(crate) fn scalar(&mut self, value: f32) -> ValueId {
        self.graph.add_constant("scalar", Tensor::scalar(value))
    }

    pub(crate) fn ints(&mut self, values: &[i64]) -> ValueId {
        self.graph.add_constant("ints", Tensor::vector(values.to_vec()))
    }

    /// Normal values of this standard deviation.
    pub(crate) fn floats(&mut self, dims: &[usize], deviation: f32) -> ValueId {
        let values = normal(dims, &mut self.rng).f32s().iter().map(|v| v * deviation).collect();
        self.graph.add_constant("floats", Tensor::new(dims, values))
    }

    fn coin(&mut self) -> bool {
        self.rng.below(2) == 0
    }

    fn planes(&self) -> bool {
        self.dims.len() == 4
    }

    pub(crate) fn conv(&mut self) {
        if !self.planes() {
            return self.gemm();
        }
        let c = self.dims[1];
        let groups = [1, 2, c][self.rng.below(3)];
        let channels = if groups == c { c } else { [4, 6, 8][self.rng.below(3)] };
        let kernel = [1, 3][self.rng.below(2)];
        let wide = self.dims[2] >= 4 && self.dims[3] >= 4;
        let stride = if wide { 1 + self.rng.below(2) } else { 1 };
        let pad = kernel / 2;
        let fan_in = (c / groups * kernel * kernel) as f32;
        let weight = self.floats(&[channels, c / groups, kernel, kernel], fan_in.sqrt().recip());
        let op = Conv { strides: [stride; 2], pads: [pad; 4], groups, ..Conv::PLAIN };
        if self.coin() {
            let bias = self.floats(&[channels], 0.5);
            self.on(Op::Conv(op), &[weight, bias]);
        } else {
            self.on(Op::Conv(op), &[weight]);
        }
        let extent = |d: usize| (d + 2 * pad - kernel) / stride + 1;
        self.dims = vec![1, channels, extent(self.dims[2]), extent(self.dims[3])];
        if self.rng.below(4) == 0 {
            let dims = if self.coin() { vec![channels, 1, 1] } else { vec![1, channels, 1, 1] };
            let added = self.floats(&dims, 0.5);
            self.on(Op::Binary(Binary::Add), &[added]);
        }
    }

    pub(crate) fn gemm(&mut self) {
        if self.planes() {
            return self.flatten();
        }
        let (k, n) = (self.dims[1], [3, 4, 8][self.rng.below(3)]);
        let transpose_b = self.coin();
        let dims = if transpose_b { [n, k] } else { [k, n] };
        let weight = self.floats(&dims, (k as f32).sqrt().recip());
        let bias = self.floats(&[n], 0.5);
        let alpha = [1.0, 1.0, 0.5][self.rng.below(3)];
        let gemm = Gemm { transpose_b, alpha, ..Gemm::PLAIN };
        match self.rng.below(4) {
            0 => {
                let _ = self.on(Op::Gemm(gemm), &[weight]);
            }
            1 => {
                let _ = self.on(Op::Gemm(gemm), &[weight, bias]);
            }
            2 => {
                let _ = self.on(Op::Gemm(Gemm { beta: 0.5, ..gemm }), &[weight, bias]);
            }
            _ => {
                let weight = self.floats(&[k, n], (k as f32).sqrt().recip());
                let product = self.on(Op::MatMul, &[weight]);
                if self.coin() {
                    self.then(Op::Binary(Binary::Add), &[bias, product]);
                } else {
                    self.then(Op::Binary(Binary::Add), &[product, bias]);
                }
            }
        }
        self.dims = vec![1, n];
    }

    fn batch_norm(&mut self) {
        let c = self.dims[1];
        let (scale, bias, mean) =
            (self.floats(&[c], 1.0), self.floats(&[c], 0.5), self.floats(&[c], 0.5));
        let variance = (0..c).map(|_| 0.3 + self.rng.uniform()).collect();
        let variance = self.graph.add_constant("variance", Tensor::vector::<f32>(variance));
        self.on(Op::BatchNorm(BatchNorm { epsilon: 1e-5 }), &[scale, bias, mean, variance]);
    }

    fn activation(&mut self) {
        match self.rng.below(4) {
            0 => {
                let _ = self.on(Op::Unary(Unary::Relu), &[]);
            }
            1 => {
                let _ = self.on(Op::Unary(Unary::LeakyRelu { alpha: 0.1 }), &[]);
            }
            2 => {
                let (low, high) = (self.scalar(-0.5), self.scalar(1.5));
                self.on(Op::Clip, &[low, high]);
            }
            _ => {
                let high = self.scalar(1.0);
                let value = self.on(Op::Clip, &[]);
                let node = self.graph.nodes.last_mut().unwrap();
                node.inputs.extend([None, Some(high)]);
                assert_eq!(node.output(), value);
            }
        }
    }

    /// clip(x + 3, 0, 6).
    fn gate(&mut self, x: ValueId) -> ValueId {
        let (three, low, high) = (self.scalar(3.0), self.scalar(0.0), self.scalar(6.0));
        let sum = self.node(Op::Binary(Binary::Add), &[x, three]);
        self.node(Op::Clip, &[sum, low, high])
    }

    pub(crate) fn hard_swish(&mut self, form: usize) {
        let (x, six) = (self.value, self.scalar(6.0));
        let (mul, div) = (Op::Binary(Binary::Mul), Op::Binary(Binary::Div));
        if form == 0 {
            let gate =
                self.node(Op::Unary(Unary::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }), &[x]);
            self.then(mul, &[gate, x]);
            return;
        }
        let gate = self.gate(x);
        match form {
            1 => {
                let product = self.node(mul, &[x, gate]);
                self.then(div, &[product, six]);
            }
            2 => {
                let sixth = self.scalar(1.0 / 6.0);
                let gate = self.node(mul.clone(), &[sixth, gate]);
                self.then(mul, &[gate, x]);
            }
            _ => {
                let scaled = self.node(div, &[x, six]);
                self.then(mul, &[scaled, gate]);
            }
        }
    }

    pub(crate) fn silu(&mut self) {
        let x = self.value;
        let gate = self.node(Op::Unary(Unary::Sigmoid), &[x]);
        self.then(Op::Binary(Binary::Mul), &[x, gate]);
    }

    /// The argument of tanh in GELU: √(2/π)·(x + 0.044715·x³).
    fn tanh_argument(&mut self, x: ValueId) -> ValueId {
        let mul = Op::Binary(Binary::Mul);
        let cube = if self.coin() {
            let three = self.scalar(3.0);
            self.node(Op::Binary(Binary::Pow), &[x, three])
        } else {
            let square = self.node(mul.clone(), &[x, x]);
            self.node(mul.clone(), &[square, x])
        };
        let (small, root) = (self.scalar(0.044_715), self.scalar(0.797_884_6));
        let term = self.node(mul.clone(), &[cube, small]);
        let sum = self.node(Op::Binary(Binary::Add), &[x, term]);
        self.node(mul, &[sum, root])
    }

    pub(crate) fn gelu(&mut self, by_tanh: bool, form: usize) {
        let (x, mul) = (self.value, Op::Binary(Binary::Mul));
        let gate = if by_tanh {
            let argument = self.tanh_argument(x);
            self.node(Op::Unary(Unary::Tanh), &[argument])
        } else {
            let root = self.scalar(std::f32::consts::SQRT_2);
            let argument = self.node(Op::Binary(Binary::Div), &[x, root]);
            self.node(Op::Unary(Unary::Erf), &[argument])
        };
        let (one, half) = (self.scalar(1.0), self.scalar(0.5));
        let gate = self.node(Op::Binary(Binary::Add), &[gate, one]);
        match form {
            0 => {
                let product = self.node(mul.clone(), &[x, gate]);
                self.then(mul, &[product, half]);
            }
            1 => {
                let left = self.node(mul.clone(), &[x, half]);
                self.then(mul, &[left, gate]);
            }
            _ => {
                let right = self.node(mul.clone(), &[half, gate]);
                self.then(mul, &[x, right]);
            }
        }
    }

    fn nonlinear(&mut self) {
        match self.rng.below(4) {
            0 => {
                let form = self.rng.below(4);
                self.hard_swish(form);
            }
            1 => self.silu(),
            _ => {
                let (by_tanh, form) = (self.coin(), self.rng.below(3));
                self.gelu(by_tanh, form);
            }
        }
    }

    fn join(&mut self) {
        let same: Vec<ValueId> =
            self.earlier.iter().filter(|e| e.1 == self.dims).map(|e| e.0).collect();
        if same.is_empty() {
            return;
        }
        let other = same[self.rng.below(same.len())];
        if self.coin() || self.dims[1] > 8 {
            self.on(Op::Binary(Binary::Add), &[other]);
        } else {
            self.on(Op::Concat(Concat { axis: 1 }), &[other]);
            self.dims[1] *= 2;
        }
    }

    fn pool(&mut self) {
        if !self.planes() || self.dims[2] < 4 || self.dims[3] < 4 {
            return;
        }
        let pool = Pool2d { count_include_pad: self.coin(), ..POOL };
        let op = if self.coin() { Op::MaxPool(pool) } else { Op::AveragePool(pool) };
        self.on(op, &[]);
        self.dims[2] /= 2;
        self.dims[3] /= 2;
    }

    fn noop(&mut self) {
        let dims: Vec<i64> = self.dims.iter().map(|&d| d as i64).collect();
        match self.rng.below(5) {
            0 => {
                let _ = self.on(Op::Identity, &[]);
            }
            1 => {
                let pads = self.ints(&vec![0; 2 * dims.len()]);
                self.on(Op::Pad(Pad { mode: PadMode::Constant }), &[pads]);
            }
            2 => {
                let (starts, ends, axes) = (self.ints(&[0]), self.ints(&[99]), self.ints(&[1]));
                self.on(Op::Slice, &[starts, ends, axes]);
            }
            3 => {
                let shape = self.ints(&[&[-1], &dims[1..]].concat());
                self.on(Op::Reshape(Reshape { allow_zero: false }), &[shape]);
            }
            _ => {
                let perm = Some((0..dims.len()).collect());
                self.on(Op::Transpose(Transpose { perm }), &[]);
            }
        }
    }

    pub(crate) fn flatten(&mut self) {
        if !self.planes() {
            return;
        }
        let features: usize = self.dims[1..].iter().product();
        match self.rng.below(3) {
            0 => {
                let _ = self.on(Op::Flatten(Flatten { axis: 1 }), &[]);
            }
            1 => self.reshape_by_shape(&[features as i64]),
            _ => self.reshape_by_shape(&[-1]),
        }
        self.dims = vec![1, features];
    }

    /// Reshape to [n, rest], with n computed by the graph.
    pub(crate) fn reshape_by_shape(&mut self, rest: &[i64]) {
        let shape = self.node(Op::Shape(ShapeOf { start: 0, end: None }), &[self.value]);
        let (first, axes) =
            (self.graph.add_constant("first", Tensor::scalar(0i64)), self.ints(&[0]));
        let batch = self.node(Op::Gather(Gather { axis: 0 }), &[shape, first]);
        let batch = self.node(Op::Unsqueeze, &[batch, axes]);
        let rest = self.ints(rest);
        let wanted = self.node(Op::Concat(Concat { axis: 0 }), &[batch, rest]);
        let allow_zero = self.coin();
        self.on(Op::Reshape(Reshape { allow_zero }), &[wanted]);
    }

    fn mean(&mut self) {
        if !self.planes() {
            return;
        }
        let keep_dims = self.coin();
        if self.rng.below(3) == 0 {
            self.on(Op::GlobalAveragePool, &[]);
        } else {
            let axes = if self.coin() { self.ints(&[2, 3]) } else { self.ints(&[-1, -2]) };
            let reduce = Reduce { kind: ReduceKind::Mean, keep_dims, noop_with_empty_axes: false };
            self.on(Op::Reduce(reduce), &[axes]);
            if !keep_dims {
                return self.dims.truncate(2);
            }
        }
        self.dims = vec![1, self.dims[1], 1, 1];
        self.flatten();
    }

    fn block(&mut self) {
        match self.rng.below(12) {
            0..=3 => self.conv(),
            4 | 5 => self.batch_norm(),
            6 => self.activation(),
            7 => self.nonlinear(),
            8 => self.join(),
            9 => self.pool(),
            10 => self.noop(),
            _ => {
                if self.rng.below(4) == 0 {
                    self.mean();
                }
            }
        }
    }
}

/// A graph of 4 to 12 blocks and an example that it runs on. Some of its inner values are outputs too.
pub(crate) fn random_graph(seed: u64) -> (Graph, Tensor) {
    let mut rng = Rng::new(seed);
    let dims = match rng.below(6) {
        0 => vec![1, 6],
        _ => vec![1, [4, 6][rng.below(2)], 5 + rng.below(4), 5 + rng.below(4)],
    };
    let example = normal(&dims, &mut rng);
    let mut maker = Maker::new(&dims, rng.next_u64());
    for _ in 0..4 + rng.below(9) {
        maker.block();
        maker.earlier.push((maker.value, maker.dims.clone()));
        if rng.below(10) == 0 && !maker.graph.outputs.contains(&maker.value) {
            maker.graph.outputs.push(maker.value);
        }
    }
    if rng.below(3) == 0 {
        maker.flatten();
        maker.gemm();
    }
    if maker.graph.outputs.contains(&maker.value) || maker.graph.nodes.is_empty() {
        maker.on(Op::Unary(Unary::Neg), &[]);
    }
    (maker.finish(), example)
}

/// The only node of this name.
pub(crate) fn only<'a>(graph: &'a Graph, op: &str) -> &'a Node {
    let found: Vec<&Node> = graph.nodes.iter().filter(|node| node.op.name() == op).collect();
    assert_eq!(found.len(), 1, "one {op} in\n{}", graph.dump());
    found[0]
}
