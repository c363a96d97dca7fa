//! Rounds weights up or down so as to keep a unit's output: AdaRound (Nagel et al. 2020, arXiv:2004.10568).
//!
//! Each weight becomes w̃ = below + h(V)·(above - below), between the levels next to it on its grid. V is learned by Adam so that the
//! unit's output stays (equations 21 to 25):
//!
//! ```text
//! h(V) = clip(sigmoid(V)·(ζ - γ) + γ, 0, 1)                ζ = 1.1, γ = -0.1
//! loss = |output - target|² + λ·Σ (1 - |2·h(V) - 1|^β)     β falls from 20 to 2, which drives h to 0 or 1
//! ```
//!
//! Differs from the paper: the grid may be any scalar one, not only a uniform one, and the loss is divided by its value at the start
//! and multiplied by the number of weights, so that λ means the same for every layer.

use lowbit_quant::CodedWeight;

use crate::reconstruct::{Algorithm, Reconstruction, Variable};

impl Reconstruction {
    /// Layers, one after the other, by their roundings.
    #[must_use]
    pub const fn adaround() -> Reconstruction {
        Reconstruction {
            algorithm: Algorithm::Adaround,
            variable: Variable::Rounding,
            rate: 0.1,
            pull: 30.0,
            bias_rate: 0.0,
            step_rate: 0.0,
            ..Reconstruction::base()
        }
    }
}

/// Stretch of the rectified sigmoid (equation 23).
const ZETA: f32 = 1.1;
/// Stretch of the rectified sigmoid (equation 23).
const GAMMA: f32 = -0.1;
/// The regularizer's exponent where annealing starts (section 4).
const BETA_START: f32 = 20.0;
/// The regularizer's exponent where annealing ends.
const BETA_END: f32 = 2.0;
/// Share of the iterations before the regularizer sets in.
const WARM_UP: f32 = 0.2;

/// The rounding of one weight tensor while it is learned.
#[derive(Clone, Debug)]
pub(crate) struct SoftRounding {
    /// The levels on either side of each weight.
    ends: Vec<Ends>,
    /// V.
    pub(crate) variable: Vec<f32>,
}

/// The levels on either side of a weight: values and codes.
#[derive(Clone, Copy, Debug)]
struct Ends {
    low: f32,
    high: f32,
    codes: [u16; 2],
}

/// The regularizer's strength and exponent at one iteration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pull {
    /// λ; 0 while warming up.
    pub(crate) strength: f32,
    /// β.
    pub(crate) exponent: f32,
}

impl Pull {
    /// At `progress` of 0 to 1 through the iterations.
    pub(crate) fn at(progress: f32, strength: f32) -> Pull {
        if progress < WARM_UP {
            return Pull { strength: 0.0, exponent: BETA_START };
        }
        let annealed = (progress - WARM_UP) / (1.0 - WARM_UP);
        // Cosine, as in the authors' code.
        let half = 0.5 * (1.0 + (annealed * std::f32::consts::PI).cos());
        Pull { strength, exponent: BETA_END + (BETA_START - BETA_END) * half }
    }
}

impl SoftRounding {
    /// Starts where h(V) reproduces `target` exactly. Those `pruned` keep their code.
    pub(crate) fn new(coded: &CodedWeight, target: &[f32], pruned: &[bool]) -> SoftRounding {
        let mut rounding = SoftRounding { ends: vec![], variable: vec![] };
        for (i, &w) in target.iter().enumerate() {
            let (below, above) = match pruned.get(i) {
                Some(true) => (coded.codes()[i], coded.codes()[i]),
                Some(false) | None => coded.neighbours(i, w),
            };
            let (low, high) = (coded.value(i, below), coded.value(i, above));
            rounding.ends.push(Ends { low, high, codes: [below, above] });
            let share = if high > low { ((w - low) / (high - low)).clamp(0.0, 1.0) } else { 0.5 };
            let sigmoid = ((share - GAMMA) / (ZETA - GAMMA)).clamp(1e-6, 1.0 - 1e-6);
            rounding.variable.push((sigmoid / (1.0 - sigmoid)).ln());
        }
        rounding
    }

    /// The weight with soft rounding.
    pub(crate) fn weight(&self) -> Vec<f32> {
        let both = self.ends.iter().zip(&self.variable);
        both.map(|(ends, &v)| ends.low + rectified(v) * (ends.high - ends.low)).collect()
    }

    /// Gradient with respect to V, given that with respect to the weight.
    pub(crate) fn gradient(&self, weight: &[f32], pull: Pull) -> Vec<f32> {
        let values = self.ends.iter().zip(&self.variable).zip(weight);
        values.map(|((ends, &v), &g)| ends.gradient(v, g, pull)).collect()
    }

    /// The codes of the nearer ends.
    pub(crate) fn codes(&self) -> Vec<u16> {
        let both = self.ends.iter().zip(&self.variable);
        both.map(|(ends, &v)| ends.codes[usize::from(rectified(v) >= 0.5)]).collect()
    }
}

impl Ends {
    /// Gradient with respect to V of the loss, `weight` by way of the weight, and of the regularizer.
    fn gradient(&self, v: f32, weight: f32, pull: Pull) -> f32 {
        let sigmoid = 1.0 / (1.0 + (-v).exp());
        let h = sigmoid * (ZETA - GAMMA) + GAMMA;
        if !(0.0..=1.0).contains(&h) || self.high <= self.low {
            return 0.0;
        }
        let slope = sigmoid * (1.0 - sigmoid) * (ZETA - GAMMA);
        let distance = 2.0 * h - 1.0;
        let toward = -2.0 * pull.exponent * distance.abs().powf(pull.exponent - 1.0);
        slope * (weight * (self.high - self.low) + pull.strength * toward * distance.signum())
    }
}

/// h(V).
fn rectified(v: f32) -> f32 {
    ((ZETA - GAMMA) / (1.0 + (-v).exp()) + GAMMA).clamp(0.0, 1.0)
}
