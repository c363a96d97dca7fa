//! Two levels.

use serde::{Deserialize, Serialize};

use super::Levels;

/// Which two levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binary {
    /// {-1, 1}, the sign, with sign(0) = 1: BinaryConnect (Courbariaux et al. 2015, arXiv:1511.00363), XNOR-Net.
    PlusMinus,
    /// {0, 1} with the threshold at a half, and a half to 0.
    ZeroOne,
}

impl Binary {
    pub(super) fn levels(self) -> Levels {
        match self {
            Binary::PlusMinus => Levels::nearest(vec![-1.0, 1.0]),
            Binary::ZeroOne => Levels::nearest(vec![0.0, 1.0]),
        }
    }
}
