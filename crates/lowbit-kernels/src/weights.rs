//! The gradient of a convolution's weights: sums over all pixels of a gradient times a neighbour in the input.
//!
//! The input is staged as on the way forward ([`crate::stage`]), so that tap `(ky, kx)` of the pixels of an image is one
//! stretch of words; the gradient is copied to the same pitch with zeros between its rows. Then
//!
//! ```text
//!     gradient[o][i, ky, kx] = sum over images and q of grad[o][q] * staged[i][tap(ky, kx) + q]
//! ```
//!
//! with both operands contiguous in `q`: lanes are pixels, a register tile is some outputs against some taps, and lanes are
//! added up when a chunk of pixels is done. Nothing is transposed.

use std::ops::Range;

use crate::arch::Arch;
use crate::engine::Scratch;
use crate::geometry::ConvGeometry;
use crate::isa::Task;
use crate::stage::{Floats, Layout, Move, Stager, copy};

/// Words of a stretch that are summed before the lanes are added up: the operands of a tile stay in the first cache.
const CHUNK: usize = 1 << 10;

/// Words of the gradient that are held in the second cache while all taps pass by.
const HELD: usize = 1 << 16;

/// One call, on this thread.
pub(crate) struct WeightTask<'a> {
    pub(crate) geometry: &'a ConvGeometry,
    pub(crate) n: usize,
    pub(crate) x: &'a [u32],
    pub(crate) grad: &'a [u32],
    pub(crate) out: &'a mut [f32],
    pub(crate) scratch: &'a mut Scratch,
}

impl Task for WeightTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self, arch: A) {
        // As many sums as leave registers for the operands.
        match (self.geometry.is_depthwise(), A::LANES) {
            (true, _) => self.groups::<A, 1, 9>(arch),
            (false, 16) => self.groups::<A, 4, 6>(arch),
            (false, _) => self.groups::<A, 4, 2>(arch),
        }
    }
}

impl WeightTask<'_> {
    #[inline(always)]
    fn groups<A: Arch, const MR: usize, const NV: usize>(self, arch: A) {
        let g = self.geometry;
        let layout = Layout::new(g);
        let [rows, width] = g.output();
        let stretch = (rows - 1) * layout.pitch() + width;
        let Scratch { staged, offsets, panel, moves, .. } = self.scratch;
        layout.moves(moves);
        let inputs = g.channels_in / g.groups;
        offsets.clear();
        for input in 0..inputs {
            let tap = |tap: usize| layout.tap(tap / g.kernel[1], tap % g.kernel[1]);
            let taps = (0..g.kernel[0] * g.kernel[1]).map(tap);
            offsets.extend(taps.map(|tap| (input * layout.plane() + tap) as u32));
        }
        let images = (CHUNK / stretch).clamp(1, self.n.max(1));
        let mut stage = Stage { g, layout: &layout, moves, x: self.x, grad: self.grad };
        stage.prepare(images, staged, panel);
        self.out.fill(0.0);
        let group_out = self.out.len() / g.groups;
        for (group, out) in self.out.chunks_exact_mut(group_out).enumerate() {
            for first in (0..self.n).step_by(images) {
                let block = Block { group, images: first..(first + images).min(self.n) };
                let operands = stage.operands(arch, &block, (staged, panel));
                for from in (0..stretch).step_by(CHUNK) {
                    let chunk = from..(from + CHUNK).min(stretch);
                    operands.product::<A, MR, NV>(arch, (block.images.len(), chunk), offsets, out);
                }
            }
        }
    }
}

/// Images of one group that are summed together.
struct Block {
    group: usize,
    images: Range<usize>,
}

/// How the operands are made ready.
struct Stage<'a> {
    g: &'a ConvGeometry,
    layout: &'a Layout,
    moves: &'a [Move],
    x: &'a [u32],
    grad: &'a [u32],
}

