//! Quantized graphs drawn at random, with ties, extremes, tails and every form of step.

use lowbit_graph::{
    Activation, AutoPad, BatchNorm, Binary, Blocking, Concat, Conv, DequantizeLinear, Flatten,
    Gemm, Graph, Op, Pad, PadMode, Pool2d, QuantizeLinear, Softmax, Unary, ValueId,
};
use lowbit_tensor::{DType, Rng, Tensor};

/// A graph under construction: codes of one type, with the size of the last image.
struct Draw {
    graph: Graph,
    rng: Rng,
    signed: bool,
    /// Codes, their parameters, and [channels, height, width].
    last: (ValueId, [ValueId; 2], [usize; 3]),
}

impl Draw {
    fn new(seed: u64) -> Draw {
        let mut draw = Draw::open(seed);
        draw.quantize();
        draw
    }

    /// As [`Draw::new`], but the last value is the input, still floats.
    fn open(seed: u64) -> Draw {
        Draw::of_size(seed, [1, 5, 5])
    }

    /// As [`Draw::open`], the image being at least of that size.
    fn of_size(seed: u64, [c, h, w]: [usize; 3]) -> Draw {
        let mut rng = Rng::new(seed);
        let mut graph = Graph::new("drawn");
        let size = [c + rng.below(5), h + rng.below(9), w + rng.below(9)];
        let dims = vec![None, Some(size[0]), Some(size[1]), Some(size[2])];
        let x = graph.add_input("x", DType::F32, dims);
        let signed = rng.below(3) == 0;
        Draw { graph, rng, signed, last: (x, [x, x], size) }
    }

    /// Makes codes of the last value.
    fn quantize(&mut self) {
        let (x, _, size) = self.last;
        let to = self.parameters();
        let quantize = QuantizeLinear { blocking: WHOLE, to: self.dtype() };
        let codes = self.graph.add_node("q", Op::QuantizeLinear(quantize), &[x, to[0], to[1]]);
        self.last = (codes, to, size);
    }

    /// Makes floats of the last value.
    fn dequantize(&mut self) {
        let (x, from, size) = self.last;
        let dequantize = Op::DequantizeLinear(DequantizeLinear { blocking: WHOLE });
        let floats = self.graph.add_node("dq", dequantize, &[x, from[0], from[1]]);
        self.last = (floats, from, size);
    }

    fn dtype(&self) -> DType {
        if self.signed { DType::I8 } else { DType::U8 }
    }

    fn below(&mut self, n: usize) -> usize {
        self.rng.below(n)
    }

    /// A scale; powers of two make many sums lie halfway between codes.
    fn scale(&mut self) -> f32 {
        match self.below(2) {
            0 => [0.0625, 0.03125, 0.015_625][self.below(3)],
            _ => 0.01 + self.rng.uniform() * 0.05,
        }
    }

    fn parameters(&mut self) -> [ValueId; 2] {
        let scale = self.scale();
        let zero_point = self.below(256);
        let scale = self.graph.add_constant("scale", Tensor::scalar(scale));
        let zero_point = if self.signed {
            Tensor::scalar((zero_point as i32 - 128) as i8)
        } else {
            Tensor::scalar(zero_point as u8)
        };
        [scale, self.graph.add_constant("zero", zero_point)]
    }

    fn weights(&mut self, shape: &[usize]) -> [ValueId; 3] {
        let outputs = shape[0];
        // Few different values are kept in few bits.
        let levels = [256, 256, 16, 4, 2][self.below(5)];
        let level = |draw: &mut Draw| (draw.below(levels) * (255 / (levels - 1))) as i32 - 128;
        let values = (0..shape.iter().product()).map(|_| level(self) as i8);
        let values = values.collect::<Vec<i8>>();
        let per_channel = self.below(2) == 0;
        let count = if per_channel { outputs } else { 1 };
        let scales: Vec<f32> = (0..count).map(|_| self.scale() / 8.0).collect();
        let w = self.graph.add_constant("w", Tensor::new(shape.to_vec(), values));
        let s = self.graph.add_constant("ws", Tensor::vector(scales));
        let z = self.graph.add_constant("wz", Tensor::vector(vec![0i8; count]));
        [w, s, z]
    }

