//! The sweep of a convolution over its pixels, panel by panel.
//!
//! ```text
//!     for each gang of panels, each of up to lanes x vectors output pixels:
//!         copy the words of their pixels to [depth][column], unless whole vectors can be read in place
//!         for each panel of output channels, for each pixel panel of the gang:
//!             accumulate a tile over the full depth, finish, write
//! ```
//!
//! Pixels of all images form one stream. It is cut either in row vectors (read in place, but the last vector of a row may
//! be part empty) or in full panels (copied): [`Stream::new`] takes what costs less. Weights are `[panel][depth][MR]`.

use std::ops::Range;

use crate::arch::Arch;
use crate::isa::{Task, TileShape};
use crate::stage::copy;
use crate::tile::{Bias, Offsets, Sink, Target, accumulate, write};
use crate::word::Word;

/// Most columns of a panel, over all tiers.
const MAX_COLUMNS: usize = 48;
/// Most panels of a gang: writes run along more pixels of a channel, weights stay in the L1 cache.
const GANG: usize = 8;
/// Words of a gang's operand, which should stay in the L2 cache next to the weights.
const GANG_WORDS: usize = 1 << 14;
/// Most rows of a tile, over all tiers.
const MAX_ROWS: usize = 8;

/// The pixels of a block of images, of which `x` holds the words.
#[derive(Clone, Copy)]
pub(crate) struct Pixels {
    pub(crate) images: usize,
    pub(crate) rows: usize,
    pub(crate) width: usize,
    /// Words between two rows, and between two images, of the staged input.
    pub(crate) pitch: usize,
    pub(crate) image_words: usize,
    /// Elements between two images of the output.
    pub(crate) image_out: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Cut {
    Vectors,
    Packed,
}

/// The panels of a block of images.
#[derive(Clone, Copy)]
pub(crate) struct Stream {
    pixels: Pixels,
    tile: TileShape,
    cut: Cut,
}

/// Pixels that are neighbours in the input and in the output.
#[derive(Clone, Copy)]
struct Run {
    from: usize,
    to: usize,
    column: usize,
    len: usize,
}

/// A vector on its way into a packed panel.
#[derive(Clone, Copy, Default)]
struct Piece {
    from: usize,
    to: usize,
}

#[derive(Clone, Copy)]
struct Panel {
    runs: [Run; MAX_COLUMNS],
    count: usize,
    in_place: bool,
}

impl Panel {
    const EMPTY: Self = Self {
        runs: [Run { from: 0, to: 0, column: 0, len: 0 }; MAX_COLUMNS],
        count: 0,
        in_place: false,
    };
}

impl Stream {
    /// `channels` are the output channels that a packed panel serves.
    pub(crate) fn new(mut pixels: Pixels, tile: TileShape, channels: usize) -> Self {
        if pixels.pitch == pixels.width {
            pixels.width *= pixels.rows;
            pixels.pitch = pixels.width;
            pixels.rows = 1;
        }
        let uses = channels.div_ceil(tile.rows) * tile.rows;
        let vectors = pixels.images * pixels.rows * pixels.width.div_ceil(tile.lanes);
        let packed = (pixels.images * pixels.rows * pixels.width).div_ceil(tile.lanes);
        let copies = 3 + 2 * tile.lanes / pixels.width;
        let cut =
            if vectors * uses <= packed * (uses + copies) { Cut::Vectors } else { Cut::Packed };
        Self { pixels, tile, cut }
    }

    pub(crate) fn panels(&self) -> usize {
        let p = &self.pixels;
        match self.cut {
            Cut::Vectors => {
                (p.images * p.rows * p.width.div_ceil(self.tile.lanes)).div_ceil(self.tile.vectors)
            }
            Cut::Packed => (p.images * p.rows * p.width).div_ceil(self.tile.columns()),
        }
    }

    #[inline(always)]
    fn cut(&self, index: usize, panel: &mut Panel) {
        panel.count = 0;
        match self.cut {
            Cut::Vectors => self.cut_vectors(index, panel),
            Cut::Packed => self.cut_pixels(index, panel),
        }
    }

