//! 0 and ± powers of two, so that a product is a shift.

use serde::{Deserialize, Serialize};

use super::Levels;
use crate::QuantError;
use crate::error::setting;

/// {0, ±1, ±2, ..., ±2^(m-1)}: LogNet (Miyashita et al. 2016, arXiv:1603.01025), INQ (Zhou et al. 2017, arXiv:1702.03044).
/// With the scale 2^n1 / 2^(m-1) of `ScaleRule::LogRange` these are INQ's 2^n1 ... 2^n2 and 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerOfTwo {
    /// Number m of exponents, 1..=31. INQ with b bits has 2^(b-2); 2^(b-1) - 1 fill b bits, 0 included. Up to 7 fit i8.
    pub exponents: u8,
    /// Where the threshold between two powers is.
    pub midpoint: Midpoint,
}

/// Where the threshold between 2^e and 2^(e+1) is. That between 0 and the smallest power is at half of it; ties take
/// the smaller magnitude.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Midpoint {
    /// 1.5 · 2^e: the nearest level (INQ).
    Arithmetic,
    /// √2 · 2^e: round(log2 |x|) (LogNet).
    Geometric,
}

impl PowerOfTwo {
    pub(super) fn levels(self) -> Result<Levels, QuantError> {
        let range = (1..=31).contains(&self.exponents);
        setting("exponents of powers of two", f64::from(self.exponents), range, "1..=31")?;
        let powers: Vec<f32> = (0..self.exponents).map(|e| 2f32.powi(i32::from(e))).collect();
        let negative = powers.iter().rev().map(|p| -p);
        let values: Vec<f32> = negative.chain([0.0]).chain(powers.iter().copied()).collect();
        let nearest = Levels::nearest(values.clone());
        if self.midpoint == Midpoint::Arithmetic {
            return Ok(nearest);
        }
        let geometric = |t: f64| if t.abs() < 1.0 { t } else { t / 1.5 * std::f64::consts::SQRT_2 };
        let thresholds = nearest.thresholds().into_iter().map(geometric).collect();
        let upper = values.windows(2).map(|pair| pair[1].abs() < pair[0].abs()).collect();
        Ok(Levels::listed(values, thresholds, upper))
    }
}
