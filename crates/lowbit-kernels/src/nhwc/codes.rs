//! The vector operations on codes that [`crate::arch::Arch`] does not have, and their plain form.

use super::popcount::Ones;
use crate::arch::Portable;
use crate::isa::Task;

/// The codes that may be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clamp {
    /// Added to each rounded value first, saturating.
    pub(crate) zero_point: u8,
    pub(crate) low: u8,
    pub(crate) high: u8,
}

impl Clamp {
    /// For values that are codes already.
    pub(crate) const NONE: Self = Self { zero_point: 0, low: 0, high: u8::MAX };
}

/// Vectors of sums of products of codes, and how codes come and go.
pub(crate) trait Codes: Ones {
    /// Four codes in each lane, ready for [`Codes::dot`], or of one pixel, ready for [`Codes::dot_word`].
    type X: Copy;
    /// Four weights in each lane, ready for [`Codes::dot`].
    type W: Copy;
    /// A [`Clamp`], ready for [`Codes::join`].
    type Bounds: Copy;
    /// Pixels of the register tile of two vectors.
    const PIXELS: usize;
    /// What [`Codes::dot`] takes off each code: products of two signed bytes need 128. Biases make up for it.
    const OFFSET: i32;
    /// Words that [`Codes::run`] reads: 1 or 4.
    const RUN: usize = 1;
    /// Whether there are registers to unpack weights between the products of a tile.
    const UNPACKS_BESIDE: bool = false;
    /// Whether there are registers, and units, for the ending of a tile between the products of the next one.
    const OVERLAPS: bool = false;

