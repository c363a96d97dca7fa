//! The operations of [`Codes`] for AVX2 and AVX-512.

use std::arch::x86_64::*;

use super::codes::{Clamp, Codes};
use crate::arch::{Arch, Octets};
use crate::isa::{Avx2, Avx512, AvxVnni, Task};

/// Arithmetic of a tier whose token is at hand.
macro_rules! proven {
    ($operation:expr) => {
        // SAFETY: register arithmetic only; `self` is a token, made after the CPU reported these instructions.
        unsafe { $operation }
    };
}

/// Codes or weights as pairs of `i16`: bytes 0 and 2, bytes 1 and 3 of each word.
#[derive(Clone, Copy)]
pub(crate) struct Pairs {
    even: __m256i,
    odd: __m256i,
}

/// A clamp in every lane: the zero point as 16-bit words, the bounds as bytes.
#[derive(Clone, Copy)]
pub(crate) struct Bounds<V> {
    zero_point: V,
    low: V,
    high: V,
}

/// What the tiers of 256 bits do each in its own way.
pub(crate) trait Products: Octets {
    /// Four codes or weights in each lane.
    type Bytes: Copy;
    /// As [`Codes::PIXELS`].
    const PIXELS: usize;
    fn apart<T: Task>(self, task: T) -> T::Output;
    /// Unsigned bytes.
    fn codes(self, words: __m256i) -> Self::Bytes;
    /// Signed bytes.
    fn weights(self, words: __m256i) -> Self::Bytes;
    /// `acc` plus the four products in each lane.
    fn multiply(self, acc: __m256i, codes: Self::Bytes, weights: Self::Bytes) -> __m256i;
}

impl Products for Avx2 {
    type Bytes = Pairs;
    const PIXELS: usize = 4;

    #[inline(always)]
    fn apart<T: Task>(self, task: T) -> T::Output {
        proven!(task.run_avx2(self))
    }

    #[inline(always)]
    fn codes(self, words: __m256i) -> Pairs {
        proven!(Pairs {
            even: _mm256_and_si256(words, _mm256_set1_epi16(255)),
            odd: _mm256_srli_epi16::<8>(words),
        })
    }

    #[inline(always)]
    fn weights(self, words: __m256i) -> Pairs {
        proven!(Pairs {
            even: _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(words)),
            odd: _mm256_srai_epi16::<8>(words),
        })
    }

    #[inline(always)]
    fn multiply(self, acc: __m256i, codes: Pairs, weights: Pairs) -> __m256i {
        proven!({
            let even = _mm256_madd_epi16(codes.even, weights.even);
            let odd = _mm256_madd_epi16(codes.odd, weights.odd);
            _mm256_add_epi32(_mm256_add_epi32(acc, even), odd)
        })
    }
}

impl Products for AvxVnni {
    type Bytes = __m256i;
    /// Twelve sums are on their way at once: two a cycle, each for five.
    const PIXELS: usize = 6;

    #[inline(always)]
    fn apart<T: Task>(self, task: T) -> T::Output {
        proven!(task.run_avx_vnni(self))
    }

    #[inline(always)]
    fn codes(self, words: __m256i) -> __m256i {
        words
    }

    #[inline(always)]
    fn weights(self, words: __m256i) -> __m256i {
        words
    }

    #[inline(always)]
    fn multiply(self, acc: __m256i, codes: __m256i, weights: __m256i) -> __m256i {
        proven!(_mm256_dpbusd_avx_epi32(acc, codes, weights))
    }
}

impl<T: Products> Codes for T {
    type X = T::Bytes;
    type Bounds = Bounds<__m256i>;
    type W = T::Bytes;
    const PIXELS: usize = <T as Products>::PIXELS;
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn apart<U: Task>(self, task: U) -> U::Output {
        Products::apart(self, task)
    }

    #[inline(always)]
    unsafe fn activations(self, from: *const u8) -> T::Bytes {
        // SAFETY: the caller promises four readable bytes; the read needs no alignment.
        let word = unsafe { from.cast::<i32>().read_unaligned() };
        self.codes(proven!(_mm256_set1_epi32(word)))
    }

