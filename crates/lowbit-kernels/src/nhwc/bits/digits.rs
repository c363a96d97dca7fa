//! Weights as sums of planes of -1, 0 and 1, as far as there are powers of two.

use super::WORD;
use crate::nhwc::panels::Panel;
use crate::nhwc::spec::ConvSpec;

/// Weights as `unit * sum(2^p * digit[p])`, all digits in -1, 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digits {
    /// The greatest power of two that divides all weights.
    pub(super) unit: u8,
    /// At least one.
    pub(super) planes: usize,
    /// Whether any digit is 0; else all are -1 or 1.
    pub(super) masked: bool,
}

impl Digits {
    /// The least planes for `weights`.
    pub(super) fn of(weights: &[i8]) -> Self {
        let zeros = weights.iter().map(|weight| weight.trailing_zeros()).min().unwrap_or(0);
        // A byte of 0 has 8 of them.
        let unit = if zeros < 8 { 1 << zeros } else { 1 };
        let most = weights.iter().map(|weight| weight.unsigned_abs() / unit).max().unwrap_or(0);
        let planes = most.max(1).ilog2() as usize + 1;
        let masked = weights.iter().any(|weight| weight.unsigned_abs() / unit % 2 == 0);
        Self { unit, planes, masked }
    }

    /// Words of each plane: signs, and where any digit is 0 the bits that are not.
    pub(super) fn words(self) -> usize {
        if self.masked { 2 } else { 1 }
    }

    /// Digit `plane` of a weight. Without zeros, the digits of an odd number are the bits of its half, rounded up, above the least.
    pub(super) fn digit(self, weight: i8, plane: usize) -> i8 {
        let multiple = i32::from(weight) / i32::from(self.unit);
        if self.masked {
            let bit = multiple.unsigned_abs() >> plane & 1;
            return multiple.signum() as i8 * bit as i8;
        }
        let raised = (multiple + (1 << self.planes) - 1) / 2;
        if raised >> plane & 1 == 1 { 1 } else { -1 }
    }

    /// `[panel][plane][word of the inner dimension][signs, mask][lane]`.
    pub(super) fn pack(self, spec: &ConvSpec, weights: &[i8], panels: &[Panel]) -> Vec<u32> {
        let (channels, taps) = (spec.input.channels, spec.kernel[0] * spec.kernel[1]);
        let mut words = Vec::new();
        for panel in panels {
            for plane in 0..self.planes {
                for tap in 0..taps {
                    for first in (0..channels).step_by(WORD) {
                        for mask in 0..self.words() {
                            words.extend((0..panel.columns).map(|lane| {
                                if lane >= panel.outputs {
                                    return 0;
                                }
                                (first..channels.min(first + WORD)).fold(0, |word, channel| {
                                    let output = panel.output + lane;
                                    let at = (output * channels + channel) * taps + tap;
                                    let digit = self.digit(weights[at], plane);
                                    let bit = if mask == 1 { digit != 0 } else { digit > 0 };
                                    word | u32::from(bit) << (channel - first)
                                })
                            }));
                        }
                    }
                }
            }
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::Digits;

    #[test]
    fn digits_make_up_each_weight() {
        let sets: [(&[i8], usize, bool); 8] = [
            (&[-1, 1], 1, false),
            (&[-64, 0, 64], 1, true),
            (&[-3, -1, 1, 3], 2, false),
            (&[-2, -1, 0, 1], 2, true),
            (&[-12, 4, 8], 2, true),
            (&[-15, 1, 7, -9], 4, false),
            (&[-128, -64, 0, 64], 2, true),
            (&[0, 0], 1, true),
        ];
        for (weights, planes, masked) in sets {
            let digits = Digits::of(weights);
            for &weight in weights {
                let sum: i32 = (0..digits.planes)
                    .map(|plane| i32::from(digits.digit(weight, plane)) << plane)
                    .sum();
                assert_eq!(sum * i32::from(digits.unit), weight.into(), "{digits:?}");
            }
            assert_eq!((digits.planes, digits.masked), (planes, masked), "{weights:?}");
        }
    }
}
