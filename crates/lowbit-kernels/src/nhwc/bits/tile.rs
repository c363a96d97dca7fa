//! The tile of bits: a few pixels against one panel of outputs, over the whole inner dimension.
//!
//! Where one instruction counts bits, words are either counted one by one, or added bit by bit before. The latter takes fewer instructions,
//! but twice the registers, so that fewer pixels share what is loaded; which is faster depends on the CPU, and is measured.

use std::hint::black_box;
use std::ops::Range;
use std::sync::OnceLock;

use super::pack::flip;
use super::{BitConv, Ending, PLANES_MAX, WORD};
use crate::arch::Arch;
use crate::isa::Isa;
use crate::nhwc::codes::Codes;
use crate::nhwc::finish::finish;
use crate::nhwc::panels::Panel;
use crate::nhwc::popcount::{SignTask, Signs, V, dispatch, has_popcount};
use crate::nhwc::tile::{Layer, Places, offsets};
use crate::nhwc::trial::least_seconds;

/// Pixels that are computed together where words are added bit by bit: the sums of both powers of two fit in registers.
const CARRIED: usize = 4;

/// Some pixels and panels of a layer.
pub(super) struct Part<'a> {
    pub(super) conv: &'a BitConv,
    pub(super) layer: Layer<'a>,
    pub(super) panels: Range<usize>,
    pub(super) pixels: Range<usize>,
}

impl SignTask for Part<'_> {
    #[inline(always)]
    fn run<S: Signs>(self, signs: S) {
        let conv = self.conv;
        let least = self.tile_pixels::<S>();
        let tile = if self.pixels.len() < least { 1 } else { least };
        // Other tiers wait longer for counts than for what becomes of them.
        let once = S::COUNTS && conv.passes() == 1 && matches!(conv.ending, Ending::Bits { .. });
        for panel in self.panels.clone() {
            // SAFETY: the lengths of the images were checked, and parts share neither pixels nor panels.
            unsafe {
                match (conv.digits.masked, once) {
                    (false, false) => self.panel::<S, 1, false>(signs, panel, tile),
                    (false, true) => self.panel::<S, 1, true>(signs, panel, tile),
                    (true, false) => self.panel::<S, 2, false>(signs, panel, tile),
                    (true, true) => self.panel::<S, 2, true>(signs, panel, tile),
                }
            }
        }
    }
}

// Below, loops count where `zip` would do: sums that are handed on by iterators leave their registers.

