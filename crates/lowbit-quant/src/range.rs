//! Streaming statistics of a tensor, and the rules that choose a clipping range from them.

use serde::{Deserialize, Serialize};

use crate::histogram::Bin;
use crate::{Histogram, QuantError};

/// How the range of an activation is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "rule")]
pub enum RangeRule {
    /// Smallest and largest value seen.
    MinMax,
    /// Exponential moving average of each image's smallest and largest value, in image order (Jacob et al. 2018,
    /// arXiv:1712.05877, section 3.1).
    MovingAverage {
        /// Weight of the newest image.
        momentum: f32,
    },
    /// The central part of the distribution: a tail of (100 - percent) / 2 % is cut at either side where the
    /// distribution reaches there.
    Percentile {
        /// Percent of the values kept.
        percent: f64,
    },
    /// The range of least mean squared error at the number of levels asked for: rounding noise inside against clipping
    /// outside.
    Mse,
    /// The range whose quantized distribution has the least Kullback-Leibler divergence from the one observed (Migacz
    /// 2017, "8-bit inference with TensorRT").
    Kl,
}

impl RangeRule {
    /// The names [`RangeRule::parse`] knows.
    pub const NAMES: &'static str = "min-max, moving-average, percentile, mse, kl";

    /// The rule of that name with its usual setting: momentum 0.1, 99.999 %.
    ///
    /// # Errors
    /// `UnknownRule` lists the names.
    pub fn parse(name: &str) -> Result<Self, QuantError> {
        match name {
            "min-max" => Ok(RangeRule::MinMax),
            "moving-average" => Ok(RangeRule::MovingAverage { momentum: 0.1 }),
            "percentile" => Ok(RangeRule::Percentile { percent: 99.999 }),
            "mse" => Ok(RangeRule::Mse),
            "kl" => Ok(RangeRule::Kl),
            other => Err(QuantError::UnknownRule {
                kind: "observer",
                found: other.to_owned(),
                expected: Self::NAMES,
            }),
        }
    }

    /// The rule's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            RangeRule::MinMax => "min-max",
            RangeRule::MovingAverage { .. } => "moving-average",
            RangeRule::Percentile { .. } => "percentile",
            RangeRule::Mse => "mse",
            RangeRule::Kl => "kl",
        }
    }

    /// Whether the rule needs a histogram beside the extremes.
    #[must_use]
    pub fn needs_histogram(&self) -> bool {
        matches!(self, RangeRule::Percentile { .. } | RangeRule::Mse | RangeRule::Kl)
    }
}

/// What calibration keeps of one tensor: constant memory, however many images.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Smallest value.
    pub min: f32,
    /// Largest value.
    pub max: f32,
    /// Moving averages of the images' extremes, once one image was seen.
    pub average: Option<(f32, f32)>,
    /// Counts, where the rule wants them.
    pub histogram: Histogram,
}

impl Default for Statistics {
    fn default() -> Self {
        Statistics {
            min: f32::INFINITY,
            max: f32::NEG_INFINITY,
            average: None,
            histogram: Histogram::default(),
        }
    }
}

impl Statistics {
    /// Takes one image's extremes into account. Images must come in order where the rule is a moving average.
    pub fn add_extremes(&mut self, min: f32, max: f32, rule: &RangeRule) {
        self.min = self.min.min(min);
        self.max = self.max.max(max);
        if let RangeRule::MovingAverage { momentum } = rule {
            self.average = Some(match self.average {
                None => (min, max),
                Some((low, high)) => (low + momentum * (min - low), high + momentum * (max - high)),
            });
        }
    }

    /// The clipping range by `rule` for 256 levels: [`Statistics::range_for`].
    ///
    /// # Errors
    /// `NoSamples` when nothing was observed.
    pub fn range(&self, rule: &RangeRule, limits: (f32, f32)) -> Result<(f32, f32), QuantError> {
        self.range_for(rule, limits, 256)
    }

