//! QONNX: quantizers of any width as one operator (Pappalardo et al. 2022, arXiv:2206.07527). They become what ONNX
//! itself has: QuantizeLinear, a Clip of the codes where their type is wider, DequantizeLinear.

use lowbit_graph::{Binary, Blocking, DequantizeLinear, Op, QuantizeLinear};
use lowbit_tensor::{Buffer, DType, Tensor};

use super::node::NodeImport;
use crate::OnnxError;

/// `Quant` and `IntQuant`: clamp(round(x / scale + zeropt)), in units of scale around zeropt.
pub(super) fn int_quant(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let limits = limits(node)?;
    let dtype = code_type(limits);
    let (blocking, scale) = scale(node)?;
    let zero_point = zero_point(node, scale.len(), dtype)?;
    let x = node.input(0);
    let scale = Some(node.constant("scale", scale));
    let zero_point = Some(node.constant("zero_point", zero_point));
    let quantize = Op::QuantizeLinear(QuantizeLinear { blocking, to: dtype });
    let mut codes = node.push("QuantizeLinear", quantize, vec![x, scale, zero_point]);
    if dtype.range() != Some(limits) {
        let low = Some(node.constant("low", codes_of(dtype, &[], vec![limits.0])));
        let high = Some(node.constant("high", codes_of(dtype, &[], vec![limits.1])));
        codes = node.push("Clip", Op::Clip, vec![Some(codes), low, high]);
    }
    node.inputs = vec![Some(codes), scale, zero_point];
    Ok(Op::DequantizeLinear(DequantizeLinear { blocking }))
}

/// `BipolarQuant`: scale where x is at least 0, -scale elsewhere. Of a constant, codes of -1 and 1; of a computed value the choice
/// itself, and behind it a quantizer that holds both exactly.
pub(super) fn bipolar_quant(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let (blocking, scale) = scale(node)?;
    let x = node.input(0).and_then(|x| node.graph.constant(x)).cloned();
    let Some(x) = x else { return computed_signs(node, scale) };
    let Ok(values) = x.as_slice::<f32>() else {
        return Err(node.wrong("input 0 (X)", x.dtype(), "float32"));
    };
    let signs: Vec<i8> = values.iter().map(|&v| if v >= 0.0 { 1 } else { -1 }).collect();
    let codes = node.constant("signs", Tensor::new(x.shape().clone(), signs));
    let scale = node.constant("scale", scale);
    node.inputs = vec![Some(codes), Some(scale)];
    Ok(Op::DequantizeLinear(DequantizeLinear { blocking }))
}

/// The signs of a value that is not constant, quantized to int8.
fn computed_signs(node: &mut NodeImport<'_, '_>, scale: Tensor) -> Result<Op, OnnxError> {
    let &[above] = scale.f32s() else {
        let found = format!("{} numbers", scale.len());
        return Err(node.wrong("input 1 (scale)", found, "one for a value that is computed"));
    };
    let x = node.input(0);
    let zero = Some(node.constant("zero", Tensor::scalar(0f32)));
    let compare = Op::Binary(Binary::GreaterOrEqual);
    let positive = node.push("GreaterOrEqual", compare, vec![x, zero]);
    let scale = Some(node.constant("scale", Tensor::scalar(above)));
    let below = Some(node.constant("below", Tensor::scalar(-above)));
    let signs = node.push("Where", Op::Where, vec![Some(positive), scale, below]);
    let zero_point = Some(node.constant("zero_point", Tensor::scalar(0i8)));
    let blocking = Blocking { axis: 1, block_size: 0 };
    let quantize = Op::QuantizeLinear(QuantizeLinear { blocking, to: DType::I8 });
    let codes = node.push("QuantizeLinear", quantize, vec![Some(signs), scale, zero_point]);
    node.inputs = vec![Some(codes), scale, zero_point];
    Ok(Op::DequantizeLinear(DequantizeLinear { blocking }))
}