    /// Runs a task in a function of its own.
    fn apart<T: Task>(self, task: T) -> T::Output;
    /// Leaves the vectors as they are, but what makes them, and any load, stays before or behind this, where the tier gives
    /// [`Codes::OVERLAPS`]: a compiler that knows no better gathers the work of one kind. A tile has eight vectors.
    #[inline(always)]
    fn pin<const R: usize, const N: usize>(self, _: &mut [[Self::V; N]; R], _: &mut [Self::V; 4]) {}
    /// Four codes of one pixel, as word 0 of [`Codes::dot_word`].
    /// # Safety
    /// Four bytes are readable at `from`.
    unsafe fn activations(self, from: *const u8) -> Self::X;
    /// The codes of one pixel in `RUN` words, ready for [`Codes::dot_word`].
    /// # Safety
    /// As many words of four bytes are readable at `from`.
    #[inline(always)]
    unsafe fn run(self, from: *const u8) -> Self::X {
        // SAFETY: as this function's; a run is one word where a tier says nothing else.
        unsafe { self.activations(from) }
    }
    fn weights(self, words: Self::V) -> Self::W;
    /// `acc` plus the four products of weights and codes less `OFFSET`, as `i32`, wrapping.
    fn dot(self, acc: Self::V, x: Self::X, w: Self::W) -> Self::V;
    /// As [`Codes::dot`], with the four codes of word `WORD` of a pixel in every lane.
    #[inline(always)]
    fn dot_word<const WORD: i32>(self, acc: Self::V, x: Self::X, w: Self::W) -> Self::V {
        self.dot(acc, x, w)
    }
    /// `a * b + c` as `f32`, rounded once.
    fn fused_f32(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `i32` to the nearest `f32`.
    fn to_f32(self, vector: Self::V) -> Self::V;
    /// `f32` to the nearest `i32`, half to even; what is below `i32` gives `i32::MIN`. None is above, and none is NaN.
    fn round(self, vector: Self::V) -> Self::V;
    fn sub_i32(self, a: Self::V, b: Self::V) -> Self::V;
    /// The first `len <= LANES` codes as `i32`, zeros in the other lanes.
    /// # Safety
    /// `len` bytes are readable at `from`.
    unsafe fn load_codes(self, from: *const u8, len: usize) -> Self::V;
    /// `LANES` codes as `i32`.
    /// # Safety
    /// `LANES` bytes are readable at `from`.
    #[inline(always)]
    unsafe fn load_full_codes(self, from: *const u8) -> Self::V {
        // SAFETY: as this function's.
        unsafe { self.load_codes(from, Self::LANES) }
    }
    /// The four codes that each lane holds, ready for [`Codes::dot`].
    fn spread(self, words: Self::V) -> Self::X;
    /// `len <= 4 * LANES` bytes, zeros after them.
    /// # Safety
    /// `len` bytes are readable at `from`.
    unsafe fn load_bytes(self, from: *const u8, len: usize) -> Self::V;
    /// The first `len <= 4 * LANES` bytes.
    /// # Safety
    /// `len` bytes are writable at `to`.
    unsafe fn store_bytes(self, to: *mut u8, bytes: Self::V, len: usize);
    /// Vectors whose lanes hold one byte of each row: lane `i` of vector `j` has those of byte [`interleaved`]`(j, i)`.
    fn interleave(self, rows: [Self::V; 4]) -> [Self::V; 4];
    /// `clamp(value + zero_point)` as bytes, in the order that [`Codes::interleave`] undoes.
    fn join(self, values: [Self::V; 4], bounds: Self::Bounds) -> Self::V;
    fn bounds(self, clamp: Clamp) -> Self::Bounds;
    /// Each byte of `(packed >> shift) & mask` replaced by that entry of a table, which is repeated every 16 bytes.
    fn pick(self, packed: Self::V, shift: u32, mask: Self::V, table: Self::V) -> Self::V;
    /// What [`Codes::join`] gave, with the codes of each of the four vectors side by side.
    fn side_by_side(self, joined: Self::V) -> Self::V;
    /// The first `len` bytes of each of the `P` equal parts of a vector; `P` is 2 or 4.
    /// # Safety
    /// `len` bytes, at most `4 * LANES / P`, are writable at each of `to`.
    unsafe fn store_parts<const P: usize>(self, to: [*mut u8; P], bytes: Self::V, len: usize);

    /// A bit for each of 64 codes, the first one lowest: whether it is at least its threshold.
    #[inline(always)]
    fn reach(self, codes: &[u8; 64], least: &[u8; 64]) -> u64 {
        let mut bits = 0;
        for (at, (code, least)) in codes.iter().zip(least).enumerate() {
            bits |= u64::from(code >= least) << at;
        }
        bits
    }

    /// The entry of each byte.
    #[inline(always)]
    fn lookup_bytes(self, bytes: Self::V, table: &[u8; 256]) -> Self::V {
        let mut codes = [0u8; 64];
        const { assert!(Self::LANES <= 16, "a vector has at most 64 bytes") };
        // SAFETY: `codes` holds at least the bytes of a vector.
        unsafe { self.store_bytes(codes.as_mut_ptr(), bytes, 4 * Self::LANES) };
        for code in &mut codes[..4 * Self::LANES] {
            *code = table[usize::from(*code)];
        }
        // SAFETY: as above.
        unsafe { self.load_bytes(codes.as_ptr(), 4 * Self::LANES) }
    }

    /// The entry of each lane's code; lanes are in `0..256`.
    #[inline(always)]
    fn lookup(self, codes: Self::V, table: &[u8; 256]) -> Self::V {
        let mut lanes = [0u32; 16];
        const { assert!(Self::LANES <= 16, "a vector has at most 16 words") };
        // SAFETY: `lanes` holds at least `LANES` words.
        unsafe { self.store(lanes.as_mut_ptr(), codes) };
        for lane in &mut lanes[..Self::LANES] {
            *lane = table[(*lane & 255) as usize].into();
        }
        // SAFETY: as above.
        unsafe { self.load(lanes.as_ptr()) }
    }
}

/// The byte of a row that [`Codes::interleave`] puts in a lane of a vector.
pub(crate) fn interleaved(vector: usize, lane: usize) -> usize {
    lane / 4 * 16 + vector * 4 + lane % 4
}

#[inline(always)]
fn map(a: [u32; 4], b: [u32; 4], op: impl Fn(i32, i32) -> i32) -> [u32; 4] {
    std::array::from_fn(|i| op(a[i] as i32, b[i] as i32) as u32)
}

/// Four codes in each lane.
#[derive(Clone, Copy)]
pub(crate) struct Spread([u32; 4]);

impl Codes for Portable {
    type X = Spread;
    type Bounds = Clamp;
    type W = [u32; 4];
    const PIXELS: usize = 4;
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn apart<T: Task>(self, task: T) -> T::Output {
        task.run_portable()
    }

    #[inline(always)]
    unsafe fn activations(self, from: *const u8) -> Self::X {
        // SAFETY: the caller promises four readable bytes.
        Spread([u32::from_le_bytes(unsafe { from.cast::<[u8; 4]>().read() }); 4])
    }