    #[inline(always)]
    fn weights(self, words: __m256i) -> T::Bytes {
        Products::weights(self, words)
    }

    #[inline(always)]
    fn dot(self, acc: __m256i, x: T::Bytes, w: T::Bytes) -> __m256i {
        self.multiply(acc, x, w)
    }

    #[inline(always)]
    fn fused_f32(self, a: __m256i, b: __m256i, c: __m256i) -> __m256i {
        self.fma_f32(c, a, b)
    }

    #[inline(always)]
    fn to_f32(self, vector: __m256i) -> __m256i {
        proven!(_mm256_castps_si256(_mm256_cvtepi32_ps(vector)))
    }

    #[inline(always)]
    fn round(self, vector: __m256i) -> __m256i {
        proven!(_mm256_cvtps_epi32(_mm256_castsi256_ps(vector)))
    }

    #[inline(always)]
    fn sub_i32(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_sub_epi32(a, b))
    }

    #[inline(always)]
    unsafe fn load_codes(self, from: *const u8, len: usize) -> __m256i {
        if len == 8 {
            // SAFETY: the caller promises eight readable bytes; the load needs no alignment.
            return proven!(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())));
        }
        let mut codes = [0u8; 8];
        // SAFETY: the caller promises `len` readable bytes, and `codes` has eight.
        unsafe { std::ptr::copy_nonoverlapping(from, codes.as_mut_ptr(), len) };
        // SAFETY: eight readable bytes.
        proven!(_mm256_cvtepu8_epi32(_mm_loadl_epi64(codes.as_ptr().cast())))
    }

    #[inline(always)]
    fn spread(self, words: __m256i) -> T::Bytes {
        self.codes(words)
    }

    #[inline(always)]
    unsafe fn load_bytes(self, from: *const u8, len: usize) -> __m256i {
        if len >= 32 {
            // SAFETY: the caller promises `len` readable bytes; the load needs no alignment.
            return proven!(_mm256_loadu_si256(from.cast()));
        }
        let mut bytes = [0u8; 32];
        // SAFETY: the caller promises `len` readable bytes, and `bytes` has more.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), len) };
        // SAFETY: 32 readable bytes.
        proven!(_mm256_loadu_si256(bytes.as_ptr().cast()))
    }

    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8, bytes: __m256i, len: usize) {
        if len >= 32 {
            // SAFETY: the caller promises `len` writable bytes; the store needs no alignment.
            return proven!(_mm256_storeu_si256(to.cast(), bytes));
        }
        let mut all = [0u8; 32];
        // SAFETY: 32 writable bytes.
        proven!(_mm256_storeu_si256(all.as_mut_ptr().cast(), bytes));
        // SAFETY: the caller promises `len` writable bytes, and `all` has more.
        unsafe { std::ptr::copy_nonoverlapping(all.as_ptr(), to, len) };
    }

    #[inline(always)]
    fn interleave(self, [a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
        proven!({
            let ab = [_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)];
            let cd = [_mm256_unpacklo_epi8(c, d), _mm256_unpackhi_epi8(c, d)];
            [
                _mm256_unpacklo_epi16(ab[0], cd[0]),
                _mm256_unpackhi_epi16(ab[0], cd[0]),
                _mm256_unpacklo_epi16(ab[1], cd[1]),
                _mm256_unpackhi_epi16(ab[1], cd[1]),
            ]
        })
    }

    #[inline(always)]
    fn bounds(self, clamp: Clamp) -> Bounds<__m256i> {
        proven!(Bounds {
            zero_point: _mm256_set1_epi16(clamp.zero_point.into()),
            low: _mm256_set1_epi8(clamp.low as i8),
            high: _mm256_set1_epi8(clamp.high as i8),
        })
    }

    #[inline(always)]
    fn join(self, [a, b, c, d]: [__m256i; 4], bounds: Bounds<__m256i>) -> __m256i {
        proven!({
            let low = _mm256_adds_epi16(_mm256_packs_epi32(a, b), bounds.zero_point);
            let high = _mm256_adds_epi16(_mm256_packs_epi32(c, d), bounds.zero_point);
            let bytes = _mm256_packus_epi16(low, high);
            _mm256_min_epu8(_mm256_max_epu8(bytes, bounds.low), bounds.high)
        })
    }

    #[inline(always)]
    fn reach(self, codes: &[u8; 64], least: &[u8; 64]) -> u64 {
        let mut bits = 0;
        for half in [0, 32] {
            // SAFETY: 32 readable bytes from each half on; the loads need no alignment.
            let reached = proven!({
                let codes = _mm256_loadu_si256(codes.as_ptr().add(half).cast());
                let least = _mm256_loadu_si256(least.as_ptr().add(half).cast());
                _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_max_epu8(codes, least), codes))
            });
            bits |= u64::from(reached as u32) << half;
        }
        bits
    }

    #[inline(always)]
    fn lookup_bytes(self, bytes: __m256i, table: &[u8; 256]) -> __m256i {
        proven!(lookup_256(bytes, table))
    }

    #[inline(always)]
    fn pick(self, packed: __m256i, shift: u32, mask: __m256i, table: __m256i) -> __m256i {
        proven!({
            let shifted = _mm256_srlv_epi32(packed, _mm256_set1_epi32(shift as i32));
            _mm256_shuffle_epi8(table, _mm256_and_si256(shifted, mask))
        })
    }

    #[inline(always)]
    fn side_by_side(self, joined: __m256i) -> __m256i {
        proven!(_mm256_permutevar8x32_epi32(joined, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)))
    }

    #[inline(always)]
    unsafe fn store_parts<const P: usize>(self, to: [*mut u8; P], bytes: __m256i, len: usize) {
        let halves: [__m128i; 2] =
            proven!([_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes)]);
        for (p, &to) in to.iter().enumerate() {
            let part = if P == 2 || p % 2 == 0 {
                halves[p * 2 / P]
            } else {
                proven!(_mm_unpackhi_epi64(halves[p * 2 / P], halves[p * 2 / P]))
            };
            if len == 32 / P && P == 2 {
                // SAFETY: the caller promises sixteen writable bytes; the store needs no alignment.
                proven!(_mm_storeu_si128(to.cast(), part));
            } else if len == 32 / P {
                // SAFETY: the caller promises eight writable bytes; the store needs no alignment.
                proven!(_mm_storel_epi64(to.cast(), part));
            } else {
                let mut all = [0u8; 16];
                // SAFETY: sixteen writable bytes.
                proven!(_mm_storeu_si128(all.as_mut_ptr().cast(), part));
                // SAFETY: the caller promises `len` writable bytes, and `all` has no fewer.
                unsafe { std::ptr::copy_nonoverlapping(all.as_ptr(), to, len) };
            }
        }
    }
}

