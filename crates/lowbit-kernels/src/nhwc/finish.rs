//! From sums in registers to what is written.

use super::codes::{Clamp, Codes};
use super::spec::{ConvSpec, Finish, ResidualAdd};
use super::tile::Places;
use crate::elementwise::ROUNDER;
use crate::isa::Task;

/// More than any code, so that a float below it rounds to an `i32` and one above it saturates all the same.
const BEYOND_CODES: f32 = 65_536.0;

/// Floats below it round to an `i32`.
const SURELY_I32: f64 = 1_073_741_824.0;

/// A [`Finish`] without the biases and factors, which lie in the order of the lanes.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Float,
    /// Codes of sums that surely stay in `i32` after scaling, and nothing else.
    Plain(Clamp),
    /// A function of such codes.
    Table(Clamp, Box<[u8; 256]>),
    /// The sum of such codes with those of another image, where that stays in `i32` too.
    Sum(Box<Sum>),
    /// Any.
    Codes(Box<How>),
}

/// What is done on the way from scaled sums to a sum with the codes of another image.
#[derive(Clone, Debug)]
pub(crate) struct Sum {
    bounds: OwnBounds,
    add: ResidualAdd,
}

/// The bounds of a code that is to be added, less its zero point. As they are integers, they clamp as well before rounding.
#[derive(Clone, Copy, Debug)]
struct OwnBounds {
    low: f32,
    high: f32,
    zero: f32,
}

/// What is done on the way from scaled sums to codes.
#[derive(Clone, Debug)]
pub(crate) struct How {
    clamp: Clamp,
    table: Option<Box<[u8; 256]>>,
    add: Option<ResidualAdd>,
}

impl Write {
    /// What to write, the biases and the factors.
    /// # Panics
    /// When a list has not one entry for each output, a multiplier is not finite, bounds are in the wrong order, or the other
    /// image has another extent.
    pub(crate) fn split(
        finish: Finish,
        spec: &ConvSpec,
        weights: &[i8],
    ) -> (Self, Vec<i32>, Vec<f32>) {
        let (write, bias, factors) = match finish {
            Finish::Codes { requantize, table, add } => {
                let clamp = Clamp {
                    zero_point: requantize.zero_point,
                    low: requantize.low,
                    high: requantize.high,
                };
                let how = How { clamp, table, add };
                (Self::Codes(Box::new(how)), requantize.bias, requantize.multipliers)
            }
            Finish::Float { bias, scales } => (Self::Float, bias, scales),
        };
        let outputs = spec.output.channels;
        assert!(
            bias.len() == outputs && factors.len() == outputs,
            "a bias and a factor for each output"
        );
        let Self::Codes(how) = write else { return (write, bias, factors) };
        how.check(spec);
        assert!(factors.iter().all(|factor| factor.is_finite()), "multipliers are finite");
        let write = if largest(weights, &bias, &factors) < SURELY_I32 {
            Self::simplest(*how)
        } else {
            Self::Codes(how)
        };
        (write, bias, factors)
    }

