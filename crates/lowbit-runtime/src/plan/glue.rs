//! What lies between convolutions: elementwise steps, pools, moves. Images are `(bytes, layout)`.

use std::cell::Cell;

use lowbit_kernels::nhwc::{ImageLayout, Pool};
use lowbit_kernels::{Body, Isa, ROUNDER};

use crate::network::{Add, AveragePool, Dequantize, GlobalAverage, Mul, Quantize, Sample, Window};

/// An image that is read.
pub(super) type From<'a> = (&'a [u8], &'a ImageLayout);
/// An image that is written.
pub(super) type To<'a> = (&'a mut [u8], &'a ImageLayout);
/// Rows of an image that are written, and the number of the first.
type Rows<'a> = (usize, To<'a>);

/// Defines a function whose body is compiled for each tier of instructions; `'a` is the lifetime of its arguments.
macro_rules! per_tier {
    ($(#[$attribute:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block) => {
        pub(super) fn $name<'a>(isa: Isa, $($argument: $type),*) {
            struct Run<'a> {
                $($argument: $type),*
            }
            impl<'a> Body for Run<'a> {
                type Output = ();

                $(#[$attribute])*
                #[inline(always)]
                fn run(self) {
                    let Run { $($argument),* } = self;
                    $body
                }
            }
            isa.vectorize(Run { $($argument),* });
        }
    };
}

/// Channels that are pooled at once.
const BLOCK: usize = 64;

/// The one element, or the one of a channel.
#[inline(always)]
fn pick<T: Copy>(of: &[T], channel: usize) -> T {
    of[if of.len() == 1 { 0 } else { channel }]
}

/// Pixels that change between planes and codes at once.
const PIXELS: usize = 256;
/// Channels that share a word on the way.
const WORD: usize = 4;

/// Pixels of an image whose elements are neighbours in each plane: some whole rows, or a part of one.
#[derive(Clone, Copy)]
struct Piece {
    /// First row and column.
    at: [usize; 2],
    /// Rows and columns.
    size: [usize; 2],
}

impl Piece {
    /// Pieces of at most [`PIXELS`] pixels that cover the image.
    #[inline(always)]
    fn all(layout: &ImageLayout) -> impl Iterator<Item = Piece> {
        let (height, width) = (layout.height, layout.width);
        let columns = width.min(PIXELS);
        let rows = (PIXELS / columns.max(1)).max(1);
        (0..height).step_by(rows).flat_map(move |y| {
            (0..width).step_by(columns.max(1)).map(move |x| Piece {
                at: [y, x],
                size: [rows.min(height - y), columns.min(width - x)],
            })
        })
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.size[0] * self.size[1]
    }

    /// Its elements in a plane.
    #[inline(always)]
    fn in_plane(&self, layout: &ImageLayout) -> std::ops::Range<usize> {
        let first = self.at[0] * layout.width + self.at[1];
        first..first + self.len()
    }

    /// Its pixels in its row `y`, as bytes of the image.
    #[inline(always)]
    fn in_row(&self, layout: &ImageLayout, y: usize) -> std::ops::Range<usize> {
        let first = layout.at(self.at[0] + y, self.at[1]);
        first..first + self.size[1] * layout.pixel
    }
}

/// Whether planes of floats lie as codes do, one after the other: one pixel, and one scale.
fn is_list(layout: &ImageLayout, scales: &[f32]) -> bool {
    layout.height * layout.width == 1 && scales.len() == 1
}

/// The floats become codes; threads share the rows.
pub(super) fn quantize(
    isa: Isa,
    (how, offset): (&Quantize, i32),
    floats: &[f32],
    to: To<'_>,
    pool: &Pool,
) {
    let whole = *to.1;
    let by_pixels = how.pixels || is_list(&whole, &how.scales);
    pool.run_rows(to, &|rows, image, layout| {
        let rows = (rows.start, (image, layout));
        if by_pixels {
            quantize_pixels(isa, how, offset, floats, rows);
        } else {
            quantize_planes(isa, how, offset, (floats, whole.height * whole.width), rows);
        }
    });
}

