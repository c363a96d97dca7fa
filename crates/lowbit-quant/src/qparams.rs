//! Scale and zero point of a uniform quantizer.

use serde::{Deserialize, Serialize};

use crate::QuantError;
use crate::error::{bits_within, finite};

/// Found parameters of a uniform quantizer: x ≈ scale · (q - zero_point), q in qmin..=qmax.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QParams {
    /// Step between neighbouring levels.
    pub scale: f32,
    /// The code of 0.
    pub zero_point: i32,
    /// Smallest code.
    pub qmin: i32,
    /// Largest code.
    pub qmax: i32,
}

impl QParams {
    /// The uint8 affine quantizer of the range [low, high]: [`QParams::affine`] with 8 bits.
    ///
    /// # Errors
    /// `NotFinite` when an end of the range is NaN or infinite.
    pub fn affine_u8(low: f32, high: f32) -> Result<Self, QuantError> {
        Self::affine(low, high, 8)
    }

    /// The affine quantizer of the range [low, high] with codes 0..=2^bits - 1 (Jacob et al. 2018, arXiv:1712.05877,
    /// section 3).
    ///
    /// The range is first widened to hold 0, so that padding and ReLU are exact. A range without extent gets scale 1.
    ///
    /// # Errors
    /// `NotFinite` when an end of the range is NaN or infinite; `Bits` when `bits` is not in 1..=16.
    pub fn affine(low: f32, high: f32, bits: u8) -> Result<Self, QuantError> {
        finite(&[low, high])?;
        bits_within(bits, 1..=16, "1..=16")?;
        let qmax = (1 << bits) - 1;
        let steps = f64::from(qmax);
        let (low, high) = (low.min(0.0), high.max(0.0));
        // In f64, since high - low may exceed f32.
        let scale = ((f64::from(high) - f64::from(low)) / steps) as f32;
        if scale < f32::MIN_POSITIVE {
            return Ok(QParams { scale: 1.0, zero_point: 0, qmin: 0, qmax });
        }
        let zero_point = (f64::from(-low) / f64::from(scale)).round_ties_even().clamp(0.0, steps);
        Ok(QParams { scale, zero_point: zero_point as i32, qmin: 0, qmax })
    }

    /// The value of a code.
    #[must_use]
    pub fn decode(&self, code: i32) -> f32 {
        (code - self.zero_point) as f32 * self.scale
    }

    /// The code of a value: `clamp(rint(x / scale) + zero_point)`.
    #[must_use]
    pub fn encode(&self, x: f32) -> i32 {
        let (low, high) =
            ((self.qmin - self.zero_point) as f32, (self.qmax - self.zero_point) as f32);
        (x / self.scale).round_ties_even().clamp(low, high) as i32 + self.zero_point
    }

    /// Smallest and largest value that can be represented.
    #[must_use]
    pub fn range(&self) -> (f32, f32) {
        (self.decode(self.qmin), self.decode(self.qmax))
    }
}
