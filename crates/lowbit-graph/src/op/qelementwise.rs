//! Integer elementwise operators.

use lowbit_tensor::Tensor;

use super::Inputs;
use crate::{OpError, Workspace};

use super::{Concat, Softmax, Unary};

pub(crate) fn add(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let _ = (inputs, work);
    Err(OpError::Invalid("not written yet".into()))
}

pub(crate) fn mul(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let _ = (inputs, work);
    Err(OpError::Invalid("not written yet".into()))
}

pub(crate) fn concat(
    concat: &Concat,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let _ = (concat, inputs, work);
    Err(OpError::Invalid("not written yet".into()))
}

pub(crate) fn table(
    unary: &Unary,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let _ = (unary, inputs, work);
    Err(OpError::Invalid("not written yet".into()))
}

pub(crate) fn softmax(
    softmax: &Softmax,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let _ = (softmax, inputs, work);
    Err(OpError::Invalid("not written yet".into()))
}
