//! Tables that round one or two straight lines: what a PRelu between biases is. Vectors of floats compute them where a table per
//! channel would be looked up code by code.
//!
//! A line through the half-open unit intervals around some entries exists where the slopes between all pairs of intervals agree, so the
//! first line takes as many entries as it can, the second one those from the end. What is found is only used where it gives every
//! entry of the table again, computed as it will be; the few tables that have none stay tables.

/// `rint(fma(code, slope, offset))`, saturated, by line: the first one below the knee.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Lines {
    /// The first code of the second line, for each channel.
    pub(super) knee: Vec<f32>,
    /// Slopes of both lines.
    pub(super) slopes: [Vec<f32>; 2],
    /// Offsets of both lines.
    pub(super) offsets: [Vec<f32>; 2],
    /// Channels without such lines, and their tables: a tie that the table's own arithmetic rounds elsewhere leaves none.
    pub(super) others: Vec<(usize, [u8; 256])>,
}

/// The part of the channels that may be looked up, from where on all may as well be.
const OTHERS_MAX: usize = 16;

impl Lines {
    /// The lines of all tables; `None` where too many are none of this kind.
    pub(super) fn new(tables: &[[u8; 256]]) -> Option<Lines> {
        let mut lines = Lines::default();
        for (channel, table) in tables.iter().enumerate() {
            let (knee, found) = fit(table).unwrap_or_else(|| {
                lines.others.push((channel, *table));
                (0.0, [(0.0, 0.0); 2])
            });
            if lines.others.len() * OTHERS_MAX > tables.len() {
                return None;
            }
            lines.knee.push(knee);
            for (line, (slope, offset)) in found.into_iter().enumerate() {
                lines.slopes[line].push(slope);
                lines.offsets[line].push(offset);
            }
        }
        Some(lines)
    }
}

/// The code that a line gives.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
pub(super) fn on_line(code: u8, slope: f32, offset: f32) -> u8 {
    f32::from(code).mul_add(slope, offset).round_ties_even() as u8
}

type Line = (f32, f32);

fn fit(table: &[u8; 256]) -> Option<(f32, [Line; 2])> {
    let intervals = table.map(interval);
    let first = reach((0..256).map(|code| (f64::from(code), intervals[code as usize])));
    let last = reach((0..256).rev().map(|code| (f64::from(code), intervals[code as usize])));
    if first + last < 256 {
        return None;
    }
    // Anywhere between the least start of the second line and the end of the first one.
    let knee = usize::midpoint(256 - last, first);
    let lines = [0..knee, knee..256].map(|codes| line(&intervals, codes));
    let exact = (0..=255u8).all(|code| {
        let (slope, offset) = lines[usize::from(usize::from(code) >= knee)];
        on_line(code, slope, offset) == table[usize::from(code)]
    });
    #[expect(clippy::cast_precision_loss, reason = "at most 256")]
    exact.then_some((knee as f32, lines))
}

/// The numbers that become an entry: those beyond the codes saturate.
fn interval(entry: u8) -> [f64; 2] {
    let center = f64::from(entry);
    let low = if entry == 0 { f64::NEG_INFINITY } else { center - 0.5 };
    let high = if entry == 255 { f64::INFINITY } else { center + 0.5 };
    [low, high]
}

/// How many intervals from the first on one line passes through.
fn reach(intervals: impl Iterator<Item = (f64, [f64; 2])>) -> usize {
    let mut slopes = [f64::NEG_INFINITY, f64::INFINITY];
    let mut passed: Vec<(f64, [f64; 2])> = Vec::with_capacity(256);
    for (x, interval) in intervals {
        for &other in &passed {
            slopes = between(slopes, (x, interval), other);
        }
        if slopes[0] > slopes[1] {
            break;
        }
        passed.push((x, interval));
    }
    passed.len()
}

/// The slopes that are left where a line passes through two intervals.
#[inline(always)]
fn between([least, most]: [f64; 2], a: (f64, [f64; 2]), b: (f64, [f64; 2])) -> [f64; 2] {
    let ((x, [low, high]), (other_x, [other_low, other_high])) =
        if a.0 > b.0 { (a, b) } else { (b, a) };
    let run = x - other_x;
    [least.max((low - other_high) / run), most.min((high - other_low) / run)]
}

/// The line in the middle of those that pass through the intervals of `codes`.
fn line(intervals: &[[f64; 2]; 256], codes: std::ops::Range<usize>) -> Line {
    #[expect(clippy::cast_precision_loss, reason = "at most 256")]
    let point = |code: usize| (code as f64, intervals[code]);
    let mut slopes = [f64::NEG_INFINITY, f64::INFINITY];
    for code in codes.clone() {
        for other in codes.start..code {
            slopes = between(slopes, point(code), point(other));
        }
    }
    let slope = middle(slopes);
    let offsets = codes.map(point).fold([f64::NEG_INFINITY, f64::INFINITY], |all, (x, own)| {
        [all[0].max(own[0] - slope * x), all[1].min(own[1] - slope * x)]
    });
    #[expect(clippy::cast_possible_truncation, reason = "the kernel computes in f32")]
    (slope as f32, middle(offsets) as f32)
}

/// The middle of a range, or what lies next to its only end.
fn middle([low, high]: [f64; 2]) -> f64 {
    match (low.is_finite(), high.is_finite()) {
        (true, true) => f64::midpoint(low, high),
        (true, false) => low + 0.5,
        (false, true) => high - 0.5,
        (false, false) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(f: impl Fn(f32) -> f32) -> [u8; 256] {
        std::array::from_fn(|code| f(code as f32).round_ties_even() as u8)
    }

    #[test]
    fn shifted_prelus_are_two_lines() {
        for seed in 0..2000u32 {
            let draw = |n: u32| {
                let bits = (seed + 1).wrapping_mul(2_654_435_761).rotate_left(n);
                bits.wrapping_mul(2_246_822_519) as f32 / u32::MAX as f32
            };
            let (slope, knee, at) = (draw(3) * 1.2, 300.0 * draw(7) - 20.0, 200.0 * draw(11));
            let scale = 0.4 + 1.2 * draw(17);
            let prelu = |x: f32| if x < 0.0 { slope * x } else { x };
            let table = table(|code| prelu((code - knee) * scale) + at);
            assert!(Lines::new(&[table]).is_some(), "seed {seed}");
        }
    }

    #[test]
    fn curves_and_noise_are_none() {
        let curve = table(|code| 255.0 / (1.0 + (-(code - 128.0) / 20.0).exp()));
        assert_eq!(Lines::new(&[curve]), None);
        let noise = table(|code| (code * 37.0) % 256.0);
        let mut tables = vec![table(|code| code); 31];
        tables.push(noise);
        let lines = Lines::new(&tables).expect("most are lines");
        assert_eq!(lines.others, [(31, noise)]);
        assert_eq!(Lines::new(&tables[20..]), None);
    }
}
