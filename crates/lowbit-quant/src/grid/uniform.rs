//! Equal steps, 1 to 16 bits.

use serde::{Deserialize, Serialize};

use super::Levels;
use crate::QuantError;
use crate::error::bits_within;

/// Equal steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uniform {
    /// Bit width b, 1..=16.
    pub bits: u8,
    /// Which integers.
    pub codes: UniformCodes,
}

/// Which integers a uniform grid has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UniformCodes {
    /// -2^(b-1)..=2^(b-1) - 1, ties to even.
    Signed,
    /// 0..=2^b - 1, ties to even.
    Unsigned,
    /// -(2^(b-1) - 1)..=2^(b-1) - 1, b at least 2: symmetric, one code unused; ties to even.
    Narrow,
    /// The odd numbers -(2^b - 1), ..., -1, 1, ..., 2^b - 1: symmetric without 0, the levels of DoReFa's weights (Zhou
    /// et al. 2016, arXiv:1606.06160) and of SAWB. Ties to the smaller magnitude, 0 to 1.
    MidRise,
}

impl Uniform {
    pub(super) fn levels(self) -> Result<Levels, QuantError> {
        bits_within(self.bits, 1..=16, "1..=16")?;
        let half = 1 << (self.bits - 1);
        Ok(match self.codes {
            UniformCodes::Signed => Levels::steps(-half, half - 1),
            UniformCodes::Unsigned => Levels::steps(0, 2 * half - 1),
            UniformCodes::Narrow => {
                bits_within(self.bits, 2..=16, "2..=16 for a narrow range")?;
                Levels::steps(1 - half, half - 1)
            }
            UniformCodes::MidRise => {
                Levels::nearest((-half..half).map(|k| (2 * k + 1) as f32).collect())
            }
        })
    }

    /// The code of two's complement 0.
    fn offset(self) -> u16 {
        let half = 1 << (self.bits - 1);
        match self.codes {
            UniformCodes::Signed => half,
            UniformCodes::Narrow => half - 1,
            UniformCodes::Unsigned | UniformCodes::MidRise => 0,
        }
    }

    fn mask(self) -> u16 {
        u16::MAX >> (16 - self.bits)
    }

    pub(super) fn bit_pattern(self, code: u16) -> u16 {
        code.wrapping_sub(self.offset()) & self.mask()
    }

    pub(super) fn code_of(self, pattern: u16) -> Option<u16> {
        (pattern <= self.mask()).then(|| pattern.wrapping_add(self.offset()) & self.mask())
    }
}
