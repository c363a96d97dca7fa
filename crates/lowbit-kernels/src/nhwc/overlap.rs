//! Tiles whose ending is computed between the products of the next one.
//!
//! Some units of a CPU multiply, and others convert, compare and pack. Where a tile has few words, one kind waits for the other: the
//! CPU looks less far ahead than from one tile's products to the next one's. So an ending is cut into eight phases, four for each of
//! its two quads of vectors, and a phase stands behind each of the first words of the next tile, with which it shares nothing. Tiles
//! have half the vectors of the others, so that both fit in registers.

use std::ops::Range;

use super::codes::Codes;
use super::finish::{SumVectors, Write, load_quad, round, scaled_quad, store_quad, vectors};
use super::forms::Form;
use super::panels::Panel;
use super::tile::{Layer, Places, step, sums};

/// Vectors of sums in a tile.
const VECTORS: usize = 8;

/// Words of a tile that has a phase behind each; one of at least half as many has two.
const PHASES: usize = 8;

/// Words above which tiles are long enough by themselves, and read too many weights for half the vectors.
const MOST_WORDS: usize = 160;

/// Pixels below which the last tile, which may compute few that are new, counts too much.
const LEAST_PIXELS: usize = 64;

/// Whether [`run`] takes `pixels` of a panel.
#[inline(always)]
pub(crate) fn takes<A: Codes>(panel: &Panel, pixels: usize) -> bool {
    A::OVERLAPS
        && (PHASES / 2..=MOST_WORDS).contains(&panel.offsets.len())
        && panel.outputs == panel.columns
        && pixels >= LEAST_PIXELS
}

/// As [`Layer::run`], of what [`takes`] says.
/// # Safety
/// As [`Layer::run`].
#[inline(always)]
pub(crate) unsafe fn run<A: Codes, F: Form<A>>(
    layer: &Layer<'_>,
    arch: A,
    form: F,
    at: (&Panel, &[u32], Range<usize>),
) {
    // SAFETY: as this function's.
    unsafe {
        if at.0.columns > A::LANES {
            by_ending::<A, F, 4, 2>(layer, arch, form, at);
        } else {
            by_ending::<A, F, 8, 1>(layer, arch, form, at);
        }
    }
}

/// # Safety
/// As [`Layer::run`].
#[inline(always)]
unsafe fn by_ending<A: Codes, F: Form<A>, const R: usize, const N: usize>(
    layer: &Layer<'_>,
    arch: A,
    form: F,
    at: (&Panel, &[u32], Range<usize>),
) {
    // SAFETY: as this function's; there are as many words as the tiles take early.
    unsafe {
        match (layer.write, at.0.offsets.len() < PHASES) {
            (Write::Plain(_), false) => tiles::<A, F, _, 1, R, N>(layer, arch, (form, Alone), at),
            (Write::Plain(_), true) => tiles::<A, F, _, 2, R, N>(layer, arch, (form, Alone), at),
            (Write::Sum(sum), short) => {
                let vectors = SumVectors::new(arch, sum);
                match (sum.own_first(), short) {
                    (true, false) => {
                        let ending = WithOther::<_, true>(vectors);
                        tiles::<A, F, _, 1, R, N>(layer, arch, (form, ending), at);
                    }
                    (false, false) => {
                        let ending = WithOther::<_, false>(vectors);
                        tiles::<A, F, _, 1, R, N>(layer, arch, (form, ending), at);
                    }
                    (true, true) => {
                        let ending = WithOther::<_, true>(vectors);
                        tiles::<A, F, _, 2, R, N>(layer, arch, (form, ending), at);
                    }
                    (false, true) => {
                        let ending = WithOther::<_, false>(vectors);
                        tiles::<A, F, _, 2, R, N>(layer, arch, (form, ending), at);
                    }
                }
            }
            _ => unreachable!("other endings are functions of their own"),
        }
    }
}

/// What becomes of the scaled sums of a quad.
trait Ending<A: Codes>: Copy {
    /// Whether there is another image.
    const ADDS: bool;
    /// The second phase.
    fn own(self, arch: A, scaled: [A::V; 4]) -> [A::V; 4];
    /// The third phase.
    fn added(self, arch: A, own: [A::V; 4], other: [A::V; 4]) -> [A::V; 4];
    /// The last phase: what the last clamp turns into codes.
    fn rounded(self, arch: A, sums: [A::V; 4]) -> [A::V; 4];
}

/// Codes.
#[derive(Clone, Copy)]
struct Alone;

impl<A: Codes> Ending<A> for Alone {
    const ADDS: bool = false;

    #[inline(always)]
    fn own(self, arch: A, scaled: [A::V; 4]) -> [A::V; 4] {
        round(arch, scaled)
    }

    #[inline(always)]
    fn added(self, _: A, own: [A::V; 4], _: [A::V; 4]) -> [A::V; 4] {
        own
    }

    #[inline(always)]
    fn rounded(self, _: A, sums: [A::V; 4]) -> [A::V; 4] {
        sums
    }
}

/// Codes of the sum with the codes of another image; those of the convolution are `a` of [`super::ResidualAdd`], or `b`.
#[derive(Clone, Copy)]
struct WithOther<V, const OWN_FIRST: bool>(SumVectors<V>);

impl<A: Codes, const OWN_FIRST: bool> Ending<A> for WithOther<A::V, OWN_FIRST> {
    const ADDS: bool = true;

