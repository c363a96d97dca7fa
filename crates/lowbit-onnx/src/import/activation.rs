//! Activations: from attributes of older forms to inputs.

use lowbit_graph::{Op, Softmax, Unary};
use lowbit_tensor::Tensor;

use super::node::NodeImport;
use crate::OnnxError;

/// Limits were attributes before opset 11.
pub(super) fn clip(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    if node.opset < 11 {
        if node.inputs.len() > 1 {
            return Err(node.wrong("number of inputs", node.inputs.len(), "1 before opset 11"));
        }
        for (index, name) in [(1, "min"), (2, "max")] {
            if let Some(limit) = node.float(name)? {
                node.set_input(index, name, Tensor::scalar(limit));
            }
        }
    }
    Ok(Op::Clip)
}

pub(super) fn gelu(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    match node.string("approximate")?.as_deref() {
        None | Some("none") => Ok(Op::Unary(Unary::Gelu)),
        Some("tanh") => Ok(Op::Unary(Unary::GeluTanh)),
        Some(other) => Err(node.attribute_error("approximate", other, "none, tanh")),
    }
}

pub(super) fn hard_sigmoid(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let alpha = node.float("alpha")?.unwrap_or(0.2);
    let beta = node.float("beta")?.unwrap_or(0.5);
    Ok(Op::Unary(Unary::HardSigmoid { alpha, beta }))
}

pub(super) fn leaky_relu(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let alpha = node.float("alpha")?.unwrap_or(0.01);
    Ok(Op::Unary(Unary::LeakyRelu { alpha }))
}

/// Before opset 13 all axes from `axis` (by default 1) on were one; that is the same where `axis` is the last.
pub(super) fn softmax(node: &mut NodeImport<'_, '_>, log: bool) -> Result<Op, OnnxError> {
    let old = node.opset < 13;
    let axis = node.int("axis")?.unwrap_or(if old { 1 } else { -1 });
    let rank = node.rank(0).and_then(|r| i64::try_from(r).ok());
    let last = axis == -1 || rank.is_some_and(|r| axis == r - 1);
    Ok(Op::Softmax(Softmax { axis, log, flatten: old && !last }))
}
