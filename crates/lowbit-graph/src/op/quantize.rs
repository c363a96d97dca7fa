//! Between floats and codes: the definition of quantization itself.

use lowbit_kernels::{dot, quantize_gradient};
use lowbit_tensor::{Buffer, DType, Shape, Tensor};

use super::dispatch::wrong_type;
use super::inputs::resolve_axis;
use super::{Back, Gradients, Inputs, pooled};
use crate::{OpError, Workspace};

/// How scales lie along a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocking {
    /// The axis a vector of scales runs along; negative counts from the end.
    pub axis: i64,
    /// Elements per scale along `axis`; 0 when not blocked.
    pub block_size: usize,
}

/// y = saturate(round_half_even(x / scale) + zero_point).
///
/// Pseudo-gradient (straight-through estimator, Bengio et al. 2013, arXiv:1308.3432; of the scale, LSQ, Esser et al. 2020, eq. 3,
/// arXiv:1902.08153), g being that of the codes: g / scale to x and Σ -g · x / scale² to the scale where the code did not
/// saturate, 0 elsewhere. With that of [`DequantizeLinear`] of the same scale, together: g to x, and Σ g · (y - z - x / scale)
/// or, where the code saturated, Σ g · (y - z) to the scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantizeLinear {
    /// How scales lie.
    pub blocking: Blocking,
    /// The code's type: the zero point's, or `output_dtype`, or uint8.
    pub to: DType,
}

/// y = (x - zero_point) · scale.
///
/// Gradient: g · scale to the codes, as floats, and Σ g · (x - zero_point) to the scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DequantizeLinear {
    /// How scales lie.
    pub blocking: Blocking,
}

/// Runs of elements that share a scale: `for_each(|scale index, elements|)`.
struct Runs {
    outer: usize,
    extent: usize,
    inner: usize,
    /// 0 when not blocked.
    block: usize,
}

impl Blocking {
    /// Checks `scale`'s shape against `x`'s and finds the runs.
    fn runs(&self, x: &Shape, scale: &Tensor) -> Result<Runs, OpError> {
        let numel = x.numel();
        let per_tensor = Runs { outer: 1, extent: 1, inner: numel, block: 0 };
        if scale.len() == 1 && self.block_size == 0 {
            return Ok(per_tensor);
        }
        let axis = resolve_axis(self.axis, x.len())?;
        let block = self.block_size.max(1);
        let mut expected = vec![x[axis]];
        if self.block_size > 0 {
            expected = x.to_vec();
            expected[axis] = x[axis].div_ceil(block);
        }
        if **scale.shape() != *expected {
            return Err(OpError::Input {
                index: 1,
                found: format!("shape {}", scale.shape()),
                expected: format!("{} or one element", Shape::from(expected)),
            });
        }
        let outer = x[..axis].iter().product();
        Ok(Runs {
            outer,
            extent: x[axis],
            inner: x[axis + 1..].iter().product(),
            block: self.block_size,
        })
    }
}

impl Runs {
    /// Calls `visit(scale index, element range)` for every run, in element order.
    fn for_each(&self, mut visit: impl FnMut(usize, std::ops::Range<usize>)) {
        for row in 0..self.outer * self.extent {
            let (outer, position) = (row / self.extent, row % self.extent);
            let start = row * self.inner;
            if self.block == 0 {
                visit(position, start..start + self.inner);
                continue;
            }
            let blocks = self.extent.div_ceil(self.block);
            let first = (outer * blocks + position / self.block) * self.inner;
            for i in 0..self.inner {
                visit(first + i, start + i..start + i + 1);
            }
        }
    }
}

/// Zero points as i32, one per scale.
fn zero_points(inputs: &Inputs<'_>, index: usize, scales: usize) -> Result<Vec<i32>, OpError> {
    let Some(tensor) = inputs.optional(index) else {
        return Ok(vec![0; scales]);
    };
    let input_error = |found: String, expected: String| OpError::Input { index, found, expected };
    if tensor.len() != scales {
        let found = format!("{} zero points", tensor.len());
        return Err(input_error(found, format!("{scales}, one per scale")));
    }
    codes_as_i32(tensor)
        .ok_or_else(|| input_error(tensor.dtype().to_string(), "an integer type".into()))
}

/// Integer elements as i32; `None` for float32, int64 and bool.
pub(crate) fn codes_as_i32(tensor: &Tensor) -> Option<Vec<i32>> {
    Some(match tensor.buffer() {
        Buffer::I32(v) => v.clone(),
        Buffer::I16(v) => v.iter().map(|&x| i32::from(x)).collect(),
        Buffer::I8(v) => v.iter().map(|&x| i32::from(x)).collect(),
        Buffer::U16(v) => v.iter().map(|&x| i32::from(x)).collect(),
        Buffer::U8(v) => v.iter().map(|&x| i32::from(x)).collect(),
        Buffer::F32(_) | Buffer::I64(_) | Buffer::Bool(_) => return None,
    })
}

