//! What a convolution is asked to do: sizes, fused activation, threading. No data, no memory layout.

/// The sizes of a two-dimensional convolution over one image, ONNX conventions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Input channels, all groups together.
    pub channels_in: usize,
    /// Output channels, all groups together.
    pub channels_out: usize,
    /// Input height and width.
    pub input: [usize; 2],
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Vertical and horizontal stride.
    pub strides: [usize; 2],
    /// Vertical and horizontal dilation, 1 for a dense kernel.
    pub dilations: [usize; 2],
    /// Zeros around the image: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Groups: input channels of one group feed only its output channels.
    pub groups: usize,
}

impl ConvGeometry {
    /// Output height and width.
    /// # Panics
    /// When a stride is zero, or the dilated kernel is larger than the padded image.
    #[must_use]
    pub fn output(&self) -> [usize; 2] {
        std::array::from_fn(|axis| {
            assert!(
                self.strides[axis] > 0 && self.kernel[axis] > 0,
                "strides and kernel sizes are at least 1"
            );
            let padded = self.pads[axis] + self.input[axis] + self.pads[axis + 2];
            let reach = (self.kernel[axis] - 1) * self.dilations[axis] + 1;
            assert!(padded >= reach, "the kernel does not fit in the padded image");
            (padded - reach) / self.strides[axis] + 1
        })
    }

    /// Elements of one input image.
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.channels_in * self.input[0] * self.input[1]
    }

    /// Elements of one output image.
    #[must_use]
    pub fn output_len(&self) -> usize {
        let [height, width] = self.output();
        self.channels_out * height * width
    }

    /// Shape of the weights: `[o, i / groups, kh, kw]`.
    #[must_use]
    pub fn weight_shape(&self) -> [usize; 4] {
        [self.channels_out, self.channels_in / self.groups, self.kernel[0], self.kernel[1]]
    }

    /// Multiply-accumulates for one image, taps on padding counted.
    #[must_use]
    pub fn macs(&self) -> usize {
        let [_, inputs, height, width] = self.weight_shape();
        self.output_len() * inputs * height * width
    }

    pub(crate) fn is_depthwise(&self) -> bool {
        self.groups == self.channels_in && self.groups == self.channels_out
    }
}

/// What is applied to an output after the bias, before it is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// Nothing.
    None,
    /// `max(0, x)`.
    Relu,
    /// `min(max, max(min, x))`.
    Clip {
        /// The lower bound.
        min: f32,
        /// The upper bound.
        max: f32,
    },
    /// `x < 0 ? alpha * x : x`.
    LeakyRelu(f32),
}

impl Activation {
    /// The activation of one value, as the kernels compute it.
    #[must_use]
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::None => x,
            Self::Relu => x.max(0.0),
            Self::Clip { min, max } => x.max(min).min(max),
            Self::LeakyRelu(alpha) if x < 0.0 => alpha * x,
            Self::LeakyRelu(_) => x,
        }
    }
}

/// Whether a kernel may use the threads of rayon's current pool. Results do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parallel {
    /// The calling thread only; rayon is not touched.
    Serial,
    /// Rayon's current pool, also inside one image.
    Rayon,
}
