//! Weights in as few bits as a table of their values allows.

use crate::network::Conv;

/// The weights of a layer, a row for each output; a row is `[kh][kw][i / groups]` and begins with a byte of its own.
#[derive(Debug, PartialEq)]
pub(super) struct Packed {
    /// 8, or 1, 2 or 4 of an index into the levels.
    pub(super) bits: usize,
    /// What indices stand for, ascending; none at 8 bits.
    pub(super) levels: Vec<i8>,
    /// The rows; lowest bits first.
    pub(super) bytes: Vec<u8>,
}

impl Packed {
    pub(super) fn new(conv: &Conv) -> Packed {
        let rows = rows(conv);
        let mut levels = conv.weights.clone();
        levels.sort_unstable();
        levels.dedup();
        let bits = match levels.len() {
            0..=2 => 1,
            3..=4 => 2,
            5..=16 => 4,
            _ => 8,
        };
        let packed: Vec<u8> = rows.iter().flat_map(|row| indices(row, &levels, bits)).collect();
        if bits == 8 || packed.len() + levels.len() >= conv.weights.len() {
            let bytes = rows.concat().iter().map(|weight| weight.cast_unsigned()).collect();
            return Packed { bits: 8, levels: vec![], bytes };
        }
        Packed { bits, levels, bytes: packed }
    }
}

/// `[o][kh][kw][i]` of `[o][i][kh][kw]`, by output.
fn rows(conv: &Conv) -> Vec<Vec<i8>> {
    let [kh, kw] = conv.window.kernel;
    let (taps, area) = (conv.taps(), kh * kw);
    let row = |weights: &[i8]| {
        let at = |to: usize| to % (taps / area) * area + to / (taps / area);
        (0..taps).map(|to| weights[at(to)]).collect()
    };
    conv.weights.chunks_exact(taps).map(row).collect()
}

fn indices(row: &[i8], levels: &[i8], bits: usize) -> Vec<u8> {
    let mut bytes = vec![0; (row.len() * bits).div_ceil(8)];
    for (at, weight) in row.iter().enumerate() {
        let index = levels.partition_point(|level| level < weight);
        // At 8 bits the result is not used.
        let index = u8::try_from(index).unwrap_or(u8::MAX);
        bytes[at * bits / 8] |= index << (at * bits % 8);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::{Packed, indices};
    use crate::network::{Conv, Finish, Window};

    fn conv(weights: Vec<i8>, outputs: usize) -> Conv {
        let window = Window { kernel: [1, 2], strides: [1; 2], dilations: [1; 2], pads: [0; 2] };
        let finish = Finish::Floats(vec![1.0; outputs]);
        Conv { window, groups: 1, weights, bias: vec![0; outputs], finish }
    }

    #[test]
    fn bits_follow_the_number_of_values() {
        let check = |values: &[i8], bits: usize| {
            let weights = (0..400).map(|i| values[i % values.len()]).collect();
            assert_eq!(Packed::new(&conv(weights, 2)).bits, bits, "{values:?}");
        };
        check(&[-1, 1], 1);
        check(&[-1, 0, 1], 2);
        check(&[-128, -7, 0, 127], 2);
        check(&[0, 1, 2, 3, 4], 4);
        check(&(0..16).collect::<Vec<i8>>(), 4);
        check(&(0..17).collect::<Vec<i8>>(), 8);
    }

    #[test]
    fn rows_lie_tap_by_tap_and_begin_with_a_byte() {
        // Three channels of two taps: [i][kw] becomes [kw][i].
        let few = Packed::new(&conv((0..12).collect(), 2));
        assert_eq!(
            few,
            Packed { bits: 8, levels: vec![], bytes: vec![0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11] }
        );
        assert_eq!(indices(&[1, -1, 1, 1, -1, -1, -1, -1, 1], &[-1, 1], 1), [0b1101, 1]);
        assert_eq!(indices(&[0, 5, 9, 5, 9], &[0, 5, 9], 2), [0b01_10_01_00, 2]);
    }
}
