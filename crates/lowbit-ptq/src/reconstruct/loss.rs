//! How far a unit's output is from what it should be.

use lowbit_tensor::Tensor;

/// A loss of one output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Loss {
    /// weight · Σ (y - t)².
    Squared {
        /// The weight.
        weight: f32,
    },
    /// weight · Σ (y - t)² / Σ t²: of values whose sizes differ.
    Relative {
        /// The weight.
        weight: f32,
    },
    /// weight · Σ over images of the Kullback-Leibler divergence of softmax(y) from softmax(t) (Hinton et al. 2015, arXiv:1503.02531).
    Divergence {
        /// The weight.
        weight: f32,
    },
}

impl Loss {
    /// What squared differences are multiplied by.
    fn weight(self, target: &Tensor) -> f32 {
        match self {
            Loss::Squared { weight } | Loss::Divergence { weight } => weight,
            Loss::Relative { weight } => {
                let power: f64 = target.f32s().iter().map(|&t| f64::from(t) * f64::from(t)).sum();
                weight / power.max(f64::MIN_POSITIVE) as f32
            }
        }
    }

    /// Its value, and its gradient with respect to `made`.
    pub(crate) fn gradient(self, made: &Tensor, target: &Tensor) -> (f64, Tensor) {
        let mut sum = 0.0;
        let values = match self {
            Loss::Squared { .. } | Loss::Relative { .. } => {
                let weight = self.weight(target);
                let one = |(y, t): (&f32, &f32)| {
                    sum += f64::from(weight * (y - t) * (y - t));
                    2.0 * weight * (y - t)
                };
                made.f32s().iter().zip(target.f32s()).map(one).collect()
            }
            Loss::Divergence { weight } => {
                let classes = made.shape().iter().skip(1).product::<usize>().max(1);
                let mut values = Vec::with_capacity(made.len());
                for (y, t) in made.f32s().chunks(classes).zip(target.f32s().chunks(classes)) {
                    let (p, q) = (softmax(t), softmax(y));
                    for (p, q) in p.iter().zip(&q) {
                        sum += f64::from(weight)
                            * f64::from(*p)
                            * f64::from((p.max(TINY) / q.max(TINY)).ln());
                        values.push(weight * (q - p));
                    }
                }
                values
            }
        };
        (sum, Tensor::new(made.shape().clone(), values))
    }
}

/// Below any probability that matters.
const TINY: f32 = 1e-30;

fn softmax(scores: &[f32]) -> Vec<f32> {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = scores.iter().map(|s| (s - largest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.iter().map(|p| p / sum).collect()
}