/// One code: `clamp(rint(x / scale) + zero_point)` in f32 arithmetic, as onnxruntime computes it.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "clamped to the type's range first")]
#[expect(clippy::cast_precision_loss, reason = "ranges of at most 16 bits are exact in f32")]
pub(crate) fn quantize_one(x: f32, scale: f32, zero_point: i32, range: (i32, i32)) -> i32 {
    let (low, high) = ((range.0 - zero_point) as f32, (range.1 - zero_point) as f32);
    (x / scale).round_ties_even().clamp(low, high) as i32 + zero_point
}

impl QuantizeLinear {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let (x, values) = inputs.typed::<f32>(0, "x")?;
        let (scale, scales) = inputs.typed::<f32>(1, "y_scale")?;
        let zero_points = zero_points(inputs, 2, scales.len())?;
        let range = match (self.to, self.to.range()) {
            (DType::I32, _) | (_, None) => {
                return Err(OpError::Unsupported {
                    what: "output type",
                    found: self.to.to_string(),
                    supported: "integers of 2, 4, 8 and 16 bits",
                });
            }
            (_, Some(range)) => range,
        };
        if let Some(zero_point) = inputs.optional(2) {
            super::dispatch::expect_dtype(2, zero_point, self.to)?;
        }
        let runs = self.blocking.runs(x.shape(), scale)?;
        work.pool.check(x.shape())?;
        if self.to == DType::U8 {
            let mut codes = work.pool.codes(x.shape())?;
            runs.for_each(|i, part| {
                let (zero_point, scale) = (zero_points[i], scales[i]);
                lowbit_kernels::quantize(
                    &values[part.clone()],
                    scale,
                    zero_point,
                    &mut codes[part],
                );
            });
            return Ok(Tensor::new(x.shape().clone(), codes));
        }
        if self.to == DType::I8 {
            let mut codes = vec![0i8; values.len()];
            runs.for_each(|i, part| {
                let to = &mut codes[part.clone()];
                lowbit_kernels::quantize(&values[part], scales[i], zero_points[i], to);
            });
            return Ok(Tensor::new(x.shape().clone(), codes));
        }
        let mut codes = vec![0i32; values.len()];
        runs.for_each(|i, part| {
            for (code, &v) in codes[part.clone()].iter_mut().zip(&values[part]) {
                *code = quantize_one(v, scales[i], zero_points[i], range);
            }
        });
        Ok(tensor_of_codes(self.to, x.shape().clone(), &codes)?)
    }
}

impl QuantizeLinear {
    pub(crate) fn backward(
        &self,
        back: &Back<'_>,
        work: &mut Workspace,
    ) -> Result<Gradients, OpError> {
        let (x, values) = back.inputs.typed::<f32>(0, "x")?;
        let (scale, scales) = back.inputs.typed::<f32>(1, "y_scale")?;
        let zero_points = zero_points(back.inputs, 2, scales.len())?;
        let runs = self.blocking.runs(x.shape(), scale)?;
        let range = self.to.range().ok_or(OpError::NoGradient)?;
        let grad = back.grad()?.1;
        let mut of_x = work.pool.floats(x.shape())?;
        let mut of_scales = vec![0f64; scales.len()];
        runs.for_each(|i, part| {
            let bounds = (range.0 - zero_points[i], range.1 - zero_points[i]);
            let operands = (&values[part.clone()], &grad[part.clone()]);
            quantize_gradient(operands, scales[i], bounds, &mut of_x[part.clone()]);
            if back.wants(1) {
                let sum = dot(&of_x[part.clone()], &values[part]);
                of_scales[i] -= sum / f64::from(scales[i]);
            }
        });
        gradients(back, Tensor::new(x.shape().clone(), of_x), (scale, of_scales), work)
    }
}

impl DequantizeLinear {
    pub(crate) fn backward(
        &self,
        back: &Back<'_>,
        work: &mut Workspace,
    ) -> Result<Gradients, OpError> {
        let x = back.inputs.required(0, "x")?;
        let (scale, scales) = back.inputs.typed::<f32>(1, "x_scale")?;
        let zero_points = zero_points(back.inputs, 2, scales.len())?;
        let runs = self.blocking.runs(x.shape(), scale)?;
        let grad = back.grad()?.1;
        let mut of_x = work.pool.floats(x.shape())?;
        let mut of_scales = vec![0f64; scales.len()];
        if back.wants(1) {
            let ones = vec![1.0; scales.len()];
            steps(&runs, x, (&ones, &zero_points), &mut of_x)?;
            runs.for_each(|i, part| of_scales[i] += dot(&of_x[part.clone()], &grad[part]));
        }
        runs.for_each(|i, part| {
            for (to, &g) in of_x[part.clone()].iter_mut().zip(&grad[part]) {
                *to = g * scales[i];
            }
        });
        gradients(back, Tensor::new(x.shape().clone(), of_x), (scale, of_scales), work)
    }
}

