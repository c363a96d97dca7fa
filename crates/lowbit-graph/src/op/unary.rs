//! One float in, one float out.

use lowbit_tensor::Tensor;

use super::Inputs;
use crate::{OpError, Workspace};

/// Which function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// max(x, 0).
    Relu,
    /// x for x >= 0, else alpha · x.
    LeakyRelu {
        /// Slope of the negative side.
        alpha: f32,
    },
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// clamp(alpha · x + beta, 0, 1).
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// x · clamp(x / 6 + 0.5, 0, 1).
    HardSwish,
    /// x · sigmoid(x). ONNX has no such operator: written back as Sigmoid and Mul.
    Silu,
    /// x · Φ(x), exactly (erf).
    Gelu,
    /// x · Φ(x) by the tanh formula.
    GeluTanh,
    /// Error function.
    Erf,
    /// Square root.
    Sqrt,
    /// e to the x.
    Exp,
    /// -x.
    Neg,
    /// Absolute value.
    Abs,
    /// Largest integer not above.
    Floor,
    /// Smallest integer not below.
    Ceil,
}

impl Unary {
    /// The operator's ONNX name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Unary::Relu => "Relu",
            Unary::LeakyRelu { .. } => "LeakyRelu",
            Unary::Sigmoid => "Sigmoid",
            Unary::Tanh => "Tanh",
            Unary::HardSigmoid { .. } => "HardSigmoid",
            Unary::HardSwish => "HardSwish",
            Unary::Silu => "Silu",
            Unary::Gelu | Unary::GeluTanh => "Gelu",
            Unary::Erf => "Erf",
            Unary::Sqrt => "Sqrt",
            Unary::Exp => "Exp",
            Unary::Neg => "Neg",
            Unary::Abs => "Abs",
            Unary::Floor => "Floor",
            Unary::Ceil => "Ceil",
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

pub(crate) fn clip(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let _ = (inputs, work);
    Err(OpError::Invalid("not written yet".into()))
}

pub(crate) fn prelu(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let _ = (inputs, work);
    Err(OpError::Invalid("not written yet".into()))
}
