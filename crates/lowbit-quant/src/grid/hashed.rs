//! Weights that share a value by a hash of their position.

use serde::{Deserialize, Serialize};

use crate::QuantError;
use crate::error::setting;

/// HashedNets (Chen et al. 2015, arXiv:1504.04788): w_e = ξ(e) · v[h(e)] with hashes ξ ∈ {-1, 1} and h of the element's
/// number e, so that no code is stored. As in the paper, with e in place of (i, j) and `splitmix64` as the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashed {
    /// Number of shared values, 1..=32768.
    pub buckets: u16,
}

impl Hashed {
    pub(super) fn check(self) -> Result<(), QuantError> {
        let range = (1..=32768).contains(&self.buckets);
        setting("hash buckets", f64::from(self.buckets), range, "1..=32768")
    }

    /// Bucket h and whether the sign ξ is -1, of an element.
    #[must_use]
    pub fn place(self, element: usize, seed: u64) -> (u16, bool) {
        let mut z = (element as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        // High bits choose the bucket, the lowest the sign.
        ((((z >> 32) * u64::from(self.buckets)) >> 32) as u16, z & 1 == 1)
    }
}
