//! Equal steps seen through a curve: fine near zero, coarse far out.

use serde::{Deserialize, Serialize};

use super::Levels;
use crate::QuantError;
use crate::error::{bits_within, setting};

/// Levels sign(k) · f(|k| / q), k in -q..=q with q = 2^(b-1) - 1: the largest is 1. A value takes the nearest level,
/// the one of smaller magnitude on a tie. Differs from a classical compander, which rounds f⁻¹(x): its thresholds lie
/// nearer to zero and cost more squared error for the same levels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Companded {
    /// Bit width b, 2..=12.
    pub bits: u8,
    /// The curve f.
    pub curve: Companding,
}

/// The curve of a companded grid.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "curve")]
pub enum Companding {
    /// f(y) = y^p, the inverse of the power in QIL's transformer (Jung et al. 2019, arXiv:1808.05779, p = 1/γ).
    Power {
        /// p, 1..=8; 1 is uniform.
        exponent: f64,
    },
    /// f(y) = ((1 + μ)^y - 1) / μ (ITU-T G.711).
    MuLaw {
        /// μ, above 0 up to 65535; G.711 takes 255.
        mu: f64,
    },
}

impl Companded {
    pub(super) fn levels(self) -> Result<Levels, QuantError> {
        bits_within(self.bits, 2..=12, "2..=12 for a companded grid")?;
        match self.curve {
            Companding::Power { exponent } => {
                setting("companding exponent", exponent, (1.0..=8.0).contains(&exponent), "1..=8")?;
            }
            Companding::MuLaw { mu } => {
                setting("companding μ", mu, mu > 0.0 && mu <= 65535.0, "above 0, up to 65535")?;
            }
        }
        let last = (1 << (self.bits - 1)) - 1;
        let level = |k: i32| {
            let y = f64::from(k.abs()) / f64::from(last);
            let magnitude = match self.curve {
                Companding::Power { exponent } => y.powf(exponent),
                Companding::MuLaw { mu } => (y * mu.ln_1p()).exp_m1() / mu,
            };
            magnitude.copysign(f64::from(k)) as f32
        };
        Ok(Levels::nearest((-last..=last).map(level).collect()))
    }
}
