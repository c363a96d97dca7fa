//! Matrix products: fully connected layers with a packed right operand, and products of two given matrices.
//!
//! The right operand is packed in panels of columns, the left one in blocks of rows, and the tile of the convolutions
//! does the rest. Each output sums its `k` products in order, then the bias, then the activation.

use std::ops::Range;

use crate::arch::Arch;
use crate::engine::Scratch;
use crate::geometry::{Activation, Parallel};
use crate::isa::{Isa, Task, kernel_name};
use crate::nhwc::Pool;
use crate::qconv::{IntSlice, MAX_TERMS, check_zero_point};
use crate::threads::Threads;
use crate::tile::{Bias, Offsets, Sink, Target, accumulate, write};
use crate::word::{Float, Pair, Word, bits_mut, int_bits_mut, pair};

/// How a right operand of `k` rows and `n` columns lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `[k, n]`: as in a plain product.
    Kn,
    /// `[n, k]`: transposed, as the weights of a fully connected layer usually are.
    Nk,
}

/// Sizes of a product: `[m, k]` times `[k, n]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatShape {
    /// Rows of the left operand and of the result.
    pub m: usize,
    /// Columns of the left operand, rows of the right one.
    pub k: usize,
    /// Columns of the right operand and of the result.
    pub n: usize,
}

/// A constant right operand with bias, packed once for the tiles of this CPU.
#[derive(Clone, Debug)]
pub struct PackedGemm(Right);

/// One call of [`PackedGemm::run`].
#[derive(Clone, Copy, Debug)]
pub struct GemmCall {
    /// Rows of the left operand.
    pub m: usize,
    /// What is applied after the bias.
    pub activation: Activation,
    /// Threads.
    pub parallel: Parallel,
}

impl PackedGemm {
    /// Packs `w`, of `[k, n]` values in the given order, for the best tier.
    /// # Panics
    /// When a length does not fit.
    #[must_use]
    pub fn new(w: &[f32], order: Order, size: [usize; 2], bias: Option<&[f32]>) -> Self {
        Self::for_isa(Isa::current(), w, (order, size), bias)
    }

    /// As [`PackedGemm::new`], for a given tier.
    /// # Panics
    /// As [`PackedGemm::new`].
    #[must_use]
    pub fn for_isa(
        isa: Isa,
        w: &[f32],
        (order, [k, n]): (Order, [usize; 2]),
        bias: Option<&[f32]>,
    ) -> Self {
        assert!(w.len() == k * n, "the right operand holds k * n values");
        assert!(bias.is_none_or(|bias| bias.len() == n), "the bias has one entry per column");
        let mut right =
            Right::new(isa, k, n, |at, column| w[order.at(at, column, [k, n])].to_bits());
        if let Some(bias) = bias {
            right.bias.iter_mut().zip(bias).for_each(|(to, from)| *to = from.to_bits());
        }
        Self(right)
    }

    /// `out[m, n] = activation(a[m, k] * w + bias)`.
    /// # Panics
    /// When a length does not fit.
    pub fn run(&self, a: &[f32], call: &GemmCall, out: &mut [f32], scratch: &mut Scratch) {
        self.run_with(a, (call.m, call.activation), out, (call.parallel.into(), scratch));
    }

    /// As [`PackedGemm::run`] for `m` rows, on the threads of `pool` and to the same bits. Takes no memory where `scratch` has
    /// served as many rows before.
    /// # Panics
    /// As [`PackedGemm::run`].
    pub fn run_on(
        &self,
        a: &[f32],
        how: (usize, Activation),
        out: &mut [f32],
        (pool, scratch): (&Pool, &mut Scratch),
    ) {
        let threads = Threads::Pool(pool).for_work(a.len() * self.0.n);
        self.run_with(a, how, out, (threads, scratch));
    }

    fn run_with(
        &self,
        a: &[f32],
        (m, activation): (usize, Activation),
        out: &mut [f32],
        (threads, scratch): (Threads<'_>, &mut Scratch),
    ) {
        let k = self.0.depth;
        assert!(a.len() == m * k, "the left operand holds m * k values");
        let rows = self.0.pack_left(m, |row, at| a[row * k + at].to_bits(), &mut scratch.staged);
        let left = &scratch.staged;
        let product = Product { right: &self.0, word: Float::new(activation), left, rows, m };
        product.run(bits_mut(out), threads);
    }

    /// What tables call it: the type and the tier.
    #[must_use]
    pub fn kernel_name(&self) -> &'static str {
        kernel_name!("f32", self.0.isa.vectors())
    }

    /// Bytes of the packed right operand and the bias.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        size_of_val(&self.0.panels[..]) + size_of_val(&self.0.bias[..])
    }
}

/// `out[m, n] = a[m, k] * b[k, n]`, both operands given at run time. Packs `b`, so it allocates.
/// # Panics
/// When a length does not fit the shape.
pub fn matmul(a: &[f32], b: &[f32], shape: MatShape, out: &mut [f32], parallel: Parallel) {
    let MatShape { m, k, n } = shape;
    let call = GemmCall { m, activation: Activation::None, parallel };
    PackedGemm::new(b, Order::Kn, [k, n], None).run(a, &call, out, &mut Scratch::new());
}

