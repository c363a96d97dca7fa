//! Scale rules: how the scale of a group of weights is found, in closed form or by an exact search.
//!
//! For a grid with levels ℓ, top the largest, a weight is s·ℓ. Importance h, where the caller has it, weights the
//! squared error in every rule that minimizes one, and the means of the rules that take one. Knows nothing of shapes: a
//! group is a slice.

mod basis;
mod density;
mod mse;
mod ternary;

use serde::{Deserialize, Serialize};

pub use basis::{BasisStart, FoundBasis};
pub use density::Density;

use crate::cluster::Clustering;
use crate::error::setting;
use crate::sorted::Sorted;
use crate::{Grid, Levels, QParams, QuantError, RangeRule, Statistics, UniformCodes};
use mse::Optimum;

/// How a scale is found, and with it the levels where the grid leaves them open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "rule")]
pub enum ScaleRule {
    /// s = max|w| / top: nothing is clipped.
    MaxAbs,
    /// From the smallest to the largest weight, 0 included; with an affine zero point.
    MinMax,
    /// As `MaxAbs`, of that percent of the magnitudes; with an affine zero point each tail loses (100 - percent) / 2 %.
    Percentile {
        /// Percent of the weights kept, above 0 up to 100.
        percent: f64,
    },
    /// s of least Σh(w - s·ℓ)², exact (`scale/mse.rs` says how, and at what cost); with an affine zero point over all
    /// zero points too.
    Mse,
    /// As `Mse`, refusing weights without importance: Hessian- or Fisher-weighted (Choi et al. 2017, arXiv:1612.01543).
    WeightedMse,
    /// The clip of least Kullback-Leibler divergence, on a histogram: [`RangeRule::Kl`].
    Kl,
    /// s = Σh|w| / Σh: BWN and XNOR-Net (Rastegari et al. 2016, arXiv:1603.05279), with h LAB (Hou et al. 2017,
    /// arXiv:1611.01600).
    MeanAbs,
    /// Nonzero where |w| > 0.7·E|w|; s the mean of those (Li et al. 2016, arXiv:1605.04711).
    Twn,
    /// The best ternary quantizer, by sorting (Hou and Kwok 2018, arXiv:1802.08635).
    TernaryOptimal,
    /// Nonzero where |w| > fraction · max|w|.
    MaxFraction {
        /// 0.05 in TTQ and SYQ; 0 up to, not including, 1.
        fraction: f64,
        /// One value (SYQ), or one for each sign: the start of TTQ's W_p and W_n (Zhu et al. 2017, arXiv:1612.01064).
        values: TernaryValues,
    },
    /// s·top = c1·`√E[w²]` - c2·E|w| (Choi et al. 2018, arXiv:1807.06964); c1, c2 are regressed for the grid at hand.
    Sawb,
    /// s·top = the clip of least expected error for that density (Banner et al. 2019, arXiv:1810.05723). The density's
    /// width is measured: b = E|w - E w|, σ the standard deviation.
    Aciq {
        /// The density.
        density: Density,
    },
    /// σ times the step of least squared error for a Gaussian, σ = `√E[w²]`.
    Gauss,
    /// σ times HWGQ's step for the positive half of a Gaussian (Cai et al. 2017, arXiv:1702.00953), σ = `√E[x² : x > 0]`.
    /// Differs from the paper: values up to half the first level become 0, not only those up to 0.
    HalfGauss,
    /// The largest level is 2^⌊log2(4·max|w|/3)⌋ (INQ, Zhou et al. 2017, arXiv:1702.03044).
    LogRange,
    /// s = 2·E|w| / √top: where LSQ starts (Esser et al. 2020, arXiv:1902.08153).
    Lsq,
    /// Another rule's scale, made a power of two.
    PowerOfTwo {
        /// The other rule.
        of: Box<ScaleRule>,
        /// To which power.
        exponent: Exponent,
    },
    /// Basis numbers by turns of nearest levels and least squares: LQ-Nets, ABC-Net.
    Basis {
        /// Where the turns start.
        start: BasisStart,
        /// Turns at most.
        rounds: usize,
    },
    /// The entries of a codebook.
    Cluster(Clustering),
    /// The weighted mean of the weights that share a hash bucket.
    BucketMeans,
    /// A parameter that training moves, from where another rule puts it.
    Learned {
        /// The start: `Lsq` in LSQ.
        start: Box<ScaleRule>,
    },
}

