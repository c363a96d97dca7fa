//! Products, normalization, and operators of many operands.

use lowbit_graph::{Activation, BatchNorm, Binary, Gemm, LayerNorm, Op};

use super::node::NodeImport;
use crate::OnnxError;

/// ONNX's default for both normalizations.
const EPSILON: f32 = 1e-5;

pub(super) fn gemm(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let beta = node.float("beta")?.unwrap_or(1.0);
    let gemm = product(node)?;
    Ok(Op::Gemm(Gemm { beta, ..gemm }))
}

/// The attributes that Gemm and QGemm share.
pub(super) fn product(node: &mut NodeImport<'_, '_>) -> Result<Gemm, OnnxError> {
    Ok(Gemm {
        alpha: node.float("alpha")?.unwrap_or(1.0),
        beta: 1.0,
        transpose_a: node.flag("transA", false)?,
        transpose_b: node.flag("transB", false)?,
        activation: Activation::None,
    })
}

pub(super) fn batch_norm(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let epsilon = node.float("epsilon")?.unwrap_or(EPSILON);
    // How training updates the statistics: nothing to inference.
    node.float("momentum")?;
    node.only("training_mode", 0)?;
    if node.opset < 9 {
        node.only("spatial", 1)?;
    }
    Ok(Op::BatchNorm(BatchNorm { epsilon }))
}

pub(super) fn layer_norm(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let axis = node.int("axis")?.unwrap_or(-1);
    let epsilon = node.float("epsilon")?.unwrap_or(EPSILON);
    // The type of the intermediate results: 1 is float.
    node.only("stash_type", 1)?;
    Ok(Op::LayerNorm(LayerNorm { axis, epsilon }))
}

/// Min and Max of any number of operands, as a chain of pairs.
pub(super) fn chain(node: &mut NodeImport<'_, '_>, binary: Binary) -> Result<Op, OnnxError> {
    if let Some(i) = node.inputs.iter().position(Option::is_none) {
        return Err(node.wrong(format!("input {i}"), "left out", "a value"));
    }
    let inputs = std::mem::take(&mut node.inputs);
    let Some((&last, rest)) = inputs.split_last().filter(|(_, rest)| !rest.is_empty()) else {
        node.inputs = inputs;
        return Ok(Op::Identity);
    };
    let mut so_far = rest[0];
    for &next in &rest[1..] {
        so_far = Some(node.push("pair", Op::Binary(binary), vec![so_far, next]));
    }
    node.inputs = vec![so_far, last];
    Ok(Op::Binary(binary))
}
