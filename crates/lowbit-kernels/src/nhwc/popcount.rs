//! Products of signs: 32 in a word, counted where they differ.
//!
//! With +1 as a set bit, a product of signs is `1 - 2 * (x ^ w)`. AVX-512 has counted bits of words since VPOPCNTDQ; below that a
//! table of 16 entries counts those of nibbles.

use super::codes::Codes;
use crate::arch::Portable;
#[cfg(target_arch = "x86_64")]
use crate::isa::Avx512;
use crate::isa::{Isa, Task};

/// Bits of a byte's nibbles: entry `i` is the ones of `i`.
#[cfg(target_arch = "x86_64")]
const ONES: [u32; 4] = [0x0201_0100, 0x0302_0201, 0x0302_0201, 0x0403_0302];

/// Vectors of words of signs.
pub(crate) trait Signs: Copy + Send + Sync {
    type A: Codes;
    /// Whether one instruction counts the bits of a word.
    const COUNTS: bool;
    fn codes(self) -> Self::A;
    /// `x ^ w[0]`, and of two words `(x ^ w[0]) & w[1]`.
    fn difference<const W: usize>(self, x: V<Self>, w: [V<Self>; W]) -> V<Self>;
    /// Adds the ones of two differences `x ^ w` to `ones`, bit by bit: leaves the sum's lower bits there and returns its higher ones.
    fn carry(self, ones: &mut V<Self>, first: [V<Self>; 2], second: [V<Self>; 2]) -> V<Self>;
    /// `acc` plus the ones of `words` in each lane.
    fn add_ones(self, acc: V<Self>, words: V<Self>) -> V<Self>;
    /// As [`Codes::pin`], where one instruction counts bits.
    #[inline(always)]
    fn pin(self, _: &mut [[V<Self>; 2]; 3]) {}
    /// A bit for each lane, the first one lowest: whether `a >= b` as `i32`.
    fn at_least(self, a: V<Self>, b: V<Self>) -> u32;
}

/// The vectors of a tier.
pub(crate) type V<S> = <<S as Signs>::A as crate::arch::Arch>::V;

/// A body that is compiled once for each tier; `run` and all it calls must be `#[inline(always)]`.
pub(crate) trait SignTask: Sized {
    fn run<S: Signs>(self, signs: S);

    /// # Safety
    /// The token proves that the CPU has these features; nothing else is asked.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(
        enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vpopcntdq,avx2,fma"
    )]
    #[inline(never)]
    unsafe fn run_popcount(self, token: Popcount) {
        self.run(token);
    }
}

/// Runs a task on `isa`, and on AVX-512 with VPOPCNTDQ where the CPU has it.
pub(crate) fn dispatch<T: SignTask>(isa: Isa, task: T) {
    #[cfg(target_arch = "x86_64")]
    if let Isa::Avx512(token) = isa.vectors()
        && is_x86_feature_detected!("avx512vpopcntdq")
    {
        // SAFETY: the token proves all features but the last, which was just found.
        return unsafe { task.run_popcount(Popcount(token)) };
    }
    isa.dispatch(OfIsa(task));
}

/// Whether [`dispatch`] counts bits by one instruction.
pub(crate) fn has_popcount(isa: Isa) -> bool {
    #[cfg(target_arch = "x86_64")]
    if let Isa::Avx512(_) = isa.vectors() {
        return is_x86_feature_detected!("avx512vpopcntdq");
    }
    let _ = isa;
    false
}

struct OfIsa<T>(T);

impl<T: SignTask> Task for OfIsa<T> {
    type Output = ();

    #[inline(always)]
    fn run<A: Codes>(self, arch: A) {
        self.0.run(Nibbles(arch));
    }
}

/// A tier that counts the ones of nibbles by a table, of bytes, or one by one.
#[derive(Clone, Copy)]
pub(crate) struct Nibbles<A>(A);

impl<A: Codes> Signs for Nibbles<A> {
    type A = A;

    const COUNTS: bool = false;

    #[inline(always)]
    fn codes(self) -> A {
        self.0
    }

    #[inline(always)]
    fn difference<const W: usize>(self, x: A::V, w: [A::V; W]) -> A::V {
        let differing = self.0.xor(x, w[0]);
        if W == 2 { self.0.and(differing, w[1]) } else { differing }
    }

    #[inline(always)]
    fn carry(self, ones: &mut A::V, [x, w]: [A::V; 2], second: [A::V; 2]) -> A::V {
        let (first, second) = (self.0.xor(x, w), self.0.xor(second[0], second[1]));
        let before = *ones;
        let one = self.0.xor(before, first);
        *ones = self.0.xor(one, second);
        // Never both.
        self.0.xor(self.0.and(before, first), self.0.and(one, second))
    }

