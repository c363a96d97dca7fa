//! The dozen vector operations that the kernels are written in, for each tier.
//!
//! A vector is `LANES` words of 32 bits; a word is one `f32` or a pair of `i16`. Methods are `#[inline(always)]` so that
//! they melt into the `#[target_feature]` function of [`crate::isa::Isa::dispatch`]. No loop lives here.

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Quads;

/// One tier's vectors. The implementing token proves that the CPU has the instructions.
pub(crate) trait Arch: Copy + Send + Sync {
    type V: Copy;
    /// Words in a vector.
    const LANES: usize;
    /// Rows of the register tile.
    const ROWS: usize;
    /// Vectors across the register tile: `ROWS * VECTORS` sums leave registers for the operands.
    const VECTORS: usize;
    fn splat(self, word: u32) -> Self::V;
    /// # Safety
    /// `LANES` words are readable at `from`.
    unsafe fn load(self, from: *const u32) -> Self::V;
    /// # Safety
    /// `LANES` words are writable at `to`.
    unsafe fn store(self, to: *mut u32, vector: Self::V);
    /// Reads the first `len <= LANES` words, zeros in the others.
    /// # Safety
    /// `len` words are readable at `from`.
    unsafe fn load_part(self, from: *const u32, len: usize) -> Self::V;
    /// Writes the first `len <= LANES` words.
    /// # Safety
    /// `len` words are writable at `to`.
    unsafe fn store_part(self, to: *mut u32, vector: Self::V, len: usize);
    /// `acc + a * b` as `f32`.
    fn fma_f32(self, acc: Self::V, a: Self::V, b: Self::V) -> Self::V;
    fn add_f32(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul_f32(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a > b ? a : b`, so that a NaN in `b` stays.
    fn max_f32(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a < b ? a : b`, so that a NaN in `b` stays.
    fn min_f32(self, a: Self::V, b: Self::V) -> Self::V;
    /// `acc + a.0 * b.0 + a.1 * b.1` as `i32`, the words being pairs of `i16`.
    fn dot_i16(self, acc: Self::V, a: Self::V, b: Self::V) -> Self::V;
    fn add_i32(self, a: Self::V, b: Self::V) -> Self::V;
    /// Words 0, 2, 4, ... of `a` followed by `b`.
    fn evens(self, a: Self::V, b: Self::V) -> Self::V;
    /// Words 1, 3, 5, ... of `a` followed by `b`.
    fn odds(self, a: Self::V, b: Self::V) -> Self::V;
}

/// Plain Rust: arrays that the compiler may or may not turn into vectors.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

#[inline(always)]
fn zip4(a: [u32; 4], b: [u32; 4], op: impl Fn(f32, f32) -> f32) -> [u32; 4] {
    std::array::from_fn(|i| op(f32::from_bits(a[i]), f32::from_bits(b[i])).to_bits())
}

#[inline(always)]
fn half(word: u32, shift: u32) -> i32 {
    i32::from((word >> shift) as u16 as i16)
}

impl Arch for Portable {
    type V = [u32; 4];
    const LANES: usize = 4;
    const ROWS: usize = 4;
    const VECTORS: usize = 3;

    #[inline(always)]
    fn splat(self, word: u32) -> Self::V {
        [word; 4]
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u32) -> Self::V {
        // SAFETY: the caller promises four readable words; the read needs no alignment.
        unsafe { from.cast::<[u32; 4]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u32, vector: Self::V) {
        // SAFETY: the caller promises four writable words; the write needs no alignment.
        unsafe { to.cast::<[u32; 4]>().write_unaligned(vector) }
    }

    #[inline(always)]
    unsafe fn load_part(self, from: *const u32, len: usize) -> Self::V {
        let mut vector = [0; 4];
        for (lane, word) in vector.iter_mut().enumerate().take(len) {
            // SAFETY: the caller promises `len` readable words.
            *word = unsafe { from.add(lane).read() };
        }
        vector
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut u32, vector: Self::V, len: usize) {
        for (lane, word) in vector.into_iter().enumerate().take(len) {
            // SAFETY: the caller promises `len` writable words.
            unsafe { to.add(lane).write(word) }
        }
    }

    #[inline(always)]
    fn fma_f32(self, acc: Self::V, a: Self::V, b: Self::V) -> Self::V {
        self.add_f32(acc, self.mul_f32(a, b))
    }

    #[inline(always)]
    fn add_f32(self, a: Self::V, b: Self::V) -> Self::V {
        zip4(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn mul_f32(self, a: Self::V, b: Self::V) -> Self::V {
        zip4(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn max_f32(self, a: Self::V, b: Self::V) -> Self::V {
        zip4(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min_f32(self, a: Self::V, b: Self::V) -> Self::V {
        zip4(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn dot_i16(self, acc: Self::V, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| {
            let sum = half(a[i], 0) * half(b[i], 0) + half(a[i], 16) * half(b[i], 16);
            acc[i].wrapping_add(sum as u32)
        })
    }

    #[inline(always)]
    fn add_i32(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i].wrapping_add(b[i]))
    }

    #[inline(always)]
    fn evens(self, a: Self::V, b: Self::V) -> Self::V {
        [a[0], a[2], b[0], b[2]]
    }

    #[inline(always)]
    fn odds(self, a: Self::V, b: Self::V) -> Self::V {
        [a[1], a[3], b[1], b[3]]
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::Octets;
#[cfg(target_arch = "x86_64")]
mod x86;
