//! Maps over slices that matter for speed: ranges, quantization, sums. Plain loops, compiled once for each tier.

use crate::arch::Arch;
use crate::isa::{Isa, Task};

/// 1.5 * 2^23: adding it to a float below 2^22 in size rounds it to an integer, half to even, in the low mantissa bits.
pub const ROUNDER: f32 = 12_582_912.0;

/// An 8-bit integer that values are quantized to.
pub trait Code: Copy + Send + Sync + Into<i32> + private::Sealed {
    /// The least and greatest code.
    const RANGE: (i32, i32);
    /// The low 8 bits of a value in range.
    fn from_in_range(value: i32) -> Self;
}

mod private {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for i8 {}
}

impl Code for u8 {
    const RANGE: (i32, i32) = (0, 255);

    #[inline(always)]
    fn from_in_range(value: i32) -> Self {
        value as Self
    }
}

impl Code for i8 {
    const RANGE: (i32, i32) = (-128, 127);

    #[inline(always)]
    fn from_in_range(value: i32) -> Self {
        value as Self
    }
}

/// The least and greatest value: `(inf, -inf)` of none, `(NaN, NaN)` where any is NaN.
#[must_use]
pub fn minmax(values: &[f32]) -> (f32, f32) {
    Isa::current().dispatch(MinMax { values })
}

/// `clamp(rint(x / scale) + zero_point)`: IEEE division, half to even, as onnxruntime. A NaN gives the least code.
/// # Panics
/// When the lengths differ, or the zero point is no code.
pub fn quantize<T: Code>(x: &[f32], scale: f32, zero_point: i32, out: &mut [T]) {
    assert!(x.len() == out.len(), "quantize needs equal lengths");
    Isa::current().dispatch(Quantize { rounding: Rounding::new::<T>(zero_point), x, scale, out });
}

/// The straight-through gradient of quantization: `grad / scale` where `rint(x / scale)` lies within `bounds`, the least and
/// greatest code less the zero point; 0 elsewhere.
/// # Panics
/// When the lengths differ, or a bound exceeds 2^17 in size.
pub fn quantize_gradient(
    (x, grad): (&[f32], &[f32]),
    scale: f32,
    bounds: (i32, i32),
    out: &mut [f32],
) {
    assert!(
        x.len() == out.len() && grad.len() == out.len(),
        "a gradient needs operands of equal lengths"
    );
    assert!(bounds.0 >= -(1 << 17) && bounds.1 <= 1 << 17, "codes of at most 16 bits");
    let bounds = (bounds.0 as f32, bounds.1 as f32);
    Isa::current().dispatch(QuantizeGradient { x, grad, scale, bounds, out });
}

/// The sum of `a * b` in `f64`, in an order that depends on the length alone.
/// # Panics
/// When the lengths differ.
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    assert!(a.len() == b.len(), "a product needs equal lengths");
    Isa::current().dispatch(Dot { a, b })
}

/// `(code - zero_point) * scale`.
/// # Panics
/// When the lengths differ.
pub fn dequantize<T: Code>(codes: &[T], scale: f32, zero_point: i32, out: &mut [f32]) {
    assert!(codes.len() == out.len(), "dequantize needs equal lengths");
    Isa::current().dispatch(Dequantize { codes, scale, zero_point, out });
}

/// How sums become codes again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Requantization {
    /// Added to each sum first, wrapping.
    pub bias: i32,
    /// Factor of the sum as `f32`.
    pub multiplier: f32,
    /// Added after rounding.
    pub zero_point: i32,
}

/// `clamp(rint(f32(sum + bias) * multiplier) + zero_point)`, half to even.
/// # Panics
/// When the lengths differ, or the zero point is no code.
pub fn requantize<T: Code>(sums: &[i32], how: Requantization, out: &mut [T]) {
    assert!(sums.len() == out.len(), "requantize needs equal lengths");
    Isa::current().dispatch(Requantize {
        rounding: Rounding::new::<T>(how.zero_point),
        sums,
        how,
        out,
    });
}

