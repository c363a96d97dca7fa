//! x86-64's vectors of 256 and of 512 bits.

use std::arch::x86_64::*;

use super::Arch;
use crate::isa::{Avx2, Avx512, AvxVnni};

/// A tier whose vectors are those of AVX2: a token.
pub(crate) trait Octets: Copy + Send + Sync {}

impl Octets for Avx2 {}

impl Octets for AvxVnni {}

/// Arithmetic of a tier whose token is at hand.
macro_rules! proven {
    ($operation:expr) => {
        // SAFETY: register arithmetic only; `self` is a token, made after the CPU reported these instructions.
        unsafe { $operation }
    };
}

impl<O: Octets> Arch for O {
    type V = __m256i;
    const LANES: usize = 8;
    const ROWS: usize = 4;
    const VECTORS: usize = 2;

    #[inline(always)]
    fn splat(self, word: u32) -> Self::V {
        proven!(_mm256_set1_epi32(word as i32))
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u32) -> Self::V {
        // SAFETY: the caller promises eight readable words; `loadu` needs no alignment.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u32, vector: Self::V) {
        // SAFETY: the caller promises eight writable words; `storeu` needs no alignment.
        unsafe { _mm256_storeu_si256(to.cast(), vector) }
    }

    #[inline(always)]
    unsafe fn load_part(self, from: *const u32, len: usize) -> Self::V {
        let mask = lane_mask(self, len);
        // SAFETY: the mask holds `len` lanes, which the caller promises readable; others are not touched.
        unsafe { _mm256_maskload_epi32(from.cast(), mask) }
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut u32, vector: Self::V, len: usize) {
        let mask = lane_mask(self, len);
        // SAFETY: the mask holds `len` lanes, which the caller promises writable; others are not touched.
        unsafe { _mm256_maskstore_epi32(to.cast(), mask, vector) }
    }

    #[inline(always)]
    fn fma_f32(self, acc: Self::V, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm256_castps_si256(_mm256_fmadd_ps(
            _mm256_castsi256_ps(a),
            _mm256_castsi256_ps(b),
            _mm256_castsi256_ps(acc)
        )))
    }

    #[inline(always)]
    fn add_f32(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm256_castps_si256(_mm256_add_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b))))
    }

    #[inline(always)]
    fn mul_f32(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm256_castps_si256(_mm256_mul_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b))))
    }

    #[inline(always)]
    fn max_f32(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm256_castps_si256(_mm256_max_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b))))
    }

    #[inline(always)]
    fn min_f32(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm256_castps_si256(_mm256_min_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b))))
    }

    #[inline(always)]
    fn dot_i16(self, acc: Self::V, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm256_add_epi32(acc, _mm256_madd_epi16(a, b)))
    }

    #[inline(always)]
    fn add_i32(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm256_add_epi32(a, b))
    }

    #[inline(always)]
    fn evens(self, a: Self::V, b: Self::V) -> Self::V {
        proven!({
            let halves =
                _mm256_shuffle_ps::<0b10_00_10_00>(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b));
            _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_castps_si256(halves))
        })
    }

    #[inline(always)]
    fn odds(self, a: Self::V, b: Self::V) -> Self::V {
        proven!({
            let halves =
                _mm256_shuffle_ps::<0b11_01_11_01>(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b));
            _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_castps_si256(halves))
        })
    }
}

#[inline(always)]
fn lane_mask(_: impl Octets, len: usize) -> __m256i {
    // SAFETY: register arithmetic only; the token was made after the CPU reported AVX2.
    unsafe {
        _mm256_cmpgt_epi32(_mm256_set1_epi32(len as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
    }
}

impl Arch for Avx512 {
    type V = __m512i;
    const LANES: usize = 16;
    const ROWS: usize = 8;
    const VECTORS: usize = 3;

    #[inline(always)]
    fn splat(self, word: u32) -> Self::V {
        proven!(_mm512_set1_epi32(word as i32))
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u32) -> Self::V {
        // SAFETY: the caller promises sixteen readable words; `loadu` needs no alignment.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u32, vector: Self::V) {
        // SAFETY: the caller promises sixteen writable words; `storeu` needs no alignment.
        unsafe { _mm512_storeu_si512(to.cast(), vector) }
    }

    #[inline(always)]
    unsafe fn load_part(self, from: *const u32, len: usize) -> Self::V {
        // SAFETY: the mask holds `len` lanes, which the caller promises readable; others are not touched.
        unsafe { _mm512_maskz_loadu_epi32(first_lanes(len), from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut u32, vector: Self::V, len: usize) {
        // SAFETY: the mask holds `len` lanes, which the caller promises writable; others are not touched.
        unsafe { _mm512_mask_storeu_epi32(to.cast(), first_lanes(len), vector) }
    }

    #[inline(always)]
    fn fma_f32(self, acc: Self::V, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm512_castps_si512(_mm512_fmadd_ps(
            _mm512_castsi512_ps(a),
            _mm512_castsi512_ps(b),
            _mm512_castsi512_ps(acc)
        )))
    }

    #[inline(always)]
    fn add_f32(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm512_castps_si512(_mm512_add_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b))))
    }

    #[inline(always)]
    fn mul_f32(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm512_castps_si512(_mm512_mul_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b))))
    }

    #[inline(always)]
    fn max_f32(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm512_castps_si512(_mm512_max_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b))))
    }

    #[inline(always)]
    fn min_f32(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm512_castps_si512(_mm512_min_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b))))
    }

    #[inline(always)]
    fn dot_i16(self, acc: Self::V, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm512_dpwssd_epi32(acc, a, b))
    }

    #[inline(always)]
    fn add_i32(self, a: Self::V, b: Self::V) -> Self::V {
        proven!(_mm512_add_epi32(a, b))
    }

    #[inline(always)]
    fn evens(self, a: Self::V, b: Self::V) -> Self::V {
        proven!({
            let index =
                _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            _mm512_permutex2var_epi32(a, index, b)
        })
    }

    #[inline(always)]
    fn odds(self, a: Self::V, b: Self::V) -> Self::V {
        proven!({
            let index =
                _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
            _mm512_permutex2var_epi32(a, index, b)
        })
    }
}

#[inline(always)]
fn first_lanes(len: usize) -> __mmask16 {
    ((1u32 << len) - 1) as __mmask16
}
