//! Writes the plan into the graph as QuantizeLinear and DequantizeLinear nodes: the quantized graph.

use std::collections::{BTreeMap, HashMap, HashSet};

use lowbit_graph::{
    Blocking, DequantizeLinear, Graph, Node, Op, QuantizeLinear, ValueId, quantize_bias,
};
use lowbit_quant::{QParams, QuantError, WeightRule, channel_scales, quantize_channels};
use lowbit_tensor::{DType, Shape, Tensor};

use crate::bias_correction::mean_shift;
use crate::{Calibration, Channels, Found, Plan, PtqError, Side};

/// A quantized activation.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// The float value, in the float graph and (where anything still reads it) in the quantized one.
    pub value: ValueId,
    /// Its codes.
    pub codes: ValueId,
    /// What they mean to integer operators.
    pub parameters: QParams,
    /// What they mean, where that differs from channel to channel.
    pub channels: Option<Channels>,
}

/// A quantized weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// The node that reads it.
    pub node: String,
    /// int8 codes.
    pub codes: ValueId,
    /// One scale per output channel.
    pub scales: Vec<f32>,
    /// int32 bias codes, where the node has a bias.
    pub bias: Option<ValueId>,
    /// Scale of the activation the node reads.
    pub input_scale: f32,
}

/// How weights and biases become codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounding {
    /// How weight scales are chosen.
    pub weights: WeightRule,
    /// Whether biases take back the mean shift of the rounded weights.
    pub bias_correction: bool,
}

/// A graph with its quantization written in.
#[derive(Clone, Debug)]
pub struct QuantizedGraph {
    /// Float operators between QuantizeLinear and DequantizeLinear.
    pub graph: Graph,
    /// The quantized activations.
    pub sites: Vec<Site>,
    /// The quantized weights.
    pub weights: Vec<Weight>,
}

/// Bias codes stay below this, so that adding them to any int32 sum the kernels allow cannot overflow.
const BIAS_LIMIT: f32 = (1 << 30) as f32;

/// Quantizes weights (int8, symmetric, per output channel), biases (int32 at s_x·s_w) and activations (uint8, affine).
///
/// Where s_x·s_w is so small that a channel's bias would not fit, the channel's weight scale is raised until it does.
///
/// # Errors
/// `Value` names a weight or bias that is not finite.
pub fn quantize(
    graph: &Graph,
    plan: &Plan,
    calibration: &Calibration,
    rounding: Rounding,
) -> Result<QuantizedGraph, PtqError> {
    let parameters = calibration.parameters(graph, plan)?;
    let mut by_value: HashMap<ValueId, Found> = HashMap::new();
    for (group, found) in plan.groups.iter().zip(&parameters) {
        by_value.extend(group.members.iter().map(|&member| (member, found.clone())));
    }
    let mut inserter = Inserter {
        quantized: QuantizedGraph { graph: graph.clone(), sites: vec![], weights: vec![] },
        parameters: by_value,
        roots: plan.groups.iter().map(|group| group.root).collect(),
        added: vec![],
        means: rounding.bias_correction.then_some(&calibration.means),
    };
    for index in 0..graph.nodes.len() {
        inserter.weights(index, rounding.weights)?;
        inserter.constant_operands(index)?;
    }
    inserter.activations(graph);
    let mut quantized = inserter.quantized;
    quantized.graph.nodes.extend(inserter.added);
    quantized.graph.remove_dead();
    quantized.graph.sort()?;
    quantized.graph.verify()?;
    Ok(quantized)
}

struct Inserter<'a> {
    /// Channel means for bias correction, when it is wanted.
    means: Option<&'a BTreeMap<ValueId, Vec<f64>>>,
    quantized: QuantizedGraph,
    parameters: HashMap<ValueId, Found>,
    /// Values that are observed themselves: not moved elements of others.
    roots: HashSet<ValueId>,
    added: Vec<Node>,
}

