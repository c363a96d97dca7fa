//! Recipes as typed: a TOML file whose keys change a named recipe. Every error names the line.
//!
//! ```toml
//! base = "w4a8"                     # the recipe that the rest changes; int8 when left out
//! weights = "int4-mse"              # a named quantizer, or a table (below)
//! channel_scales = true
//! importance = "activations"        # of weights, where their scale rule takes one
//! shared_codebook = true            # one for all layers with these weights
//! calibration = "distilled"         # images, distilled (a table: images, iterations, rate, slack), statistics
//!
//! [activations]
//! bits = 4
//! rule = "percentile"               # min-max, moving-average (momentum), percentile (percent), mse, kl
//! percent = 99.99
//!
//! [ends]                            # the first and the last layer
//! weights = "int8"
//! activation_bits = 8
//!
//! [[layers]]                        # layers that differ
//! kind = "depthwise"                # or name = "*/conv1/*"
//! weights = { quantizer = "int4-mse", granularity = { per = "group", size = 32 } }
//!
//! [[steps]]                         # these take the place of the base's
//! step = "bias-correction"
//! [[steps]]
//! step = "adaround"
//! iterations = 500
//! ```

mod steps;

use lowbit_quant::{
    GradientRule, Granularity, Grid, Quantizer, RangeRule, Rounding, ScaleRule, ZeroPoint,
};
use serde::Deserialize;
use toml::Spanned;

