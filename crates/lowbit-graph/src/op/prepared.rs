//! Constant operands packed once for the kernels.

use std::sync::Arc;

use lowbit_tensor::Tensor;

use super::{Inputs, Op};
use crate::{OpError, Workspace};

/// What a session keeps per node beside the operator.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// Nothing: the operator reads its inputs as they are.
    Plain,
}

impl Prepared {
    pub(crate) fn new(op: &Op, constants: &[Option<&Arc<Tensor>>]) -> Result<Self, OpError> {
        let _ = (op, constants);
        Ok(Prepared::Plain)
    }

    pub(crate) fn forward(
        &self,
        op: &Op,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Vec<Tensor>, OpError> {
        match self {
            Prepared::Plain => op.forward(inputs, work),
        }
    }
}