/// Values of a ternary weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TernaryValues {
    /// {-s, 0, s}.
    One,
    /// {-s_n, 0, s_p}.
    Two,
}

/// Which power of two a scale becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exponent {
    /// 2^round(log2 s): IR-Net (Qin et al. 2020, arXiv:1909.10788).
    Nearest,
    /// 2^⌈log2 s⌉, which never clips more: TQT (Jain et al. 2020, arXiv:1903.08066).
    Up,
}

/// Weights that share a scale.
#[derive(Clone, Copy)]
pub(crate) struct Group<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) importance: Option<&'a [f32]>,
}

impl Group<'_> {
    /// h of the i-th value.
    pub(crate) fn weight(&self, i: usize) -> f64 {
        self.importance.map_or(1.0, |h| f64::from(h[i]))
    }

    fn mean(&self, f: impl Fn(f64) -> f64) -> f64 {
        let sum: f64 = self.values.iter().map(|&w| f(f64::from(w))).sum();
        sum / self.values.len() as f64
    }

    pub(crate) fn max_abs(&self) -> f64 {
        f64::from(self.values.iter().fold(0.0f32, |m, w| m.max(w.abs())))
    }
}

/// A group's scale, with levels or codes where the rule has its own.
pub(crate) struct Found {
    pub(crate) scale: f64,
    pub(crate) levels: Option<Levels>,
    pub(crate) codes: Option<Vec<u16>>,
}

impl Found {
    fn scale(scale: f64) -> Self {
        Found { scale, levels: None, codes: None }
    }
}