    /// The form for scaled sums that surely stay in `i32`.
    fn simplest(how: How) -> Self {
        match how {
            How { clamp, table: None, add: None } => Self::Plain(clamp),
            How { clamp, table: Some(table), add: None } => Self::Table(clamp, table),
            How { clamp, table: None, add: Some(add) } if add.largest() < SURELY_I32 => {
                Self::Sum(Box::new(Sum { bounds: OwnBounds::new(clamp), add }))
            }
            how => Self::Codes(Box::new(how)),
        }
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

    /// The clamp that comes last; that of floats does not matter.
    pub(crate) fn last_clamp(&self) -> Clamp {
        match self {
            Self::Float => Clamp::NONE,
            Self::Plain(clamp) | Self::Table(clamp, _) => *clamp,
            Self::Sum(sum) => sum.add.clamp(),
            Self::Codes(how) => match (&how.add, &how.table) {
                (Some(add), _) => add.clamp(),
                (None, Some(_)) => Clamp::NONE,
                (None, None) => how.clamp,
            },
        }
    }

    /// Whether the sums become codes in registers, with no table.
    pub(crate) fn is_short(&self) -> bool {
        matches!(self, Self::Plain(_) | Self::Sum(_))
    }

    /// The image that is added.
    pub(crate) fn add(&self) -> Option<&ResidualAdd> {
        match self {
            Self::Codes(how) => how.add.as_ref(),
            Self::Sum(sum) => Some(&sum.add),
            Self::Plain(_) | Self::Table(..) | Self::Float => None,
        }
    }
}

impl Sum {
    /// As [`ResidualAdd::own_first`].
    pub(crate) fn own_first(&self) -> bool {
        self.add.own_first
    }
}

impl OwnBounds {
    fn new(clamp: Clamp) -> Self {
        let zero = f32::from(clamp.zero_point);
        Self { low: f32::from(clamp.low) - zero, high: f32::from(clamp.high) - zero, zero }
    }
}

impl ResidualAdd {
    fn clamp(&self) -> Clamp {
        Clamp { zero_point: 0, low: self.low, high: self.high }
    }