impl Part<'_> {
    /// Pixels of a tile.
    #[inline(always)]
    fn tile_pixels<S: Signs>(&self) -> usize {
        if self.conv.carried {
            return CARRIED;
        }
        // Seven leave more registers for steps that wait: of masked words, 8 pixels take a tenth longer each on a Zen 4.
        let sevens = self.layer.spec.output.width.is_multiple_of(7);
        if S::COUNTS && self.conv.digits.masked && sevens {
            return 7;
        }
        self.layer.tile_pixels::<S::A>()
    }

    /// A panel whose weights have `W` words a plane, in tiles of so many pixels. `ONCE`: the weights meet the image once, and bits are
    /// written.
    /// # Safety
    /// The pixels are pixels of the result, at least those of a tile; no other thread writes the same.
    #[inline(always)]
    unsafe fn panel<S: Signs, const W: usize, const ONCE: bool>(
        &self,
        signs: S,
        panel: usize,
        tile: usize,
    ) {
        // SAFETY: as this function's.
        unsafe {
            match tile {
                8 if S::COUNTS || W == 2 => self.tiles::<S, 8, W, ONCE>(signs, panel),
                7 if S::COUNTS || W == 2 => self.tiles::<S, 7, W, ONCE>(signs, panel),
                4 => self.tiles::<S, CARRIED, W, ONCE>(signs, panel),
                _ => self.tiles::<S, 1, W, ONCE>(signs, panel),
            }
        }
    }

    /// Tiles of `R` pixels; the last tile overlaps the one before it.
    /// # Safety
    /// As [`Part::panel`]; there are at least `R` pixels.
    #[inline(always)]
    unsafe fn tiles<S: Signs, const R: usize, const W: usize, const ONCE: bool>(
        &self,
        signs: S,
        index: usize,
    ) {
        let conv = self.conv;
        let (panel, width) = (&conv.panels[index], conv.spec.output.width);
        let columns = 2 * <S::A as Arch>::LANES;
        let (inner, planes) = (conv.offsets.len(), conv.digits.planes);
        let weights = &conv.words[panel.words * planes * W..][..inner * planes * W * columns];
        for first in self.pixels.clone().step_by(R) {
            let first = first.min(self.pixels.end - R);
            let at = [first / width, first % width];
            // SAFETY: every word of every tap and plane lies inside the input; the weights were sliced to their length.
            let counts = unsafe {
                let x = self.layer.taps(at);
                if ONCE {
                    // Counts that loops over planes do not touch stay in registers.
                    let mut counts = [[signs.codes().splat(0); 2]; R];
                    add_plane::<S, R, W>(signs, &mut counts, x, &conv.offsets, weights.as_ptr());
                    counts
                } else {
                    self.counts::<S, R, W>(signs, x, weights.as_ptr())
                }
            };
            match &conv.ending {
                Ending::Sums(_) if ONCE => unreachable!("bits are written"),
                // SAFETY: the pixels and the panel's outputs lie inside the images.
                Ending::Sums(_) => unsafe { self.finish(signs, counts, (panel, at)) },
                Ending::Bits { planes, inverted } => {
                    let inverted = inverted[index];
                    // SAFETY: the pixels have bytes for the panel's bits in each plane, of which there are as many as are said.
                    unsafe {
                        match planes {
                            1 => self.write_bits::<S, R, 1>(signs, counts, inverted, (panel, at)),
                            2 => self.write_bits::<S, R, 2>(signs, counts, inverted, (panel, at)),
                            3 => self.write_bits::<S, R, 3>(signs, counts, inverted, (panel, at)),
                            _ => self.write_bits::<S, R, 4>(signs, counts, inverted, (panel, at)),
                        }
                    }
                }
            }
        }
    }

    /// Writes what becomes of sums.
    /// # Safety
    /// The pixels from `at` on are pixels of the result.
    #[inline(always)]
    unsafe fn finish<S: Signs, const R: usize>(
        &self,
        signs: S,
        counts: [[V<S>; 2]; R],
        (panel, at): (&Panel, [usize; 2]),
    ) {
        if panel.outputs == 0 {
            return;
        }
        let (conv, arch, lanes) = (self.conv, signs.codes(), <S::A as Arch>::LANES);
        let bounds = arch.bounds(self.layer.write.last_clamp());
        // Counts of 15 bits are multiplied in the lower half of each lane.
        let digits = (1 << conv.digits.planes) - 1;
        let most = conv.values.levels() as usize * digits * conv.offsets.len() * WORD;
        let scale = i16::from(conv.values.step) * i16::from(conv.digits.unit);
        let factor = arch.splat(u32::from((-scale).cast_unsigned()));
        let sets = conv.edges.at::<R>(at, conv.spec.output.width);
        let mut sums = [[arch.splat(0); 2]; R];
        for r in 0..R {
            let bias = conv.edges.numbers[sets[r] + panel.column..][..2 * lanes].as_ptr();
            for n in 0..2 {
                // SAFETY: the panel has two vectors of biases.
                let bias = unsafe { arch.load(bias.add(n * lanes).cast()) };
                sums[r][n] = if most <= i16::MAX as usize {
                    arch.dot_i16(bias, counts[r][n], factor)
                } else {
                    arch.sub_i32(bias, shifted(arch, counts[r][n], scale))
                };
            }
        }
        let factors = conv.factors[panel.column..][..2 * lanes].as_ptr();
        let places = Places { layer: &self.layer, panel, at };
        // SAFETY: as this function's; a panel has its factors.
        unsafe { finish(arch, bounds, sums, factors, places) };
    }

    /// Writes codes of `P` bits: how many limits a count keeps to.
    /// # Safety
    /// The pixels from `at` on are pixels of the result, which has `P` planes.
    #[inline(always)]
    unsafe fn write_bits<S: Signs, const R: usize, const P: usize>(
        &self,
        signs: S,
        counts: [[V<S>; 2]; R],
        inverted: u32,
        (panel, at): (&Panel, [usize; 2]),
    ) {
        let (conv, arch, lanes) = (self.conv, signs.codes(), <S::A as Arch>::LANES);
        let (output, all_lanes) = (&conv.spec.output, conv.edges.lanes());
        let first = output.at(at[0], at[1]) + panel.output / 8;
        let to = offsets::<R>(output.width, at[1], (first, output.row(), output.pixel));
        let limits = conv.edges.numbers.as_ptr().wrapping_add(panel.column);
        let sets = conv.edges.at::<R>(at, output.width);
        for r in 0..R {
            let mut words = [0; PLANES_MAX];
            let [low, high] = counts[r];
            for level in 0..const { (1 << P) - 1 } {
                let of_level = limits.wrapping_add(sets[r] + level * all_lanes);
                // SAFETY: each set has the lanes of all panels for each code.
                let limits =
                    unsafe { [arch.load(of_level.cast()), arch.load(of_level.add(lanes).cast())] };
                let reached =
                    signs.at_least(limits[0], low) | signs.at_least(limits[1], high) << lanes;
                flip(&mut words, level, reached);
            }
            for (number, bits) in words[..P].iter().enumerate() {
                let to = self.layer.images.codes.wrapping_add(to[r] + number * output.plane());
                // SAFETY: the pixel has the bytes of this panel's bits in each plane.
                unsafe { store_bits(to, bits ^ inverted, 2 * lanes / 8) };
            }
        }
    }

    /// How often the bits of `R` pixels differ from the signs of two vectors of outputs, times the powers of two of their planes.
    /// # Safety
    /// The words of every plane are readable at each pixel and offset, and the weights are those of a panel.
    #[inline(always)]
    unsafe fn counts<S: Signs, const R: usize, const W: usize>(
        &self,
        signs: S,
        x: [*const u8; R],
        weights: *const u32,
    ) -> [[V<S>; 2]; R] {
        let (conv, arch) = (self.conv, signs.codes());
        let words = conv.offsets.len() * W * 2 * <S::A as Arch>::LANES;
        let mut counts = [[arch.splat(0); 2]; R];
        // The powers of two of both sides, from the greatest sum of them on.
        for power in (0..conv.values.planes + conv.digits.planes - 1).rev() {
            let least = (power + 1).saturating_sub(conv.digits.planes);
            for of_x in least..conv.values.planes.min(power + 1) {
                let mut pixels = x;
                for pixel in &mut pixels {
                    *pixel = pixel.wrapping_add(of_x * conv.plane);
                }
                // SAFETY: as this function's.
                unsafe {
                    let weights = weights.add((power - of_x) * words);
                    add_plane::<S, R, W>(signs, &mut counts, pixels, &conv.offsets, weights);
                }
            }
            if power == 0 {
                break;
            }
            for counts in &mut counts {
                for count in counts {
                    *count = arch.add_i32(*count, *count);
                }
            }
        }
        counts
    }
}

