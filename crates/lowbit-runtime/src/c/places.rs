//! Where codes lie in the arena: results take the place of an operand that nobody reads later, where the step goes element by
//! element.

use super::exported::Exported;
use crate::network::{Finish, Kind, Step, ValueIndex};
use crate::plan::memory::{Lifetime, place};

/// Words of 32 bits.
const ALIGN: usize = 4;

/// The arena.
#[derive(Debug)]
pub(super) struct Places {
    /// Where each value begins; 0 for those that the caller holds.
    pub(super) at: Vec<usize>,
    /// Bytes of all values.
    pub(super) bytes: usize,
    /// Bytes that are needed while a step runs, by step.
    pub(super) live: Vec<usize>,
}

impl Places {
    pub(super) fn new(exported: &Exported) -> Places {
        let steps: Vec<&Step> = exported.steps().collect();
        let mut last = vec![0; exported.network.values.len()];
        for (index, step) in steps.iter().enumerate() {
            step.inputs.iter().for_each(|&input| last[input] = index);
        }
        let mut home: Vec<ValueIndex> = (0..last.len()).collect();
        for (index, step) in steps.iter().enumerate() {
            let output = step.outputs[0];
            let dies = |&value: &ValueIndex| last[value] == index && value != exported.codes;
            if let Some(value) = replaceable(step, exported).into_iter().find(dies) {
                home[output] = home[value];
            }
        }
        let mut lifetimes = vec![Lifetime { len: 0, first: usize::MAX, last: 0 }; last.len()];
        for (index, step) in steps.iter().enumerate() {
            for &value in step.inputs.iter().chain(&step.outputs) {
                let lifetime = &mut lifetimes[home[value]];
                let held = value == exported.codes || value == exported.scores;
                lifetime.len = if held { 0 } else { exported.value(value).len() };
                lifetime.first = lifetime.first.min(index);
                lifetime.last = index;
            }
        }
        let ranges = place(&lifetimes, ALIGN);
        let live = |index: usize| {
            let needed = lifetimes.iter().filter(|life| (life.first..=life.last).contains(&index));
            needed.map(|life| life.len).sum()
        };
        Places {
            at: home.iter().map(|&home| ranges[home].start).collect(),
            bytes: ranges.iter().map(|range| range.end).max().unwrap_or(0),
            live: (0..steps.len()).map(live).collect(),
        }
    }
}

/// Operands whose elements are not read once those of the result at the same place are written.
fn replaceable(step: &Step, exported: &Exported) -> Vec<ValueIndex> {
    let [output, first] = [step.outputs[0], step.inputs[0]];
    let candidates = match &step.kind {
        Kind::Conv(conv) => match &conv.finish {
            Finish::Codes { add: Some(_), .. } => step.inputs[1..].to_vec(),
            _ => vec![],
        },
        Kind::Add(_) => step.inputs.clone(),
        Kind::Mul(_) | Kind::Table(_) => vec![first],
        Kind::Quantize(_)
        | Kind::Dequantize(_)
        | Kind::GlobalAverage(_)
        | Kind::AveragePool(_)
        | Kind::MaxPool(_)
        | Kind::Concat(_)
        | Kind::Sample(_)
        | Kind::Reshape
        | Kind::Float(_)
        | Kind::Island(_) => vec![],
    };
    let conv = matches!(step.kind, Kind::Conv(_));
    let fits = |value: &ValueIndex| {
        exported.value(*value).len() == exported.value(output).len() && !(conv && *value == first)
    };
    let fits = candidates.into_iter().filter(fits);
    if exported.value(output).codes().is_some() { fits.collect() } else { vec![] }
}