per_tier! {
    // Pixels of few channels that do not fill their words are spread from a stretch of codes.
    fn quantize_pixels(how: &'a Quantize, offset: i32, floats: &'a [f32], rows: Rows<'a>) {
        let (first, (image, layout)) = rows;
        let (channels, pixel) = (layout.channels, layout.pixel);
        let quantize = |from: &[f32], codes: &mut [u8]| {
            lowbit_kernels::quantize(from, how.scales[0], how.zero_points[0] + offset, codes);
        };
        let mut codes = [0; WORD * PIXELS];
        let row = layout.width * channels;
        for y in 0..layout.height {
            let from = &floats[(first + y) * row..][..row];
            let out = layout.pixels_mut(image, y);
            if pixel == channels {
                quantize(from, out);
            } else if channels > WORD {
                let pixels = out.chunks_exact_mut(pixel).zip(from.chunks_exact(channels));
                pixels.for_each(|(out, from)| quantize(from, &mut out[..channels]));
            } else {
                for (out, from) in out.chunks_mut(PIXELS * pixel).zip(from.chunks(PIXELS * channels)) {
                    let codes = &mut codes[..from.len()];
                    quantize(from, codes);
                    spread(codes, channels, out);
                }
            }
        }
    }
}

/// Pixels of fewer channels than a word become words.
#[inline(always)]
fn spread(codes: &[u8], channels: usize, out: &mut [u8]) {
    let pixels = out.as_chunks_mut::<WORD>().0.iter_mut();
    if channels == 3 {
        for (to, &[red, green, blue]) in pixels.zip(codes.as_chunks::<3>().0) {
            *to = [red, green, blue, 0];
        }
    } else {
        for (to, from) in pixels.zip(codes.chunks_exact(channels)) {
            to[..channels].copy_from_slice(from);
        }
    }
}

per_tier! {
    // Four planes of codes become words, which are stored whole.
    fn quantize_planes(how: &'a Quantize, offset: i32, planes: (&'a [f32], usize), rows: Rows<'a>) {
        let ((floats, plane), (first_row, (image, layout))) = (planes, rows);
        let (mut codes, mut words) = ([[0; PIXELS]; WORD], [0u32; PIXELS]);
        for piece in Piece::all(layout) {
            let words = &mut words[..piece.len()];
            for first in (0..layout.channels).step_by(WORD) {
                for (c, codes) in (first..layout.channels).zip(&mut codes) {
                    let start = c * plane + first_row * layout.width;
                    let from = &floats[start..][piece.in_plane(layout)];
                    let (scale, zero_point) = (pick(&how.scales, c), pick(&how.zero_points, c));
                    let codes = &mut codes[..from.len()];
                    lowbit_kernels::quantize(from, scale, zero_point + offset, codes);
                }
                let [a, b, c, d] = &codes;
                let planes = a.iter().zip(b).zip(c).zip(d);
                for (word, (((&a, &b), &c), &d)) in words.iter_mut().zip(planes) {
                    *word = u32::from_le_bytes([a, b, c, d]);
                }
                for (y, words) in words.chunks_exact(piece.size[1]).enumerate() {
                    let line = &mut image[piece.in_row(layout, y)];
                    if layout.pixel == WORD {
                        let pixels = line.as_chunks_mut::<WORD>().0;
                        pixels.iter_mut().zip(words).for_each(|(to, word)| *to = word.to_le_bytes());
                    } else {
                        for (to, word) in line.chunks_exact_mut(layout.pixel).zip(words) {
                            to[first..first + WORD].copy_from_slice(&word.to_le_bytes());
                        }
                    }
                }
            }
        }
    }
}

per_tier! {
    // Four codes of a pixel are read as a word.
    #[expect(clippy::cast_precision_loss, reason = "codes of 8 bits are exact")]
    #[expect(clippy::cast_possible_wrap, reason = "codes are small")]
    fn dequantize(how: &'a Dequantize, offset: i32, from: From<'a>, floats: &'a mut [f32]) {
        let (image, layout) = from;
        if is_list(layout, &how.scales) {
            let (scale, zero_point) = (how.scales[0], how.zero_points[0] + offset);
            for (to, &code) in floats.iter_mut().zip(&image[layout.at(0, 0)..]) {
                *to = (i32::from(code) - zero_point) as f32 * scale;
            }
            return;
        }
        let mut words = [0u32; PIXELS];
        for piece in Piece::all(layout) {
            let words = &mut words[..piece.len()];
            for first in (0..layout.channels).step_by(WORD) {
                for (y, words) in words.chunks_exact_mut(piece.size[1]).enumerate() {
                    let pixels = image[piece.in_row(layout, y)].chunks_exact(layout.pixel);
                    for (word, pixel) in words.iter_mut().zip(pixels) {
                        let codes = pixel[first..].first_chunk().expect("pixels are whole words");
                        *word = u32::from_le_bytes(*codes);
                    }
                }
                for c in first..layout.channels.min(first + WORD) {
                    let (scale, zero_point) = (pick(&how.scales, c), pick(&how.zero_points, c) + offset);
                    let shift = 8 * (c - first);
                    let plane = &mut floats[c * layout.height * layout.width..];
                    for (to, word) in plane[piece.in_plane(layout)].iter_mut().zip(&*words) {
                        *to = ((word >> shift & 255) as i32 - zero_point) as f32 * scale;
                    }
                }
            }
        }
    }
}

