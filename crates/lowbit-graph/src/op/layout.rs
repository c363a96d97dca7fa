//! The same elements under another shape or order.

use lowbit_tensor::Tensor;

use super::Inputs;
use crate::{OpError, Workspace};

/// How a requested dimension of 0 is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reshape {
    /// True: 0 means extent 0. False: 0 copies the input's dimension.
    pub allow_zero: bool,
}

/// Where the input is cut into two axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flatten {
    /// Axes before it form the first; negative counts from the end.
    pub axis: i64,
}

/// A permutation of axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transpose {
    /// Output axis i is input axis `perm[i]`; `None` reverses them.
    pub perm: Option<Vec<usize>>,
}

impl Reshape {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let _ = (self, inputs, work);
        Err(OpError::Invalid("not written yet".into()))
    }
}

impl Flatten {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let _ = (self, inputs, work);
        Err(OpError::Invalid("not written yet".into()))
    }
}

impl Transpose {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let _ = (self, inputs, work);
        Err(OpError::Invalid("not written yet".into()))
    }
}

pub(crate) fn squeeze(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let _ = (inputs, work);
    Err(OpError::Invalid("not written yet".into()))
}

pub(crate) fn unsqueeze(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let _ = (inputs, work);
    Err(OpError::Invalid("not written yet".into()))
}

pub(crate) fn identity(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let _ = (inputs, work);
    Err(OpError::Invalid("not written yet".into()))
}

pub(crate) fn expand(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let _ = (inputs, work);
    Err(OpError::Invalid("not written yet".into()))
}