    fn bias(&mut self, outputs: usize) -> ValueId {
        let bias = (0..outputs).map(|_| self.below(4000) as i32 - 2000).collect::<Vec<i32>>();
        self.graph.add_constant("bias", Tensor::vector(bias))
    }

    /// A convolution of an image, the shape of its weights, and the size of its result.
    fn placed(&mut self, [c, h, w]: [usize; 3]) -> (Conv, [usize; 4], [usize; 3]) {
        let kernel = [1 + self.below(3.min(h)), 1 + self.below(3.min(w))];
        let (groups, outputs) = match self.below(3) {
            0 => (c, c),
            1 if c % 2 == 0 => (2, 2 * (1 + self.below(9))),
            _ => (1, 1 + self.below(40)),
        };
        let reach = |k: usize, extent: usize| if 2 * (k - 1) < extent { 2 } else { 1 };
        let dilations = [0, 1].map(|a| {
            let most = reach(kernel[a], [h, w][a]);
            1 + self.rng.below(most)
        });
        let pads = [0, 1, 0, 1].map(|a| self.rng.below(kernel[a]));
        let conv = Conv {
            strides: [1 + self.below(2), 1 + self.below(2)],
            dilations,
            pads,
            groups,
            ..Conv::PLAIN
        };
        let window = conv.window([h, w], kernel).expect("the kernel fits");
        let size = [outputs, window.output[0], window.output[1]];
        (conv, [outputs, c / groups, kernel[0], kernel[1]], size)
    }

    fn conv(&mut self) {
        let (x, from, image) = self.last;
        let (conv, shape, size) = self.placed(image);
        let (weights, outputs) = (self.weights(&shape), shape[0]);
        let (to, bias) = (self.parameters(), self.bias(outputs));
        let mut inputs = vec![x, from[0], from[1]];
        inputs.extend(weights);
        inputs.extend([to[0], to[1], bias]);
        let y = self.graph.add_node("conv", Op::QLinearConv(conv), &inputs);
        self.last = (y, to, size);
    }

    /// A convolution whose kernel reaches over the edges on all sides.
    fn surrounded(&mut self, outputs: usize) {
        let (x, from, [c, h, w]) = self.last;
        let weights = self.weights(&[outputs, c, 3, 3]);
        let to = self.parameters();
        let mut inputs = vec![x, from[0], from[1]];
        inputs.extend(weights);
        inputs.extend(to);
        let conv = Conv { pads: [1; 4], ..Conv::PLAIN };
        let y = self.graph.add_node("around", Op::QLinearConv(conv), &inputs);
        self.last = (y, to, [outputs, h, w]);
    }

    /// Two convolutions of one kernel size and their sum, product or join.
    fn branch(&mut self) {
        let (x, from, size) = self.last;
        let outputs = 1 + self.below(12);
        let mut arms = vec![];
        for _ in 0..2 {
            let weights = self.weights(&[outputs, size[0], 1, 1]);
            let to = self.parameters();
            let mut inputs = vec![x, from[0], from[1]];
            inputs.extend(weights);
            inputs.extend(to);
            let y = self.graph.add_node("arm", Op::QLinearConv(Conv::PLAIN), &inputs);
            arms.push((y, to));
        }
        let to = self.parameters();
        let [(a, pa), (b, pb)] = arms[..] else { return };
        let inputs = [a, pa[0], pa[1], b, pb[0], pb[1], to[0], to[1]];
        let (op, channels) = match self.below(3) {
            0 => (Op::QLinearAdd, outputs),
            1 => (Op::QLinearMul, outputs),
            _ => (Op::QLinearConcat(Concat { axis: 1 }), 2 * outputs),
        };
        let joined = [to[0], to[1], a, pa[0], pa[1], b, pb[0], pb[1]];
        let inputs = if channels == outputs { inputs } else { joined };
        let y = self.graph.add_node("join", op, &inputs);
        self.last = (y, to, [channels, size[1], size[2]]);
    }

