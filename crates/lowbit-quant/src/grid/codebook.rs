//! Found levels: a code is an index into a table of numbers, or of vectors.

use serde::{Deserialize, Serialize};

use crate::QuantError;
use crate::error::setting;

/// A table: k-means (Deep Compression, Han et al. 2016, arXiv:1510.00149) or, with vectors, product quantization (Gong
/// et al. 2014, arXiv:1412.6115): the vectors are runs of `dimension` neighbouring weights, in element order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Codebook {
    /// Number of entries, 1..=65536; fewer where there are fewer distinct values.
    pub entries: u32,
    /// Weights an entry stands for, 1..=64.
    pub dimension: u8,
    /// What an entry's numbers are.
    pub numbers: Entries,
}

/// What the numbers of a codebook are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entries {
    /// 32-bit floats.
    Float,
    /// Multiples -127..=127 of max|c| / 127, which becomes the scale.
    Int8,
}

impl Codebook {
    pub(super) fn check(self) -> Result<(), QuantError> {
        let (entries, dimension) = (f64::from(self.entries), f64::from(self.dimension));
        setting("codebook entries", entries, (1..=65536).contains(&self.entries), "1..=65536")?;
        setting("codebook dimension", dimension, (1..=64).contains(&self.dimension), "1..=64")
    }

    pub(super) fn bits(self) -> u8 {
        (32 - (self.entries - 1).leading_zeros()) as u8
    }
}