/// `count * factor`, a power of two, by doubling.
#[inline(always)]
fn shifted<A: Arch>(arch: A, count: A::V, factor: i16) -> A::V {
    let mut scaled = count;
    for _ in 0..factor.trailing_zeros() {
        scaled = arch.add_i32(scaled, scaled);
    }
    scaled
}

/// Writes the first `len` bytes of a word.
/// # Safety
/// `len` bytes are writable at `to`.
#[inline(always)]
unsafe fn store_bits(to: *mut u8, bits: u32, len: usize) {
    if len == 4 {
        // SAFETY: as this function's; the write needs no alignment.
        return unsafe { to.cast::<[u8; 4]>().write(bits.to_le_bytes()) };
    }
    for (at, byte) in bits.to_le_bytes().into_iter().enumerate().take(len) {
        // SAFETY: as this function's.
        unsafe { to.add(at).write(byte) };
    }
}

/// Adds how often the bits of one plane of `R` pixels differ from the signs of one of two vectors of outputs.
/// # Safety
/// Four bytes are readable at each pixel and offset, and two vectors of `W` words for each offset.
#[inline(always)]
unsafe fn add_plane<S: Signs, const R: usize, const W: usize>(
    signs: S,
    counts: &mut [[V<S>; 2]; R],
    x: [*const u8; R],
    offsets: &[u32],
    weights: *const u32,
) {
    // SAFETY: as this function's.
    unsafe {
        if W == 1 && R == CARRIED {
            add_carried::<S, R>(signs, counts, x, offsets, weights);
        } else {
            add_counts::<S, R, W>(signs, counts, x, offsets, weights);
        }
    }
}

