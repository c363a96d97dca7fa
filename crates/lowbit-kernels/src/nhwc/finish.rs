//! From sums in registers to what is written.

use super::codes::{Clamp, Codes};
use super::spec::{ConvSpec, Finish, ResidualAdd};

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
    /// # Panics
    /// When a list has not one entry for each output, a multiplier is not finite, bounds are in the wrong order, or the other
    /// image has another extent.
    pub(crate) fn split(finish: Finish, spec: &ConvSpec) -> (Self, Vec<i32>, Vec<f32>) {
        let (write, bias, factors) = match finish {
            Finish::Codes { requantize, table, add } => {
                let clamp = Clamp {
                    zero_point: requantize.zero_point,
                    low: requantize.low,
                    high: requantize.high,
                };
                let multipliers = requantize.multipliers;
                assert!(
                    multipliers.iter().all(|factor| factor.is_finite()),
                    "multipliers are finite"
                );
                (Self::Codes { clamp, table, add }, requantize.bias, multipliers)
            }
            Finish::Float { bias, scales } => (Self::Float, bias, scales),
        };
        let outputs = spec.output.channels;
        assert!(
            bias.len() == outputs && factors.len() == outputs,
            "a bias and a factor for each output"
        );
        write.check(spec);
        (write, bias, factors)
    }

    fn check(&self, spec: &ConvSpec) {
        let Self::Codes { clamp, add, .. } = self else { return };
        assert!(clamp.low <= clamp.high, "the least code is not above the greatest");
        let Some(add) = add else { return };
        assert!(add.low <= add.high, "the least code is not above the greatest");
        let (a, b) = (&add.other, &spec.output);
        assert!(
            [a.height, a.width, a.channels] == [b.height, b.width, b.channels]
                && a.channels <= a.pixel,
            "the other image has the extent of the result"
        );
    }

    /// The images of a run that writes codes.
    /// # Panics
    /// When an image is shorter than its layout says, `other` is missing, or the result is floats.
    pub(crate) fn images(&self, spec: &ConvSpec, other: Option<&[u8]>, out: &mut [u8]) -> At {
        assert!(!matches!(self, Self::Float), "the result is codes");
        assert!(out.len() >= spec.output.len(), "the result has the length of its layout");
        let other = self.add().map_or(std::ptr::null(), |add| {
            let other = other.expect("the image that is added");
            assert!(other.len() >= add.other.len(), "an image has the length of its layout");
            other.as_ptr()
        });
        At { codes: out.as_mut_ptr(), floats: std::ptr::null_mut(), other }
    }

    /// The images of a run that writes floats.
    /// # Panics
    /// When `out` is shorter than the result, or the result is codes.
    pub(crate) fn float_images(&self, spec: &ConvSpec, out: &mut [f32]) -> At {
        assert!(matches!(self, Self::Float), "the result is floats");
        let output = &spec.output;
        assert!(
            out.len() >= output.height * output.width * output.channels,
            "the result has a float for each output"
        );
        At { codes: std::ptr::null_mut(), floats: out.as_mut_ptr(), other: std::ptr::null() }
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

// Below, loops stand where `map` would do: a closure is compiled without the tier's instructions, and they do not inline into it.

/// The codes of another image, in the order of the lanes.
pub(crate) trait Other<A: Codes, const N: usize> {
    fn load(self, arch: A) -> [A::V; N];
}

/// Codes one after another.
struct InOrder {
    from: *const u8,
    len: usize,
}

impl<A: Codes, const N: usize> Other<A, N> for InOrder {
    #[inline(always)]
    fn load(self, arch: A) -> [A::V; N] {
        let mut codes = [arch.splat(0); N];
        for (n, codes) in codes.iter_mut().enumerate() {
            let len = part::<A>(self.len, n);
            // SAFETY: whoever made this promises `len` readable codes; none is read beyond.
            *codes = unsafe { arch.load_codes(self.from.add(n * A::LANES), len) };
        }
        codes
    }
}

/// How many of `len` lanes are those of vector `n`.
#[inline(always)]
fn part<A: Codes>(len: usize, n: usize) -> usize {
    len.saturating_sub(n * A::LANES).min(A::LANES)
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
    // SAFETY: the caller promises `N` vectors of factors.
    let scaled = unsafe { scaled(arch, sums, factors) };
    match codes(arch, write, scaled, InOrder { from: at.other, len }) {
        // SAFETY: the caller promises `len` writable codes.
        Some((values, clamp)) => unsafe { arch.store_codes(at.codes, values, clamp, len) },
        None => {
            for (n, &vector) in scaled.iter().enumerate() {
                let len = part::<A>(len, n);
                // SAFETY: the caller promises `len` writable floats.
                unsafe { arch.store_part(at.floats.add(n * A::LANES).cast(), vector, len) };
            }
        }
    }
}

/// The sums times their factors, as floats.
/// # Safety
/// `N` vectors of factors are readable.
#[inline(always)]
pub(crate) unsafe fn scaled<A: Codes, const N: usize>(
    arch: A,
    mut sums: [A::V; N],
    factors: *const f32,
) -> [A::V; N] {
    for (n, sum) in sums.iter_mut().enumerate() {
        // SAFETY: the caller promises `N` vectors of factors.
        let factor = unsafe { arch.load(factors.add(n * A::LANES).cast()) };
        *sum = arch.mul_f32(arch.to_f32(*sum), factor);
    }
    sums
}

/// Integers that a clamp turns into the codes to write; none where the scaled sums are the result.
#[inline(always)]
pub(crate) fn codes<A: Codes, const N: usize>(
    arch: A,
    write: &Write,
    scaled: [A::V; N],
    other: impl Other<A, N>,
) -> Option<([A::V; N], Clamp)> {
    let Write::Codes { clamp, table, add } = write else { return None };
    let most = arch.splat(BEYOND_CODES.to_bits());
    let mut codes = scaled;
    for code in &mut codes {
        *code = arch.round(arch.min_f32(*code, most));
    }
    if table.is_none() && add.is_none() {
        return Some((codes, *clamp));
    }
    let (low, high) = (arch.splat(clamp.low.into()), arch.splat(clamp.high.into()));
    let zero = arch.splat(clamp.zero_point.into());
    // More than a code less than the least one is no more than that: so the sum with the zero point does not wrap.
    let least = arch.splat(-(BEYOND_CODES as i32) as u32);
    for code in &mut codes {
        let moved = arch.add_i32(arch.max_i32(*code, least), zero);
        *code = arch.min_i32(arch.max_i32(moved, low), high);
    }
    if let Some(table) = table {
        for code in &mut codes {
            *code = arch.lookup(*code, table);
        }
    }
    let Some(add) = add else { return Some((codes, Clamp::NONE)) };
    let clamp = Clamp { zero_point: 0, low: add.low, high: add.high };
    Some((added(arch, add, codes, other.load(arch)), clamp))
}

/// The rounded sums of the codes of both images.
#[inline(always)]
fn added<A: Codes, const N: usize>(
    arch: A,
    add: &ResidualAdd,
    mut own: [A::V; N],
    other: [A::V; N],
) -> [A::V; N] {
    let own_ratio = arch.splat(add.own_ratio.to_bits());
    let other_ratio = arch.splat(add.other_ratio.to_bits());
    let fixed = arch.splat(add.fixed.to_bits());
    let most = arch.splat(BEYOND_CODES.to_bits());
    for (code, other) in own.iter_mut().zip(other) {
        let (own, other) = (arch.to_f32(*code), arch.to_f32(other));
        let sum = if add.own_first {
            arch.fused_f32(own, own_ratio, arch.fused_f32(other, other_ratio, fixed))
        } else {
            arch.fused_f32(other, other_ratio, arch.fused_f32(own, own_ratio, fixed))
        };
        *code = arch.round(arch.min_f32(sum, most));
    }
    own
}
