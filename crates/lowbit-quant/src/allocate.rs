//! Bits of channels: wide channels get more, the mean is kept.

use crate::QuantError;
use crate::error::{bits_within, finite, length, setting};

/// A bit width for each channel that minimizes the expected rounding error Σ α_i²/(3·4^(M_i)) for the clips α_i, with Σ
/// M_i = n·M and every M_i in `least..=most`: M_i ≈ M + log2(α_i / geometric mean of α) (ACIQ, Banner et al. 2019,
/// arXiv:1810.05723).
///
/// Bits are given one by one to the channel of the largest error left, the first of equals: since each further bit
/// saves less, that is the optimum. Differs from the paper, which keeps the number of levels, and so finds α^(2/3).
///
/// # Errors
/// `Length` without clips, `NotFinite`, `Setting` for a negative clip, `Bits` unless least ≤ M ≤ most ≤ 16.
pub fn allocate_channel_bits(
    clips: &[f32],
    mean_bits: u8,
    least: u8,
    most: u8,
) -> Result<Vec<u8>, QuantError> {
    length("clips", clips.len().min(1), 1)?;
    finite(clips)?;
    let smallest = clips.iter().copied().fold(0.0, f32::min);
    setting("clip", f64::from(smallest), smallest >= 0.0, "at least 0")?;
    bits_within(most, 0..=16, "at most 16")?;
    bits_within(mean_bits, least..=most, "between the least and the most")?;
    let mut bits = vec![least; clips.len()];
    let error = |i: usize, bits: &[u8]| f64::from(clips[i]) / f64::from(1u32 << bits[i]);
    for _ in 0..clips.len() * usize::from(mean_bits - least) {
        let open = (0..clips.len()).rev().filter(|&i| bits[i] < most);
        let worst = open.max_by(|&a, &b| error(a, &bits).total_cmp(&error(b, &bits)));
        worst.into_iter().for_each(|i| bits[i] += 1);
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_follow_the_logarithm_of_the_clip() {
        let bits = allocate_channel_bits(&[1.0, 2.0, 4.0, 0.5, 0.25, 1.0], 4, 1, 8).unwrap();
        assert_eq!(bits, [4, 5, 6, 3, 2, 4]);
        assert_eq!(allocate_channel_bits(&[1.0, 1e6], 4, 2, 6).unwrap(), [2, 6]);
        assert_eq!(allocate_channel_bits(&[0.0, 0.0], 3, 1, 8).unwrap().iter().sum::<u8>(), 6);
        assert!(allocate_channel_bits(&[1.0], 9, 1, 8).is_err());
        assert!(allocate_channel_bits(&[], 4, 1, 8).is_err());
    }

    #[test]
    fn no_other_allocation_of_the_same_mean_errs_less() {
        let clips = [0.3f32, 1.7, 0.9, 2.4];
        let error = |bits: &[u8]| -> f64 {
            clips.iter().zip(bits).map(|(&a, &m)| f64::from(a).powi(2) / 4f64.powi(m.into())).sum()
        };
        let found = error(&allocate_channel_bits(&clips, 3, 1, 6).unwrap());
        for code in 0..6u32.pow(4) {
            let bits: Vec<u8> = (0..4).map(|i| (code / 6u32.pow(i) % 6) as u8 + 1).collect();
            assert!(bits.iter().sum::<u8>() != 12 || error(&bits) >= found * 0.999_999, "{bits:?}");
        }
    }
}
