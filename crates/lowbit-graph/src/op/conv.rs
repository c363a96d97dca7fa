//! Convolution over [n, c, h, w]. One-dimensional convolutions are imported with h = 1.

pub(crate) mod backward;

use lowbit_kernels::{ConvCall, ConvGeometry, PackedConv};
use lowbit_tensor::{Shape, Tensor};

use super::Inputs;
use super::qparams::dims4;
use super::window::{Window, WindowSpec, resolve_window};
use crate::{OpError, Workspace};

/// Fused after a linear operator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// Nothing.
    None,
    /// max(x, 0).
    Relu,
    /// clamp(x, min, max); either may be infinite.
    Clip {
        /// Lower limit.
        min: f32,
        /// Upper limit.
        max: f32,
    },
}

impl Activation {
    /// The same, for the float kernels.
    #[must_use]
    pub fn for_kernels(self) -> lowbit_kernels::Activation {
        match self {
            Activation::None => lowbit_kernels::Activation::None,
            Activation::Relu => lowbit_kernels::Activation::Relu,
            Activation::Clip { min, max } => lowbit_kernels::Activation::Clip { min, max },
        }
    }
}

/// How pads are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoPad {
    /// As given.
    Explicit,
    /// Output extent ceil(in / stride), odd padding at the end.
    SameUpper,
    /// Output extent ceil(in / stride), odd padding at the start.
    SameLower,
    /// None.
    Valid,
}

/// Attributes of every convolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv {
    /// Kernel height and width, when the file says so: checked against the weight's.
    pub kernel: Option<[usize; 2]>,
    /// Steps.
    pub strides: [usize; 2],
    /// Distance between kernel elements.
    pub dilations: [usize; 2],
    /// Top, left, bottom, right; used when `auto_pad` is `Explicit`.
    pub pads: [usize; 4],
    /// How pads are found.
    pub auto_pad: AutoPad,
    /// Number of groups.
    pub groups: usize,
    /// Applied to the result; `None` on import, set by a pass.
    pub activation: Activation,
}

/// Everything a convolution of known operands needs.
#[derive(Debug)]
pub(crate) struct PackedWeight<W> {
    /// Packed weights.
    pub(crate) weight: W,
    /// [o, i / groups, kh, kw].
    pub(crate) shape: [usize; 4],
}

impl Conv {
    /// ONNX's defaults: steps of one, no pads, one group.
    pub const PLAIN: Conv = Conv {
        kernel: None,
        strides: [1, 1],
        dilations: [1, 1],
        pads: [0; 4],
        auto_pad: AutoPad::Explicit,
        groups: 1,
        activation: Activation::None,
    };

    /// Checks a weight's shape against the attributes: [o, i / groups, kh, kw].
    pub(crate) fn weight_shape(
        &self,
        index: usize,
        weight: &Tensor,
    ) -> Result<[usize; 4], OpError> {
        let shape = dims4(index, weight)?;
        let wrong = |expected: String| OpError::Input {
            index,
            found: format!("shape {}", weight.shape()),
            expected,
        };
        if shape.contains(&0) {
            return Err(wrong("no extent of 0 in [o, i, kh, kw]".into()));
        }
        if self.groups == 0 || shape[0] % self.groups != 0 {
            return Err(wrong(format!("output channels divisible by {} groups", self.groups)));
        }
        match self.kernel {
            Some(kernel) if kernel != [shape[2], shape[3]] => {
                Err(wrong(format!("kernel {kernel:?} as kernel_shape says")))
            }
            _ => Ok(shape),
        }
    }

    /// The sizes of a convolution of `x` by a weight of `shape`, and the result's shape.
    pub(crate) fn geometry(
        &self,
        x: &Tensor,
        shape: [usize; 4],
    ) -> Result<(ConvGeometry, Shape), OpError> {
        let [n, c, h, w] = dims4(0, x)?;
        let [channels_out, per_group, kh, kw] = shape;
        if per_group.checked_mul(self.groups) != Some(c) {
            return Err(OpError::Input {
                index: 0,
                found: format!("{c} channels in {}", x.shape()),
                expected: format!("{per_group} x {} groups", self.groups),
            });
        }
        let window = self.window([h, w], [kh, kw])?;
        let geometry = ConvGeometry {
            channels_in: c,
            channels_out,
            input: [h, w],
            kernel: [kh, kw],
            strides: self.strides,
            dilations: self.dilations,
            pads: window.pads,
            groups: self.groups,
        };
        Ok((geometry, Shape::from([n, channels_out, window.output[0], window.output[1]])))
    }

    /// Where a kernel of height and width `kernel` falls on an input of height and width `input`.
    ///
    /// # Errors
    /// `Invalid` when an attribute is 0 or absurd, or when no window fits.
    pub fn window(&self, input: [usize; 2], kernel: [usize; 2]) -> Result<Window, OpError> {
        let spec = WindowSpec {
            kernel,
            strides: self.strides,
            dilations: self.dilations,
            pads: self.pads,
            auto_pad: self.auto_pad,
            ceil_mode: false,
        };
        resolve_window(input, &spec)
    }

    /// Packs a constant weight and bias.
    pub(crate) fn pack(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<PackedWeight<PackedConv>, OpError> {
        let inputs = [None, Some(weight), bias];
        let (weight, values) = Inputs(&inputs).float(1, "W", 4)?;
        let shape = self.weight_shape(1, weight)?;
        let bias = match bias {
            None => None,
            Some(bias) if **bias.shape() == [shape[0]] => Some(Inputs(&inputs).float(2, "B", 1)?.1),
            Some(bias) => {
                return Err(OpError::Input {
                    index: 2,
                    found: format!("shape {}", bias.shape()),
                    expected: format!("[{}], one per output channel", shape[0]),
                });
            }
        };
        Ok(PackedWeight { weight: PackedConv::new(values, shape, bias, self.groups), shape })
    }

    pub(crate) fn run(
        &self,
        packed: &PackedWeight<PackedConv>,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let (x, values) = inputs.float(0, "X", 4)?;
        let (geometry, shape) = self.geometry(x, packed.shape)?;
        let mut out = work.pool.floats(&shape)?;
        let call = ConvCall {
            n: x.shape()[0],
            geometry: &geometry,
            activation: self.activation.for_kernels(),
            parallel: work.parallel,
        };
        packed.weight.run(values, &call, &mut out, &mut work.scratch);
        Ok(Tensor::new(shape, out))
    }

    /// The result's shape.
    pub(crate) fn result_shape(
        &self,
        packed: &PackedWeight<PackedConv>,
        inputs: &Inputs<'_>,
    ) -> Result<Shape, OpError> {
        Ok(self.geometry(inputs.float(0, "X", 4)?.0, packed.shape)?.1)
    }

    /// As [`Conv::run`] with the result added to what `onto`, float32 of the result's shape, holds; then `activation` in place of
    /// the convolution's own.
    pub(crate) fn run_onto(
        &self,
        packed: &PackedWeight<PackedConv>,
        inputs: &Inputs<'_>,
        (mut onto, activation): (Tensor, Activation),
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let (x, values) = inputs.float(0, "X", 4)?;
        let (geometry, _) = self.geometry(x, packed.shape)?;
        let call = ConvCall {
            n: x.shape()[0],
            geometry: &geometry,
            activation: activation.for_kernels(),
            parallel: work.parallel,
        };
        packed.weight.run_onto(values, &call, onto.as_mut_slice()?, &mut work.scratch);
        Ok(onto)
    }

    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let packed = self.pack(inputs.required(1, "W")?, inputs.optional(2))?;
        self.run(&packed, inputs, work)
    }
}
