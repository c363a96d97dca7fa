//! How far a unit's output is from what it should be.

use lowbit_tensor::Tensor;

/// What an output should be.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    /// The float network's values.
    pub(crate) values: Tensor,
    /// What each element's squared error is multiplied by; `None` is 1. Of [`Loss::Squared`].
    pub(crate) importance: Option<Tensor>,
}

impl Goal {
    /// Every element counts the same.
    pub(crate) fn plain(values: Tensor) -> Goal {
        Goal { values, importance: None }
    }

    /// Σ h·(y - t)².
    pub(crate) fn squared_error(&self, made: &Tensor) -> f64 {
        let square = |(y, t): (&f32, &f32)| f64::from(y - t) * f64::from(y - t);
        let squares = made.f32s().iter().zip(self.values.f32s()).map(square);
        match &self.importance {
            None => squares.sum(),
            Some(h) => squares.zip(h.f32s()).map(|(square, h)| f64::from(*h) * square).sum(),
        }
    }
}

/// A loss of one output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Loss {
    /// weight · Σ h·(y - t)², h the goal's importance.
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
    pub(crate) fn gradient(self, made: &Tensor, goal: &Goal) -> (f64, Tensor) {
        let mut sum = 0.0;
        let target = &goal.values;
        let mut values: Vec<f32> = match self {
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
        if let (Loss::Squared { weight }, Some(h)) = (self, &goal.importance) {
            sum = f64::from(weight) * goal.squared_error(made);
            values.iter_mut().zip(h.f32s()).for_each(|(gradient, h)| *gradient *= h);
        }
        (sum, Tensor::new(made.shape().clone(), values))
    }
}

/// Below any probability that matters.
const TINY: f32 = 1e-30;

pub(super) fn softmax(scores: &[f32]) -> Vec<f32> {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = scores.iter().map(|s| (s - largest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.iter().map(|p| p / sum).collect()
}