impl ScaleRule {
    /// The rule's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            ScaleRule::MaxAbs => "max-abs",
            ScaleRule::MinMax => "min-max",
            ScaleRule::Percentile { .. } => "percentile",
            ScaleRule::Mse => "mse",
            ScaleRule::WeightedMse => "weighted-mse",
            ScaleRule::Kl => "kl",
            ScaleRule::MeanAbs => "mean-abs",
            ScaleRule::Twn => "twn",
            ScaleRule::TernaryOptimal => "ternary-optimal",
            ScaleRule::MaxFraction { .. } => "max-fraction",
            ScaleRule::Sawb => "sawb",
            ScaleRule::Aciq { .. } => "aciq",
            ScaleRule::Gauss => "gauss",
            ScaleRule::HalfGauss => "half-gauss",
            ScaleRule::LogRange => "log-range",
            ScaleRule::Lsq => "lsq",
            ScaleRule::PowerOfTwo { .. } => "power-of-two",
            ScaleRule::Basis { .. } => "basis",
            ScaleRule::Cluster(_) => "cluster",
            ScaleRule::BucketMeans => "bucket-means",
            ScaleRule::Learned { .. } => "learned",
        }
    }

    /// Whether training moves the scale.
    #[must_use]
    pub fn is_learned(&self) -> bool {
        match self {
            ScaleRule::Learned { .. } => true,
            ScaleRule::PowerOfTwo { of, .. } => of.is_learned(),
            ScaleRule::MaxAbs
            | ScaleRule::MinMax
            | ScaleRule::Percentile { .. }
            | ScaleRule::Mse
            | ScaleRule::WeightedMse
            | ScaleRule::Kl
            | ScaleRule::MeanAbs
            | ScaleRule::Twn
            | ScaleRule::TernaryOptimal
            | ScaleRule::MaxFraction { .. }
            | ScaleRule::Sawb
            | ScaleRule::Aciq { .. }
            | ScaleRule::Gauss
            | ScaleRule::HalfGauss
            | ScaleRule::LogRange
            | ScaleRule::Lsq
            | ScaleRule::Basis { .. }
            | ScaleRule::Cluster(_)
            | ScaleRule::BucketMeans => false,
        }
    }

    /// What grid the rule suits, in words, and whether `grid` is one.
    fn suits(&self, grid: &Grid) -> (bool, &'static str) {
        let fixed = !matches!(grid, Grid::Basis(_) | Grid::Codebook(_) | Grid::Hashed(_));
        match self {
            ScaleRule::MaxAbs
            | ScaleRule::Percentile { .. }
            | ScaleRule::Mse
            | ScaleRule::WeightedMse
            | ScaleRule::Kl
            | ScaleRule::Gauss => (fixed, "a grid with fixed levels"),
            ScaleRule::MinMax | ScaleRule::Sawb | ScaleRule::Aciq { .. } | ScaleRule::Lsq => {
                (matches!(grid, Grid::Uniform(_)), "a uniform grid")
            }
            ScaleRule::MeanAbs => (matches!(grid, Grid::Binary { .. }), "a binary grid"),
            ScaleRule::Twn | ScaleRule::TernaryOptimal | ScaleRule::MaxFraction { .. } => {
                (matches!(grid, Grid::Ternary), "a ternary grid")
            }
            ScaleRule::HalfGauss => (
                matches!(grid, Grid::Uniform(u) if u.codes == UniformCodes::Unsigned),
                "an unsigned uniform grid",
            ),
            ScaleRule::LogRange => (matches!(grid, Grid::PowerOfTwo(_)), "a grid of powers of two"),
            ScaleRule::Basis { .. } => (matches!(grid, Grid::Basis(_)), "a basis"),
            ScaleRule::Cluster(_) => (matches!(grid, Grid::Codebook(_)), "a codebook"),
            ScaleRule::BucketMeans => (matches!(grid, Grid::Hashed(_)), "a hashed grid"),
            ScaleRule::PowerOfTwo { of, .. } => match of.suits(grid) {
                (true, expected) => (fixed, expected),
                refused => refused,
            },
            ScaleRule::Learned { start } => start.suits(grid),
        }
    }

    /// Refuses grids that the rule does not suit and settings out of range.
    pub(crate) fn check(&self, grid: &Grid) -> Result<(), QuantError> {
        let (suits, expected) = self.suits(grid);
        if !suits {
            let (part, found, with) = ("scale rule", self.name(), grid.name());
            return Err(QuantError::Unsuited { part, found, with, expected });
        }
        match self {
            ScaleRule::Percentile { percent } => setting(
                "percent",
                *percent,
                *percent > 0.0 && *percent <= 100.0,
                "above 0, up to 100",
            ),
            ScaleRule::MaxFraction { fraction, .. } => {
                setting("fraction", *fraction, (0.0..1.0).contains(fraction), "0 up to below 1")
            }
            ScaleRule::Cluster(clustering) => clustering.check(),
            ScaleRule::PowerOfTwo { of: inner, .. } | ScaleRule::Learned { start: inner } => {
                inner.check(grid)
            }
            ScaleRule::MaxAbs
            | ScaleRule::MinMax
            | ScaleRule::Mse
            | ScaleRule::WeightedMse
            | ScaleRule::Kl
            | ScaleRule::MeanAbs
            | ScaleRule::Twn
            | ScaleRule::TernaryOptimal
            | ScaleRule::Sawb
            | ScaleRule::Aciq { .. }
            | ScaleRule::Gauss
            | ScaleRule::HalfGauss
            | ScaleRule::LogRange
            | ScaleRule::Lsq
            | ScaleRule::Basis { .. }
            | ScaleRule::BucketMeans => Ok(()),
        }
    }

    /// Whether the rule heeds an importance of weights.
    pub(crate) fn takes_importance(&self) -> bool {
        match innermost(self) {
            ScaleRule::Mse
            | ScaleRule::WeightedMse
            | ScaleRule::MeanAbs
            | ScaleRule::Twn
            | ScaleRule::TernaryOptimal
            | ScaleRule::MaxFraction { .. }
            | ScaleRule::Basis { .. }
            | ScaleRule::Cluster(_)
            | ScaleRule::BucketMeans => true,
            ScaleRule::MaxAbs
            | ScaleRule::MinMax
            | ScaleRule::Percentile { .. }
            | ScaleRule::Kl
            | ScaleRule::Sawb
            | ScaleRule::Aciq { .. }
            | ScaleRule::Gauss
            | ScaleRule::HalfGauss
            | ScaleRule::LogRange
            | ScaleRule::Lsq
            | ScaleRule::PowerOfTwo { .. }
            | ScaleRule::Learned { .. } => false,
        }
    }

    /// Whether the rule refuses weights without importance.
    pub(crate) fn needs_importance(&self) -> bool {
        *innermost(self) == ScaleRule::WeightedMse
    }
}