    fn pool(&mut self) {
        let (x, from, [c, h, w]) = self.last;
        let kernel = [1 + self.below(3.min(h)), 1 + self.below(3.min(w))];
        let pads = [0, 1, 0, 1].map(|a| self.rng.below(kernel[a]));
        let pool = Pool2d {
            kernel,
            strides: [1 + self.below(2), 1 + self.below(2)],
            dilations: [1, 1],
            pads,
            auto_pad: AutoPad::Explicit,
            ceil_mode: self.below(2) == 0,
            count_include_pad: self.below(2) == 0,
        };
        let [oh, ow] = pool.window([h, w]).expect("the window fits").output;
        if self.below(2) == 0 {
            let y = self.graph.add_node("max", Op::MaxPool(pool), &[x]);
            self.last = (y, from, [c, oh, ow]);
            return;
        }
        let to = self.parameters();
        let inputs = [x, from[0], from[1], to[0], to[1]];
        let y = self.graph.add_node("mean", Op::QLinearAveragePool(pool), &inputs);
        self.last = (y, to, [c, oh, ow]);
    }

    /// Every other element, from the front or the back, then new ones around what is left.
    fn cut_and_grow(&mut self) {
        let (x, from, [c, h, w]) = self.last;
        let axis = self.below(3);
        let back = self.below(2) == 0;
        let extent = [c, h, w][axis];
        let (start, end, step) =
            if back { (-1, i64::MIN, -2) } else { (1.min(extent as i64 - 1), i64::MAX, 2) };
        let list = |draw: &mut Draw, values: Vec<i64>| {
            draw.graph.add_constant("list", Tensor::vector(values))
        };
        let inputs = [
            x,
            list(self, vec![start]),
            list(self, vec![end]),
            list(self, vec![axis as i64 + 1]),
            list(self, vec![step]),
        ];
        let x = self.graph.add_node("cut", Op::Slice, &inputs);
        let mut size = [c, h, w];
        size[axis] =
            if back { extent.div_ceil(2) } else { (extent - usize::from(extent > 1)).div_ceil(2) };
        let mut pads = vec![0i64; 8];
        for axis in 0..3 {
            for end in 0..2 {
                let pad = self.below(3);
                pads[axis + 1 + 4 * end] = pad as i64;
                size[axis] += pad;
            }
        }
        let pads = list(self, pads);
        let pad = Op::Pad(Pad { mode: PadMode::Constant });
        let y = self.graph.add_node("grow", pad, &[x, pads, from[1]]);
        self.last = (y, from, size);
    }

    /// A function of each code, per tensor or per channel, by an integer operator or between floats.
    fn function(&mut self) {
        let (x, from, size) = self.last;
        let to = self.parameters();
        if self.below(3) == 0 {
            let inputs = [x, from[0], from[1], to[0], to[1]];
            let y = self.graph.add_node("sigmoid", Op::QLinearUnary(Unary::Sigmoid), &inputs);
            self.last = (y, to, size);
            return;
        }
        let channels = if self.below(2) == 0 { size[0] } else { 1 };
        let scales = (0..channels).map(|_| self.scale()).collect::<Vec<f32>>();
        let zeros = if self.signed {
            Tensor::vector(vec![3i8; channels])
        } else {
            Tensor::vector(vec![120u8; channels])
        };
        let own = [
            self.graph.add_constant("s", Tensor::vector(scales)),
            self.graph.add_constant("z", zeros),
        ];
        let dequantize = Op::DequantizeLinear(DequantizeLinear { blocking: WHOLE });
        let mut floats = self.graph.add_node("dq", dequantize, &[x, own[0], own[1]]);
        if self.below(2) == 0 {
            floats = self.normalized(floats, size[0]);
        }
        let y = self.graph.add_node("f", Op::Unary(Unary::HardSwish), &[floats]);
        let quantize = QuantizeLinear { blocking: WHOLE, to: self.dtype() };
        let y = self.graph.add_node("q", Op::QuantizeLinear(quantize), &[y, to[0], to[1]]);
        self.last = (y, to, size);
    }

    /// Batch normalization that no convolution took up.
    fn normalized(&mut self, x: ValueId, channels: usize) -> ValueId {
        let mut inputs = vec![x];
        for (mean, deviation) in [(1.0, 0.5), (0.0, 0.5), (0.0, 0.5), (1.0, 0.1)] {
            let values = (0..channels).map(|_| mean + deviation * self.rng.uniform());
            let values = Tensor::vector(values.collect::<Vec<f32>>());
            inputs.push(self.graph.add_constant("statistic", values));
        }
        self.graph.add_node("norm", Op::BatchNorm(BatchNorm { epsilon: 1e-5 }), &inputs)
    }

