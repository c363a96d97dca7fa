//! Scale and zero point of a quantized operand, and the 8-bit code types.

use lowbit_tensor::{DType, Element, Shape, Tensor};

use super::Inputs;
use super::quantize::codes_as_i32;
use crate::{OpError, Workspace};

/// An 8-bit code.
pub(crate) trait Code: Element + lowbit_kernels::Code {
    /// The code nearest to an already rounded value: saturates, and NaN becomes the code 0.
    fn saturate(value: f32) -> Self;
    /// The kernels' view of a slice of codes.
    fn slice(codes: &[Self]) -> lowbit_kernels::IntSlice<'_>;
    /// A buffer of arbitrary contents.
    fn buffer(work: &mut Workspace, shape: &Shape) -> Result<Vec<Self>, OpError>;
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
impl Code for u8 {
    fn saturate(value: f32) -> Self {
        value as u8
    }
    fn slice(codes: &[Self]) -> lowbit_kernels::IntSlice<'_> {
        lowbit_kernels::IntSlice::U8(codes)
    }
    fn buffer(work: &mut Workspace, shape: &Shape) -> Result<Vec<Self>, OpError> {
        work.pool.codes(shape)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "`as` saturates")]
impl Code for i8 {
    fn saturate(value: f32) -> Self {
        value as i8
    }
    fn slice(codes: &[Self]) -> lowbit_kernels::IntSlice<'_> {
        lowbit_kernels::IntSlice::I8(codes)
    }
    fn buffer(work: &mut Workspace, shape: &Shape) -> Result<Vec<Self>, OpError> {
        Ok(vec![0; work.pool.check(shape)?])
    }
}

/// Parameters of one quantized tensor, per tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QParam {
    pub(crate) scale: f32,
    pub(crate) zero_point: i32,
}

impl QParam {
    /// Reads a scale at input `index` and, behind it, the zero point of codes of type `T`.
    pub(crate) fn read<T: Code>(inputs: &Inputs<'_>, index: usize) -> Result<QParam, OpError> {
        let scale = inputs.float_scalar(index)?.ok_or(OpError::Missing { index, name: "scale" })?;
        Ok(QParam { scale, zero_point: zero_point::<T>(inputs, index + 1)? })
    }

    /// The zero point as float.
    #[expect(clippy::cast_precision_loss, reason = "zero points of 8 bits are exact")]
    pub(crate) fn zero(self) -> f32 {
        self.zero_point as f32
    }

    /// The value a code stands for.
    #[expect(clippy::cast_precision_loss, reason = "codes of 8 bits are exact")]
    pub(crate) fn value(self, code: i32) -> f32 {
        (code - self.zero_point) as f32 * self.scale
    }

    /// The code of a value: `saturate(rint(x / scale) + zero_point)`.
    pub(crate) fn code<T: Code>(self, x: f32) -> T {
        T::saturate((x / self.scale).round_ties_even() + self.zero())
    }
}

/// The one zero point of codes of type `T` at input `index`; 0 when not given.
pub(crate) fn zero_point<T: Code>(inputs: &Inputs<'_>, index: usize) -> Result<i32, OpError> {
    if let Some(tensor) = inputs.optional(index) {
        super::dispatch::expect_dtype(index, tensor, T::DTYPE)?;
    }
    Ok(zero_points(inputs.optional(index), 1)?[0])
}

/// 8-bit zero points: one, or one per line; 0 when not given.
pub(crate) fn zero_points(tensor: Option<&Tensor>, lines: usize) -> Result<Vec<i32>, OpError> {
    let Some(tensor) = tensor else {
        return Ok(vec![0]);
    };
    let eight_bits = matches!(tensor.dtype(), DType::U8 | DType::I8);
    let found = codes_as_i32(tensor).filter(|_| eight_bits);
    found.filter(|z| z.len() == 1 || z.len() == lines).ok_or_else(|| {
        OpError::Invalid(format!(
            "zero points: found {}{}, expected int8 or uint8 of 1 or {lines} elements",
            tensor.dtype(),
            tensor.shape()
        ))
    })
}

/// The 8-bit type of an operand.
pub(crate) enum CodeType {
    Unsigned,
    Signed,
}

/// Which 8-bit type input `index` has.
pub(crate) fn code_type(inputs: &Inputs<'_>, index: usize) -> Result<CodeType, OpError> {
    let tensor = inputs.required(index, "quantized operand")?;
    match tensor.dtype() {
        DType::U8 => Ok(CodeType::Unsigned),
        DType::I8 => Ok(CodeType::Signed),
        other => Err(OpError::Input {
            index,
            found: other.to_string(),
            expected: "uint8 or int8".into(),
        }),
    }
}

/// Calls a generic function with the code type of input `$index`.
macro_rules! by_code_type {
    ($inputs:expr, $index:expr, $function:ident($($argument:expr),*)) => {
        match $crate::op::qparams::code_type($inputs, $index)? {
            $crate::op::qparams::CodeType::Unsigned => $function::<u8>($($argument),*),
            $crate::op::qparams::CodeType::Signed => $function::<i8>($($argument),*),
        }
    };
}
pub(crate) use by_code_type;

/// The extents of a rank-4 operand.
pub(crate) fn dims4(index: usize, tensor: &Tensor) -> Result<[usize; 4], OpError> {
    super::inputs::expect_rank(index, tensor, 4)?;
    let d = tensor.shape();
    Ok([d[0], d[1], d[2], d[3]])
}
