//! Conversion between element types.

use lowbit_tensor::Tensor;

use super::Inputs;
use crate::{OpError, Workspace};

/// Target of a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// The new element type.
    pub to: lowbit_tensor::DType,
}

impl Cast {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let _ = (self, inputs, work);
        Err(OpError::Invalid("not written yet".into()))
    }
}
