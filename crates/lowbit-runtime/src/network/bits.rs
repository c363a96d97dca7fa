//! Which values are codes of few bits, and which convolutions take them: what may run on bits.

use lowbit_kernels::nhwc::{BitConv, PLANES_MAX, Values};

use super::{Codes, Conv, Finish, Kind, Network, Sample, ValueIndex};

/// Largest distance of signs from their zero point.
const DISTANCE_MAX: u8 = 64;

/// Codes of few bits: the bits of one are those of how far it lies above the base, or, of signs, whether it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Few {
    /// What the bits mean.
    pub(crate) values: Values,
    pub(crate) base: u8,
}

impl Few {
    /// Two codes as far below the zero point as above it.
    fn signs(distance: u8, zero_point: u8) -> Few {
        let values = Values { planes: 1, step: 2 * distance, zero: distance.into() };
        Few { values, base: zero_point }
    }

    /// All codes of a range.
    fn range([low, high]: [u8; 2], zero_point: u8) -> Option<Few> {
        let planes = high.checked_sub(low)?.checked_ilog2()? as usize + 1;
        let zero = i32::from(zero_point) - i32::from(low);
        let values = Values { planes, step: 1, zero };
        (planes <= PLANES_MAX).then_some(Few { values, base: low })
    }

    /// The greatest number of the bits.
    pub(crate) fn levels(&self) -> u8 {
        (1 << self.values.planes) - 1
    }

    /// The number that the bits of a code are.
    pub(crate) fn number(&self, code: u8) -> u8 {
        code.saturating_sub(self.base).min(self.levels())
    }

    fn is_signs(&self) -> bool {
        self.values.step > 1
    }
}

impl Network {
    /// The codes of `value`, where they are few.
    pub(crate) fn few(&self, value: ValueIndex) -> Option<Few> {
        let maker = self.steps.iter().find(|step| step.outputs == [value])?;
        let codes = self.values[value].codes()?;
        match &maker.kind {
            Kind::Table(tables) => {
                let entries = || tables.iter().flatten().copied();
                of_codes(entries, codes)
            }
            Kind::Conv(conv) => match &conv.finish {
                Finish::Codes { range: [low, high], table, add: None, .. } => match table {
                    Some(table) => {
                        let reached = &table[usize::from(*low)..=usize::from(*high)];
                        of_codes(|| reached.iter().copied(), codes)
                    }
                    None => Few::range([*low, *high], codes.zero_point),
                },
                _ => None,
            },
            Kind::MaxPool(_) | Kind::Reshape => self.few(maker.inputs[0]),
            Kind::Sample(Sample { fill, .. }) => {
                let few = self.few(maker.inputs[0])?;
                let above = fill.checked_sub(few.base)?;
                (!few.is_signs() && above <= few.levels()).then_some(few)
            }
            _ => None,
        }
    }

    /// Whether `value` is signs that nothing but convolutions of signs reads.
    pub(crate) fn is_signs(&self, value: ValueIndex) -> bool {
        let Some(few) = self.few(value).filter(Few::is_signs) else { return false };
        let mut readers = self.steps.iter().filter(|step| step.inputs.contains(&value)).peekable();
        let read = readers.peek().is_some() && !self.outputs.contains(&value);
        read && readers.all(|step| match &step.kind {
            Kind::Conv(conv) => {
                let once = step.inputs.iter().filter(|&&input| input == value).count() == 1;
                let passes = conv.passes(few);
                once && step.inputs[0] == value && passes.is_some_and(|(passes, _)| passes == 1)
            }
            _ => false,
        })
    }
}

/// What codes are, where they are signs or of a short range.
fn of_codes<I: Iterator<Item = u8>>(entries: impl Fn() -> I, codes: Codes) -> Option<Few> {
    let distance = entries().next()?.abs_diff(codes.zero_point);
    let fits = distance.is_power_of_two() && distance <= DISTANCE_MAX;
    if fits && entries().all(|code| code.abs_diff(codes.zero_point) == distance) {
        return Some(Few::signs(distance, codes.zero_point));
    }
    Few::range([entries().min()?, entries().max()?], codes.zero_point)
}

impl Conv {
    /// How often the weights would meet an image of such bits, and whether they need masks; `None` where they cannot.
    pub(crate) fn passes(&self, few: Few) -> Option<(usize, bool)> {
        let fits = BitConv::passes_of(&self.weights, self.taps(), few.values);
        fits.filter(|_| self.groups == 1)
    }
}