/// The code nearest to a value of the model's codes, half to even: in the lowest bits of a float whose unit they are, as vectors have no
/// saturating conversion.
#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "bounds of 8 bits are exact")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the lowest byte")]
fn code(value: f32, offset: i32) -> u8 {
    let bounded = value.clamp(-offset as f32, (255 - offset) as f32);
    (bounded + ROUNDER).to_bits() as u8 ^ offset as u8
}

per_tier! {
    #[expect(clippy::cast_precision_loss, reason = "codes of 8 bits are exact")]
    fn add(how: &'a Add, offset: i32, operands: [From<'a>; 2], to: To<'a>) {
        let ([a, b], to) = (operands, to);
        for y in 0..to.1.height {
            let (a, b) = (a.1.pixels(a.0, y), b.1.pixels(b.0, y));
            for ((to, &p), &q) in to.1.pixels_mut(to.0, y).iter_mut().zip(a).zip(b) {
                let [p, q] = [p, q].map(|code| (i32::from(code) - offset) as f32);
                let sum = p.mul_add(how.ratios[0], q.mul_add(how.ratios[1], how.fixed));
                *to = code(sum, offset);
            }
        }
    }
}

per_tier! {
    #[expect(clippy::cast_precision_loss, reason = "products of 8-bit codes are exact")]
    fn mul(how: &'a Mul, offset: i32, operands: [From<'a>; 2], to: To<'a>) {
        let ([a, b], to) = (operands, to);
        let [zero_a, zero_b] = how.zero_points.map(|zero_point| zero_point + offset);
        let product = |p: u8, q: u8| {
            let product = ((i32::from(p) - zero_a) * (i32::from(q) - zero_b)) as f32;
            code(product * how.ratio + how.zero_point as f32, offset)
        };
        let gate = b.1.height * b.1.width == 1;
        let pixel = to.1.pixel;
        for y in 0..to.1.height {
            let (left, right) = (a.1.pixels(a.0, y), b.1.pixels(b.0, if gate { 0 } else { y }));
            for (x, to) in to.1.pixels_mut(to.0, y).chunks_exact_mut(pixel).enumerate() {
                let right = &right[if gate { 0 } else { x * pixel }..][..pixel];
                for ((to, &p), &q) in to.iter_mut().zip(&left[x * pixel..]).zip(right) {
                    *to = product(p, q);
                }
            }
        }
    }
}

per_tier! {
    #[expect(clippy::cast_precision_loss, reason = "the arithmetic that onnxruntime does")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "images are small")]
    fn global_average(how: &'a GlobalAverage, offset: i32, from: From<'a>, to: To<'a>) {
        let layout = from.1;
        let count = (layout.height * layout.width) as i32;
        let inner = to.1.at(0, 0);
        let blocks = to.0[inner..][..layout.channels].chunks_mut(BLOCK).enumerate();
        for (block, to) in blocks {
            let mut sums = [0i32; BLOCK];
            let sums = &mut sums[..to.len()];
            for y in 0..layout.height {
                for pixel in from.1.pixels(from.0, y).chunks_exact(layout.pixel) {
                    let pixel = &pixel[block * BLOCK..];
                    sums.iter_mut().zip(pixel).for_each(|(sum, &code)| *sum += i32::from(code));
                }
            }
            for (to, sum) in to.iter_mut().zip(sums) {
                let centered = (*sum - count * (how.zero_points[0] + offset)) as f32;
                let rounded = (centered * how.multiplier).round_ties_even();
                *to = code(rounded + how.zero_points[1] as f32, offset);
            }
        }
    }
}

