//! Matrix products.

use lowbit_tensor::Tensor;

use super::Inputs;
use crate::{OpError, Workspace};

use super::Activation;

/// alpha · A' · B' + beta · C, where ' is an optional transpose; then the activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gemm {
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of C.
    pub beta: f32,
    /// Whether A is [k, m].
    pub transpose_a: bool,
    /// Whether B is [n, k].
    pub transpose_b: bool,
    /// Applied to the result; `None` on import, set by a pass.
    pub activation: Activation,
}

impl Gemm {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let _ = (self, inputs, work);
        Err(OpError::Invalid("not written yet".into()))
    }
}

pub(crate) fn forward(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let _ = (inputs, work);
    Err(OpError::Invalid("not written yet".into()))
}
