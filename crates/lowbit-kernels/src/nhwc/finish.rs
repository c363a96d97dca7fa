//! From sums in registers to what is written.

use super::codes::{Clamp, Codes};
use super::spec::{Finish, ResidualAdd};

/// More than any code, so that a float below it rounds to an `i32` and one above it saturates all the same.
const BEYOND_CODES: f32 = 65_536.0;

/// A [`Finish`] without the biases and factors, which lie in the order of the lanes.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Codes { clamp: Clamp, table: Option<Box<[u8; 256]>>, add: Option<ResidualAdd> },
    Float,
}

impl Write {
    /// What to write, the biases and the factors.
    pub(crate) fn split(finish: Finish) -> (Self, Vec<i32>, Vec<f32>) {
        match finish {
            Finish::Codes { requantize, table, add } => {
                let clamp = Clamp {
                    zero_point: requantize.zero_point,
                    low: requantize.low,
                    high: requantize.high,
                };
                assert!(clamp.low <= clamp.high, "the least code is not above the greatest");
                assert!(
                    requantize.multipliers.iter().all(|multiplier| multiplier.is_finite()),
                    "multipliers are finite"
                );
                (Self::Codes { clamp, table, add }, requantize.bias, requantize.multipliers)
            }
            Finish::Float { bias, scales } => (Self::Float, bias, scales),
        }
    }

    /// The image that is added.
    pub(crate) fn add(&self) -> Option<&ResidualAdd> {
        match self {
            Self::Codes { add, .. } => add.as_ref(),
            Self::Float => None,
        }
    }
}

/// Where the results of one pixel go, and what is added to them.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(crate) codes: *mut u8,
    pub(crate) floats: *mut f32,
    pub(crate) other: *const u8,
}

/// Writes the first `len` lanes of a pixel's sums.
/// # Safety
/// `len` codes, or for floats `len` floats, are writable at `at`, and readable where another image is added; `N` vectors of
/// factors are readable.
#[inline(always)]
pub(crate) unsafe fn finish<A: Codes, const N: usize>(
    arch: A,
    write: &Write,
    sums: [A::V; N],
    factors: *const f32,
    (at, len): (At, usize),
) {
    let scaled: [A::V; N] = std::array::from_fn(|n| {
        // SAFETY: the caller promises `N` vectors of factors.
        let factor = unsafe { arch.load(factors.add(n * A::LANES).cast()) };
        arch.mul_f32(arch.to_f32(sums[n]), factor)
    });
    let Write::Codes { clamp, table, add } = write else {
        for (n, &vector) in scaled.iter().enumerate() {
            let part = len.saturating_sub(n * A::LANES).min(A::LANES);
            // SAFETY: the caller promises `len` writable floats.
            unsafe { arch.store_part(at.floats.add(n * A::LANES).cast(), vector, part) };
        }
        return;
    };
    let most = arch.splat(BEYOND_CODES.to_bits());
    let rounded = scaled.map(|vector| arch.round(arch.min_f32(vector, most)));
    if table.is_none() && add.is_none() {
        // SAFETY: the caller promises `len` writable codes.
        return unsafe { arch.store_codes(at.codes, rounded, *clamp, len) };
    }
    let [low, high, zero] =
        [clamp.low, clamp.high, clamp.zero_point].map(|code| arch.splat(code.into()));
    // More than a code less than the least one is no more than that: so the sum with the zero point does not wrap.
    let least = arch.splat(-(BEYOND_CODES as i32) as u32);
    let mut codes = rounded.map(|vector| {
        let moved = arch.add_i32(arch.max_i32(vector, least), zero);
        arch.min_i32(arch.max_i32(moved, low), high)
    });
    if let Some(table) = table {
        codes = codes.map(|vector| arch.lookup(vector, table));
    }
    let mut clamp = Clamp::NONE;
    if let Some(add) = add {
        // SAFETY: the caller promises `len` readable codes of the other image.
        codes = unsafe { added(arch, add, codes, (at.other, len)) };
        clamp = Clamp { zero_point: 0, low: add.low, high: add.high };
    }
    // SAFETY: the caller promises `len` writable codes.
    unsafe { arch.store_codes(at.codes, codes, clamp, len) };
}

/// The rounded sums of `codes` and the first `len` codes at `other`.
/// # Safety
/// `len` codes are readable at `other`.
#[inline(always)]
unsafe fn added<A: Codes, const N: usize>(
    arch: A,
    add: &ResidualAdd,
    codes: [A::V; N],
    (other, len): (*const u8, usize),
) -> [A::V; N] {
    let [own_ratio, other_ratio, fixed, most] =
        [add.own_ratio, add.other_ratio, add.fixed, BEYOND_CODES].map(|f| arch.splat(f.to_bits()));
    std::array::from_fn(|n| {
        let part = len.saturating_sub(n * A::LANES).min(A::LANES);
        // SAFETY: the caller promises `len` readable codes; none is read beyond.
        let other = unsafe { arch.load_codes(other.add(n * A::LANES), part) };
        let (own, other) = (arch.to_f32(codes[n]), arch.to_f32(other));
        let sum = if add.own_first {
            arch.fused_f32(own, own_ratio, arch.fused_f32(other, other_ratio, fixed))
        } else {
            arch.fused_f32(other, other_ratio, arch.fused_f32(own, own_ratio, fixed))
        };
        arch.round(arch.min_f32(sum, most))
    })
}
