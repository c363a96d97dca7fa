//! A quantized graph as the steps of one image: what runs, on which codes, with which numbers. No layout, no kernels.
//!
//! Activations of 8 bits are kept as unsigned codes throughout; where a model has signed ones, 128 is added to codes and zero
//! points, and [`Codes::signed`] remembers it for the arithmetic that is done on raw codes.

mod bits;
mod float;
mod fuse;
mod lower;

use std::sync::Arc;

use lowbit_graph::Session;

pub(crate) use self::bits::Few;
pub use float::{Float, FloatConv, FloatDense, Softmax};

/// Names one value of a [`Network`].
pub type ValueIndex = usize;

/// A quantized network for one image of a fixed size.
#[derive(Debug)]
pub struct Network {
    /// The model's name.
    pub name: String,
    /// What the steps read and make.
    pub values: Vec<Value>,
    /// In an order in which they can run.
    pub steps: Vec<Step>,
    /// The floats the caller gives.
    pub input: ValueIndex,
    /// What the caller gets, in the model's order.
    pub outputs: Vec<ValueIndex>,
}

/// One activation.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Its name in the model.
    pub name: String,
    /// Its dimensions in the model, for a batch of one.
    pub dims: Vec<usize>,
    /// What its elements are.
    pub form: Form,
}

/// What the elements of a value are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// 32-bit floats in the model's order.
    Floats,
    /// 8-bit codes; those of an image lie pixel by pixel.
    Codes(Codes),
}

/// How codes are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codes {
    /// The code that means 0.
    pub zero_point: u8,
    /// Whether the model's codes are signed: then all codes here are greater by 128.
    pub signed: bool,
}

impl Codes {
    /// What was added to the model's codes.
    #[must_use]
    pub fn offset(self) -> u8 {
        if self.signed { 128 } else { 0 }
    }
}

impl Value {
    /// Height, width and channels; a value without an image is one pixel.
    #[must_use]
    pub fn image(&self) -> [usize; 3] {
        match self.dims[..] {
            [_, channels, height, width] => [height, width, channels],
            _ => [1, 1, self.len()],
        }
    }

    /// Elements of one image.
    #[must_use]
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The codes' parameters; `None` for floats.
    #[must_use]
    pub fn codes(&self) -> Option<Codes> {
        match self.form {
            Form::Codes(codes) => Some(codes),
            Form::Floats => None,
        }
    }
}

/// One operation.
#[derive(Debug)]
pub struct Step {
    /// The name of the node it stems from.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// What it reads; a fused residual comes last.
    pub inputs: Vec<ValueIndex>,
    /// What it makes.
    pub outputs: Vec<ValueIndex>,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Floats to codes: `clamp(rint(x / scale[c]) + zero_point)`.
    Quantize(Quantize),
    /// Codes to floats: `(q - zero_point) * scale[c]`.
    Dequantize(Dequantize),
    /// Convolution, or a fully connected layer as one of a single pixel.
    Conv(Box<Conv>),
    /// Sum of two images.
    Add(Add),
    /// Product of an image and one of the same size, or of one pixel.
    Mul(Mul),
    /// A function of each code: one table, or one for each channel.
    Table(Vec<[u8; 256]>),
    /// Mean over the image.
    GlobalAverage(GlobalAverage),
    /// Mean over windows.
    AveragePool(AveragePool),
    /// Maximum over windows.
    MaxPool(Window),
    /// Channels of the inputs, one after the other, each through its table where it has one.
    Concat(Vec<Option<Box<[u8; 256]>>>),
    /// A strided part of an image, or an image grown at its edges.
    Sample(Sample),
    /// The same elements, in the model's order, under other dimensions.
    Reshape,
    /// An operator on floats.
    Float(Box<Float>),
    /// An operator without a form here: run by the graph's own executor.
    Island(Box<Island>),
}

impl Kind {
    /// What tables call it.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Kind::Quantize(_) => "quantize",
            Kind::Dequantize(_) => "dequantize",
            Kind::Conv(conv) => conv.label(),
            Kind::Add(_) => "add",
            Kind::Mul(_) => "multiply",
            Kind::Table(_) => "table",
            Kind::GlobalAverage(_) => "global average",
            Kind::AveragePool(_) => "average pool",
            Kind::MaxPool(_) => "max pool",
            Kind::Concat(_) => "concat",
            Kind::Sample(_) => "sample",
            Kind::Reshape => "reshape",
            Kind::Float(float) => float.label(),
            Kind::Island(_) => "island",
        }
    }
}

