//! A histogram in constant memory whose bins are fixed before the first value is seen.
//!
//! A value's bin is its sign, its exponent and the top 9 bits of its mantissa: 512 bins an octave, so that every bin is
//! narrower than 0.2 % of its values, whatever the scale. Counts only add, so the histogram of a stream does not
//! depend on the order in which parts of it were seen. Octaves are stored once a value falls into them: 2 KiB each, 6 once merged.

use std::ops::Range;

/// Bins per octave, a power of two.
const BINS: usize = 512;
const MANTISSA_SHIFT: u32 = 23 - 9;
/// Octave number of f32 values below 2^-64: they count as zero.
const LOWEST_EXPONENT: usize = 127 - 64;
const OCTAVES: usize = 1 << 9;
/// Values that are counted side by side.
const LANES: usize = 8;
/// Values that 32 bits can count.
const MOST_RECENT: usize = u32::MAX as usize;

/// Lower edge, upper edge, count.
pub(crate) type Bin = (f64, f64, u64);

/// Counts of values by relative magnitude.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// Per sign and exponent: the top 9 bits of an f32.
    octaves: Box<[Octave; OCTAVES]>,
    /// Of zeros, of what is left out, then of each octave that was needed. Many histograms take turns, and narrow counts of more of them
    /// stay in a cache.
    recent: Vec<u32>,
    /// Values in `recent`.
    seen: usize,
    /// What was counted before, laid out alike as far as it goes.
    before: Vec<u64>,
}

/// Where the counts of an octave are.
#[derive(Clone, Copy, Debug)]
struct Octave {
    start: u32,
    /// The bits of a bin's number that the value gives. Its place in the slice gives the others, so that equal values, of which zeros are
    /// many, do not wait for each other's count.
    own: u32,
}

impl Octave {
    /// Nothing was counted.
    const ABSENT: Self = Self { start: u32::MAX, own: BINS as u32 - 1 };
    const ZEROS: Self = Self { start: 0, own: 0 };
    /// NaN and infinities.
    const LEFT_OUT: Self = Self { start: LANES as u32, own: 0 };

    fn is_absent(self) -> bool {
        self.start == Self::ABSENT.start
    }

    fn bins(self) -> Range<usize> {
        self.start as usize..self.start as usize + BINS
    }
}

/// Counts values up to the first whose octave is absent; gives its place and the octave's number. No branch depends on a value beside that
/// one: which are zeros cannot be foretold.
fn count(
    octaves: &[Octave; OCTAVES],
    counts: &mut [u32],
    values: &[f32],
) -> Option<(usize, usize)> {
    for (at, &value) in values.iter().enumerate() {
        let bits = value.to_bits();
        let number = (bits >> 23) as usize;
        let octave = octaves[number];
        if octave.is_absent() {
            return Some((at, number));
        }
        let bin = (bits >> MANTISSA_SHIFT) & octave.own | (at % LANES) as u32 & !octave.own;
        counts[(octave.start + bin) as usize] += 1;
    }
    None
}

impl Histogram {
    /// Counts every finite value; NaN and infinities are left out (observers refuse them beforehand).
    pub fn add(&mut self, values: &[f32]) {
        for mut values in values.chunks(MOST_RECENT) {
            if self.seen > MOST_RECENT - values.len() {
                self.spill();
            }
            self.seen += values.len();
            while let Some((at, number)) = count(&self.octaves, &mut self.recent, values) {
                self.make_room(number);
                values = &values[at..];
            }
        }
    }

    fn make_room(&mut self, number: usize) {
        let start = u32::try_from(self.recent.len()).expect("counts of 512 octaves");
        self.recent.resize(self.recent.len() + BINS, 0);
        self.octaves[number].start = start;
    }

    /// Begins anew with narrow counts.
    fn spill(&mut self) {
        self.before.resize(self.recent.len(), 0);
        for (before, recent) in self.before.iter_mut().zip(&mut self.recent) {
            *before += u64::from(std::mem::take(recent));
        }
        self.seen = 0;
    }

    fn counted(&self, places: Range<usize>) -> impl DoubleEndedIterator<Item = u64> {
        places.map(|at| u64::from(self.recent[at]) + self.before.get(at).copied().unwrap_or(0))
    }

    fn zeros(&self) -> u64 {
        self.counted(0..LANES).sum()
    }

