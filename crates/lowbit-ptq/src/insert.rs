//! Writes the plan into the graph as QuantizeLinear and DequantizeLinear nodes: the quantized graph.

mod rows;
mod weights;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use lowbit_graph::{Blocking, DequantizeLinear, Graph, Node, Op, QuantizeLinear, ValueId};
use lowbit_quant::{CodedWeight, QParams, Quantizer};
use lowbit_tensor::{DType, Tensor};

use crate::assignment::ActivationBits;
use crate::{Assignment, Calibration, Channels, Found, Plan, PtqError, Side};

pub(crate) use rows::{Rows, turn};
pub(crate) use weights::{back_to_graph, channel_map, to_rows};

/// Largest uint8 code.
const CODE_MAX: i32 = 255;

/// A quantized activation.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// The float value, in the float graph and (where anything still reads it) in the quantized one.
    pub value: ValueId,
    /// Its codes.
    pub codes: ValueId,
    /// The floats that the codes mean, which its readers see.
    pub result: ValueId,
    /// What the codes mean to integer operators.
    pub parameters: QParams,
    /// What they mean, where that differs from channel to channel.
    pub channels: Option<Channels>,
    /// The group of the plan: members of a group have equal parameters.
    pub group: usize,
    /// The constants that hold `parameters.scale`.
    pub scale: ValueId,
    /// All readers saturate beyond these, as [`Group::limits`](crate::Group) says.
    pub limits: (f32, f32),
}

impl Site {
    /// `x` as all its readers together tell it from others: no further than where they saturate.
    pub(crate) fn read(&self, x: f32) -> f32 {
        x.clamp(self.limits.0, self.limits.1)
    }

    /// Whether it has fewer than 8 bits.
    pub(crate) fn is_narrow(&self) -> bool {
        self.parameters.qmax < CODE_MAX
    }
}

/// A quantized weight and the bias beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// The node that reads it, by name.
    pub node: String,
    /// The node's index in the float graph.
    pub index: usize,
    /// The float value that the node reads beside it.
    pub input: ValueId,
    /// What the codes stand for: the float weight after all factors of its inputs and outputs, output channels as rows.
    pub target: Arc<[f32]>,
    /// [output channels, ...]: the shape of `target`.
    pub shape: Vec<usize>,
    /// The real numbers that the codes were rounded from: `target`, until an algorithm learns others.
    pub latent: Arc<[f32]>,
    /// Codes and what they mean.
    pub coded: CodedWeight,
    /// Which weights were pruned, and stay 0 while the others are learned; empty where none was.
    pub pruned: Vec<bool>,
    /// The weight as the node reads it.
    pub result: ValueId,
    /// The bias after all factors, where the node has one.
    pub bias: Option<Bias>,
    /// Scale of the activation the node reads.
    pub input_scale: ValueId,
    /// Bits of the activation the node reads.
    pub input_bits: u8,
    /// How the weight is held in the graph.
    pub(crate) held: Held,
}

/// A bias of a quantized layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Bias {
    /// One per output channel.
    pub values: Vec<f32>,
    /// The bias as the node reads it.
    pub result: ValueId,
    /// int32 codes and their scale, where the layer runs on integers.
    pub(crate) codes: Option<[ValueId; 2]>,
}

/// How a weight is held in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// int8 codes and one scale per output channel behind a DequantizeLinear.
    Integers {
        /// The codes.
        codes: ValueId,
        /// The scales.
        scales: ValueId,
        /// Whether output channels are columns.
        turned: bool,
    },
    /// Decoded floats: no integers stand for these levels.
    Floats {
        /// Whether output channels are columns.
        turned: bool,
    },
}

/// How weights and biases become codes.
#[derive(Clone, Debug, PartialEq)]
pub struct Rounding {
    /// Which layer gets which quantizer.
    pub assignment: Assignment,
    /// How much each weight matters, by node index, output channels as rows: [`crate::importance`]. Layers that are not there have weights
    /// that matter the same.
    pub importance: BTreeMap<usize, Vec<f32>>,
    /// Layers with this quantizer get one codebook together.
    pub shared: Option<Quantizer>,
    /// Of what is drawn at random, such as the first centroids of a clustering.
    pub seed: u64,
}

impl Rounding {
    /// Every layer by itself, every weight mattering the same.
    #[must_use]
    pub fn new(assignment: Assignment, seed: u64) -> Rounding {
        Rounding { assignment, importance: BTreeMap::new(), shared: None, seed }
    }
}

/// A graph with its quantization written in.
#[derive(Clone, Debug)]
pub struct QuantizedGraph {
    /// Float operators between QuantizeLinear and DequantizeLinear.
    pub graph: Graph,
    /// The quantized activations.
    pub sites: Vec<Site>,
    /// Narrower quantizers behind a site, before the layers that read them.
    pub narrowed: Vec<Site>,
    /// The quantized weights.
    pub weights: Vec<Weight>,
}

