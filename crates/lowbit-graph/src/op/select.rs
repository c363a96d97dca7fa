//! Elementwise choice.

use lowbit_tensor::Tensor;

use super::Inputs;
use crate::{OpError, Workspace};

pub(crate) fn forward(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let _ = (inputs, work);
    Err(OpError::Invalid("not written yet".into()))
}
