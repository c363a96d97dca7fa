//! The sweep of a convolution over its pixels, panel by panel.
//!
//! ```text
//!     for each panel of up to lanes x VECTORS output pixels:
//!         copy the words of its pixels to [depth][column], unless whole vectors can be read in place
//!         for each panel of output channels: accumulate a tile over the full depth, finish, write
//! ```
//!
//! Pixels of all images form one stream. It is cut either in row vectors (read in place, but the last vector of a row may
//! be part empty) or in full panels (copied): [`Stream::new`] takes what costs less. Weights are `[panel][depth][MR]`.

use std::ops::Range;

use crate::arch::Arch;
use crate::isa::{Task, TileShape, VECTORS};
use crate::stage::copy;
use crate::tile::{Bias, Offsets, Sink, Target, accumulate, write};
use crate::word::Word;

/// Most columns of a panel, over all tiers.
const MAX_COLUMNS: usize = 48;
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
#[derive(Clone, Copy, Default)]
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

struct Panel {
    runs: [Run; MAX_COLUMNS],
    count: usize,
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
        let cut = if vectors * uses <= packed * (uses + copies) {
            Cut::Vectors
        } else {
            Cut::Packed
        };
        Self { pixels, tile, cut }
    }

    pub(crate) fn panels(&self) -> usize {
        let p = &self.pixels;
        match self.cut {
            Cut::Vectors => {
                (p.images * p.rows * p.width.div_ceil(self.tile.lanes)).div_ceil(VECTORS)
            }
            Cut::Packed => (p.images * p.rows * p.width).div_ceil(self.tile.columns()),
        }
    }

    #[inline(always)]
    fn panel(&self, index: usize) -> Panel {
        let mut panel = Panel {
            runs: [Run::default(); MAX_COLUMNS],
            count: 0,
        };
        match self.cut {
            Cut::Vectors => self.cut_vectors(index, &mut panel),
            Cut::Packed => self.cut_pixels(index, &mut panel),
        }
        panel
    }

    #[inline(always)]
    fn cut_vectors(&self, index: usize, panel: &mut Panel) {
        let (p, lanes) = (&self.pixels, self.tile.lanes);
        let in_row = p.width.div_ceil(lanes);
        for v in 0..VECTORS.min(p.images * p.rows * in_row - index * VECTORS) {
            let vector = index * VECTORS + v;
            let (row, x) = (vector / in_row, vector % in_row * lanes);
            panel.push(
                p,
                [row / p.rows, row % p.rows, x],
                v * lanes,
                lanes.min(p.width - x),
            );
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
        self.runs[self.count] = Run {
            from,
            to,
            column,
            len,
        };
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
        let depth = self.sweep.taps.entries().len();
        self.buffer
            .resize(self.buffer.len().max((depth + 2) * A::LANES * VECTORS), 0);
        for index in self.panels.clone() {
            let panel = self.sweep.stream.panel(index);
            let share = Share {
                panel: &panel,
                group: &self.group,
                outputs: self.outputs.clone(),
            };
            match panel.columns().div_ceil(A::LANES) {
                1 => self.sweep.columns::<A, 1>(arch, &share, self.buffer),
                2 => self.sweep.columns::<A, 2>(arch, &share, self.buffer),
                _ => self.sweep.columns::<A, 3>(arch, &share, self.buffer),
            }
        }
    }
}