impl Stage<'_> {
    /// Makes room for the operands of a block; what is not written later stays zero.
    fn prepare(&mut self, images: usize, staged: &mut Vec<u32>, panel: &mut Vec<u32>) {
        let g = self.g;
        if !self.layout.is_identity() {
            staged.clear();
            staged.resize(images * g.channels_in / g.groups * self.layout.plane(), 0);
        }
        let [rows, width] = g.output();
        if self.layout.pitch() != width {
            panel.clear();
            panel.resize(images * g.channels_out / g.groups * rows * self.layout.pitch(), 0);
        }
    }

    #[inline(always)]
    fn operands<'o, A: Arch>(
        &'o self,
        arch: A,
        block: &Block,
        (staged, panel): (&'o mut [u32], &'o mut [u32]),
    ) -> Operands<'o> {
        let g = self.g;
        let [rows, width] = g.output();
        let [outputs, inputs] = [g.channels_out / g.groups, g.channels_in / g.groups];
        let (plane, pitch) = (self.layout.plane(), self.layout.pitch());
        let x = if self.layout.is_identity() {
            let first = (block.images.start * g.channels_in + block.group * inputs) * plane;
            Planes {
                words: &self.x[first..],
                channels: inputs,
                plane,
                image: g.channels_in * plane,
            }
        } else {
            let feed = Floats(self.x);
            let stager = Stager { feed, layout: self.layout, moves: self.moves };
            for (i, to) in staged.chunks_exact_mut(plane).enumerate() {
                let image = block.images.start + i / inputs;
                if image < block.images.end {
                    let channel = image * g.channels_in + block.group * inputs + i % inputs;
                    stager.stage(arch, channel, to);
                }
            }
            Planes { words: staged, channels: inputs, plane, image: inputs * plane }
        };
        let area = rows * width;
        let grad = if pitch == width {
            let first = (block.images.start * g.channels_out + block.group * outputs) * area;
            Planes {
                words: &self.grad[first..],
                channels: outputs,
                plane: area,
                image: g.channels_out * area,
            }
        } else {
            for (i, to) in panel.chunks_exact_mut(rows * pitch).enumerate() {
                let image = block.images.start + i / outputs;
                if image < block.images.end {
                    let channel = image * g.channels_out + block.group * outputs + i % outputs;
                    let from = &self.grad[channel * area..][..area];
                    for (to, from) in to.chunks_exact_mut(pitch).zip(from.chunks_exact(width)) {
                        copy(arch, &mut to[..width], from);
                    }
                }
            }
            Planes {
                words: panel,
                channels: outputs,
                plane: rows * pitch,
                image: outputs * rows * pitch,
            }
        };
        Operands { x, grad }
    }
}

/// The channels of one group in some images.
#[derive(Clone, Copy)]
struct Planes<'a> {
    words: &'a [u32],
    channels: usize,
    /// Words from channel to channel, and from image to image.
    plane: usize,
    image: usize,
}

struct Operands<'a> {
    x: Planes<'a>,
    grad: Planes<'a>,
}