    /// More than the size of any sum before it is rounded.
    fn largest(&self) -> f64 {
        let [own, other, fixed] =
            [self.own_ratio, self.other_ratio, self.fixed].map(|ratio| f64::from(ratio).abs());
        256.0 * (own + other) + fixed
    }
}

impl How {
    fn check(&self, spec: &ConvSpec) {
        assert!(self.clamp.low <= self.clamp.high, "the least code is not above the greatest");
        let Some(add) = &self.add else { return };
        assert!(add.low <= add.high, "the least code is not above the greatest");
        let (a, b) = (&add.other, &spec.output);
        assert!(
            [a.height, a.width, a.channels] == [b.height, b.width, b.channels]
                && a.channels <= a.pixel,
            "the other image has the extent of the result"
        );
    }
}

/// More than the size of any scaled sum, whatever the codes.
fn largest(weights: &[i8], bias: &[i32], factors: &[f32]) -> f64 {
    let taps = weights.len() / bias.len();
    let of_output = |((bias, factor), weights): ((&i32, &f32), &[i8])| {
        let sum: f64 = weights.iter().map(|&weight| f64::from(weight).abs()).sum();
        // A sum that would leave `i32` wraps.
        (255.0 * sum + f64::from(*bias).abs()).min(2_147_483_648.0) * f64::from(*factor).abs()
    };
    let outputs = bias.iter().zip(factors).zip(weights.chunks_exact(taps));
    outputs.map(of_output).fold(0.0, f64::max)
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
pub(crate) trait Other<A: Codes> {
    fn load(self, arch: A) -> [A::V; 4];
}

/// Codes of `4 / N` pixels, `N` vectors of each.
struct Quad<const N: usize> {
    from: [*const u8; 4],
    len: usize,
}

impl<const N: usize> Quad<N> {
    #[inline(always)]
    fn new<const R: usize>((pixels, len): (&[*const u8; R], usize), quad: usize) -> Self {
        Self { from: [0, 1, 2, 3].map(|q| pixels[pixel_of::<R, N>(quad, q)]), len }
    }
}

impl<A: Codes, const N: usize> Other<A> for Quad<N> {
    #[inline(always)]
    fn load(self, arch: A) -> [A::V; 4] {
        let mut codes = [arch.splat(0); 4];
        for (q, codes) in codes.iter_mut().enumerate() {
            let (n, len) = (q % N, part::<A>(self.len, q % N));
            // SAFETY: whoever made this promises `len` readable codes of each pixel; none is read beyond.
            *codes = unsafe {
                let from = self.from[q].add(n * A::LANES);
                if self.len == N * A::LANES {
                    arch.load_full_codes(from)
                } else {
                    arch.load_codes(from, len)
                }
            };
        }
        codes
    }
}

/// How many of `len` lanes are those of vector `n`.
#[inline(always)]
fn part<A: Codes>(len: usize, n: usize) -> usize {
    len.saturating_sub(n * A::LANES).min(A::LANES)
}

/// Writes the first lanes of the sums of `R` pixels.
/// # Safety
/// The pixels lie in the images of the places' layer, and no other thread writes the same; `N`, which is 1 or 2, vectors of factors
/// are readable.
#[inline(always)]
pub(crate) unsafe fn finish<A: Codes, const R: usize, const N: usize>(
    arch: A,
    bounds: A::Bounds,
    sums: [[A::V; N]; R],
    factors: *const f32,
    places: Places<'_>,
) {
    match places.layer.write {
        // SAFETY: as this function's.
        Write::Plain(_) => unsafe {
            let (factors, to) = (vectors::<A, N>(arch, factors), places.codes::<R>());
            let quads = Plainly { bounds, sums: &sums, factors, to: &to, len: places.len() };
            for_each_quad(arch, quads);
        },
        // SAFETY: as this function's.
        Write::Sum(sum) => unsafe {
            let (factors, to) = (vectors::<A, N>(arch, factors), places.codes::<R>());
            let plainly = Plainly { bounds, sums: &sums, factors, to: &to, len: places.len() };
            let (from, sum) = (places.other::<R>(&sum.add), SumVectors::new(arch, sum));
            for_each_quad(arch, WithOther { plainly, from: &from, sum });
        },
        Write::Float | Write::Table(..) | Write::Codes(_) => {
            // A copy, so that the sums themselves need no memory.
            let held = sums;
            arch.apart(Seldom::<R, N> { sums: (&raw const held).cast(), factors, places });
        }
    }
}

/// Writes one of the quads of a tile: four vectors of sums, of four pixels or two.
trait Quads<A: Codes>: Copy {
    /// Quads of the tile.
    const COUNT: usize;

    /// # Safety
    /// As [`finish`], of this quad.
    unsafe fn write<const QUAD: usize>(self, arch: A);
}

/// Written out, as the compiler finds a loop too long to unroll and takes the sums through memory.
/// # Safety
/// As [`finish`].
#[inline(always)]
unsafe fn for_each_quad<A: Codes, Q: Quads<A>>(arch: A, quads: Q) {
    const { assert!(Q::COUNT <= 4, "a tile has at most 16 vectors") };
    // SAFETY: as this function's.
    unsafe {
        quads.write::<0>(arch);
        if Q::COUNT > 1 {
            quads.write::<1>(arch);
        }
        if Q::COUNT > 2 {
            quads.write::<2>(arch);
        }
        if Q::COUNT > 3 {
            quads.write::<3>(arch);
        }
    }
}

/// Codes of the sums of `R` pixels.
#[derive(Clone, Copy)]
struct Plainly<'a, A: Codes, const R: usize, const N: usize> {
    bounds: A::Bounds,
    sums: &'a [[A::V; N]; R],
    factors: [A::V; N],
    to: &'a [*mut u8; R],
    len: usize,
}

impl<A: Codes, const R: usize, const N: usize> Quads<A> for Plainly<'_, A, R, N> {
    const COUNT: usize = (R * N).div_ceil(4);

    #[inline(always)]
    unsafe fn write<const QUAD: usize>(self, arch: A) {
        let scaled = scaled_quad::<A, R, N>(arch, self.sums, self.factors, QUAD);
        let bytes = plain(arch, self.bounds, scaled);
        // SAFETY: as this function's.
        unsafe { store_quad::<A, R, N>(arch, bytes, (self.to, self.len), QUAD) };
    }
}

/// Codes of their sums with those of another image.
#[derive(Clone, Copy)]
struct WithOther<'a, A: Codes, const R: usize, const N: usize> {
    plainly: Plainly<'a, A, R, N>,
    from: &'a [*const u8; R],
    sum: SumVectors<A::V>,
}