/// Quantizes weights, biases (int32 at s_x·s_w) and activations (unsigned, affine) as assigned.
///
/// Where s_x·s_w is so small that a channel's bias would not fit, the channel's weight scale is raised until it does.
///
/// # Errors
/// `Value` names a weight or bias that is not finite, or a quantizer that does not fit its weight.
pub fn quantize(
    graph: &Graph,
    plan: &Plan,
    calibration: &Calibration,
    rounding: &Rounding,
) -> Result<QuantizedGraph, PtqError> {
    let bits = rounding.assignment.activation_bits(graph, plan);
    let parameters = calibration.parameters(graph, plan, &bits.groups)?;
    let mut by_value: HashMap<ValueId, (usize, Found)> = HashMap::new();
    for (i, (group, found)) in plan.groups.iter().zip(&parameters).enumerate() {
        by_value.extend(group.members.iter().map(|&member| (member, (i, found.clone()))));
    }
    let quantized =
        QuantizedGraph { graph: graph.clone(), sites: vec![], narrowed: vec![], weights: vec![] };
    let mut inserter = Inserter {
        quantized,
        parameters: by_value,
        roots: plan.groups.iter().map(|group| group.root).collect(),
        limits: plan.groups.iter().map(|group| group.limits).collect(),
        added: vec![],
        readers: BTreeMap::new(),
        shared: BTreeMap::new(),
    };
    inserter.find_readers(graph, (plan, calibration), &bits)?;
    inserter.activations(graph);
    inserter.share(graph, rounding)?;
    for index in 0..graph.nodes.len() {
        inserter.weights(graph, index, rounding)?;
        if !plan.functions.contains(&index) {
            inserter.constant_operands(graph, index)?;
        }
    }
    let mut quantized = inserter.quantized;
    quantized.graph.nodes.extend(inserter.added);
    quantized.graph.remove_dead();
    quantized.graph.sort()?;
    quantized.graph.verify()?;
    Ok(quantized)
}

/// What a layer reads.
#[derive(Clone, Debug)]
struct Reading {
    found: Found,
    scale: Option<ValueId>,
}

struct Inserter {
    quantized: QuantizedGraph,
    /// Per planned value, its group and quantizer.
    parameters: HashMap<ValueId, (usize, Found)>,
    /// Values that are observed themselves: not moved elements of others.
    roots: HashSet<ValueId>,
    /// Per group, where all readers saturate.
    limits: Vec<(f32, f32)>,
    added: Vec<Node>,
    /// Nodes that read a narrower quantizer than their group's: their quantizer, by node.
    readers: BTreeMap<usize, Reading>,
    /// Weights that have one codebook together, by node.
    shared: BTreeMap<usize, CodedWeight>,
}

impl Inserter {
    fn node(&mut self, name: String, op: Op, inputs: Vec<ValueId>, output: ValueId) {
        let inputs = inputs.into_iter().map(Some).collect();
        self.added.push(Node { name, op, inputs, outputs: vec![Some(output)] });
    }

    /// A DequantizeLinear of constant codes; returns codes, scale and result.
    fn dequantized(&mut self, name: &str, operands: [Tensor; 3], axis: i64) -> [ValueId; 3] {
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
        [codes, scale, result]
    }

    /// Finds the quantizers of nodes that read fewer bits than their group has.
    fn find_readers(
        &mut self,
        graph: &Graph,
        (plan, calibration): (&Plan, &Calibration),
        bits: &ActivationBits,
    ) -> Result<(), PtqError> {
        for (&index, &bits) in &bits.narrowed {
            let Some(value) = graph.nodes[index].input(0) else { continue };
            let Some((group, _)) = self.parameters.get(&value) else { continue };
            let tensor = calibration.tensor(graph, plan, (*group, bits))?;
            let found = Found { tensor, channels: None };
            self.readers.insert(index, Reading { found, scale: None });
        }
        Ok(())
    }

    /// What the layer at `index` reads, if it is quantized.
    fn reading(&self, graph: &Graph, index: usize) -> Option<Reading> {
        if let Some(reading) = self.readers.get(&index) {
            return Some(reading.clone());
        }
        let value = graph.nodes[index].input(0)?;
        let (_, found) = self.parameters.get(&value)?;
        let site = self.quantized.sites.iter().find(|site| site.value == value)?;
        Some(Reading { found: found.clone(), scale: Some(site.scale) })
    }

