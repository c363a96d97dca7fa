//! Constants as floats behind the quantizer that makes their codes: QuantizeLinear → Clip → DequantizeLinear.
//!
//! The form that QONNX files are written from: there, tensors are floats and a quantizer is one operator. A float constant
//! holds what the codes mean, so that the quantizer makes exactly these codes of it. Biases are plain floats, which
//! runtimes quantize as they need. Knows nothing of files.

use std::collections::HashSet;

use lowbit_graph::{Blocking, DequantizeLinear, Graph, Node, Op, QuantizeLinear, ValueId};
use lowbit_quant::{Granularity, Table};
use lowbit_tensor::{Buffer, DType, Tensor};

use crate::insert::{Held, back_to_graph};
use crate::{Assignment, PtqError, QuantizedGraph, Weight};

/// The graph in this form.
///
/// # Errors
/// `NotUniform` names a layer whose weights are no integers of one number of bits, with a scale for the tensor or for each
/// output channel.
pub fn qcdq(quantized: &QuantizedGraph, assignment: &Assignment) -> Result<Graph, PtqError> {
    let mut form = Form { graph: quantized.graph.clone(), added: vec![] };
    let mut known = HashSet::new();
    for weight in &quantized.weights {
        let limits = limits(weight).ok_or_else(|| not_uniform(weight, assignment))?;
        known.extend(form.weight(weight, limits));
        if let Some(bias) = &weight.bias
            && let Some([codes, _]) = bias.codes
        {
            known.insert(codes);
            let name = format!("{}_bias", weight.node);
            let floats = form.graph.add_constant(&name, Tensor::vector(bias.values.clone()));
            form.graph.replace_uses(bias.result, floats);
        }
    }
    form.operands(&known);
    let mut graph = form.graph;
    graph.nodes.extend(form.added);
    graph.remove_dead();
    graph.sort()?;
    graph.verify()?;
    Ok(graph)
}

fn not_uniform(weight: &Weight, assignment: &Assignment) -> PtqError {
    let layer = assignment.layers.get(&weight.index);
    PtqError::NotUniform {
        node: weight.node.clone(),
        grid: layer.map_or("found", |layer| layer.weights.grid.name()),
        granularity: weight.coded.granularity().name(),
    }
}

/// Smallest and largest integer of a weight, where its levels are all integers between them.
fn limits(weight: &Weight) -> Option<(i32, i32)> {
    let coded = &weight.coded;
    if !matches!(coded.granularity(), Granularity::Tensor | Granularity::Channel) {
        return None;
    }
    let [Table::Scalar(levels)] = coded.tables() else { return None };
    let values = levels.values();
    // The signs ±1 are all the integers but 0: an operator of their own.
    let ascends = values.windows(2).all(|pair| pair[1] - pair[0] == 1.0) || values == [-1.0, 1.0];
    let (low, high) = (*values.first()?, *values.last()?);
    let whole = low.fract() == 0.0 && low >= -32768.0 && high <= 65535.0;
    (ascends && whole).then_some((low as i32, high as i32))
}

struct Form {
    graph: Graph,
    added: Vec<Node>,
}

impl Form {
    /// Puts a quantizer of floats before the layer; returns the codes that it replaces.
    fn weight(&mut self, weight: &Weight, limits: (i32, i32)) -> Option<ValueId> {
        let name = format!("{}_weight", weight.node);
        let floats = back_to_graph(weight, weight.coded.decode());
        let floats = Tensor::new(weight.graph_shape(), floats);
        let x = self.graph.add_constant(&format!("{name}_float"), floats);
        let axis = i64::from(weight.turned());
        match weight.held {
            Held::Integers { codes, scales, .. } => {
                let count = self.graph.constant(scales).map_or(1, |scales| scales.len());
                let zeros = Tensor::vector(vec![0i8; count]);
                let zeros = self.graph.add_constant(&format!("{name}_zero"), zeros);
                let made = self.quantizer(&name, (x, axis), ([scales, zeros], DType::I8, limits));
                self.graph.replace_uses(codes, made);
                Some(codes)
            }
            Held::Floats { .. } => {
                let dtype = if limits.0 < 0 { DType::I16 } else { DType::U16 };
                let scales = weight.coded.scales().to_vec();
                let zeros = integers(dtype, vec![scales.len()], vec![0; scales.len()]);
                let scales =
                    self.graph.add_constant(&format!("{name}_scale"), Tensor::vector(scales));
                let zeros = self.graph.add_constant(&format!("{name}_zero"), zeros);
                let made = self.quantizer(&name, (x, axis), ([scales, zeros], dtype, limits));
                let result = self.graph.fresh(&format!("{name}_dequantized"));
                let blocking = Blocking { axis, block_size: 0 };
                let op = Op::DequantizeLinear(DequantizeLinear { blocking });
                self.node(format!("{name}_DequantizeLinear"), op, (&[made, scales, zeros], result));
                self.graph.replace_uses(weight.result, result);
                None
            }
        }
    }