impl<A: Codes, const R: usize, const N: usize> Quads<A> for WithOther<'_, A, R, N> {
    const COUNT: usize = (R * N).div_ceil(4);

    #[inline(always)]
    unsafe fn write<const QUAD: usize>(self, arch: A) {
        let Self { plainly: Plainly { bounds, sums, factors, to, len }, from, sum } = self;
        let scaled = scaled_quad::<A, R, N>(arch, sums, factors, QUAD);
        let other = Quad::<N>::new::<R>((from, len), QUAD).load(arch);
        let bytes = arch.join(sum.codes(arch, scaled, other), bounds);
        // SAFETY: as this function's.
        unsafe { store_quad::<A, R, N>(arch, bytes, (to, len), QUAD) };
    }
}

/// What [`finish`] does in a function of its own, lest it fill the loops around the rest.
struct Seldom<'a, const R: usize, const N: usize> {
    /// `R` times `N` vectors.
    sums: *const f32,
    factors: *const f32,
    places: Places<'a>,
}

impl<const R: usize, const N: usize> Task for Seldom<'_, R, N> {
    type Output = ();

    #[inline(always)]
    fn run<A: Codes>(self, arch: A) {
        let Self { sums: from, factors, places } = self;
        let (write, len) = (places.layer.write, places.len());
        let bounds = arch.bounds(write.last_clamp());
        // SAFETY: `finish` has these vectors of the same tier.
        let factors = unsafe { vectors::<A, N>(arch, factors) };
        let mut sums = [[arch.splat(0); N]; R];
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as above.
            *sums = unsafe { vectors::<A, N>(arch, from.add(r * N * A::LANES)) };
        }
        match write {
            Write::Float => {
                for (sums, to) in sums.into_iter().zip(places.floats::<R>()) {
                    for n in 0..N {
                        let scaled = arch.mul_f32(arch.to_f32(sums[n]), factors[n]);
                        let len = part::<A>(len, n);
                        // SAFETY: the lanes' floats are writable, as `finish` asks.
                        unsafe { arch.store_part(to.add(n * A::LANES).cast(), scaled, len) };
                    }
                }
            }
            Write::Plain(_) | Write::Sum(_) => unreachable!("`finish` does these itself"),
            Write::Table(_, table) => {
                let to = places.codes::<R>();
                for quad in 0..const { (R * N).div_ceil(4) } {
                    let scaled = scaled_quad::<A, R, N>(arch, &sums, factors, quad);
                    let bytes = arch.lookup_bytes(plain(arch, bounds, scaled), table);
                    // SAFETY: as `finish`'s.
                    unsafe { store_quad::<A, R, N>(arch, bytes, (&to, len), quad) };
                }
            }
            Write::Codes(how) => {
                let to = places.codes::<R>();
                let from = how.add.as_ref().map_or([std::ptr::null(); R], |add| places.other(add));
                for quad in 0..const { (R * N).div_ceil(4) } {
                    let scaled = scaled_quad::<A, R, N>(arch, &sums, factors, quad);
                    let other = Quad::<N>::new::<R>((&from, len), quad);
                    let bytes = arch.join(codes(arch, how, scaled, other), bounds);
                    // SAFETY: as `finish`'s.
                    unsafe { store_quad::<A, R, N>(arch, bytes, (&to, len), quad) };
                }
            }
        }
    }
}

/// The vectors at `from`.
/// # Safety
/// `N` vectors are readable.
#[inline(always)]
pub(crate) unsafe fn vectors<A: Codes, const N: usize>(arch: A, from: *const f32) -> [A::V; N] {
    let mut vectors = [arch.splat(0); N];
    for (n, vector) in vectors.iter_mut().enumerate() {
        // SAFETY: as this function's.
        *vector = unsafe { arch.load(from.add(n * A::LANES).cast()) };
    }
    vectors
}

