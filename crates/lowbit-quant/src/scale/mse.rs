//! The scale of least squared error for fixed levels: exact, by branch and bound over the breakpoints.
//!
//! With scale s a weight w takes the level ℓ(w/s), which changes only at the breakpoints s = w/t, t a threshold of w's
//! sign. While no weight changes level, the error Σh(w - sℓ)² = Σhw² - 2sA + s²B, A = Σhwℓ, B = Σhℓ², is least at s =
//! A/B, where it is Σhw² - A²/B. So the optimum is the largest gain 2sA - s²B, which is A²/B at an s that fits its own
//! assignment. Both A and B fall as s grows (levels shrink towards 0), hence no scale s in [a, b] gains more than
//! 2sA(a) - s²B(b), largest at A(a)/B(b) or at the end next to it:
//!
//! ```text
//! intervals = [(smallest breakpoint, largest breakpoint)]
//! take the interval of the largest bound, until that is no more than the best gain found:
//!     few breakpoints inside: sort them, walk through, updating A and B at each
//!     otherwise: split at the geometric mean, evaluate A and B there
//! ```
//!
//! For n weights and k levels there are n·k/2 breakpoints. An evaluation costs O(k log n) by prefix sums over the
//! sorted weights; up to [`LEAF`] breakpoints are sorted at once, more are bisected around the optimum.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::rc::Rc;

use crate::Levels;
use crate::sorted::Sorted;

/// Breakpoints that are sorted rather than bisected.
const LEAF: usize = 1024;

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

/// A scale, how many weights lie below each threshold there, and the sums of that assignment.
struct Cut {
    scale: f64,
    below: Vec<usize>,
    sums: Sums,
}

impl Cut {
    /// The weights that cross threshold k on the way to another cut.
    fn crossing(&self, other: &Cut, k: usize) -> Range<usize> {
        self.below[k].min(other.below[k])..self.below[k].max(other.below[k])
    }
}

/// The scales between two cuts, into which no search has looked, and the most they can gain.
struct Interval {
    bound: f64,
    from: Rc<Cut>,
    to: Rc<Cut>,
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
        self.bound.total_cmp(&other.bound).then(other.from.scale.total_cmp(&self.from.scale))
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
        let from = self.cut(ends.0, |_| 0..self.sorted.values.len());
        let to = self.cut(ends.1, |_| 0..self.sorted.values.len());
        self.remember(from.sums);
        self.remember(to.sums);
        let mut open = BinaryHeap::from(vec![interval(&Rc::new(from), &Rc::new(to))]);
        while let Some(next) = open.pop() {
            if next.bound <= self.best.gain * (1.0 + 1e-13) {
                break;
            }
            let (from, to) = (&next.from, &next.to);
            let middle = (from.scale * to.scale).sqrt();
            let splits = middle > from.scale && middle < to.scale;
            let breakpoints: usize =
                (0..self.thresholds.len()).map(|k| from.crossing(to, k).len()).sum();
            if !splits || breakpoints <= LEAF {
                self.walk(from, to);
            } else {
                let middle = Rc::new(self.cut(middle, |k| from.crossing(to, k)));
                self.remember(middle.sums);
                open.push(interval(from, &middle));
                open.push(interval(&middle, to));
            }
        }
    }

    /// The assignment at scale s; `within` says between which weights threshold k can be.
    fn cut(&self, s: f64, within: impl Fn(usize) -> Range<usize>) -> Cut {
        let mut sums = Sums { a: 0.0, b: 0.0 };
        let mut below = Vec::with_capacity(self.thresholds.len());
        let mut from = 0;
        for (k, level) in self.levels.iter().enumerate() {
            let to = match self.thresholds.get(k) {
                Some(t) => {
                    let range = within(k);
                    let values = &self.sorted.values[range.clone()];
                    below.push(range.start + values.partition_point(|&w| w < t * s));
                    below[k]
                }
                None => self.sorted.values.len(),
            };
            let [h, hw] = self.sorted.sums(from, to);
            sums.a += level * hw;
            sums.b += level * level * h;
            from = to;
        }
        Cut { scale: s, below, sums }
    }

    fn remember(&mut self, sums: Sums) {
        if sums.gain() > self.best.gain {
            self.best = Optimum { scale: sums.a / sums.b, gain: sums.gain() };
        }
    }

    fn walk(&mut self, from: &Cut, to: &Cut) {
        let mut events = vec![];
        for (k, &t) in self.thresholds.iter().enumerate().filter(|(_, t)| **t != 0.0) {
            let crossing = from.crossing(to, k);
            events.extend(crossing.map(|i| (self.sorted.values[i] / t, i, k)));
        }
        events.sort_unstable_by(|x, y| x.0.total_cmp(&y.0).then((x.1, x.2).cmp(&(y.1, y.2))));
        let mut sums = from.sums;
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

fn interval(from: &Rc<Cut>, to: &Rc<Cut>) -> Interval {
    let (a, b) = (from.sums.a.max(0.0), to.sums.b);
    let s = (a / b).min(to.scale).max(from.scale);
    Interval { bound: 2.0 * s * a - s * s * b, from: Rc::clone(from), to: Rc::clone(to) }
}
