//! How much an error at each element of a unit's output matters: the diagonal of the Fisher information, as in BRECQ (Li et al. 2021,
//! arXiv:2102.05426, section 3.3).
//!
//! ```text
//! for each image: y ~ softmax(scores)        the model's own label, drawn with a seed
//!                 g = ∂(-log p_y)/∂output    through the float network
//! r = root of the mean of g² over all images and elements
//! h = (1 + |g|/r)² / mean of (1 + |g|/r)²
//! loss of the unit = Σ h·(output - target)²
//! ```
//! Differs from the paper, as the authors' code does, in the 1 that is added: of a network that is sure of most images, g² alone leaves
//! those out. The code takes the gradient of the divergence between the scores of the network quantized up to the unit and the float ones;
//! here it is the Fisher information as the paper defines it, with labels drawn from the model.

use lowbit_graph::{Graph, Session, ValueId, Workspace};
use lowbit_tensor::{Rng, Tensor};

use super::capture::{Captured, reader_factors};
use super::loss::softmax;
use super::units::scores;
use crate::{PtqError, QuantizedGraph};

/// The float network from the image to the scores.
pub(super) struct Fisher {
    session: Session,
    scores: ValueId,
    seed: u64,
}

impl Fisher {
    /// `seed` names the labels that are drawn.
    ///
    /// # Errors
    /// `Graph` when the network does not run.
    pub(super) fn new(float: &Graph, seed: u64) -> Result<Fisher, PtqError> {
        let scores = scores(float);
        let session = Session::new(&float.between(float.inputs.clone(), vec![scores]))?;
        Ok(Fisher { session, scores, seed })
    }

    /// The `wanted` values of an image, and the gradient of its loss with respect to the first of them.
    ///
    /// # Errors
    /// `Graph` when the network does not run, or lacks a gradient.
    pub(super) fn run(
        &self,
        image: &Tensor,
        (index, wanted): (usize, &[ValueId]),
        work: &mut Workspace,
    ) -> Result<Vec<Tensor>, PtqError> {
        let tape = self.session.record(&[image], work)?;
        let value = |&value: &ValueId| tape.value(value).cloned().expect("the unit is on the way");
        let mut made: Vec<Tensor> = wanted.iter().map(value).collect();
        let probabilities = value(&self.scores);
        let mut rng = Rng::new(self.seed ^ (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let seed = drawn(&probabilities, &mut rng);
        let gradients = self.session.backward(&tape, &[(self.scores, seed)], &wanted[..1], work)?;
        made.extend(gradients);
        tape.recycle(work);
        Ok(made)
    }
}

/// ∂(-log p_y)/∂scores = p - [class is y], y drawn from p = softmax(scores).
fn drawn(scores: &Tensor, rng: &mut Rng) -> Tensor {
    let mut gradient = softmax(scores.f32s());
    let mut left = rng.uniform();
    let falls = |p: &f32| {
        left -= p;
        left < 0.0
    };
    let label = gradient.iter().position(falls).unwrap_or(gradient.len() - 1);
    gradient[label] -= 1.0;
    Tensor::new(scores.shape().clone(), gradient)
}

/// Turns gradients with respect to the float network's value into weights of the quantized network's squared errors, 1 on average.
pub(super) fn weights(quantized: &QuantizedGraph, value: ValueId, gradients: &mut Captured) {
    if let Some(factors) = reader_factors(quantized, value) {
        let plane = gradients.shape.iter().skip(2).product::<usize>().max(1);
        let runs = gradients.values.chunks_mut(plane).zip(factors.iter().cycle());
        runs.for_each(|(run, factor)| run.iter_mut().for_each(|g| *g /= factor));
    }
    let root = mean_square(&gradients.values).sqrt().max(f64::MIN_POSITIVE);
    gradients.values.iter_mut().for_each(|g| *g = (1.0 + f64::from(g.abs()) / root) as f32);
    let mean = mean_square(&gradients.values);
    gradients.values.iter_mut().for_each(|g| *g = (f64::from(*g) * f64::from(*g) / mean) as f32);
}

fn mean_square(values: &[f32]) -> f64 {
    let squares = values.iter().map(|&x| f64::from(x) * f64::from(x));
    squares.sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests;
