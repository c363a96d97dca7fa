//! From an integer graph to the steps of one image.
//!
//! A DequantizeLinear and the elementwise operators behind it are held back until it is known who reads them: before a
//! QuantizeLinear they are one table over all codes.

mod elementwise;
mod float;
mod integer;
mod layout;

use std::collections::HashMap;
use std::sync::Arc;

use lowbit_graph::{Graph, Node, Op, OpError, QuantizeLinear, Session, ValueId, Workspace};
use lowbit_tensor::{DType, Shape, Tensor};

use super::{Codes, Dequantize, Form, Island, Kind, Network, Quantize, Step, Value, ValueIndex};
use crate::RuntimeError;

/// What is known of a value of the graph.
#[derive(Clone, Debug)]
enum Known {
    /// A step makes it.
    Value(ValueIndex),
    /// A function of each element of these codes: a DequantizeLinear and elementwise operators, by node, in their order.
    Held { codes: ValueIndex, nodes: Vec<usize> },
}

/// Scales, zero points and type that codes are made or read with.
struct Parameters {
    scales: Vec<f32>,
    zero_points: Vec<i32>,
    signed: bool,
}

impl Parameters {
    /// What codes of one scale mean; with several, the border code is that of the first channel.
    fn codes(&self) -> Codes {
        let offset = if self.signed { 128 } else { 0 };
        let zero_point = u8::try_from(self.zero_points[0] + offset).unwrap_or_default();
        Codes { zero_point, signed: self.signed }
    }
}

struct Lowering<'g> {
    graph: &'g Graph,
    network: Network,
    known: HashMap<ValueId, Known>,
}

type Refused = String;

impl Network {
    /// The steps of an integer graph (as `lowbit_graph::passes::lower_qdq` makes it) for one image of dimensions `dims`, whose first is
    /// the batch of one.
    ///
    /// # Errors
    /// `Node` when a node's form cannot be compiled, `Model` when the graph has not one float input.
    pub fn new(graph: &Graph, dims: &[usize]) -> Result<Network, RuntimeError> {
        let [input] = graph.inputs.as_slice() else {
            let found = format!("{} inputs", graph.inputs.len());
            return Err(RuntimeError::Model { found, expected: "one input" });
        };
        let fits = dims.len() == input.dims.len()
            && dims.iter().zip(&input.dims).all(|(&d, own)| own.is_none_or(|own| own == d))
            && dims.first() == Some(&1);
        if input.dtype != DType::F32 || !fits {
            let found = format!("{} {:?}", input.dtype, input.dims);
            let expected = "a float32 input that takes one image of the given dimensions";
            return Err(RuntimeError::Model { found, expected });
        }
        let network = Network {
            name: graph.name.clone(),
            values: vec![],
            steps: vec![],
            input: 0,
            outputs: vec![],
        };
        let mut lowering = Lowering { graph, network, known: HashMap::new() };
        lowering.define(input.value, dims.to_vec(), Form::Floats);
        lowering.run()?;
        let mut network = lowering.network;
        network.fuse();
        Ok(network)
    }
}

