//! Drops the quantization of activations at random while blocks are learned: QDrop (Wei et al. 2022, arXiv:2203.05740).
//!
//! Each element that a block reads is the float network's with probability `drop`, else the quantized network's, and each element of the
//! activations inside it skips its quantizer with that probability: the weights found suit a neighbourhood of the calibration images instead
//! of one noise. As in the paper, but for activations with scales per channel, which never skip theirs.

use crate::reconstruct::{Algorithm, Reconstruction};

impl Reconstruction {
    /// Blocks whose inputs are half quantized.
    #[must_use]
    pub const fn qdrop() -> Reconstruction {
        Reconstruction { algorithm: Algorithm::Qdrop, drop: 0.5, ..Reconstruction::brecq() }
    }
}
