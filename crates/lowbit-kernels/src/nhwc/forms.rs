//! Weights of few values: indices of 4, 2 or 1 bits into a table that fits in a register.
//!
//! Weights are unpacked in registers between the products of each tile, where the CPU has units to spare (AVX-512 of Zen 4), or where there
//! are so few pixels that they are read only once. Else a panel is unpacked to bytes once, next to the core, and then used as if it had
//! been kept so.

use std::array::from_fn;
use std::cell::Cell;

use super::arena::Words;
use super::codes::Codes;
use super::panels::Panels;
use super::spec::WeightForm;
use crate::isa::{Isa, kernel_name};

/// Values of a table.
const ENTRIES: usize = 16;

/// Words of the widest vector.
const LANES_MAX: usize = 16;

/// How the words of a panel become four weights a lane.
pub(crate) trait Form<A: Codes>: Copy {
    /// Words of the inner dimension in a packed vector: a power of two.
    const WORDS: usize;
    /// The four weights of each lane in word `index < WORDS`.
    fn unpack(self, arch: A, packed: A::V, index: usize) -> A::V;
}

/// A byte a weight.
#[derive(Clone, Copy)]
pub(crate) struct Int8;

impl<A: Codes> Form<A> for Int8 {
    const WORDS: usize = 1;

    #[inline(always)]
    fn unpack(self, _: A, packed: A::V, _: usize) -> A::V {
        packed
    }
}

/// Indices of `BITS` into a table of bytes, which is repeated every 16 bytes of the vector. The bits of a byte are those of
/// `8 / BITS` words of the inner dimension, the first one lowest.
#[derive(Clone, Copy)]
pub(crate) struct Indices<V, const BITS: usize>(V);

impl<V: Copy, const BITS: usize> Indices<V, BITS> {
    #[inline(always)]
    pub(crate) fn new<A: Codes<V = V>>(arch: A, table: &Table) -> Self {
        const { assert!(A::LANES <= LANES_MAX, "a vector has at most that many words") };
        // SAFETY: the table holds at least a vector.
        Self(unsafe { arch.load(table.0.as_ptr()) })
    }
}

impl<A: Codes, const BITS: usize> Form<A> for Indices<A::V, BITS> {
    const WORDS: usize = 8 / BITS;

    #[inline(always)]
    fn unpack(self, arch: A, packed: A::V, index: usize) -> A::V {
        let mask = arch.splat(0x0101_0101 * ((1 << BITS) - 1));
        arch.pick(packed, (BITS * index) as u32, mask, self.0)
    }
}

/// The values that indices stand for, zeros after the last, as often as a vector holds them all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table([u32; LANES_MAX]);

impl Table {
    /// Zeros.
    pub(crate) const EMPTY: Self = Self([0; LANES_MAX]);

    /// The table of at most [`ENTRIES`] values.
    fn new(values: &[i8]) -> Self {
        let entry = |at: usize| values.get(at % ENTRIES).map_or(0, |&value| value as u8);
        Self(from_fn(|lane| u32::from_le_bytes(from_fn(|byte| entry(4 * lane + byte)))))
    }
}

/// What the words of packed panels are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kept {
    Bytes,
    Four(Table),
    Two(Table),
    One(Table),
}

impl Kept {
    /// The least form, of at least the bits of `wanted`, that holds all values of `panels`; packs them so.
    pub(crate) fn pack(wanted: WeightForm, panels: &mut Panels) -> Self {
        let bits = match wanted {
            WeightForm::Int8 => return Self::Bytes,
            WeightForm::Table4 => 4,
            WeightForm::Table2 => 2,
            WeightForm::Table1 => 1,
        };
        let mut found = [false; 256];
        panels.for_each_used(|value| found[usize::from(value as u8)] = true);
        let values: Vec<i8> =
            (i8::MIN..=i8::MAX).filter(|&value| found[usize::from(value as u8)]).collect();
        let Some(bits) = [1, 2, 4].into_iter().find(|&n| n >= bits && values.len() <= 1 << n)
        else {
            return Self::Bytes;
        };
        let table = Table::new(&values);
        panels.pack(bits, |value| values.binary_search(&value).unwrap_or(0) as u32);
        match bits {
            1 => Self::One(table),
            2 => Self::Two(table),
            _ => Self::Four(table),
        }
    }

    /// The weights of a panel a byte each, which `room` holds where they are packed: `size` is words of the inner dimension and lanes.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn words<'a, A: Codes>(
        &self,
        arch: A,
        packed: &'a [u32],
        size: (usize, usize),
        room: &'a mut [u32],
    ) -> &'a [u32] {
        match self {
            Self::Bytes => return packed,
            Self::Four(table) => {
                unpack(arch, Indices::<_, 4>::new(arch, table), packed, size, room);
            }
            Self::Two(table) => {
                unpack(arch, Indices::<_, 2>::new(arch, table), packed, size, room);
            }
            Self::One(table) => {
                unpack(arch, Indices::<_, 1>::new(arch, table), packed, size, room);
            }
        }
        room
    }

    /// The form and the tier.
    pub(crate) fn name(&self, isa: Isa) -> &'static str {
        match self {
            Self::Bytes => kernel_name!("int8", isa),
            Self::Four(_) => kernel_name!("4-bit table", isa),
            Self::Two(_) => kernel_name!("2-bit table", isa),
            Self::One(_) => kernel_name!("1-bit table", isa),
        }
    }
}

/// Unpacks `words` words of the inner dimension of `columns` lanes each, which are one vector or two.
/// # Panics
/// When a slice is shorter than that.
#[inline(always)]
pub(crate) fn unpack<A: Codes, F: Form<A>>(
    arch: A,
    form: F,
    packed: &[u32],
    (words, columns): (usize, usize),
    out: &mut [u32],
) {
    match columns / A::LANES {
        1 => unpack_wide::<A, F, 1>(arch, form, packed, words, out),
        _ => unpack_wide::<A, F, 2>(arch, form, packed, words, out),
    }
}

/// Unpacks words of `N` vectors.
#[inline(always)]
fn unpack_wide<A: Codes, F: Form<A>, const N: usize>(
    arch: A,
    form: F,
    packed: &[u32],
    words: usize,
    out: &mut [u32],
) {
    let lanes = N * A::LANES;
    let packed = &packed[..words.div_ceil(F::WORDS) * lanes];
    let out = &mut out[..words * lanes];
    for (block, packed) in packed.chunks_exact(lanes).enumerate() {
        // SAFETY: a block is `N` vectors.
        let vectors: [A::V; N] = from_fn(|n| unsafe { arch.load(packed[n * A::LANES..].as_ptr()) });
        let first = block * F::WORDS;
        for index in 0..F::WORDS {
            if first + index < words {
                for (n, &vector) in vectors.iter().enumerate() {
                    let at = (first + index) * lanes + n * A::LANES;
                    let word = form.unpack(arch, vector, index);
                    // SAFETY: `out` holds all words, this one among them.
                    unsafe { arch.store(out.as_mut_ptr().add(at), word) };
                }
            }
        }
    }
}

thread_local! {
    /// The unpacked panel of this thread.
    static PANEL: Cell<Words> = const { Cell::new(Words::EMPTY) };
}

/// Room for `len` words, kept from call to call; to be given back.
pub(crate) fn borrow_panel(len: usize) -> Words {
    let mut panel = PANEL.take();
    if panel.len() < len {
        panel = Words::zeros(len);
    }
    panel
}

/// Keeps the room for the next call.
pub(crate) fn give_back_panel(panel: Words) {
    PANEL.set(panel);
}
