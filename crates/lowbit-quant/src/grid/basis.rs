//! Levels v·e with digits e: few numbers v span 2^K levels, and a product is K binary ones.

use serde::{Deserialize, Serialize};

use crate::QuantError;
use crate::error::setting;

/// v·e with v ∈ R^K found for each group: LQ-Nets (Zhang et al. 2018, arXiv:1807.10029), ABC-Net (Lin et al. 2017,
/// arXiv:1711.11294).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// Number K of basis numbers, 1..=8: the bits of a code.
    pub bases: u8,
    /// The digits.
    pub digits: BasisDigits,
}

/// The digits of a basis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BasisDigits {
    /// e ∈ {-1, 1}^K: weights.
    PlusMinus,
    /// e ∈ {0, 1}^K: activations after ReLU.
    ZeroOne,
}

impl Basis {
    pub(super) fn check(self) -> Result<(), QuantError> {
        let range = (1..=8).contains(&self.bases);
        setting("basis numbers", f64::from(self.bases), range, "1..=8")
    }

    /// The digits of pattern p: bit i says which digit v_i gets.
    pub fn digits(self, pattern: u16) -> impl Iterator<Item = f64> {
        (0..self.bases).map(move |i| match (self.digits, pattern >> i & 1) {
            (_, 1) => 1.0,
            (BasisDigits::PlusMinus, _) => -1.0,
            (BasisDigits::ZeroOne, _) => 0.0,
        })
    }

    /// Number of patterns.
    #[must_use]
    pub fn patterns(self) -> u16 {
        1 << self.bases
    }
}