/// `out = a + b`.
/// # Panics
/// When the lengths differ.
pub fn add_f32(a: &[f32], b: &[f32], out: &mut [f32]) {
    zip_f32(a, b, out, |a, b| a + b);
}

/// `out = a * b`.
/// # Panics
/// When the lengths differ.
pub fn mul_f32(a: &[f32], b: &[f32], out: &mut [f32]) {
    zip_f32(a, b, out, |a, b| a * b);
}

fn zip_f32(a: &[f32], b: &[f32], out: &mut [f32], map: impl Fn(f32, f32) -> f32) {
    assert!(
        a.len() == out.len() && b.len() == out.len(),
        "a map of two slices needs equal lengths"
    );
    Isa::current().dispatch(Zip { a, b, out, map });
}

/// Clamping before rounding is the same as after, the bounds being integers, and keeps the sum with [`ROUNDER`] exact.
#[derive(Clone, Copy)]
struct Rounding {
    low: f32,
    high: f32,
    zero_point: i32,
}

impl Rounding {
    fn new<T: Code>(zero_point: i32) -> Self {
        let (low, high) = T::RANGE;
        assert!((low..=high).contains(&zero_point), "the zero point is a code");
        Self { low: (low - zero_point) as f32, high: (high - zero_point) as f32, zero_point }
    }

    #[inline(always)]
    fn clamp(self, value: f32) -> f32 {
        let raised = if value > self.low { value } else { self.low };
        if raised < self.high { raised } else { self.high }
    }

    #[inline(always)]
    fn code<T: Code>(self, value: f32) -> T {
        let rounded = (self.clamp(value) + ROUNDER).to_bits() as i32 - ROUNDER.to_bits() as i32;
        T::from_in_range(rounded + self.zero_point)
    }

    /// The codes of `x / scale`.
    #[inline(always)]
    fn codes<T: Code>(self, scale: f32, x: &[f32], out: &mut [T]) {
        let inverse = scale.recip();
        if !inverse.is_normal() || self.by_product(inverse, x, out) {
            for (out, &x) in out.iter_mut().zip(x) {
                *out = self.code(x / scale);
            }
        }
    }

    /// The codes by a product, which is cheaper than a division. Tells whether any lies so near to where roundings part that the two,
    /// which differ by less than two units in the last place, might not round alike.
    #[inline(always)]
    fn by_product<T: Code>(self, inverse: f32, x: &[f32], out: &mut [T]) -> bool {
        let widest = if self.high > -self.low { self.high } else { -self.low };
        let certain = 0.5 - 2.0 * f32::EPSILON * widest;
        let mut doubtful = 0;
        for (out, &x) in out.iter_mut().zip(x) {
            let quotient = x * inverse;
            *out = self.code(quotient);
            let clamped = self.clamp(quotient);
            let off = clamped - ((clamped + ROUNDER) - ROUNDER);
            doubtful |= u32::from(off.abs() > certain);
        }
        doubtful != 0
    }
}

struct MinMax<'a> {
    values: &'a [f32],
}

impl Task for MinMax<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<A: Arch>(self, _: A) -> (f32, f32) {
        const LANES: usize = 64;
        let mut low = [f32::INFINITY; LANES];
        let mut high = [f32::NEG_INFINITY; LANES];
        let mut nans = [0u32; LANES];
        let mut visit = |chunk: &[f32]| {
            for (((&v, low), high), nan) in chunk.iter().zip(&mut low).zip(&mut high).zip(&mut nans)
            {
                *low = if v < *low { v } else { *low };
                *high = if v > *high { v } else { *high };
                *nan |= u32::from(v.is_nan());
            }
        };
        let mut chunks = self.values.chunks_exact(LANES);
        for chunk in &mut chunks {
            visit(chunk);
        }
        visit(chunks.remainder());
        if nans.iter().any(|&nan| nan != 0) {
            return (f32::NAN, f32::NAN);
        }
        (
            low.into_iter().fold(f32::INFINITY, f32::min),
            high.into_iter().fold(f32::NEG_INFINITY, f32::max),
        )
    }
}

struct Quantize<'a, T> {
    rounding: Rounding,
    x: &'a [f32],
    scale: f32,
    out: &'a mut [T],
}