    /// The clipping range by `rule` for a uniform quantizer of `levels` levels, at least 2. Beyond `limits` all readers
    /// saturate: values there count as values at the limit, so no rule spends range on them. Without a histogram the
    /// extremes are the range, whatever the rule. Only `Mse` and `Kl` depend on `levels`.
    ///
    /// # Errors
    /// `NoSamples` when nothing was observed.
    ///
    /// # Panics
    /// When `levels` is below 2.
    pub fn range_for(
        &self,
        rule: &RangeRule,
        limits: (f32, f32),
        levels: usize,
    ) -> Result<(f32, f32), QuantError> {
        assert!(levels >= 2, "{levels} levels, expected at least 2");
        if self.min > self.max {
            return Err(QuantError::NoSamples);
        }
        let clip = |x: f32| x.max(limits.0).min(limits.1);
        let extremes = (clip(self.min), clip(self.max));
        let bins = || self.histogram.bins_within(limits);
        if rule.needs_histogram() && self.histogram.count() == 0 {
            return Ok(extremes);
        }
        Ok(match rule {
            RangeRule::MinMax => extremes,
            RangeRule::MovingAverage { .. } => {
                self.average.map_or(extremes, |(low, high)| (clip(low), clip(high)))
            }
            RangeRule::Percentile { percent } => within(percentile(&bins(), *percent), extremes),
            RangeRule::Mse => within(mse(&bins(), extremes, levels), extremes),
            RangeRule::Kl => within(kl(&bins(), extremes, levels), extremes),
        })
    }
}

/// Cuts a range to what was seen: bin edges may lie outside.
fn within(range: (f64, f64), extremes: (f32, f32)) -> (f32, f32) {
    let cut = |x: f64| (x as f32).clamp(extremes.0, extremes.1);
    (cut(range.0), cut(range.1))
}

fn percentile(bins: &[Bin], percent: f64) -> (f64, f64) {
    let total: u64 = bins.iter().map(|b| b.2).sum();
    let tail = total as f64 * (100.0 - percent) / 200.0;
    // Position inside the bin where the tail ends, taking the bin as uniform.
    let cut = |bins: &mut dyn Iterator<Item = Bin>| {
        let mut below = 0.0;
        for (from, to, count) in bins {
            if below + count as f64 > tail {
                return from + (to - from) * (tail - below) / count as f64;
            }
            below += count as f64;
        }
        0.0
    };
    let low = cut(&mut bins.iter().copied());
    let high = cut(&mut bins.iter().rev().map(|&(from, to, count)| (to, from, count)));
    (low, high)
}

/// Least mean squared error over ranges whose ends are bin edges.
///
/// Prefix sums make a candidate cost O(1), or O(levels log bins) where there are few; the ends are improved in turn until
/// neither moves, which finds the optimum where one end is pinned at zero (after ReLU) and a coordinate-wise one elsewhere.
/// With few levels the search starts from the best common shrinking of both ends, and tests every fourth edge: 0.8 %.
fn mse(bins: &[Bin], extremes: (f32, f32), levels: usize) -> (f64, f64) {
    if bins.is_empty() {
        return (f64::from(extremes.0), f64::from(extremes.1));
    }
    let sums = Moments::of(bins);
    let few = levels < EXACT_LEVELS;
    let stride = if few { 4 } else { 1 };
    let lows = bins.iter().map(|b| b.0).filter(|&x| x < 0.0).step_by(stride);
    let lows: Vec<f64> = lows.chain([0.0]).collect();
    let highs = bins.iter().rev().map(|b| b.1).filter(|&x| x > 0.0).step_by(stride);
    let highs: Vec<f64> = highs.collect::<Vec<_>>().into_iter().rev().chain([0.0]).collect();
    let full = (f64::from(extremes.0).min(0.0), f64::from(extremes.1).max(0.0));
    let mut best = full;
    let mut cost = sums.cost(best, levels);
    for part in (1..64).rev().filter(|_| few).map(|i| f64::from(i) / 64.0) {
        let candidate = (full.0 * part, full.1 * part);
        let shrunk = sums.cost(candidate, levels);
        if shrunk < cost {
            (cost, best) = (shrunk, candidate);
        }
    }
    // Each round lowers the cost or stops; ranges are finite, and eight rounds have always sufficed.
    for _ in 0..8 {
        let before = cost;
        for &high in &highs {
            let candidate = sums.cost((best.0, high), levels);
            if candidate < cost {
                (cost, best.1) = (candidate, high);
            }
        }
        for &low in &lows {
            let candidate = sums.cost((low, best.1), levels);
            if candidate < cost {
                (cost, best.0) = (candidate, low);
            }
        }
        if cost >= before {
            break;
        }
    }
    best
}

