//! The operations of [`Codes`] for AArch64, with and without dot products of bytes.
//!
//! NEON multiplies bytes of the same sign only. Codes less 128 are signed bytes, whose products with weights fit in 16 bits; the
//! biases make up for the 128.

use std::arch::aarch64::*;
use std::arch::asm;

use super::codes::{Clamp, Codes};
use super::popcount::Ones;
use crate::arch::{Arch, Quads};
use crate::isa::{Neon, NeonDot, Task};

/// Arithmetic of a tier whose token is at hand.
macro_rules! proven {
    ($operation:expr) => {
        // SAFETY: register arithmetic only; `self` is a token, made after the CPU reported these instructions.
        unsafe { $operation }
    };
}

/// What the tiers, which are tokens, do each in its own way.
pub(crate) trait Products: Quads {
    /// As [`Codes::RUN`].
    const RUN: usize;
    /// As [`Codes::apart`].
    fn apart<T: Task>(self, task: T) -> T::Output;
    /// A word for all lanes, the first of the vector, or as many words as a run has.
    fn run(self, words: int8x16_t) -> int8x16_t;
    /// A word for each lane, of codes or of weights.
    fn each(self, words: int8x16_t) -> int8x16_t;
    /// `acc` plus the four products in each lane.
    fn multiply(self, acc: int32x4_t, x: int8x16_t, w: int8x16_t) -> int32x4_t;
    /// The same, of word `WORD` of a run.
    #[inline(always)]
    fn multiply_word<const WORD: i32>(
        self,
        acc: int32x4_t,
        x: int8x16_t,
        w: int8x16_t,
    ) -> int32x4_t {
        self.multiply(acc, x, w)
    }
    /// `acc` plus the four bytes in each lane, none above 127.
    fn add_bytes(self, acc: uint32x4_t, bytes: uint8x16_t) -> uint32x4_t;
}

/// The low halves of four words, then the high ones.
const HALVES: [u8; 16] = [0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15];

/// As [`HALVES`], of the first word four times.
const FIRST_HALVES: [u8; 16] = [0, 1, 0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3, 2, 3];

#[inline]
#[target_feature(enable = "neon")]
fn in_order(bytes: int8x16_t, order: &[u8; 16]) -> int8x16_t {
    // SAFETY: sixteen readable bytes.
    vqtbl1q_s8(bytes, unsafe { vld1q_u8(order.as_ptr()) })
}

/// The products of a word's low and high halves are summed one after the other, each two neighbours at a time.
impl Products for Neon {
    /// Each word of a run would take a register for its order, and the sums leave none.
    const RUN: usize = 1;

    #[inline(always)]
    fn apart<T: Task>(self, task: T) -> T::Output {
        task.run_neon(self)
    }

    #[inline(always)]
    fn run(self, words: int8x16_t) -> int8x16_t {
        proven!(in_order(words, &FIRST_HALVES))
    }

    #[inline(always)]
    fn each(self, words: int8x16_t) -> int8x16_t {
        proven!(in_order(words, &HALVES))
    }

    #[inline(always)]
    fn multiply(self, acc: int32x4_t, x: int8x16_t, w: int8x16_t) -> int32x4_t {
        proven!({
            let acc = vpadalq_s16(acc, vmull_s8(vget_low_s8(x), vget_low_s8(w)));
            vpadalq_s16(acc, vmull_high_s8(x, w))
        })
    }

    #[inline(always)]
    fn add_bytes(self, acc: uint32x4_t, bytes: uint8x16_t) -> uint32x4_t {
        proven!(vpadalq_u16(acc, vpaddlq_u8(bytes)))
    }
}

/// The dot product takes any word of a vector for all lanes.
impl Products for NeonDot {
    const RUN: usize = 4;

    #[inline(always)]
    fn apart<T: Task>(self, task: T) -> T::Output {
        proven!(task.run_neon_dot(self))
    }

    #[inline(always)]
    fn run(self, words: int8x16_t) -> int8x16_t {
        words
    }

    #[inline(always)]
    fn each(self, words: int8x16_t) -> int8x16_t {
        words
    }

