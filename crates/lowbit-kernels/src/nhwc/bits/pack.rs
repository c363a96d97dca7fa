//! From codes to bits, 64 at a time.

use super::{PLANES_MAX, Thresholds};
use crate::isa::{Isa, Task};
use crate::nhwc::codes::Codes;
use crate::nhwc::layout::ImageLayout;

/// Codes that are compared at once.
const BLOCK: usize = 64;

/// The bits of images of codes, where codes reach thresholds.
#[derive(Clone, Debug)]
pub struct PackBits {
    isa: Isa,
    channels: usize,
    planes: usize,
    /// Level by level for each block of channels.
    blocks: Vec<Vec<Level>>,
}

/// A threshold for each code of a block.
#[derive(Clone, Debug)]
struct Level {
    /// 0 beyond the channels.
    at_least: [u8; BLOCK],
    /// Results to turn round.
    inverted: u64,
}

impl PackBits {
    /// # Panics
    /// When the lists of thresholds have not the same length, or there are more than those of four planes.
    #[must_use]
    pub fn new(isa: Isa, thresholds: &Thresholds) -> Self {
        let channels = thresholds.inverted.len();
        thresholds.check(channels);
        let block = |first: usize| {
            let level = |at_least: &Vec<i32>| Level::new(&at_least[first..], thresholds, first);
            thresholds.at_least.iter().map(level).collect()
        };
        let blocks = (0..channels).step_by(BLOCK).map(block).collect();
        Self { isa, channels, planes: thresholds.planes(), blocks }
    }

    /// Writes the bits of an image, but not those of its border.
    /// # Panics
    /// When the images have not the same extent, or are shorter than their layouts say, or the thresholds are those of another
    /// number of channels.
    pub fn run(&self, (codes, x): (&ImageLayout, &[u8]), (bits, out): (&ImageLayout, &mut [u8])) {
        assert!(
            [codes.height, codes.width, codes.channels] == [bits.height, bits.width, bits.channels],
            "both images have the same extent"
        );
        assert_eq!(bits.pixel, self.planes * bits.plane(), "a pixel holds its planes of bits");
        assert_eq!(self.channels, codes.channels, "a threshold for each channel");
        for y in 0..codes.height {
            let from = &x[codes.at(y, 0)..][..codes.width * codes.pixel];
            let to = &mut out[bits.at(y, 0)..][..bits.width * bits.pixel];
            self.isa.dispatch(PackRow {
                bits: self,
                from: (from, codes.pixel),
                to: (to, bits.plane()),
            });
        }
    }
}

impl Level {
    fn new(at_least: &[i32], thresholds: &Thresholds, first: usize) -> Self {
        let mut level = Self { at_least: [0; BLOCK], inverted: u64::MAX };
        let turned = &thresholds.inverted[first..];
        for (at, (&least, &turned)) in at_least.iter().zip(turned).enumerate().take(BLOCK) {
            // A code that none reaches is one that all reach, turned round.
            let never = least > 255;
            level.at_least[at] = if never { 0 } else { least.max(0) as u8 };
            level.inverted ^= u64::from(turned == never) << at;
        }
        level
    }
}

/// A row of pixels of so many bytes, and of planes of so many.
struct PackRow<'a> {
    bits: &'a PackBits,
    from: (&'a [u8], usize),
    to: (&'a mut [u8], usize),
}

impl Task for PackRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Codes>(self, arch: A) {
        let PackRow { bits, from, to } = self;
        let (channels, planes) = (bits.channels, bits.planes);
        for (from, to) in from.0.chunks_exact(from.1).zip(to.0.chunks_exact_mut(planes * to.1)) {
            let plane_bytes = to.len() / planes;
            for (block, levels) in bits.blocks.iter().enumerate() {
                let from = &from[block * BLOCK..channels.min((block + 1) * BLOCK)];
                let mut padded = [0; BLOCK];
                let codes = from.first_chunk().unwrap_or_else(|| {
                    padded[..from.len()].copy_from_slice(from);
                    &padded
                });
                let mut words = [0; PLANES_MAX];
                for (level, Level { at_least, inverted }) in levels.iter().enumerate() {
                    flip(&mut words, level, arch.reach(codes, at_least) ^ inverted);
                }
                for (plane, bits) in to.chunks_exact_mut(plane_bytes).zip(words) {
                    let to = &mut plane[block * BLOCK / 8..];
                    // Planes are words of 4 bytes.
                    if let Some(to) = to.first_chunk_mut() {
                        *to = bits.to_le_bytes();
                    } else if let Some(to) = to.first_chunk_mut() {
                        *to = (bits as u32).to_le_bytes();
                    }
                }
            }
        }
    }
}

/// Takes the results of level `level` into the planes of a count: plane `p` flips at every multiple of `2^p`.
#[inline(always)]
pub(super) fn flip<T: Copy + std::ops::BitXorAssign>(
    planes: &mut [T; PLANES_MAX],
    level: usize,
    reached: T,
) {
    for plane in &mut planes[..=(level + 1).trailing_zeros() as usize] {
        *plane ^= reached;
    }
}