    #[inline(always)]
    fn add_ones(self, acc: A::V, words: A::V) -> A::V {
        self.0.add_ones(acc, words)
    }

    #[inline(always)]
    fn at_least(self, a: A::V, b: A::V) -> u32 {
        self.0.at_least(a, b)
    }
}

/// Operations on the bits of words.
pub(crate) trait Ones: crate::arch::Arch {
    fn xor(self, a: Self::V, b: Self::V) -> Self::V;
    fn and(self, a: Self::V, b: Self::V) -> Self::V;
    /// How many bits of each lane are set.
    fn ones(self, words: Self::V) -> Self::V;

    /// `acc` plus how many bits of each lane are set.
    #[inline(always)]
    fn add_ones(self, acc: Self::V, words: Self::V) -> Self::V {
        self.add_i32(acc, self.ones(words))
    }

    /// A bit for each lane, the first one lowest: whether `a >= b` as `i32`.
    fn at_least(self, a: Self::V, b: Self::V) -> u32;
}

impl Ones for Portable {
    #[inline(always)]
    fn xor(self, a: [u32; 4], b: [u32; 4]) -> [u32; 4] {
        std::array::from_fn(|i| a[i] ^ b[i])
    }

    #[inline(always)]
    fn and(self, a: [u32; 4], b: [u32; 4]) -> [u32; 4] {
        std::array::from_fn(|i| a[i] & b[i])
    }

    #[inline(always)]
    fn ones(self, words: [u32; 4]) -> [u32; 4] {
        words.map(u32::count_ones)
    }

    #[inline(always)]
    fn at_least(self, a: [u32; 4], b: [u32; 4]) -> u32 {
        (0..4).fold(0, |bits, i| bits | u32::from(a[i] as i32 >= b[i] as i32) << i)
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::Popcount;
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::super::x86::hold_512;
    use super::{Avx512, ONES, Ones, Signs};
    use crate::arch::Octets;

    /// Arithmetic of a tier whose token is at hand.
    macro_rules! proven {
        ($operation:expr) => {
            // SAFETY: register arithmetic only; `self` is a token, made after the CPU reported these instructions.
            unsafe { $operation }
        };
    }

    impl<O: Octets> Ones for O {
        #[inline(always)]
        fn xor(self, a: __m256i, b: __m256i) -> __m256i {
            proven!(_mm256_xor_si256(a, b))
        }

        #[inline(always)]
        fn and(self, a: __m256i, b: __m256i) -> __m256i {
            proven!(_mm256_and_si256(a, b))
        }

        #[inline(always)]
        fn ones(self, words: __m256i) -> __m256i {
            proven!({
                let [a, b, c, d] = ONES.map(|word| word as i32);
                let (table, low) =
                    (_mm256_setr_epi32(a, b, c, d, a, b, c, d), _mm256_set1_epi8(15));
                let high = _mm256_and_si256(_mm256_srli_epi16::<4>(words), low);
                let bytes = _mm256_add_epi8(
                    _mm256_shuffle_epi8(table, _mm256_and_si256(words, low)),
                    _mm256_shuffle_epi8(table, high),
                );
                let pairs = _mm256_maddubs_epi16(bytes, _mm256_set1_epi8(1));
                _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
            })
        }

        #[inline(always)]
        fn at_least(self, a: __m256i, b: __m256i) -> u32 {
            proven!({
                let less = _mm256_cmpgt_epi32(b, a);
                !_mm256_movemask_ps(_mm256_castsi256_ps(less)) as u32 & 255
            })
        }
    }

    impl Ones for Avx512 {
        #[inline(always)]
        fn xor(self, a: __m512i, b: __m512i) -> __m512i {
            proven!(_mm512_xor_si512(a, b))
        }

        #[inline(always)]
        fn and(self, a: __m512i, b: __m512i) -> __m512i {
            proven!(_mm512_and_si512(a, b))
        }

        #[inline(always)]
        fn ones(self, words: __m512i) -> __m512i {
            proven!({
                let [a, b, c, d] = ONES.map(|word| word as i32);
                let (table, low) = (_mm512_set4_epi32(d, c, b, a), _mm512_set1_epi8(15));
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(words), low);
                let bytes = _mm512_add_epi8(
                    _mm512_shuffle_epi8(table, _mm512_and_si512(words, low)),
                    _mm512_shuffle_epi8(table, high),
                );
                _mm512_dpbusd_epi32(_mm512_setzero_si512(), bytes, _mm512_set1_epi8(1))
            })
        }

        #[inline(always)]
        fn at_least(self, a: __m512i, b: __m512i) -> u32 {
            proven!(_mm512_cmpge_epi32_mask(a, b)).into()
        }
    }

