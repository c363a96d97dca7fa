//! Integer matrix products.

use lowbit_tensor::Tensor;

use super::Inputs;
use crate::{OpError, Workspace};

use super::Gemm;

pub(crate) fn qlinear(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let _ = (inputs, work);
    Err(OpError::Invalid("not written yet".into()))
}

pub(crate) fn integer(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let _ = (inputs, work);
    Err(OpError::Invalid("not written yet".into()))
}

pub(crate) fn qgemm(
    gemm: &Gemm,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let _ = (gemm, inputs, work);
    Err(OpError::Invalid("not written yet".into()))
}