/// Rows or columns of a window that lie inside: first position, and how many with what distance, by output position.
#[inline(always)]
fn inside(window: &Window, axis: usize, extent: usize, at: usize) -> impl Iterator<Item = usize> {
    let (pad, dilation) = (window.pads[axis], window.dilations[axis]);
    let first = at * window.strides[axis];
    (0..window.kernel[axis])
        .filter_map(move |k| (first + k * dilation).checked_sub(pad).filter(|&p| p < extent))
}

per_tier! {
    #[expect(clippy::cast_precision_loss, reason = "the arithmetic that onnxruntime does")]
    fn average_pool(how: &'a AveragePool, offset: i32, from: From<'a>, rows: Rows<'a>) {
        let (layout, (first, to)) = (from.1, rows);
        let out = *to.1;
        let window = &how.window;
        let counted = |axis: usize, at: usize, extent: usize| {
            let limit = extent + window.pads[axis] + how.end_pads[axis];
            let first = at * window.strides[axis];
            let taps = 0..window.kernel[axis];
            if how.count_include_pad {
                taps.filter(|k| first + k * window.dilations[axis] < limit).count()
            } else {
                inside(window, axis, extent, at).count()
            }
        };
        let zero_point = how.zero_points[0] + offset;
        for row in 0..out.height {
            let (line, y) = (to.1.pixels_mut(to.0, row), first + row);
            for (x, to) in line.chunks_exact_mut(out.pixel).enumerate() {
                let count = (counted(0, y, layout.height) * counted(1, x, layout.width)) as f32;
                for (block, to) in to[..layout.channels].chunks_mut(BLOCK).enumerate() {
                    let mut sums = [0f32; BLOCK];
                    let sums = &mut sums[..to.len()];
                    for row_at in inside(window, 0, layout.height, y) {
                        for column in inside(window, 1, layout.width, x) {
                            let pixel = &from.0[layout.at(row_at, column) + block * BLOCK..];
                            for (sum, &code) in sums.iter_mut().zip(pixel) {
                                *sum += (i32::from(code) - zero_point) as f32 * how.scales[0];
                            }
                        }
                    }
                    for (to, sum) in to.iter_mut().zip(sums) {
                        let mean = *sum / count / how.scales[1] + how.zero_points[1] as f32;
                        *to = code(mean, offset);
                    }
                }
            }
        }
    }
}

per_tier! {
    // The rows of each window first, into one, then its columns.
    fn max_pool(window: &'a Window, from: From<'a>, rows: Rows<'a>) {
        let (layout, (first, to)) = (from.1, rows);
        let out = *to.1;
        let mut row = MOST.take();
        row.resize(row.len().max(layout.width * layout.pixel), 0);
        let most = &mut row[..layout.width * layout.pixel];
        for y in 0..out.height {
            most.fill(0);
            inside(window, 0, layout.height, first + y)
                .for_each(|y| raise(most, from.1.pixels(from.0, y)));
            let line = to.1.pixels_mut(to.0, y);
            let columns = (window, layout.width);
            match out.pixel {
                16 => max_of_columns::<16>(columns, most, line),
                32 => max_of_columns::<32>(columns, most, line),
                64 => max_of_columns::<64>(columns, most, line),
                pixel => {
                    line.fill(0);
                    for (x, to) in line.chunks_exact_mut(pixel).enumerate() {
                        inside(window, 1, layout.width, x)
                            .for_each(|x| raise(to, &most[x * pixel..]));
                    }
                }
            }
        }
        MOST.set(row);
    }
}