/// Below this many levels the cost of a range is summed level by level; from there on rounding noise is taken as uniform.
const EXACT_LEVELS: usize = 65;

/// Prefix sums of count, value and squared value over ascending bins.
struct Moments {
    /// Bin centers.
    centers: Vec<f64>,
    /// Sums over bins below index i: [count, value, square].
    below: Vec<[f64; 3]>,
    zeros: f64,
}

impl Moments {
    fn of(bins: &[Bin]) -> Moments {
        let mut below = vec![[0.0; 3]];
        let mut sums = [0.0; 3];
        let centers: Vec<f64> = bins.iter().map(|b| f64::midpoint(b.0, b.1)).collect();
        for (&x, &(_, _, count)) in centers.iter().zip(bins) {
            let count = count as f64;
            sums = [sums[0] + count, sums[1] + count * x, sums[2] + count * x * x];
            below.push(sums);
        }
        let zeros = bins.iter().filter(|b| b.0 == b.1).map(|b| b.2 as f64).sum();
        Moments { centers, below, zeros }
    }

    /// Summed squared error of the quantizer of [low, high] with that many levels.
    fn cost(&self, range: (f64, f64), levels: usize) -> f64 {
        if levels < EXACT_LEVELS {
            self.exact_cost(range, levels)
        } else {
            self.uniform_noise_cost(range, levels)
        }
    }

    /// With step s, a value inside costs s²/12 (rounding noise; exact zeros cost nothing), one outside its squared distance
    /// to the nearer end.
    fn uniform_noise_cost(&self, (low, high): (f64, f64), levels: usize) -> f64 {
        let total = self.below[self.below.len() - 1];
        let first = self.centers.partition_point(|&x| x < low);
        let last = self.centers.partition_point(|&x| x <= high);
        let [n_low, s_low, q_low] = self.below[first];
        let [n_in, s_in, q_in] = self.below[last];
        let (n_high, s_high, q_high) = (total[0] - n_in, total[1] - s_in, total[2] - q_in);
        let step = (high - low) / (levels - 1) as f64;
        let rounding = (n_in - n_low - self.zeros).max(0.0) * step * step / 12.0;
        let clipped_low = q_low - 2.0 * low * s_low + low * low * n_low;
        let clipped_high = q_high - 2.0 * high * s_high + high * high * n_high;
        rounding + clipped_low.max(0.0) + clipped_high.max(0.0)
    }

    /// The squared distances to the nearest of the levels that the range gets once 0 is one of them.
    fn exact_cost(&self, (low, high): (f64, f64), levels: usize) -> f64 {
        let step = (high - low) / (levels - 1) as f64;
        if step <= 0.0 {
            return self.below[self.below.len() - 1][2];
        }
        let zero_point = (-low / step).round_ties_even();
        let mut from = 0;
        let mut sum = 0.0;
        for code in 0..levels {
            let level = (code as f64 - zero_point) * step;
            let to = if code + 1 == levels {
                self.centers.len()
            } else {
                from + self.centers[from..].partition_point(|&x| x < level + step / 2.0)
            };
            let [n, s, q] = std::array::from_fn(|i| self.below[to][i] - self.below[from][i]);
            sum += (q - 2.0 * level * s + level * level * n).max(0.0);
            from = to;
        }
        sum
    }
}

/// Equal bins that the divergence is computed on, as in TensorRT.
const KL_BINS: usize = 2048;

