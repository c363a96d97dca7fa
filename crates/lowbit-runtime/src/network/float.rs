//! Operators that stay in float, with all their numbers: what calibration left out at the ends of a network, and its softmax.
//! Their operands lie in the model's order. Knows no kernels.

use lowbit_graph::Activation;

use super::Window;

/// An operator on floats.
#[derive(Clone, Debug, PartialEq)]
pub enum Float {
    /// Convolution.
    Conv(FloatConv),
    /// Product with a constant matrix.
    Dense(FloatDense),
    /// Exponentials that sum to one.
    Softmax(Softmax),
}

/// A convolution of floats.
#[derive(Clone, Debug, PartialEq)]
pub struct FloatConv {
    /// Height, width and channels of what it reads.
    pub image: [usize; 3],
    /// Where the kernel falls.
    pub window: Window,
    /// Pixels behind the last row and column.
    pub end_pads: [usize; 2],
    /// Input and output channels are split among so many.
    pub groups: usize,
    /// `[o][i / groups][kh][kw]`
    pub weights: Vec<f32>,
    /// Output channels.
    pub outputs: usize,
    /// One for each output channel, where there are any.
    pub bias: Option<Vec<f32>>,
    /// Applied to the result.
    pub activation: Activation,
}

/// `activation(x * weights + bias)`.
#[derive(Clone, Debug, PartialEq)]
pub struct FloatDense {
    /// Rows of the left operand and of the result.
    pub rows: usize,
    /// Columns of the left operand and of the result.
    pub columns: [usize; 2],
    /// `[inputs][outputs]`, or `[outputs][inputs]`.
    pub weights: Vec<f32>,
    /// Whether weights are the latter.
    pub transposed: bool,
    /// One for each column of the result, where there are any.
    pub bias: Option<Vec<f32>>,
    /// Applied to the result.
    pub activation: Activation,
}

/// `exp(x) / sum(exp(x))`, or the logarithm of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax {
    /// Elements of a sum, which are neighbours.
    pub row: usize,
    /// Whether the logarithm is wanted.
    pub log: bool,
}

impl Float {
    /// What tables call it.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Float::Conv(conv) if conv.is_depthwise() => "float depthwise",
            Float::Conv(_) => "float conv",
            Float::Dense(_) => "float dense",
            Float::Softmax(Softmax { log: false, .. }) => "softmax",
            Float::Softmax(_) => "log softmax",
        }
    }
}

impl FloatConv {
    fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.image[2] && self.groups == self.outputs
    }
}