    /// Pools or flattens, then a fully connected layer and a softmax.
    fn end(mut self) -> (Graph, Vec<usize>) {
        let (x, from, [c, h, w]) = self.last;
        let (x, from, features) = if self.below(2) == 0 {
            let to = self.parameters();
            let inputs = [x, from[0], from[1], to[0], to[1]];
            let mean = self.graph.add_node("mean", Op::QLinearGlobalAveragePool, &inputs);
            self.last = (mean, to, [c, 1, 1]);
            if self.below(2) == 0 {
                let outputs = 1 + self.below(12);
                self.surrounded(outputs);
            }
            let (x, from, [c, _, _]) = self.last;
            (x, from, c)
        } else {
            (x, from, c * h * w)
        };
        let x = self.graph.add_node("flat", Op::Flatten(Flatten { axis: 1 }), &[x]);
        let weights = self.weights(&[7, features]);
        let bias = self.bias(7);
        let gemm = Gemm { transpose_b: true, ..Gemm::PLAIN };
        let inputs = [x, from[0], from[1], weights[0], weights[1], weights[2], bias];
        let mut y = self.graph.add_node("dense", Op::QGemm(gemm), &inputs);
        if self.below(2) == 0 {
            let softmax = Softmax { axis: 1, log: false, flatten: false };
            y = self.graph.add_node("softmax", Op::Softmax(softmax), &[y]);
        }
        self.graph.outputs = vec![y];
        let dims = self.graph.inputs[0].dims.iter().map(|d| d.unwrap_or(1)).collect();
        (self.graph, dims)
    }
}

const WHOLE: Blocking = Blocking { axis: 1, block_size: 0 };

/// A graph, and the dimensions of one image.
pub(crate) fn draw(seed: u64) -> (Graph, Vec<usize>) {
    let mut draw = Draw::new(seed);
    for _ in 0..2 + draw.below(5) {
        match draw.below(6) {
            0 | 1 => draw.conv(),
            4 => draw.cut_and_grow(),
            2 => draw.branch(),
            3 => draw.pool(),
            _ => draw.function(),
        }
    }
    draw.end()
}

/// A graph of large images, whose rows threads share also between convolutions, and the dimensions of one image.
pub(crate) fn draw_large(seed: u64) -> (Graph, Vec<usize>) {
    let mut draw = Draw::of_size(seed, [1, 42, 42]);
    draw.quantize();
    for _ in 0..2 {
        draw.branch();
        draw.function();
    }
    draw.pool();
    // What a dense layer at the end can sum.
    while draw.last.2.iter().product::<usize>() > 20_000 {
        draw.pool();
    }
    draw.end()
}

/// A graph whose weights outweigh its codes, with residual sums, and the dimensions of one image.
pub(crate) fn draw_wide(seed: u64) -> (Graph, Vec<usize>) {
    let mut draw = Draw::new(seed);
    let outputs = 150 + draw.below(60);
    for _ in 0..3 {
        let before = draw.last;
        draw.surrounded(outputs);
        draw.shortcut(before);
    }
    draw.end()
}

/// Images of noise, one after the other.
pub(crate) fn images(dims: &[usize], count: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    (0..dims.iter().product::<usize>() * count).map(|_| (rng.uniform() - 0.5) * 6.0).collect()
}

/// Signs and convolutions of signs.
impl Draw {
    /// The signs of the last codes in one of their spellings, with a bias per channel or none, at a distance from the zero point.
    fn sign(&mut self) {
        let (x, from, size) = self.last;
        let dequantize = Op::DequantizeLinear(DequantizeLinear { blocking: WHOLE });
        let mut floats = self.graph.add_node("dq", dequantize, &[x, from[0], from[1]]);
        if self.below(2) == 0 {
            let bias = (0..size[0]).map(|_| self.rng.normal()).collect::<Vec<f32>>();
            let bias = self.graph.add_constant("shift", Tensor::new([size[0], 1, 1], bias));
            floats = self.graph.add_node("shifted", Op::Binary(Binary::Add), &[bias, floats]);
        }
        if self.below(3) == 0 {
            let slopes = (0..size[0]).map(|_| self.rng.normal()).collect::<Vec<f32>>();
            let slopes = self.graph.add_constant("slope", Tensor::new([size[0], 1, 1], slopes));
            floats = self.graph.add_node("prelu", Op::PRelu, &[floats, slopes]);
        }
        let unit = self.scale();
        let signs = if self.below(3) == 0 {
            self.larq_sign(floats, unit)
        } else {
            self.chosen_sign(floats, unit)
        };
        self.sign_codes(signs, unit, size);
    }

