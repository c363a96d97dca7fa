//! Integer pooling.

use lowbit_tensor::Tensor;

use super::Inputs;
use crate::{OpError, Workspace};

use super::Pool2d;

pub(crate) fn global_average(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let _ = (inputs, work);
    Err(OpError::Invalid("not written yet".into()))
}

pub(crate) fn average(
    pool: &Pool2d,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let _ = (pool, inputs, work);
    Err(OpError::Invalid("not written yet".into()))
}