    #[inline(always)]
    fn own(self, arch: A, scaled: [A::V; 4]) -> [A::V; 4] {
        self.0.own(arch, scaled)
    }

    #[inline(always)]
    fn added(self, arch: A, own: [A::V; 4], other: [A::V; 4]) -> [A::V; 4] {
        self.0.added::<A, OWN_FIRST>(arch, own, other)
    }

    #[inline(always)]
    fn rounded(self, arch: A, sums: [A::V; 4]) -> [A::V; 4] {
        round(arch, sums)
    }
}

/// What all tiles of a panel end with.
#[derive(Clone, Copy)]
struct Common<A: Codes, E, const N: usize> {
    bounds: A::Bounds,
    factors: [A::V; N],
    ending: E,
}

/// A tile whose ending is under way.
struct Held<A: Codes, const R: usize, const N: usize> {
    sums: [[A::V; N]; R],
    /// The quad that is worked on.
    quad: [A::V; 4],
    to: [*mut u8; R],
    other: [*const u8; R],
}

impl<A: Codes, const R: usize, const N: usize> Held<A, R, N> {
    /// The sums of the tile at `places`.
    #[inline(always)]
    fn new(arch: A, sums: [[A::V; N]; R], places: Places<'_>) -> Self {
        let other = match places.layer.write.add() {
            Some(add) => places.other(add),
            None => [std::ptr::null(); R],
        };
        Self { sums, quad: [arch.splat(0); 4], to: places.codes(), other }
    }

    /// # Safety
    /// The tile's pixels and the panel's outputs, which fill the lanes, lie inside the images.
    #[inline(always)]
    unsafe fn phase<E: Ending<A>, const PHASE: usize>(&mut self, arch: A, all: Common<A, E, N>) {
        let number = PHASE / (PHASES / 2);
        match PHASE % (PHASES / 2) {
            0 => self.quad = scaled_quad::<A, R, N>(arch, &self.sums, all.factors, number),
            1 => self.quad = all.ending.own(arch, self.quad),
            2 => {
                let mut other = [arch.splat(0); 4];
                if E::ADDS {
                    // SAFETY: as this function's.
                    other = unsafe { load_quad::<A, R, N>(arch, &self.other, number) };
                }
                self.quad = all.ending.added(arch, self.quad, other);
            }
            _ => {
                let bytes = arch.join(all.ending.rounded(arch, self.quad), all.bounds);
                let to = (&self.to, N * A::LANES);
                // SAFETY: as this function's.
                unsafe { store_quad::<A, R, N>(arch, bytes, to, number) };
            }
        }
    }
}

/// Tiles of `R` pixels, `PER` phases behind each of the first words; the last one overlaps the one before it, and writes the same again.
/// # Safety
/// As [`Layer::run`]; there are at least `R` pixels and `PHASES / PER` words.
#[inline(always)]
unsafe fn tiles<
    A: Codes,
    F: Form<A>,
    E: Ending<A>,
    const PER: usize,
    const R: usize,
    const N: usize,
>(
    layer: &Layer<'_>,
    arch: A,
    (form, ending): (F, E),
    (panel, weights, pixels): (&Panel, &[u32], Range<usize>),
) {
    const { assert!(R * N == VECTORS && F::WORDS == 1, "a tile that fits in registers, of bytes") };
    let offsets = &layer.offsets[panel.offsets.clone()];
    let weights = weights[..offsets.len() * N * A::LANES].as_ptr();
    let bias = layer.bias[panel.column..][..N * A::LANES].as_ptr();
    let factors = layer.factors[panel.column..][..N * A::LANES].as_ptr();
    let width = layer.spec.output.width;
    let at = |pixel| [pixel / width, pixel % width];
    let mut first = pixels.start;
    // SAFETY: every word of every tap lies inside the input, and the pixels and the panel's outputs lie inside the images; weights,
    // biases and factors were sliced to their lengths, and there are words for all phases.
    unsafe {
        let bounds = arch.bounds(layer.write.last_clamp());
        let all = Common { bounds, factors: vectors::<A, N>(arch, factors), ending };
        let done =
            sums::<A, F, R, N, 1>(arch, form, layer.taps(at(first)), offsets, (weights, bias));
        let mut held = Held::<A, R, N>::new(arch, done, Places { layer, panel, at: at(first) });
        while first + R < pixels.end {
            first = (first + R).min(pixels.end - R);
            let x = layer.taps::<R>(at(first));
            let mut sums = [vectors::<A, N>(arch, bias.cast()); R];
            for_each_of_8!(PHASE => {
                if PHASE.is_multiple_of(PER) {
                    let word = (*offsets.get_unchecked(PHASE / PER), weights, PHASE / PER);
                    step::<A, F, R, N>(arch, form, x, word, &mut sums);
                }
                held.phase::<E, PHASE>(arch, all);
                arch.pin(&mut sums, &mut held.quad);
            });
            let (late, mut weights) = (&offsets[PHASES / PER..], weights);
            weights = weights.add(PHASES / PER * N * A::LANES);
            for &offset in late {
                step::<A, F, R, N>(arch, form, x, (offset, weights, 0), &mut sums);
                weights = weights.add(N * A::LANES);
            }
            held = Held::new(arch, sums, Places { layer, panel, at: at(first) });
        }
        for_each_of_8!(PHASE => {
            held.phase::<E, PHASE>(arch, all);
        });
    }
}
