//! Windows over the two spatial axes of [n, c, h, w].

use lowbit_tensor::Tensor;

use super::Inputs;
use crate::{OpError, Workspace};

use super::AutoPad;

/// A window and how it moves. One-dimensional pools are imported as [n, c, 1, w] between reshapes or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool2d {
    /// Window height and width.
    pub kernel: [usize; 2],
    /// Steps.
    pub strides: [usize; 2],
    /// Distance between window elements.
    pub dilations: [usize; 2],
    /// Top, left, bottom, right; used when `auto_pad` is `Explicit`.
    pub pads: [usize; 4],
    /// How pads are found.
    pub auto_pad: AutoPad,
    /// Whether a last partial window counts.
    pub ceil_mode: bool,
    /// Whether padding counts in the mean (average only).
    pub count_include_pad: bool,
}

impl Pool2d {
    pub(crate) fn max(&self, inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
        let _ = (self, inputs, work);
        Err(OpError::Invalid("not written yet".into()))
    }

    pub(crate) fn average(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let _ = (self, inputs, work);
        Err(OpError::Invalid("not written yet".into()))
    }
}

pub(crate) fn global_average(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let _ = (inputs, work);
    Err(OpError::Invalid("not written yet".into()))
}

pub(crate) fn global_max(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let _ = (inputs, work);
    Err(OpError::Invalid("not written yet".into()))
}
