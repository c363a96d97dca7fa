//! Growing (or, with negative pads, shrinking) a tensor at its edges.

use lowbit_tensor::Tensor;

use super::Inputs;
use crate::{OpError, Workspace};

/// What the new elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PadMode {
    /// A constant.
    Constant,
    /// The nearest element.
    Edge,
    /// The mirror image without the edge element.
    Reflect,
    /// The opposite side.
    Wrap,
}

/// How to pad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pad {
    /// What the new elements are.
    pub mode: PadMode,
}

impl Pad {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let _ = (self, inputs, work);
        Err(OpError::Invalid("not written yet".into()))
    }
}
