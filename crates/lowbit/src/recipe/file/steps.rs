//! Steps as typed: each takes the keys of its algorithm and refuses all others.

use lowbit_ptq::{
    Ceiling, ChannelBits, Equalization, Gptq, Moment, OutlierSplitting, Reconstruction, Scope,
    Variable,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Spanned, Table, Value};

use super::Place;
use crate::Error;
use crate::recipe::{FloatStep, Recipe, Step};

/// The names of the steps that are no reconstruction.
const DIRECT: &str = "equalize, outlier-channel-splitting, bias-correction, empirical-bias-correction, \
    batch-norm-reestimation, channel-bits, squant, gptq";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GptqFile {
    damping: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EqualizeFile {
    ceiling: Option<Ceiling>,
    absorb: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SplittingFile {
    share: Option<f32>,
    bits: Option<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChannelBitsFile {
    least: Option<u8>,
    most: Option<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReconstructionFile {
    scope: Option<Scope>,
    variable: Option<Variable>,
    iterations: Option<usize>,
    batch: Option<usize>,
    rate: Option<f32>,
    scale_rate: Option<f32>,
    bias_rate: Option<f32>,
    step_rate: Option<f32>,
    settled: Option<f32>,
    features: Option<f32>,
    pull: Option<f32>,
    drop: Option<f32>,
    fisher: Option<bool>,
    budget_mib: Option<usize>,
}

/// A step on the float model or on the quantized one.
enum Typed {
    Float(FloatStep),
    Quantized(Step),
}

/// Puts the steps in the place of the recipe's.
///
/// # Errors
/// `Recipe` names the line of a step that is unknown, has keys it does not take, or changes the float model too late.
pub(super) fn set(
    recipe: &mut Recipe,
    typed: Vec<Spanned<Table>>,
    place: &Place<'_>,
) -> Result<(), Error> {
    recipe.float_steps.clear();
    recipe.steps.clear();
    for table in typed {
        let at = table.span().start;
        match one(table.into_inner()).map_err(|message| place.wrong(at, message))? {
            Typed::Float(step) if recipe.steps.is_empty() => recipe.float_steps.push(step),
            Typed::Float(step) => {
                let name = step.name();
                let message =
                    format!("step: {name} changes the float model: it comes before all others");
                return Err(place.wrong(at, message));
            }
            Typed::Quantized(step) => recipe.steps.push(step),
        }
    }
    Ok(())
}

/// The keys of a step, none unknown.
fn keys<T: DeserializeOwned>(name: &str, table: Table) -> Result<T, String> {
    table.try_into().map_err(|e| format!("{name}: {}", e.message()))
}

fn one(mut table: Table) -> Result<Typed, String> {
    let Some(Value::String(name)) = table.remove("step") else {
        return Err("steps: expected step = \"NAME\"".to_owned());
    };
    let name = name.as_str();
    let plain = |table, step| keys(name, table).map(|Nothing {}| Typed::Quantized(step));
    match name {
        "bias-correction" => plain(table, Step::BiasCorrection),
        "empirical-bias-correction" => plain(table, Step::Reestimate { moment: Moment::Mean }),
        "batch-norm-reestimation" => plain(table, Step::Reestimate { moment: Moment::Spread }),
        "squant" => plain(table, Step::Squant),
        "gptq" => gptq(keys(name, table)?),
        "equalize" => Ok(equalize(&keys(name, table)?)),
        "outlier-channel-splitting" => splitting(&keys(name, table)?),
        "channel-bits" => channel_bits(&keys(name, table)?),
        _ => match Reconstruction::named(name) {
            Some(settings) => reconstruction(settings, keys(name, table)?),
            None => Err(format!(
                "step: found \"{name}\", expected {DIRECT} or one of {}",
                Reconstruction::NAMES
            )),
        },
    }
}

fn gptq(typed: GptqFile) -> Result<Typed, String> {
    let damping = typed.damping.unwrap_or(Gptq::PAPER.damping);
    if !(damping > 0.0 && damping <= 1.0) {
        return Err(format!("damping: found {damping}, expected more than 0, at most 1"));
    }
    Ok(Typed::Quantized(Step::Gptq(Gptq { damping })))
}

fn equalize(typed: &EqualizeFile) -> Typed {
    let Equalization { ceiling, absorb } = Equalization::DFQ;
    Typed::Float(FloatStep::Equalize(Equalization {
        ceiling: typed.ceiling.unwrap_or(ceiling),
        absorb: typed.absorb.unwrap_or(absorb),
    }))
}

fn splitting(typed: &SplittingFile) -> Result<Typed, String> {
    let OutlierSplitting { share, bits } = OutlierSplitting::USUAL;
    let share = typed.share.unwrap_or(share);
    if !(0.0..=1.0).contains(&share) {
        return Err(format!("share: found {share}, expected 0 to 1"));
    }
    let bits = weight_bits("bits", typed.bits.unwrap_or(bits))?;
    Ok(Typed::Float(FloatStep::SplitOutliers(OutlierSplitting { share, bits })))
}

fn channel_bits(typed: &ChannelBitsFile) -> Result<Typed, String> {
    let ChannelBits { least, most } = ChannelBits::USUAL;
    let least = weight_bits("least", typed.least.unwrap_or(least))?;
    let most = weight_bits("most", typed.most.unwrap_or(most))?;
    Ok(Typed::Quantized(Step::AllocateBits(ChannelBits { least, most })))
}

fn weight_bits(key: &str, bits: u8) -> Result<u8, String> {
    match bits {
        1..=16 => Ok(bits),
        _ => Err(format!("{key}: found {bits}, expected 1 to 16")),
    }
}

fn reconstruction(settings: Reconstruction, typed: ReconstructionFile) -> Result<Typed, String> {
    let scope = typed.scope.unwrap_or(settings.scope);
    if typed.budget_mib.is_some() && scope == Scope::Network {
        return Err("budget_mib: a network keeps no inputs and targets".to_owned());
    }
    let settings = Reconstruction {
        scope,
        variable: typed.variable.unwrap_or(settings.variable),
        iterations: typed.iterations.unwrap_or(settings.iterations),
        batch: typed.batch.unwrap_or(settings.batch),
        rate: typed.rate.unwrap_or(settings.rate),
        scale_rate: typed.scale_rate.unwrap_or(settings.scale_rate),
        bias_rate: typed.bias_rate.unwrap_or(settings.bias_rate),
        step_rate: typed.step_rate.unwrap_or(settings.step_rate),
        settled: typed.settled.unwrap_or(settings.settled),
        features: typed.features.unwrap_or(settings.features),
        pull: typed.pull.unwrap_or(settings.pull),
        drop: typed.drop.unwrap_or(settings.drop),
        fisher: typed.fisher.unwrap_or(settings.fisher),
        budget_bytes: typed.budget_mib.map_or(settings.budget_bytes, |mib| mib << 20),
        ..settings
    };
    settings.validated().map(|settings| Typed::Quantized(Step::Reconstruct(settings)))
}