    #[inline(always)]
    fn multiply(self, acc: int32x4_t, x: int8x16_t, w: int8x16_t) -> int32x4_t {
        proven!(dot(acc, w, x))
    }

    #[inline(always)]
    fn multiply_word<const WORD: i32>(
        self,
        acc: int32x4_t,
        x: int8x16_t,
        w: int8x16_t,
    ) -> int32x4_t {
        proven!(dot_lane::<WORD>(acc, w, x))
    }

    #[inline(always)]
    fn add_bytes(self, acc: uint32x4_t, bytes: uint8x16_t) -> uint32x4_t {
        proven!({
            let (acc, bytes) = (vreinterpretq_s32_u32(acc), vreinterpretq_s8_u8(bytes));
            vreinterpretq_u32_s32(dot(acc, bytes, vdupq_n_s8(1)))
        })
    }
}

/// `vdotq_s32`, which is stable only since Rust 1.98.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: register arithmetic only, of instructions that this function enables.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {a:v}.16b, {b:v}.16b",
            acc = inout(vreg) acc, a = in(vreg) a, b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}

/// `vdotq_laneq_s32`, which is stable only since Rust 1.98.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot_lane<const LANE: i32>(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: register arithmetic only, of instructions that this function enables.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {a:v}.16b, {b:v}.4b[{lane}]",
            acc = inout(vreg) acc, a = in(vreg) a, b = in(vreg) b, lane = const LANE,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}

impl<T: Products> Ones for T {
    #[inline(always)]
    fn xor(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        proven!(veorq_u32(a, b))
    }

    #[inline(always)]
    fn and(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        proven!(vandq_u32(a, b))
    }

    #[inline(always)]
    fn ones(self, words: uint32x4_t) -> uint32x4_t {
        self.add_ones(self.splat(0), words)
    }

    #[inline(always)]
    fn add_ones(self, acc: uint32x4_t, words: uint32x4_t) -> uint32x4_t {
        proven!(self.add_bytes(acc, vcntq_u8(vreinterpretq_u8_u32(words))))
    }

    #[inline(always)]
    fn at_least(self, a: uint32x4_t, b: uint32x4_t) -> u32 {
        const BITS: [u32; 4] = [1, 2, 4, 8];
        // SAFETY: four readable words.
        let bits = unsafe { self.load(BITS.as_ptr()) };
        proven!({
            let at_least = vcgeq_s32(vreinterpretq_s32_u32(a), vreinterpretq_s32_u32(b));
            vaddvq_u32(vandq_u32(at_least, bits))
        })
    }
}

/// A clamp in every lane: the zero point as 16-bit words, the bounds as bytes.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    zero_point: int16x8_t,
    low: uint8x16_t,
    high: uint8x16_t,
}

