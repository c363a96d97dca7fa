//! Convolution by AMX, the matrix unit of recent Xeons: 16 pixels by 64 bytes of their taps against 64 bytes by 16 outputs, at once.
//!
//! The image and the panels of weights are read as they lie. Rows of a register are pixels one step apart, its columns a run of taps;
//! the words of a panel already are the other operand. What a register holds beyond the row of the image, where tiles go on over the
//! border, is computed and not written. Sums go through memory next to the core to the same finish as all others.

use std::arch::asm;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::codes::Codes;
use super::finish::finish;
use super::panels::Panel;
use super::spec::ConvSpec;
use super::tile::{Layer, Places};
use crate::isa::Amx;

/// Rows of a register, and words in a row.
const ROWS: usize = 16;

/// Registers of sums, and so the tiles of 16 pixels by 16 outputs that are computed together.
const SUMS: usize = 4;

/// What a tile costs beside its products, in cycles, as measured.
const THROUGH_MEMORY: usize = 32;

/// Pixels that a register holds.
#[derive(Clone, Debug)]
struct Tile {
    /// Where the first pixel's first tap is, in bytes.
    first: usize,
    /// The outputs that are in it: pixels of the result, one after the other.
    outputs: Range<usize>,
    /// The row of each output.
    rows: [u8; ROWS],
}

/// How a layer is cut for the matrix unit.
#[derive(Clone, Debug)]
pub(crate) struct Tiling {
    amx: Amx,
    tiles: Vec<Tile>,
    config: Config,
    /// Words of taps at a time.
    words: usize,
    /// From pixel to pixel, in bytes.
    step: usize,
}

/// What the registers hold, as the instruction reads it.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Config {
    /// Registers 0 to 3 are sums of `rows` pixels, 4 and 5 their taps of `words`, 6 and 7 weights.
    fn new(rows: usize, words: usize) -> Self {
        let mut config =
            Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        let (sums, taps, weights) = ((64, rows), (4 * words, rows), (64, words));
        let all = [sums, sums, sums, sums, taps, taps, weights, weights];
        for (register, (bytes, rows)) in all.into_iter().enumerate() {
            (config.row_bytes[register], config.rows[register]) = (bytes as u16, rows as u8);
        }
        config
    }
}

/// The sums of a register.
type Sums = [[i32; ROWS]; ROWS];

/// Room for the sums of all registers, of which only the rows that are used are ever written.
#[repr(C, align(64))]
pub(crate) struct Room([MaybeUninit<Sums>; SUMS]);

impl Room {
    pub(crate) fn new() -> Self {
        Self([MaybeUninit::uninit(); SUMS])
    }
}

impl Tiling {
    /// The tiling of a layer whose outputs, those of the first group, see the taps at `offsets` from their first; none where vectors
    /// would be faster.
    pub(crate) fn new(amx: Amx, spec: &ConvSpec, offsets: &[u32]) -> Option<Self> {
        // Groups that share words begin and end inside one, each in its own way.
        let alike = spec.groups == 1 || spec.group_channels().is_multiple_of(4);
        let words = words_at_once(offsets).filter(|_| alike)?;
        let output = &spec.output;
        let step = spec.strides[1] * spec.input.pixel;
        let by_rows = (output.width.min(ROWS), output.height * output.width.div_ceil(ROWS));
        // Over the border to the next row, where one row of the result is one row of the image.
        let pitch = spec.input.row() / spec.input.pixel;
        let all = (output.height - 1) * pitch + output.width;
        let over_rows = (ROWS, all.div_ceil(ROWS));
        let joined = spec.strides == [1, 1] && all >= ROWS && over_rows.1 <= by_rows.1;
        let (rows, count) = if joined { over_rows } else { by_rows };
        let tiles = (0..count).map(|tile| {
            if joined {
                over_border(spec, pitch, (tile * ROWS).min(all - ROWS))
            } else {
                let each = count / output.height;
                let column = (tile % each * ROWS).min(output.width - rows);
                in_row(spec, [tile / each, column], rows)
            }
        });
        // In cycles for 16 outputs: a full register however few rows are used, and the way of the sums through memory; vectors do
        // two words of a pixel.
        let pixels = output.height * output.width;
        let faster =
            2 * count * (ROWS * (offsets.len() / words) + THROUGH_MEMORY) < pixels * offsets.len();
        // A border wider than a register may leave tiles without any output.
        let tiles = tiles.filter(|tile| !tile.outputs.is_empty());
        let config = Config::new(rows, words);
        faster.then(|| Self { amx, tiles: tiles.collect(), config, words, step })
    }

