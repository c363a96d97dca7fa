//! Streaming statistics of a tensor, and the rules that choose a clipping range from them.

use serde::{Deserialize, Serialize};

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
    /// The range of least mean squared error at 8 bits: rounding noise inside against clipping outside.
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
        matches!(
            self,
            RangeRule::Percentile { .. } | RangeRule::Mse | RangeRule::Kl
        )
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

    /// The clipping range by `rule`.
    ///
    /// # Errors
    /// `NoSamples` when nothing was observed.
    pub fn range(&self, rule: &RangeRule) -> Result<(f32, f32), QuantError> {
        if self.min > self.max {
            return Err(QuantError::NoSamples);
        }
        let extremes = (self.min, self.max);
        Ok(match rule {
            RangeRule::MinMax => extremes,
            RangeRule::MovingAverage { .. } => self.average.unwrap_or(extremes),
            RangeRule::Percentile { percent } => {
                within(percentile(&self.histogram, *percent), extremes)
            }
            RangeRule::Mse => within(mse(&self.histogram, extremes), extremes),
            RangeRule::Kl => within(kl(&self.histogram, extremes), extremes),
        })
    }
}

/// Cuts a range to what was seen: bin edges may lie outside.
fn within(range: (f64, f64), extremes: (f32, f32)) -> (f32, f32) {
    let cut = |x: f64| (x as f32).clamp(extremes.0, extremes.1);
    (cut(range.0), cut(range.1))
}