/// The pixel whose vector is the `q`th of a quad; the last pixel stands for those beyond.
const fn pixel_of<const R: usize, const N: usize>(quad: usize, q: usize) -> usize {
    let pixel = (4 * quad + q) / N;
    if pixel < R { pixel } else { R - 1 }
}

/// The sums of a quad times their factors.
#[inline(always)]
pub(crate) fn scaled_quad<A: Codes, const R: usize, const N: usize>(
    arch: A,
    sums: &[[A::V; N]; R],
    factors: [A::V; N],
    quad: usize,
) -> [A::V; 4] {
    let mut scaled = [arch.splat(0); 4];
    for (q, scaled) in scaled.iter_mut().enumerate() {
        *scaled = arch.mul_f32(arch.to_f32(sums[pixel_of::<R, N>(quad, q)][q % N]), factors[q % N]);
    }
    scaled
}

/// The codes of a quad of another image, whose channels fill the lanes.
/// # Safety
/// `N` vectors of codes are readable at the places.
#[inline(always)]
pub(crate) unsafe fn load_quad<A: Codes, const R: usize, const N: usize>(
    arch: A,
    places: &[*const u8; R],
    quad: usize,
) -> [A::V; 4] {
    Quad::<N>::new::<R>((places, N * A::LANES), quad).load(arch)
}