    #[inline(always)]
    fn cut_vectors(&self, index: usize, panel: &mut Panel) {
        let (p, lanes) = (&self.pixels, self.tile.lanes);
        let in_row = p.width.div_ceil(lanes);
        let first = index * self.tile.vectors;
        for v in 0..self.tile.vectors.min(p.images * p.rows * in_row - first) {
            let vector = first + v;
            let (row, x) = (vector / in_row, vector % in_row * lanes);
            panel.push(p, [row / p.rows, row % p.rows, x], v * lanes, lanes.min(p.width - x));
        }
    }

    #[inline(always)]
    fn cut_pixels(&self, index: usize, panel: &mut Panel) {
        let p = &self.pixels;
        let start = index * self.tile.columns();
        let end = (start + self.tile.columns()).min(p.images * p.rows * p.width);
        let mut at = start;
        while at < end {
            let (row, x) = (at / p.width, at % p.width);
            let len = (p.width - x).min(end - at);
            panel.push(p, [row / p.rows, row % p.rows, x], at - start, len);
            at += len;
        }
    }
}

impl Panel {
    #[inline(always)]
    fn push(&mut self, p: &Pixels, [image, y, x]: [usize; 3], column: usize, len: usize) {
        let from = image * p.image_words + y * p.pitch + x;
        let to = image * p.image_out + y * p.width + x;
        self.runs[self.count] = Run { from, to, column, len };
        self.count += 1;
    }

    fn runs(&self) -> &[Run] {
        &self.runs[..self.count]
    }

    /// Columns in use, the gaps between vectors counted.
    fn columns(&self) -> usize {
        self.runs().last().map_or(0, |run| run.column + run.len)
    }

    /// Whether the columns lie one after the other in the output, without gaps.
    fn is_contiguous(&self) -> bool {
        self.runs().windows(2).all(|pair| {
            pair[0].to + pair[0].len == pair[1].to && pair[0].column + pair[0].len == pair[1].column
        })
    }
}

/// One group of a convolution: offsets, weights and outputs of its own.
#[derive(Clone, Copy)]
pub(crate) struct Group<'a> {
    /// The group's first word in a staged image, and its first element in an output image.
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) channels: usize,
    pub(crate) weights: &'a [u32],
    pub(crate) bias: &'a [u32],
}

/// What all panels share.
#[derive(Clone, Copy)]
pub(crate) struct Sweep<'a, W> {
    pub(crate) word: W,
    pub(crate) x: &'a [u32],
    pub(crate) stream: Stream,
    /// Offsets of the taps in place, and in a packed panel.
    pub(crate) taps: Offsets<'a>,
    pub(crate) packed: Offsets<'a>,
    /// Elements of one output channel.
    pub(crate) area: usize,
    pub(crate) out: Sink<'a>,
}

/// A range of panels against a range of output panels of one group.
pub(crate) struct SweepTask<'a, W> {
    pub(crate) sweep: Sweep<'a, W>,
    pub(crate) group: Group<'a>,
    pub(crate) panels: Range<usize>,
    pub(crate) outputs: Range<usize>,
    pub(crate) buffer: &'a mut Vec<u32>,
}

impl<W: Word> Task for SweepTask<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self, arch: A) {
        let slot = (self.sweep.taps.entries().len() + 2) * A::LANES * A::VECTORS;
        let size = (GANG_WORDS / slot).clamp(1, GANG);
        if self.buffer.len() < size * slot {
            self.buffer.resize(size * slot, 0);
        }
        let mut gang = [Panel::EMPTY; GANG];
        for start in self.panels.clone().step_by(size) {
            let count = size.min(self.panels.end - start);
            for (index, panel) in gang[..count].iter_mut().enumerate() {
                self.sweep.stream.cut(start + index, panel);
                self.sweep.prepare(
                    arch,
                    panel,
                    self.group.from,
                    &mut self.buffer[index * slot..][..slot],
                );
            }
            for output in self.outputs.clone() {
                for (panel, slot) in gang[..count].iter().zip(self.buffer.chunks_exact(slot)) {
                    let share = Share { panel, slot, group: &self.group, output };
                    match panel.columns().div_ceil(A::LANES) {
                        1 => self.sweep.tile::<A, 1>(arch, &share),
                        2 => self.sweep.tile::<A, 2>(arch, &share),
                        _ => self.sweep.tile::<A, 3>(arch, &share),
                    }
                }
            }
        }
    }
}