/// Codes less 128. The compiler would exchange an intrinsic's place with the load's, and do it in a register of the core.
#[inline]
#[target_feature(enable = "neon")]
fn signed(codes: uint8x16_t) -> int8x16_t {
    let signed;
    // SAFETY: register arithmetic only, of instructions that this function enables.
    unsafe {
        asm!(
            "eor {signed:v}.16b, {codes:v}.16b, {signs:v}.16b",
            signed = lateout(vreg) signed, codes = in(vreg) codes, signs = in(vreg) vdupq_n_u8(128),
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    signed
}

impl<T: Products> Codes for T {
    type X = int8x16_t;
    type W = int8x16_t;
    type Bounds = Bounds;
    const PIXELS: usize = 8;
    const OFFSET: i32 = 128;
    const RUN: usize = <T as Products>::RUN;

    #[inline(always)]
    fn apart<U: Task>(self, task: U) -> U::Output {
        Products::apart(self, task)
    }

    #[inline(always)]
    unsafe fn activations(self, from: *const u8) -> int8x16_t {
        // SAFETY: the caller promises four readable bytes; the read needs no alignment.
        let word = unsafe { from.cast::<u32>().read_unaligned() };
        Products::run(
            self,
            proven!({
                let words = vsetq_lane_u32::<0>(word, vdupq_n_u32(0));
                signed(vreinterpretq_u8_u32(words))
            }),
        )
    }

    #[inline(always)]
    unsafe fn run(self, from: *const u8) -> int8x16_t {
        if <T as Products>::RUN == 1 {
            // SAFETY: the caller promises four readable bytes.
            return unsafe { self.activations(from) };
        }
        // SAFETY: the caller promises sixteen readable bytes.
        Products::run(self, proven!(signed(vld1q_u8(from))))
    }

    #[inline(always)]
    fn weights(self, words: uint32x4_t) -> int8x16_t {
        self.each(proven!(vreinterpretq_s8_u32(words)))
    }

    #[inline(always)]
    fn dot(self, acc: uint32x4_t, x: int8x16_t, w: int8x16_t) -> uint32x4_t {
        proven!(vreinterpretq_u32_s32(self.multiply(vreinterpretq_s32_u32(acc), x, w)))
    }

    #[inline(always)]
    fn dot_word<const WORD: i32>(self, acc: uint32x4_t, x: int8x16_t, w: int8x16_t) -> uint32x4_t {
        let acc = proven!(vreinterpretq_s32_u32(acc));
        proven!(vreinterpretq_u32_s32(self.multiply_word::<WORD>(acc, x, w)))
    }

    #[inline(always)]
    fn fused_f32(self, a: uint32x4_t, b: uint32x4_t, c: uint32x4_t) -> uint32x4_t {
        self.fma_f32(c, a, b)
    }

    #[inline(always)]
    fn to_f32(self, vector: uint32x4_t) -> uint32x4_t {
        proven!(vreinterpretq_u32_f32(vcvtq_f32_s32(vreinterpretq_s32_u32(vector))))
    }

    #[inline(always)]
    fn round(self, vector: uint32x4_t) -> uint32x4_t {
        proven!(vreinterpretq_u32_s32(vcvtnq_s32_f32(vreinterpretq_f32_u32(vector))))
    }

    #[inline(always)]
    fn sub_i32(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        proven!(vsubq_u32(a, b))
    }

    #[inline(always)]
    unsafe fn load_codes(self, from: *const u8, len: usize) -> uint32x4_t {
        let mut codes = [0u8; 4];
        if len == 4 {
            // SAFETY: the caller promises four readable bytes.
            codes = unsafe { from.cast::<[u8; 4]>().read() };
        } else {
            // SAFETY: the caller promises `len` readable bytes, and `codes` has no fewer.
            unsafe { std::ptr::copy_nonoverlapping(from, codes.as_mut_ptr(), len) };
        }
        proven!({
            let bytes = vcreate_u8(u32::from_le_bytes(codes).into());
            vmovl_u16(vget_low_u16(vmovl_u8(bytes)))
        })
    }

    #[inline(always)]
    fn spread(self, words: uint32x4_t) -> int8x16_t {
        self.each(proven!(signed(vreinterpretq_u8_u32(words))))
    }

    #[inline(always)]
    unsafe fn load_bytes(self, from: *const u8, len: usize) -> uint32x4_t {
        if len >= 16 {
            // SAFETY: the caller promises `len` readable bytes.
            return proven!(vreinterpretq_u32_u8(vld1q_u8(from)));
        }
        let mut bytes = [0u8; 16];
        // SAFETY: the caller promises `len` readable bytes, and `bytes` has more.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), len) };
        // SAFETY: sixteen readable bytes.
        proven!(vreinterpretq_u32_u8(vld1q_u8(bytes.as_ptr())))
    }

    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8, bytes: uint32x4_t, len: usize) {
        // SAFETY: as this function's.
        unsafe { self.store_parts([to], bytes, len) };
    }

    #[inline(always)]
    fn interleave(self, rows: [uint32x4_t; 4]) -> [uint32x4_t; 4] {
        proven!({
            let [[a, b], [c, d]] = [zip_bytes(rows[0], rows[1]), zip_bytes(rows[2], rows[3])];
            let [[a, b], [c, d]] = [zip_pairs(a, c), zip_pairs(b, d)];
            [a, b, c, d]
        })
    }

    #[inline(always)]
    fn lookup_bytes(self, bytes: uint32x4_t, table: &[u8; 256]) -> uint32x4_t {
        let (mut index, mut found) = proven!((vreinterpretq_u8_u32(bytes), vdupq_n_u8(0)));
        for entries in table.chunks_exact(64) {
            // SAFETY: 64 readable bytes. An index beyond them finds 0.
            let entries = proven!(vld1q_u8_x4(entries.as_ptr()));
            found = proven!(vorrq_u8(found, vqtbl4q_u8(entries, index)));
            index = proven!(vsubq_u8(index, vdupq_n_u8(64)));
        }
        proven!(vreinterpretq_u32_u8(found))
    }

    #[inline(always)]
    fn join(self, [a, b, c, d]: [uint32x4_t; 4], bounds: Bounds) -> uint32x4_t {
        proven!({
            let low = vqmovun_s16(vqaddq_s16(saturate(a, b), bounds.zero_point));
            let high = vqaddq_s16(saturate(c, d), bounds.zero_point);
            let bytes = vqmovun_high_s16(low, high);
            vreinterpretq_u32_u8(vminq_u8(vmaxq_u8(bytes, bounds.low), bounds.high))
        })
    }

    #[inline(always)]
    fn bounds(self, clamp: Clamp) -> Bounds {
        proven!(Bounds {
            zero_point: vdupq_n_s16(clamp.zero_point.into()),
            low: vdupq_n_u8(clamp.low),
            high: vdupq_n_u8(clamp.high),
        })
    }

    #[inline(always)]
    fn pick(
        self,
        packed: uint32x4_t,
        shift: u32,
        mask: uint32x4_t,
        table: uint32x4_t,
    ) -> uint32x4_t {
        proven!({
            let shifted = vshlq_u32(packed, vdupq_n_s32(-(shift as i32)));
            let indices = vreinterpretq_u8_u32(vandq_u32(shifted, mask));
            vreinterpretq_u32_u8(vqtbl1q_u8(vreinterpretq_u8_u32(table), indices))
        })
    }

    #[inline(always)]
    fn side_by_side(self, joined: uint32x4_t) -> uint32x4_t {
        joined
    }

    #[inline(always)]
    unsafe fn store_parts<const P: usize>(self, to: [*mut u8; P], bytes: uint32x4_t, len: usize) {
        let mut all = [0u8; 16];
        // SAFETY: sixteen writable bytes.
        proven!(vst1q_u8(all.as_mut_ptr(), vreinterpretq_u8_u32(bytes)));
        for (part, to) in all.chunks_exact(16 / P).zip(to) {
            // A length that the compiler knows becomes a store from the register.
            let len = if len == 16 / P { 16 / P } else { len };
            // SAFETY: the caller promises `len` writable bytes, no more than there are in a part.
            unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), to, len) };
        }
    }
}

/// Eight words as 16 bits, saturated.
#[inline]
#[target_feature(enable = "neon")]
fn saturate(a: uint32x4_t, b: uint32x4_t) -> int16x8_t {
    vqmovn_high_s32(vqmovn_s32(vreinterpretq_s32_u32(a)), vreinterpretq_s32_u32(b))
}

/// The bytes of both in turn.
#[inline]
#[target_feature(enable = "neon")]
fn zip_bytes(a: uint32x4_t, b: uint32x4_t) -> [uint16x8_t; 2] {
    let (a, b) = (vreinterpretq_u8_u32(a), vreinterpretq_u8_u32(b));
    [vreinterpretq_u16_u8(vzip1q_u8(a, b)), vreinterpretq_u16_u8(vzip2q_u8(a, b))]
}

/// The pairs of both in turn.
#[inline]
#[target_feature(enable = "neon")]
fn zip_pairs(a: uint16x8_t, b: uint16x8_t) -> [uint32x4_t; 2] {
    [vreinterpretq_u32_u16(vzip1q_u16(a, b)), vreinterpretq_u32_u16(vzip2q_u16(a, b))]
}