/// # Safety
/// `len` bytes are writable at the places.
#[inline(always)]
pub(crate) unsafe fn store_quad<A: Codes, const R: usize, const N: usize>(
    arch: A,
    joined: A::V,
    (places, len): (&[*mut u8; R], usize),
    quad: usize,
) {
    let bytes = arch.side_by_side(joined);
    if N == 2 {
        let to = [0, 2].map(|q| places[pixel_of::<R, N>(quad, q)]);
        // SAFETY: as this function's.
        unsafe { arch.store_parts(to, bytes, len) };
    } else {
        let to = [0, 1, 2, 3].map(|q| places[pixel_of::<R, N>(quad, q)]);
        // SAFETY: as this function's.
        unsafe { arch.store_parts(to, bytes, len) };
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

/// The codes of [`Write::Plain`].
#[inline(always)]
pub(crate) fn plain<A: Codes>(arch: A, bounds: A::Bounds, scaled: [A::V; 4]) -> A::V {
    arch.join(round(arch, scaled), bounds)
}

/// As [`Codes::round`].
#[inline(always)]
pub(crate) fn round<A: Codes>(arch: A, mut vectors: [A::V; 4]) -> [A::V; 4] {
    for vector in &mut vectors {
        *vector = arch.round(*vector);
    }
    vectors
}

/// A [`Sum`] in vectors.
#[derive(Clone, Copy)]
pub(crate) struct SumVectors<V> {
    low: V,
    high: V,
    rounder: V,
    back: V,
    own_ratio: V,
    other_ratio: V,
    fixed: V,
    own_first: bool,
}

impl<V: Copy> SumVectors<V> {
    #[inline(always)]
    pub(crate) fn new<A: Codes<V = V>>(arch: A, Sum { bounds, add }: &Sum) -> Self {
        Self {
            low: arch.splat(bounds.low.to_bits()),
            high: arch.splat(bounds.high.to_bits()),
            rounder: arch.splat(ROUNDER.to_bits()),
            back: arch.splat((bounds.zero - ROUNDER).to_bits()),
            own_ratio: arch.splat(add.own_ratio.to_bits()),
            other_ratio: arch.splat(add.other_ratio.to_bits()),
            fixed: arch.splat(add.fixed.to_bits()),
            own_first: add.own_first,
        }
    }

    /// The rounded sums of the codes that `scaled` become with those of the other image.
    #[inline(always)]
    pub(crate) fn codes<A: Codes<V = V>>(self, arch: A, scaled: [V; 4], other: [V; 4]) -> [V; 4] {
        let own = self.own(arch, scaled);
        let sums = if self.own_first {
            self.added::<A, true>(arch, own, other)
        } else {
            self.added::<A, false>(arch, own, other)
        };
        round(arch, sums)
    }

    /// The codes that `scaled` become, as floats.
    #[inline(always)]
    pub(crate) fn own<A: Codes<V = V>>(self, arch: A, scaled: [V; 4]) -> [V; 4] {
        let mut own = scaled;
        for own in &mut own {
            let clamped = arch.min_f32(arch.max_f32(*own, self.low), self.high);
            *own = arch.add_f32(arch.add_f32(clamped, self.rounder), self.back);
        }
        own
    }

    /// The sums of the own codes, as floats, with those of the other image.
    #[inline(always)]
    pub(crate) fn added<A: Codes<V = V>, const OWN_FIRST: bool>(
        self,
        arch: A,
        mut own: [V; 4],
        other: [V; 4],
    ) -> [V; 4] {
        for (own, other) in own.iter_mut().zip(other) {
            let other = arch.to_f32(other);
            *own = if OWN_FIRST {
                let second = arch.fused_f32(other, self.other_ratio, self.fixed);
                arch.fused_f32(*own, self.own_ratio, second)
            } else {
                let second = arch.fused_f32(*own, self.own_ratio, self.fixed);
                arch.fused_f32(other, self.other_ratio, second)
            };
        }
        own
    }
}

/// Integers that the last clamp turns into the codes to write.
#[inline(always)]
pub(crate) fn codes<A: Codes>(
    arch: A,
    how: &How,
    scaled: [A::V; 4],
    other: impl Other<A>,
) -> [A::V; 4] {
    let How { clamp, table, add } = how;
    let mut codes = scaled;
    if table.is_none() && add.is_none() {
        let most = arch.splat(BEYOND_CODES.to_bits());
        for code in &mut codes {
            *code = arch.round(arch.min_f32(*code, most));
        }
        return codes;
    }
    let OwnBounds { low, high, zero } = OwnBounds::new(*clamp);
    let (low, high) = (arch.splat(low.to_bits()), arch.splat(high.to_bits()));
    let rounder = arch.splat(ROUNDER.to_bits());
    for code in &mut codes {
        *code = arch.add_f32(arch.min_f32(arch.max_f32(*code, low), high), rounder);
    }
    if let Some(table) = table {
        let no_code = arch.splat(ROUNDER.to_bits() - u32::from(clamp.zero_point));
        for code in &mut codes {
            *code = arch.lookup(arch.sub_i32(*code, no_code), table);
        }
    }
    let Some(add) = add else { return codes };
    let back = arch.splat((zero - ROUNDER).to_bits());
    for code in &mut codes {
        *code = if table.is_some() { arch.to_f32(*code) } else { arch.add_f32(*code, back) };
    }
    added(arch, add, codes, other.load(arch))
}

/// The rounded sums of the codes of both images, the own ones as `f32`.
#[inline(always)]
fn added<A: Codes>(arch: A, add: &ResidualAdd, mut own: [A::V; 4], other: [A::V; 4]) -> [A::V; 4] {
    let own_ratio = arch.splat(add.own_ratio.to_bits());
    let other_ratio = arch.splat(add.other_ratio.to_bits());
    let fixed = arch.splat(add.fixed.to_bits());
    let most = arch.splat(BEYOND_CODES.to_bits());
    for (code, other) in own.iter_mut().zip(other) {
        let (own, other) = (*code, arch.to_f32(other));
        let sum = if add.own_first {
            arch.fused_f32(own, own_ratio, arch.fused_f32(other, other_ratio, fixed))
        } else {
            arch.fused_f32(other, other_ratio, arch.fused_f32(own, own_ratio, fixed))
        };
        *code = arch.round(arch.min_f32(sum, most));
    }
    own
}
