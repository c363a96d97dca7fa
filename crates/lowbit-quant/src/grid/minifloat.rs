//! Floating-point formats of 4, 6 and 8 bits.

use serde::{Deserialize, Serialize};

use super::Levels;

/// A format of the Open Compute Project (OFP8 1.0 of 2023, Microscaling MX 1.0 of 2023). Values round to nearest, ties
/// to the even bit pattern, and saturate; NaN and infinities are not levels; -0 is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Minifloat {
    /// 4 exponent and 3 mantissa bits, bias 7, largest 448; all ones is NaN.
    E4m3,
    /// 5 exponent and 2 mantissa bits, bias 15, largest 57344; the last exponent is infinity and NaN.
    E5m2,
    /// 2 exponent bits and 1 mantissa bit, bias 1, largest 6.
    E2m1,
    /// 3 exponent and 2 mantissa bits, bias 3, largest 28.
    E3m2,
}

/// Exponent bits, mantissa bits, bias, positive finite patterns (0 included).
type Layout = (u8, u8, i32, u16);

impl Minifloat {
    fn layout(self) -> Layout {
        match self {
            Minifloat::E4m3 => (4, 3, 7, 127),
            Minifloat::E5m2 => (5, 2, 15, 124),
            Minifloat::E2m1 => (2, 1, 1, 8),
            Minifloat::E3m2 => (3, 2, 3, 32),
        }
    }

    /// The magnitude of a pattern without sign.
    fn magnitude(self, pattern: u16) -> f32 {
        let (_, mantissa_bits, bias, _) = self.layout();
        let exponent = i32::from(pattern >> mantissa_bits);
        let fraction =
            f32::from(pattern & ((1 << mantissa_bits) - 1)) / f32::from(1u8 << mantissa_bits);
        if exponent == 0 {
            fraction * 2f32.powi(1 - bias)
        } else {
            (1.0 + fraction) * 2f32.powi(exponent - bias)
        }
    }

    pub(super) fn levels(self) -> Levels {
        let (.., finite) = self.layout();
        let last = i32::from(finite) - 1;
        let values: Vec<f32> = (-last..=last)
            .map(|k| self.magnitude(k.unsigned_abs() as u16).copysign(k as f32) + 0.0)
            .collect();
        let thresholds = Levels::nearest(values.clone()).thresholds();
        let upper = (-last..last).map(|k| k % 2 != 0).collect();
        Levels::listed(values, thresholds, upper)
    }

    pub(super) fn bit_pattern(self, code: u16) -> u16 {
        let (exponent_bits, mantissa_bits, _, finite) = self.layout();
        let last = finite - 1;
        if code >= last {
            code - last
        } else {
            (last - code) | 1 << (exponent_bits + mantissa_bits)
        }
    }

    pub(super) fn code_of(self, pattern: u16) -> Option<u16> {
        let (exponent_bits, mantissa_bits, _, finite) = self.layout();
        let sign = 1 << (exponent_bits + mantissa_bits);
        let magnitude = pattern & (sign - 1);
        if pattern >= 2 * sign || magnitude >= finite {
            return None;
        }
        let last = finite - 1;
        Some(if pattern & sign == 0 { last + magnitude } else { last - magnitude })
    }
}
