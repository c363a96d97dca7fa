//! Grids: the finite sets of levels a value may take, in units of a scale that the grid does not know.
//!
//! A grid is plain data. Where its levels are fixed it names them ([`Grid::levels`]); where they are found from the
//! weights (basis, codebook, hashed) the quantizer finds them, a table for each group. Every scalar grid reduces to
//! sorted levels and thresholds ([`Levels`]), and a code is a level's rank. Levels are integers wherever the family
//! allows, so that weights decode to integer multiples of one unit.

mod additive;
mod basis;
mod binary;
mod codebook;
mod companded;
mod hashed;
mod levels;
mod minifloat;
mod power_of_two;
mod ternary;
mod uniform;

use serde::{Deserialize, Serialize};

pub use additive::AdditivePowerOfTwo;
pub use basis::{Basis, BasisDigits};
pub use binary::Binary;
pub use codebook::{Codebook, Entries};
pub use companded::{Companded, Companding};
pub use hashed::Hashed;
pub use levels::Levels;
pub use minifloat::Minifloat;
pub use power_of_two::{Midpoint, PowerOfTwo};
pub use uniform::{Uniform, UniformCodes};

use crate::QuantError;

/// A set of levels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "family")]
pub enum Grid {
    /// Equal steps.
    Uniform(Uniform),
    /// Two levels.
    Binary {
        /// Which two.
        levels: Binary,
    },
    /// {-1, 0, 1}: TWN (Li et al. 2016, arXiv:1605.04711), TTQ (Zhu et al. 2017, arXiv:1612.01064).
    Ternary,
    /// 0 and ± powers of two.
    PowerOfTwo(PowerOfTwo),
    /// ± sums of powers of two.
    AdditivePowerOfTwo(AdditivePowerOfTwo),
    /// Sums of a few found numbers with signs.
    Basis(Basis),
    /// Found levels, one number or a vector an entry.
    Codebook(Codebook),
    /// Small floating-point formats.
    Minifloat {
        /// Which format.
        format: Minifloat,
    },
    /// Equal steps seen through a curve.
    Companded(Companded),
    /// Weights that share a value by a hash of their position.
    Hashed(Hashed),
}

impl Grid {
    /// The family's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Grid::Uniform(_) => "uniform",
            Grid::Binary { .. } => "binary",
            Grid::Ternary => "ternary",
            Grid::PowerOfTwo(_) => "power-of-two",
            Grid::AdditivePowerOfTwo(_) => "additive-power-of-two",
            Grid::Basis(_) => "basis",
            Grid::Codebook(_) => "codebook",
            Grid::Minifloat { .. } => "minifloat",
            Grid::Companded(_) => "companded",
            Grid::Hashed(_) => "hashed",
        }
    }

    /// The levels where they are fixed; `None` where they are found from the weights.
    ///
    /// # Errors
    /// `Bits` or `Setting` when the grid's settings are out of range.
    pub fn levels(&self) -> Result<Option<Levels>, QuantError> {
        match self {
            Grid::Uniform(uniform) => uniform.levels().map(Some),
            Grid::Binary { levels } => Ok(Some(levels.levels())),
            Grid::Ternary => Ok(Some(ternary::levels())),
            Grid::PowerOfTwo(power) => power.levels().map(Some),
            Grid::AdditivePowerOfTwo(additive) => additive.levels().map(Some),
            Grid::Basis(basis) => basis.check().map(|()| None),
            Grid::Codebook(codebook) => codebook.check().map(|()| None),
            Grid::Minifloat { format } => Ok(Some(format.levels())),
            Grid::Companded(companded) => companded.levels().map(Some),
            Grid::Hashed(hashed) => hashed.check().map(|()| None),
        }
    }

    /// Bits a stored code takes. A hashed weight takes none: its position says where its value is.
    ///
    /// # Errors
    /// As [`Grid::levels`].
    pub fn bits(&self) -> Result<u8, QuantError> {
        let fixed = self.levels()?.map(|levels| levels.bits());
        Ok(match self {
            Grid::Basis(basis) => basis.bases,
            Grid::Codebook(codebook) => codebook.bits(),
            Grid::Hashed(_) => 0,
            Grid::Uniform(_)
            | Grid::Binary { .. }
            | Grid::Ternary
            | Grid::PowerOfTwo(_)
            | Grid::AdditivePowerOfTwo(_)
            | Grid::Minifloat { .. }
            | Grid::Companded(_) => fixed.unwrap_or_default(),
        })
    }

    /// The bit pattern that hardware of the family knows a code by: two's complement of signed integers, the format's
    /// own bits of a minifloat; elsewhere the code itself. [`Grid::code_of`] turns it back.
    ///
    /// # Errors
    /// As [`Grid::levels`]; `Code` when there is no such code.
    pub fn bit_pattern(&self, code: u16) -> Result<u16, QuantError> {
        if let Some(levels) = self.levels()?
            && usize::from(code) >= levels.len()
        {
            return Err(QuantError::Code { found: code, element: 0, levels: levels.len() });
        }
        Ok(match self {
            Grid::Uniform(uniform) => uniform.bit_pattern(code),
            Grid::Minifloat { format } => format.bit_pattern(code),
            Grid::Binary { .. }
            | Grid::Ternary
            | Grid::PowerOfTwo(_)
            | Grid::AdditivePowerOfTwo(_)
            | Grid::Basis(_)
            | Grid::Codebook(_)
            | Grid::Companded(_)
            | Grid::Hashed(_) => code,
        })
    }

    /// The code of a bit pattern. A minifloat's -0 is 0.
    ///
    /// # Errors
    /// As [`Grid::levels`]; `Code` when the pattern stands for no level.
    pub fn code_of(&self, pattern: u16) -> Result<u16, QuantError> {
        let levels = self.levels()?.map_or(65536, |levels| levels.len());
        let code = match self {
            Grid::Uniform(uniform) => uniform.code_of(pattern),
            Grid::Minifloat { format } => format.code_of(pattern),
            Grid::Binary { .. }
            | Grid::Ternary
            | Grid::PowerOfTwo(_)
            | Grid::AdditivePowerOfTwo(_)
            | Grid::Basis(_)
            | Grid::Codebook(_)
            | Grid::Companded(_)
            | Grid::Hashed(_) => Some(pattern),
        };
        code.filter(|&code| usize::from(code) < levels).ok_or(QuantError::Code {
            found: pattern,
            element: 0,
            levels,
        })
    }
}

#[cfg(test)]
mod tests;
