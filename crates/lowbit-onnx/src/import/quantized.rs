//! Quantization and the integer operators of `com.microsoft`.

use lowbit_graph::{Blocking, Concat, DequantizeLinear, Op, QuantizeLinear, Softmax, Unary};
use lowbit_tensor::DType;

use super::node::NodeImport;
use super::table::Domain;
use super::{linear, shape};
use crate::OnnxError;

fn blocking(node: &mut NodeImport<'_, '_>) -> Result<Blocking, OnnxError> {
    let has_axis = node.domain == Domain::Microsoft || node.opset >= 13;
    let has_block = node.domain == Domain::Microsoft || node.opset >= 21;
    let axis = if has_axis { node.int("axis")? } else { None };
    let block = if has_block { node.int("block_size")? } else { None };
    let block = block.unwrap_or(0);
    let Ok(block_size) = usize::try_from(block) else {
        return Err(node.attribute_error("block_size", block, "0 or more"));
    };
    Ok(Blocking { axis: axis.unwrap_or(1), block_size })
}

/// Codes are of the zero point's type, or of `output_dtype`, or uint8.
pub(super) fn quantize(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let blocking = blocking(node)?;
    let standard = node.domain == Domain::Onnx;
    if standard && node.opset >= 19 {
        // Of float8 codes alone.
        node.flag("saturate", true)?;
    }
    let named = if standard && node.opset >= 21 { output_type(node)? } else { None };
    if standard && node.opset >= 23 {
        // The type in which x / scale is computed; 0 and 1 are float.
        node.flag("precision", false)?;
    }
    let of_zero_point = match node.input(2) {
        None => None,
        Some(_) => match node.dtype(2) {
            Some(dtype) => Some(dtype),
            None => {
                return Err(node.wrong(
                    "input 2 (zero point)",
                    "unknown element type",
                    "a known one",
                ));
            }
        },
    };
    let to = of_zero_point.or(named).unwrap_or(DType::U8);
    if named.is_some_and(|named| named != to) {
        return Err(node.attribute_error("output_dtype", "a type unlike the zero point's", to));
    }
    if !is_code(to) {
        return Err(node.wrong("type of codes", to, CODES));
    }
    Ok(Op::QuantizeLinear(QuantizeLinear { blocking, to }))
}

const CODES: &str = "int2, uint2, int4, uint4, int8, uint8, int16, uint16";

fn is_code(dtype: DType) -> bool {
    dtype.bits() <= 16 && dtype != DType::Bool
}

/// `output_dtype`; 0 means that none is named.
fn output_type(node: &mut NodeImport<'_, '_>) -> Result<Option<DType>, OnnxError> {
    let zero = |a: &crate::proto::AttributeProto| {
        a.name.as_deref() == Some("output_dtype") && a.i == Some(0)
    };
    node.attributes.retain(|a| !zero(a));
    shape::dtype(node, "output_dtype")
}

pub(super) fn dequantize(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let blocking = blocking(node)?;
    if node.domain == Domain::Onnx && node.opset >= 23 {
        match output_type(node)? {
            None | Some(DType::F32) => {}
            Some(other) => return Err(node.attribute_error("output_dtype", other, "float32")),
        }
    }
    Ok(Op::DequantizeLinear(DequantizeLinear { blocking }))
}

pub(super) fn qgemm(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    Ok(Op::QGemm(linear::product(node)?))
}

pub(super) fn qlinear_concat(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    if node.inputs.len() % 3 != 2 {
        return Err(node.wrong("number of inputs", node.inputs.len(), "2, and 3 per part"));
    }
    match node.int("axis")? {
        Some(axis) => Ok(Op::QLinearConcat(Concat { axis })),
        None => Err(node.attribute_error("axis", "none", "an axis")),
    }
}

pub(super) fn qlinear_global_average(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    node.only("channels_last", 0)?;
    Ok(Op::QLinearGlobalAveragePool)
}

pub(super) fn qlinear_leaky_relu(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let alpha = node.float("alpha")?.unwrap_or(0.01);
    Ok(Op::QLinearUnary(Unary::LeakyRelu { alpha }))
}

/// Its `opset` attribute says whose Softmax it is: before 13, all axes from `axis` on are one.
pub(super) fn qlinear_softmax(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let Some(opset) = node.int("opset")? else {
        return Err(node.attribute_error(
            "opset",
            "none",
            "the version of Softmax that was quantized",
        ));
    };
    let axis = node.int("axis")?.unwrap_or(-1);
    Ok(Op::QLinearSoftmax(Softmax { axis, log: false, flatten: opset < 13 }))
}