impl<T: Code> Task for Quantize<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self, _: A) {
        // Chunks of a known length become straight lines of vectors.
        let (chunks, rest) = self.x.as_chunks::<64>();
        let (out, rest_out) = self.out.as_chunks_mut::<64>();
        for (out, x) in out.iter_mut().zip(chunks) {
            self.rounding.codes(self.scale, x, out);
        }
        self.rounding.codes(self.scale, rest, rest_out);
    }
}

struct QuantizeGradient<'a> {
    x: &'a [f32],
    grad: &'a [f32],
    scale: f32,
    bounds: (f32, f32),
    out: &'a mut [f32],
}

impl Task for QuantizeGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self, _: A) {
        let (low, high) = self.bounds;
        // One more on either side rounds to what is outside, and keeps the sum with the rounder exact.
        let (least, most) = (low - 1.0, high + 1.0);
        for (out, (&x, &grad)) in self.out.iter_mut().zip(self.x.iter().zip(self.grad)) {
            let steps = x / self.scale;
            let raised = if steps > least { steps } else { least };
            let clamped = if raised < most { raised } else { most };
            let rounded = (clamped + ROUNDER) - ROUNDER;
            *out = if rounded >= low && rounded <= high { grad / self.scale } else { 0.0 };
        }
    }
}

struct Dot<'a> {
    a: &'a [f32],
    b: &'a [f32],
}

impl Task for Dot<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<A: Arch>(self, _: A) -> f64 {
        const LANES: usize = 16;
        let mut lanes = [0f64; LANES];
        let (a_blocks, a_rest) = self.a.as_chunks::<LANES>();
        let (b_blocks, b_rest) = self.b.as_chunks::<LANES>();
        for (a, b) in a_blocks.iter().zip(b_blocks) {
            for (lane, (&a, &b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
                *lane += f64::from(a) * f64::from(b);
            }
        }
        for (lane, (&a, &b)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
            *lane += f64::from(a) * f64::from(b);
        }
        lanes.iter().sum()
    }
}

struct Dequantize<'a, T> {
    codes: &'a [T],
    scale: f32,
    zero_point: i32,
    out: &'a mut [f32],
}

impl<T: Code> Task for Dequantize<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self, _: A) {
        for (out, &code) in self.out.iter_mut().zip(self.codes) {
            let code: i32 = code.into();
            *out = (code - self.zero_point) as f32 * self.scale;
        }
    }
}

struct Requantize<'a, T> {
    rounding: Rounding,
    sums: &'a [i32],
    how: Requantization,
    out: &'a mut [T],
}

impl<T: Code> Task for Requantize<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self, _: A) {
        for (out, &sum) in self.out.iter_mut().zip(self.sums) {
            *out = self.rounding.code(sum.wrapping_add(self.how.bias) as f32 * self.how.multiplier);
        }
    }
}

struct Zip<'a, F> {
    a: &'a [f32],
    b: &'a [f32],
    out: &'a mut [f32],
    map: F,
}

