//! Codes replaced by the entries of tables: of one for all channels, or of one each.
//!
//! Tables of channels are read entry by entry, unless the CPU permutes bytes (VBMI): then the codes of 16 channels in 64 pixels are turned,
//! so that each register has those of one channel and looks them up at once, and are turned back.

use super::codes::Codes;
use super::layout::ImageLayout;
use crate::isa::{Body, Isa, Task};

/// Writes the entry of each code's table: the only one, or that of its channel.
/// # Panics
/// When the images differ in extent, one is shorter than its layout says, or there is neither one table nor one for each channel.
pub fn lookup(
    isa: Isa,
    tables: &[[u8; 256]],
    from: (&[u8], &ImageLayout),
    to: (&mut [u8], &ImageLayout),
) {
    let extent =
        |layout: &ImageLayout| [layout.height, layout.width, layout.channels, layout.pixel];
    assert_eq!(extent(from.1), extent(to.1), "both images have one extent");
    assert!(from.0.len() >= from.1.len(), "the image has the length of its layout");
    assert!(to.0.len() >= to.1.len(), "the result has the length of its layout");
    if let [table] = tables {
        return isa.dispatch(One { table, from, to });
    }
    assert_eq!(tables.len(), from.1.channels, "each channel has a table");
    #[cfg(target_arch = "x86_64")]
    if let Some(permutes) = x86::Permutes::of(isa).filter(|_| tables.len() >= x86::CHANNELS) {
        return permutes.lookup(tables, from, to);
    }
    isa.vectorize(Each { tables, from, to });
}

struct One<'a> {
    table: &'a [u8; 256],
    from: (&'a [u8], &'a ImageLayout),
    to: (&'a mut [u8], &'a ImageLayout),
}

impl Task for One<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Codes>(self, arch: A) {
        let (image, out) = self.to;
        for y in 0..out.height {
            let to = out.pixels_mut(image, y);
            let parts = self.from.1.pixels(self.from.0, y).chunks(4 * A::LANES);
            for (from, to) in parts.zip(to.chunks_mut(4 * A::LANES)) {
                let len = from.len().min(to.len());
                // SAFETY: both slices have that many bytes.
                unsafe {
                    let codes = arch.load_bytes(from.as_ptr(), len);
                    arch.store_bytes(to.as_mut_ptr(), arch.lookup_bytes(codes, self.table), len);
                }
            }
        }
    }
}

struct Each<'a> {
    tables: &'a [[u8; 256]],
    from: (&'a [u8], &'a ImageLayout),
    to: (&'a mut [u8], &'a ImageLayout),
}

