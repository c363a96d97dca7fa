//! A histogram in constant memory whose bins are fixed before the first value is seen.
//!
//! A value's bin is its sign, its exponent and the top 9 bits of its mantissa: 512 bins an octave, so that every bin is
//! narrower than 0.2 % of its values, whatever the scale. Counts only add, so the histogram of a stream does not
//! depend on the order in which parts of it were seen. Octaves are stored once a value falls into them: 4 KiB each.

/// Bins per octave, a power of two.
const BINS: usize = 512;
const MANTISSA_SHIFT: u32 = 23 - 9;
/// Octave number of f32 values below 2^-64: they count as zero.
const LOWEST_EXPONENT: usize = 127 - 64;

/// Lower edge, upper edge, count.
pub(crate) type Bin = (f64, f64, u64);

/// Counts of values by relative magnitude.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Per sign and exponent (the top 9 bits of an f32): counts, once needed.
    octaves: Vec<Option<Box<[u64; BINS]>>>,
    zeros: u64,
}

impl Histogram {
    /// Counts every finite value; NaN and infinities are left out (observers refuse them beforehand).
    pub fn add(&mut self, values: &[f32]) {
        if self.octaves.is_empty() {
            self.octaves = vec![None; 512];
        }
        for &value in values {
            let bits = value.to_bits();
            let octave = (bits >> 23) as usize;
            match octave & 0xFF {
                0xFF => {}
                exponent if exponent < LOWEST_EXPONENT => self.zeros += 1,
                _ => {
                    let counts = self.octaves[octave].get_or_insert_with(|| Box::new([0; BINS]));
                    counts[(bits >> MANTISSA_SHIFT) as usize & (BINS - 1)] += 1;
                }
            }
        }
    }

    /// Adds another histogram's counts.
    pub fn merge(&mut self, other: &Histogram) {
        self.zeros += other.zeros;
        if self.octaves.is_empty() {
            self.octaves.clone_from(&other.octaves);
            return;
        }
        for (mine, theirs) in self.octaves.iter_mut().zip(&other.octaves) {
            match (mine.as_mut(), theirs) {
                (Some(mine), Some(theirs)) => {
                    mine.iter_mut().zip(theirs.iter()).for_each(|(a, b)| *a += b);
                }
                (None, Some(theirs)) => *mine = Some(theirs.clone()),
                (_, None) => {}
            }
        }
    }

    /// Number of values counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.zeros + self.octaves.iter().flatten().flat_map(|o| o.iter()).sum::<u64>()
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
        let mut octaves =
            self.octaves.iter().enumerate().filter_map(|(i, o)| Some((i, o.as_ref()?)));
        let (positive, negative): (Vec<_>, Vec<_>) = octaves.by_ref().partition(|&(i, _)| i < 256);
        for (octave, counts) in negative.into_iter().rev() {
            for (bin, &count) in counts.iter().enumerate().rev().filter(|&(_, &c)| c > 0) {
                bins.push((-edge(octave, bin + 1), -edge(octave, bin), count));
            }
        }
        if self.zeros > 0 {
            bins.push((0.0, 0.0, self.zeros));
        }
        for (octave, counts) in positive {
            for (bin, &count) in counts.iter().enumerate().filter(|&(_, &c)| c > 0) {
                bins.push((edge(octave, bin), edge(octave, bin + 1), count));
            }
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