impl Operands<'_> {
    /// Adds the sums over a chunk of every image to `out`, which is `[o][offsets]`.
    #[inline(always)]
    fn product<A: Arch, const MR: usize, const NV: usize>(
        &self,
        arch: A,
        (images, chunk): (usize, Range<usize>),
        offsets: &[u32],
        out: &mut [f32],
    ) {
        let (outputs, taps) = (self.grad.channels, offsets.len());
        let held = (HELD / (images * chunk.len()).max(1) / MR).max(1) * MR;
        for first in (0..outputs).step_by(held) {
            for first_tap in (0..taps).step_by(NV) {
                // Past the last one, the last is computed again and dropped.
                let x_at = std::array::from_fn(|v| offsets[(first_tap + v).min(taps - 1)] as usize);
                for output in (first..outputs.min(first + held)).step_by(MR) {
                    let grad_at =
                        std::array::from_fn(|r| (output + r).min(outputs - 1) * self.grad.plane);
                    let sums = self.tile::<A, MR, NV>(arch, (images, chunk.clone()), x_at, grad_at);
                    let out = &mut out[output * taps..];
                    for (out, totals) in
                        out.chunks_exact_mut(taps).zip(totals(arch, &sums).chunks(NV)).take(MR)
                    {
                        let out = &mut out[first_tap..];
                        out.iter_mut().zip(totals).for_each(|(to, total)| *to += total);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn tile<A: Arch, const MR: usize, const NV: usize>(
        &self,
        arch: A,
        (images, chunk): (usize, Range<usize>),
        x_at: [usize; NV],
        grad_at: [usize; MR],
    ) -> [[A::V; NV]; MR] {
        let len = chunk.len();
        let mut sums = [[arch.splat(0); NV]; MR];
        if images == 0 {
            return sums;
        }
        self.x.check(images, x_at, chunk.end);
        self.grad.check(images, grad_at, chunk.end);
        for image in 0..images {
            // SAFETY: the first word of the chunk in the last image was checked to lie inside.
            let x = unsafe { self.x.words.as_ptr().add(image * self.x.image + chunk.start) };
            // SAFETY: as for the input.
            let grad =
                unsafe { self.grad.words.as_ptr().add(image * self.grad.image + chunk.start) };
            let mut q = 0;
            while q + A::LANES <= len {
                // SAFETY: `q + LANES <= len`, and every stretch was checked to hold `len` words.
                let grad: [A::V; MR] =
                    std::array::from_fn(|r| unsafe { arch.load(grad.add(grad_at[r] + q)) });
                for (v, &at) in x_at.iter().enumerate() {
                    // SAFETY: as for the gradient.
                    let x = unsafe { arch.load(x.add(at + q)) };
                    for (sums, &grad) in sums.iter_mut().zip(&grad) {
                        sums[v] = arch.fma_f32(sums[v], grad, x);
                    }
                }
                q += A::LANES;
            }
            if q < len {
                let rest = len - q;
                // SAFETY: `rest` words are left in every stretch, fewer than a vector.
                let grad: [A::V; MR] = std::array::from_fn(|r| unsafe {
                    arch.load_part(grad.add(grad_at[r] + q), rest)
                });
                for (v, &at) in x_at.iter().enumerate() {
                    // SAFETY: as for the gradient.
                    let x = unsafe { arch.load_part(x.add(at + q), rest) };
                    for (sums, &grad) in sums.iter_mut().zip(&grad) {
                        sums[v] = arch.fma_f32(sums[v], grad, x);
                    }
                }
            }
        }
        sums
    }
}

impl Planes<'_> {
    /// Every stretch up to `end` behind `at` lies inside, in every image.
    #[inline(always)]
    fn check<const N: usize>(&self, images: usize, at: [usize; N], end: usize) {
        for at in at {
            assert!(
                (images - 1) * self.image + at + end <= self.words.len(),
                "every stretch lies inside the operand"
            );
        }
    }
}

/// Vectors of a tile at most, and words of as many totals in whole vectors.
const MOST: usize = 32;

/// The sum of the lanes of each vector, row by row: neighbours are added and two vectors become one, until a lane is a sum.
#[inline(always)]
fn totals<A: Arch, const MR: usize, const NV: usize>(
    arch: A,
    sums: &[[A::V; NV]; MR],
) -> [f32; MOST] {
    const { assert!(MR * NV <= MOST, "the totals have room") };
    let zero = arch.splat(0);
    let mut vectors = [zero; MOST];
    vectors.iter_mut().zip(sums.as_flattened()).for_each(|(to, &from)| *to = from);
    let (mut count, mut width) = (MR * NV, A::LANES);
    while width > 1 {
        let pairs = count.div_ceil(2);
        for i in 0..pairs {
            let (a, b) =
                (vectors[2 * i], if 2 * i + 1 < count { vectors[2 * i + 1] } else { zero });
            vectors[i] = arch.add_f32(arch.evens(a, b), arch.odds(a, b));
        }
        (count, width) = (pairs, width / 2);
    }
    let mut words = [0u32; MOST];
    for (to, &vector) in words.chunks_exact_mut(A::LANES).zip(&vectors[..count]) {
        // SAFETY: the chunk holds a whole vector.
        unsafe { arch.store(to.as_mut_ptr(), vector) };
    }
    words.map(f32::from_bits)
}