/// Parameters of [`Kind::Quantize`].
#[derive(Clone, Debug, PartialEq)]
pub struct Quantize {
    /// One, or one for each channel.
    pub scales: Vec<f32>,
    /// One, or one for each channel; without the offset of signed codes.
    pub zero_points: Vec<i32>,
    /// Whether the floats lie pixel by pixel.
    pub pixels: bool,
}

/// Parameters of [`Kind::Dequantize`].
#[derive(Clone, Debug, PartialEq)]
pub struct Dequantize {
    /// One, or one for each channel.
    pub scales: Vec<f32>,
    /// One, or one for each channel; without the offset of signed codes.
    pub zero_points: Vec<i32>,
}

/// Windows over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Height and width.
    pub kernel: [usize; 2],
    /// Steps.
    pub strides: [usize; 2],
    /// Distance between elements.
    pub dilations: [usize; 2],
    /// Pixels before the first row and column.
    pub pads: [usize; 2],
}

/// The element at `i` along an axis (rows, columns, channels) is that at `start + i * step`, or `fill` outside the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Where the first element lies.
    pub start: [i64; 3],
    /// From one element to the next.
    pub step: [i64; 3],
    /// The code outside.
    pub fill: u8,
}

/// A convolution with all its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// Where the kernel falls.
    pub window: Window,
    /// Input and output channels are split among so many.
    pub groups: usize,
    /// `[o][i / groups][kh][kw]`
    pub weights: Vec<i8>,
    /// One for each output channel, to be added to the sum of `(x - zero_point) * w`.
    pub bias: Vec<i32>,
    /// How sums become results.
    pub finish: Finish,
}

/// How the sums of a convolution become results.
#[derive(Clone, Debug, PartialEq)]
pub enum Finish {
    /// `f32(sum) * scale[o]`
    Floats(Vec<f32>),
    /// `clamp(rint(f32(sum) * multiplier[o]) + zero_point)`, then the table, then the residual sum.
    Codes {
        /// One for each output channel.
        multipliers: Vec<f32>,
        /// Added after rounding.
        zero_point: u8,
        /// Smallest and largest code.
        range: [u8; 2],
        /// A function of the code.
        table: Option<Box<[u8; 256]>>,
        /// The sum with the step's last input; the flag says whether the convolution is its first operand.
        add: Option<(Add, bool)>,
    },
}

impl Conv {
    /// Whether every channel is convolved alone.
    #[must_use]
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.bias.len() && self.taps() == self.kernel_area()
    }

    /// Weights of one output channel.
    #[must_use]
    pub fn taps(&self) -> usize {
        self.weights.len() / self.bias.len().max(1)
    }

    fn kernel_area(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }

    fn label(&self) -> &'static str {
        match &self.finish {
            _ if self.is_depthwise() => "depthwise",
            Finish::Floats(_) => "dense",
            Finish::Codes { add: Some(_), .. } => "conv + add",
            Finish::Codes { table: Some(_), .. } => "conv + table",
            Finish::Codes { .. } => "conv",
        }
    }
}

/// `rint(fma(a, ratios[0], fma(b, ratios[1], fixed)))` on the model's codes, clamped to the range of `codes`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Add {
    /// Scales of the operands over that of the sum.
    pub ratios: [f32; 2],
    /// What zero points come to.
    pub fixed: f32,
}

/// `rint(f32((a - zero_points[0]) * (b - zero_points[1])) * ratio + zero_point)` on the model's codes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mul {
    /// Of the operands.
    pub zero_points: [i32; 2],
    /// Scales of the operands over that of the product.
    pub ratio: f32,
    /// Of the product, without the offset of signed codes.
    pub zero_point: i32,
}

/// `rint(f32(sum - n * zero_points[0]) * multiplier) + zero_points[1]` on the model's codes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GlobalAverage {
    /// Of operand and result.
    pub zero_points: [i32; 2],
    /// Scale of the operand over that of the result and the number of pixels.
    pub multiplier: f32,
}

/// The mean of dequantized codes, summed as floats row by row, quantized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AveragePool {
    /// Where the windows fall.
    pub window: Window,
    /// Pixels behind the last row and column that count in the mean.
    pub end_pads: [usize; 2],
    /// Whether padding counts.
    pub count_include_pad: bool,
    /// Of operand and result.
    pub scales: [f32; 2],
    /// Of operand and result, without the offset of signed codes.
    pub zero_points: [i32; 2],
}

/// An operator that the graph's executor runs.
#[derive(Clone, Debug)]
pub struct Island {
    /// The operator with its constants; its inputs are those of the step.
    pub session: Arc<Session>,
    /// The operator's name.
    pub op: &'static str,
}
