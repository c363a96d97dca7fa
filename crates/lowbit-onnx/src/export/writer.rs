//! Nodes, including those that ONNX says in several: fused activations, SiLU and the flattening Softmax.

use std::collections::HashMap;

use lowbit_graph::{
    Activation, Binary, Flatten, Node, Op, Reshape, ShapeOf, Softmax, Unary, ValueId,
};
use lowbit_tensor::Tensor;

use super::forms::{flag, form, string};
use super::qonnx::{DOMAIN, Quantizer};
use crate::OnnxError;
use crate::import::Names;
use crate::proto::{NodeProto, TensorProto};
use crate::tensor::tensor_to_proto;

/// What has been written so far.
pub(super) struct Writer<'a> {
    value_names: &'a HashMap<ValueId, String>,
    names: Names,
    pub(super) nodes: Vec<NodeProto>,
    pub(super) initializers: Vec<TensorProto>,
    pub(super) uses_microsoft: bool,
}

impl<'a> Writer<'a> {
    pub(super) fn new(value_names: &'a HashMap<ValueId, String>, names: Names) -> Self {
        Writer { value_names, names, nodes: vec![], initializers: vec![], uses_microsoft: false }
    }

    pub(super) fn node(&mut self, node: &Node) -> Result<(), OnnxError> {
        let named = |values: &[Option<ValueId>]| -> Vec<String> {
            values
                .iter()
                .map(|v| v.map(|v| self.value_names[&v].clone()).unwrap_or_default())
                .collect()
        };
        let (inputs, outputs) = (named(&node.inputs), named(&node.outputs));
        match &node.op {
            Op::Conv(conv) => self.fused(node, conv.activation, inputs, outputs),
            Op::Gemm(gemm) => self.fused(node, gemm.activation, inputs, outputs),
            Op::Unary(Unary::Silu) => self.silu(node, &inputs, outputs),
            Op::Softmax(softmax) if softmax.flatten => {
                self.flattened(node, *softmax, &inputs, outputs)
            }
            _ => self.plain(node, &node.op, inputs, outputs),
        }
    }

    /// One quantizer of QONNX in the place of its DequantizeLinear.
    pub(super) fn quantizer(&mut self, node: &Node, quantizer: &Quantizer) {
        let operand = |writer: &mut Self, what: &str, tensor: &Tensor| {
            let name = writer.names.fresh(&format!("{}_{what}", node.name));
            writer.initializers.push(tensor_to_proto(&name, tensor));
            name
        };
        let x = self.value_names[&quantizer.x].clone();
        let mut input = vec![x, operand(self, "quant_scale", &quantizer.scale)];
        let mut attribute = vec![];
        if let Some(form) = quantizer.form {
            input.push(operand(self, "zeropt", &quantizer.zero_point));
            #[expect(clippy::cast_precision_loss, reason = "at most 16 bits")]
            input.push(operand(self, "bitwidth", &Tensor::scalar(form.bits as f32)));
            attribute.push(flag("signed", form.signed));
            attribute.push(flag("narrow", form.narrow));
            attribute.push(string("rounding_mode", "ROUND"));
        }
        let op = if quantizer.form.is_some() { "IntQuant" } else { "BipolarQuant" };
        self.nodes.push(NodeProto {
            name: Some(node.name.clone()),
            op_type: Some(op.to_owned()),
            domain: Some(DOMAIN.to_owned()),
            input,
            output: vec![self.value_names[&node.output()].clone()],
            attribute,
            ..NodeProto::default()
        });
    }

    /// One node. `like` gives the operands that attributes depend on.
    fn plain(
        &mut self,
        like: &Node,
        op: &Op,
        mut inputs: Vec<String>,
        outputs: Vec<String>,
    ) -> Result<(), OnnxError> {
        while inputs.last().is_some_and(String::is_empty) {
            inputs.pop();
        }
        let form = form(&Node { op: op.clone(), ..like.clone() })?;
        self.uses_microsoft |= form.microsoft;
        self.nodes.push(NodeProto {
            name: Some(like.name.clone()),
            op_type: Some(form.op.to_owned()),
            domain: form.microsoft.then(|| "com.microsoft".to_owned()),
            input: inputs,
            output: outputs,
            attribute: form.attributes,
            ..NodeProto::default()
        });
        Ok(())
    }

    /// A node that stands beside `node` and has no counterpart in the graph.
    fn helper(
        &mut self,
        node: &Node,
        what: &str,
        op: &Op,
        inputs: Vec<String>,
    ) -> Result<String, OnnxError> {
        let name = format!("{}_{what}", node.name);
        let output = self.names.fresh(&format!("{name}_out"));
        let like = Node { name, op: op.clone(), inputs: vec![], outputs: vec![] };
        self.plain(&like, op, inputs, vec![output.clone()])?;
        Ok(output)
    }

    fn fused(
        &mut self,
        node: &Node,
        activation: Activation,
        inputs: Vec<String>,
        outputs: Vec<String>,
    ) -> Result<(), OnnxError> {
        let op = match activation {
            Activation::None => return self.plain(node, &node.op, inputs, outputs),
            Activation::Relu => Op::Unary(Unary::Relu),
            Activation::Clip { .. } => Op::Clip,
        };
        let linear = self.names.fresh(&format!("{}_linear", node.name));
        self.plain(node, &node.op, inputs, vec![linear.clone()])?;
        let mut operands = vec![linear];
        if let Activation::Clip { min, max } = activation {
            operands.push(self.limit(node, "min", min));
            operands.push(self.limit(node, "max", max));
        }
        let name = format!("{}_activation", node.name);
        let like = Node { name, op: op.clone(), inputs: vec![], outputs: vec![] };
        self.plain(&like, &op, operands, outputs)
    }

    /// An initializer for one limit of a Clip; left out where it is infinite.
    fn limit(&mut self, node: &Node, what: &str, value: f32) -> String {
        if value.is_infinite() {
            return String::new();
        }
        let name = self.names.fresh(&format!("{}_{what}", node.name));
        self.initializers.push(tensor_to_proto(&name, &Tensor::scalar(value)));
        name
    }

    fn silu(
        &mut self,
        node: &Node,
        inputs: &[String],
        outputs: Vec<String>,
    ) -> Result<(), OnnxError> {
        let sigmoid = self.helper(node, "sigmoid", &Op::Unary(Unary::Sigmoid), inputs.to_vec())?;
        self.plain(node, &Op::Binary(Binary::Mul), vec![inputs[0].clone(), sigmoid], outputs)
    }

    /// All axes from `axis` on as one: through a matrix and back.
    fn flattened(
        &mut self,
        node: &Node,
        softmax: Softmax,
        inputs: &[String],
        outputs: Vec<String>,
    ) -> Result<(), OnnxError> {
        let shape = Op::Shape(ShapeOf { start: 0, end: None });
        let shape = self.helper(node, "shape", &shape, inputs.to_vec())?;
        let flat = Op::Flatten(Flatten { axis: softmax.axis });
        let flat = self.helper(node, "flat", &flat, inputs.to_vec())?;
        let rows = Op::Softmax(Softmax { axis: -1, flatten: false, ..softmax });
        let rows = self.helper(node, "rows", &rows, vec![flat])?;
        let back = Op::Reshape(Reshape { allow_zero: false });
        self.plain(node, &back, vec![rows, shape], outputs)
    }
}
