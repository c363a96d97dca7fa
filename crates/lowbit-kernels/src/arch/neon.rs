//! AArch64's vectors of 128 bits.

use std::arch::aarch64::*;

use super::Arch;
use crate::isa::{Neon, NeonDot};

/// Arithmetic of a tier whose token is at hand.
macro_rules! proven {
    ($operation:expr) => {
        // SAFETY: register arithmetic only; `self` is a token, made after the CPU reported these instructions.
        unsafe { $operation }
    };
}

/// A tier whose vectors are these: a token.
pub(crate) trait Quads: Copy + Send + Sync {}

impl Quads for Neon {}

impl Quads for NeonDot {}

#[inline]
#[target_feature(enable = "neon")]
fn floats(words: uint32x4_t) -> float32x4_t {
    vreinterpretq_f32_u32(words)
}

#[inline]
#[target_feature(enable = "neon")]
fn bits(floats: float32x4_t) -> uint32x4_t {
    vreinterpretq_u32_f32(floats)
}

impl<T: Quads> Arch for T {
    type V = uint32x4_t;
    const LANES: usize = 4;
    const ROWS: usize = 8;
    const VECTORS: usize = 3;

    #[inline(always)]
    fn splat(self, word: u32) -> uint32x4_t {
        proven!(vdupq_n_u32(word))
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u32) -> uint32x4_t {
        // SAFETY: the caller promises four readable words.
        unsafe { vld1q_u32(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u32, vector: uint32x4_t) {
        // SAFETY: the caller promises four writable words.
        unsafe { vst1q_u32(to, vector) }
    }

    #[inline(always)]
    unsafe fn load_part(self, from: *const u32, len: usize) -> uint32x4_t {
        let mut words = [0; 4];
        // SAFETY: the caller promises `len` readable words, and `words` has no fewer.
        unsafe { std::ptr::copy_nonoverlapping(from, words.as_mut_ptr(), len) };
        // SAFETY: four readable words.
        unsafe { vld1q_u32(words.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut u32, vector: uint32x4_t, len: usize) {
        let mut words = [0; 4];
        // SAFETY: four writable words.
        unsafe { vst1q_u32(words.as_mut_ptr(), vector) };
        // SAFETY: the caller promises `len` writable words, and `words` has no fewer.
        unsafe { std::ptr::copy_nonoverlapping(words.as_ptr(), to, len) };
    }

    #[inline(always)]
    fn fma_f32(self, acc: uint32x4_t, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        proven!(bits(vfmaq_f32(floats(acc), floats(a), floats(b))))
    }

    #[inline(always)]
    fn add_f32(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        proven!(bits(vaddq_f32(floats(a), floats(b))))
    }

    #[inline(always)]
    fn mul_f32(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        proven!(bits(vmulq_f32(floats(a), floats(b))))
    }

    #[inline(always)]
    fn max_f32(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        proven!(vbslq_u32(vcgtq_f32(floats(a), floats(b)), a, b))
    }

    #[inline(always)]
    fn min_f32(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        proven!(vbslq_u32(vcltq_f32(floats(a), floats(b)), a, b))
    }

    #[inline(always)]
    fn dot_i16(self, acc: uint32x4_t, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        proven!({
            let (a, b) = (vreinterpretq_s16_u32(a), vreinterpretq_s16_u32(b));
            let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
            let sums = vpaddq_s32(low, vmull_high_s16(a, b));
            vaddq_u32(acc, vreinterpretq_u32_s32(sums))
        })
    }

    #[inline(always)]
    fn add_i32(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        proven!(vaddq_u32(a, b))
    }

    #[inline(always)]
    fn evens(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        proven!(vuzp1q_u32(a, b))
    }

    #[inline(always)]
    fn odds(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        proven!(vuzp2q_u32(a, b))
    }
}
