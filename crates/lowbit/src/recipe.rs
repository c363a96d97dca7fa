//! What is done to a model: plain data, by name or from a file.

use std::path::Path;

use lowbit_quant::{RangeRule, WeightRule};
use serde::{Deserialize, Serialize};

use crate::Error;

/// How a model is quantized to int8. In a TOML file every key may be left out:
///
/// ```toml
/// activations = { rule = "percentile", percent = 99.99 }   # or min-max, moving-average, mse, kl
/// weights = "mse"                                          # or max-abs
/// bias_correction = true
/// channel_scales = true
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// How activation ranges are chosen.
    pub activations: RangeRule,
    /// How weight scales are chosen.
    pub weights: WeightRule,
    /// Whether biases take back the mean shift that quantization causes in each channel.
    pub bias_correction: bool,
    /// Whether activations get a scale per channel where their neighbours absorb it.
    pub channel_scales: bool,
}

/// Bytes a recipe file may have: it is four lines.
const FILE_BYTES_MAX: u64 = 1 << 16;

impl Recipe {
    /// The name of the built-in recipe, as it appears in file names and results.
    pub const NAME: &'static str = "int8";

    /// The recipe of that name, or in that file, with the name it goes by.
    ///
    /// # Errors
    /// `Recipe` names the file, line and key, or the names there are.
    pub fn open(name_or_file: &str) -> Result<(String, Recipe), Error> {
        let path = Path::new(name_or_file);
        if name_or_file == Recipe::NAME {
            return Ok((Recipe::NAME.to_owned(), Recipe::default()));
        }
        let wrong = |message: String| Error::Recipe { place: name_or_file.to_owned(), message };
        let size = std::fs::metadata(path).map_err(|e| {
            wrong(format!("neither a file ({e}) nor a recipe; the one there is: {}", Recipe::NAME))
        })?;
        if size.len() > FILE_BYTES_MAX {
            return Err(wrong(format!("{} bytes, expected at most {FILE_BYTES_MAX}", size.len())));
        }
        let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok((stem.into_owned(), Recipe::from_toml(&text, name_or_file)?))
    }

    /// Reads the text of a recipe file; `file` names it in errors.
    ///
    /// # Errors
    /// `Recipe` names the line and what is wrong with it.
    pub fn from_toml(text: &str, file: &str) -> Result<Recipe, Error> {
        let recipe: Recipe = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..start].iter().filter(|&&b| b == b'\n').count() + 1;
            Error::Recipe {
                place: format!("{file} line {line}"),
                message: error.message().replace('\n', " "),
            }
        })?;
        recipe.validated(file)
    }

    /// Refuses settings outside their range.
    fn validated(self, file: &str) -> Result<Recipe, Error> {
        let wrong = |message: String| Error::Recipe { place: file.to_owned(), message };
        match self.activations {
            RangeRule::Percentile { percent } if !(percent > 50.0 && percent <= 100.0) => {
                Err(wrong(format!("percent: found {percent}, expected more than 50, at most 100")))
            }
            RangeRule::MovingAverage { momentum } if !(momentum > 0.0 && momentum <= 1.0) => {
                Err(wrong(format!("momentum: found {momentum}, expected more than 0, at most 1")))
            }
            _ => Ok(self),
        }
    }
}

impl Default for Recipe {
    fn default() -> Self {
        Recipe {
            activations: RangeRule::Mse,
            weights: WeightRule::MaxAbs,
            bias_correction: true,
            channel_scales: true,
        }
    }
}

#[cfg(test)]
mod tests;