impl<W: Word> Sweep<'_, W> {
    /// Finds whether the vectors of a panel can be read in place, and packs it otherwise.
    #[inline(always)]
    fn prepare<A: Arch>(&self, arch: A, panel: &mut Panel, from: usize, slot: &mut [u32]) {
        let reach = from + self.taps.reach() + A::LANES;
        let inside = panel.runs().iter().all(|run| run.from + reach <= self.x.len());
        panel.in_place = self.stream.cut == Cut::Vectors && inside;
        if !panel.in_place {
            self.pack(arch, panel, from, slot);
        }
    }

    #[inline(always)]
    fn tile<A: Arch, const NV: usize>(&self, arch: A, share: &Share<'_>) {
        let panel = share.panel;
        let operand = if panel.in_place {
            let mut bases = [share.group.from; NV];
            bases.iter_mut().zip(&panel.runs).for_each(|(base, run)| *base += run.from);
            Operand { x: self.x, bases, offsets: self.taps }
        } else {
            let bases: [usize; NV] = std::array::from_fn(|v| v * A::LANES);
            Operand { x: share.slot, bases, offsets: self.packed }
        };
        match A::ROWS {
            8 => self.rows::<A, 8, NV>(arch, operand, share),
            _ => self.rows::<A, 4, NV>(arch, operand, share),
        }
    }

    /// Copies a panel to `[depth][columns]`, where the input allows by whole vectors: what they write too far is
    /// overwritten by the next run, or lies in columns that nobody stores.
    #[inline(always)]
    fn pack<A: Arch>(&self, arch: A, panel: &Panel, from: usize, buffer: &mut [u32]) {
        let width = A::LANES * A::VECTORS;
        let mut pieces = [Piece::default(); MAX_COLUMNS];
        let (mut count, mut end) = (0, 0);
        for run in panel.runs() {
            for start in (0..run.len).step_by(A::LANES) {
                pieces[count] = Piece { from: from + run.from + start, to: run.column + start };
                count += 1;
            }
            end = end.max(from + run.from + run.len.next_multiple_of(A::LANES) + self.taps.reach());
        }
        if end > self.x.len() {
            return self.pack_exactly(arch, panel, from, buffer);
        }
        let entries = self.taps.entries();
        assert!(
            buffer.len() >= entries.len() * width + A::LANES,
            "the buffer holds the panel and an overshoot"
        );
        for (k, &offset) in entries.iter().enumerate() {
            for piece in &pieces[..count] {
                // SAFETY: `from + offset + LANES <= end <= x.len()`, tested above.
                let vector =
                    unsafe { arch.load(self.x.as_ptr().add(piece.from + offset as usize)) };
                // SAFETY: `to < width`, so this ends before `(k + 1) * width + LANES`, asserted above.
                unsafe { arch.store(buffer.as_mut_ptr().add(k * width + piece.to), vector) }
            }
        }
    }

    /// As [`Self::pack`], reading not a word too far.
    #[inline(always)]
    fn pack_exactly<A: Arch>(&self, arch: A, panel: &Panel, from: usize, buffer: &mut [u32]) {
        for (k, &offset) in self.taps.entries().iter().enumerate() {
            let to = &mut buffer[k * A::LANES * A::VECTORS..][..A::LANES * A::VECTORS];
            for run in panel.runs() {
                let source = &self.x[run.from + from + offset as usize..][..run.len];
                copy(arch, &mut to[run.column..run.column + run.len], source);
            }
        }
    }

    #[inline(always)]
    fn rows<A: Arch, const MR: usize, const NV: usize>(
        &self,
        arch: A,
        operand: Operand<'_, NV>,
        share: &Share<'_>,
    ) {
        let Share { panel, group, output, .. } = *share;
        let depth = operand.offsets.entries().len();
        let weights = &group.weights[output * depth * MR..][..depth * MR];
        let bias = Bias::Rows(&group.bias[output * MR..][..MR]);
        let sums = accumulate::<A, W, MR, NV>(
            (arch, self.word),
            operand.x,
            operand.bases,
            operand.offsets,
            weights,
        );
        let first = group.to + output * MR * self.area;
        let rows = MR.min(group.channels - output * MR);
        if let Some(spans) = self.spans::<A, NV>(panel) {
            let at = spans.map(|(to, _)| first + to);
            let target =
                Target { at, lens: spans.map(|(_, len)| len), row_stride: self.area, rows };
            // SAFETY: panels and output panels partition the output, and each is run by one thread.
            unsafe { write((arch, self.word), &sums, bias, target, self.out) }
        } else {
            let at = std::array::from_fn(|v| v * A::LANES);
            let target = Target { at, lens: [A::LANES; NV], row_stride: MAX_COLUMNS, rows };
            let mut tile = [0; MAX_ROWS * MAX_COLUMNS];
            if W::ADDS {
                self.gather(arch, panel, &mut tile[..rows * MAX_COLUMNS], first);
            }
            // SAFETY: the sink is a local.
            unsafe { write((arch, self.word), &sums, bias, target, Sink::new(&mut tile)) }
            self.scatter(arch, panel, &tile[..rows * MAX_COLUMNS], first);
        }
    }

    /// Where the vectors of a panel go, and how much of each, unless one goes to several places.
    #[inline(always)]
    fn spans<A: Arch, const NV: usize>(&self, panel: &Panel) -> Option<[(usize, usize); NV]> {
        match self.stream.cut {
            Cut::Vectors => Some(std::array::from_fn(|v| (panel.runs[v].to, panel.runs[v].len))),
            Cut::Packed if panel.is_contiguous() => Some(std::array::from_fn(|v| {
                let len = (panel.columns() - v * A::LANES).min(A::LANES);
                (panel.runs[0].to + v * A::LANES, len)
            })),
            Cut::Packed => None,
        }
    }

    /// Reads what the output holds where a tile will go, run by run.
    #[inline(always)]
    fn gather<A: Arch>(&self, arch: A, panel: &Panel, tile: &mut [u32], first: usize) {
        for (r, tile) in tile.chunks_exact_mut(MAX_COLUMNS).enumerate() {
            for run in panel.runs() {
                for start in (0..run.len).step_by(A::LANES) {
                    let len = A::LANES.min(run.len - start);
                    let at = first + run.to + r * self.area + start;
                    // SAFETY: panels and output panels partition the output, and each is run by one thread.
                    let vector = unsafe { self.out.load(arch, at, len) };
                    let to = &mut tile[run.column + start..][..len];
                    // SAFETY: the slice holds `len` words.
                    unsafe { arch.store_part(to.as_mut_ptr(), vector, len) }
                }
            }
        }
    }

    /// Writes a finished tile, run by run.
    #[inline(always)]
    fn scatter<A: Arch>(&self, arch: A, panel: &Panel, tile: &[u32], first: usize) {
        for (r, tile) in tile.chunks_exact(MAX_COLUMNS).enumerate() {
            for run in panel.runs() {
                for start in (0..run.len).step_by(A::LANES) {
                    let len = A::LANES.min(run.len - start);
                    let from = &tile[run.column + start..][..len];
                    // SAFETY: the slice holds `len` words.
                    let vector = unsafe { arch.load_part(from.as_ptr(), len) };
                    let at = first + run.to + r * self.area + start;
                    // SAFETY: panels and output panels partition the output, and each is run by one thread.
                    unsafe { self.out.store(arch, at, vector, len) }
                }
            }
        }
    }
}

/// One panel against one output panel of a group.
struct Share<'a> {
    panel: &'a Panel,
    /// The packed words of the panel, unless it is read in place.
    slot: &'a [u32],
    group: &'a Group<'a>,
    output: usize,
}

/// The vectors of a panel: in place or packed.
#[derive(Clone, Copy)]
struct Operand<'a, const NV: usize> {
    x: &'a [u32],
    bases: [usize; NV],
    offsets: Offsets<'a>,
}