    /// The sign of what 0.1 is added to: that of Larq, where nothing is 0.
    fn larq_sign(&mut self, x: ValueId, unit: f32) -> ValueId {
        let [tenth, unit] = [0.1, unit].map(|x| self.graph.add_constant("c", Tensor::scalar(x)));
        let sign = Op::Unary(Unary::Sign);
        let mut y = self.graph.add_node("sign", sign.clone(), &[x]);
        // Without it, the code of 0 makes three values.
        if self.below(4) > 0 {
            y = self.graph.add_node("add", Op::Binary(Binary::Add), &[y, tenth]);
            y = self.graph.add_node("again", sign, &[y]);
        }
        self.graph.add_node("scaled", Op::Binary(Binary::Mul), &[unit, y])
    }

    fn chosen_sign(&mut self, floats: ValueId, unit: f32) -> ValueId {
        let [zero, above, below] =
            [0.0, unit, -unit].map(|x| self.graph.add_constant("c", Tensor::scalar(x)));
        let compare = [Binary::GreaterOrEqual, Binary::Greater, Binary::Less][self.below(3)];
        let compared = self.graph.add_node("compare", Op::Binary(compare), &[floats, zero]);
        self.graph.add_node("sign", Op::Where, &[compared, above, below])
    }

    fn sign_codes(&mut self, signs: ValueId, unit: f32, size: [usize; 3]) {
        // Codes at 1, at 4 and, rarely, where no bits stand for them.
        let distance = [1.0, 1.0, 4.0, 3.0][self.below(4)];
        let scale = self.graph.add_constant("scale", Tensor::scalar(unit / distance));
        let zero = 5 + self.below(200);
        let zero = self.graph.add_constant(
            "zero",
            if self.signed { Tensor::scalar(zero as i8) } else { Tensor::scalar(zero as u8) },
        );
        let quantize = QuantizeLinear { blocking: WHOLE, to: self.dtype() };
        let codes = self.graph.add_node("q", Op::QuantizeLinear(quantize), &[signs, scale, zero]);
        self.last = (codes, [scale, zero], size);
    }

    /// A convolution of binary or ternary weights.
    fn sign_conv(&mut self) {
        let (x, from, [c, h, w]) = self.last;
        let kernel = [3.min(h), 1 + self.below(3.min(w))];
        let outputs = 1 + self.below(70);
        let pads = [0, 1, 0, 1].map(|a| self.rng.below(kernel[a]));
        let strides = [1 + self.below(2), 1 + self.below(2)];
        let conv = Conv { strides, pads, ..Conv::PLAIN };
        let window = conv.window([h, w], kernel).expect("the kernel fits");
        let shape = [outputs, c, kernel[0], kernel[1]];
        let unit = [1, 1, 2, 8, 64, 3][self.below(6)];
        let ternary = self.below(2) == 0;
        let weight =
            |draw: &mut Draw| unit * [-1, 1, 0, 1][draw.below(if ternary { 4 } else { 2 })];
        let weights = (0..shape.iter().product()).map(|_| weight(self)).collect::<Vec<i8>>();
        let weights = self.graph.add_constant("w", Tensor::new(shape.to_vec(), weights));
        let scales = (0..outputs).map(|_| self.scale() / f32::from(unit)).collect::<Vec<f32>>();
        let scales = self.graph.add_constant("ws", Tensor::vector(scales));
        // One zero point is what lowering adds to scales without any.
        let zeros = vec![0i8; if self.below(2) == 0 { outputs } else { 1 }];
        let zeros = self.graph.add_constant("wz", Tensor::vector(zeros));
        let to = self.parameters();
        let reach = i32::from(unit) * 8;
        let bias = (0..outputs).map(|_| self.below(reach as usize) as i32 - reach / 2);
        let bias = Tensor::vector(bias.collect::<Vec<i32>>());
        let bias = self.graph.add_constant("bias", bias);
        let inputs = [x, from[0], from[1], weights, scales, zeros, to[0], to[1], bias];
        let y = self.graph.add_node("signs", Op::QLinearConv(conv), &inputs);
        self.last = (y, to, [outputs, window.output[0], window.output[1]]);
    }

