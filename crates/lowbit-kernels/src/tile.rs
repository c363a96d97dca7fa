//! The register tile: `MR` broadcast rows against `NV` vectors, the whole depth accumulated in registers.
//!
//! Vector `v` at depth `k` is read at `bases[v] + offsets[k]`: a packed panel, a staged image and a plain matrix differ
//! only in these numbers. Each output sums its products in the order of `k`, whoever computes it.

use std::marker::PhantomData;

use crate::arch::Arch;
use crate::word::Word;

/// Where the vectors of each depth step start, relative to a base.
#[derive(Clone, Copy)]
pub(crate) struct Offsets<'a> {
    entries: &'a [u32],
    /// The largest entry.
    reach: usize,
}

impl<'a> Offsets<'a> {
    pub(crate) fn new(entries: &'a [u32]) -> Self {
        Self { entries, reach: entries.iter().copied().max().unwrap_or(0) as usize }
    }

    pub(crate) fn reach(&self) -> usize {
        self.reach
    }

    pub(crate) fn entries(&self) -> &'a [u32] {
        self.entries
    }
}

/// Multiplies: `w` holds `[depth][MR]`, the result is `[row][vector]`.
#[inline(always)]
pub(crate) fn accumulate<A: Arch, W: Word, const MR: usize, const NV: usize>(
    (arch, word): (A, W),
    x: &[u32],
    bases: [usize; NV],
    offsets: Offsets<'_>,
    w: &[u32],
) -> [[A::V; NV]; MR] {
    assert!(w.len() >= offsets.entries.len() * MR, "the packed rows are as deep as the offsets");
    for base in bases {
        assert!(base + offsets.reach + A::LANES <= x.len(), "every vector lies inside the operand");
    }
    let starts = bases.map(|base| x[base..].as_ptr());
    let mut sums = [[arch.splat(0); NV]; MR];
    let mut row = w.as_ptr();
    for &offset in offsets.entries {
        // SAFETY: `offset <= reach`, and `base + reach + LANES <= x.len()` was asserted.
        let vectors: [A::V; NV] =
            std::array::from_fn(|v| unsafe { arch.load(starts[v].add(offset as usize)) });
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: step `k` reads words `k * MR + r` of `w`, whose length was asserted.
            let factor = arch.splat(unsafe { row.add(r).read() });
            for (sum, &vector) in sums.iter_mut().zip(&vectors) {
                *sum = word.mac(arch, *sum, vector, factor);
            }
        }
        // SAFETY: at most one past the last of the `depth * MR` words asserted.
        row = unsafe { row.add(MR) };
    }
    sums
}

/// An output that several threads fill, each its own elements.
#[derive(Clone, Copy)]
pub(crate) struct Sink<'a> {
    start: *mut u32,
    len: usize,
    borrow: PhantomData<&'a mut [u32]>,
}

// SAFETY: the pointer stems from an exclusive borrow; `store` demands that writers keep to disjoint elements.
unsafe impl Send for Sink<'_> {}
// SAFETY: as above.
unsafe impl Sync for Sink<'_> {}

impl<'a> Sink<'a> {
    pub(crate) fn new(out: &'a mut [u32]) -> Self {
        Self { start: out.as_mut_ptr(), len: out.len(), borrow: PhantomData }
    }

    /// Writes the first `len <= LANES` lanes at element `at`.
    /// # Safety
    /// No other thread accesses these elements.
    #[inline(always)]
    pub(crate) unsafe fn store<A: Arch>(self, arch: A, at: usize, vector: A::V, len: usize) {
        assert!(len <= A::LANES && at + len <= self.len, "the store lies inside the output");
        // SAFETY: `at < len` of the borrowed slice, asserted.
        let to = unsafe { self.start.add(at) };
        if len == A::LANES {
            // SAFETY: `LANES` words are writable at `to`, asserted; the caller promises that nobody else uses them.
            unsafe { arch.store(to, vector) }
        } else {
            // SAFETY: `len` words are writable at `to`, asserted; the caller promises that nobody else uses them.
            unsafe { arch.store_part(to, vector, len) }
        }
    }

    /// Reads the first `len <= LANES` lanes at element `at`, zeros in the others.
    /// # Safety
    /// No other thread accesses these elements.
    #[inline(always)]
    pub(crate) unsafe fn load<A: Arch>(self, arch: A, at: usize, len: usize) -> A::V {
        assert!(len <= A::LANES && at + len <= self.len, "the load lies inside the output");
        // SAFETY: `at <= len` of the borrowed slice, asserted.
        let from = unsafe { self.start.add(at) };
        if len == A::LANES {
            // SAFETY: `LANES` words are readable at `from`, asserted; the caller promises that nobody else uses them.
            unsafe { arch.load(from) }
        } else {
            // SAFETY: `len` words are readable at `from`, asserted; the caller promises that nobody else uses them.
            unsafe { arch.load_part(from, len) }
        }
    }
}

/// Where a tile goes: vector `v` of row `r` to `at[v] + r * row_stride`, its first `lens[v]` lanes.
#[derive(Clone, Copy)]
pub(crate) struct Target<const NV: usize> {
    pub(crate) at: [usize; NV],
    pub(crate) lens: [usize; NV],
    pub(crate) row_stride: usize,
    pub(crate) rows: usize,
}

/// The addend of the epilogue.
#[derive(Clone, Copy)]
pub(crate) enum Bias<'a> {
    /// One word a row.
    Rows(&'a [u32]),
    /// One word a column of the tile, whole vectors.
    Columns(&'a [u32]),
}

/// Applies the epilogue and writes the tile.
/// # Safety
/// No other thread accesses the target's elements of `sink`.
#[inline(always)]
pub(crate) unsafe fn write<A: Arch, W: Word, const MR: usize, const NV: usize>(
    (arch, word): (A, W),
    sums: &[[A::V; NV]; MR],
    bias: Bias<'_>,
    target: Target<NV>,
    sink: Sink<'_>,
) {
    for (r, sums) in sums.iter().enumerate() {
        if r >= target.rows {
            break;
        }
        for (v, &sum) in sums.iter().enumerate() {
            let addend = match bias {
                Bias::Rows(bias) => arch.splat(bias[r]),
                Bias::Columns(bias) => {
                    let bias = &bias[v * A::LANES..][..A::LANES];
                    // SAFETY: the slice holds a whole vector.
                    unsafe { arch.load(bias.as_ptr()) }
                }
            };
            let (at, len) = (target.at[v] + r * target.row_stride, target.lens[v]);
            let mut value = word.add(arch, sum, addend);
            if W::ADDS {
                // SAFETY: the caller promises that nobody else uses the target.
                value = word.add(arch, value, unsafe { sink.load(arch, at, len) });
            }
            // SAFETY: the caller promises that nobody else uses the target.
            unsafe { sink.store(arch, at, word.activate(arch, value), len) }
        }
    }
}