impl Inserter<'_> {
    fn node(&mut self, name: String, op: Op, inputs: Vec<ValueId>, output: ValueId) {
        let inputs = inputs.into_iter().map(Some).collect();
        self.added.push(Node { name, op, inputs, outputs: vec![Some(output)] });
    }

    /// A DequantizeLinear of constant codes; returns its result.
    fn dequantized(&mut self, name: &str, operands: [Tensor; 3], axis: i64) -> [ValueId; 2] {
        let graph = &mut self.quantized.graph;
        let [codes, scale, zero_point] = operands;
        let codes = graph.add_constant(&format!("{name}_quantized"), codes);
        let scale = graph.add_constant(&format!("{name}_scale"), scale);
        let zero_point = graph.add_constant(&format!("{name}_zero_point"), zero_point);
        let result = graph.fresh(&format!("{name}_dequantized"));
        let op =
            Op::DequantizeLinear(DequantizeLinear { blocking: Blocking { axis, block_size: 0 } });
        let inputs = vec![codes, scale, zero_point];
        self.node(format!("{name}_DequantizeLinear"), op, inputs, result);
        [codes, result]
    }

    fn weights(&mut self, index: usize, rule: WeightRule) -> Result<(), PtqError> {
        let node = self.quantized.graph.nodes[index].clone();
        let Some(mut rows) = Rows::of(&self.quantized.graph, &node) else { return Ok(()) };
        let Some(input) = node.input(0).and_then(|v| self.parameters.get(&v)).cloned() else {
            return Ok(());
        };
        let named = |source| PtqError::Value { name: node.name.clone(), source };
        let factors = input_factors(&input);
        rows.scale_inputs(&node.op, factors.as_deref());
        let axis = i64::from(rows.turned);
        let input = input.tensor;
        let mut scales = channel_scales(&rows.values, rows.channels, rule).map_err(named)?;
        let bias = self.float_bias(&node, rows.channels).map_err(named)?;
        for (scale, b) in scales.iter_mut().zip(bias.iter().flatten()) {
            *scale = scale.max(b.abs() / (input.scale * BIAS_LIMIT));
        }
        let codes = quantize_channels(&rows.values, &scales);
        let bias = self.corrected(&node, bias, (&rows, &codes, &scales), factors.as_deref());
        let bias = self.scale_outputs(&node, bias, &mut scales);
        let operands = [
            Tensor::new(rows.shape.clone(), rows.restore(&codes)),
            Tensor::vector(scales.clone()),
            Tensor::vector(vec![0i8; scales.len()]),
        ];
        let [codes, result] = self.dequantized(&format!("{}_weight", node.name), operands, axis);
        self.quantized.graph.nodes[index].inputs[1] = Some(result);
        let bias = bias.map(|bias| self.bias(index, &bias, (input.scale, &scales)));
        let input_scale = input.scale;
        let name = node.name;
        self.quantized.weights.push(Weight { node: name, codes, scales, bias, input_scale });
        Ok(())
    }

    /// The node's bias as one float per output channel; `None` when it has none, or one of another form.
    fn float_bias(&self, node: &Node, channels: usize) -> Result<Option<Vec<f32>>, QuantError> {
        let Some(bias) = self.quantized.graph.constant_input(node, 2) else {
            return Ok(None);
        };
        let values = bias.f32s();
        if let Some(&found) = values.iter().find(|b| !b.is_finite()) {
            return Err(QuantError::NotFinite { found });
        }
        let scaled = matches!(&node.op, Op::Gemm(gemm) if gemm.beta != 1.0);
        let row = values.len() == channels && bias.shape().last() == Some(&channels);
        Ok((row && !scaled).then(|| values.to_vec()))
    }

    /// The bias less the mean shift that rounding the weights causes, where that is wanted and known.
    fn corrected(
        &self,
        node: &Node,
        bias: Option<Vec<f32>>,
        (rows, codes, scales): (&Rows, &[i8], &[f32]),
        factors: Option<&[f32]>,
    ) -> Option<Vec<f32>> {
        let means = self.means.zip(node.input(0)).and_then(|(means, input)| means.get(&input));
        let Some(means) = means else { return bias };
        if bias.is_none() && node.input(2).is_some() {
            return None;
        }
        // What the codes stand for is the input channel divided by its factor.
        let means: Vec<f64> = match factors {
            None => means.clone(),
            Some(factors) => means.iter().zip(factors).map(|(m, &f)| m / f64::from(f)).collect(),
        };
        let per_channel = (codes.len() / rows.channels.max(1)).max(1);
        let pairs = codes.iter().zip(&rows.values).enumerate();
        let error: Vec<f32> =
            pairs.map(|(i, (&q, w))| f32::from(q) * scales[i / per_channel] - w).collect();
        let shift = mean_shift(&node.op, &error, rows.channels, &means);
        let bias = bias.unwrap_or_else(|| vec![0.0; rows.channels]);
        Some(bias.iter().zip(shift).map(|(b, shift)| (f64::from(*b) - shift) as f32).collect())
    }

    /// Multiplies each output channel so that its codes mean what the result's scales per channel say.
    fn scale_outputs(
        &self,
        node: &Node,
        bias: Option<Vec<f32>>,
        scales: &mut [f32],
    ) -> Option<Vec<f32>> {
        let found = self.parameters.get(&node.output());
        let Some(Found { tensor, channels: Some(channels) }) = found else { return bias };
        let mut bias = bias.unwrap_or_else(|| vec![0.0; scales.len()]);
        for (c, (scale, bias)) in scales.iter_mut().zip(&mut bias).enumerate() {
            let factor = tensor.scale / channels.scales[c];
            let shift = (channels.zero_points[c] - tensor.zero_point) as f32 * tensor.scale;
            *scale *= factor;
            *bias = *bias * factor + shift;
        }
        Some(bias)
    }

    fn bias(&mut self, index: usize, bias: &[f32], (input, weights): (f32, &[f32])) -> ValueId {
        let name = format!("{}_bias", self.quantized.graph.nodes[index].name);
        let scales: Vec<f32> = weights.iter().map(|weight| input * weight).collect();
        let codes: Vec<i32> =
            bias.iter().zip(&scales).map(|(&b, &s)| quantize_bias(b, s)).collect();
        let zeros = Tensor::vector(vec![0i32; scales.len()]);
        let operands = [Tensor::vector(codes), Tensor::vector(scales), zeros];
        let [codes, result] = self.dequantized(&name, operands, 0);
        let inputs = &mut self.quantized.graph.nodes[index].inputs;
        inputs.resize(inputs.len().max(3), None);
        inputs[2] = Some(result);
        codes
    }

    /// Constant operands of Add, Mul and Concat become uint8 codes too.
    fn constant_operands(&mut self, index: usize) -> Result<(), PtqError> {
        let node = self.quantized.graph.nodes[index].clone();
        if !matches!(node.op, Op::Binary(_) | Op::Concat(_))
            || !self.parameters.contains_key(&node.output())
                && !node.inputs.iter().flatten().any(|v| self.parameters.contains_key(v))
        {
            return Ok(());
        }
        for (position, value) in node.inputs.iter().enumerate() {
            let constant = value.and_then(|v| self.quantized.graph.constant(v)).cloned();
            let Some(tensor) = constant.filter(|t| t.dtype() == DType::F32) else {
                continue;
            };
            let (low, high) = lowbit_graph::minmax(tensor.f32s());
            let named = |source| PtqError::Value { name: node.name.clone(), source };
            let parameters = QParams::affine_u8(low, high).map_err(named)?;
            let codes = tensor.f32s().iter().map(|&x| parameters.encode(x) as u8).collect();
            let operands = [
                Tensor::new(tensor.shape().clone(), codes),
                Tensor::scalar(parameters.scale),
                Tensor::scalar(parameters.zero_point as u8),
            ];
            let name = format!("{}_operand{position}", node.name);
            let [_, result] = self.dequantized(&name, operands, 1);
            self.quantized.graph.nodes[index].inputs[position] = Some(result);
        }
        Ok(())
    }

    /// Puts QuantizeLinear and DequantizeLinear behind every planned value.
    fn activations(&mut self, float: &Graph) {
        let mut values: Vec<ValueId> = self.parameters.keys().copied().collect();
        values.sort_unstable();
        for value in values {
            let Found { tensor, channels } = self.parameters[&value].clone();
            let name = float.value_name(value).to_owned();
            let whole = self.operands(&name, &[tensor.scale], &[tensor.zero_point]);
            // A convolution sees the whole tensor's parameters, an operator in float those of the channels.
            let (made, read) = match &channels {
                None => (whole, whole),
                Some(channels) => {
                    let name = format!("{name}_channel");
                    let each = self.operands(&name, &channels.scales, &channels.zero_points);
                    let absorbers = channels.absorbers;
                    let in_float = absorbers.maker == Side::Float && self.roots.contains(&value);
                    let made = if in_float { each } else { whole };
                    let read = if absorbers.reader == Side::Float { each } else { whole };
                    (made, read)
                }
            };
            let graph = &mut self.quantized.graph;
            let codes = graph.fresh(&format!("{name}_quantized"));
            let result = graph.fresh(&format!("{name}_dequantized"));
            graph.replace_uses(value, result);
            let blocking = Blocking { axis: 1, block_size: 0 };
            let quantize = Op::QuantizeLinear(QuantizeLinear { blocking, to: DType::U8 });
            let dequantize = Op::DequantizeLinear(DequantizeLinear { blocking });
            let quantizer = format!("{name}_QuantizeLinear");
            self.node(quantizer, quantize, vec![value, made[0], made[1]], codes);
            let dequantizer = format!("{name}_DequantizeLinear");
            self.node(dequantizer, dequantize, vec![codes, read[0], read[1]], result);
            self.quantized.sites.push(Site { value, codes, parameters: tensor, channels });
        }
    }

    /// Scale and zero point operands: scalars for one channel, else vectors.
    fn operands(&mut self, name: &str, scales: &[f32], zero_points: &[i32]) -> [ValueId; 2] {
        let zeros: Vec<u8> = zero_points.iter().map(|&z| z as u8).collect();
        let (scale, zero) = match (scales, zeros.as_slice()) {
            ([scale], [zero]) => (Tensor::scalar(*scale), Tensor::scalar(*zero)),
            _ => (Tensor::vector(scales.to_vec()), Tensor::vector(zeros)),
        };
        let graph = &mut self.quantized.graph;
        let scale = graph.add_constant(&format!("{name}_scale"), scale);
        [scale, graph.add_constant(&format!("{name}_zero_point"), zero)]
    }
}