thread_local! {
    /// The greatest codes of some rows, kept from call to call.
    static MOST: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The greatest code of each channel among the pixels of a window, which have `P` of them.
#[inline(always)]
fn max_of_columns<const P: usize>((window, width): (&Window, usize), from: &[u8], to: &mut [u8]) {
    let from = from.as_chunks::<P>().0;
    for (x, to) in to.as_chunks_mut::<P>().0.iter_mut().enumerate() {
        let mut most = [0; P];
        inside(window, 1, width, x).for_each(|x| raise(&mut most, &from[x]));
        *to = most;
    }
}

#[inline(always)]
fn raise(to: &mut [u8], from: &[u8]) {
    for (to, &code) in to.iter_mut().zip(from) {
        *to = code.max(*to);
    }
}

/// Writes an image's channels from channel `first` on.
pub(super) fn copy_channels(table: Option<&[u8; 256]>, from: From<'_>, to: To<'_>, first: usize) {
    let (layout, out) = (from.1, *to.1);
    for y in 0..layout.height {
        let line = to.1.pixels_mut(to.0, y);
        let pixels = from.1.pixels(from.0, y).chunks_exact(layout.pixel);
        for (to, pixel) in line.chunks_exact_mut(out.pixel).zip(pixels) {
            let to = &mut to[first..][..layout.channels];
            match table {
                None => to.copy_from_slice(&pixel[..layout.channels]),
                Some(table) => {
                    to.iter_mut().zip(pixel).for_each(|(to, &code)| *to = table[usize::from(code)]);
                }
            }
        }
    }
}

/// Positions of a result along an axis whose element lies inside an operand of `extent`: the first, and one past the last.
fn covered(how: &Sample, axis: usize, outputs: usize, extent: usize) -> (usize, usize) {
    let lies_inside = |i: &usize| usize::try_from(origin(how, axis, *i)).is_ok_and(|p| p < extent);
    let first = (0..outputs).find(lies_inside).unwrap_or(outputs);
    let end = (first..outputs).find(|i| !lies_inside(i)).unwrap_or(outputs);
    (first, end)
}

fn origin(how: &Sample, axis: usize, at: usize) -> i64 {
    how.start[axis] + i64::try_from(at).unwrap_or(i64::MAX) * how.step[axis]
}

per_tier! {
    fn sample(how: &'a Sample, from: From<'a>, to: To<'a>) {
        let (layout, out) = (from.1, *to.1);
        let rows = covered(how, 0, out.height, layout.height);
        let columns = covered(how, 1, out.width, layout.width);
        let channels = covered(how, 2, out.channels, layout.channels);
        let at = |axis: usize, i: usize| usize::try_from(origin(how, axis, i)).unwrap_or(0);
        for y in 0..out.height {
            let line = to.1.pixels_mut(to.0, y);
            line.fill(how.fill);
            if y < rows.0 || y >= rows.1 {
                continue;
            }
            let line = &mut line[columns.0 * out.pixel..columns.1 * out.pixel];
            for (x, to) in (columns.0..).zip(line.chunks_exact_mut(out.pixel)) {
                let pixel = &from.0[layout.at(at(0, y), at(1, x))..];
                let to = &mut to[channels.0..channels.1];
                match how.step[2] {
                    1 => to.copy_from_slice(&pixel[at(2, channels.0)..][..to.len()]),
                    _ => (channels.0..).zip(to).for_each(|(c, to)| *to = pixel[at(2, c)]),
                }
            }
        }
    }
}

/// The same elements, counted channel by channel, in an image of other dimensions.
pub(super) fn reshape(from: From<'_>, to: To<'_>) {
    let (layout, out) = (from.1, to.1);
    let place = |layout: &ImageLayout, index: usize| {
        let (area, width) = (layout.height * layout.width, layout.width);
        layout.at(index % area / width, index % width) + index / area
    };
    for index in 0..out.height * out.width * out.channels {
        to.0[place(out, index)] = from.0[place(layout, index)];
    }
}

/// The image channel by channel, each code as `of` has it.
pub(super) fn to_planes<T>(from: From<'_>, planes: &mut [T], of: impl Fn(u8) -> T) {
    let layout = from.1;
    let rows = planes.chunks_exact_mut(layout.width.max(1));
    for (at, row) in rows.enumerate().take(layout.channels * layout.height) {
        let (c, y) = (at / layout.height, at % layout.height);
        let pixels = from.1.pixels(from.0, y).chunks_exact(layout.pixel);
        row.iter_mut().zip(pixels).for_each(|(to, pixel)| *to = of(pixel[c]));
    }
}

/// An image from its channels, whose elements `of` turns to codes.
pub(super) fn from_planes<T: Copy>(planes: &[T], to: To<'_>, of: impl Fn(T) -> u8) {
    let layout = *to.1;
    let area = layout.height * layout.width;
    for y in 0..layout.height {
        for (x, pixel) in to.1.pixels_mut(to.0, y).chunks_exact_mut(layout.pixel).enumerate() {
            for (c, code) in pixel[..layout.channels].iter_mut().enumerate() {
                *code = of(planes[c * area + y * layout.width + x]);
            }
        }
    }
}