fn percentile(histogram: &Histogram, percent: f64) -> (f64, f64) {
    let bins = histogram.bins();
    let total: u64 = bins.iter().map(|b| b.2).sum();
    let tail = total as f64 * (100.0 - percent) / 200.0;
    // Position inside the bin where the tail ends, taking the bin as uniform.
    let cut = |bins: &mut dyn Iterator<Item = (f64, f64, u64)>| {
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
    let high = cut(&mut bins
        .iter()
        .rev()
        .map(|&(from, to, count)| (to, from, count)));
    (low, high)
}

/// Least mean squared error over ranges whose ends are bin edges.
///
/// With step s, a value inside costs s²/12 (rounding noise; exact zeros cost nothing), one outside its squared distance to
/// the nearer end. Prefix sums make a candidate cost O(1); the ends are improved in turn until neither moves, which finds the
/// optimum where one end is pinned at zero (after ReLU) and a coordinate-wise one elsewhere.
fn mse(histogram: &Histogram, extremes: (f32, f32)) -> (f64, f64) {
    let bins = histogram.bins();
    if bins.is_empty() {
        return (f64::from(extremes.0), f64::from(extremes.1));
    }
    let sums = Moments::of(&bins);
    let mut lows: Vec<f64> = bins.iter().map(|b| b.0).filter(|&x| x < 0.0).collect();
    lows.push(0.0);
    let mut highs: Vec<f64> = bins.iter().map(|b| b.1).filter(|&x| x > 0.0).collect();
    highs.push(0.0);
    let mut best = (
        f64::from(extremes.0).min(0.0),
        f64::from(extremes.1).max(0.0),
    );
    let mut cost = sums.cost(best.0, best.1);
    // Each round lowers the cost or stops; ranges are finite, and eight rounds have always sufficed.
    for _ in 0..8 {
        let before = cost;
        for &high in &highs {
            let candidate = sums.cost(best.0, high);
            if candidate < cost {
                (cost, best.1) = (candidate, high);
            }
        }
        for &low in &lows {
            let candidate = sums.cost(low, best.1);
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

/// Prefix sums of count, value and squared value over ascending bins.
struct Moments {
    /// Bin centers.
    centers: Vec<f64>,
    /// Sums over bins below index i: [count, value, square].
    below: Vec<[f64; 3]>,
    zeros: f64,
}

impl Moments {
    fn of(bins: &[(f64, f64, u64)]) -> Moments {
        let mut below = vec![[0.0; 3]];
        let mut sums = [0.0; 3];
        let centers: Vec<f64> = bins.iter().map(|b| f64::midpoint(b.0, b.1)).collect();
        for (&x, &(_, _, count)) in centers.iter().zip(bins) {
            let count = count as f64;
            sums = [
                sums[0] + count,
                sums[1] + count * x,
                sums[2] + count * x * x,
            ];
            below.push(sums);
        }
        let zeros = bins.iter().filter(|b| b.0 == b.1).map(|b| b.2 as f64).sum();
        Moments {
            centers,
            below,
            zeros,
        }
    }

    /// Summed squared error of the 256-level quantizer of [low, high].
    fn cost(&self, low: f64, high: f64) -> f64 {
        let total = self.below[self.below.len() - 1];
        let first = self.centers.partition_point(|&x| x < low);
        let last = self.centers.partition_point(|&x| x <= high);
        let [n_low, s_low, q_low] = self.below[first];
        let [n_in, s_in, q_in] = self.below[last];
        let (n_high, s_high, q_high) = (total[0] - n_in, total[1] - s_in, total[2] - q_in);
        let step = (high - low) / 255.0;
        let rounding = (n_in - n_low - self.zeros).max(0.0) * step * step / 12.0;
        let clipped_low = q_low - 2.0 * low * s_low + low * low * n_low;
        let clipped_high = q_high - 2.0 * high * s_high + high * high * n_high;
        rounding + clipped_low.max(0.0) + clipped_high.max(0.0)
    }
}

/// Bins of the linear histogram that the divergence is computed on, as in TensorRT.
const KL_BINS: usize = 2048;
/// Quantized levels the reference distribution is merged into.
const KL_LEVELS: usize = 128;

/// Least Kullback-Leibler divergence over symmetric clips of |x|; the range keeps the signs that were seen.
fn kl(histogram: &Histogram, extremes: (f32, f32)) -> (f64, f64) {
    let limit = f64::from(extremes.0.abs().max(extremes.1.abs()));
    if limit == 0.0 {
        return (0.0, 0.0);
    }
    let linear = linear_magnitudes(histogram, limit);
    let mut best = (f64::INFINITY, KL_BINS);
    for end in (KL_LEVELS..=KL_BINS).step_by(8) {
        let divergence = divergence(&linear, end);
        if divergence < best.0 {
            best = (divergence, end);
        }
    }
    let clip = limit * best.1 as f64 / KL_BINS as f64;
    (
        f64::from(extremes.0).max(-clip),
        f64::from(extremes.1).min(clip),
    )
}

/// Spreads the bins' counts over `KL_BINS` equal bins of |x| in [0, limit]. Zeros are left out: they cost nothing in any range,
/// and after ReLU they would drown the rest.
fn linear_magnitudes(histogram: &Histogram, limit: f64) -> Vec<f64> {
    let mut linear = vec![0.0; KL_BINS];
    let per_unit = KL_BINS as f64 / limit;
    for (from, to, count) in histogram.bins() {
        let (a, b) = (
            from.abs().min(to.abs()) * per_unit,
            from.abs().max(to.abs()) * per_unit,
        );
        if b <= a {
            continue;
        }
        let density = count as f64 / (b - a);
        for (i, cell) in linear
            .iter_mut()
            .enumerate()
            .skip(a as usize)
            .take((b - a) as usize + 2)
        {
            let overlap = (b.min(i as f64 + 1.0) - a.max(i as f64)).max(0.0);
            *cell += density * overlap;
        }
    }
    linear
}

/// Divergence of the first `end` bins, everything beyond added to the last one, from their 128-level quantization.
fn divergence(linear: &[f64], end: usize) -> f64 {
    let outliers: f64 = linear[end..].iter().sum();
    let total: f64 = linear.iter().sum();
    let inside = total - outliers;
    if inside <= 0.0 {
        return f64::INFINITY;
    }
    let mut sum = 0.0;
    for level in 0..KL_LEVELS {
        let cells = level * end / KL_LEVELS..(level + 1) * end / KL_LEVELS;
        let mass: f64 = linear[cells.clone()].iter().sum();
        let used = linear[cells.clone()].iter().filter(|&&c| c > 0.0).count();
        if used == 0 {
            continue;
        }
        let q = mass / used as f64 / inside;
        for i in cells {
            let mut p = linear[i];
            if i == end - 1 {
                p += outliers;
            }
            if p > 0.0 {
                let p = p / total;
                // A level that only outliers fill has q = 0: the divergence is infinite there.
                sum += if q > 0.0 {
                    p * (p / q).ln()
                } else {
                    return f64::INFINITY;
                };
            }
        }
    }
    sum
}
