//! Gradient rules: what training takes for the derivative of a quantizer, which has none where it matters.
//!
//! The forward pass is always x̂ = Q(u); a rule gives dL/du from dL/dx̂. Formulas are written for one number u; 1[·] is
//! 1 where the condition holds, 0 elsewhere.

use serde::{Deserialize, Serialize};

/// A pseudo-gradient, g = dL/dx̂ being the upstream one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "rule")]
pub enum GradientRule {
    /// g: the straight-through estimator (Bengio et al. 2013, arXiv:1308.3432).
    Identity,
    /// g·1[low ≤ u ≤ high]: BNN (Courbariaux et al. 2016, arXiv:1602.02830) with low, high = -1, 1; LSQ.
    #[default]
    ClipSte,
    /// g·1[low < u ≤ high]: the clipped ReLU of HWGQ (Cai et al. 2017, arXiv:1702.00953), low being 0.
    ReluClip,
    /// g·1[low < u ≤ high], and g/(u - τ) with τ = high - 1 where u > high (HWGQ).
    LogTail,
    /// g·(2 - 2|u|)·1[|u| < 1] (Bi-Real Net, Liu et al. 2018, arXiv:1808.00278).
    ApproxSign,
    /// g·β(2 - βu·tanh(βu/2)) / (1 + cosh βu), the derivative of SS(u) = 2σ(βu)(1 + βu(1 - σ(βu))) - 1 (BNN+, Darabi et
    /// al. 2019, arXiv:1812.11800).
    SwishSign {
        /// β: 5 in the paper.
        beta: f32,
    },
    /// g·k·t·(1 - tanh²(tu)), k = max(1/t, 1) (IR-Net, Qin et al. 2020, arXiv:1909.10788).
    TanhEde {
        /// t, which training raises from 0.1 to 10.
        t: f32,
    },
    /// g·(1 + δ·sign(g)·(u - x̂))·1[low ≤ u ≤ high] (EWGS, Lee et al. 2021, arXiv:2104.00903).
    Ewgs {
        /// δ: 0.001 serves.
        delta: f32,
    },
    /// g·(Δ/2)·s·k·(1 - tanh²(k(u - m)))·1[low ≤ u ≤ high], m the middle of u's cell of width Δ from low on, s = 1/(1 -
    /// α), k = ln(2/α - 1)/Δ (DSQ, Gong et al. 2019, arXiv:1908.05033).
    Dsq {
        /// α, above 0 below 1; smaller is harder.
        alpha: f32,
    },
    /// g·|x̂| where x̂ ≠ 0, else g: the latent weights of TTQ (Zhu et al. 2017, arXiv:1612.01064).
    ScaleWeighted,
}

/// Where a pseudo-gradient is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The number before quantization.
    pub u: f32,
    /// The number after it, x̂.
    pub quantized: f32,
    /// The lowest level.
    pub low: f32,
    /// The highest level.
    pub high: f32,
    /// Distance Δ of neighbouring levels: [`GradientRule::Dsq`] alone asks for it.
    pub step: f32,
}

impl GradientRule {
    /// dL/du at a point from g = dL/dx̂.
    #[must_use]
    pub fn gradient(&self, at: &Point, g: f32) -> f32 {
        let u = at.u;
        let within = at.low <= u && u <= at.high;
        let slope = match self {
            GradientRule::Identity => 1.0,
            GradientRule::ClipSte => f32::from(within),
            GradientRule::ReluClip => f32::from(at.low < u && u <= at.high),
            GradientRule::LogTail if u > at.high => 1.0 / (u - (at.high - 1.0)),
            GradientRule::LogTail => f32::from(at.low < u),
            GradientRule::ApproxSign => (2.0 - 2.0 * u.abs()).max(0.0),
            GradientRule::SwishSign { beta } => swish_sign(*beta, beta * u),
            GradientRule::TanhEde { t } => (1.0 / t).max(1.0) * t * (1.0 - (t * u).tanh().powi(2)),
            GradientRule::Ewgs { delta } => {
                let sign = if g == 0.0 { 0.0 } else { g.signum() };
                f32::from(within) * (1.0 + delta * sign * (u - at.quantized))
            }
            GradientRule::Dsq { alpha } => f32::from(within) * dsq(*alpha, at),
            GradientRule::ScaleWeighted if at.quantized != 0.0 => at.quantized.abs(),
            GradientRule::ScaleWeighted => 1.0,
        };
        g * slope
    }
}

fn swish_sign(beta: f32, x: f32) -> f32 {
    let slope = beta * (2.0 - x * (x / 2.0).tanh()) / (1.0 + x.cosh());
    if slope.is_finite() { slope } else { 0.0 }
}

fn dsq(alpha: f32, at: &Point) -> f32 {
    let k = (2.0 / alpha - 1.0).ln() / at.step;
    let cells = ((at.high - at.low) / at.step).round().max(1.0);
    let cell = ((at.u - at.low) / at.step).floor().clamp(0.0, cells - 1.0);
    let middle = at.low + (cell + 0.5) * at.step;
    let s = 1.0 / (1.0 - alpha);
    at.step / 2.0 * s * k * (1.0 - (k * (at.u - middle)).tanh().powi(2))
}

#[cfg(test)]
mod tests;
