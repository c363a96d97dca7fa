//! What one 32-bit word means to the shared loops: an `f32`, or two `i16` multiplied and summed into an `i32`.

use crate::arch::Arch;
use crate::geometry::Activation;

/// The arithmetic of a tile; the value itself carries what the epilogue needs.
pub(crate) trait Word: Copy + Send + Sync {
    /// Whether results are added to what the output holds.
    const ADDS: bool = false;
    /// `acc + x * w`.
    fn mac<A: Arch>(self, arch: A, acc: A::V, x: A::V, w: A::V) -> A::V;
    /// `a + b`, b being the bias or what the output holds.
    fn add<A: Arch>(self, arch: A, a: A::V, b: A::V) -> A::V;
    /// The activation.
    fn activate<A: Arch>(self, arch: A, sum: A::V) -> A::V;
}

/// Words are `f32`; the activation is a clip and, for the leaky one, a slope.
#[derive(Clone, Copy)]
pub(crate) struct Float {
    low: f32,
    high: f32,
    leak: Option<f32>,
}

impl Float {
    pub(crate) fn new(activation: Activation) -> Self {
        let clip = |low, high| Self { low, high, leak: None };
        match activation {
            Activation::None => clip(f32::NEG_INFINITY, f32::INFINITY),
            Activation::Relu => clip(0.0, f32::INFINITY),
            Activation::Clip { min, max } => clip(min, max),
            Activation::LeakyRelu(alpha) => {
                Self { low: f32::NEG_INFINITY, high: f32::INFINITY, leak: Some(alpha) }
            }
        }
    }
}

impl Word for Float {
    #[inline(always)]
    fn mac<A: Arch>(self, arch: A, acc: A::V, x: A::V, w: A::V) -> A::V {
        arch.fma_f32(acc, x, w)
    }

    #[inline(always)]
    fn add<A: Arch>(self, arch: A, a: A::V, b: A::V) -> A::V {
        arch.add_f32(a, b)
    }

    #[inline(always)]
    fn activate<A: Arch>(self, arch: A, sum: A::V) -> A::V {
        let Some(alpha) = self.leak else {
            let raised = arch.max_f32(arch.splat(self.low.to_bits()), sum);
            return arch.min_f32(arch.splat(self.high.to_bits()), raised);
        };
        let zero = arch.splat(0);
        let negative = arch.mul_f32(arch.min_f32(zero, sum), arch.splat(alpha.to_bits()));
        arch.add_f32(arch.max_f32(zero, sum), negative)
    }
}

/// As [`Float`]; between bias and activation what the output holds is added.
#[derive(Clone, Copy)]
pub(crate) struct Onto(pub(crate) Float);

impl Word for Onto {
    const ADDS: bool = true;

    #[inline(always)]
    fn mac<A: Arch>(self, arch: A, acc: A::V, x: A::V, w: A::V) -> A::V {
        self.0.mac(arch, acc, x, w)
    }

    #[inline(always)]
    fn add<A: Arch>(self, arch: A, a: A::V, b: A::V) -> A::V {
        self.0.add(arch, a, b)
    }

    #[inline(always)]
    fn activate<A: Arch>(self, arch: A, sum: A::V) -> A::V {
        self.0.activate(arch, sum)
    }
}

/// Words are pairs of `i16`, accumulators `i32`.
#[derive(Clone, Copy)]
pub(crate) struct Pair;

impl Word for Pair {
    #[inline(always)]
    fn mac<A: Arch>(self, arch: A, acc: A::V, x: A::V, w: A::V) -> A::V {
        arch.dot_i16(acc, x, w)
    }

    #[inline(always)]
    fn add<A: Arch>(self, arch: A, a: A::V, b: A::V) -> A::V {
        arch.add_i32(a, b)
    }

    #[inline(always)]
    fn activate<A: Arch>(self, _: A, sum: A::V) -> A::V {
        sum
    }
}

/// The word of two integers in -32768..=32767.
#[inline(always)]
pub(crate) fn pair(low: i32, high: i32) -> u32 {
    (low as u32 & 0xffff) | ((high as u32) << 16)
}

/// The bits of a slice of floats.
pub(crate) fn bits(values: &[f32]) -> &[u32] {
    // SAFETY: same size and alignment, every pattern is valid in both types.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) }
}

/// The bits of a slice of floats, to be written.
pub(crate) fn bits_mut(values: &mut [f32]) -> &mut [u32] {
    // SAFETY: same size and alignment, every pattern is valid in both types.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len()) }
}

/// The bits of a slice of integers, to be written.
pub(crate) fn int_bits_mut(values: &mut [i32]) -> &mut [u32] {
    // SAFETY: same size and alignment, every pattern is valid in both types.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len()) }
}
