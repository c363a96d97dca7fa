//! Codes as bits: little-endian, the first code in the lowest bits, as ONNX stores int4 and int2.

use crate::QuantError;
use crate::error::{bits_within, length};

/// Packs the low `bits` bits of each code, without gaps; the last byte is filled with zeros. With 0 bits nothing is stored.
///
/// # Errors
/// `Bits` above 16; `Code` when a code needs more bits.
pub fn pack(codes: &[u16], bits: u8) -> Result<Vec<u8>, QuantError> {
    bits_within(bits, 0..=16, "0..=16")?;
    for (element, &found) in codes.iter().enumerate() {
        if bits > 0 && u32::from(found) >> bits != 0 {
            return Err(QuantError::Code { found, element, levels: 1 << bits });
        }
    }
    Ok(pack_widths(codes, |_| bits))
}

/// The `count` codes of `bits` bits that [`pack`] stored.
///
/// # Errors
/// `Bits` above 16; `Length` when there are not exactly as many bytes as the codes need.
pub fn unpack(bytes: &[u8], bits: u8, count: usize) -> Result<Vec<u16>, QuantError> {
    bits_within(bits, 0..=16, "0..=16")?;
    unpack_widths(bytes, count, |_| bits)
}

/// Packs codes of different widths, each at most 16; of a width of 0 nothing is stored.
pub(crate) fn pack_widths(codes: &[u16], width: impl Fn(usize) -> u8) -> Vec<u8> {
    let total: usize = (0..codes.len()).map(|i| usize::from(width(i))).sum();
    let mut bytes = vec![0; total.div_ceil(8)];
    let mut at = 0;
    for (i, &code) in codes.iter().enumerate().filter(|(i, _)| width(*i) > 0) {
        let word = u32::from(code) << (at % 8);
        for (byte, part) in bytes[at / 8..].iter_mut().zip(word.to_le_bytes()) {
            *byte |= part;
        }
        at += usize::from(width(i));
    }
    bytes
}

/// What [`pack_widths`] stored; 0 for codes of no width.
pub(crate) fn unpack_widths(
    bytes: &[u8],
    count: usize,
    width: impl Fn(usize) -> u8,
) -> Result<Vec<u16>, QuantError> {
    let total: usize = (0..count).map(|i| usize::from(width(i))).sum();
    length("packed bytes", bytes.len(), total.div_ceil(8))?;
    let mut at = 0;
    let code = |i: usize| {
        let rest = bytes.get(at / 8..).unwrap_or_default();
        let word =
            rest.iter().take(4).rev().fold(0u32, |word, &byte| (word << 8) | u32::from(byte));
        let code = (word >> (at % 8)) & ((1 << width(i)) - 1);
        at += usize::from(width(i));
        code as u16
    };
    Ok((0..count).map(code).collect())
}

/// Bytes that `count` codes of `bits` bits take.
#[must_use]
pub fn packed_bytes(count: usize, bits: u8) -> usize {
    (count * usize::from(bits)).div_ceil(8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn packing_loses_nothing(bits in 0u8..=16, codes in prop::collection::vec(any::<u16>(), 0..50)) {
            let mask = ((1u32 << bits) - 1) as u16;
            let codes: Vec<u16> = codes.iter().map(|code| code & mask).collect();
            let bytes = pack(&codes, bits).unwrap();
            prop_assert_eq!(bytes.len(), packed_bytes(codes.len(), bits));
            prop_assert_eq!(unpack(&bytes, bits, codes.len()).unwrap(), codes);
        }
    }

    #[test]
    fn nibbles_and_crumbs_are_in_the_order_of_onnx() {
        assert_eq!(pack(&[1, 2, 3], 4).unwrap(), [0x21, 0x03]);
        assert_eq!(pack(&[0, 1, 2, 3, 1], 2).unwrap(), [0b1110_0100, 1]);
        assert!(matches!(pack(&[4], 2), Err(QuantError::Code { found: 4, .. })));
        assert!(matches!(unpack(&[0; 3], 4, 4), Err(QuantError::Length { found: 3, .. })));
    }
}
