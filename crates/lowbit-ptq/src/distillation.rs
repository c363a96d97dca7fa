//! Learns the whole network against the float network's scores: distillation (Hinton et al. 2015, arXiv:1503.02531) without labels.
//!
//! The loss is the divergence of the scores' softmax, at temperature 1, on images mirrored and shifted at random.

use crate::reconstruct::{Algorithm, Reconstruction, Scope};

impl Reconstruction {
    /// The whole network at once.
    #[must_use]
    pub const fn distillation() -> Reconstruction {
        Reconstruction {
            algorithm: Algorithm::Distillation,
            scope: Scope::Network,
            rate: 0.001,
            settled: 0.5,
            features: 10.0,
            scale_rate: 0.0002,
            ..Reconstruction::base()
        }
    }
}