    /// The octaves that have bins, and their numbers.
    fn filled(&self) -> impl DoubleEndedIterator<Item = (usize, Octave)> {
        let octaves = self.octaves.iter().copied().enumerate();
        octaves.filter(|(_, octave)| octave.own != 0 && !octave.is_absent())
    }

    /// Adds another histogram's counts.
    pub fn merge(&mut self, other: &Histogram) {
        for (number, _) in other.filled() {
            if self.octaves[number].is_absent() {
                self.make_room(number);
            }
        }
        self.spill();
        let octaves =
            other.filled().map(|(number, theirs)| (self.octaves[number].bins(), theirs.bins()));
        let ends = (0..2 * LANES, 0..2 * LANES);
        for (mine, theirs) in octaves.chain([ends]) {
            let counts = self.before[mine].iter_mut().zip(other.counted(theirs));
            counts.for_each(|(mine, theirs)| *mine += theirs);
        }
    }

    /// Number of values counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        let octaves = self.filled().flat_map(|(_, octave)| self.counted(octave.bins()));
        self.zeros() + octaves.sum::<u64>()
    }

    /// The bins that hold anything, in ascending order of value: (lower edge, upper edge, count). Zero is a bin of its own.
    #[must_use]
    pub(crate) fn bins(&self) -> Vec<Bin> {
        let mut bins = Vec::new();
        let edge = |octave: usize, bin: usize| {
            let bits = (octave as u64) << 23 | (bin as u64) << MANTISSA_SHIFT;
            // One past the last bin of an octave is the first of the next.
            f64::from(f32::from_bits(u32::try_from(bits & 0x7FFF_FFFF).expect("31 bits")))
        };
        let counted = |octave: Octave| {
            (0..BINS).zip(self.counted(octave.bins())).filter(|&(_, count)| count > 0)
        };
        let (positive, negative): (Vec<_>, Vec<_>) =
            self.filled().partition(|&(number, _)| number < OCTAVES / 2);
        for (number, octave) in negative.into_iter().rev() {
            let from_the_end = counted(octave).collect::<Vec<_>>().into_iter().rev();
            bins.extend(
                from_the_end
                    .map(|(bin, count)| (-edge(number, bin + 1), -edge(number, bin), count)),
            );
        }
        if self.zeros() > 0 {
            bins.push((0.0, 0.0, self.zeros()));
        }
        for (number, octave) in positive {
            bins.extend(
                counted(octave)
                    .map(|(bin, count)| (edge(number, bin), edge(number, bin + 1), count)),
            );
        }
        bins
    }

    /// As [`Histogram::bins`], with values beyond `limits` counted at the limit.
    #[must_use]
    pub(crate) fn bins_within(&self, limits: (f32, f32)) -> Vec<Bin> {
        let (low, high) = (f64::from(limits.0), f64::from(limits.1));
        let clip = |x: f64| x.max(low).min(high);
        self.bins().into_iter().map(|(from, to, count)| (clip(from), clip(to), count)).collect()
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        let of = |number: usize| match number & 0xFF {
            0xFF => Octave::LEFT_OUT,
            exponent if exponent < LOWEST_EXPONENT => Octave::ZEROS,
            _ => Octave::ABSENT,
        };
        Histogram {
            octaves: Box::new(std::array::from_fn(of)),
            recent: vec![0; 2 * LANES],
            seen: 0,
            before: vec![],
        }
    }
}

impl PartialEq for Histogram {
    fn eq(&self, other: &Histogram) -> bool {
        self.bins() == other.bins()
    }
}

#[cfg(test)]
mod tests {
    use super::Histogram;

    #[test]
    fn what_was_counted_before_stays() {
        let values = [[0.0, 1.5, -2.0, f32::NAN, 1e-30], [3.0, -0.0, f32::INFINITY, 1.5, -2.0]];
        let (mut spilled, mut whole) = (Histogram::default(), Histogram::default());
        for values in values {
            spilled.add(&values);
            spilled.spill();
            whole.add(&values);
        }
        let counts: Vec<(f64, u64)> = spilled.bins().iter().map(|bin| (bin.0, bin.2)).collect();
        // A bin is as wide as a 512th of where its octave begins.
        let below = -2.0 - 2.0 / 512.0;
        assert_eq!(counts, [(below, 2), (0.0, 3), (1.5, 2), (3.0, 1)]);
        assert_eq!(spilled, whole);
        assert_eq!(spilled.count(), 8);
        whole.merge(&spilled);
        assert_eq!(whole.count(), 16);
        assert_eq!(whole.bins().len(), 4);
    }
}
