//! Operators that move, cut, join or reduce: from attributes of older forms to inputs.

use lowbit_graph::{
    Concat, Flatten, Gather, Op, Pad, PadMode, Reduce, ReduceKind, Reshape, Split, Transpose,
};
use lowbit_tensor::Tensor;

use super::node::NodeImport;
use crate::OnnxError;

/// Refuses the inputs that only newer forms have.
fn at_most(node: &NodeImport<'_, '_>, inputs: usize) -> Result<(), OnnxError> {
    if node.inputs.len() <= inputs {
        return Ok(());
    }
    let supported = format!("{inputs} in opset {}", node.opset);
    Err(node.wrong("number of inputs", node.inputs.len(), supported))
}

/// Refuses a node without an input that this form of the operator must have.
fn needs(node: &NodeImport<'_, '_>, index: usize, name: &str) -> Result<(), OnnxError> {
    match node.input(index) {
        Some(_) => Ok(()),
        None => Err(node.wrong(format!("input {index} ({name})"), "none", "a value")),
    }
}

pub(super) fn identity(_: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    Ok(Op::Identity)
}

/// Outside of training the input itself.
pub(super) fn dropout(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    if node.opset < 12 {
        node.float("ratio")?;
        at_most(node, 1)?;
    } else {
        node.int("seed")?;
    }
    if let Some(mode) = node.input(2) {
        let mode = node.graph.constant(mode).and_then(|t| t.to_i64());
        match mode.as_deref() {
            Some([0]) => {}
            Some(_) => return Err(node.wrong("input 2 (training_mode)", "true", "false")),
            None => {
                return Err(node.wrong(
                    "input 2 (training_mode)",
                    "a computed value",
                    "a constant",
                ));
            }
        }
    }
    node.inputs.truncate(1);
    Ok(Op::Identity)
}

pub(super) fn concat(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    if let Some(i) = node.inputs.iter().position(Option::is_none) {
        return Err(node.wrong(format!("input {i}"), "left out", "a value"));
    }
    match node.int("axis")? {
        Some(axis) => Ok(Op::Concat(Concat { axis })),
        None => Err(node.attribute_error("axis", "none", "an axis")),
    }
}

pub(super) fn gather(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let axis = node.int("axis")?.unwrap_or(0);
    Ok(Op::Gather(Gather { axis }))
}

pub(super) fn flatten(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let axis = node.int("axis")?.unwrap_or(1);
    Ok(Op::Flatten(Flatten { axis }))
}

pub(super) fn reshape(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let allow_zero = node.opset >= 14 && node.flag("allowzero", false)?;
    Ok(Op::Reshape(Reshape { allow_zero }))
}

pub(super) fn transpose(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let perm = node.sizes("perm")?;
    if let Some(perm) = &perm {
        let mut sorted = perm.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..perm.len()) {
            return Err(node.attribute_error("perm", format!("{perm:?}"), "each axis once"));
        }
    }
    Ok(Op::Transpose(Transpose { perm }))
}

pub(super) fn squeeze(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    if node.opset < 13 {
        at_most(node, 1)?;
        let axes = node.ints("axes")?;
        node.set_ints(1, "axes", axes);
    }
    Ok(Op::Squeeze)
}

pub(super) fn unsqueeze(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    if node.opset < 13 {
        at_most(node, 1)?;
        let axes = node.ints("axes")?;
        node.set_ints(1, "axes", axes);
    }
    needs(node, 1, "axes")?;
    Ok(Op::Unsqueeze)
}

pub(super) fn reduce(node: &mut NodeImport<'_, '_>, kind: ReduceKind) -> Result<Op, OnnxError> {
    let axes_are_input = match kind {
        ReduceKind::Mean => 18,
        ReduceKind::Sum => 13,
    };
    let keep_dims = node.flag("keepdims", true)?;
    let mut noop_with_empty_axes = false;
    if node.opset < axes_are_input {
        at_most(node, 1)?;
        let axes = node.ints("axes")?;
        node.set_ints(1, "axes", axes);
    } else {
        noop_with_empty_axes = node.flag("noop_with_empty_axes", false)?;
    }
    Ok(Op::Reduce(Reduce { kind, keep_dims, noop_with_empty_axes }))
}

pub(super) fn slice(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    if node.opset < 10 {
        at_most(node, 1)?;
        for (index, name) in [(1, "starts"), (2, "ends"), (3, "axes")] {
            let bounds = node.ints(name)?;
            node.set_ints(index, name, bounds);
        }
    }
    needs(node, 1, "starts")?;
    needs(node, 2, "ends")?;
    Ok(Op::Slice)
}

pub(super) fn pad(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let mode = match node.string("mode")?.as_deref() {
        None | Some("constant") => PadMode::Constant,
        Some("edge") => PadMode::Edge,
        Some("reflect") => PadMode::Reflect,
        Some("wrap") if node.opset >= 19 => PadMode::Wrap,
        Some(other) => {
            return Err(node.attribute_error(
                "mode",
                other,
                "constant, edge, reflect, wrap from opset 19 on",
            ));
        }
    };
    if node.opset < 11 {
        at_most(node, 1)?;
        let pads = node.ints("pads")?;
        node.set_ints(1, "pads", pads);
        if let Some(value) = node.float("value")? {
            node.set_input(2, "value", Tensor::scalar(value));
        }
    }
    needs(node, 1, "pads")?;
    Ok(Op::Pad(Pad { mode }))
}

pub(super) fn split(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let axis = node.int("axis")?.unwrap_or(0);
    let outputs = node.outputs.len();
    if node.opset < 13 {
        at_most(node, 1)?;
        let sizes = node.ints("split")?;
        node.set_ints(1, "split", sizes);
    }
    if node.opset >= 18
        && let Some(parts) = node.int("num_outputs")?
        && usize::try_from(parts) != Ok(outputs)
    {
        return Err(node.attribute_error(
            "num_outputs",
            parts,
            format!("{outputs}, the outputs the node has"),
        ));
    }
    Ok(Op::Split(Split { axis, outputs }))
}
