//! Reconstructs blocks: BRECQ (Li et al. 2021, arXiv:2102.05426).
//!
//! Layers of a block are learned together against the block's float output, so that their errors may cancel; blocks, one after the
//! other, each on what the quantized blocks before it give. Differs from the paper: the weights themselves are learned, by the
//! straight-through estimator, instead of roundings by a sigmoid, which is `variable = "rounding"`; and errors are weighted by Fisher information
//! only with `fisher = true`.

use crate::reconstruct::{Algorithm, Reconstruction, Scope};

impl Reconstruction {
    /// Blocks, one after the other.
    #[must_use]
    pub const fn brecq() -> Reconstruction {
        Reconstruction {
            algorithm: Algorithm::Brecq,
            scope: Scope::Block,
            iterations: 150,
            ..Reconstruction::base()
        }
    }
}