/// An integer right operand less its zero points, packed once as pairs of `i16`.
#[derive(Clone, Debug)]
pub struct PackedQGemm {
    right: Right,
    k: usize,
}

/// One call of [`PackedQGemm::run`].
#[derive(Clone, Copy, Debug)]
pub struct QGemmCall<'a> {
    /// Rows of the left operand.
    pub m: usize,
    /// The codes that mean zero: one, or one for each row.
    pub a_zero_points: &'a [i32],
    /// Threads.
    pub parallel: Parallel,
}

impl PackedQGemm {
    /// Packs `w`, of `[k, n]` values in the given order, for the best tier. `zero_points` has one entry, or one for
    /// each column.
    /// # Panics
    /// When a length does not fit, or `k` exceeds 33025, so that a sum might leave `i32`.
    #[must_use]
    pub fn new(w: IntSlice<'_>, order: Order, size: [usize; 2], zero_points: &[i32]) -> Self {
        Self::for_isa(Isa::current(), w, (order, size), zero_points)
    }

    /// As [`PackedQGemm::new`], for a given tier.
    /// # Panics
    /// As [`PackedQGemm::new`].
    #[must_use]
    pub fn for_isa(
        isa: Isa,
        w: IntSlice<'_>,
        (order, [k, n]): (Order, [usize; 2]),
        zero_points: &[i32],
    ) -> Self {
        assert!(w.len() == k * n, "the right operand holds k * n values");
        assert!([1, n].contains(&zero_points.len()), "one zero point, or one per column");
        assert!(k <= MAX_TERMS, "the sum of the products fits in i32");
        zero_points.iter().copied().for_each(check_zero_point);
        let value = |at: usize, column: usize| {
            let zero_point = zero_points[if zero_points.len() == 1 { 0 } else { column }];
            if at < k { w.get(order.at(at, column, [k, n])) - zero_point } else { 0 }
        };
        let word =
            |at: usize, column: usize| pair(value(2 * at, column), value(2 * at + 1, column));
        Self { right: Right::new(isa, k.div_ceil(2), n, word), k }
    }

    /// `out[m, n]` = the sum over `k` of `(a - a_zero_point) * (w - w_zero_point)`, exactly.
    /// # Panics
    /// When a length does not fit.
    pub fn run(
        &self,
        a: IntSlice<'_>,
        call: &QGemmCall<'_>,
        out: &mut [i32],
        scratch: &mut Scratch,
    ) {
        let (m, k) = (call.m, self.k);
        assert!(a.len() == m * k, "the left operand holds m * k values");
        let zero_points = call.a_zero_points;
        assert!([1, m].contains(&zero_points.len()), "one zero point, or one per row");
        zero_points.iter().copied().for_each(check_zero_point);
        let value = |row: usize, at: usize| {
            let zero_point = zero_points[if zero_points.len() == 1 { 0 } else { row }];
            if at < k { a.get(row * k + at) - zero_point } else { 0 }
        };
        let word = |row: usize, at: usize| pair(value(row, 2 * at), value(row, 2 * at + 1));
        let rows = self.right.pack_left(m, word, &mut scratch.staged);
        let product = Product { right: &self.right, word: Pair, left: &scratch.staged, rows, m };
        product.run(int_bits_mut(out), call.parallel.into());
    }
}

/// An integer matrix with its zero points: one, or one for each row (left) or column (right).
#[derive(Clone, Copy, Debug)]
pub struct QMat<'a> {
    /// Row-major values.
    pub values: IntSlice<'a>,
    /// The codes that mean zero.
    pub zero_points: &'a [i32],
}

/// `out[m, n]` = the exact integer product of `a[m, k]` and `b[k, n]`, each less its zero point. Packs `b`, so it
/// allocates.
/// # Panics
/// When a length does not fit the shape.
pub fn qmatmul(a: QMat<'_>, b: QMat<'_>, shape: MatShape, out: &mut [i32], parallel: Parallel) {
    let MatShape { m, k, n } = shape;
    let packed = PackedQGemm::new(b.values, Order::Kn, [k, n], b.zero_points);
    packed.run(
        a.values,
        &QGemmCall { m, a_zero_points: a.zero_points, parallel },
        out,
        &mut Scratch::new(),
    );
}

impl Order {
    #[inline(always)]
    fn at(self, row: usize, column: usize, [k, n]: [usize; 2]) -> usize {
        match self {
            Self::Kn => row * n + column,
            Self::Nk => column * k + row,
        }
    }
}

/// `[panel][depth][columns]` in words.
#[derive(Clone, Debug)]
struct Right {
    isa: Isa,
    depth: usize,
    n: usize,
    panels: Vec<u32>,
    /// One word a column, whole panels.
    bias: Vec<u32>,
    offsets: Vec<u32>,
}

