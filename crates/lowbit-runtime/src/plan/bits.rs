//! Values that lie as bits: which, and where codes or sums become bits.

use std::time::Duration;

use lowbit_kernels::Isa;
use lowbit_kernels::nhwc::{Pool, Thresholds, peak_gmacs, peak_sign_gmacs};

use crate::network::{Conv, Few, Finish, Kind, Network};

/// When convolutions of codes of few bits by weights of few bits run on bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BitSerial {
    /// Where this CPU counts bits so fast that they pay: always when codes and weights have one bit, else by rates measured when the plan
    /// is made.
    #[default]
    Faster,
    /// Wherever they can.
    Always,
    /// Nowhere: all codes are multiplied as bytes.
    Never,
}

/// How the values of a network lie.
#[derive(Debug)]
pub(super) struct Choice {
    /// For each step, whether it is a convolution of bits.
    pub(super) on_bits: Vec<bool>,
    /// For each value, what its bits are, where it lies as bits.
    pub(super) bits: Vec<Option<Bits>>,
    /// For each value, whether it lies as codes.
    pub(super) codes: Vec<bool>,
}

/// A value that lies as bits.
#[derive(Clone, Debug)]
pub(super) struct Bits {
    pub(super) few: Few,
    /// From the codes that its table reads, or the sums of the convolution that makes it, if its bits alone are made; else from its
    /// own codes.
    pub(super) thresholds: Thresholds,
    pub(super) alone: bool,
}

/// Long enough to see which of two rates is higher.
const RATE_TIME: Duration = Duration::from_micros(500);

/// A pass takes so much longer than counting its words from registers where a mask goes with each word of weights.
const MASKED: f64 = 1.15;

/// What follows the last pass of a layer takes as long as so many words of one: fitted to layers of 64 to 512 channels.
const ENDING: f64 = 7.0;

/// Chooses what lies as bits.
pub(super) fn choose(network: &Network, isa: Isa, wanted: BitSerial) -> Choice {
    let mut advantage = None;
    let mut pays = |(passes, masked): (usize, bool), taps: usize, channels: usize| match wanted {
        BitSerial::Always => true,
        BitSerial::Never => false,
        BitSerial::Faster if passes == 1 => true,
        BitSerial::Faster => {
            let words = taps / channels * channels.div_ceil(32);
            let passes = passes as f64 * if masked { MASKED } else { 1.0 };
            // Words may hold fewer channels than bits.
            let cost = (passes + ENDING / words as f64) * (32 * words) as f64 / taps as f64;
            cost < *advantage.get_or_insert_with(|| advantage_of_bits(isa))
        }
    };
    let on_bits: Vec<bool> = network
        .steps
        .iter()
        .map(|step| match &step.kind {
            Kind::Conv(conv) => {
                let few = network.few(step.inputs[0]);
                let [.., channels] = network.values[step.inputs[0]].image();
                let passes = few.and_then(|few| conv.passes(few));
                passes.is_some_and(|passes| pays(passes, conv.taps(), channels))
            }
            _ => false,
        })
        .collect();
    let mut choice = Choice {
        on_bits,
        bits: vec![None; network.values.len()],
        codes: vec![true; network.values.len()],
    };
    for value in 0..network.values.len() {
        choice.value(network, value);
    }
    choice
}

/// How much more products of signs than of codes this CPU does in a time.
fn advantage_of_bits(isa: Isa) -> f64 {
    let pool = Pool::new(1);
    peak_sign_gmacs(isa, &pool, RATE_TIME) / peak_gmacs(isa, &pool, RATE_TIME)
}

impl Choice {
    /// Whether input `index` of a step is read as bits.
    pub(super) fn reads_bits(&self, step: usize, index: usize) -> bool {
        self.on_bits[step] && index == 0
    }

    fn value(&mut self, network: &Network, value: usize) {
        let mut as_bits = false;
        let mut as_codes = network.outputs.contains(&value);
        for (number, step) in network.steps.iter().enumerate() {
            for index in (0..step.inputs.len()).filter(|&index| step.inputs[index] == value) {
                let bits = self.reads_bits(number, index);
                (as_bits, as_codes) = (as_bits || bits, as_codes || !bits);
            }
        }
        let Some(few) = network.few(value).filter(|_| as_bits) else { return };
        let [.., channels] = network.values[value].image();
        let maker = network.steps.iter().position(|step| step.outputs == [value]);
        let direct =
            maker.filter(|_| !as_codes).and_then(|maker| match &network.steps[maker].kind {
                Kind::Table(tables) => of_tables(tables, channels, few),
                Kind::Conv(conv) if self.on_bits[maker] => of_sums(conv, few),
                _ => None,
            });
        self.codes[value] = direct.is_none();
        let alone = direct.is_some();
        let thresholds = direct.unwrap_or_else(|| {
            let at_least = (1..=few.levels())
                .map(|level| vec![i32::from(few.base) + i32::from(level); channels]);
            Thresholds { at_least: at_least.collect(), inverted: vec![false; channels] }
        });
        self.bits[value] = Some(Bits { few, thresholds, alone });
    }
}