    /// Computes `panel` of all `pixels`.
    /// # Safety
    /// The unit is configured for this tiling; the layer, its panel and their weights are those of the tiling; the pixels are pixels
    /// of the result, and no other thread writes the same.
    #[inline(always)]
    pub(crate) unsafe fn run<A: Codes>(
        &self,
        arch: A,
        layer: &Layer<'_>,
        (panel, weights): (&Panel, &[u32]),
        (pixels, room): (Range<usize>, &mut Room),
    ) {
        const { assert!(A::LANES == ROWS, "a row of sums is a vector") };
        let offsets = &layer.offsets[panel.offsets.clone()];
        let weights = &weights[..offsets.len() * panel.columns];
        let bias = &layer.bias[panel.column..][..panel.columns];
        let factors = &layer.factors[panel.column..][..panel.columns];
        let bounds = arch.bounds(layer.write.last_clamp());
        let begin = self.tiles.partition_point(|tile| tile.outputs.end <= pixels.start);
        let end = self.tiles.partition_point(|tile| tile.outputs.start < pixels.end);
        let tiles = &self.tiles[begin..end];
        let ending = Ending { layer, panel, bias, factors, bounds, pixels };
        // SAFETY: as this function's; every tap of the tiles' pixels lies in the image, and weights were sliced.
        unsafe {
            if panel.columns > ROWS {
                self.all::<A, 2>(arch, &ending, (weights, offsets), (tiles, room));
            } else {
                self.all::<A, 1>(arch, &ending, (weights, offsets), (tiles, room));
            }
        }
    }

    /// Computes the tiles, `N` vectors of outputs wide. The products of the next ones are begun before those that are done are written,
    /// and only stored after that: a load waits for any earlier store to the same place of a page.
    /// # Safety
    /// As [`Tiling::run`].
    #[inline(always)]
    unsafe fn all<A: Codes, const N: usize>(
        &self,
        arch: A,
        ending: &Ending<'_, A>,
        (weights, offsets): (&[u32], &[u32]),
        (tiles, room): (&[Tile], &mut Room),
    ) {
        let mut done: &[Tile] = &[];
        for tiles in tiles.chunks(SUMS / N).chain([&[][..]]) {
            if let Some(last) = tiles.last() {
                // The last tile stands for those that lack.
                let tile = |at: usize| tiles.get(at).unwrap_or(last);
                let x = [0, 1, 2, 3].map(|at| ending.layer.x.wrapping_add(tile(at).first));
                let operands = Operands { x, step: self.step, offsets, words: self.words };
                // SAFETY: as this function's.
                unsafe {
                    clear();
                    if N == 2 {
                        two_by_two(&operands, weights);
                    } else {
                        four_by_one(&operands, weights);
                    }
                }
            }
            for (tile, sums) in done.iter().zip(room.0.chunks_exact(N)) {
                // SAFETY: as this function's.
                unsafe { ending.tile::<N>(arch, tile, sums) };
            }
            if !tiles.is_empty() {
                // SAFETY: as this function's.
                unsafe { store(room) };
            }
            done = tiles;
        }
    }

    /// The proof of the unit.
    pub(crate) fn amx(&self) -> Amx {
        self.amx
    }

    /// Configures the unit of this thread for the layer.
    pub(crate) fn configure(&self) {
        let config: *const Config = &raw const self.config;
        // SAFETY: the token proves the unit; the shapes are of at most 16 rows of 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) config, options(nostack, readonly)) };
    }
}

/// Frees the registers of this thread, which the system then need not save.
pub(crate) fn release() {
    // SAFETY: only called after a configuration, which proves the unit.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// The most words, at most a row of a register, that divide all runs of taps without gaps.
fn words_at_once(offsets: &[u32]) -> Option<usize> {
    let follows = |pair: &[u32]| pair[1] == pair[0] + 4;
    let run = offsets.windows(2).position(|pair| !follows(pair)).map_or(offsets.len(), |at| at + 1);
    let even = offsets.len().is_multiple_of(run)
        && offsets.chunks_exact(run).all(|run| run.windows(2).all(follows));
    let words = (1..=ROWS).rev().find(|&words| run.is_multiple_of(words))?;
    even.then_some(words)
}

/// `rows` pixels of a row of the result.
fn in_row(spec: &ConvSpec, [y, x]: [usize; 2], rows: usize) -> Tile {
    let output = y * spec.output.width + x;
    Tile {
        first: spec.tap([y, x], [0, 0]),
        outputs: output..output + rows,
        rows: std::array::from_fn(|row| row as u8),
    }
}

/// 16 pixels of the image from the `first` on, of which a row has `pitch`.
fn over_border(spec: &ConvSpec, pitch: usize, first: usize) -> Tile {
    let width = spec.output.width;
    let mut rows = [0; ROWS];
    let mut count = 0;
    for row in 0..ROWS {
        if (first + row) % pitch < width {
            rows[count] = row as u8;
            count += 1;
        }
    }
    let pixel = first + usize::from(rows[0]);
    let output = pixel / pitch * width + pixel % pitch;
    Tile {
        first: spec.tap([0, 0], [0, 0]) + first * spec.input.pixel,
        outputs: output..output + count,
        rows,
    }
}

/// What becomes of the sums of a panel.
struct Ending<'a, A: Codes> {
    layer: &'a Layer<'a>,
    panel: &'a Panel,
    bias: &'a [i32],
    factors: &'a [f32],
    bounds: A::Bounds,
    /// Those to write.
    pixels: Range<usize>,
}