use super::{Distilled, Importance, LayerKind, LayerRecipe, Override, Recipe, Source, Step, Which};
use crate::Error;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecipeFile {
    base: Option<Spanned<String>>,
    activations: Option<Spanned<ActivationsFile>>,
    channel_scales: Option<bool>,
    bias_correction: Option<Spanned<bool>>,
    calibration: Option<Spanned<CalibrationFile>>,
    weights: Option<Spanned<WeightsFile>>,
    importance: Option<Spanned<Importance>>,
    shared_codebook: Option<Spanned<bool>>,
    ends: Option<EndsFile>,
    layers: Option<Vec<Spanned<LayerFile>>>,
    steps: Option<Vec<Spanned<toml::Table>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActivationsFile {
    bits: Option<u8>,
    rule: Option<String>,
    momentum: Option<f32>,
    percent: Option<f64>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected the name of a quantizer, or a table of quantizer, grid, granularity, scale, \
    zero_point, rounding and gradient"
)]
enum WeightsFile {
    Named(String),
    Table(Box<QuantizerFile>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QuantizerFile {
    quantizer: Option<String>,
    grid: Option<Grid>,
    granularity: Option<Granularity>,
    scale: Option<ScaleRule>,
    zero_point: Option<ZeroPoint>,
    rounding: Option<Rounding>,
    gradient: Option<GradientRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndsFile {
    same: Option<Spanned<bool>>,
    weights: Option<Spanned<WeightsFile>>,
    activation_bits: Option<Spanned<u8>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LayerFile {
    name: Option<String>,
    kind: Option<LayerKind>,
    weights: Option<Spanned<WeightsFile>>,
    activation_bits: Option<Spanned<u8>>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected \"images\", \"distilled\", \"statistics\", or a table of images, iterations, rate and slack"
)]
enum CalibrationFile {
    Named(String),
    Distilled(DistilledFile),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DistilledFile {
    images: Option<usize>,
    iterations: Option<usize>,
    rate: Option<f32>,
    slack: Option<f32>,
}

/// Where an error is, and how to say it.
struct Place<'a> {
    text: &'a str,
    file: &'a str,
}

impl Place<'_> {
    fn wrong(&self, at: usize, message: impl Into<String>) -> Error {
        let start = at.min(self.text.len());
        let line = self.text.as_bytes()[..start].iter().filter(|&&b| b == b'\n').count() + 1;
        Error::Recipe {
            place: format!("{} line {line}", self.file),
            message: message.into().replace('\n', " "),
        }
    }
}

/// Reads a recipe file.
pub(super) fn parse(text: &str, file: &str) -> Result<Recipe, Error> {
    let place = Place { text, file };
    let typed: RecipeFile = toml::from_str(text)
        .map_err(|e| place.wrong(e.span().map_or(0, |span| span.start), e.message()))?;
    let mut recipe = match &typed.base {
        None => Recipe::default(),
        Some(base) => {
            let known = super::PRESETS.iter().find(|preset| preset.name == base.get_ref());
            let wrong = || {
                place.wrong(base.span().start, format!("base: no recipe \"{}\"", base.get_ref()))
            };
            (known.ok_or_else(wrong)?.recipe)()
        }
    };
    if let Some(activations) = &typed.activations {
        let at = activations.span().start;
        set_activations(&mut recipe, activations.get_ref()).map_err(|m| place.wrong(at, m))?;
    }
    recipe.channel_scales = typed.channel_scales.unwrap_or(recipe.channel_scales);
    if let Some(weights) = &typed.weights {
        recipe.weights = quantizer(weights, &recipe.weights, &place)?;
    }
    if let Some(ends) = &typed.ends {
        recipe.ends = self::ends(ends, &recipe, &place)?;
    }
    for layer in typed.layers.iter().flatten() {
        recipe.layers.push(one_layer(layer, &recipe, &place)?);
    }
    if let Some(calibration) = &typed.calibration {
        let at = calibration.span().start;
        recipe.calibration = source(calibration.get_ref()).map_err(|m| place.wrong(at, m))?;
    }
    // Where `check` refuses, one of these is at fault.
    let mut at = 0;
    if let Some(importance) = &typed.importance {
        (recipe.importance, at) = (Some(*importance.get_ref()), importance.span().start);
    }
    if let Some(shared) = &typed.shared_codebook {
        (recipe.shared_codebook, at) = (*shared.get_ref(), shared.span().start);
    }
    match (typed.steps, typed.bias_correction) {
        (Some(_), Some(correction)) => {
            let message = "bias_correction: list bias-correction among the steps instead";
            return Err(place.wrong(correction.span().start, message));
        }
        (Some(steps), None) => steps::set(&mut recipe, steps, &place)?,
        (None, correction) => {
            correct_bias(&mut recipe, correction.map(Spanned::into_inner));
        }
    }
    recipe.check().map_err(|message| place.wrong(at, message))?;
    Ok(recipe)
}

/// Puts bias correction first among the base's steps, or takes it out.
fn correct_bias(recipe: &mut Recipe, wanted: Option<bool>) {
    match wanted {
        Some(false) => recipe.steps.retain(|step| *step != Step::BiasCorrection),
        Some(true) if !recipe.steps.contains(&Step::BiasCorrection) => {
            recipe.steps.insert(0, Step::BiasCorrection);
        }
        Some(true) | None => {}
    }
}

fn set_activations(recipe: &mut Recipe, typed: &ActivationsFile) -> Result<(), String> {
    if let Some(bits) = typed.bits {
        recipe.activation_bits = activation_bits(bits)?;
    }
    if let Some(name) = &typed.rule {
        recipe.activations = RangeRule::parse(name).map_err(|e| e.to_string())?;
    }
    match &mut recipe.activations {
        RangeRule::Percentile { percent } => {
            *percent = typed.percent.unwrap_or(*percent);
            if !(*percent > 50.0 && *percent <= 100.0) {
                return Err(format!(
                    "percent: found {percent}, expected more than 50, at most 100"
                ));
            }
        }
        RangeRule::MovingAverage { momentum } => {
            *momentum = typed.momentum.unwrap_or(*momentum);
            if !(*momentum > 0.0 && *momentum <= 1.0) {
                return Err(format!("momentum: found {momentum}, expected more than 0, at most 1"));
            }
        }
        RangeRule::MinMax | RangeRule::Mse | RangeRule::Kl => {}
    }
    let takes = |key: &str| Err(format!("{key} belongs to rule = \"{key}\" alone"));
    match recipe.activations {
        RangeRule::Percentile { .. } if typed.momentum.is_some() => takes("momentum"),
        RangeRule::MovingAverage { .. } if typed.percent.is_some() => takes("percent"),
        RangeRule::Percentile { .. } | RangeRule::MovingAverage { .. } => Ok(()),
        _ if typed.percent.is_some() => takes("percent"),
        _ if typed.momentum.is_some() => takes("momentum"),
        _ => Ok(()),
    }
}

fn source(typed: &CalibrationFile) -> Result<Source, String> {
    let Source::Distilled(usual) = Source::DISTILLED else { return Ok(Source::DISTILLED) };
    let table = match typed {
        CalibrationFile::Distilled(table) => table,
        CalibrationFile::Named(name) => {
            return match name.as_str() {
                "images" => Ok(Source::Images),
                "distilled" => Ok(Source::DISTILLED),
                "statistics" => Ok(Source::Statistics),
                _ => Err(format!(
                    "calibration: found \"{name}\", expected images, distilled or statistics"
                )),
            };
        }
    };
    let found = Distilled {
        images: table.images.unwrap_or(usual.images),
        iterations: table.iterations.unwrap_or(usual.iterations),
        rate: table.rate.unwrap_or(usual.rate),
        slack: table.slack.unwrap_or(usual.slack),
    };
    let counts = [("images", found.images), ("iterations", found.iterations)];
    if let Some((name, found)) = counts.iter().find(|(_, n)| !(1..=100_000).contains(n)) {
        return Err(format!("calibration {name}: found {found}, expected 1 to 100000"));
    }
    let rates = [("rate", found.rate, 1000.0), ("slack", found.slack, 1.0)];
    if let Some((name, found, most)) = rates.iter().find(|(_, x, most)| !(0.0..=*most).contains(x))
    {
        return Err(format!("calibration {name}: found {found}, expected 0 to {most}"));
    }
    Ok(Source::Distilled(found))
}

fn activation_bits(bits: u8) -> Result<u8, String> {
    if (2..=8).contains(&bits) {
        return Ok(bits);
    }
    Err(format!("activation bits: found {bits}, expected 2 to 8"))
}

fn quantizer(
    typed: &Spanned<WeightsFile>,
    base: &Quantizer,
    place: &Place<'_>,
) -> Result<Quantizer, Error> {
    let named = |name: &str| {
        Quantizer::preset(name).map_err(|e| place.wrong(typed.span().start, e.to_string()))
    };
    match typed.get_ref() {
        WeightsFile::Named(name) => named(name),
        WeightsFile::Table(table) => {
            let base = match &table.quantizer {
                Some(name) => named(name)?,
                None => base.clone(),
            };
            Ok(Quantizer {
                grid: table.grid.clone().unwrap_or(base.grid),
                granularity: table.granularity.unwrap_or(base.granularity),
                scale: table.scale.clone().unwrap_or(base.scale),
                zero_point: table.zero_point.unwrap_or(base.zero_point),
                rounding: table.rounding.unwrap_or(base.rounding),
                gradient: table.gradient.unwrap_or(base.gradient),
            })
        }
    }
}

fn ends(
    typed: &EndsFile,
    recipe: &Recipe,
    place: &Place<'_>,
) -> Result<Option<LayerRecipe>, Error> {
    if let Some(same) = typed.same.as_ref().filter(|same| *same.get_ref()) {
        if typed.weights.is_some() || typed.activation_bits.is_some() {
            return Err(
                place.wrong(same.span().start, "ends: same = true leaves no room for others")
            );
        }
        return Ok(None);
    }
    let mut found = recipe.ends.clone().unwrap_or(LayerRecipe {
        weights: recipe.weights.clone(),
        activation_bits: recipe.activation_bits,
    });
    if let Some(weights) = &typed.weights {
        found.weights = quantizer(weights, &found.weights, place)?;
    }
    if let Some(bits) = &typed.activation_bits {
        found.activation_bits =
            activation_bits(*bits.get_ref()).map_err(|m| place.wrong(bits.span().start, m))?;
    }
    Ok(Some(found))
}

fn one_layer(
    typed: &Spanned<LayerFile>,
    recipe: &Recipe,
    place: &Place<'_>,
) -> Result<Override, Error> {
    let layer = typed.get_ref();
    let which = match (&layer.name, layer.kind) {
        (Some(name), None) => Which::Name(name.clone()),
        (None, Some(kind)) => Which::Kind(kind),
        _ => {
            return Err(
                place.wrong(typed.span().start, "layers: expected name or kind, one of them")
            );
        }
    };
    let weights =
        layer.weights.as_ref().map(|w| quantizer(w, &recipe.weights, place)).transpose()?;
    let bits = layer.activation_bits.as_ref();
    let activation_bits = bits
        .map(|b| activation_bits(*b.get_ref()).map_err(|m| place.wrong(b.span().start, m)))
        .transpose()?;
    Ok(Override { which, weights, activation_bits })
}
