//! The scale of least squared error for fixed levels: exact, by branch and bound over the breakpoints.
//!
//! With scale s a weight w takes the level ℓ(w/s), which changes only at the breakpoints s = w/t, t a threshold of w's sign. While
//! no weight changes level, the error Σh(w - sℓ)² = Σhw² - 2sA + s²B, A = Σhwℓ, B = Σhℓ², is least at s = A/B, where it is Σhw² - A²/B.
//! So the optimum is the largest gain A²/B over all assignments that some s gives. Both A and B fall as s grows (levels shrink
//! towards 0), hence no scale in [a, b] gains more than A(a)²/B(b):
//!
//! ```text
//! intervals = [(smallest breakpoint, largest breakpoint)]
//! take the interval of the largest bound, until that is no more than the best gain found:
//!     few breakpoints inside: sort them, walk through, updating A and B at each
//!     otherwise: split at the geometric mean, evaluate A and B there
//! ```
//!
//! For n weights and k levels there are n·k/2 breakpoints. An evaluation costs O(k log n) by prefix sums over the sorted weights; up to
//! [`LEAF`] breakpoints are sorted at once, more are bisected around the optimum, in practice about √(n·k) evaluations.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::Levels;
use crate::sorted::Sorted;

/// Breakpoints that are sorted rather than bisected.
const LEAF: usize = 4096;

/// A and B of an assignment.
#[derive(Clone, Copy, Debug)]
struct Sums {
    a: f64,
    b: f64,
}

impl Sums {
    fn gain(self) -> f64 {
        if self.a > 0.0 && self.b > 0.0 { self.a * self.a / self.b } else { 0.0 }
    }
}

/// One way to look for the best scale: sorted weights against fixed levels.
struct Search<'a> {
    sorted: &'a Sorted,
    levels: Vec<f64>,
    thresholds: Vec<f64>,
    best: Optimum,
}

/// The best scale found, and by how much it lowers the squared error Σhw² of all zeros.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Optimum {
    pub(crate) scale: f64,
    pub(crate) gain: f64,
}

/// An interval of scales that no search has looked into, its ends' sums, and the most it can gain.
struct Interval {
    bound: f64,
    from: (f64, Sums),
    to: (f64, Sums),
}

impl PartialEq for Interval {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Interval {}

impl PartialOrd for Interval {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Interval {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bound.total_cmp(&other.bound).then(other.from.0.total_cmp(&self.from.0))
    }
}

/// The scale of least squared error, if any beats the gain of `least`: pass a gain of 0 to begin with.
pub(crate) fn optimal(sorted: &Sorted, levels: &Levels, least: Optimum) -> Optimum {
    let mut search = Search {
        sorted,
        levels: levels.values().into_iter().map(f64::from).collect(),
        thresholds: levels.thresholds(),
        best: least,
    };
    search.run();
    search.best
}

impl Search<'_> {
    fn run(&mut self) {
        let magnitudes = self.sorted.values.iter().map(|w| w.abs()).filter(|&w| w > 0.0);
        let bounds = magnitudes.fold((f64::INFINITY, 0.0f64), |(l, h), w| (l.min(w), h.max(w)));
        if bounds.1 == 0.0 {
            return;
        }
        let thresholds = self.thresholds.iter().map(|t| t.abs()).filter(|&t| t > 0.0);
        let (least, most) =
            thresholds.fold((f64::INFINITY, 0.0f64), |(l, h), t| (l.min(t), h.max(t)));
        // Without a threshold off zero no scale changes an assignment: any two ends will do.
        let ends = if most > 0.0 {
            (bounds.0 / most * 0.99, bounds.1 / least * 1.01)
        } else {
            (bounds.0, bounds.1 * 1.01)
        };
        let (from, to) = (self.evaluate(ends.0), self.evaluate(ends.1));
        let mut open = BinaryHeap::from(vec![interval((ends.0, from), (ends.1, to))]);
        while let Some(next) = open.pop() {
            if next.bound <= self.best.gain * (1.0 + 1e-13) {
                break;
            }
            let middle = (next.from.0 * next.to.0).sqrt();
            let splits = middle > next.from.0 && middle < next.to.0;
            if !splits || self.breakpoints(next.from.0, next.to.0) <= LEAF {
                self.walk(&next);
            } else {
                let sums = self.evaluate(middle);
                open.push(interval(next.from, (middle, sums)));
                open.push(interval((middle, sums), next.to));
            }
        }
    }

    /// A and B at scale s, remembered if they gain most.
    fn evaluate(&mut self, s: f64) -> Sums {
        let mut sums = Sums { a: 0.0, b: 0.0 };
        let mut from = 0;
        for (k, level) in self.levels.iter().enumerate() {
            let end = self.sorted.values.len();
            let to = self.thresholds.get(k).map_or(end, |t| self.sorted.index(t * s));
            let [h, hw] = self.sorted.sums(from, to);
            sums.a += level * hw;
            sums.b += level * level * h;
            from = to;
        }
        self.remember(sums);
        sums
    }

    fn remember(&mut self, sums: Sums) {
        if sums.gain() > self.best.gain {
            self.best = Optimum { scale: sums.a / sums.b, gain: sums.gain() };
        }
    }

    /// The weights that cross threshold t as s goes from `from` to `to`.
    fn crossing(&self, t: f64, from: f64, to: f64) -> std::ops::Range<usize> {
        let (a, b) = (self.sorted.index(t * from), self.sorted.index(t * to));
        a.min(b)..a.max(b)
    }

    fn breakpoints(&self, from: f64, to: f64) -> usize {
        self.thresholds.iter().map(|&t| self.crossing(t, from, to).len()).sum()
    }

    fn walk(&mut self, interval: &Interval) {
        let mut events = vec![];
        for (k, &t) in self.thresholds.iter().enumerate().filter(|(_, t)| **t != 0.0) {
            let crossing = self.crossing(t, interval.from.0, interval.to.0);
            events.extend(crossing.map(|i| (self.sorted.values[i] / t, i, k)));
        }
        events.sort_by(|x, y| x.0.total_cmp(&y.0));
        let mut sums = interval.from.1;
        for (_, i, k) in events {
            let (h, w) = (self.sorted.importance[i], self.sorted.values[i]);
            // Towards zero: down from level k + 1 above it, up from level k below it.
            let (old, new) = if w > 0.0 { (k + 1, k) } else { (k, k + 1) };
            let (old, new) = (self.levels[old], self.levels[new]);
            sums.a += h * w * (new - old);
            sums.b += h * (new * new - old * old);
            self.remember(sums);
        }
    }
}

fn interval(from: (f64, Sums), to: (f64, Sums)) -> Interval {
    let bound = if from.1.a <= 0.0 {
        0.0
    } else if to.1.b <= 0.0 {
        f64::INFINITY
    } else {
        from.1.a * from.1.a / to.1.b
    };
    Interval { bound, from, to }
}