    /// Puts quantizers of floats before all other dequantized constants.
    fn operands(&mut self, known: &HashSet<ValueId>) {
        for index in 0..self.graph.nodes.len() {
            let node = self.graph.nodes[index].clone();
            let Op::DequantizeLinear(how) = node.op else { continue };
            let [Some(codes), Some(scale), Some(zero)] = node.inputs[..] else { continue };
            let constant = |value| self.graph.constant(value).cloned();
            let (Some(tensor), false) = (constant(codes), known.contains(&codes)) else { continue };
            let (Some(scales), Some(zeros)) = (constant(scale), constant(zero)) else { continue };
            let ([scale_value], Some(limits)) = (scales.f32s(), tensor.dtype().range()) else {
                continue;
            };
            let zero_value = zeros.to_f64()[0];
            let values = tensor.to_f64().into_iter().map(|q| (q - zero_value) as f32 * scale_value);
            let floats = Tensor::new(tensor.shape().clone(), values.collect());
            let x = self.graph.add_constant(&format!("{}_float", node.name), floats);
            let operands = ([scale, zero], tensor.dtype(), limits);
            let made = self.quantizer(&node.name, (x, how.blocking.axis), operands);
            self.graph.nodes[index].inputs[0] = Some(made);
        }
    }

    /// QuantizeLinear of `x`, and a Clip where the type has more codes than `limits`; returns the codes.
    fn quantizer(
        &mut self,
        name: &str,
        (x, axis): (ValueId, i64),
        ([scale, zero], to, limits): ([ValueId; 2], DType, (i32, i32)),
    ) -> ValueId {
        let blocking = Blocking { axis, block_size: 0 };
        let op = Op::QuantizeLinear(QuantizeLinear { blocking, to });
        let codes = self.graph.fresh(&format!("{name}_codes"));
        self.node(format!("{name}_QuantizeLinear"), op, (&[x, scale, zero], codes));
        if to.range() == Some(limits) {
            return codes;
        }
        let [low, high] = [("low", limits.0), ("high", limits.1)].map(|(what, limit)| {
            let limit = integers(to, vec![], vec![limit]);
            self.graph.add_constant(&format!("{name}_{what}"), limit)
        });
        let clipped = self.graph.fresh(&format!("{name}_clipped"));
        self.node(format!("{name}_Clip"), Op::Clip, (&[codes, low, high], clipped));
        clipped
    }

    fn node(&mut self, name: String, op: Op, (inputs, output): (&[ValueId], ValueId)) {
        let inputs = inputs.iter().copied().map(Some).collect();
        self.added.push(Node { name, op, inputs, outputs: vec![Some(output)] });
    }
}

fn integers(dtype: DType, dims: Vec<usize>, values: Vec<i32>) -> Tensor {
    let buffer = match dtype {
        DType::I16 => Buffer::I16(values.iter().map(|&v| v as i16).collect()),
        DType::U16 => Buffer::U16(values.iter().map(|&v| v as u16).collect()),
        DType::I8 => Buffer::I8(values.iter().map(|&v| v as i8).collect()),
        _ => Buffer::U8(values.iter().map(|&v| v as u8).collect()),
    };
    Tensor::try_new(buffer.dtype(), dims, buffer).expect("as many values as the dimensions say")
}

#[cfg(test)]
mod tests;
