//! Convolution of `f32` images, NCHW, with packed weights, bias and activation.

use crate::engine::{Core, Form, Job, Scratch};
use crate::geometry::{Activation, ConvGeometry, Parallel};
use crate::isa::{Isa, kernel_name};
use crate::nhwc::Pool;
use crate::stage::Floats;
use crate::threads::Threads;
use crate::word::{Float, Onto, Word, bits, bits_mut};

/// Weights and bias of a convolution, packed once for the tiles of this CPU.
///
/// Each output is the sum of its taps in the order channel, row, column, then the bias, then the activation: the same
/// bits for any batch, thread count and [`Parallel`]. Between tiers (see [`Isa`]) results differ by rounding.
///
/// ```
/// use lowbit_kernels::{Activation, ConvCall, ConvGeometry, PackedConv, Parallel, Scratch};
///
/// let geometry = ConvGeometry {
///     channels_in: 1,
///     channels_out: 1,
///     input: [2, 2],
///     kernel: [2, 2],
///     strides: [1, 1],
///     dilations: [1, 1],
///     pads: [0; 4],
///     groups: 1,
/// };
/// let packed = PackedConv::new(&[1.0; 4], geometry.weight_shape(), Some(&[0.5]), geometry.groups);
/// let call = ConvCall { n: 1, geometry: &geometry, activation: Activation::None, parallel: Parallel::Serial };
/// let mut out = [0.0];
/// packed.run(&[1.0, 2.0, 3.0, 4.0], &call, &mut out, &mut Scratch::new());
/// assert_eq!(out, [10.5]);
/// ```
#[derive(Clone, Debug)]
pub struct PackedConv(pub(crate) Core);

/// One call of [`PackedConv::run`].
#[derive(Clone, Copy, Debug)]
pub struct ConvCall<'a> {
    /// Images in the batch.
    pub n: usize,
    /// Sizes; all but `input`, `pads`, `strides` and `dilations` were fixed by packing.
    pub geometry: &'a ConvGeometry,
    /// What is applied after the bias.
    pub activation: Activation,
    /// Threads.
    pub parallel: Parallel,
}

impl PackedConv {
    /// Packs `weight`, which is `shape` = `[o, i / groups, kh, kw]`, for the best tier.
    /// # Panics
    /// When a length does not fit the shape, or the groups do not divide the output channels.
    #[must_use]
    pub fn new(weight: &[f32], shape: [usize; 4], bias: Option<&[f32]>, groups: usize) -> Self {
        Self::for_isa(Isa::current(), weight, shape, (bias, groups))
    }

    /// As [`PackedConv::new`], for a given tier; the last argument is `(bias, groups)`.
    /// # Panics
    /// As [`PackedConv::new`].
    #[must_use]
    pub fn for_isa(
        isa: Isa,
        weight: &[f32],
        shape: [usize; 4],
        (bias, groups): (Option<&[f32]>, usize),
    ) -> Self {
        let [outputs, inputs, kh, kw] = shape;
        assert!(
            weight.len() == outputs * inputs * kh * kw,
            "the weight has the length of its shape"
        );
        assert!(
            bias.is_none_or(|bias| bias.len() == outputs),
            "the bias has one entry per output channel"
        );
        let bias = |o: usize| bias.map_or(0, |bias| bias[o].to_bits());
        let word =
            |[o, i, y, x]: [usize; 4]| weight[((o * inputs + i) * kh + y) * kw + x].to_bits();
        Self(Core::new(isa, Form { shape, groups, pack: 1 }, bias, word))
    }

    /// Convolves `n` images of `x` into `out`.
    /// # Panics
    /// When a length does not fit the geometry, or the geometry is not that of the packed weights.
    pub fn run(&self, x: &[f32], call: &ConvCall<'_>, out: &mut [f32], scratch: &mut Scratch) {
        let how = (call.geometry, call.n, call.parallel.into());
        self.run_words(x, how, Float::new(call.activation), (out, scratch));
    }

    /// Convolves one image on the threads of `pool`, to the bits of [`PackedConv::run`]. Takes no memory where `scratch` has served
    /// the same call with as many threads before.
    /// # Panics
    /// As [`PackedConv::run`].
    pub fn run_on(
        &self,
        x: &[f32],
        (geometry, activation): (&ConvGeometry, Activation),
        out: &mut [f32],
        (pool, scratch): (&Pool, &mut Scratch),
    ) {
        let how = (geometry, 1, Threads::Pool(pool));
        self.run_words(x, how, Float::new(activation), (out, scratch));
    }

    /// Convolves `n` images of `x` and adds the result to what `out` holds: `activation((sum + bias) + out)`, the bits that
    /// [`PackedConv::run`] without an activation, a sum and the activation give.
    /// # Panics
    /// As [`PackedConv::run`].
    pub fn run_onto(&self, x: &[f32], call: &ConvCall<'_>, out: &mut [f32], scratch: &mut Scratch) {
        if !call.geometry.is_depthwise() {
            let how = (call.geometry, call.n, call.parallel.into());
            return self.run_words(x, how, Onto(Float::new(call.activation)), (out, scratch));
        }
        // Bands of a depthwise convolution overlap, so they cannot add to what they find.
        let mut made = std::mem::take(&mut scratch.parts[0]);
        made.resize(out.len(), 0.0);
        self.run(x, &ConvCall { activation: Activation::None, ..*call }, &mut made, scratch);
        for (out, made) in out.iter_mut().zip(&made) {
            *out = call.activation.apply(made + *out);
        }
        scratch.parts[0] = made;
    }

    fn run_words<W: Word>(
        &self,
        x: &[f32],
        (geometry, n, threads): (&ConvGeometry, usize, Threads<'_>),
        word: W,
        (out, scratch): (&mut [f32], &mut Scratch),
    ) {
        assert!(x.len() == n * geometry.input_len(), "the input holds n images");
        let job = Job { feed: Floats(bits(x)), word, geometry };
        self.0.run(&job, (n, threads), bits_mut(out), scratch);
    }

    /// What tables call it: the type and the tier.
    #[must_use]
    pub fn kernel_name(&self) -> &'static str {
        kernel_name!("f32", self.0.isa.vectors())
    }

    /// Bytes of the packed weights.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.0.weight_bytes()
    }
}
