//! Best scales for known densities, found numerically: HWGQ's steps, SAWB's coefficients, ACIQ's clips.

use serde::{Deserialize, Serialize};

use super::Group;
use super::mse::{Optimum, optimal};
use crate::Levels;
use crate::sorted::Sorted;

/// A density that weights or activations are taken to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Density {
    /// exp(-|x|/b).
    Laplace,
    /// exp(-x²/2σ²).
    Gauss,
}

/// Samples of a density: points on a line, each with its density as importance.
struct Sampled {
    points: Vec<f32>,
    density: Vec<f32>,
}

/// Points on each side of zero; twice as many change no digit that is tested.
const POINTS: i32 = 2000;

impl Sampled {
    /// `density` at midpoints of equal cells of [-limit, limit].
    fn new(limit: f64, density: impl Fn(f64) -> f64) -> Self {
        let x = |i: i32| (f64::from(i) + 0.5) * limit / f64::from(POINTS);
        Sampled {
            points: (-POINTS..POINTS).map(|i| x(i) as f32).collect(),
            density: (-POINTS..POINTS).map(|i| density(x(i)) as f32).collect(),
        }
    }

    fn best_scale(&self, levels: &Levels) -> f64 {
        let sorted = Sorted::of(&Group { values: &self.points, importance: Some(&self.density) });
        optimal(&sorted, levels, Optimum { scale: 1.0, gain: 0.0 }).scale
    }

    /// √E[x²] and E|x|.
    fn moments(&self) -> (f64, f64) {
        let (mut mass, mut first, mut second) = (0.0, 0.0, 0.0);
        for (&x, &p) in self.points.iter().zip(&self.density) {
            let (x, p) = (f64::from(x), f64::from(p));
            mass += p;
            first += p * x.abs();
            second += p * x * x;
        }
        ((second / mass).sqrt(), first / mass)
    }
}

/// The scale of least squared error for a Gaussian of deviation 1: the steps of HWGQ's weights (Cai et al. 2017,
/// arXiv:1702.00953) for levels of odd numbers, Max's (1960) for all.
pub(super) fn gauss_scale(levels: &Levels) -> f64 {
    Sampled::new(8.0, |x| (-x * x / 2.0).exp()).best_scale(levels)
}

/// HWGQ's step for a half-Gaussian of deviation 1: its levels are the positive ones, since ReLU's zeros have a code of
/// their own.
pub(super) fn half_gauss_scale(levels: &Levels) -> f64 {
    let positive = levels.values().into_iter().filter(|&x| x > 0.0).collect();
    let half = |x: f64| if x > 0.0 { (-x * x / 2.0).exp() } else { 0.0 };
    Sampled::new(8.0, half).best_scale(&Levels::nearest(positive))
}

/// SAWB's (c1, c2) for these levels (Choi et al. 2018, arXiv:1807.06964): over six densities, the line
/// `α*/E|x| = c1·√E[x²]/E|x| - c2` of least squares, α* being the largest level at the scale of least squared error.
///
/// The densities are those of the paper: Gauss, uniform, Laplace, logistic, triangle and von Mises (concentration 1).
/// They are cut at 10 deviations.
pub(super) fn sawb_coefficients(levels: &Levels) -> (f64, f64) {
    let densities: [Sampled; 6] = [
        Sampled::new(10.0, |x| (-x * x / 2.0).exp()),
        Sampled::new(1.0, |_| 1.0),
        Sampled::new(10.0, |x| (-x.abs() * std::f64::consts::SQRT_2).exp()),
        Sampled::new(18.0, |x| (x / 2.0).cosh().powi(-2)),
        Sampled::new(1.0, |x| 1.0 - x.abs()),
        Sampled::new(std::f64::consts::PI, |x| x.cos().exp()),
    ];
    let top = f64::from(levels.value((levels.len() - 1) as u16));
    let points: Vec<(f64, f64)> = densities
        .iter()
        .map(|density| {
            let (deviation, magnitude) = density.moments();
            (deviation / magnitude, density.best_scale(levels) * top / magnitude)
        })
        .collect();
    let mean = |f: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(f).sum::<f64>() / 6.0;
    let (x, y) = (mean(&|p| p.0), mean(&|p| p.1));
    let slope = mean(&|p| (p.0 - x) * (p.1 - y)) / mean(&|p| (p.0 - x).powi(2));
    (slope, slope * x - y)
}

/// ACIQ's clip α in units of b or σ (Banner et al. 2019, arXiv:1810.05723): the zero of the derivative of clipping
/// error + α²/(3·4^M), found by bisection.
///
/// For Laplace the clipping error is 2b²·exp(-α/b), for Gauss 2·∫_α^∞ (x - α)² φ(x) dx, integrated numerically.
pub(super) fn aciq_clip(density: Density, bits: f64) -> f64 {
    let noise_slope = |alpha: f64| 2.0 * alpha / (3.0 * 4f64.powf(bits));
    let clip_slope = |alpha: f64| match density {
        Density::Laplace => -2.0 * (-alpha).exp(),
        Density::Gauss => -4.0 * gauss_excess(alpha),
    };
    let (mut low, mut high) = (0.0, 40.0);
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if clip_slope(middle) + noise_slope(middle) < 0.0 { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// ∫_α^∞ (x - α) φ(x) dx by the midpoint rule, which for this integrand errs below 1e-6 of it.
fn gauss_excess(alpha: f64) -> f64 {
    let step = 0.005;
    let term = |i: i32| {
        let beyond = (f64::from(i) + 0.5) * step;
        beyond * (-(alpha + beyond).powi(2) / 2.0).exp()
    };
    (0..2400).map(term).sum::<f64>() * step / std::f64::consts::TAU.sqrt()
}