    /// Constant operands of Add, Mul and Concat become uint8 codes too.
    fn constant_operands(&mut self, float: &Graph, index: usize) -> Result<(), PtqError> {
        let node = &float.nodes[index];
        let compares = matches!(node.op, Op::Binary(binary) if binary.is_comparison());
        if compares
            || !matches!(node.op, Op::Binary(_) | Op::Concat(_))
            || !self.parameters.contains_key(&node.output())
                && !node.inputs.iter().flatten().any(|v| self.parameters.contains_key(v))
        {
            return Ok(());
        }
        for (position, value) in node.inputs.iter().enumerate() {
            let constant = value.and_then(|v| float.constant(v)).cloned();
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
            let [_, _, result] = self.dequantized(&name, operands, 1);
            self.quantized.graph.nodes[index].inputs[position] = Some(result);
        }
        Ok(())
    }

    /// Puts QuantizeLinear and DequantizeLinear behind every planned value.
    fn activations(&mut self, float: &Graph) {
        let mut values: Vec<ValueId> = self.parameters.keys().copied().collect();
        values.sort_unstable();
        for value in values {
            let (group, found) = self.parameters[&value].clone();
            let name = float.value_name(value).to_owned();
            let result = self.quantized.graph.fresh(&format!("{name}_dequantized"));
            self.quantized.graph.replace_uses(value, result);
            let site = self.quantizer(&name, (value, result), (group, found));
            self.quantized.sites.push(site);
            self.narrow(float, value, result);
        }
    }

    /// Puts one more quantizer of fewer bits before the nodes that read `value` so.
    fn narrow(&mut self, float: &Graph, value: ValueId, result: ValueId) {
        let reads = |index: usize| float.nodes[index].input(0) == Some(value);
        let nodes: Vec<usize> = self.readers.keys().copied().filter(|&i| reads(i)).collect();
        let mut made: Vec<(QParams, Site)> = vec![];
        for index in nodes {
            let tensor = self.readers[&index].found.tensor;
            if !made.iter().any(|(known, _)| *known == tensor) {
                let bits = (tensor.qmax - tensor.qmin + 1).ilog2();
                let name = format!("{}_{bits}bit", float.value_name(value));
                let narrow = self.quantized.graph.fresh(&format!("{name}_dequantized"));
                let found = Found { tensor, channels: None };
                let (group, _) = self.parameters[&value];
                let site = self.quantizer(&name, (result, narrow), (group, found));
                self.quantized.narrowed.push(site.clone());
                made.push((tensor, site));
            }
            let Some((_, site)) = made.iter().find(|(known, _)| *known == tensor) else { continue };
            self.quantized.graph.nodes[index].inputs[0] = Some(site.result);
            if let Some(reading) = self.readers.get_mut(&index) {
                reading.scale = Some(site.scale);
            }
        }
    }

    /// QuantizeLinear of `from` and DequantizeLinear into `to`; below 8 bits with a Clip of the codes between them.
    fn quantizer(
        &mut self,
        name: &str,
        (from, to): (ValueId, ValueId),
        (group, found): (usize, Found),
    ) -> Site {
        let Found { tensor, channels } = found;
        let whole = self.operands(name, &[tensor.scale], &[tensor.zero_point]);
        // A convolution sees the whole tensor's parameters, an operator in float those of the channels.
        let (made, read) = match &channels {
            None => (whole, whole),
            Some(channels) => {
                let name = format!("{name}_channel");
                let each = self.operands(&name, &channels.scales, &channels.zero_points);
                let absorbers = channels.absorbers;
                let in_float = absorbers.maker == Side::Float && self.roots.contains(&from);
                let made = if in_float { each } else { whole };
                let read = if absorbers.reader == Side::Float { each } else { whole };
                (made, read)
            }
        };
        let blocking = Blocking { axis: 1, block_size: 0 };
        let quantize = Op::QuantizeLinear(QuantizeLinear { blocking, to: DType::U8 });
        let mut codes = self.quantized.graph.fresh(&format!("{name}_quantized"));
        self.node(format!("{name}_QuantizeLinear"), quantize, vec![from, made[0], made[1]], codes);
        if tensor.qmax < CODE_MAX {
            codes = self.clip(name, codes, tensor);
        }
        let dequantize = Op::DequantizeLinear(DequantizeLinear { blocking });
        self.node(
            format!("{name}_DequantizeLinear"),
            dequantize,
            vec![codes, read[0], read[1]],
            to,
        );
        let (scale, limits) = (whole[0], self.limits[group]);
        Site { value: from, codes, result: to, parameters: tensor, channels, group, scale, limits }
    }

    /// The codes, cut to those that fewer than 8 bits have.
    fn clip(&mut self, name: &str, codes: ValueId, tensor: QParams) -> ValueId {
        let graph = &mut self.quantized.graph;
        let limit = |q: i32| Tensor::scalar(q as u8);
        let low = graph.add_constant(&format!("{name}_qmin"), limit(tensor.qmin));
        let high = graph.add_constant(&format!("{name}_qmax"), limit(tensor.qmax));
        let clipped = graph.fresh(&format!("{name}_clipped"));
        self.node(format!("{name}_Clip"), Op::Clip, vec![codes, low, high], clipped);
        clipped
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
