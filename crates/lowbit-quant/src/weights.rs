//! Symmetric per-channel quantization of weights.

use serde::{Deserialize, Serialize};

use crate::QuantError;
use crate::error::finite;

/// How the scale of a channel's weights is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightRule {
    /// max|w| / 127: nothing is clipped.
    MaxAbs,
    /// The scale of least squared error, found by testing every clip between 40 % and 100 % of max|w| in steps of 1 %.
    Mse,
}

impl WeightRule {
    /// The names [`WeightRule::parse`] knows.
    pub const NAMES: &'static str = "max-abs, mse";

    /// The rule of that name.
    ///
    /// # Errors
    /// `UnknownRule` lists the names.
    pub fn parse(name: &str) -> Result<Self, QuantError> {
        match name {
            "max-abs" => Ok(WeightRule::MaxAbs),
            "mse" => Ok(WeightRule::Mse),
            other => Err(QuantError::UnknownRule {
                kind: "weight rule",
                found: other.to_owned(),
                expected: Self::NAMES,
            }),
        }
    }
}

/// One scale per output channel.
pub type ChannelScales = Vec<f32>;

/// int8 codes are -127..=127: symmetric, so that zero points are 0 and products cannot lean to one side.
const LIMIT: f32 = 127.0;

/// One scale per row of `weight` ([channels, elements per channel]). A row of zeros gets scale 1.
///
/// # Errors
/// `NotFinite` when a weight is NaN or infinite.
pub fn channel_scales(
    weight: &[f32],
    channels: usize,
    rule: WeightRule,
) -> Result<ChannelScales, QuantError> {
    finite(weight)?;
    let per_channel = weight.len() / channels.max(1);
    Ok(weight
        .chunks(per_channel.max(1))
        .map(|row| match rule {
            WeightRule::MaxAbs => max_abs_scale(row),
            WeightRule::Mse => mse_scale(row),
        })
        .collect())
}

fn max_abs_scale(row: &[f32]) -> f32 {
    let scale = row.iter().fold(0.0f32, |m, w| m.max(w.abs())) / LIMIT;
    if scale < f32::MIN_POSITIVE { 1.0 } else { scale }
}

fn mse_scale(row: &[f32]) -> f32 {
    let full = max_abs_scale(row);
    let error = |scale: f32| -> f64 {
        let term = |&w: &f32| f64::from(w - code(w, scale) * scale).powi(2);
        row.iter().map(term).sum()
    };
    let candidates = (40u8..=100).rev().map(|percent| full * f32::from(percent) / 100.0);
    let best = candidates.map(|s| (error(s), s)).min_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or(full, |(_, scale)| scale)
}

fn code(w: f32, scale: f32) -> f32 {
    (w / scale).round_ties_even().clamp(-LIMIT, LIMIT)
}

/// int8 codes of `weight` ([channels, elements per channel]), rounded to nearest.
#[must_use]
pub fn quantize_channels(weight: &[f32], scales: &[f32]) -> Vec<i8> {
    let per_channel = weight.len() / scales.len().max(1);
    let rows = weight.chunks(per_channel.max(1)).zip(scales);
    rows.flat_map(|(row, &scale)| row.iter().map(move |&w| code(w, scale) as i8)).collect()
}