/// Where each channel's table reaches its numbers; `None` where one rises and falls.
fn of_tables(tables: &[[u8; 256]], channels: usize, few: Few) -> Option<Thresholds> {
    let each = tables.iter().map(|table| reached(table, few));
    let mut each = each.collect::<Option<Vec<_>>>()?;
    if let [one] = &each[..] {
        each = vec![one.clone(); channels];
    }
    Some(joined(each))
}

/// Where the sums of products reach the numbers of each output; `None` where an output's codes rise and fall.
fn of_sums(conv: &Conv, few: Few) -> Option<Thresholds> {
    let Finish::Codes { multipliers, zero_point, range, table, add: None } = &conv.finish else {
        return None;
    };
    let codes: [u8; 256] = std::array::from_fn(|code| {
        let code = (code as u8).clamp(range[0], range[1]);
        table.as_ref().map_or(code, |table| table[usize::from(code)])
    });
    let (codes, inverted) = reached(&codes, few)?;
    let of_output = |(&bias, &multiplier): (&i32, &f32)| {
        // Sums of convolutions of bits lie within these, and biases do not carry them out of `i32`.
        let reach = i32::MAX.checked_sub(bias.checked_abs()?)?.min(SUM_MAX);
        let least = |&code: &i32| {
            let reaches =
                |sum: i32| i32::from(requantized(sum + bias, multiplier, *zero_point)) >= code;
            least_number([-reach, reach], reaches)
        };
        (multiplier >= 0.0 && reach == SUM_MAX)
            .then(|| (codes.iter().map(least).collect(), inverted))
    };
    let each = conv.bias.iter().zip(multipliers).map(of_output);
    Some(joined(each.collect::<Option<Vec<_>>>()?))
}

/// More than any sum of products.
const SUM_MAX: i32 = 1 << 29;

/// The least number of a range that `reaches`, as all above it; `i32::MAX` where none does.
fn least_number([mut low, mut high]: [i32; 2], reaches: impl Fn(i32) -> bool) -> i32 {
    if !reaches(high) {
        return i32::MAX;
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if reaches(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// For each number from 1 on, the least index whose entry reaches it, `i32::MAX` where none does; of numbers turned round, if they fall.
/// `None` where they rise and fall.
fn reached(entries: &[u8; 256], few: Few) -> Option<(Vec<i32>, bool)> {
    let numbers = entries.map(|code| few.number(code));
    let falls = numbers[0] > numbers[255];
    let numbers = if falls { numbers.map(|number| few.levels() - number) } else { numbers };
    let least = |level: u8| {
        let at = numbers.iter().position(|&number| number >= level);
        at.map_or(i32::MAX, |at| at as i32)
    };
    numbers.is_sorted().then(|| ((1..=few.levels()).map(least).collect(), falls))
}

/// The thresholds of channels, side by side.
fn joined(each: Vec<(Vec<i32>, bool)>) -> Thresholds {
    let levels = each.first().map_or(0, |(levels, _)| levels.len());
    let at_least = (0..levels).map(|level| each.iter().map(|(all, _)| all[level]).collect());
    Thresholds {
        at_least: at_least.collect(),
        inverted: each.iter().map(|&(_, inverted)| inverted).collect(),
    }
}

/// `clamp(rint(f32(sum) * multiplier) + zero_point)`
#[expect(clippy::cast_precision_loss, reason = "the arithmetic that onnxruntime does")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
fn requantized(sum: i32, multiplier: f32, zero_point: u8) -> u8 {
    // Both are integers, and exact: what lies further from 0 is clamped all the same.
    let rounded = (sum as f32 * multiplier).round_ties_even().clamp(-1024.0, 1024.0);
    (rounded + f32::from(zero_point)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Few;
    use lowbit_kernels::nhwc::Values;

    #[test]
    fn numbers_that_rise_or_fall_have_thresholds() {
        let few = Few { values: Values { planes: 2, step: 1, zero: 0 }, base: 10 };
        let entries = |at: &dyn Fn(usize) -> u8| reached(&std::array::from_fn(at), few);
        let rising = entries(&|i| if i < 5 { 10 } else { 12 });
        assert_eq!(rising, Some((vec![5, 5, i32::MAX], false)));
        let falling = entries(&|i| [13, 11, 10][i.min(2)]);
        assert_eq!(falling, Some((vec![1, 1, 2], true)));
        assert_eq!(entries(&|_| 11), Some((vec![0, i32::MAX, i32::MAX], false)));
        assert_eq!(entries(&|i| [10, 12, 11][i.min(2)]), None);
    }

    #[test]
    fn the_least_number_is_found() {
        assert_eq!(least_number([-100, 100], |n| n >= -7), -7);
        assert_eq!(least_number([-100, 100], |_| true), -100);
        assert_eq!(least_number([-100, 100], |_| false), i32::MAX);
        assert_eq!(least_number([-SUM_MAX, SUM_MAX], |n| n == SUM_MAX), SUM_MAX);
    }

    #[test]
    fn codes_saturate() {
        assert_eq!(requantized(i32::MAX, 1e30, 3), 255);
        assert_eq!(requantized(i32::MIN, 1e30, 3), 0);
        assert_eq!([5, 3, -3].map(|sum| requantized(sum, 0.5, 100)), [102, 102, 98]);
    }
}