    /// The sum of the last codes and those before, where they have the same size.
    fn shortcut(&mut self, (x, from, size): (ValueId, [ValueId; 2], [usize; 3])) {
        let (y, own, made) = self.last;
        if made == size {
            let to = self.parameters();
            let inputs = [y, own[0], own[1], x, from[0], from[1], to[0], to[1]];
            let sum = self.graph.add_node("sum", Op::QLinearAdd, &inputs);
            self.last = (sum, to, size);
        }
    }
}

/// A graph of convolutions of signs, with what may lie between them, and the dimensions of one image.
pub(crate) fn draw_signs(seed: u64) -> (Graph, Vec<usize>) {
    let mut draw = Draw::new(seed);
    if draw.below(2) == 0 {
        draw.conv();
    }
    for _ in 0..1 + draw.below(3) {
        let before = draw.last;
        draw.sign();
        if draw.below(8) == 0 {
            draw.pool();
        }
        draw.sign_conv();
        match draw.below(4) {
            0 => draw.function(),
            1 => draw.shortcut(before),
            _ => {}
        }
    }
    draw.end()
}

/// Codes of few bits and convolutions of them.
impl Draw {
    /// Cuts the last codes down to those of up to five bits, near their zero point.
    fn clip(&mut self) {
        let (x, from, size) = self.last;
        let least = if self.signed { -128 } else { 0 };
        let zero = self.graph.constant(from[1]).and_then(|zero| zero.to_i64());
        let zero = zero.map_or(0, |zero| zero[0]);
        let width = 1 << (1 + self.below(5));
        let below = if self.below(2) == 0 { 0 } else { self.below(width) as i64 };
        let low = (zero - below).clamp(least, least + 256 - width as i64);
        let high = low + width as i64 - 1 - i64::from(self.below(4) == 0);
        let bound = |draw: &mut Draw, bound: i64| {
            let bound =
                if draw.signed { Tensor::scalar(bound as i8) } else { Tensor::scalar(bound as u8) };
            draw.graph.add_constant("bound", bound)
        };
        let bounds = [low, high].map(|b| bound(self, b));
        let y = self.graph.add_node("clip", Op::Clip, &[x, bounds[0], bounds[1]]);
        self.last = (y, from, size);
    }

    /// A convolution of weights of few bits.
    fn few_conv(&mut self) {
        let (x, from, [c, h, w]) = self.last;
        let kernel = [3.min(h), 1 + self.below(3.min(w))];
        let outputs = 1 + self.below(50);
        let conv = Conv {
            strides: [1 + self.below(2), 1 + self.below(2)],
            pads: [0, 1, 0, 1].map(|a| self.rng.below(kernel[a])),
            ..Conv::PLAIN
        };
        let window = conv.window([h, w], kernel).expect("the kernel fits");
        let sets: [&[i8]; 6] =
            [&[-1, 1], &[-1, 0, 1], &[-2, -1, 0, 1], &[-3, -1, 1, 3], &[-8, 16, 24], &[-7, 2, 5]];
        let set = sets[self.below(6)];
        let shape = [outputs, c, kernel[0], kernel[1]];
        let weights = (0..shape.iter().product()).map(|_| set[self.below(set.len())]);
        let weights = Tensor::new(shape.to_vec(), weights.collect::<Vec<i8>>());
        let weights = self.graph.add_constant("w", weights);
        let scales = (0..outputs).map(|_| self.scale()).collect::<Vec<f32>>();
        let scales = self.graph.add_constant("ws", Tensor::vector(scales));
        let zeros = self.graph.add_constant("wz", Tensor::vector(vec![0i8; outputs]));
        let to = self.parameters();
        let bias = (0..outputs).map(|_| self.below(400) as i32 - 200).collect::<Vec<i32>>();
        let bias = self.graph.add_constant("bias", Tensor::vector(bias));
        let inputs = [x, from[0], from[1], weights, scales, zeros, to[0], to[1], bias];
        let y = self.graph.add_node("few", Op::QLinearConv(conv), &inputs);
        self.last = (y, to, [outputs, window.output[0], window.output[1]]);
    }
}

