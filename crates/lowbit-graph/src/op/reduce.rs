//! Mean and sum over axes.

use lowbit_tensor::Tensor;

use super::Inputs;
use crate::{OpError, Workspace};

/// Which reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceKind {
    /// Arithmetic mean.
    Mean,
    /// Sum.
    Sum,
}

/// A reduction over the axes that input 1 names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reduce {
    /// Which.
    pub kind: ReduceKind,
    /// Whether reduced axes stay with extent 1.
    pub keep_dims: bool,
    /// What an absent or empty list of axes means: false, all axes; true, none (the input unchanged).
    pub noop_with_empty_axes: bool,
}

impl Reduce {
    /// The operator's ONNX name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.kind {
            ReduceKind::Mean => "ReduceMean",
            ReduceKind::Sum => "ReduceSum",
        }
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