impl Codes for Avx512 {
    type X = __m512i;
    type Bounds = Bounds<__m512i>;
    type W = __m512i;
    const PIXELS: usize = 8;
    const OFFSET: i32 = 0;
    const UNPACKS_BESIDE: bool = true;
    const OVERLAPS: bool = true;

    #[inline(always)]
    fn apart<T: Task>(self, task: T) -> T::Output {
        proven!(task.run_avx512(self))
    }

    #[inline(always)]
    fn pin<const R: usize, const N: usize>(
        self,
        tile: &mut [[__m512i; N]; R],
        quad: &mut [__m512i; 4],
    ) {
        const { assert!(R * N == 8, "eight vectors") };
        let mut vectors = [tile[0][0]; 8];
        for (at, vector) in vectors.iter_mut().enumerate() {
            *vector = tile[at / N][at % N];
        }
        proven!(pin_512(&mut vectors, quad));
        for (at, &vector) in vectors.iter().enumerate() {
            tile[at / N][at % N] = vector;
        }
    }

    #[inline(always)]
    unsafe fn activations(self, from: *const u8) -> __m512i {
        // SAFETY: the caller promises four readable bytes; the read needs no alignment.
        let word = unsafe { from.cast::<i32>().read_unaligned() };
        proven!(_mm512_set1_epi32(word))
    }

    #[inline(always)]
    fn weights(self, words: __m512i) -> __m512i {
        words
    }