/// A graph of convolutions of codes of few bits, with what may lie between them, and the dimensions of one image.
pub(crate) fn draw_few(seed: u64) -> (Graph, Vec<usize>) {
    let mut draw = Draw::new(seed);
    for _ in 0..1 + draw.below(4) {
        let before = draw.last;
        match draw.below(4) {
            0 => draw.function(),
            1 => draw.pool(),
            _ => {}
        }
        draw.clip();
        let narrow = draw.last;
        match draw.below(6) {
            0 => draw.pool(),
            1 => draw.cut_and_grow(),
            _ => {}
        }
        draw.few_conv();
        match draw.below(3) {
            0 => draw.shortcut(before),
            1 => draw.shortcut(narrow),
            _ => {}
        }
    }
    draw.end()
}

/// Layers that are left in float.
impl Draw {
    fn normal(&mut self, name: &str, shape: &[usize]) -> ValueId {
        let values = (0..shape.iter().product()).map(|_| self.rng.normal() / 4.0).collect();
        self.graph.add_constant(name, Tensor::new::<f32>(shape.to_vec(), values))
    }

    fn activation(&mut self) -> Activation {
        [
            Activation::None,
            Activation::Relu,
            Activation::Clip { min: 0.0, max: 6.0 },
            Activation::Clip { min: -0.5, max: f32::INFINITY },
        ][self.below(4)]
    }

    /// A convolution of the last floats.
    fn float_conv(&mut self) {
        let (x, from, image) = self.last;
        let (conv, shape, size) = self.placed(image);
        let mut inputs = vec![x, self.normal("fw", &shape)];
        if self.below(2) == 0 {
            inputs.push(self.normal("fb", &shape[..1]));
        }
        let conv = Conv { activation: self.activation(), ..conv };
        let y = self.graph.add_node("float conv", Op::Conv(conv), &inputs);
        self.last = (y, from, size);
    }

    /// A softmax of the last floats along an axis whose elements are no neighbours: an island.
    fn island(&mut self) {
        let (x, from, size) = self.last;
        let softmax = Softmax { axis: 1, log: self.below(2) == 0, flatten: false };
        let y = self.graph.add_node("island", Op::Softmax(softmax), &[x]);
        self.last = (y, from, size);
    }

    /// Floats, then a product and, perhaps, a softmax.
    fn end_in_float(mut self) -> (Graph, Vec<usize>) {
        self.dequantize();
        if self.below(4) == 0 {
            self.island();
        }
        let (x, _, size) = self.last;
        let (features, outputs) = (size.iter().product(), 1 + self.below(60));
        let mut y = self.graph.add_node("flat", Op::Flatten(Flatten { axis: 1 }), &[x]);
        y = match self.below(3) {
            0 => {
                let inputs = [y, self.normal("fw", &[features, outputs])];
                self.graph.add_node("float dense", Op::MatMul, &inputs)
            }
            transpose => {
                let transpose_b = transpose == 1;
                let shape = if transpose_b { [outputs, features] } else { [features, outputs] };
                let mut inputs = vec![y, self.normal("fw", &shape)];
                if self.below(2) == 0 {
                    inputs.push(self.normal("fb", &[outputs]));
                }
                let gemm = Gemm { transpose_b, activation: self.activation(), ..Gemm::PLAIN };
                self.graph.add_node("float dense", Op::Gemm(gemm), &inputs)
            }
        };
        if self.below(3) > 0 {
            let axis = [1, -1][self.below(2)];
            let softmax = Softmax { axis, log: self.below(2) == 0, flatten: self.below(2) == 0 };
            y = self.graph.add_node("softmax", Op::Softmax(softmax), &[y]);
        }
        self.graph.outputs = vec![y];
        let dims = self.graph.inputs[0].dims.iter().map(|d| d.unwrap_or(1)).collect();
        (self.graph, dims)
    }
}

/// A graph with layers in float at its ends and between others, and the dimensions of one image.
pub(crate) fn draw_floats(seed: u64) -> (Graph, Vec<usize>) {
    let mut draw = Draw::open(seed);
    if draw.below(3) > 0 {
        draw.float_conv();
    }
    draw.quantize();
    for _ in 0..1 + draw.below(3) {
        match draw.below(4) {
            0 => draw.conv(),
            1 => draw.pool(),
            at => {
                draw.dequantize();
                draw.float_conv();
                if at == 2 && draw.below(4) == 0 {
                    draw.island();
                }
                draw.quantize();
            }
        }
    }
    draw.end_in_float()
}
