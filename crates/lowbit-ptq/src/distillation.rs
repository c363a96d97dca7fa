//! Learns the whole network against the float network's scores: distillation (Hinton et al. 2015, arXiv:1503.02531) without labels.
//!
//! The loss is the divergence of the scores' softmax, at temperature 1, beside the mean relative error of the blocks' outputs (hints, as
//! in Romero et al. 2015, arXiv:1412.6550), on images mirrored and shifted at random. Without the blocks' errors it did nothing for
//! ResNet-20 at 3 bits: the scores of a network that is nearly right say too little.

use crate::reconstruct::{Algorithm, Reconstruction, Scope};

impl Reconstruction {
    /// The whole network at once.
    #[must_use]
    pub const fn distillation() -> Reconstruction {
        Reconstruction {
            algorithm: Algorithm::Distillation,
            scope: Scope::Network,
            iterations: 600,
            rate: 0.003,
            scale_rate: 0.0005,
            features: 10.0,
            ..Reconstruction::base()
        }
    }
}