/// As [`add_counts`], for words of signs alone: the bits of each two words are added to those of all before, bit by bit, so that half
/// as many words are counted.
/// # Safety
/// As [`add_counts`].
#[inline(always)]
unsafe fn add_carried<S: Signs, const R: usize>(
    signs: S,
    counts: &mut [[V<S>; 2]; R],
    x: [*const u8; R],
    offsets: &[u32],
    mut weights: *const u32,
) {
    let (arch, lanes) = (signs.codes(), <S::A as Arch>::LANES);
    let (mut ones, mut twos) = ([[arch.splat(0); 2]; R], [[arch.splat(0); 2]; R]);
    let (pairs, last) = offsets.as_chunks::<2>();
    for pair in pairs {
        // SAFETY: as this function's.
        let w = unsafe { load_weights::<S, 2>(signs, weights) };
        for ((ones, twos), x) in ones.iter_mut().zip(&mut twos).zip(x) {
            let mut words = [arch.splat(0); 2];
            for (word, offset) in words.iter_mut().zip(pair) {
                // SAFETY: as this function's.
                *word = unsafe { spread(signs, x, *offset) };
            }
            for (n, (ones, twos)) in ones.iter_mut().zip(twos).enumerate() {
                let carried = signs.carry(ones, [words[0], w[n][0]], [words[1], w[n][1]]);
                *twos = signs.add_ones(*twos, carried);
            }
        }
        // SAFETY: the weights of these words are followed by those of the next.
        weights = unsafe { weights.add(4 * lanes) };
    }
    let added = counts.as_flattened_mut().iter_mut();
    for (count, (&ones, &twos)) in added.zip(ones.as_flattened().iter().zip(twos.as_flattened())) {
        *count = signs.add_ones(arch.add_i32(*count, arch.add_i32(twos, twos)), ones);
    }
    // SAFETY: as this function's; at most one word is left.
    unsafe { add_counts::<S, R, 1>(signs, counts, x, last, weights) };
}

/// As [`add_plane`], counting each word.
/// # Safety
/// As [`add_plane`].
#[inline(always)]
unsafe fn add_counts<S: Signs, const R: usize, const W: usize>(
    signs: S,
    counts: &mut [[V<S>; 2]; R],
    x: [*const u8; R],
    offsets: &[u32],
    mut weights: *const u32,
) {
    for &offset in offsets {
        // SAFETY: as this function's; the weights of this word are followed by those of the next.
        unsafe {
            let w = load_weights::<S, W>(signs, weights);
            if S::COUNTS {
                add_in_turn::<S, R, W>(signs, counts, (x, offset), w);
            } else {
                for (counts, x) in counts.iter_mut().zip(x) {
                    let x = spread(signs, x, offset);
                    for (n, count) in counts.iter_mut().enumerate() {
                        *count = signs.add_ones(*count, signs.difference(x, w[n]));
                    }
                }
            }
            weights = weights.add(2 * W * <S::A as Arch>::LANES);
        }
    }
}

/// Pixels between what counts the bits of one and what adds them.
const DELAY: usize = 4;

/// Adds the counts of a word, with the steps of some pixels between those of each: a step that need not wait for the one before it finds a
/// unit sooner.
/// # Safety
/// Four bytes are readable at each pixel and the offset.
#[inline(always)]
unsafe fn add_in_turn<S: Signs, const R: usize, const W: usize>(
    signs: S,
    counts: &mut [[V<S>; 2]; R],
    (x, offset): ([*const u8; R], u32),
    w: [[V<S>; W]; 2],
) {
    const { assert!(R <= 8, "as many pixels as steps") };
    let arch = signs.codes();
    let mut bits = [[arch.splat(0); 2]; R];
    for_each_of_8!(STEP => {
        if STEP < R {
            // SAFETY: as this function's.
            let x = unsafe { spread(signs, x[STEP], offset) };
            bits[STEP] = [signs.difference(x, w[0]), signs.difference(x, w[1])];
        }
        if let Some(before) = STEP.checked_sub(1)
            && STEP < R
        {
            bits[before] = ones(signs, bits[before]);
            if let Some(done) = STEP.checked_sub(DELAY) {
                counts[done] = add(arch, counts[done], bits[done]);
            }
            let done = STEP.saturating_sub(DELAY);
            let mut pinned = [bits[STEP], bits[before], counts[done]];
            signs.pin(&mut pinned);
            [bits[STEP], bits[before], counts[done]] = pinned;
        }
    });
    bits[R - 1] = ones(signs, bits[R - 1]);
    for r in R.saturating_sub(DELAY)..R {
        counts[r] = add(arch, counts[r], bits[r]);
    }
}