/// Smallest and largest code.
fn limits(node: &mut NodeImport<'_, '_>) -> Result<(i32, i32), OnnxError> {
    let required = |found: Option<i64>, name: &str, node: &NodeImport<'_, '_>| match found {
        Some(flag @ (0 | 1)) => Ok(flag == 1),
        Some(other) => Err(node.attribute_error(name, other, "0 or 1")),
        None => Err(node.attribute_error(name, "none", "0 or 1")),
    };
    let signed = node.int("signed")?;
    let signed = required(signed, "signed", node)?;
    let narrow = node.int("narrow")?;
    let narrow = required(narrow, "narrow", node)?;
    let mode = node.string("rounding_mode")?.unwrap_or_else(|| "ROUND".to_owned());
    if !["ROUND", "HALF_EVEN"].contains(&mode.to_ascii_uppercase().as_str()) {
        return Err(node.attribute_error("rounding_mode", mode, "ROUND, HALF_EVEN"));
    }
    let least = if signed { 2 } else { 1 };
    let bits = constant(node, 3, "bitwidth")?.1;
    let &[bits] = bits.as_slice() else {
        return Err(node.wrong("input 3 (bitwidth)", format!("{} numbers", bits.len()), "one"));
    };
    if bits.fract() != 0.0 || !(least as f32..=16.0).contains(&bits) {
        let supported = format!("an integer of {least} to 16 (BipolarQuant for one signed bit)");
        return Err(node.wrong("input 3 (bitwidth)", bits, supported));
    }
    let bits = bits as u32;
    let cut = i32::from(narrow);
    Ok(match signed {
        true => (cut - (1 << (bits - 1)), (1 << (bits - 1)) - 1),
        false => (0, (1 << bits) - 1 - cut),
    })
}

/// The narrowest type of 8 or 16 bits that has these codes.
fn code_type((low, high): (i32, i32)) -> DType {
    match (low < 0, low >= -128 && high <= if low < 0 { 127 } else { 255 }) {
        (true, true) => DType::I8,
        (false, true) => DType::U8,
        (true, false) => DType::I16,
        (false, false) => DType::U16,
    }
}

/// The numbers of an input that must be an initializer.
fn constant(
    node: &NodeImport<'_, '_>,
    index: usize,
    name: &str,
) -> Result<(Vec<usize>, Vec<f32>), OnnxError> {
    let tensor = node.input(index).and_then(|value| node.graph.constant(value));
    let floats = tensor.and_then(|tensor| Some((tensor, tensor.as_slice::<f32>().ok()?)));
    match floats {
        Some((tensor, values)) => Ok((tensor.shape().to_vec(), values.to_vec())),
        None => Err(node.wrong(
            format!("input {index} ({name})"),
            "a computed value, or one that is not float32",
            "a float32 initializer",
        )),
    }
}

/// One scale, or a vector of them and the axis it runs along.
fn scale(node: &NodeImport<'_, '_>) -> Result<(Blocking, Tensor), OnnxError> {
    let (shape, values) = constant(node, 1, "scale")?;
    if let Some(bad) = values.iter().find(|&&s| !(s > 0.0 && s.is_finite())) {
        return Err(node.wrong("input 1 (scale)", bad, "finite numbers above 0"));
    }
    let wide: Vec<usize> = (0..shape.len()).filter(|&axis| shape[axis] != 1).collect();
    match wide[..] {
        [] => Ok((Blocking { axis: 1, block_size: 0 }, Tensor::scalar(values[0]))),
        [axis] => {
            // From the end, as broadcasting aligns shapes.
            let axis = axis as i64 - shape.len() as i64;
            Ok((Blocking { axis, block_size: 0 }, Tensor::vector(values)))
        }
        _ => {
            let found = format!("shape {shape:?}");
            Err(node.wrong(
                "input 1 (scale)",
                found,
                "one scale, or one for each index of one axis",
            ))
        }
    }
}

/// A zero point for each scale.
fn zero_point(node: &NodeImport<'_, '_>, scales: usize, dtype: DType) -> Result<Tensor, OnnxError> {
    let (_, values) = constant(node, 2, "zeropt")?;
    let values = if values.len() == 1 { vec![values[0]; scales] } else { values };
    if values.len() != scales {
        let found = format!("{} numbers", values.len());
        return Err(node.wrong(
            "input 2 (zeropt)",
            found,
            format!("one, or {scales} as of scales"),
        ));
    }
    let (low, high) = dtype.range().unwrap_or_default();
    let fits = |z: &f32| z.fract() == 0.0 && (low as f32..=high as f32).contains(z);
    if let Some(bad) = values.iter().find(|z| !fits(z)) {
        let supported = format!("integers of {low} to {high}");
        return Err(node.wrong("input 2 (zeropt)", bad, supported));
    }
    let shape: &[usize] = if scales == 1 { &[] } else { &[scales] };
    Ok(codes_of(dtype, shape, values.iter().map(|&z| z as i32).collect()))
}

fn codes_of(dtype: DType, shape: &[usize], codes: Vec<i32>) -> Tensor {
    let buffer = match dtype {
        DType::I8 => Buffer::I8(codes.iter().map(|&c| c as i8).collect()),
        DType::U8 => Buffer::U8(codes.iter().map(|&c| c as u8).collect()),
        DType::I16 => Buffer::I16(codes.iter().map(|&c| c as i16).collect()),
        _ => Buffer::U16(codes.iter().map(|&c| c as u16).collect()),
    };
    Tensor::try_new(buffer.dtype(), shape.to_vec(), buffer)
        .expect("as many codes as the shape says")
}
