//! Convolutions, products and softmaxes that stay in float.

use lowbit_graph::{Activation, Conv, Gemm, Node};
use lowbit_tensor::Tensor;

use super::{Lowering, Refused, invalid};
use crate::network::{Float, FloatConv, FloatDense, Form, Kind, Softmax, ValueIndex, Window};

/// A constant operand: its dimensions and values.
type Matrix<'a> = (&'a [usize], &'a [f32]);

impl Lowering<'_> {
    pub(super) fn float_conv(&mut self, node: &Node, conv: &Conv) -> Result<bool, Refused> {
        let Some(x) = self.floats(node)? else { return Ok(false) };
        let (Some((shape, weights)), Some(bias)) = (self.matrix(node, 1), self.float_bias(node))
        else {
            return Ok(false);
        };
        let dims = self.dims(x);
        let (&[outputs, inputs, kh, kw], &[_, channels, height, width]) = (shape, &dims[..]) else {
            return Ok(false);
        };
        let fits = conv.groups > 0 && outputs % conv.groups == 0 && !weights.is_empty();
        if !fits || channels != inputs * conv.groups {
            return Err(format!("{channels} channels for weights of shape {shape:?}"));
        }
        if bias.is_some_and(|bias| bias.len() != outputs) {
            return Ok(false);
        }
        let placed = conv.window([height, width], [kh, kw]).map_err(|e| invalid(&e))?;
        let ([oh, ow], [top, left, bottom, right]) = (placed.output, placed.pads);
        let float = Float::Conv(FloatConv {
            image: [height, width, channels],
            window: Window {
                kernel: [kh, kw],
                strides: conv.strides,
                dilations: conv.dilations,
                pads: [top, left],
            },
            end_pads: [bottom, right],
            groups: conv.groups,
            weights: weights.to_vec(),
            outputs,
            bias: bias.map(|bias| bias.f32s().to_vec()),
            activation: conv.activation,
        });
        self.push_float(node, float, x, vec![1, outputs, oh, ow]);
        Ok(true)
    }

    pub(super) fn float_gemm(&mut self, node: &Node, gemm: &Gemm) -> Result<bool, Refused> {
        let Some(x) = self.floats(node)? else { return Ok(false) };
        let (Some((shape, weights)), Some(bias)) = (self.matrix(node, 1), self.float_bias(node))
        else {
            return Ok(false);
        };
        let dims = self.dims(x);
        let (&[first, second], &[rows, inputs]) = (shape, &dims[..]) else {
            return Ok(false);
        };
        let columns = if gemm.transpose_b { [second, first] } else { [first, second] };
        let of_row = |bias: &Tensor| {
            let row = bias.len() == columns[1] && bias.shape().last() == Some(&columns[1]);
            row && gemm.beta == 1.0
        };
        let plain = !gemm.transpose_a && gemm.alpha == 1.0 && bias.is_none_or(of_row);
        if !plain || weights.is_empty() || columns[0] != inputs {
            return Ok(false);
        }
        let float = Float::Dense(FloatDense {
            rows,
            columns,
            weights: weights.to_vec(),
            transposed: gemm.transpose_b,
            bias: bias.map(|bias| bias.f32s().to_vec()),
            activation: gemm.activation,
        });
        self.push_float(node, float, x, vec![rows, columns[1]]);
        Ok(true)
    }

    pub(super) fn float_matmul(&mut self, node: &Node) -> Result<bool, Refused> {
        let Some(x) = self.floats(node)? else { return Ok(false) };
        let Some((&[inputs, outputs], weights)) = self.matrix(node, 1) else { return Ok(false) };
        let mut dims = self.dims(x);
        let [ref batch @ .., rows, last] = dims[..] else { return Ok(false) };
        if batch.iter().any(|&d| d != 1) || rows == 0 || weights.is_empty() || last != inputs {
            return Ok(false);
        }
        let float = Float::Dense(FloatDense {
            rows,
            columns: [inputs, outputs],
            weights: weights.to_vec(),
            transposed: false,
            bias: None,
            activation: Activation::None,
        });
        *dims.last_mut().expect("matched to have two") = outputs;
        self.push_float(node, float, x, dims);
        Ok(true)
    }

    /// A softmax along neighbours: those of other axes are left to the executor.
    pub(super) fn softmax(
        &mut self,
        node: &Node,
        softmax: lowbit_graph::Softmax,
    ) -> Result<bool, Refused> {
        let Some(x) = self.floats(node)? else { return Ok(false) };
        let dims = self.dims(x);
        let rank = i64::try_from(dims.len()).map_err(|e| e.to_string())?;
        let axis = if softmax.axis < 0 { softmax.axis + rank } else { softmax.axis };
        let Some(inner) = usize::try_from(axis).ok().and_then(|axis| dims.get(axis..)) else {
            return Ok(false);
        };
        let row: usize = inner.iter().product();
        let along = if softmax.flatten { Some(&row) } else { inner.first() };
        if row == 0 || along != Some(&row) {
            return Ok(false);
        }
        self.push_float(node, Float::Softmax(Softmax { row, log: softmax.log }), x, dims);
        Ok(true)
    }

    /// The first input, computed by now, if it is floats.
    fn floats(&mut self, node: &Node) -> Result<Option<ValueIndex>, Refused> {
        let x = self.input(node, 0)?;
        Ok(self.codes(x).is_none().then_some(x))
    }

    fn matrix(&self, node: &Node, index: usize) -> Option<Matrix<'_>> {
        let tensor = self.graph.constant_input(node, index)?;
        Some((tensor.shape(), tensor.as_slice().ok()?))
    }

    /// Constant floats at input 2, or that there are none; `None` where they are computed.
    fn float_bias(&self, node: &Node) -> Option<Option<&Tensor>> {
        match node.input(2) {
            None => Some(None),
            Some(value) => {
                let bias = self.graph.constant(value)?;
                bias.as_slice::<f32>().ok()?;
                Some(Some(bias))
            }
        }
    }

    fn push_float(&mut self, node: &Node, float: Float, x: ValueIndex, dims: Vec<usize>) {
        self.push(node, Kind::Float(Box::new(float)), vec![x], (dims, Form::Floats));
    }
}
