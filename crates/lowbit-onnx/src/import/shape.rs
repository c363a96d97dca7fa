//! Constants, shapes as data, and conversions of type.

use lowbit_graph::{Cast, ConstantOfShape, Op, ShapeOf};
use lowbit_tensor::{DType, Tensor};

use super::node::NodeImport;
use crate::OnnxError;
use crate::tensor::{SUPPORTED_TYPES, dtype_of, type_name};

/// The one attribute that says what a Constant is.
pub(super) fn constant(node: &mut NodeImport<'_, '_>) -> Result<Tensor, OnnxError> {
    if let Some(tensor) = node.tensor("value")? {
        return Ok(tensor);
    }
    if let Some(value) = node.float("value_float")? {
        return Ok(Tensor::scalar(value));
    }
    if let Some(values) = node.floats("value_floats")? {
        return Ok(Tensor::vector(values));
    }
    if let Some(value) = node.int("value_int")? {
        return Ok(Tensor::scalar(value));
    }
    if let Some(values) = node.ints("value_ints")? {
        return Ok(Tensor::vector(values));
    }
    let supported = "value, value_float, value_floats, value_int, value_ints";
    let found = match node.attributes.first() {
        Some(attribute) => attribute.name.clone().unwrap_or_default(),
        None => "none".into(),
    };
    Err(node.attribute_error(&found, "no value that is read", supported))
}

pub(super) fn constant_of_shape(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let value = node.tensor("value")?.unwrap_or_else(|| Tensor::vector(vec![0.0f32]));
    if value.len() != 1 {
        return Err(node.attribute_error(
            "value",
            format!("{} elements", value.len()),
            "one element",
        ));
    }
    Ok(Op::ConstantOfShape(ConstantOfShape { value }))
}

pub(super) fn shape(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let (mut start, mut end) = (0, None);
    if node.opset >= 15 {
        start = node.int("start")?.unwrap_or(0);
        end = node.int("end")?;
    }
    Ok(Op::Shape(ShapeOf { start, end }))
}

/// The element type an attribute names.
pub(super) fn dtype(node: &mut NodeImport<'_, '_>, name: &str) -> Result<Option<DType>, OnnxError> {
    let Some(code) = node.int(name)? else {
        return Ok(None);
    };
    let known = i32::try_from(code).ok();
    match known.and_then(dtype_of) {
        Some(dtype) => Ok(Some(dtype)),
        None => Err(node.attribute_error(
            name,
            known.map_or(code.to_string(), type_name),
            SUPPORTED_TYPES,
        )),
    }
}

pub(super) fn cast(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    // How values beyond a float8 are converted, and to float8e8m0: not to any type that is supported.
    if node.opset >= 19 {
        node.flag("saturate", true)?;
    }
    if node.opset >= 24 {
        node.string("round_mode")?;
    }
    match dtype(node, "to")? {
        Some(to) => Ok(Op::Cast(Cast { to })),
        None => Err(node.attribute_error("to", "none", SUPPORTED_TYPES)),
    }
}