impl<A: Codes> Ending<'_, A> {
    /// Writes what a tile's outputs come to; `sums` are `N` vectors wide.
    /// # Safety
    /// As [`Tiling::run`].
    #[inline(always)]
    unsafe fn tile<const N: usize>(&self, arch: A, tile: &Tile, sums: &[MaybeUninit<Sums>]) {
        let outputs =
            tile.outputs.start.max(self.pixels.start)..tile.outputs.end.min(self.pixels.end);
        let rows = &tile.rows[outputs.start - tile.outputs.start..];
        let count = outputs.len();
        let each = [8, 4, 1].into_iter().find(|&each| each <= count).unwrap_or(1);
        for at in (0..count).step_by(each) {
            let at = at.min(count - each);
            let (from, output) = ((sums, &rows[at..]), outputs.start + at);
            // SAFETY: as this function's.
            unsafe {
                match each {
                    8 => self.outputs::<8, N>(arch, from, output),
                    4 => self.outputs::<4, N>(arch, from, output),
                    _ => self.outputs::<1, N>(arch, from, output),
                }
            }
        }
    }

    /// Writes what `R` outputs from `output` on come to.
    /// # Safety
    /// As [`Ending::tile`].
    #[inline(always)]
    unsafe fn outputs<const R: usize, const N: usize>(
        &self,
        arch: A,
        (sums, rows): (&[MaybeUninit<Sums>], &[u8]),
        output: usize,
    ) {
        let mut vectors = [[arch.splat(0); N]; R];
        for n in 0..N {
            // SAFETY: there are `N` vectors of biases, and the row of sums, one that is used, was written.
            unsafe {
                let bias = arch.load(self.bias[n * ROWS..][..ROWS].as_ptr().cast());
                for (vectors, &row) in vectors.iter_mut().zip(&rows[..R]) {
                    let sums = sums[n].as_ptr().cast::<u32>().add(usize::from(row) * ROWS);
                    vectors[n] = arch.add_i32(bias, arch.load(sums));
                }
            }
        }
        let width = self.layer.spec.output.width;
        let at = [output / width, output % width];
        let places = Places { layer: self.layer, panel: self.panel, at };
        // SAFETY: as this function's.
        unsafe { finish(arch, self.bounds, vectors, self.factors.as_ptr(), places) };
    }
}

/// The taps of some tiles.
struct Operands<'a> {
    x: [*const u8; SUMS],
    step: usize,
    offsets: &'a [u32],
    words: usize,
}

/// Makes all sums 0.
/// # Safety
/// The unit is configured.
unsafe fn clear() {
    // SAFETY: as this function's; only registers of the unit change.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            options(nostack, nomem, preserves_flags),
        );
    }
}

/// Writes all sums.
/// # Safety
/// The unit is configured.
unsafe fn store(room: &mut Room) {
    // SAFETY: as this function's; a register is 16 rows of 64 bytes at most, and there is room for four.
    unsafe {
        asm!(
            "tilestored [{room} + {row} * 1], tmm0",
            "tilestored [{room} + {row} * 1 + 1024], tmm1",
            "tilestored [{room} + {row} * 1 + 2048], tmm2",
            "tilestored [{room} + {row} * 1 + 3072], tmm3",
            room = in(reg) room,
            row = in(reg) size_of::<[i32; ROWS]>(),
            options(nostack, preserves_flags),
        );
    }
}

