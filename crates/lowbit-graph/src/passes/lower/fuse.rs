//! Operators that compute on codes.

use lowbit_tensor::{DType, Tensor};

use super::super::activations::as_activation;
use super::{Coded, Lowering, Runs};
use crate::op::{dequantize_one, quantize_bias};
use crate::{Activation, Binary, Concat, Gemm, Node, Op, ValueId};

/// Relative difference below which a bias scale counts as the product of the other two.
const BIAS_SCALE_TOLERANCE: f32 = 1e-5;

impl Lowering {
    pub(super) fn conv(&mut self, node: &Node) -> Result<Runs, String> {
        let Op::Conv(mut conv) = node.op else {
            return Err("not a convolution".into());
        };
        let x = self.activation_input(node, 0)?;
        let weight = self.weight(node, 0)?;
        let result = self.result(node, conv.activation)?;
        let dtype = self.same_type(&[x, result])?;
        conv.activation = Activation::None;
        let bias = self.bias(node, x, (weight, 0))?;
        let mut inputs = self.triple(x, dtype);
        inputs.extend(self.triple(weight, DType::I8));
        inputs.extend([Some(result.scale), self.zero_point(result, dtype)]);
        inputs.push(bias);
        self.emit(node, Op::QLinearConv(conv), inputs, result);
        Ok(Runs::Integer("QLinearConv"))
    }

    pub(super) fn gemm(&mut self, node: &Node) -> Result<Runs, String> {
        let Op::Gemm(gemm) = node.op else {
            return Err("not a Gemm".into());
        };
        if gemm.alpha != 1.0 || gemm.transpose_a || (node.input(2).is_some() && gemm.beta != 1.0) {
            let form = format!("alpha {}, beta {}", gemm.alpha, gemm.beta);
            return Err(format!(
                "{form}, transA {}: integer Gemm has 1, 1 and 0",
                gemm.transpose_a
            ));
        }
        let a = self.activation_input(node, 0)?;
        let axis = usize::from(!gemm.transpose_b);
        let b = self.weight(node, axis)?;
        let bias = self.bias(node, a, (b, axis))?;
        let dtype = self.same_type(&[a])?;
        let mut inputs = self.triple(a, dtype);
        inputs.extend(self.triple(b, DType::I8));
        inputs.push(bias);
        let integer = Op::QGemm(Gemm { activation: Activation::None, ..gemm });
        if let Ok(result) = self.result(node, gemm.activation)
            && self.same_type(&[a, result]).is_ok()
        {
            inputs.extend([Some(result.scale), self.zero_point(result, dtype)]);
            self.emit(node, integer, inputs, result);
            return Ok(Runs::Integer("QGemm"));
        }
        self.float_gemm(node, (integer, gemm.activation), inputs);
        Ok(Runs::Integer("QGemm"))
    }

    /// QGemm with a float result, and the activation behind it.
    fn float_gemm(
        &mut self,
        node: &Node,
        (integer, activation): (Op, Activation),
        inputs: Vec<Option<ValueId>>,
    ) {
        let integer = |outputs| Node { name: node.name.clone(), op: integer, inputs, outputs };
        let (op, limits) = match activation {
            Activation::None => {
                let whole = integer(node.outputs.clone());
                return self.replace(node, vec![whole]);
            }
            Activation::Relu => (Op::Unary(crate::Unary::Relu), vec![]),
            Activation::Clip { min, max } => (Op::Clip, vec![min, max]),
        };
        let before = self.graph.fresh(&format!("{}_linear", node.name));
        let mut operands = vec![Some(before)];
        for limit in limits {
            operands.push(Some(self.graph.add_constant("limit", Tensor::scalar(limit))));
        }
        let name = format!("{}_activation", node.name);
        let after = Node { name, op, inputs: operands, outputs: node.outputs.clone() };
        self.replace(node, vec![integer(vec![Some(before)]), after]);
    }

    pub(super) fn matmul(&mut self, node: &Node) -> Result<Runs, String> {
        let a = self.activation_input(node, 0)?;
        let b = self.right_operand(node)?;
        let result = self.result(node, Activation::None)?;
        let dtype = self.same_type(&[a, result])?;
        let b_type = self.same_type(&[b])?;
        let mut inputs = self.triple(a, dtype);
        inputs.extend(self.triple(b, b_type));
        inputs.extend([Some(result.scale), self.zero_point(result, dtype)]);
        self.emit(node, Op::QLinearMatMul, inputs, result);
        Ok(Runs::Integer("QLinearMatMul"))
    }