    #[inline(always)]
    fn weights(self, words: Self::V) -> Self::W {
        words
    }

    #[inline(always)]
    fn dot(self, acc: Self::V, x: Self::X, w: Self::W) -> Self::V {
        std::array::from_fn(|lane| {
            let w = w[lane].to_le_bytes().map(|byte| i32::from(byte as i8));
            let x = x.0[lane].to_le_bytes().map(i32::from);
            let sum = x[0] * w[0] + x[1] * w[1] + x[2] * w[2] + x[3] * w[3];
            acc[lane].wrapping_add(sum as u32)
        })
    }

    #[inline(always)]
    fn fused_f32(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| {
            f32::from_bits(a[i]).mul_add(f32::from_bits(b[i]), f32::from_bits(c[i])).to_bits()
        })
    }

    #[inline(always)]
    fn to_f32(self, vector: Self::V) -> Self::V {
        vector.map(|word| (word as i32 as f32).to_bits())
    }

    #[inline(always)]
    fn round(self, vector: Self::V) -> Self::V {
        vector.map(|word| f32::from_bits(word).round_ties_even() as i32 as u32)
    }

    #[inline(always)]
    fn sub_i32(self, a: Self::V, b: Self::V) -> Self::V {
        map(a, b, i32::wrapping_sub)
    }

    #[inline(always)]
    unsafe fn load_codes(self, from: *const u8, len: usize) -> Self::V {
        let mut codes = [0; 4];
        for (lane, code) in codes.iter_mut().enumerate().take(len) {
            // SAFETY: the caller promises `len` readable bytes.
            *code = unsafe { from.add(lane).read() }.into();
        }
        codes
    }

    #[inline(always)]
    fn spread(self, words: Self::V) -> Self::X {
        Spread(words)
    }

    #[inline(always)]
    unsafe fn load_bytes(self, from: *const u8, len: usize) -> Self::V {
        let mut bytes = [[0u8; 4]; 4];
        for (at, byte) in bytes.as_flattened_mut().iter_mut().enumerate().take(len) {
            // SAFETY: the caller promises `len` readable bytes.
            *byte = unsafe { from.add(at).read() };
        }
        bytes.map(u32::from_le_bytes)
    }

    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8, bytes: Self::V, len: usize) {
        for (at, &byte) in bytes.map(u32::to_le_bytes).as_flattened().iter().enumerate().take(len) {
            // SAFETY: the caller promises `len` writable bytes.
            unsafe { to.add(at).write(byte) }
        }
    }

    #[inline(always)]
    fn interleave(self, rows: [Self::V; 4]) -> [Self::V; 4] {
        let rows = rows.map(|row| row.map(u32::to_le_bytes));
        std::array::from_fn(|j| {
            std::array::from_fn(|i| u32::from_le_bytes(rows.map(|row| row[j][i])))
        })
    }

    #[inline(always)]
    fn bounds(self, clamp: Clamp) -> Clamp {
        clamp
    }

    #[inline(always)]
    fn join(self, values: [Self::V; 4], clamp: Clamp) -> Self::V {
        let (low, high) = (i32::from(clamp.low), i32::from(clamp.high));
        values.map(|vector| {
            u32::from_le_bytes(vector.map(|value| {
                (value as i32).saturating_add(clamp.zero_point.into()).clamp(low, high) as u8
            }))
        })
    }

    #[inline(always)]
    fn side_by_side(self, joined: Self::V) -> Self::V {
        joined
    }

    #[inline(always)]
    unsafe fn store_parts<const P: usize>(self, to: [*mut u8; P], bytes: Self::V, len: usize) {
        let bytes = bytes.map(u32::to_le_bytes);
        for (to, bytes) in to.into_iter().zip(bytes.as_flattened().chunks_exact(16 / P)) {
            for (at, &byte) in bytes.iter().enumerate().take(len) {
                // SAFETY: the caller promises `len` writable bytes.
                unsafe { to.add(at).write(byte) }
            }
        }
    }

    #[inline(always)]
    fn pick(self, packed: Self::V, shift: u32, mask: Self::V, table: Self::V) -> Self::V {
        let table = table.map(u32::to_le_bytes);
        std::array::from_fn(|lane| {
            let indices = ((packed[lane] >> shift) & mask[lane]).to_le_bytes();
            u32::from_le_bytes(indices.map(|index| table.as_flattened()[usize::from(index % 16)]))
        })
    }
}
