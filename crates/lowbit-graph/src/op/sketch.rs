//! Results by shape alone, for runs that are only about shapes.

use lowbit_tensor::{DType, Shape, Tensor};

use super::{Inputs, Op};

/// Results with fewer elements are computed: they may be sizes and limits.
const LARGE: usize = 4096;

impl Op {
    /// Zeros of the result's type and shape, where the result is large and its shape follows easily; `None` otherwise, also when the
    /// inputs do not fit, so that the operator itself says what is wrong.
    pub(crate) fn sketch(&self, inputs: &Inputs<'_>) -> Option<Tensor> {
        let x = inputs.optional(0)?;
        let conv = |conv: &super::Conv, weight: usize, dtype: DType| {
            let shape = conv.weight_shape(weight, inputs.optional(weight)?).ok()?;
            zeros(conv.geometry(x, shape).ok()?.1, dtype)
        };
        match self {
            Op::Conv(attributes) => conv(attributes, 1, DType::F32),
            Op::QLinearConv(attributes) => conv(attributes, 3, x.dtype()),
            Op::QuantizeLinear(quantize) => zeros(x.shape().clone(), quantize.to),
            Op::DequantizeLinear(_) => zeros(x.shape().clone(), DType::F32),
            Op::Unary(_) | Op::Clip if x.dtype() == DType::F32 => {
                zeros(x.shape().clone(), DType::F32)
            }
            Op::Binary(binary) if x.dtype() == DType::F32 && !binary.is_comparison() => {
                let other = inputs.optional(1).filter(|other| other.dtype() == DType::F32)?;
                zeros(x.shape().broadcast(other.shape())?, DType::F32)
            }
            _ => None,
        }
    }
}

fn zeros(shape: Shape, dtype: DType) -> Option<Tensor> {
    let len = shape.checked_len().filter(|len| (LARGE..=LARGE << 16).contains(len))?;
    match dtype {
        DType::F32 => Some(Tensor::new(shape, vec![0f32; len])),
        DType::U8 => Some(Tensor::new(shape, vec![0u8; len])),
        DType::I8 => Some(Tensor::new(shape, vec![0i8; len])),
        _ => None,
    }
}
