//! Convolutions and products.

use lowbit_graph::{Conv, Gemm, Node};
use lowbit_tensor::Buffer;

use super::{Lowering, Parameters, Refused, invalid};
use crate::network::{self, Finish, Form, Kind, ValueIndex, Window};

/// Constant weights as `[o][rest]`, with a scale per output.
struct Weights {
    values: Vec<i8>,
    scales: Vec<f32>,
}

impl Lowering<'_> {
    pub(super) fn conv(&mut self, node: &Node, conv: &Conv) -> Result<bool, Refused> {
        let x = self.input(node, 0)?;
        let dims = self.dims(x);
        let (Some(from), [_, channels, height, width]) = (self.codes(x), &dims[..]) else {
            return Ok(false);
        };
        let Some(shape) = self.constant(node, 3).map(|w| w.shape().to_vec()) else {
            return Ok(false);
        };
        let [outputs, inputs, kh, kw] = shape[..] else { return Ok(false) };
        if *channels != inputs * conv.groups || inputs == 0 || outputs % conv.groups != 0 {
            return Err(format!("{channels} channels for weights of shape {shape:?}"));
        }
        let taps = inputs * kh * kw;
        let (Some(weights), Some(own), Some(to)) = (
            self.weights(node, (outputs, taps), |o, i| o * taps + i),
            self.single(node, 1, from.signed),
            self.single(node, 6, from.signed),
        ) else {
            return Ok(false);
        };
        let window = conv.window([*height, *width], [kh, kw]).map_err(|e| invalid(&e))?;
        let [oh, ow] = window.output;
        let placed = network::Conv {
            window: Window {
                kernel: [kh, kw],
                strides: conv.strides,
                dilations: conv.dilations,
                pads: [window.pads[0], window.pads[1]],
            },
            groups: conv.groups,
            bias: self.bias(node, 8, outputs)?,
            finish: requantized(own.0, &weights.scales, (to, from.signed)),
            weights: weights.values,
        };
        let form = form(to, from.signed);
        let dims = vec![1, outputs, oh, ow];
        self.push(node, Kind::Conv(Box::new(placed)), vec![x], (dims, form));
        Ok(true)
    }

    pub(super) fn gemm(&mut self, node: &Node, gemm: &Gemm) -> Result<bool, Refused> {
        if gemm.transpose_a || gemm.alpha != 1.0 {
            return Ok(false);
        }
        let x = self.input(node, 0)?;
        let Some(shape) = self.constant(node, 3).map(|w| w.shape().to_vec()) else {
            return Ok(false);
        };
        let [rows, columns] = shape[..] else { return Ok(false) };
        let at = |o: usize, i: usize| {
            if gemm.transpose_b { o * columns + i } else { i * columns + o }
        };
        let [outputs, inputs] = if gemm.transpose_b { [rows, columns] } else { [columns, rows] };
        let signed = self.codes(x).is_some_and(|codes| codes.signed);
        let to = match node.input(7) {
            None => None,
            Some(_) => match self.single(node, 7, signed) {
                None => return Ok(false),
                to => to,
            },
        };
        self.dense(node, (x, inputs), (outputs, at), (to, Some(6)))
    }

    pub(super) fn matmul(&mut self, node: &Node) -> Result<bool, Refused> {
        let x = self.input(node, 0)?;
        let Some(shape) = self.constant(node, 3).map(|w| w.shape().to_vec()) else {
            return Ok(false);
        };
        let [rows, columns] = shape[..] else { return Ok(false) };
        let signed = self.codes(x).is_some_and(|codes| codes.signed);
        let Some(to) = self.single(node, 6, signed) else { return Ok(false) };
        self.dense(node, (x, rows), (columns, |o, i| i * columns + o), (Some(to), None))
    }

    /// A fully connected layer: weight `at(o, i)` for each output and input.
    fn dense(
        &mut self,
        node: &Node,
        (x, inputs): (ValueIndex, usize),
        (outputs, at): (usize, impl Fn(usize, usize) -> usize),
        (to, bias): (Option<(f32, i32)>, Option<usize>),
    ) -> Result<bool, Refused> {
        let dims = self.dims(x);
        let Some(from) = self.codes(x).filter(|_| dims.len() == 2 && dims[0] == 1) else {
            return Ok(false);
        };
        if dims[1] != inputs {
            return Err(format!("{} inputs for weights of {inputs}", dims[1]));
        }
        let (Some(weights), Some(own)) =
            (self.weights(node, (outputs, inputs), at), self.single(node, 1, from.signed))
        else {
            return Ok(false);
        };
        let (finish, form) = match to {
            Some(to) => {
                let to = (to, from.signed);
                (requantized(own.0, &weights.scales, to), form(to.0, from.signed))
            }
            None => {
                let scales = weights.scales.iter().map(|scale| own.0 * scale).collect();
                (Finish::Floats(scales), Form::Floats)
            }
        };
        let bias = match bias {
            Some(index) => self.bias(node, index, outputs)?,
            None => vec![0; outputs],
        };
        let window = Window { kernel: [1, 1], strides: [1, 1], dilations: [1, 1], pads: [0, 0] };
        let dense = network::Conv { window, groups: 1, weights: weights.values, bias, finish };
        self.push(node, Kind::Conv(Box::new(dense)), vec![x], (vec![1, outputs], form));
        Ok(true)
    }

    /// Weights (input 3) less their zero points (input 5); `None` where they are not constants or do not fit 8 signed bits.
    fn weights(
        &self,
        node: &Node,
        (outputs, taps): (usize, usize),
        at: impl Fn(usize, usize) -> usize,
    ) -> Option<Weights> {
        let codes = self.constant(node, 3)?;
        let Parameters { scales, zero_points, .. } = self.parameters(node, 4, true)?;
        if ![1, outputs].contains(&scales.len()) {
            return None;
        }
        let of = |o: usize| if scales.len() == 1 { 0 } else { o };
        let mut values = Vec::with_capacity(outputs * taps);
        for o in 0..outputs {
            let zero_point = zero_points[of(o)];
            let weight = |code: i32| i8::try_from(code - zero_point).ok();
            for i in 0..taps {
                values.push(match codes.buffer() {
                    Buffer::I8(codes) => weight(codes[at(o, i)].into())?,
                    Buffer::U8(codes) => weight(codes[at(o, i)].into())?,
                    _ => return None,
                });
            }
        }
        let scales = (0..outputs).map(|o| scales[of(o)]).collect();
        Some(Weights { values, scales })
    }

    fn bias(&self, node: &Node, index: usize, outputs: usize) -> Result<Vec<i32>, Refused> {
        if node.input(index).is_none() {
            return Ok(vec![0; outputs]);
        }
        let bias = self.constant(node, index);
        let bias = bias.and_then(|bias| Some(bias.as_slice::<i32>().ok()?.to_vec()));
        bias.filter(|bias| bias.len() == outputs).ok_or_else(|| {
            format!("input {index}: expected a constant int32 of {outputs} elements")
        })
    }
}

fn form((_, zero_point): (f32, i32), signed: bool) -> Form {
    let one = Parameters { scales: vec![1.0], zero_points: vec![zero_point], signed };
    Form::Codes(one.codes())
}

/// Multipliers as onnxruntime computes them: `s_x * s_w / s_y`, one f32 operation after the other.
fn requantized(own: f32, scales: &[f32], (to, signed): ((f32, i32), bool)) -> Finish {
    let one = Parameters { scales: vec![to.0], zero_points: vec![to.1], signed };
    Finish::Codes {
        multipliers: scales.iter().map(|scale| own * scale / to.0).collect(),
        zero_point: one.codes().zero_point,
        range: [0, 255],
        table: None,
        add: None,
    }
}