    /// MatMul's second operand: with one scale, or a constant matrix with one per column.
    fn right_operand(&self, node: &Node) -> Result<Coded, String> {
        if let Ok(activation) = self.activation_input(node, 1) {
            return Ok(activation);
        }
        let weight = self.weight(node, 1)?;
        match self.constant(weight.codes).map_or(0, |codes| codes.rank()) {
            2 => Ok(weight),
            rank => Err(format!("a rank-{rank} matrix with a scale per column, expected rank 2")),
        }
    }

    pub(super) fn binary(&mut self, node: &Node, binary: Binary) -> Result<Runs, String> {
        let op = match binary {
            Binary::Add => Op::QLinearAdd,
            Binary::Mul => Op::QLinearMul,
            other => return Err(format!("no integer form of {}", other.name())),
        };
        let (a, b) = (self.activation_input(node, 0)?, self.activation_input(node, 1)?);
        let result = self.result(node, Activation::None)?;
        let dtype = self.same_type(&[a, b, result])?;
        let mut inputs = self.triple(a, dtype);
        inputs.extend(self.triple(b, dtype));
        inputs.extend([Some(result.scale), self.zero_point(result, dtype)]);
        let runs = Runs::Integer(op.name());
        self.emit(node, op, inputs, result);
        Ok(runs)
    }

    pub(super) fn concat(&mut self, node: &Node, concat: Concat) -> Result<Runs, String> {
        let parts: Result<Vec<Coded>, String> =
            (0..node.inputs.len()).map(|i| self.activation_input(node, i)).collect();
        let mut all = parts?;
        let result = self.result(node, Activation::None)?;
        all.push(result);
        let dtype = self.same_type(&all)?;
        let mut inputs = vec![Some(result.scale), self.zero_point(result, dtype)];
        for &part in &all[..all.len() - 1] {
            inputs.extend(self.triple(part, dtype));
        }
        self.emit(node, Op::QLinearConcat(concat), inputs, result);
        Ok(Runs::Integer("QLinearConcat"))
    }

    /// One quantized operand in, one out.
    pub(super) fn pool(&mut self, node: &Node, op: Op) -> Result<Runs, String> {
        let x = self.activation_input(node, 0)?;
        let result = self.result(node, Activation::None)?;
        let dtype = self.same_type(&[x, result])?;
        let mut inputs = self.triple(x, dtype);
        inputs.extend([Some(result.scale), self.zero_point(result, dtype)]);
        let runs = Runs::Integer(op.name());
        self.emit(node, op, inputs, result);
        Ok(runs)
    }

    /// Relu or Clip: absorbed by the operator before it, or float.
    pub(super) fn activation(&mut self, node: &Node) -> Result<Runs, String> {
        let absorbed = self.replaced.contains_key(&node.output());
        if absorbed {
            return Ok(Runs::Integer("part of the operator before it"));
        }
        Err(format!("no integer form of {} on its own", node.op.name()))
    }

    /// A constant 8-bit weight with scales along `axis` or one scale.
    fn weight(&self, node: &Node, axis: usize) -> Result<Coded, String> {
        let weight = self.dequantized(node, 1)?;
        let Some(codes) = self.constant(weight.codes) else {
            return Err("the weight is not constant".into());
        };
        if !matches!(codes.dtype(), DType::I8 | DType::U8) {
            return Err(format!("the weight is {}, expected int8 or uint8", codes.dtype()));
        }
        let scales = self.constant(weight.scale).map_or(0, |s| s.len());
        if scales != 1 && codes.shape().get(axis) != Some(&scales) {
            return Err(format!("the weight has {scales} scales not along its output channels"));
        }
        let producer = node.input(1).and_then(|v| self.producers.get(&v));
        if let Some(Op::DequantizeLinear(dequantize)) = producer.map(|p| &p.op)
            && (dequantize.blocking.block_size > 0
                || (scales > 1 && !along(dequantize.blocking.axis, axis, codes.rank())))
        {
            return Err("the weight's scales do not run along its output channels".into());
        }
        Ok(weight)
    }

