//! Convolution over [n, c, h, w]. One-dimensional convolutions are imported with h = 1.

use lowbit_tensor::Tensor;

use super::Inputs;
use crate::{OpError, Workspace};

/// Fused after a linear operator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// Nothing.
    None,
    /// max(x, 0).
    Relu,
    /// clamp(x, min, max); either may be infinite.
    Clip {
        /// Lower limit.
        min: f32,
        /// Upper limit.
        max: f32,
    },
}

/// How pads are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoPad {
    /// As given.
    Explicit,
    /// Output extent ceil(in / stride), odd padding at the end.
    SameUpper,
    /// Output extent ceil(in / stride), odd padding at the start.
    SameLower,
    /// None.
    Valid,
}

/// Attributes of every convolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv {
    /// Kernel height and width, when the file says so: checked against the weight's.
    pub kernel: Option<[usize; 2]>,
    /// Steps.
    pub strides: [usize; 2],
    /// Distance between kernel elements.
    pub dilations: [usize; 2],
    /// Top, left, bottom, right; used when `auto_pad` is `Explicit`.
    pub pads: [usize; 4],
    /// How pads are found.
    pub auto_pad: AutoPad,
    /// Number of groups.
    pub groups: usize,
    /// Applied to the result; `None` on import, set by a pass.
    pub activation: Activation,
}

impl Conv {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let _ = (self, inputs, work);
        Err(OpError::Invalid("not written yet".into()))
    }
}
