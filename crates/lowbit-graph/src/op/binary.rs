//! Two operands, numpy broadcasting.

use lowbit_tensor::Tensor;

use super::Inputs;
use crate::{OpError, Workspace};

/// Which function of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// a + b.
    Add,
    /// a - b.
    Sub,
    /// a · b.
    Mul,
    /// a / b.
    Div,
    /// a to the power b.
    Pow,
    /// The smaller (ONNX allows many operands: importers chain them).
    Min,
    /// The larger.
    Max,
    /// Whether a equals b.
    Equal,
}

impl Binary {
    /// The operator's ONNX name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Binary::Add => "Add",
            Binary::Sub => "Sub",
            Binary::Mul => "Mul",
            Binary::Div => "Div",
            Binary::Pow => "Pow",
            Binary::Min => "Min",
            Binary::Max => "Max",
            Binary::Equal => "Equal",
        }
    }

    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let _ = (self, inputs, work);
        Err(OpError::Invalid("not written yet".into()))
    }
}
