//! The self-test: codes that a line of C makes again, and the scores they must give.

use super::exported::Exported;

/// The codes are the upper bytes of `state = state * MULTIPLIER + INCREMENT` from `SEED` (Numerical Recipes).
pub(super) const SEED: u32 = 1;
/// See [`SEED`].
pub(super) const MULTIPLIER: u32 = 1_664_525;
/// See [`SEED`].
pub(super) const INCREMENT: u32 = 1_013_904_223;

/// The bits of the scores of the codes.
#[derive(Debug)]
pub(super) struct Golden(pub(super) Vec<u32>);

impl Golden {
    pub(super) fn new(exported: &Exported) -> Golden {
        let scores = exported.run(&floats(exported));
        Golden(scores.iter().map(|score| score.to_bits()).collect())
    }
}

/// Floats whose codes are the noise.
#[expect(clippy::cast_precision_loss, reason = "codes of 8 bits are exact")]
fn floats(exported: &Exported) -> Vec<f32> {
    let how = &exported.quantize;
    let [height, width, channels] = exported.value(exported.codes).image();
    let area = height * width;
    let offset = i32::from(exported.codes_of(exported.codes).offset());
    let mut floats = vec![0.0; area * channels];
    let mut state = SEED;
    for pixel in 0..area {
        for channel in 0..channels {
            state = state.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT);
            let [.., code] = state.to_le_bytes();
            let of = if how.scales.len() == 1 { 0 } else { channel };
            let centered = i32::from(code) - how.zero_points[of] - offset;
            let at = if how.pixels { pixel * channels + channel } else { channel * area + pixel };
            floats[at] = centered as f32 * how.scales[of];
        }
    }
    floats
}