impl Right {
    fn new(isa: Isa, depth: usize, n: usize, word: impl Fn(usize, usize) -> u32) -> Self {
        let columns = isa.tile().columns();
        let padded = n.next_multiple_of(columns);
        let mut panels = vec![0; padded * depth];
        for (panel, words) in panels.chunks_exact_mut((depth * columns).max(1)).enumerate() {
            let first = panel * columns;
            for (k, words) in words.chunks_exact_mut(columns).enumerate() {
                for (column, to) in (first..n).zip(words) {
                    *to = word(k, column);
                }
            }
        }
        let offsets = (0..depth).map(|k| (k * columns) as u32).collect();
        Self { isa, depth, n, panels, bias: vec![0; padded], offsets }
    }

    /// Fills `[block][depth][rows]` and returns `rows`: 1 for a single row, otherwise those of the tile.
    fn pack_left(&self, m: usize, word: impl Fn(usize, usize) -> u32, to: &mut Vec<u32>) -> usize {
        let rows = if m == 1 { 1 } else { self.isa.tile().rows };
        to.clear();
        to.resize(m.next_multiple_of(rows) * self.depth, 0);
        for row in 0..m {
            let block = &mut to[row / rows * rows * self.depth..];
            for k in 0..self.depth {
                block[k * rows + row % rows] = word(row, k);
            }
        }
        rows
    }
}

#[derive(Clone, Copy)]
struct Product<'a, W> {
    right: &'a Right,
    word: W,
    left: &'a [u32],
    /// Rows of a block of `left`.
    rows: usize,
    m: usize,
}

impl<W: Word> Product<'_, W> {
    fn run(&self, out: &mut [u32], threads: Threads<'_>) {
        assert!(out.len() == self.m * self.right.n, "the output holds m * n values");
        let blocks = self.m.div_ceil(self.rows);
        let panels = self.right.n.div_ceil(self.right.isa.tile().columns());
        let sink = Sink::new(out);
        let wanted = threads.parts();
        let parts = wanted.min(panels).max(1);
        let splits = wanted.div_ceil(parts).min(blocks).max(1);
        let cut = |total: usize, count: usize, i: usize| total * i / count..total * (i + 1) / count;
        threads.run(parts * splits, |i| {
            let blocks = cut(blocks, splits, i % splits);
            let panels = cut(panels, parts, i / splits);
            self.right.isa.dispatch(ProductTask { product: *self, blocks, panels, sink });
        });
    }
}

/// A range of row blocks against a range of column panels.
struct ProductTask<'a, W> {
    product: Product<'a, W>,
    blocks: Range<usize>,
    panels: Range<usize>,
    sink: Sink<'a>,
}

impl<W: Word> Task for ProductTask<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arch>(self, arch: A) {
        let right = self.product.right;
        for panel in self.panels.clone() {
            let columns = (right.n - panel * A::LANES * A::VECTORS).min(A::LANES * A::VECTORS);
            match (self.product.rows, columns.div_ceil(A::LANES)) {
                (1, 1) => self.panel::<A, 1, 1>(arch, panel, columns),
                (1, 2) => self.panel::<A, 1, 2>(arch, panel, columns),
                (1, _) => self.panel::<A, 1, 3>(arch, panel, columns),
                (8, 1) => self.panel::<A, 8, 1>(arch, panel, columns),
                (8, 2) => self.panel::<A, 8, 2>(arch, panel, columns),
                (8, _) => self.panel::<A, 8, 3>(arch, panel, columns),
                (_, 1) => self.panel::<A, 4, 1>(arch, panel, columns),
                (_, 2) => self.panel::<A, 4, 2>(arch, panel, columns),
                (_, _) => self.panel::<A, 4, 3>(arch, panel, columns),
            }
        }
    }
}

impl<W: Word> ProductTask<'_, W> {
    #[inline(always)]
    fn panel<A: Arch, const MR: usize, const NV: usize>(
        &self,
        arch: A,
        panel: usize,
        columns: usize,
    ) {
        let Product { right, word, left, m, .. } = self.product;
        let width = A::LANES * A::VECTORS;
        let x = &right.panels[panel * right.depth * width..][..right.depth * width];
        let offsets = Offsets::new(&right.offsets);
        for block in self.blocks.clone() {
            let w = &left[block * right.depth * MR..][..right.depth * MR];
            let bases = std::array::from_fn(|v| v * A::LANES);
            let sums = accumulate::<A, W, MR, NV>((arch, word), x, bases, offsets, w);
            let first = block * MR * right.n + panel * width;
            let target = Target::<NV> {
                at: std::array::from_fn(|v| (first + v * A::LANES).min(m * right.n)),
                lens: std::array::from_fn(|v| columns.saturating_sub(v * A::LANES).min(A::LANES)),
                row_stride: right.n,
                rows: MR.min(m - block * MR),
            };
            let bias = Bias::Columns(&right.bias[panel * width..][..width]);
            // SAFETY: blocks and panels partition the output, and each is run by one thread.
            unsafe { write((arch, word), &sums, bias, target, self.sink) }
        }
    }
}
