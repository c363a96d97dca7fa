//! What a convolution of codes is: sizes, how its weights are kept, what becomes of its sums.

use super::layout::ImageLayout;

/// The sizes of a convolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvSpec {
    /// The image that is read; its border holds the zero point and covers the pads.
    pub input: ImageLayout,
    /// The image that is written; its height, width and channels are the extent of the result.
    pub output: ImageLayout,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Steps down and right, in pixels of the input.
    pub strides: [usize; 2],
    /// Distances between taps, in pixels of the input.
    pub dilations: [usize; 2],
    /// Pads above and left of the image, at most the border of the input.
    pub pads: [usize; 2],
    /// Blocks of channels that do not mix.
    pub groups: usize,
}

impl ConvSpec {
    /// Input channels that an output sees.
    #[must_use]
    pub fn group_channels(&self) -> usize {
        self.input.channels / self.groups
    }

    /// Output channels of a group.
    #[must_use]
    pub fn group_outputs(&self) -> usize {
        self.output.channels / self.groups
    }

    /// Weights of the layer: `[o, i / groups, kh, kw]`.
    #[must_use]
    pub fn weight_len(&self) -> usize {
        self.output.channels * self.group_channels() * self.kernel[0] * self.kernel[1]
    }

    /// Multiplications of one image.
    #[must_use]
    pub fn macs(&self) -> usize {
        self.weight_len() * self.output.height * self.output.width
    }

    /// Where the tap at row `ky` and column `kx` of the output pixel at (`y`, `x`) begins in the input, in bytes.
    pub(crate) fn tap(&self, [y, x]: [usize; 2], [ky, kx]: [usize; 2]) -> usize {
        let row = self.input.border[0] + y * self.strides[0] + ky * self.dilations[0];
        let column = self.input.border[1] + x * self.strides[1] + kx * self.dilations[1];
        (row - self.pads[0]) * self.input.row() + (column - self.pads[1]) * self.input.pixel
    }

    /// Asserts that every tap of every pixel lies inside the input with its border.
    pub(crate) fn check(&self) {
        let (input, output) = (&self.input, &self.output);
        assert!(
            [input.pixel, output.pixel].iter().all(|pixel| pixel.is_multiple_of(4)),
            "a pixel is a multiple of 4 bytes"
        );
        assert!(
            input.channels <= input.pixel && output.channels <= output.pixel,
            "a pixel holds its channels"
        );
        assert!(self.groups > 0 && !output.is_empty(), "the result is not empty");
        assert!(
            input.channels.is_multiple_of(self.groups)
                && output.channels.is_multiple_of(self.groups),
            "groups divide the channels"
        );
        let extents = [(input.height, output.height, 0), (input.width, output.width, 1)];
        for (extent, outputs, axis) in extents {
            assert!(self.pads[axis] <= input.border[axis], "the border covers the pads");
            let reach =
                (outputs - 1) * self.strides[axis] + (self.kernel[axis] - 1) * self.dilations[axis];
            assert!(
                reach < self.pads[axis] + extent + input.border[axis + 2],
                "the last tap lies inside the input with its border"
            );
        }
        assert!(input.len() <= i32::MAX as usize, "an image has less than 2^31 bytes");
    }
}

/// How weights are kept in memory. What has more values than a form holds, among them the zeros that fill words, is kept in the next
/// wider one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightForm {
    /// A byte a weight.
    Int8,
    /// Indices of 4 bits into a table of at most 16 values.
    Table4,
    /// Indices of 2 bits into a table of at most 4 values.
    Table2,
    /// Indices of 1 bit into a table of at most 2 values.
    Table1,
}

/// `clamp(rint(f32(sum + bias[c]) * multipliers[c]) + zero_point)`, half to even: as [`crate::requantize`].
#[derive(Clone, Debug, PartialEq)]
pub struct Requantize {
    /// One for each output channel, added to the sum of `(x - x_zero_point) * w`, wrapping.
    pub bias: Vec<i32>,
    /// One for each output channel, finite.
    pub multipliers: Vec<f32>,
    /// The code that means zero.
    pub zero_point: u8,
    /// The least code written.
    pub low: u8,
    /// The greatest code written.
    pub high: u8,
}

/// `clamp(rint(fma(a, ratio_a, fma(b, ratio_b, fixed))))` of the codes of two images, half to even.
#[derive(Clone, Debug, PartialEq)]
pub struct ResidualAdd {
    /// Factor of the convolution's own code.
    pub own_ratio: f32,
    /// Factor of the other image's code.
    pub other_ratio: f32,
    /// What both zero points come to.
    pub fixed: f32,
    /// Whether the convolution's own code is `a`.
    pub own_first: bool,
    /// The least code written.
    pub low: u8,
    /// The greatest code written.
    pub high: u8,
    /// The other image, of the extent of the result.
    pub other: ImageLayout,
}

/// What becomes of a sum.
#[derive(Clone, Debug, PartialEq)]
pub enum Finish {
    /// A code of 8 bits.
    Codes {
        /// From the sum to a code.
        requantize: Requantize,
        /// A function of the code.
        table: Option<Box<[u8; 256]>>,
        /// Then the sum with another image.
        add: Option<ResidualAdd>,
    },
    /// `f32(sum + bias[c]) * scales[c]`.
    Float {
        /// One for each output channel, added to the sum of `(x - x_zero_point) * w`, wrapping.
        bias: Vec<i32>,
        /// One for each output channel.
        scales: Vec<f32>,
    },
}

/// What tests beside the kernels convolve.
#[cfg(test)]
pub(crate) mod samples {
    use super::{ConvSpec, ImageLayout};

    /// A convolution of 3x3 by steps of 1 that keeps the size of the image.
    pub(crate) fn three_by_three(input: ImageLayout, output: ImageLayout) -> ConvSpec {
        let (strides, dilations, pads) = ([1; 2], [1; 2], [1; 2]);
        ConvSpec { input, output, kernel: [3; 2], strides, dilations, pads, groups: 1 }
    }

    /// Bytes without order, the same every time; others for another `seed`.
    pub(crate) fn noise(len: usize, seed: usize) -> Vec<u8> {
        let byte = |i: usize| ((i + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
        (0..len).map(byte).collect()
    }
}
