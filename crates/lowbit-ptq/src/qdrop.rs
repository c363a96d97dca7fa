//! Drops the quantization of activations at random while blocks are learned: QDrop (Wei et al. 2022, arXiv:2203.05740).
//!
//! Each element that a block reads is the float network's with probability `drop`, else the quantized network's: the weights found suit
//! a neighbourhood of the calibration images instead of one noise. Differs from the paper: quantizers inside the block are not dropped.

use crate::reconstruct::{Algorithm, Reconstruction};

impl Reconstruction {
    /// Blocks whose inputs are half quantized.
    #[must_use]
    pub const fn qdrop() -> Reconstruction {
        Reconstruction { algorithm: Algorithm::Qdrop, drop: 0.5, ..Reconstruction::brecq() }
    }
}