impl Body for Each<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (image, out) = self.to;
        for y in 0..out.height {
            let to = out.pixels_mut(image, y);
            let pixels = self.from.1.pixels(self.from.0, y).chunks_exact(self.from.1.pixel);
            for (to, from) in to.chunks_exact_mut(out.pixel).zip(pixels) {
                for ((to, &code), table) in to.iter_mut().zip(from).zip(self.tables) {
                    *to = table[usize::from(code)];
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::ImageLayout;
    use crate::isa::Isa;

    /// Channels, and four times as many pixels, that are turned together.
    pub(super) const CHANNELS: usize = 16;
    const PIXELS: usize = 4 * CHANNELS;

    /// Proof that the CPU has VBMI besides AVX-512.
    pub(super) struct Permutes(());

    impl Permutes {
        pub(super) fn of(isa: Isa) -> Option<Self> {
            match isa.vectors() {
                Isa::Avx512(_) if is_x86_feature_detected!("avx512vbmi") => Some(Self(())),
                _ => None,
            }
        }

        /// As [`super::lookup`], which has checked its arguments; there are at least [`CHANNELS`] tables.
        pub(super) fn lookup(
            self,
            tables: &[[u8; 256]],
            (image, layout): (&[u8], &ImageLayout),
            (to, out): (&mut [u8], &ImageLayout),
        ) {
            let (mut left, mut column) = (out.height * out.width, 0);
            let (mut read, mut written) = (layout.at(0, 0), out.at(0, 0));
            while left > 0 {
                let (mut reads, mut writes) = ([read; PIXELS], [written; PIXELS]);
                for pixel in 0..PIXELS {
                    (reads[pixel], writes[pixel]) = (read, written);
                    // The last pixel stands for those beyond.
                    if left > 1 || pixel + 1 == PIXELS {
                        (left, column) = (left - 1, column + 1);
                        (read, written) = (read + layout.pixel, written + out.pixel);
                        if column == out.width {
                            column = 0;
                            read += layout.row() - out.width * layout.pixel;
                            written += out.row() - out.width * out.pixel;
                        }
                    }
                }
                for channel in (0..tables.len()).step_by(CHANNELS) {
                    let channel = channel.min(tables.len() - CHANNELS);
                    // SAFETY: `self` proves the instructions; pixels lie in the images, whose lengths were checked, and have as many
                    // channels as there are tables.
                    unsafe {
                        let from = (image.as_ptr().add(channel), &reads);
                        let to = (to.as_mut_ptr().add(channel), &writes);
                        block(&tables[channel..][..CHANNELS], from, to);
                    }
                }
            }
        }
    }

    /// Looks up [`CHANNELS`] codes of each pixel.
    /// # Safety
    /// As many bytes are readable and writable there; the CPU has VBMI.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
    unsafe fn block(
        tables: &[[u8; 256]],
        (from, reads): (*const u8, &[usize; PIXELS]),
        (to, writes): (*mut u8, &[usize; PIXELS]),
    ) {
        let mut rows = [_mm512_setzero_si512(); CHANNELS];
        for (row, codes) in rows.iter_mut().enumerate() {
            // SAFETY: as this function's; the loads need no alignment.
            let part = |part: usize| unsafe {
                _mm_loadu_si128(from.add(reads[part * CHANNELS + row]).cast())
            };
            let two = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(part(0)), part(1));
            *codes = _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(two, part(2)), part(3));
        }
        let mut channels = turned(rows);
        for (codes, table) in channels.iter_mut().zip(tables) {
            let quarters = table.as_chunks::<64>().0;
            // SAFETY: a quarter is 64 bytes; the loads need no alignment.
            let quarter = |at: usize| unsafe { _mm512_loadu_si512(quarters[at].as_ptr().cast()) };
            let low = _mm512_permutex2var_epi8(quarter(0), *codes, quarter(1));
            let high = _mm512_permutex2var_epi8(quarter(2), *codes, quarter(3));
            *codes = _mm512_mask_blend_epi8(_mm512_movepi8_mask(*codes), low, high);
        }
        for (row, codes) in turned(channels).into_iter().enumerate() {
            let parts = [
                _mm512_castsi512_si128(codes),
                _mm512_extracti32x4_epi32::<1>(codes),
                _mm512_extracti32x4_epi32::<2>(codes),
                _mm512_extracti32x4_epi32::<3>(codes),
            ];
            for (part, codes) in parts.into_iter().enumerate() {
                // SAFETY: as this function's; the store needs no alignment.
                unsafe { _mm_storeu_si128(to.add(writes[part * CHANNELS + row]).cast(), codes) };
            }
        }
    }

    /// Byte `i` of register `j`, in each quarter, becomes byte `j` of register `i`: four times, the first half of the registers is
    /// interleaved with the second.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
    fn turned(mut rows: [__m512i; CHANNELS]) -> [__m512i; CHANNELS] {
        for _ in 0..4 {
            let halves = rows;
            for (i, pair) in rows.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                let (a, b) = (halves[i], halves[i + CHANNELS / 2]);
                *pair = [_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b)];
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::{ImageLayout, lookup};
    use crate::isa::Isa;

    #[test]
    fn all_tiers_find_the_entries() {
        let mut state = 9u32;
        let mut below = |most: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % most
        };
        for round in 0..300 {
            let [height, width, channels] = [13, 13, 50].map(|most| 1 + below(most) as usize);
            let mut layout = || {
                let border = std::array::from_fn(|_| below(3) as usize);
                ImageLayout::new(height, width, channels, border)
            };
            let (from, to) = (layout(), layout());
            let mut bytes = |len: usize| (0..len).map(|_| below(256) as u8).collect::<Vec<u8>>();
            let image = bytes(from.len());
            let count = if round % 3 == 0 { 1 } else { channels };
            let tables = bytes(256 * count).as_chunks::<256>().0.to_vec();
            for isa in Isa::available() {
                let mut out = vec![7; to.len()];
                let mut expected = out.clone();
                lookup(isa, &tables, (&image, &from), (&mut out, &to));
                for pixel in 0..height * width {
                    let at = [pixel / width, pixel % width];
                    for channel in 0..channels {
                        let code = usize::from(image[from.at(at[0], at[1]) + channel]);
                        let at = to.at(at[0], at[1]) + channel;
                        expected[at] = tables[channel % count][code];
                    }
                    // What follows the channels may hold anything.
                    let rest = to.at(at[0], at[1]) + channels..to.at(at[0], at[1]) + to.pixel;
                    out[rest].fill(7);
                }
                assert!(out == expected, "{from:?}, {to:?}, {count} tables, {}", isa.name());
            }
        }
    }
}