    /// The int32 bias at s_x·s_w: the one given, or a float one quantized as onnxruntime does.
    fn bias(
        &mut self,
        node: &Node,
        x: Coded,
        (weight, axis): (Coded, usize),
    ) -> Result<Option<ValueId>, String> {
        let Some(value) = node.input(2) else {
            return Ok(None);
        };
        let read = |coded: ValueId| {
            let scales = self.constant(coded).and_then(|s| s.as_slice::<f32>().ok());
            scales.map(<[f32]>::to_vec).ok_or("a scale is not constant")
        };
        let (x_scale, weight_scales) = (read(x.scale)?[0], read(weight.scale)?);
        let one_or_each = |scales: &[f32], i: usize| scales[if scales.len() == 1 { 0 } else { i }];
        let product = |i: usize| x_scale * one_or_each(&weight_scales, i);
        let channels =
            self.constant(weight.codes).map_or(0, |c| c.shape().get(axis).map_or(0, |&d| d));
        let one_per_channel = |bias: &Tensor| {
            if bias.len() == channels && bias.shape().last() == Some(&channels) {
                return Ok(());
            }
            Err(format!("the bias is {}, expected [{channels}]", bias.shape()))
        };
        if let Some(bias) = self.constant(value).cloned() {
            let floats = bias.as_slice::<f32>().map_err(|e| e.to_string())?;
            one_per_channel(&bias)?;
            let codes = floats.iter().enumerate().map(|(i, &b)| quantize_bias(b, product(i)));
            let codes = Tensor::new(bias.shape().clone(), codes.collect());
            let name = format!("{}_quantized", self.graph.value_name(value));
            return Ok(Some(self.graph.add_constant(&name, codes)));
        }
        let bias = self.dequantized(node, 2)?;
        let Some(codes) = self.constant(bias.codes) else {
            return Err("the bias is not constant".into());
        };
        if codes.dtype() != DType::I32 {
            return Err(format!("the bias is {}, expected int32", codes.dtype()));
        }
        one_per_channel(codes)?;
        let scales = read(bias.scale)?;
        let near = |i: usize| {
            let (found, expected) = (one_or_each(&scales, i), product(i));
            (found - expected).abs() <= BIAS_SCALE_TOLERANCE * expected.abs()
        };
        if ![1, channels].contains(&scales.len()) || !(0..channels).all(near) {
            return Err("the bias scale is not input scale x weight scale".into());
        }
        Ok(Some(bias.codes))
    }

    /// What the node's result is quantized to, through its activation, fused or as the one reader.
    fn result(&self, node: &Node, fused: Activation) -> Result<Coded, String> {
        if let Ok(coded) = self.quantized(node.output()) {
            self.fits(coded, fused)?;
            return Ok(coded);
        }
        if let Some(reader) = self.only_reader(node.output())
            && fused == Activation::None
            && let Some(activation) = as_activation(&self.graph, reader)
        {
            let coded = self.quantized(reader.output())?;
            self.fits(coded, activation)?;
            return Ok(coded);
        }
        self.quantized(node.output())
    }

    /// Whether saturation to the codes does what the activation does.
    fn fits(&self, coded: Coded, activation: Activation) -> Result<(), String> {
        let (scale, zero_point, (qmin, qmax)) =
            self.parameters(coded).ok_or("the result's scale or zero point is not constant")?;
        match activation {
            Activation::None => Ok(()),
            Activation::Relu if zero_point == qmin => Ok(()),
            Activation::Relu => Err("the result's range goes below its Relu".into()),
            Activation::Clip { min, max } => {
                let low = dequantize_one(qmin, scale, zero_point);
                let high = dequantize_one(qmax, scale, zero_point);
                if low >= min && high <= max {
                    return Ok(());
                }
                Err(format!("the result's range [{low}, {high}] exceeds its Clip [{min}, {max}]"))
            }
        }
    }

    /// The 8-bit type that all operands share.
    fn same_type(&self, operands: &[Coded]) -> Result<DType, String> {
        let dtype = self.code_type(operands[0]);
        if !matches!(dtype, DType::U8 | DType::I8) {
            return Err(format!("activations are {dtype}, expected uint8 or int8"));
        }
        match operands.iter().map(|&o| self.code_type(o)).find(|&t| t != dtype) {
            Some(other) => Err(format!("operands of {dtype} and {other}, expected one type")),
            None => Ok(dtype),
        }
    }

    /// Codes, scale and zero point as inputs.
    fn triple(&mut self, coded: Coded, dtype: DType) -> Vec<Option<ValueId>> {
        vec![Some(coded.codes), Some(coded.scale), self.zero_point(coded, dtype)]
    }

    fn emit(&mut self, node: &Node, op: Op, inputs: Vec<Option<ValueId>>, result: Coded) {
        let outputs = vec![Some(result.codes)];
        let lowered = Node { name: node.name.clone(), op, inputs, outputs };
        self.replace(node, vec![lowered]);
        // The activation behind the node, if that is where the codes come from.
        if let Some(reader) = self.only_reader(node.output()).cloned()
            && !matches!(reader.op, Op::QuantizeLinear(_))
        {
            self.replace(&reader, vec![]);
        }
    }
}

fn along(axis: i64, expected: usize, rank: usize) -> bool {
    let resolved = if axis < 0 { axis + rank as i64 } else { axis };
    resolved == expected as i64
}