/// Least Kullback-Leibler divergence over clips.
///
/// The distribution is laid out in 2048 equal bins over the range that was seen. A candidate keeps `end` bins of it and merges
/// them into `levels` levels (at most 2048); what lies beyond is added to the outermost bins kept. A distribution of one sign keeps the end at
/// zero, one of two signs is clipped symmetrically. Exact zeros are left out: every range represents them, and after ReLU
/// they would drown the rest.
fn kl(bins: &[Bin], extremes: (f32, f32), levels: usize) -> (f64, f64) {
    let levels = levels.min(KL_BINS);
    let (low, high) = (f64::from(extremes.0).min(0.0), f64::from(extremes.1).max(0.0));
    let limit = high.max(-low);
    if limit == 0.0 {
        return (0.0, 0.0);
    }
    let signed = low < 0.0 && high > 0.0;
    let linear =
        linear_bins(bins, if signed { -limit } else { low }, if signed { limit } else { high });
    // Distance of a bin from zero grows with its index when `ends` counts from the zero end.
    let oriented: Vec<f64> = if high == 0.0 { linear.into_iter().rev().collect() } else { linear };
    let mut best = (f64::INFINITY, 1.0);
    let half = if signed { KL_BINS / 2 } else { KL_BINS };
    let fewest = if signed { levels / 2 } else { levels };
    for end in (fewest..=half).step_by(4) {
        let kept = if signed { half - end..half + end } else { 0..end };
        let divergence = divergence(&oriented, kept, levels);
        if divergence < best.0 {
            best = (divergence, end as f64 / half as f64);
        }
    }
    (low.max(-limit * best.1), high.min(limit * best.1))
}

/// Spreads the counts over `KL_BINS` equal bins of [from, to], exact zeros left out.
fn linear_bins(bins: &[Bin], from: f64, to: f64) -> Vec<f64> {
    let mut linear = vec![0.0; KL_BINS];
    let per_unit = KL_BINS as f64 / (to - from);
    for &(low, high, count) in bins.iter().filter(|bin| bin.0 != 0.0 || bin.1 != 0.0) {
        let (a, b) = ((low - from) * per_unit, (high - from) * per_unit);
        let first = (a.max(0.0) as usize).min(KL_BINS - 1);
        if b - a < 1e-9 {
            linear[first] += count as f64;
            continue;
        }
        let density = count as f64 / (b - a);
        for (i, cell) in linear.iter_mut().enumerate().skip(first).take((b - a) as usize + 2) {
            *cell += density * (b.min(i as f64 + 1.0) - a.max(i as f64)).max(0.0);
        }
    }
    linear
}

/// Divergence of the `kept` bins, with all outliers added to the outermost ones, from their quantization to `levels`, which
/// does not know the outliers: so it grows with what is clipped as well as with what is merged.
fn divergence(linear: &[f64], kept: std::ops::Range<usize>, levels: usize) -> f64 {
    let below: f64 = linear[..kept.start].iter().sum();
    let above: f64 = linear[kept.end..].iter().sum();
    let inside: f64 = linear[kept.clone()].iter().sum();
    let total = below + inside + above;
    let count = kept.len();
    let mut sum = 0.0;
    for level in 0..levels {
        let cells = kept.start + level * count / levels..kept.start + (level + 1) * count / levels;
        let mass: f64 = linear[cells.clone()].iter().sum();
        let used = linear[cells.clone()].iter().filter(|&&c| c > 0.0).count();
        for i in cells {
            let mut p = linear[i];
            if i == kept.start {
                p += below;
            }
            if i + 1 == kept.end {
                p += above;
            }
            if p <= 0.0 {
                continue;
            }
            // Outliers may land in a bin that held nothing: a vanishing q there, as smoothing would give.
            let q = if linear[i] > 0.0 { mass / used as f64 / inside } else { KL_SMOOTHING };
            sum += p / total * (p / total / q).ln();
        }
    }
    sum
}

/// Probability of a bin that the quantized distribution leaves empty.
const KL_SMOOTHING: f64 = 1e-9;