/// A rule made ready for a grid of fixed levels: what depends on the levels alone is computed once.
pub(crate) struct Prepared<'a> {
    rule: &'a ScaleRule,
    levels: &'a Levels,
    /// SAWB's c1, c2; ACIQ's clip; the step for a density of width 1.
    constants: (f64, f64),
}

impl<'a> Prepared<'a> {
    pub(crate) fn new(rule: &'a ScaleRule, levels: &'a Levels) -> Self {
        let bits = || (levels.len() as f64).log2();
        let constants = match innermost(rule) {
            ScaleRule::Sawb => density::sawb_coefficients(levels),
            ScaleRule::Aciq { density } => (density::aciq_clip(*density, bits()), 0.0),
            ScaleRule::Gauss => (density::gauss_scale(levels), 0.0),
            ScaleRule::HalfGauss => (density::half_gauss_scale(levels), 0.0),
            ScaleRule::MaxAbs
            | ScaleRule::MinMax
            | ScaleRule::Percentile { .. }
            | ScaleRule::Mse
            | ScaleRule::WeightedMse
            | ScaleRule::Kl
            | ScaleRule::MeanAbs
            | ScaleRule::Twn
            | ScaleRule::TernaryOptimal
            | ScaleRule::MaxFraction { .. }
            | ScaleRule::LogRange
            | ScaleRule::Lsq
            | ScaleRule::PowerOfTwo { .. }
            | ScaleRule::Basis { .. }
            | ScaleRule::Cluster(_)
            | ScaleRule::BucketMeans
            | ScaleRule::Learned { .. } => (0.0, 0.0),
        };
        Prepared { rule, levels, constants }
    }

    pub(crate) fn levels(&self) -> &Levels {
        self.levels
    }

    /// The scale of a group. A group of zeros gets 1, or next to nothing where 0 is no level. Where a rule's answer is
    /// 0 (a percentile of mostly zeros) nothing is clipped instead.
    pub(crate) fn find(&self, group: &Group) -> Found {
        if group.max_abs() == 0.0 {
            let zero = self.levels.value(self.levels.project(0.0)) == 0.0;
            return Found::scale(if zero { 1.0 } else { NEXT_TO_NOTHING });
        }
        let mut found = self.apply(self.rule, group);
        if found.levels.is_none() && (found.scale as f32) < f32::MIN_POSITIVE {
            found = Found::scale((group.max_abs() / self.top()).max(f64::from(f32::MIN_POSITIVE)));
        }
        found
    }

    fn top(&self) -> f64 {
        f64::from(self.levels.value((self.levels.len() - 1) as u16))
    }

