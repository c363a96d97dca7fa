//! How units are reconstructed: one plain struct, and the papers' names for some of its values.

use serde::{Deserialize, Serialize};

use super::Scope;

/// The paper that settings come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// Nagel et al. 2020.
    Adaround,
    /// Hubara et al. 2020.
    Adaquant,
    /// Li et al. 2021.
    Brecq,
    /// Wei et al. 2022.
    Qdrop,
    /// Hinton et al. 2015, without labels.
    Distillation,
}

/// What of a weight is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variable {
    /// Whether it is rounded up or down (AdaRound).
    Rounding,
    /// The weight itself (AdaQuant).
    Weights,
}

/// How units are reconstructed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Reconstruction {
    /// Where the settings come from.
    pub algorithm: Algorithm,
    /// How much at once.
    pub scope: Scope,
    /// What of a weight is learned.
    pub variable: Variable,
    /// Steps per unit.
    pub iterations: usize,
    /// Images per step.
    pub batch: usize,
    /// Learning rate of roundings, or of weights in steps of their scale.
    pub rate: f32,
    /// Learning rate of weight scales, relative to each; 0 leaves them alone. Only where the weights are learned.
    pub scale_rate: f32,
    /// Learning rate of biases, relative to the largest of a layer; 0 leaves them alone.
    pub bias_rate: f32,
    /// Learning rate of the step sizes of activations below 8 bits, relative to each; 0 leaves them alone.
    pub step_rate: f32,
    /// How far weights start from where they were towards their levels, 0 to 1. Learning leaves many near a threshold, where the next
    /// step would turn them over together.
    pub settled: f32,
    /// Of a network: weight of its blocks' relative errors beside the divergence of its scores.
    pub features: f32,
    /// Strength of the pull of roundings towards up or down (λ).
    pub pull: f32,
    /// Share of input elements taken from the float network, and of elements inside that skip their quantizer.
    pub drop: f32,
    /// Whether squared errors are weighted by the squared gradient of the float network's loss (BRECQ's diagonal Fisher information);
    /// of layers and blocks.
    pub fisher: bool,
    /// Memory for a unit's inputs, targets and their weights; where all images take more, fewer are used.
    pub budget_bytes: usize,
    /// Of batches, dropped elements and labels drawn.
    pub seed: u64,
}

/// Memory for a unit's inputs and targets unless settings say otherwise.
const BUDGET_BYTES: usize = 512 << 20;

impl Reconstruction {
    /// The names that [`Reconstruction::named`] knows.
    pub const NAMES: &'static str = "adaround, adaquant, brecq, qdrop, distillation";

    /// The settings of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Reconstruction> {
        match name {
            "adaround" => Some(Reconstruction::adaround()),
            "adaquant" => Some(Reconstruction::adaquant()),
            "brecq" => Some(Reconstruction::brecq()),
            "qdrop" => Some(Reconstruction::qdrop()),
            "distillation" => Some(Reconstruction::distillation()),
            _ => None,
        }
    }

    /// The name of the algorithm.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.algorithm {
            Algorithm::Adaround => "adaround",
            Algorithm::Adaquant => "adaquant",
            Algorithm::Brecq => "brecq",
            Algorithm::Qdrop => "qdrop",
            Algorithm::Distillation => "distillation",
        }
    }

    /// What all of them have in common.
    pub(crate) const fn base() -> Reconstruction {
        Reconstruction {
            algorithm: Algorithm::Adaquant,
            scope: Scope::Layer,
            variable: Variable::Weights,
            iterations: 400,
            batch: 32,
            rate: 0.01,
            scale_rate: 0.0,
            bias_rate: 0.001,
            step_rate: 0.002,
            settled: 0.0,
            features: 0.0,
            pull: 0.0,
            drop: 0.0,
            fisher: false,
            budget_bytes: BUDGET_BYTES,
            seed: 0,
        }
    }

    /// Refuses settings outside their range, and those that the scope or the variable would ignore.
    ///
    /// # Errors
    /// Says which, what was found and what was expected.
    pub fn validated(self) -> Result<Reconstruction, String> {
        let counts = [("iterations", self.iterations), ("batch", self.batch)];
        if let Some((name, found)) =
            counts.iter().find(|(_, found)| !(1..=1_000_000).contains(found))
        {
            return Err(format!("{name}: found {found}, expected 1 to 1000000"));
        }
        let rates = [
            ("rate", self.rate),
            ("scale_rate", self.scale_rate),
            ("bias_rate", self.bias_rate),
            ("step_rate", self.step_rate),
            ("features", self.features),
            ("pull", self.pull),
        ];
        if let Some((name, found)) = rates.iter().find(|(_, found)| !(0.0..=1000.0).contains(found))
        {
            return Err(format!("{name}: found {found}, expected 0 to 1000"));
        }
        let shares = [("settled", self.settled), ("drop", self.drop)];
        if let Some((name, found)) = shares.iter().find(|(_, found)| !(0.0..=1.0).contains(found)) {
            return Err(format!("{name}: found {found}, expected 0 to 1"));
        }
        if !(1 << 20..=1 << 40).contains(&self.budget_bytes) {
            let mib = self.budget_bytes >> 20;
            return Err(format!("budget_mib: found {mib}, expected 1 to 1048576"));
        }
        self.used()
    }

    /// Refuses settings that would be ignored.
    fn used(self) -> Result<Reconstruction, String> {
        let ignored: &[(&str, f32)] = match self.variable {
            Variable::Rounding => &[("scale_rate", self.scale_rate), ("settled", self.settled)],
            Variable::Weights => &[("pull", self.pull)],
        };
        if let Some((name, found)) = ignored.iter().find(|(_, found)| *found != 0.0) {
            let other = match self.variable {
                Variable::Rounding => "weights",
                Variable::Weights => "rounding",
            };
            return Err(format!("{name}: found {found}, expected 0 unless variable = \"{other}\""));
        }
        let (name, found, scopes) = match self.scope {
            Scope::Network => ("drop", self.drop, "layer or block"),
            Scope::Layer | Scope::Block => ("features", self.features, "network"),
        };
        if found != 0.0 {
            return Err(format!("{name}: found {found}, expected 0 unless scope is {scopes}"));
        }
        if self.fisher && self.scope == Scope::Network {
            return Err("fisher: found true, expected false unless scope is layer or block".into());
        }
        Ok(self)
    }
}