/// What each input channel of a convolution is multiplied by so that codes mean what the scales per channel say: x = f · x'.
fn input_factors(input: &Found) -> Option<Vec<f32>> {
    let channels = input.channels.as_ref()?;
    Some(channels.scales.iter().map(|scale| scale / input.tensor.scale).collect())
}

/// A weight with its output channels as rows.
pub(crate) struct Rows {
    pub(crate) values: Vec<f32>,
    pub(crate) channels: usize,
    shape: Shape,
    /// Whether the channels were columns.
    turned: bool,
}

impl Rows {
    /// The constant weight of a convolution or fully connected layer that integers can compute.
    pub(crate) fn of(graph: &Graph, node: &Node) -> Option<Rows> {
        let turned = match &node.op {
            Op::Conv(_) => false,
            Op::Gemm(gemm) if gemm.alpha == 1.0 => !gemm.transpose_b,
            _ => return None,
        };
        let weight = graph.constant_input(node, 1)?;
        let (values, shape) = (weight.f32s(), weight.shape().clone());
        let channels = shape[usize::from(turned)];
        if !turned {
            return Some(Rows { values: values.to_vec(), channels, shape, turned });
        }
        let rows = values.len() / channels.max(1);
        let columns = (0..channels).flat_map(|c| (0..rows).map(move |r| values[r * channels + c]));
        Some(Rows { values: columns.collect(), channels, shape, turned })
    }

    /// Multiplies what reads each input channel by its factor.
    fn scale_inputs(&mut self, op: &Op, factors: Option<&[f32]>) {
        let Some(factors) = factors else { return };
        let groups = if let Op::Conv(conv) = op { conv.groups } else { 1 };
        let per_row = (self.values.len() / self.channels.max(1)).max(1);
        let inputs = (factors.len() / groups).max(1);
        let taps = (per_row / inputs).max(1);
        for (i, w) in self.values.iter_mut().enumerate() {
            let (row, column) = (i / per_row, i % per_row);
            let group = row / (self.channels / groups);
            *w *= factors[group * inputs + column / taps];
        }
    }

    fn restore(&self, codes: &[i8]) -> Vec<i8> {
        if !self.turned {
            return codes.to_vec();
        }
        let rows = codes.len() / self.channels.max(1);
        (0..rows).flat_map(|r| (0..self.channels).map(move |c| codes[c * rows + r])).collect()
    }
}