    fn apply(&self, rule: &ScaleRule, group: &Group) -> Found {
        let clip = |alpha: f64| Found::scale(alpha / self.top());
        match rule {
            ScaleRule::MaxAbs => clip(group.max_abs()),
            ScaleRule::Percentile { percent } => clip(percentile(group, *percent)),
            ScaleRule::Mse | ScaleRule::WeightedMse => Found::scale(self.mse(group)),
            ScaleRule::Kl => {
                let (low, high) = observed(group, self.levels.len());
                clip(f64::from(high.max(-low)))
            }
            ScaleRule::MeanAbs => Found::scale(ternary::mean_beyond(group, |_| true)),
            ScaleRule::Twn => {
                let (scale, threshold) = ternary::twn(group);
                let codes = group.values.iter().map(|&w| ternary_code(w, threshold));
                Found { codes: Some(codes.collect()), ..Found::scale(scale) }
            }
            ScaleRule::TernaryOptimal => Found::scale(ternary::optimal(group)),
            ScaleRule::MaxFraction { fraction, values } => max_fraction(group, *fraction, *values),
            ScaleRule::Sawb => {
                let (c1, c2) = self.constants;
                clip(c1 * group.mean(|w| w * w).sqrt() - c2 * group.mean(f64::abs))
            }
            ScaleRule::Aciq { density } => clip(self.constants.0 * width(group, *density)),
            ScaleRule::Gauss => Found::scale(self.constants.0 * group.mean(|w| w * w).sqrt()),
            ScaleRule::HalfGauss => Found::scale(self.constants.0 * half_deviation(group)),
            ScaleRule::LogRange => clip((group.max_abs() * 4.0 / 3.0).log2().floor().exp2()),
            ScaleRule::Lsq => Found::scale(2.0 * group.mean(f64::abs) / self.top().sqrt()),
            ScaleRule::PowerOfTwo { of, exponent } => {
                let scale = self.apply(of, group).scale;
                Found::scale(power_of_two(scale, *exponent))
            }
            ScaleRule::Learned { start } => self.apply(start, group),
            ScaleRule::MinMax
            | ScaleRule::Basis { .. }
            | ScaleRule::Cluster(_)
            | ScaleRule::BucketMeans => unreachable!("checked before: {}", rule.name()),
        }
    }

    fn mse(&self, group: &Group) -> f64 {
        let sorted = Sorted::of(group);
        mse::optimal(&sorted, self.levels, Optimum { scale: 0.0, gain: 0.0 }).scale
    }
}

/// The scale of zeros on a grid without 0: 2^-100, far enough from 0 to be multiplied.
const NEXT_TO_NOTHING: f64 = 1.0 / (1u128 << 100) as f64;

/// The rule inside `PowerOfTwo` and `Learned`.
pub(crate) fn innermost(rule: &ScaleRule) -> &ScaleRule {
    if let ScaleRule::PowerOfTwo { of: inner, .. } | ScaleRule::Learned { start: inner } = rule {
        return innermost(inner);
    }
    rule
}

/// Scale and zero point (the code of 0) of a group on `count` equal steps.
///
/// # Errors
/// `Unsuited` when the rule finds no range.
pub(crate) fn affine(
    rule: &ScaleRule,
    count: usize,
    group: &Group,
) -> Result<(f64, i32), QuantError> {
    if group.max_abs() == 0.0 {
        return Ok((1.0, 0));
    }
    let bits = Levels::steps(0, count as i32 - 1).bits();
    let (low, high) = match rule {
        ScaleRule::MinMax => {
            group.values.iter().fold((0.0f32, 0.0f32), |(l, h), &w| (l.min(w), h.max(w)))
        }
        ScaleRule::Percentile { percent } => tails(group, *percent),
        ScaleRule::Kl => observed(group, count),
        ScaleRule::Mse | ScaleRule::WeightedMse => return Ok(affine_mse(count, group)),
        ScaleRule::Learned { start } => return affine(start, count, group),
        ScaleRule::MaxAbs
        | ScaleRule::MeanAbs
        | ScaleRule::Twn
        | ScaleRule::TernaryOptimal
        | ScaleRule::MaxFraction { .. }
        | ScaleRule::Sawb
        | ScaleRule::Aciq { .. }
        | ScaleRule::Gauss
        | ScaleRule::HalfGauss
        | ScaleRule::LogRange
        | ScaleRule::Lsq
        | ScaleRule::PowerOfTwo { .. }
        | ScaleRule::Basis { .. }
        | ScaleRule::Cluster(_)
        | ScaleRule::BucketMeans => {
            return Err(QuantError::Unsuited {
                part: "scale rule",
                found: rule.name(),
                with: "an affine zero point",
                expected: "min-max, percentile, mse, weighted-mse or kl",
            });
        }
    };
    let found = QParams::affine(low, high, bits)?;
    Ok((f64::from(found.scale), found.zero_point))
}

/// The exact search for each zero point, carrying the best on: most zero points end at their first bounds.
fn affine_mse(count: usize, group: &Group) -> (f64, i32) {
    let sorted = Sorted::of(group);
    let mut best = (Optimum { scale: 0.0, gain: 0.0 }, 0);
    for zero_point in 0..count as i32 {
        let levels = Levels::steps(-zero_point, count as i32 - 1 - zero_point);
        let found = mse::optimal(&sorted, &levels, best.0);
        if found.gain > best.0.gain {
            best = (found, zero_point);
        }
    }
    (best.0.scale.max(f64::from(f32::MIN_POSITIVE)), best.1)
}