    #[inline(always)]
    fn dot(self, acc: __m512i, x: __m512i, w: __m512i) -> __m512i {
        proven!(_mm512_dpbusd_epi32(acc, x, w))
    }

    #[inline(always)]
    fn fused_f32(self, a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        self.fma_f32(c, a, b)
    }

    #[inline(always)]
    fn to_f32(self, vector: __m512i) -> __m512i {
        proven!(_mm512_castps_si512(_mm512_cvtepi32_ps(vector)))
    }

    #[inline(always)]
    fn round(self, vector: __m512i) -> __m512i {
        proven!(_mm512_cvtps_epi32(_mm512_castsi512_ps(vector)))
    }

    #[inline(always)]
    fn sub_i32(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_sub_epi32(a, b))
    }

    #[inline(always)]
    unsafe fn load_codes(self, from: *const u8, len: usize) -> __m512i {
        // SAFETY: the mask holds `len` bytes, which the caller promises readable; others are not touched.
        proven!(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first_bytes(len) as u16, from.cast())))
    }

    #[inline(always)]
    unsafe fn load_full_codes(self, from: *const u8) -> __m512i {
        // SAFETY: the caller promises sixteen readable bytes; the load needs no alignment.
        proven!(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())))
    }

    #[inline(always)]
    fn spread(self, words: __m512i) -> __m512i {
        words
    }

    #[inline(always)]
    unsafe fn load_bytes(self, from: *const u8, len: usize) -> __m512i {
        // SAFETY: the mask holds `len` bytes, which the caller promises readable; others are not touched.
        proven!(_mm512_maskz_loadu_epi8(u64::MAX >> (64 - len), from.cast()))
    }

    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8, bytes: __m512i, len: usize) {
        // SAFETY: the mask holds `len` bytes, which the caller promises writable; others are not touched.
        proven!(_mm512_mask_storeu_epi8(to.cast(), u64::MAX >> (64 - len), bytes));
    }

    #[inline(always)]
    fn interleave(self, [a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
        proven!({
            let ab = [_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b)];
            let cd = [_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d)];
            [
                _mm512_unpacklo_epi16(ab[0], cd[0]),
                _mm512_unpackhi_epi16(ab[0], cd[0]),
                _mm512_unpacklo_epi16(ab[1], cd[1]),
                _mm512_unpackhi_epi16(ab[1], cd[1]),
            ]
        })
    }

    #[inline(always)]
    fn bounds(self, clamp: Clamp) -> Bounds<__m512i> {
        proven!(Bounds {
            zero_point: _mm512_set1_epi16(clamp.zero_point.into()),
            low: _mm512_set1_epi8(clamp.low as i8),
            high: _mm512_set1_epi8(clamp.high as i8),
        })
    }

    #[inline(always)]
    fn join(self, [a, b, c, d]: [__m512i; 4], bounds: Bounds<__m512i>) -> __m512i {
        proven!({
            let low = _mm512_adds_epi16(_mm512_packs_epi32(a, b), bounds.zero_point);
            let high = _mm512_adds_epi16(_mm512_packs_epi32(c, d), bounds.zero_point);
            let bytes = _mm512_packus_epi16(low, high);
            _mm512_min_epu8(_mm512_max_epu8(bytes, bounds.low), bounds.high)
        })
    }

    #[inline(always)]
    fn reach(self, codes: &[u8; 64], least: &[u8; 64]) -> u64 {
        // SAFETY: 64 readable bytes each; the loads need no alignment.
        proven!({
            let codes = _mm512_loadu_si512(codes.as_ptr().cast());
            _mm512_cmpge_epu8_mask(codes, _mm512_loadu_si512(least.as_ptr().cast()))
        })
    }

    #[inline(always)]
    fn lookup_bytes(self, bytes: __m512i, table: &[u8; 256]) -> __m512i {
        proven!(lookup_512(bytes, table))
    }

    #[inline(always)]
    fn pick(self, packed: __m512i, shift: u32, mask: __m512i, table: __m512i) -> __m512i {
        proven!({
            let shifted = _mm512_srlv_epi32(packed, _mm512_set1_epi32(shift as i32));
            _mm512_shuffle_epi8(table, _mm512_and_si512(shifted, mask))
        })
    }

    #[inline(always)]
    fn side_by_side(self, joined: __m512i) -> __m512i {
        proven!({
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            _mm512_permutexvar_epi32(order, joined)
        })
    }

    #[inline(always)]
    unsafe fn store_parts<const P: usize>(self, to: [*mut u8; P], bytes: __m512i, len: usize) {
        let halves: [__m256i; 2] =
            proven!([_mm512_castsi512_si256(bytes), _mm512_extracti64x4_epi64::<1>(bytes)]);
        for (p, &to) in to.iter().enumerate() {
            let half = halves[p * 2 / P];
            if P == 2 && len == 32 {
                // SAFETY: the caller promises 32 writable bytes; the store needs no alignment.
                proven!(_mm256_storeu_si256(to.cast(), half));
            } else if P == 2 {
                // SAFETY: the mask holds `len` bytes, which the caller promises writable.
                proven!(_mm256_mask_storeu_epi8(to.cast(), first_bytes(len), half));
            } else {
                let quarter: __m128i = if p % 2 == 0 {
                    proven!(_mm256_castsi256_si128(half))
                } else {
                    proven!(_mm256_extracti128_si256::<1>(half))
                };
                if len == 16 {
                    // SAFETY: the caller promises 16 writable bytes; the store needs no alignment.
                    proven!(_mm_storeu_si128(to.cast(), quarter));
                } else {
                    // SAFETY: the mask holds `len` bytes, which the caller promises writable.
                    proven!(_mm_mask_storeu_epi8(to.cast(), first_bytes(len) as u16, quarter));
                }
            }
        }
    }
}