impl Lowering<'_> {
    fn run(&mut self) -> Result<(), RuntimeError> {
        for (index, node) in self.graph.nodes.iter().enumerate() {
            self.node(index, node).map_err(|reason| refused(node, reason))?;
        }
        for &output in &self.graph.outputs {
            let named = || RuntimeError::Model {
                found: format!("output \"{}\"", self.graph.value_name(output)),
                expected: "an output that a node makes",
            };
            if !self.known.contains_key(&output) {
                return Err(named());
            }
            let value = self.value(output).map_err(|_| named())?;
            self.network.outputs.push(value);
        }
        Ok(())
    }

    fn node(&mut self, index: usize, node: &Node) -> Result<(), Refused> {
        if self.hold(index, node) {
            return Ok(());
        }
        let done = match &node.op {
            Op::QuantizeLinear(quantize) => self.quantize(node, *quantize)?,
            Op::QLinearConv(conv) => self.conv(node, conv)?,
            Op::QGemm(gemm) => self.gemm(node, gemm)?,
            Op::QLinearMatMul => self.matmul(node)?,
            Op::QLinearAdd => self.add(node)?,
            Op::QLinearMul => self.mul(node)?,
            Op::QLinearUnary(unary) => self.unary(node, *unary)?,
            Op::Clip => self.clip(node)?,
            Op::QLinearGlobalAveragePool => self.global_average(node)?,
            Op::QLinearAveragePool(pool) => self.average_pool(node, pool)?,
            Op::MaxPool(pool) => self.max_pool(node, pool)?,
            Op::QLinearConcat(concat) => self.concat(node, concat.axis)?,
            Op::Conv(conv) => self.float_conv(node, conv)?,
            Op::Gemm(gemm) => self.float_gemm(node, gemm)?,
            Op::MatMul => self.float_matmul(node)?,
            Op::Softmax(softmax) => self.softmax(node, *softmax)?,
            op if op.moves_elements() => self.movement(node)?,
            _ => false,
        };
        if done { Ok(()) } else { self.island(node) }
    }

    /// Holds back a DequantizeLinear of one value's codes, and elementwise operators on what is held back of one value.
    fn hold(&mut self, index: usize, node: &Node) -> bool {
        let computed = node.inputs.iter().flatten().filter(|&&v| self.graph.constant(v).is_none());
        let known: Option<Vec<&Known>> = computed.map(|value| self.known.get(value)).collect();
        let held = match (&node.op, known.as_deref()) {
            (Op::DequantizeLinear(_), Some(&[&Known::Value(codes)]))
                if self.network.values[codes].codes().is_some() =>
            {
                Known::Held { codes, nodes: vec![index] }
            }
            (op, Some(&[Known::Held { codes, nodes }, ref rest @ ..])) if is_elementwise(op) => {
                let mut all = nodes.clone();
                for other in rest {
                    match other {
                        Known::Held { codes: same, nodes } if same == codes => all.extend(nodes),
                        _ => return false,
                    }
                }
                all.push(index);
                all.sort_unstable();
                all.dedup();
                Known::Held { codes: *codes, nodes: all }
            }
            _ => return false,
        };
        self.known.insert(node.output(), held);
        true
    }

    fn define(&mut self, value: ValueId, dims: Vec<usize>, form: Form) -> ValueIndex {
        let name = self.graph.value_name(value).to_owned();
        let index = self.network.values.len();
        self.network.values.push(Value { name, dims, form });
        self.known.insert(value, Known::Value(index));
        index
    }

    /// The value, computed by now.
    fn value(&mut self, id: ValueId) -> Result<ValueIndex, Refused> {
        match self.known.get(&id).cloned() {
            Some(Known::Value(index)) => Ok(index),
            Some(Known::Held { codes, nodes }) => {
                let graph = self.graph;
                let mut last = codes;
                for &index in &nodes {
                    let node = &graph.nodes[index];
                    if let Some(Known::Value(known)) = self.known.get(&node.output()) {
                        last = *known;
                        continue;
                    }
                    match &node.op {
                        Op::DequantizeLinear(_) => self.dequantize(node, last)?,
                        _ => self.island(node)?,
                    }
                    last = self.value(node.output())?;
                }
                Ok(last)
            }
            None => Err(format!("\"{}\" is not made by a node before", self.graph.value_name(id))),
        }
    }

    /// The value at input `index` of a node, computed by now.
    fn input(&mut self, node: &Node, index: usize) -> Result<ValueIndex, Refused> {
        let id = node.input(index).ok_or_else(|| format!("input {index} is missing"))?;
        self.value(id)
    }

    fn constant(&self, node: &Node, index: usize) -> Option<&Arc<Tensor>> {
        self.graph.constant_input(node, index)
    }

    /// Scales at input `index` and zero points behind them, for codes of type `signed`; `None` when they are not constants.
    fn parameters(&self, node: &Node, index: usize, signed: bool) -> Option<Parameters> {
        let scales = self.constant(node, index)?.as_slice::<f32>().ok()?.to_vec();
        let zero_points = match node.input(index + 1) {
            None => vec![0; scales.len()],
            Some(value) => {
                let codes = self.graph.constant(value)?.to_i64()?;
                codes.iter().map(|&z| i32::try_from(z).ok()).collect::<Option<Vec<i32>>>()?
            }
        };
        // Lowering gives one zero point where the model has none.
        let zero_points = match zero_points[..] {
            [one] => vec![one; scales.len()],
            _ => zero_points,
        };
        let fits = !scales.is_empty() && scales.len() == zero_points.len();
        fits.then_some(Parameters { scales, zero_points, signed })
    }

    /// As [`Lowering::parameters`], where one scale is wanted: scale and zero point.
    fn single(&self, node: &Node, index: usize, signed: bool) -> Option<(f32, i32)> {
        let found = self.parameters(node, index, signed)?;
        (found.scales.len() == 1).then(|| (found.scales[0], found.zero_points[0]))
    }

    fn push(
        &mut self,
        node: &Node,
        kind: Kind,
        inputs: Vec<ValueIndex>,
        (dims, form): (Vec<usize>, Form),
    ) -> ValueIndex {
        let output = self.define(node.output(), dims, form);
        let name = node.name.clone();
        self.network.steps.push(Step { name, kind, inputs, outputs: vec![output] });
        output
    }

    fn dims(&self, value: ValueIndex) -> Vec<usize> {
        self.network.values[value].dims.clone()
    }

    fn codes(&self, value: ValueIndex) -> Option<Codes> {
        self.network.values[value].codes()
    }

    fn quantize(&mut self, node: &Node, quantize: QuantizeLinear) -> Result<bool, Refused> {
        let signed = match quantize.to {
            DType::U8 => false,
            DType::I8 => true,
            other => return Err(format!("codes of {other}: activations have 8 bits")),
        };
        let axis = quantize.blocking.axis;
        let Some(to) = self.parameters(node, 1, signed) else { return Ok(false) };
        if quantize.blocking.block_size > 0 || (to.scales.len() > 1 && axis != 1) {
            return Ok(false);
        }
        let form = Form::Codes(to.codes());
        if let Some(value) = node.input(0)
            && let Some(Known::Held { codes, nodes }) = self.known.get(&value).cloned()
            && let Some(tables) = self.tables((codes, &nodes, value), &to)?
        {
            let dims = self.dims(codes);
            self.push(node, Kind::Table(tables), vec![codes], (dims, form));
            return Ok(true);
        }
        let x = self.input(node, 0)?;
        if !self.fits_channels(x, &to) {
            return Ok(false);
        }
        let dims = self.dims(x);
        let Parameters { scales, zero_points, .. } = to;
        let kind = Kind::Quantize(Quantize { scales, zero_points, pixels: false });
        self.push(node, kind, vec![x], (dims, form));
        Ok(true)
    }

    fn dequantize(&mut self, node: &Node, codes: ValueIndex) -> Result<(), Refused> {
        let Op::DequantizeLinear(dequantize) = &node.op else {
            return self.island(node);
        };
        let signed = self.codes(codes).is_some_and(|codes| codes.signed);
        let along = dequantize.blocking;
        match self.parameters(node, 1, signed) {
            Some(from)
                if along.block_size == 0
                    && (from.scales.len() == 1 || along.axis == 1)
                    && self.fits_channels(codes, &from) =>
            {
                let Parameters { scales, zero_points, .. } = from;
                let dims = self.dims(codes);
                let kind = Kind::Dequantize(Dequantize { scales, zero_points });
                self.push(node, kind, vec![codes], (dims, Form::Floats));
                Ok(())
            }
            _ => self.island(node),
        }
    }

    /// Whether there is one scale, or one for each channel of what is an image here.
    fn fits_channels(&self, value: ValueIndex, parameters: &Parameters) -> bool {
        let [.., channels] = self.network.values[value].image();
        [1, channels].contains(&parameters.scales.len())
    }

    /// Leaves the node to the graph's own executor; what it makes is found by running it on zeros.
    fn island(&mut self, node: &Node) -> Result<(), Refused> {
        let mut graph = Graph::new(&node.name);
        let (mut inputs, mut examples) = (vec![], vec![]);
        let mut operands = vec![];
        for &id in &node.inputs {
            let Some(id) = id else {
                operands.push(None);
                continue;
            };
            if let Some(constant) = self.graph.constant(id) {
                let name = self.graph.value_name(id);
                operands.push(Some(graph.add_constant(name, constant.clone())));
                continue;
            }
            let value = self.value(id)?;
            let example = zeros(&self.network.values[value]);
            let dims = example.shape().iter().map(|&d| Some(d)).collect();
            let name = self.graph.value_name(id);
            operands.push(Some(graph.add_input(name, example.dtype(), dims)));
            inputs.push(value);
            examples.push(example);
        }
        if inputs.is_empty() {
            return Err("all inputs are constants: the model was not simplified".into());
        }
        let outputs: Vec<_> = node.outputs.iter().flatten().copied().collect();
        let made: Vec<Option<ValueId>> = node
            .outputs
            .iter()
            .map(|v| v.map(|v| graph.add_value(self.graph.value_name(v))))
            .collect();
        graph.outputs = made.iter().flatten().copied().collect();
        graph.nodes.push(Node {
            name: node.name.clone(),
            op: node.op.clone(),
            inputs: operands,
            outputs: made,
        });
        let run = |graph: &Graph| {
            let session = Session::new(graph)?;
            let results = session.run(&examples, &mut Workspace::serial())?;
            Ok::<_, lowbit_graph::GraphError>((session, results))
        };
        let (session, results) = run(&graph).map_err(|e| e.to_string())?;
        let mut indices = vec![];
        for (&id, result) in outputs.iter().zip(&results) {
            let form = self.form(id, result, &inputs)?;
            indices.push(self.define(id, result.shape().to_vec(), form));
        }
        let island = Island { session: Arc::new(session), op: node.op.name() };
        self.network.steps.push(Step {
            name: node.name.clone(),
            kind: Kind::Island(Box::new(island)),
            inputs,
            outputs: indices,
        });
        Ok(())
    }

    /// What an island's result is: codes keep the meaning of the first codes read, or that of their own QuantizeLinear.
    fn form(&self, id: ValueId, result: &Tensor, inputs: &[ValueIndex]) -> Result<Form, Refused> {
        let signed = match result.dtype() {
            DType::F32 => return Ok(Form::Floats),
            DType::U8 => false,
            DType::I8 => true,
            other => return Err(format!("its result is {other}: found no form for it here")),
        };
        let node = self.graph.nodes.iter().find(|n| n.outputs.contains(&Some(id)));
        let own = node.and_then(|node| match node.op {
            Op::QuantizeLinear(_) => self.parameters(node, 1, signed),
            Op::QLinearConv(_) | Op::QLinearMatMul | Op::QLinearAdd | Op::QLinearMul => {
                self.parameters(node, 6, signed)
            }
            Op::QLinearConcat(_) => self.parameters(node, 0, signed),
            Op::QLinearAveragePool(_)
            | Op::QLinearGlobalAveragePool
            | Op::QLinearUnary(_)
            | Op::QLinearSoftmax(_) => self.parameters(node, 3, signed),
            Op::QGemm(_) => self.parameters(node, 7, signed),
            _ => None,
        });
        let read = || inputs.iter().find_map(|&input| self.codes(input));
        own.map(|own| own.codes())
            .or_else(read)
            .map(Form::Codes)
            .ok_or_else(|| "its codes have no known zero point".into())
    }
}

/// Whether each element of the result follows from one element of each operand, or of its channel.
fn is_elementwise(op: &Op) -> bool {
    matches!(
        op,
        Op::Unary(_)
            | Op::Clip
            | Op::PRelu
            | Op::Binary(_)
            | Op::BatchNorm(_)
            | Op::Where
            | Op::Cast(_)
    )
}

/// A tensor of zeros such as the value is in the graph.
fn zeros(value: &Value) -> Tensor {
    let shape = Shape::from(value.dims.clone());
    match value.form {
        Form::Floats => Tensor::full(shape, 0.0f32),
        Form::Codes(Codes { signed: true, .. }) => Tensor::full(shape, 0i8),
        Form::Codes(_) => Tensor::full(shape, 0u8),
    }
}

fn refused(node: &Node, reason: Refused) -> RuntimeError {
    RuntimeError::Node { node: node.name.clone(), op: node.op.name(), reason }
}

fn invalid(error: &OpError) -> Refused {
    error.to_string()
}