/// Adds the products of two tiles of pixels by two of outputs to the sums.
/// # Safety
/// The unit is configured; every tap of the pixels is readable.
unsafe fn two_by_two(operands: &Operands<'_>, weights: &[u32]) {
    debug_assert!(weights.len() == operands.offsets.len() * 2 * ROWS);
    let offsets = operands.offsets.as_ptr_range();
    // SAFETY: as this function's; weights are as many as the offsets'.
    unsafe {
        asm!(
            "2:",
            "mov {at:e}, dword ptr [{offset}]",
            "add {at}, {x0}",
            "tileloadd tmm4, [{at} + {step} * 1]",
            "sub {at}, {x0}",
            "add {at}, {x1}",
            "tileloadd tmm6, [{weights} + {pitch} * 1]",
            "tileloadd tmm5, [{at} + {step} * 1]",
            "tileloadd tmm7, [{weights} + {pitch} * 1 + 64]",
            "tdpbusd tmm0, tmm4, tmm6",
            "tdpbusd tmm2, tmm5, tmm6",
            "tdpbusd tmm1, tmm4, tmm7",
            "tdpbusd tmm3, tmm5, tmm7",
            "add {offset}, {bytes}",
            "add {weights}, {panel}",
            "cmp {offset}, {end}",
            "jb 2b",
            at = out(reg) _,
            offset = inout(reg) offsets.start => _,
            end = in(reg) offsets.end,
            x0 = in(reg) operands.x[0],
            x1 = in(reg) operands.x[1],
            step = in(reg) operands.step,
            weights = inout(reg) weights.as_ptr() => _,
            pitch = in(reg) 8 * ROWS,
            bytes = in(reg) 4 * operands.words,
            panel = in(reg) 8 * ROWS * operands.words,
            options(nostack, readonly),
        );
    }
}

/// Adds the products of four tiles of pixels by one of outputs to the sums.
/// # Safety
/// As [`two_by_two`].
unsafe fn four_by_one(operands: &Operands<'_>, weights: &[u32]) {
    debug_assert!(weights.len() == operands.offsets.len() * ROWS);
    let offsets = operands.offsets.as_ptr_range();
    // SAFETY: as in `two_by_two`.
    unsafe {
        asm!(
            "2:",
            "mov {at:e}, dword ptr [{offset}]",
            "add {at}, [{x}]",
            "tileloadd tmm4, [{at} + {step} * 1]",
            "tileloadd tmm6, [{weights} + {pitch} * 1]",
            "mov {at:e}, dword ptr [{offset}]",
            "add {at}, [{x} + 8]",
            "tileloadd tmm5, [{at} + {step} * 1]",
            "tdpbusd tmm0, tmm4, tmm6",
            "mov {at:e}, dword ptr [{offset}]",
            "add {at}, [{x} + 16]",
            "tileloadd tmm4, [{at} + {step} * 1]",
            "tdpbusd tmm1, tmm5, tmm6",
            "mov {at:e}, dword ptr [{offset}]",
            "add {at}, [{x} + 24]",
            "tileloadd tmm5, [{at} + {step} * 1]",
            "tdpbusd tmm2, tmm4, tmm6",
            "tdpbusd tmm3, tmm5, tmm6",
            "add {offset}, {bytes}",
            "add {weights}, {panel}",
            "cmp {offset}, {end}",
            "jb 2b",
            at = out(reg) _,
            offset = inout(reg) offsets.start => _,
            end = in(reg) offsets.end,
            x = in(reg) &operands.x,
            step = in(reg) operands.step,
            weights = inout(reg) weights.as_ptr() => _,
            pitch = in(reg) 4 * ROWS,
            bytes = in(reg) 4 * operands.words,
            panel = in(reg) 4 * ROWS * operands.words,
            options(nostack, readonly),
        );
    }
}

/// Multiplications of one of [`peak`]'s rounds.
pub(crate) const PEAK_MACS: usize = SUMS * ROWS * ROWS * 4 * ROWS;

/// Products from registers to registers, `rounds` times.
pub(crate) fn peak(amx: Amx, rounds: usize) {
    let config = Config::new(ROWS, ROWS);
    let all = Tiling { amx, tiles: Vec::new(), config, words: ROWS, step: 0 };
    all.configure();
    for _ in 0..rounds {
        // SAFETY: the unit was configured; only its registers change.
        unsafe {
            asm!(
                "tdpbusd tmm0, tmm4, tmm6",
                "tdpbusd tmm1, tmm4, tmm7",
                "tdpbusd tmm2, tmm5, tmm6",
                "tdpbusd tmm3, tmm5, tmm7",
                options(nostack, nomem),
            );
        }
    }
    release();
}