/// The range by divergence, from a histogram of the group.
fn observed(group: &Group, levels: usize) -> (f32, f32) {
    let mut statistics = Statistics::default();
    let ends = |(l, h): (f32, f32), &w: &f32| (l.min(w), h.max(w));
    let (low, high) = group.values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), ends);
    statistics.add_extremes(low, high, &RangeRule::Kl);
    statistics.histogram.add(group.values);
    let everywhere = (f32::NEG_INFINITY, f32::INFINITY);
    let found = statistics.range_for(&RangeRule::Kl, everywhere, levels.max(2));
    found.expect("a group is not empty")
}

/// The magnitude that `percent` % of the magnitudes do not exceed.
fn percentile(group: &Group, percent: f64) -> f64 {
    let mut magnitudes: Vec<f32> = group.values.iter().map(|w| w.abs()).collect();
    magnitudes.sort_by(f32::total_cmp);
    let kept = (magnitudes.len() as f64 * percent / 100.0).ceil() as usize;
    f64::from(magnitudes[kept.clamp(1, magnitudes.len()) - 1])
}

fn tails(group: &Group, percent: f64) -> (f32, f32) {
    let mut values = group.values.to_vec();
    values.sort_by(f32::total_cmp);
    let last = values.len() - 1;
    let cut = (values.len() as f64 * (100.0 - percent) / 200.0).floor() as usize;
    (values[cut.min(last)].min(0.0), values[last - cut.min(last)].max(0.0))
}

fn width(group: &Group, density: Density) -> f64 {
    let mean = group.mean(|w| w);
    match density {
        Density::Laplace => group.mean(|w| (w - mean).abs()),
        Density::Gauss => group.mean(|w| (w - mean).powi(2)).sqrt(),
    }
}

fn half_deviation(group: &Group) -> f64 {
    let positive = group.values.iter().filter(|w| **w > 0.0);
    let count = positive.clone().count().max(1) as f64;
    (positive.map(|&x| f64::from(x).powi(2)).sum::<f64>() / count).sqrt()
}

fn power_of_two(scale: f64, exponent: Exponent) -> f64 {
    if scale <= 0.0 {
        return scale;
    }
    match exponent {
        Exponent::Nearest => scale.log2().round().exp2(),
        Exponent::Up => scale.log2().ceil().exp2(),
    }
}

/// Rank in {-1, 0, 1}.
fn ternary_code(w: f32, threshold: f32) -> u16 {
    1 + u16::from(w > threshold) - u16::from(w < -threshold)
}

fn max_fraction(group: &Group, fraction: f64, values: TernaryValues) -> Found {
    let threshold = (fraction * group.max_abs()) as f32;
    match values {
        TernaryValues::One => Found {
            scale: ternary::mean_beyond(group, |w| w.abs() > threshold),
            levels: None,
            codes: Some(group.values.iter().map(|&w| ternary_code(w, threshold)).collect()),
        },
        TernaryValues::Two => {
            let positive = ternary::mean_beyond(group, |w| w > threshold) as f32;
            let negative = -ternary::mean_beyond(group, |w| w < -threshold) as f32;
            let levels = Levels::nearest(vec![negative, 0.0, positive]);
            let value =
                |&w: &f32| [negative, 0.0, positive][usize::from(ternary_code(w, threshold))];
            let codes = group.values.iter().map(|w| levels.project(value(w))).collect();
            Found { scale: 1.0, levels: Some(levels), codes: Some(codes) }
        }
    }
}

/// The basis that a rule finds for a group.
pub(crate) fn find_basis(rule: &ScaleRule, basis: crate::Basis, group: &Group) -> FoundBasis {
    let ScaleRule::Basis { start, rounds } = innermost(rule) else {
        unreachable!("checked before: {}", rule.name())
    };
    basis::fit(group, basis, *start, *rounds)
}

#[cfg(test)]
mod tests;
