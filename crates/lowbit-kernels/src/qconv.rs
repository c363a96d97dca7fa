//! Convolution of 8-bit images to exact `i32` sums.

use crate::engine::{Core, Form, Job, Scratch};
use crate::geometry::{ConvGeometry, Parallel};
use crate::isa::Isa;
use crate::stage::Bytes;
use crate::word::{Pair, int_bits_mut, pair};

/// A slice of 8-bit integers.
#[derive(Clone, Copy, Debug)]
pub enum IntSlice<'a> {
    /// Unsigned.
    U8(&'a [u8]),
    /// Signed.
    I8(&'a [i8]),
}

impl IntSlice<'_> {
    /// Elements in the slice.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::I8(values) => values.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element, widened.
    /// # Panics
    /// When `index` is not below `len`.
    #[must_use]
    pub fn get(&self, index: usize) -> i32 {
        match self {
            Self::U8(values) => i32::from(values[index]),
            Self::I8(values) => i32::from(values[index]),
        }
    }
}

/// Terms that surely fit in an `i32` sum, each at most 255 * 255.
pub(crate) const MAX_TERMS: usize = (i32::MAX / (255 * 255)) as usize;

/// Asserts that a zero point keeps differences within -255..=255.
pub(crate) fn check_zero_point(zero_point: i32) {
    assert!((-128..=255).contains(&zero_point), "a zero point is an 8-bit integer");
}

/// Integer weights less their zero points, packed once as pairs of `i16` for the tiles of this CPU.
#[derive(Clone, Debug)]
pub struct PackedQConv(Core);

/// One call of [`PackedQConv::run`].
#[derive(Clone, Copy, Debug)]
pub struct QConvCall<'a> {
    /// Images in the batch.
    pub n: usize,
    /// Sizes; all but `input`, `pads`, `strides` and `dilations` were fixed by packing.
    pub geometry: &'a ConvGeometry,
    /// The input code that means zero, and that pads hold.
    pub x_zero_point: i32,
    /// Threads.
    pub parallel: Parallel,
}

impl PackedQConv {
    /// Packs `weight`, which is `shape` = `[o, i / groups, kh, kw]`, for the best tier. `zero_points` has one entry, or
    /// one for each output channel.
    /// # Panics
    /// When a length does not fit the shape, or an output has more than 33025 taps, so that its sum might leave `i32`.
    #[must_use]
    pub fn new(
        weight: IntSlice<'_>,
        shape: [usize; 4],
        zero_points: &[i32],
        groups: usize,
    ) -> Self {
        Self::for_isa(Isa::current(), weight, shape, (zero_points, groups))
    }

    /// As [`PackedQConv::new`], for a given tier; the last argument is `(zero points, groups)`.
    /// # Panics
    /// As [`PackedQConv::new`].
    #[must_use]
    pub fn for_isa(
        isa: Isa,
        weight: IntSlice<'_>,
        shape: [usize; 4],
        (zero_points, groups): (&[i32], usize),
    ) -> Self {
        let [outputs, inputs, kh, kw] = shape;
        assert!(
            weight.len() == outputs * inputs * kh * kw,
            "the weight has the length of its shape"
        );
        assert!(
            [1, outputs].contains(&zero_points.len()),
            "one zero point, or one per output channel"
        );
        assert!(inputs * kh * kw <= MAX_TERMS, "the sum of the taps fits in i32");
        zero_points.iter().copied().for_each(check_zero_point);
        let value = |[o, i, y, x]: [usize; 4]| {
            let zero_point = zero_points[if zero_points.len() == 1 { 0 } else { o }];
            weight.get(((o * inputs + i) * kh + y) * kw + x) - zero_point
        };
        let word = |[o, i, y, x]: [usize; 4]| {
            let second = if i + 1 < inputs { value([o, i + 1, y, x]) } else { 0 };
            pair(value([o, i, y, x]), second)
        };
        Self(Core::new(isa, Form { shape, groups, pack: 2 }, |_| 0, word))
    }

    /// Writes to `out` the sum over the taps of `(x - x_zero_point) * (w - w_zero_point[o])`; taps on pads add 0.
    /// # Panics
    /// When a length does not fit the geometry, or the geometry is not that of the packed weights.
    pub fn run(
        &self,
        x: IntSlice<'_>,
        call: &QConvCall<'_>,
        out: &mut [i32],
        scratch: &mut Scratch,
    ) {
        assert!(x.len() == call.n * call.geometry.input_len(), "the input holds n images");
        check_zero_point(call.x_zero_point);
        let (geometry, zero_point) = (call.geometry, call.x_zero_point);
        let (how, out) = ((call.n, call.parallel.into()), int_bits_mut(out));
        match x {
            IntSlice::U8(data) => {
                self.0.run(
                    &Job { feed: Bytes { data, zero_point }, word: Pair, geometry },
                    how,
                    out,
                    scratch,
                );
            }
            IntSlice::I8(data) => {
                self.0.run(
                    &Job { feed: Bytes { data, zero_point }, word: Pair, geometry },
                    how,
                    out,
                    scratch,
                );
            }
        }
    }
}
