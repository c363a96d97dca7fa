//! Between floats and codes: the definition of quantization itself.

use lowbit_tensor::{DType, Tensor};

use super::Inputs;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantizeLinear {
    /// How scales lie.
    pub blocking: Blocking,
    /// The code's type: the zero point's, or `output_dtype`, or uint8.
    pub to: DType,
}

/// y = (x - zero_point) · scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DequantizeLinear {
    /// How scales lie.
    pub blocking: Blocking,
}

impl QuantizeLinear {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let _ = (self, inputs, work);
        Err(OpError::Invalid("not written yet".into()))
    }
}

impl DequantizeLinear {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let _ = (self, inputs, work);
        Err(OpError::Invalid("not written yet".into()))
    }
}

pub(crate) fn dynamic(inputs: &Inputs<'_>) -> Result<Vec<Tensor>, OpError> {
    let _ = inputs;
    Err(OpError::Invalid("not written yet".into()))
}