/// The two gradients, where wanted.
fn gradients(
    back: &Back<'_>,
    of_x: Tensor,
    (scale, of_scales): (&Tensor, Vec<f64>),
    work: &mut Workspace,
) -> Result<Gradients, OpError> {
    let of_scales = of_scales.into_iter().map(|sum| sum as f32);
    let of_scales = back.wants(1).then(|| pooled(scale.shape(), of_scales, work)).transpose()?;
    if back.wants(0) {
        return Ok(vec![Some(of_x), of_scales]);
    }
    work.pool.give(of_x);
    Ok(vec![None, of_scales])
}

/// A tensor of codes that are known to lie in `dtype`'s range.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "codes are in range")]
pub(crate) fn tensor_of_codes(
    dtype: DType,
    shape: Shape,
    codes: &[i32],
) -> Result<Tensor, lowbit_tensor::TensorError> {
    let buffer = match dtype {
        DType::U8 | DType::U4 | DType::U2 => Buffer::U8(codes.iter().map(|&c| c as u8).collect()),
        DType::I8 | DType::I4 | DType::I2 => Buffer::I8(codes.iter().map(|&c| c as i8).collect()),
        DType::U16 => Buffer::U16(codes.iter().map(|&c| c as u16).collect()),
        DType::I16 => Buffer::I16(codes.iter().map(|&c| c as i16).collect()),
        _ => Buffer::I32(codes.to_vec()),
    };
    Tensor::try_new(dtype, shape, buffer)
}

impl DequantizeLinear {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let x = inputs.required(0, "x")?;
        let (scale, scales) = inputs.typed::<f32>(1, "x_scale")?;
        let zero_points = zero_points(inputs, 2, scales.len())?;
        let runs = self.blocking.runs(x.shape(), scale)?;
        let mut out = work.pool.floats(x.shape())?;
        steps(&runs, x, (scales, &zero_points), &mut out)?;
        Ok(Tensor::new(x.shape().clone(), out))
    }
}

/// out = (x - zero_point) · scale.
fn steps(
    runs: &Runs,
    x: &Tensor,
    (scales, zero_points): (&[f32], &[i32]),
    out: &mut [f32],
) -> Result<(), OpError> {
    macro_rules! dequantize {
        ($codes:expr) => {
            runs.for_each(|i, part| {
                let (scale, zero_point) = (scales[i], zero_points[i]);
                for (y, &code) in out[part.clone()].iter_mut().zip(&$codes[part]) {
                    *y = dequantize_one(i32::from(code), scale, zero_point);
                }
            })
        };
    }
    match x.buffer() {
        Buffer::U8(codes) => dequantize!(codes),
        Buffer::I8(codes) => dequantize!(codes),
        Buffer::U16(codes) => dequantize!(codes),
        Buffer::I16(codes) => dequantize!(codes),
        Buffer::I32(codes) => dequantize!(codes),
        Buffer::F32(_) | Buffer::I64(_) | Buffer::Bool(_) => {
            return Err(wrong_type(0, x, "an integer type of at most 32 bits"));
        }
    }
    Ok(())
}

/// The value of one code, in f32 arithmetic.
#[inline]
#[expect(clippy::cast_precision_loss, reason = "as onnxruntime: int32 rounds to the nearest float")]
pub(crate) fn dequantize_one(code: i32, scale: f32, zero_point: i32) -> f32 {
    code.wrapping_sub(zero_point) as f32 * scale
}

/// DynamicQuantizeLinear: uint8 codes over the range of x widened to hold 0, with that scale and zero point.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=255")]
pub(crate) fn dynamic(inputs: &Inputs<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, values) = inputs.typed::<f32>(0, "x")?;
    let low = values.iter().copied().fold(0.0f32, f32::min);
    let high = values.iter().copied().fold(0.0f32, f32::max);
    let scale = if high > low { (high - low) / 255.0 } else { 1.0 };
    let zero_point = (-low / scale).clamp(0.0, 255.0).round_ties_even() as u8;
    let codes = values
        .iter()
        .map(|&v| quantize_one(v, scale, i32::from(zero_point), (0, 255)) as u8)
        .collect::<Vec<u8>>();
    let codes = Tensor::new(x.shape().clone(), codes);
    Ok(vec![codes, Tensor::scalar(scale), Tensor::scalar(zero_point)])
}

/// The int32 code of a bias: rounded to nearest even, saturating.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "`as` saturates")]
pub fn quantize_bias(bias: f32, scale: f32) -> i32 {
    (bias / scale).round_ties_even() as i32
}

#[cfg(test)]
mod tests;