#[inline(always)]
fn first_bytes(len: usize) -> __mmask32 {
    if len >= 32 { u32::MAX } else { (1 << len) - 1 }
}

/// The entry of each byte. A function of its own, lest it fill the loops that finish sums.
#[inline(never)]
#[target_feature(enable = "avx2")]
fn lookup_256(bytes: __m256i, table: &[u8; 256]) -> __m256i {
    let mut found = _mm256_setzero_si256();
    for (row, entries) in table.chunks_exact(16).enumerate() {
        // SAFETY: sixteen readable bytes; the load needs no alignment.
        let entries = unsafe { _mm_loadu_si128(entries.as_ptr().cast()) };
        // In this row, the low four bits; elsewhere the top bit is set, which finds 0.
        let apart = _mm256_xor_si256(bytes, _mm256_set1_epi8((16 * row) as i8));
        let index = _mm256_adds_epu8(apart, _mm256_set1_epi8(0x70));
        let entry = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(entries), index);
        found = _mm256_or_si256(found, entry);
    }
    found
}

/// As [`lookup_256`].
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw")]
fn lookup_512(bytes: __m512i, table: &[u8; 256]) -> __m512i {
    let mut found = _mm512_setzero_si512();
    for (row, entries) in table.chunks_exact(16).enumerate() {
        // SAFETY: sixteen readable bytes; the load needs no alignment.
        let entries = unsafe { _mm_loadu_si128(entries.as_ptr().cast()) };
        let apart = _mm512_xor_si512(bytes, _mm512_set1_epi8((16 * row) as i8));
        let index = _mm512_adds_epu8(apart, _mm512_set1_epi8(0x70));
        let entry = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(entries), index);
        found = _mm512_or_si512(found, entry);
    }
    found
}

/// Leaves vectors of 512 bits as they are, but what makes them stays before this.
macro_rules! hold_512 {
    ($($vector:ident)*) => {
        // SAFETY: there are no instructions.
        unsafe {
            std::arch::asm!(
                concat!("/*", $(" {", stringify!($vector), "}",)* " */"),
                $($vector = inout(zmm_reg) *$vector,)*
                options(nostack, preserves_flags),
            )
        }
    };
}
pub(super) use hold_512;

/// [`Codes::pin`].
#[inline]
#[target_feature(enable = "avx512f")]
fn pin_512([a, b, c, d, e, f, g, h]: &mut [__m512i; 8], [i, j, k, l]: &mut [__m512i; 4]) {
    hold_512!(a b c d e f g h i j k l);
}