/// How many bits of each lane are set.
#[inline(always)]
fn ones<S: Signs>(signs: S, [low, high]: [V<S>; 2]) -> [V<S>; 2] {
    let zero = signs.codes().splat(0);
    [signs.add_ones(zero, low), signs.add_ones(zero, high)]
}

#[inline(always)]
fn add<A: Arch>(arch: A, a: [A::V; 2], b: [A::V; 2]) -> [A::V; 2] {
    [arch.add_i32(a[0], b[0]), arch.add_i32(a[1], b[1])]
}

/// `W` words of weights for each of two vectors of outputs.
/// # Safety
/// They are readable at `from`.
#[inline(always)]
unsafe fn load_weights<S: Signs, const W: usize>(signs: S, from: *const u32) -> [[V<S>; W]; 2] {
    let (arch, lanes) = (signs.codes(), <S::A as Arch>::LANES);
    let mut words = [[arch.splat(0); W]; 2];
    for (n, words) in words.iter_mut().enumerate() {
        for (at, word) in words.iter_mut().enumerate() {
            // SAFETY: as this function's.
            *word = unsafe { arch.load(from.add((2 * at + n) * lanes)) };
        }
    }
    words
}

/// The word of a pixel at an offset, in all lanes.
/// # Safety
/// Four bytes are readable there.
#[inline(always)]
unsafe fn spread<S: Signs>(signs: S, pixel: *const u8, offset: u32) -> V<S> {
    // SAFETY: as this function's; the read needs no alignment.
    let word = unsafe { pixel.add(offset as usize).cast::<u32>().read_unaligned() };
    signs.codes().splat(u32::from_le(word))
}

/// Words of the inner dimension that are measured, those of 64 channels and nine taps.
const TRIAL_WORDS: usize = 18;

/// Tiles that are measured: some 20 us.
const TRIAL_TILES: usize = 150;

/// Whether adding words bit by bit is faster here than counting each.
pub(super) fn carries(isa: Isa) -> bool {
    static MEASURED: OnceLock<bool> = OnceLock::new();
    let run = |carried| dispatch(isa, Trial { carried });
    let measure = || {
        let [carried, counted] = least_seconds([&|| run(true), &|| run(false)]);
        carried < counted
    };
    !has_popcount(isa) || *MEASURED.get_or_init(measure)
}

/// As many pixels in either way, in tiles.
struct Trial {
    carried: bool,
}

impl SignTask for Trial {
    #[inline(always)]
    fn run<S: Signs>(self, signs: S) {
        let words = vec![0u32; TRIAL_WORDS * 2 * <S::A as Arch>::LANES];
        let (x, weights) = ([words.as_ptr().cast::<u8>(); 8], words.as_ptr());
        let offsets: [u32; TRIAL_WORDS] = std::array::from_fn(|at| 4 * at as u32);
        let zero = signs.codes().splat(0);
        for _ in 0..TRIAL_TILES {
            // SAFETY: offsets and weights end with the words.
            unsafe {
                if self.carried {
                    for x in x.as_chunks::<CARRIED>().0 {
                        let mut counts = [[zero; 2]; CARRIED];
                        add_carried::<S, CARRIED>(signs, &mut counts, *x, &offsets, weights);
                        black_box(counts);
                    }
                } else {
                    let mut counts = [[zero; 2]; 8];
                    add_counts::<S, 8, 1>(signs, &mut counts, x, &offsets, weights);
                    black_box(counts);
                }
            }
        }
    }
}
