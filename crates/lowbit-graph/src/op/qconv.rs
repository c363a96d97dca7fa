//! Integer convolution.

use lowbit_tensor::Tensor;

use super::Inputs;
use crate::{OpError, Workspace};

use super::Conv;

pub(crate) fn qlinear(
    conv: &Conv,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let _ = (conv, inputs, work);
    Err(OpError::Invalid("not written yet".into()))
}

pub(crate) fn integer(
    conv: &Conv,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let _ = (conv, inputs, work);
    Err(OpError::Invalid("not written yet".into()))
}
