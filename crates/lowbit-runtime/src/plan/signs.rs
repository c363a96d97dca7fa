//! Values that lie as bits: which, and where codes or sums become bits.

use lowbit_kernels::nhwc::Thresholds;

use crate::network::{Conv, Finish, Kind, Network};

/// A value whose codes are a distance above or below the zero point, read by convolutions of signs alone.
#[derive(Clone, Debug)]
pub(super) struct Signs {
    /// From the zero point to both codes.
    pub(super) distance: u8,
    /// Of the codes that its table reads, or of the sums of the convolution that makes it; `None` for a table that steps over the zero
    /// point more than once.
    pub(super) thresholds: Option<Thresholds>,
}

/// For each value, whether it lies as bits.
pub(super) fn find(network: &Network) -> Vec<Option<Signs>> {
    let mut found: Vec<Option<Signs>> = vec![None; network.values.len()];
    for step in &network.steps {
        let value = step.outputs[0];
        let Some((distance, codes)) = network.signs(value).zip(network.values[value].codes())
        else {
            continue;
        };
        found[value] = match &step.kind {
            Kind::Table(tables) => {
                let [.., channels] = network.values[value].image();
                let thresholds = of_tables(tables, channels, codes.zero_point);
                Some(Signs { distance, thresholds })
            }
            Kind::Conv(conv) => found[step.inputs[0]]
                .as_ref()
                .and_then(|read| of_sums(conv, read.distance, codes.zero_point))
                .map(|thresholds| Signs { distance, thresholds: Some(thresholds) }),
            _ => None,
        };
    }
    found
}

/// Where each channel's table steps over the zero point; `None` where one does so more than once.
fn of_tables(tables: &[[u8; 256]], channels: usize, zero_point: u8) -> Option<Thresholds> {
    let steps = tables.iter().map(|table| step((0..256).zip(table.map(|code| code > zero_point))));
    let mut steps = steps.collect::<Option<Vec<_>>>()?;
    if let [one] = steps[..] {
        steps = vec![one; channels];
    }
    let (at_least, inverted) = steps.into_iter().unzip();
    Some(Thresholds { at_least, inverted })
}

/// Where the result of each output steps over the zero point, as a function of the sum of products.
fn of_sums(conv: &Conv, distance: u8, zero_point: u8) -> Option<Thresholds> {
    let unit = i32::from(conv.sign_weight()?) * i32::from(distance);
    let reach = i32::try_from(conv.taps()).ok()?;
    let Finish::Codes { multipliers, zero_point: own, range, table, add: None } = &conv.finish
    else {
        return None;
    };
    let mut thresholds = Thresholds { at_least: vec![], inverted: vec![] };
    for (bias, multiplier) in conv.bias.iter().zip(multipliers) {
        let bit = |sum: i32| {
            let code = requantized(sum.wrapping_add(*bias), *multiplier, *own);
            let code = code.clamp(range[0], range[1]);
            table.as_ref().map_or(code, |table| table[usize::from(code)]) > zero_point
        };
        let sums = (-reach..=reach).map(|signs| signs * unit);
        let (at_least, inverted) = step(sums.map(|sum| (sum, bit(sum))))?;
        thresholds.at_least.push(at_least);
        thresholds.inverted.push(inverted);
    }
    Some(thresholds)
}

/// `clamp(rint(f32(sum) * multiplier) + zero_point)`
#[expect(clippy::cast_precision_loss, reason = "the arithmetic that onnxruntime does")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
fn requantized(sum: i32, multiplier: f32, zero_point: u8) -> u8 {
    // Both are integers, and exact: what lies further from 0 is clamped all the same.
    let rounded = (sum as f32 * multiplier).round_ties_even().clamp(-1024.0, 1024.0);
    (rounded + f32::from(zero_point)) as u8
}

/// The first number of a row whose bit differs from the first one, and whether bits are clear from there on; `None` where there are
/// several such steps.
fn step(bits: impl Iterator<Item = (i32, bool)>) -> Option<(i32, bool)> {
    let mut bits = bits.peekable();
    let &(_, first) = bits.peek()?;
    let mut at = None;
    for (number, bit) in bits {
        match at {
            None if bit != first => at = Some(number),
            Some(_) if bit == first => return None,
            _ => {}
        }
    }
    // Without a step, a threshold that nothing reaches.
    Some((at.unwrap_or(i32::MAX), first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_found_up_down_and_nowhere() {
        let bits = |bits: &[u8]| step((0..).zip(bits.iter().map(|&b| b == 1)));
        assert_eq!(bits(&[0, 0, 1, 1]), Some((2, false)));
        assert_eq!(bits(&[1, 0, 0]), Some((1, true)));
        assert_eq!(bits(&[1, 1]), Some((i32::MAX, true)));
        assert_eq!(bits(&[0]), Some((i32::MAX, false)));
        assert_eq!(bits(&[0, 1, 0]), None);
        assert_eq!(bits(&[1, 0, 1]), None);
    }

    #[test]
    fn codes_saturate() {
        assert_eq!(requantized(i32::MAX, 1e30, 3), 255);
        assert_eq!(requantized(i32::MIN, 1e30, 3), 0);
        assert_eq!([5, 3, -3].map(|sum| requantized(sum, 0.5, 100)), [102, 102, 98]);
    }
}
