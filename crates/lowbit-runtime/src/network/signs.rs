//! Which values are signs, and which convolutions take them: what may run on bits.

use super::{Codes, Conv, Finish, Kind, Network, Step, ValueIndex};

/// Largest product of the units of signs and weights: weights times the distance of the codes stay in 8 bits.
const UNIT_MAX: u8 = 64;

impl Network {
    /// How far the codes of `value` lie from their zero point, where that is one power of two, and every reader is a convolution of
    /// signs.
    pub(crate) fn signs(&self, value: ValueIndex) -> Option<u8> {
        let maker = self.steps.iter().find(|step| step.outputs == [value])?;
        let distance = distance(maker, self.values[value].codes()?)?;
        let takes = |step: &Step| match &step.kind {
            Kind::Conv(conv) => {
                let once = step.inputs.iter().filter(|&&input| input == value).count() == 1;
                let product = conv.sign_weight().and_then(|unit| unit.checked_mul(distance));
                let fits = product.is_some_and(|product| product <= UNIT_MAX);
                once && step.inputs[0] == value && fits
            }
            _ => false,
        };
        let mut readers = self.steps.iter().filter(|step| step.inputs.contains(&value)).peekable();
        let read = readers.peek().is_some() && !self.outputs.contains(&value);
        (read && readers.all(takes)).then_some(distance)
    }
}

fn distance(maker: &Step, codes: Codes) -> Option<u8> {
    match &maker.kind {
        Kind::Table(tables) => of_tables(tables, codes.zero_point),
        Kind::Conv(conv) => match &conv.finish {
            Finish::Codes { table: Some(table), add: None, .. } => {
                of_tables(&[**table], codes.zero_point)
            }
            _ => None,
        },
        _ => None,
    }
}

/// How far all entries lie from the zero point.
pub(super) fn of_tables(tables: &[[u8; 256]], zero_point: u8) -> Option<u8> {
    let distance = tables.first()?[0].abs_diff(zero_point);
    let alike = |code: &u8| code.abs_diff(zero_point) == distance;
    let fits = distance.is_power_of_two() && distance <= UNIT_MAX;
    (fits && tables.iter().flatten().all(alike)).then_some(distance)
}

impl Conv {
    /// The power of two of which all weights are multiples by -1, 0 and 1, where there is one.
    pub(crate) fn sign_weight(&self) -> Option<u8> {
        let unit = self.weights.iter().map(|weight| weight.unsigned_abs()).max()?.max(1);
        let fits = |weight: &i8| *weight == 0 || weight.unsigned_abs() == unit;
        let signs = unit.is_power_of_two() && unit <= UNIT_MAX && self.weights.iter().all(fits);
        (self.groups == 1 && signs).then_some(unit)
    }
}
