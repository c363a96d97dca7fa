//! Shapes as data.

use lowbit_tensor::Tensor;

use super::Inputs;
use crate::{OpError, Workspace};

/// A slice of the input's dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShapeOf {
    /// First dimension; negative counts from the end, out of range is clamped.
    pub start: i64,
    /// One past the last; `None` is all.
    pub end: Option<i64>,
}

/// The value to fill with: a tensor of one element.
#[derive(Clone, Debug, PartialEq)]
pub struct ConstantOfShape {
    /// One element of any type.
    pub value: Tensor,
}

impl ShapeOf {
    pub(crate) fn forward(&self, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
        let _ = (self, inputs);
        Err(OpError::Invalid("not written yet".into()))
    }
}

impl ConstantOfShape {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let _ = (self, inputs, work);
        Err(OpError::Invalid("not written yet".into()))
    }
}