impl<W: Word> Sweep<'_, W> {
    #[inline(always)]
    fn columns<A: Arch, const NV: usize>(&self, arch: A, share: &Share<'_>, buffer: &mut [u32]) {
        let Share { panel, group, .. } = share;
        let from: [usize; NV] = std::array::from_fn(|v| panel.runs[v].from + group.from);
        let reach = self.taps.reach() + A::LANES;
        let in_place =
            self.stream.cut == Cut::Vectors && from.iter().all(|from| from + reach <= self.x.len());
        if in_place {
            let operand = Operand {
                x: self.x,
                bases: from,
                offsets: self.taps,
            };
            self.rows(arch, operand, share);
        } else {
            self.pack(arch, panel, group.from, buffer);
            let bases: [usize; NV] = std::array::from_fn(|v| v * A::LANES);
            let operand = Operand {
                x: buffer,
                bases,
                offsets: self.packed,
            };
            self.rows(arch, operand, share);
        }
    }

    /// Copies a panel to `[depth][columns]`, where the input allows by whole vectors: what they write too far is
    /// overwritten by the next run, or lies in columns that nobody stores.
    #[inline(always)]
    fn pack<A: Arch>(&self, arch: A, panel: &Panel, from: usize, buffer: &mut [u32]) {
        let width = A::LANES * VECTORS;
        let mut pieces = [Piece::default(); MAX_COLUMNS];
        let (mut count, mut end) = (0, 0);
        for run in panel.runs() {
            for start in (0..run.len).step_by(A::LANES) {
                pieces[count] = Piece {
                    from: from + run.from + start,
                    to: run.column + start,
                };
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
            let to = &mut buffer[k * A::LANES * VECTORS..][..A::LANES * VECTORS];
            for run in panel.runs() {
                let source = &self.x[run.from + from + offset as usize..][..run.len];
                copy(arch, &mut to[run.column..run.column + run.len], source);
            }
        }
    }

    #[inline(always)]
    fn rows<A: Arch, const NV: usize>(&self, arch: A, operand: Operand<'_, NV>, share: &Share<'_>) {
        match A::ROWS {
            8 => self.tiles::<A, 8, NV>(arch, operand, share),
            _ => self.tiles::<A, 4, NV>(arch, operand, share),
        }
    }

    #[inline(always)]
    fn tiles<A: Arch, const MR: usize, const NV: usize>(
        &self,
        arch: A,
        operand: Operand<'_, NV>,
        share: &Share<'_>,
    ) {
        let Share {
            panel,
            group,
            outputs,
        } = share;
        let depth = operand.offsets.entries().len();
        let direct = match self.stream.cut {
            Cut::Vectors => Some(std::array::from_fn(|v| {
                (panel.runs[v].to, panel.runs[v].len)
            })),
            Cut::Packed if panel.is_contiguous() => Some(std::array::from_fn(|v| {
                (
                    panel.runs[0].to + v * A::LANES,
                    (panel.columns() - v * A::LANES).min(A::LANES),
                )
            })),
            Cut::Packed => None,
        };
        for index in outputs.clone() {
            let weights = &group.weights[index * depth * MR..][..depth * MR];
            let bias = Bias::Rows(&group.bias[index * MR..][..MR]);
            let sums = accumulate::<A, W, MR, NV>(
                (arch, self.word),
                operand.x,
                operand.bases,
                operand.offsets,
                weights,
            );
            let first = group.to + index * MR * self.area;
            let rows = MR.min(group.channels - index * MR);
            if let Some(spans) = direct {
                let spans: [(usize, usize); NV] = spans;
                let at = spans.map(|(to, _)| first + to);
                let target = Target {
                    at,
                    lens: spans.map(|(_, len)| len),
                    row_stride: self.area,
                    rows,
                };
                // SAFETY: panels and output panels partition the output, and each is run by one thread.
                unsafe { write((arch, self.word), &sums, bias, target, self.out) }
            } else {
                let target = Target {
                    at: std::array::from_fn(|v| v * A::LANES),
                    lens: [A::LANES; NV],
                    row_stride: MAX_COLUMNS,
                    rows,
                };
                let mut tile = [0; MAX_ROWS * MAX_COLUMNS];
                // SAFETY: the sink is a local.
                unsafe { write((arch, self.word), &sums, bias, target, Sink::new(&mut tile)) }
                self.scatter(arch, panel, &tile[..rows * MAX_COLUMNS], first);
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

/// One panel against a range of output panels.
struct Share<'a> {
    panel: &'a Panel,
    group: &'a Group<'a>,
    outputs: Range<usize>,
}

/// The vectors of a panel: in place or packed.
#[derive(Clone, Copy)]
struct Operand<'a, const NV: usize> {
    x: &'a [u32],
    bases: [usize; NV],
    offsets: Offsets<'a>,
}
