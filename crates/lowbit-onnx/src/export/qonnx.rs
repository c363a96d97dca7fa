//! The QONNX dialect: QuantizeLinear, Clip and DequantizeLinear of one quantizer become one `IntQuant` (or
//! `BipolarQuant`) of floats.

use std::collections::HashMap;

use lowbit_graph::{Graph, Node, Op, ValueId};
use lowbit_tensor::Tensor;

use crate::OnnxError;
use crate::infer::Facts;

/// The domain of QONNX's operators.
pub(super) const DOMAIN: &str = "qonnx.custom_op.general";

/// What one DequantizeLinear and the operators before it say.
#[derive(Clone, Debug)]
pub(super) struct Quantizer {
    /// What is quantized.
    pub(super) x: ValueId,
    /// One, or broadcast along the axis that has several.
    pub(super) scale: Tensor,
    /// As the scale.
    pub(super) zero_point: Tensor,
    /// `None` for the signs ±1.
    pub(super) form: Option<IntForm>,
}

/// Which integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IntForm {
    pub(super) bits: u32,
    pub(super) signed: bool,
    pub(super) narrow: bool,
}

/// The quantizers of a graph by the index of their DequantizeLinear; `None` for nodes that are part of one.
///
/// # Errors
/// `Node` for quantization that QONNX cannot say.
pub(super) fn quantizers(
    graph: &Graph,
    facts: &Facts,
) -> Result<HashMap<usize, Option<Quantizer>>, OnnxError> {
    let producers = graph.producers();
    let maker = |value: Option<ValueId>| value.and_then(|v| producers.get(&v)).copied();
    let mut found = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if !matches!(node.op, Op::DequantizeLinear(_)) {
            continue;
        }
        let mut quantize = maker(node.input(0));
        let clip = quantize.filter(|&i| graph.nodes[i].op == Op::Clip);
        if let Some(clip) = clip {
            quantize = maker(graph.nodes[clip].input(0));
        }
        let quantize = quantize.filter(|&i| matches!(graph.nodes[i].op, Op::QuantizeLinear(_)));
        let Some(quantize) = quantize else {
            return Err(refused(node, "codes", "computed", "those of one QuantizeLinear"));
        };
        let parts = (&graph.nodes[quantize], clip.map(|i| &graph.nodes[i]));
        found.insert(index, Some(quantizer(graph, facts, node, parts)?));
        found.extend([(quantize, None)].into_iter().chain(clip.map(|i| (i, None))));
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        let alone = matches!(node.op, Op::QuantizeLinear(_)) && !found.contains_key(&index);
        if alone {
            return Err(refused(node, "readers", "none", "a DequantizeLinear"));
        }
    }
    Ok(found)
}

fn quantizer(
    graph: &Graph,
    facts: &Facts,
    dequantize: &Node,
    (quantize, clip): (&Node, Option<&Node>),
) -> Result<Quantizer, OnnxError> {
    let (Op::QuantizeLinear(how), Some(x)) = (&quantize.op, quantize.input(0)) else {
        return Err(refused(quantize, "input 0", "none", "a value"));
    };
    let same = |index| {
        let constant = |node: &Node| graph.constant_input(node, index).cloned();
        constant(quantize) == constant(dequantize)
    };
    if !same(1) || !same(2) || how.blocking.block_size > 0 {
        let found = "scales or zero points that differ from its QuantizeLinear's, or blocks";
        return Err(refused(dequantize, "scale", found, "one scale per tensor or channel"));
    }
    let whole = how.to.range().unwrap_or_default();
    let limit = |index: usize, whole: i32| {
        let constant = clip.and_then(|clip| graph.constant_input(clip, index));
        constant.and_then(|c| i32::try_from(*c.to_i64()?.first()?).ok()).unwrap_or(whole)
    };
    let limits = (limit(1, whole.0), limit(2, whole.1));
    let form = form(limits).ok_or_else(|| {
        refused(dequantize, "codes", &format!("{limits:?}"), "those of a number of bits")
    })?;
    let rank = facts.get(x).and_then(|fact| Some(fact.dims.as_ref()?.len()));
    let operand = |index: usize| {
        graph.constant_input(quantize, index).map(|c| operand(c, how.blocking.axis, rank))
    };
    let Some(Some(scale)) = operand(1) else {
        return Err(refused(quantize, "scale", "computed, or of an unknown axis", "a constant"));
    };
    let zero_point = operand(2).flatten().unwrap_or_else(|| Tensor::scalar(0.0f32));
    let signs = limits == (-1, 1) && graph.constant(x).is_some_and(|x| !x.f32s().contains(&0.0));
    Ok(Quantizer { x, scale, zero_point, form: (!signs).then_some(form) })
}

fn form((low, high): (i32, i32)) -> Option<IntForm> {
    let count = high.checked_add(1)?;
    let power = u32::try_from(count).ok().filter(|count| count.is_power_of_two())?.ilog2();
    match low {
        0 => Some(IntForm { bits: power, signed: false, narrow: false }),
        low if low == -count => Some(IntForm { bits: power + 1, signed: true, narrow: false }),
        low if low == -high => Some(IntForm { bits: power + 1, signed: true, narrow: true }),
        _ => None,
    }
}

/// A scale or zero point as floats that broadcast along `axis` of a tensor of that rank.
fn operand(constant: &Tensor, axis: i64, rank: Option<usize>) -> Option<Tensor> {
    #[expect(clippy::cast_possible_truncation, reason = "floats, and codes of at most 16 bits")]
    let values: Vec<f32> = constant.to_f64().into_iter().map(|x| x as f32).collect();
    if let [one] = values[..] {
        return Some(Tensor::scalar(one));
    }
    let signed = i64::try_from(rank?).ok()?;
    let axis = usize::try_from(if axis < 0 { axis + signed } else { axis }).ok()?;
    let mut dims = vec![1; rank?];
    *dims.get_mut(axis)? = values.len();
    Some(Tensor::new(dims, values))
}

fn refused(node: &Node, what: &str, found: &str, supported: &str) -> OnnxError {
    OnnxError::Node {
        node: node.name.clone(),
        op: node.op.name(),
        what: format!("{what} in QONNX"),
        found: found.to_owned(),
        supported: supported.to_owned(),
    }
}