    /// Proof that the CPU has VPOPCNTDQ besides.
    #[derive(Clone, Copy)]
    pub(crate) struct Popcount(pub(super) Avx512);

    impl Signs for Popcount {
        type A = Avx512;

        const COUNTS: bool = true;

        #[inline(always)]
        fn codes(self) -> Avx512 {
            self.0
        }

        #[inline(always)]
        fn difference<const W: usize>(self, x: __m512i, w: [__m512i; W]) -> __m512i {
            // The truth table of `(x ^ w) & mask`, `x` being the highest bit of the index.
            const MASKED: i32 = 0b0010_1000;
            if W == 2 {
                proven!(_mm512_ternarylogic_epi32::<MASKED>(x, w[0], w[1]))
            } else {
                proven!(_mm512_xor_si512(x, w[0]))
            }
        }

        #[inline(always)]
        fn carry(self, ones: &mut __m512i, [x, w]: [__m512i; 2], second: [__m512i; 2]) -> __m512i {
            // Truth tables: of the parity; of `one ? !both : before`, by the highest, the middle and the lowest bit of the index. Where
            // `one` is set, just one of two was, and the third one's bit is carried: not `both`. Else the two are alike, as `before`.
            const PARITY: i32 = 0b1001_0110;
            const CARRY: i32 = 0b0011_1010;
            proven!({
                let before = *ones;
                let one = _mm512_ternarylogic_epi32::<PARITY>(before, x, w);
                *ones = _mm512_ternarylogic_epi32::<PARITY>(one, second[0], second[1]);
                _mm512_ternarylogic_epi32::<CARRY>(one, *ones, before)
            })
        }

        #[inline(always)]
        fn add_ones(self, acc: __m512i, words: __m512i) -> __m512i {
            proven!(_mm512_add_epi32(acc, _mm512_popcnt_epi32(words)))
        }

        #[inline(always)]
        fn pin(self, vectors: &mut [[__m512i; 2]; 3]) {
            proven!(pin(vectors));
        }

        #[inline(always)]
        fn at_least(self, a: __m512i, b: __m512i) -> u32 {
            self.0.at_least(a, b)
        }
    }

    /// [`Signs::pin`].
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn pin([[a, b], [c, d], [e, f]]: &mut [[__m512i; 2]; 3]) {
        hold_512!(a b c d e f);
    }
}

#[cfg(test)]
mod tests {
    use super::{Nibbles, Signs};
    use crate::isa::{Isa, Task};
    use crate::nhwc::Codes;

    struct Count([u32; 16], [u32; 16]);

    impl Task for Count {
        type Output = ([[u32; 16]; 2], usize);

        fn run<A: Codes>(self, arch: A) -> ([[u32; 16]; 2], usize) {
            let (mut out, signs) = ([[0; 16]; 2], Nibbles(arch));
            // SAFETY: the arrays hold at least a vector.
            unsafe {
                let (x, w) = (arch.load(self.0.as_ptr()), arch.load(self.1.as_ptr()));
                let counts = signs.add_ones(arch.splat(7), signs.difference(x, [w]));
                arch.store(out[0].as_mut_ptr(), counts);
                // Of three words, `w` having been added before.
                let mut ones = w;
                let twos = signs.carry(&mut ones, [x, w], [x, arch.splat(u32::MAX)]);
                let counts = signs.add_ones(arch.splat(0), twos);
                let counts = signs.add_ones(arch.add_i32(counts, counts), ones);
                arch.store(out[1].as_mut_ptr(), counts);
            }
            (out, A::LANES)
        }
    }

    /// The tiers below VPOPCNTDQ, which the convolutions do not use on a CPU that has it.
    #[test]
    fn nibbles_count_as_well_as_bits() {
        let x: [u32; 16] =
            std::array::from_fn(|i| 0x9e37_79b9u32.wrapping_mul(i as u32 * i as u32));
        let w: [u32; 16] = std::array::from_fn(|i| 0x8000_0001u32.rotate_left(i as u32 * 3));
        for isa in Isa::available() {
            let (counts, lanes) = isa.dispatch(Count(x, w));
            for lane in 0..lanes {
                let differing = (x[lane] ^ w[lane]).count_ones();
                let three = w[lane].count_ones() + differing + x[lane].count_zeros();
                assert_eq!(
                    counts.map(|counts| counts[lane]),
                    [7 + differing, three],
                    "{}",
                    isa.name()
                );
            }
        }
    }
}
