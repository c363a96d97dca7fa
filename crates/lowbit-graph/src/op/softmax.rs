//! Exponentials that sum to one.

use lowbit_tensor::Tensor;

use super::Inputs;
use crate::{OpError, Workspace};

/// Softmax or LogSoftmax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax {
    /// The axis; negative counts from the end.
    pub axis: i64,
    /// Whether the logarithm is wanted.
    pub log: bool,
    /// Opset 1 to 12: all axes from `axis` on are one.
    pub flatten: bool,
}

impl Softmax {
    /// The operator's ONNX name.
    #[must_use]
    pub fn name(self) -> &'static str {
        if self.log { "LogSoftmax" } else { "Softmax" }
    }

    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let _ = (self, inputs, work);
        Err(OpError::Invalid("not written yet".into()))
    }
}
