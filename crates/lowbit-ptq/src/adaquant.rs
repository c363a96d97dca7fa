//! Learns the weights themselves under quantization: AdaQuant (Hubara et al. 2020, arXiv:2006.10518, section 3.1).
//!
//! w̃ = Q(w + V): a free change V of each weight, with the straight-through estimator ∂w̃/∂V = 1 wherever w + V lies within the grid. Unlike
//! AdaRound a weight may move by more than one level.

use lowbit_quant::{CodedWeight, QuantError};

use crate::reconstruct::Reconstruction;

impl Reconstruction {
    /// Layers, one after the other, by their weights.
    #[must_use]
    pub const fn adaquant() -> Reconstruction {
        Reconstruction::base()
    }
}

/// A weight tensor while it is learned.
#[derive(Clone, Debug)]
pub(crate) struct FreeWeight {
    coded: CodedWeight,
    /// (w + V) / s: in steps of the weight's scale, so that one learning rate serves all layers.
    pub(crate) variable: Vec<f32>,
    /// What each scale is multiplied by.
    pub(crate) factors: Vec<f32>,
    /// Which weights stay 0; empty where none does.
    pruned: Vec<bool>,
}

impl FreeWeight {
    /// Starts at `latent`, or, where `settled` is above 0, nearer to its level by that share of the distance. Those `pruned` stay 0.
    pub(crate) fn new(
        coded: &CodedWeight,
        (latent, pruned): (&[f32], &[bool]),
        settled: f32,
    ) -> FreeWeight {
        let scales = coded.scales();
        let both = latent.iter().zip(coded.decode()).enumerate();
        let scaled = both.map(|(i, (w, q))| (w + settled * (q - w)) / scales[coded.group_of(i)]);
        let mut variable: Vec<f32> = scaled.collect();
        hold(&mut variable, pruned);
        let factors = vec![1.0; scales.len()];
        FreeWeight { coded: coded.clone(), variable, factors, pruned: pruned.to_vec() }
    }

    /// The nearest codes of the present weight.
    ///
    /// # Errors
    /// `NotFinite` when learning diverged.
    pub(crate) fn coded(&self) -> Result<CodedWeight, QuantError> {
        let scales = self.coded.scales().iter().zip(&self.factors).map(|(s, f)| s * f);
        self.coded.with_scales(scales.collect())?.round_to(&self.latent())
    }

    /// The real numbers that are rounded.
    pub(crate) fn latent(&self) -> Vec<f32> {
        let scales = self.coded.scales();
        let real = |(i, v): (usize, &f32)| {
            let group = self.coded.group_of(i);
            v * scales[group] * self.factors[group]
        };
        self.variable.iter().enumerate().map(real).collect()
    }

    /// The weight as quantized.
    ///
    /// # Errors
    /// `NotFinite` when learning diverged.
    pub(crate) fn weight(&self) -> Result<Vec<f32>, QuantError> {
        Ok(self.coded()?.decode())
    }

    /// Gradient with respect to the variable, given that with respect to the weight.
    pub(crate) fn gradient(&self, weight: &[f32]) -> Vec<f32> {
        let (coded, scales) = (&self.coded, self.coded.scales());
        let slopes = weight.iter().enumerate().map(|(i, g)| g * scales[coded.group_of(i)]);
        let mut slopes: Vec<f32> = slopes.collect();
        hold(&mut slopes, &self.pruned);
        slopes
    }

    /// Gradient with respect to the factors, given that with respect to the weight: Σ g·w̃ over the weights of a scale.
    pub(crate) fn scale_gradient(&self, weight: &[f32]) -> Vec<f32> {
        let mut sums = vec![0.0; self.factors.len()];
        let Ok(values) = self.weight() else { return sums };
        for (i, (g, w)) in weight.iter().zip(&values).enumerate() {
            sums[self.coded.group_of(i)] += g * w;
        }
        sums
    }
}

/// Sets what belongs to pruned weights to 0.
fn hold(values: &mut [f32], pruned: &[bool]) {
    values.iter_mut().zip(pruned).filter(|(_, pruned)| **pruned).for_each(|(x, _)| *x = 0.0);
}