impl<F: Fn(f32, f32) -> f32> Task for Zip<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self, _: A) {
        for ((out, &a), &b) in self.out.iter_mut().zip(self.a).zip(self.b) {
            *out = (self.map)(a, b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<f32> {
        let steps = (-3000..3000).map(|i| i as f32 * 0.125);
        steps
            .chain([f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30, f32::MIN_POSITIVE, -0.0])
            .collect()
    }

    fn check_codes<T: Code + PartialEq + std::fmt::Debug>(zero_point: i32) {
        for scale in [0.25, 0.1, 1.0, 3.0, 0.017_823_1, 1e-40, 3e38] {
            // Where roundings part, and next to it.
            let ties = (-300..300).map(|i| (i as f32 + 0.5) * scale);
            let near = ties
                .flat_map(|tie| [tie.next_down().next_down(), tie.next_down(), tie, tie.next_up()]);
            let x: Vec<f32> = samples().into_iter().chain(near).collect();
            let rounding = Rounding::new::<T>(zero_point);
            let exact = |value: f32| {
                let shifted = f64::from(value.round_ties_even()) + f64::from(zero_point);
                T::from_in_range(shifted.clamp(f64::from(T::RANGE.0), f64::from(T::RANGE.1)) as i32)
            };
            let expected: Vec<T> = x.iter().map(|&x| exact(x / scale)).collect();
            let sums: Vec<i32> = (-5000..5000).map(|i| i * 7).chain([i32::MAX, i32::MIN]).collect();
            let how = Requantization { bias: 3, multiplier: scale * 0.01, zero_point };
            let from_sums: Vec<T> =
                sums.iter().map(|&s| exact(s.wrapping_add(3) as f32 * how.multiplier)).collect();
            for isa in Isa::available() {
                let mut out = vec![T::from_in_range(1); x.len()];
                isa.dispatch(Quantize { rounding, x: &x, scale, out: &mut out });
                assert_eq!(out, expected, "{}", isa.name());
                let mut out = vec![T::from_in_range(1); sums.len()];
                isa.dispatch(Requantize { rounding, sums: &sums, how, out: &mut out });
                assert_eq!(out, from_sums, "{}", isa.name());
            }
        }
    }

    #[test]
    fn codes_round_half_to_even() {
        check_codes::<u8>(0);
        check_codes::<u8>(128);
        check_codes::<u8>(255);
        check_codes::<i8>(0);
        check_codes::<i8>(-128);
        check_codes::<i8>(127);
    }

    #[test]
    fn dequantize_inverts() {
        let codes: Vec<i8> = (-128..=127).collect();
        let mut values = vec![0.0; codes.len()];
        dequantize(&codes, 0.5, -3, &mut values);
        assert_eq!(values[0], -62.5);
        let mut again = vec![0i8; codes.len()];
        quantize(&values, 0.5, -3, &mut again);
        assert_eq!(codes, again);
    }

    #[test]
    fn minmax_sees_tails_and_nan() {
        for isa in Isa::available() {
            for len in [1, 2, 63, 64, 65, 127, 128, 129, 1000] {
                let mut values: Vec<f32> =
                    (0..len).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
                let fold =
                    |f: fn(f32, f32) -> f32| values.iter().copied().reduce(f).expect("not empty");
                assert_eq!(
                    isa.dispatch(MinMax { values: &values }),
                    (fold(f32::min), fold(f32::max))
                );
                values[len / 2] = f32::NAN;
                assert!(
                    isa.dispatch(MinMax { values: &values }).0.is_nan(),
                    "{} {len}",
                    isa.name()
                );
            }
            assert_eq!(isa.dispatch(MinMax { values: &[] }), (f32::INFINITY, f32::NEG_INFINITY));
        }
    }

    #[test]
    fn gradients_pass_where_codes_do_not_saturate() {
        let x = samples();
        let grad: Vec<f32> = (0..x.len()).map(|i| (i % 17) as f32 - 8.0).collect();
        for (scale, bounds) in [(0.5, (-128, 127)), (0.3, (0, 15)), (2.0, (-3, 4))] {
            let mut out = vec![f32::NAN; x.len()];
            quantize_gradient((&x, &grad), scale, bounds, &mut out);
            for (&out, (&x, &grad)) in out.iter().zip(x.iter().zip(&grad)) {
                let code = (x / scale).round_ties_even();
                let inside = code >= bounds.0 as f32 && code <= bounds.1 as f32;
                assert_eq!(
                    out,
                    if inside { grad / scale } else { 0.0 },
                    "{x} / {scale} {bounds:?}"
                );
            }
        }
        let sum = dot(&grad[..37], &grad[1..38]);
        let expected = (0..37).map(|i| f64::from(grad[i] * grad[i + 1])).sum::<f64>();
        assert_eq!(sum, expected);
    }

    #[test]
    fn sums_and_products() {
        let mut out = [0.0; 3];
        add_f32(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0], &mut out);
        assert_eq!(out, [5.0, 7.0, 9.0]);
        mul_f32(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0], &mut out);
        assert_eq!(out, [4.0, 10.0, 18.0]);
    }
}
