//! Cutting along an axis.

use lowbit_tensor::Tensor;

use super::Inputs;
use crate::{OpError, Workspace};

/// Where to cut: input 1 gives sizes, else `outputs` equal parts (the last may be smaller).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// The axis; negative counts from the end.
    pub axis: i64,
    /// Number of parts.
    pub outputs: usize,
}

impl Split {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Vec<Tensor>, OpError> {
        let _ = (self, inputs, work);
        Err(OpError::Invalid("not written yet".into()))
    }
}
