//! Roundings whose errors cancel, without data: SQuant (Guo et al. 2022, arXiv:2202.07471).
//!
//! Rounding to nearest makes every weight's error small and their sum large. If what a layer reads is about the same under all taps of a
//! kernel, and in all kernels of a channel, what counts is the sum of the errors:
//!
//! ```text
//! for each output channel:
//!     for each kernel: while it helps, turn the rounding that is cheapest of those whose error has the sign of the sum
//!     over all kernels: the same with one candidate of each kernel that was not overdone
//! ```
//! so that |Σ error| is at most half a step in each kernel, then half a step in the channel, where kernels stay within a step.
//!
//! Differs from the paper: levels need not be equidistant (an error counts as it is, a rounding turns to the next level on the other
//! side), and where the layer's input means are known bias correction may follow: it finds little left to do.

use lowbit_graph::{Graph, Op};
use lowbit_quant::CodedWeight;

use crate::{PtqError, QuantizedGraph, UnitReport};

/// Turns roundings of every layer until the errors of each kernel and channel cancel. Weights whose codes are not ranks of numbers
/// stay as they are. The reports give the mean square of the channels' summed errors before and after.
///
/// # Errors
/// `Value` names a layer whose codes do not fit its levels.
pub fn squant(
    float: &Graph,
    quantized: &QuantizedGraph,
) -> Result<(QuantizedGraph, Vec<UnitReport>), PtqError> {
    let mut turned = quantized.clone();
    let mut reports = vec![];
    for (index, weight) in quantized.weights.iter().enumerate() {
        let per_channel = (weight.target.len() / weight.shape[0].max(1)).max(1);
        let kernel = match &float.nodes[weight.index].op {
            Op::Conv(_) => weight.shape.iter().skip(2).product::<usize>().max(1),
            _ => 1,
        };
        let mut codes = weight.coded.codes().to_vec();
        if codes.len() != weight.target.len() {
            continue;
        }
        let before = summed_error(&weight.coded, &weight.target, per_channel);
        for (channel, codes) in codes.chunks_mut(per_channel).enumerate() {
            let first = channel * per_channel;
            let targets = &weight.target[first..first + per_channel];
            turn_channel(&Row { coded: &weight.coded, first, targets }, kernel, codes);
        }
        let named = |source| PtqError::Value { name: weight.node.clone(), source };
        let coded = weight.coded.with_codes(codes).map_err(named)?;
        let after = summed_error(&coded, &weight.target, per_channel);
        reports.push(UnitReport { name: weight.node.clone(), error: [before, after], images: 0 });
        turned.set_weight(index, coded);
    }
    Ok((turned, reports))
}

/// The mean over channels of (Σ error)².
fn summed_error(coded: &CodedWeight, target: &[f32], per_channel: usize) -> f64 {
    let decoded = coded.decode();
    let rows = decoded.chunks(per_channel).zip(target.chunks(per_channel));
    let sum =
        |(q, w): (&[f32], &[f32])| -> f64 { q.iter().zip(w).map(|(q, w)| f64::from(q - w)).sum() };
    let squares: f64 = rows.map(sum).map(|sum| sum * sum).sum();
    squares / (target.len() / per_channel).max(1) as f64
}

/// One output channel of a weight.
struct Row<'a> {
    coded: &'a CodedWeight,
    /// Its first element.
    first: usize,
    targets: &'a [f32],
}

/// A rounding that can be turned: the error falls by `step` in the direction of the sum.
#[derive(Clone, Copy, Debug)]
struct Turn {
    element: usize,
    code: u16,
    step: f64,
    /// How much of the step the error already is: the larger, the cheaper.
    part: f64,
}

impl Row<'_> {
    fn error(&self, element: usize, code: u16) -> f64 {
        f64::from(self.coded.value(self.first + element, code)) - f64::from(self.targets[element])
    }

    /// Turning an element's rounding against the sign of `sum`, if its error has that sign.
    fn turn(&self, element: usize, code: u16, sum: f64) -> Option<Turn> {
        let error = self.error(element, code);
        let (below, above) = self.coded.neighbours(self.first + element, self.targets[element]);
        let other = if sum > 0.0 { below } else { above };
        let step = (error - self.error(element, other)) * sum.signum();
        let usable = error * sum > 0.0 && other != code && step > 0.0;
        usable.then(|| Turn { element, code: other, step, part: error.abs() / step })
    }
}

/// Turns, cheapest first, as long as the sum gets smaller; returns the sum that is left.
fn turn_while_it_helps(mut turns: Vec<Turn>, mut sum: f64, codes: &mut [u16]) -> f64 {
    let sign = sum.signum();
    turns.sort_by(|a, b| b.part.total_cmp(&a.part).then(a.element.cmp(&b.element)));
    for turn in turns {
        let left = sum - turn.step * sign;
        if left.abs() < sum.abs() {
            codes[turn.element] = turn.code;
            sum = left;
        }
    }
    sum
}

fn turn_channel(row: &Row<'_>, kernel: usize, codes: &mut [u16]) {
    let mut sums = vec![];
    for first in (0..codes.len()).step_by(kernel) {
        let elements = first..(first + kernel).min(codes.len());
        let sum: f64 = elements.clone().map(|e| row.error(e, codes[e])).sum();
        let turns = elements.filter_map(|e| row.turn(e, codes[e], sum)).collect();
        sums.push(turn_while_it_helps(turns, sum, codes));
    }
    let total: f64 = sums.iter().sum();
    // One candidate of each kernel whose own sum leans the same way, so that it stays within a step.
    let candidate = |(k, &sum): (usize, &f64)| {
        let elements = k * kernel..((k + 1) * kernel).min(codes.len());
        let turns = elements.filter_map(|e| row.turn(e, codes[e], total));
        let cheapest = turns.max_by(|a, b| a.part.total_cmp(&b.part))?;
        (sum * total > 0.0).then_some(Turn { part: sum.abs() / cheapest.step, ..cheapest })
    };
    let turns = sums.iter().enumerate().filter_map(candidate).collect();
    turn_while_it_helps(turns, total, codes);
}

#[cfg(test)]
mod tests;
