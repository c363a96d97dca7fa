//! ± sums of powers of two, each term from a set of its own: a product is a few shifts and additions.

use serde::{Deserialize, Serialize};

use super::Levels;
use crate::QuantError;
use crate::error::{bits_within, setting};

/// APoT (Li et al. 2020, arXiv:1909.13144): levels ±Σ p_i with p_i ∈ {0, 2^-i, 2^-(i+n), ..., 2^-(i+(2^k-2)n)}, here
/// multiplied by the power of two that makes them integers.
///
/// With b - 1 magnitude bits there are n = ⌊(b-1)/k⌋ terms of k bits. Where bits are left over they form one more term,
/// which takes its exponents first in the last rounds of dealing them out, as in the authors' code: sums of
/// {0, 8, 4, 1} and {0, 2} for b = 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdditivePowerOfTwo {
    /// Bits b with sign, 2..=9. Up to 6 fit i8 where k is 2.
    pub bits: u8,
    /// Bits k of a term, 1..=4: the paper takes 2.
    pub term_bits: u8,
}

impl AdditivePowerOfTwo {
    pub(super) fn levels(self) -> Result<Levels, QuantError> {
        bits_within(self.bits, 2..=9, "2..=9 for additive powers of two")?;
        let range = (1..=4).contains(&self.term_bits);
        setting("term bits", f64::from(self.term_bits), range, "1..=4")?;
        let terms = self.exponents();
        let last = terms.iter().flatten().copied().max().expect("two bits hold a term");
        let mut sums = vec![0.0f32];
        for exponents in terms {
            let powers = exponents.iter().map(|&e| 2f32.powi(last - e));
            let choices: Vec<f32> = powers.chain([0.0]).collect();
            sums = sums.iter().flat_map(|sum| choices.iter().map(move |p| sum + p)).collect();
        }
        let negative: Vec<f32> = sums.iter().map(|x| -x).collect();
        Ok(Levels::nearest([negative, sums].concat()))
    }

    /// The exponents e of each term's choices 2^-e.
    fn exponents(self) -> Vec<Vec<i32>> {
        let magnitude = self.bits - 1;
        let (full, left) = (magnitude / self.term_bits, magnitude % self.term_bits);
        let rounds = (1usize << self.term_bits) - 1;
        let late = (1usize << left) - 1;
        let mut terms = vec![Vec::new(); usize::from(full) + 1];
        let mut next = 1;
        for round in 0..rounds {
            // The left-over term is the last of the list and the first to be served once its rounds have come.
            let served = if round + late >= rounds { full + 1 } else { full };
            for i in (0..served).rev().take(usize::from(served - full)).chain(0..full) {
                terms[usize::from(i)].push(next);
                next += 1;
            }
        }
        terms.retain(|term| !term.is_empty());
        terms
    }
}
