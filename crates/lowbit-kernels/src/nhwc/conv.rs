//! Dense and grouped convolution of codes.

use std::array::from_fn;
use std::cell::RefCell;
use std::hint::black_box;
use std::ops::Range;
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use super::amx::{self, Tiling};
use super::arena::Words;
use super::codes::Codes;
use super::finish::{At, Write};
use super::forms::{Form, Indices, Int8, Kept, Table, borrow_panel, give_back_panel, unpack};
use super::layout::ImageLayout;
use super::overlap;
use super::panels::{Panel, Panels};
use super::pool::Pool;
use super::spec::{ConvSpec, Finish, Requantize, WeightForm};
use super::tile::{Layer, sums};
use super::trial::least_seconds;
use crate::arch::Arch;
use crate::isa::{Isa, Task, TileShape};

/// Pixels below which threads share the outputs rather than the pixels.
const FEW_PIXELS: usize = 32;

/// Pixels from which on unpacking a panel takes less time than tiles that overlap, which are of bytes, save.
const WORTH_UNPACKING: usize = 256;

/// The most images that meet a panel of weights one after the other: no more gained nothing.
pub const TOGETHER: usize = 4;

/// The images of one run.
#[derive(Debug)]
pub struct Operands<'a, T> {
    /// The image that is read.
    pub x: &'a [u8],
    /// The image that is added.
    pub other: Option<&'a [u8]>,
    /// The result.
    pub out: &'a mut [T],
}

/// A convolution whose weights are packed for one tier.
#[derive(Clone, Debug)]
pub struct Conv {
    isa: Isa,
    #[cfg(target_arch = "x86_64")]
    tiling: Option<Tiling>,
    spec: ConvSpec,
    kept: Kept,
    /// Whether weights are unpacked between products.
    beside: bool,
    /// Whether tiles end between the products of the next ones, where they are short.
    overlaps: bool,
    panels: Panels,
    bias: Vec<i32>,
    factors: Vec<f32>,
    write: Write,
}

impl Conv {
    /// Packs `weights`, `[o, i / groups, kh, kw]`, and folds `x_zero_point` into the biases. A form that has not room for all
    /// values, among them 0 where channels do not fill words, gives way to the next wider one.
    /// # Panics
    /// When the sizes do not fit one another or the images, a list has not one entry for each output, a multiplier is not
    /// finite, or an output has more than 65793 taps, so that its sum might leave `i32`.
    #[must_use]
    pub fn new(
        isa: Isa,
        spec: ConvSpec,
        weights: (&[i8], WeightForm),
        x_zero_point: u8,
        finish: Finish,
    ) -> Self {
        let mut conv = Self::apart(isa, spec, weights, x_zero_point, finish);
        conv.overlaps = conv.write.is_short() && overlaps(isa);
        conv
    }

    /// As [`Conv::new`], each tile ending before the next one begins.
    fn apart(
        isa: Isa,
        spec: ConvSpec,
        (weights, form): (&[i8], WeightForm),
        x_zero_point: u8,
        finish: Finish,
    ) -> Self {
        spec.check();
        let (write, bias, factors) = Write::split(finish, &spec, weights);
        let bias = fold_zero_point(&spec, weights, dot_zero_point(isa, x_zero_point), bias);
        let mut panels = Panels::new(&spec, weights, tile_of(isa));
        let kept = Kept::pack(form, &mut panels);
        let (bias, factors) = (panels.spread(&bias), panels.spread(&factors));
        Self {
            #[cfg(target_arch = "x86_64")]
            tiling: match isa {
                Isa::Amx(amx) => {
                    Tiling::new(amx, &spec, &panels.offsets[panels.list[0].offsets.clone()])
                }
                _ => None,
            },
            isa,
            spec,
            beside: !matches!(kept, Kept::Bytes) && unpacks_beside(isa),
            overlaps: false,
            kept,
            panels,
            bias,
            factors,
            write,
        }
    }

    /// The sizes.
    #[must_use]
    pub fn spec(&self) -> &ConvSpec {
        &self.spec
    }

    /// Bytes that the packed weights take.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        size_of_val(&self.panels.words[..])
    }

    /// The form in which the weights are kept and the tier that runs.
    #[must_use]
    pub fn kernel_name(&self) -> &'static str {
        #[cfg(target_arch = "x86_64")]
        if self.tiling.is_none() {
            return self.kept.name(self.isa.vectors());
        }
        self.kept.name(self.isa)
    }

    /// Writes the codes of the result to `out`, but not its border. `other` is the image that is added.
    /// # Panics
    /// When an image is shorter than its layout says, `other` is missing, or the result is floats.
    pub fn run(&self, x: &[u8], other: Option<&[u8]>, out: &mut [u8], pool: &Pool) {
        self.run_images(x, self.write.images(&self.spec, other, out), pool);
    }

    /// Writes the floats of the result to `out`, `[y][x][channel]` without border.
    /// # Panics
    /// When an image is shorter than its layout says, or the result is codes.
    pub fn run_float(&self, x: &[u8], out: &mut [f32], pool: &Pool) {
        self.run_images(x, self.write.float_images(&self.spec, out), pool);
    }

    /// As [`Conv::run`] for several images, on this thread. Each panel of weights meets all images before the next one.
    /// # Panics
    /// As [`Conv::run`].
    pub fn run_each<'a>(&self, images: impl IntoIterator<Item = Operands<'a, u8>>) {
        self.run_layers(images.into_iter().map(|Operands { x, other, out }| {
            self.layer(x, self.write.images(&self.spec, other, out))
        }));
    }

    /// As [`Conv::run_float`] for several images, on this thread; nothing is added.
    /// # Panics
    /// As [`Conv::run_float`].
    pub fn run_each_float<'a>(&self, images: impl IntoIterator<Item = Operands<'a, f32>>) {
        self.run_layers(images.into_iter().map(|Operands { x, out, .. }| {
            self.layer(x, self.write.float_images(&self.spec, out))
        }));
    }

    fn run_layers<'a>(&'a self, mut layers: impl Iterator<Item = Layer<'a>>) {
        while let Some(first) = layers.next() {
            let mut together = [first; TOGETHER];
            let mut count = 1;
            for (place, layer) in together[1..].iter_mut().zip(&mut layers) {
                (*place, count) = (layer, count + 1);
            }
            let pixels = self.spec.output.height * self.spec.output.width;
            self.run_part(&together[..count], 0..self.panels.list.len(), 0..pixels);
        }
    }

    fn run_images(&self, x: &[u8], images: At, pool: &Pool) {
        let layer = self.layer(x, images);
        let pixels = self.spec.output.height * self.spec.output.width;
        for_each_part(pool, pixels, self.panels.list.len(), &|panels, pixels| {
            self.run_part(&[layer], panels, pixels);
        });
    }

    fn layer(&self, x: &[u8], images: At) -> Layer<'_> {
        assert!(x.len() >= self.spec.input.len(), "an image has the length of its layout");
        Layer {
            spec: &self.spec,
            offsets: &self.panels.offsets,
            bias: &self.bias,
            factors: &self.factors,
            write: &self.write,
            x: x.as_ptr(),
            images,
        }
    }

    /// Computes the panels and pixels of each layer, which are this convolution of different images.
    fn run_part(&self, layers: &[Layer<'_>], panels: Range<usize>, pixels: Range<usize>) {
        let part = Part { conv: self, layers, panels, pixels };
        #[cfg(target_arch = "x86_64")]
        if let Some(tiling) = &self.tiling {
            return tiling.amx().dispatch(OnTiles { part, tiling });
        }
        self.isa.dispatch(part);
    }
}

/// The biases of sums of codes as [`Codes::dot`] takes them: less the zero point times the sum of the weights.
/// # Panics
/// When the weights have not the length of their shape, or an output has more than 65793 taps.
pub(crate) fn fold_zero_point(
    spec: &ConvSpec,
    weights: &[i8],
    zero_point: i32,
    mut bias: Vec<i32>,
) -> Vec<i32> {
    assert!(weights.len() == spec.weight_len(), "the weight has the length of its shape");
    let taps = spec.weight_len() / spec.output.channels;
    assert!(taps <= i32::MAX as usize / (255 * 128), "the sum of the taps fits in i32");
    for (bias, weights) in bias.iter_mut().zip(weights.chunks_exact(taps)) {
        let sum: i32 = weights.iter().map(|&weight| i32::from(weight)).sum();
        *bias = bias.wrapping_sub(sum.wrapping_mul(zero_point));
    }
    bias
}

/// The zero point of the codes that [`Codes::dot`] multiplies.
pub(crate) fn dot_zero_point(isa: Isa, zero_point: u8) -> i32 {
    struct Offset;
    impl Task for Offset {
        type Output = i32;

        #[inline(always)]
        fn run<A: Codes>(self, _: A) -> i32 {
            A::OFFSET
        }
    }
    i32::from(zero_point) - isa.dispatch(Offset)
}

/// Whether threads share the channels of a result rather than its pixels.
pub(crate) fn are_few(pool: &Pool, pixels: usize) -> bool {
    pixels < FEW_PIXELS * pool.threads()
}

/// Calls `run` for ranges of panels and of pixels that cover all, on all threads: few pixels share the panels, many the pixels.
pub(crate) fn for_each_part(
    pool: &Pool,
    pixels: usize,
    panels: usize,
    run: &(dyn Fn(Range<usize>, Range<usize>) + Sync),
) {
    let threads = pool.threads();
    if are_few(pool, pixels) {
        let parts = threads.min(panels);
        pool.run(parts, &|part| run(share(panels, part, parts), 0..pixels));
    } else {
        pool.run(threads, &|part| run(0..panels, share(pixels, part, threads)));
    }
}

/// The `part`th of `parts` stretches of `0..count`.
pub(crate) fn share(count: usize, part: usize, parts: usize) -> Range<usize> {
    count * part / parts..count * (part + 1) / parts
}

struct Part<'a> {
    conv: &'a Conv,
    layers: &'a [Layer<'a>],
    panels: Range<usize>,
    pixels: Range<usize>,
}

impl Task for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Codes>(self, arch: A) {
        for panel in &self.conv.panels.list[self.panels.clone()] {
            let part = &self;
            let words = &self.conv.panels.words[panel.words..];
            // Forms are functions of their own: one of all of them takes the compiler minutes.
            match &self.conv.kept {
                Kept::Bytes => arch.apart(OfBytes { part, panel, words }),
                Kept::Four(table) => arch.apart(OfIndices::<4> { part, panel, words, table }),
                Kept::Two(table) => arch.apart(OfIndices::<2> { part, panel, words, table }),
                Kept::One(table) => arch.apart(OfIndices::<1> { part, panel, words, table }),
            }
        }
    }
}

impl Part<'_> {
    /// The products of every image with a panel.
    /// # Safety
    /// The words are the panel's, in this form. The rest was seen to when the part was made: the lengths of the images were checked,
    /// and parts share neither pixels nor panels.
    #[inline(always)]
    unsafe fn of<A: Codes, F: Form<A>>(&self, arch: A, form: F, weights: (&Panel, &[u32])) {
        for layer in self.layers {
            // SAFETY: as this function's.
            unsafe {
                if self.are_few::<A>() {
                    layer.run_one_by_one(arch, form, weights, self.pixels.clone());
                } else {
                    layer.run(arch, form, weights, self.pixels.clone());
                }
            }
        }
    }

    /// Whether the tiles of a panel end between the products of the next ones.
    #[inline(always)]
    fn overlaps<A: Codes>(&self, panel: &Panel) -> bool {
        self.conv.overlaps && overlap::takes::<A>(panel, self.pixels.len())
    }

    /// Whether there are fewer pixels than a tile has.
    #[inline(always)]
    fn are_few<A: Codes>(&self) -> bool {
        self.pixels.len() < self.layers[0].tile_pixels::<A>()
    }
}

/// A panel of bytes.
struct OfBytes<'a> {
    part: &'a Part<'a>,
    panel: &'a Panel,
    words: &'a [u32],
}

impl Task for OfBytes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Codes>(self, arch: A) {
        let Self { part, panel, words } = self;
        if part.overlaps::<A>(panel) {
            for layer in part.layers {
                let at = (panel, words, part.pixels.clone());
                // SAFETY: the words are the panel's bytes; the rest is as for [`Part::of`].
                unsafe { overlap::run(layer, arch, Int8, at) };
            }
            return;
        }
        // SAFETY: the words are the panel's bytes.
        unsafe { part.of(arch, Int8, (panel, words)) };
    }
}

/// A panel of indices of `BITS` bits.
struct OfIndices<'a, const BITS: usize> {
    part: &'a Part<'a>,
    panel: &'a Panel,
    words: &'a [u32],
    table: &'a Table,
}

impl<const BITS: usize> Task for OfIndices<'_, BITS> {
    type Output = ();

    #[inline(always)]
    fn run<A: Codes>(self, arch: A) {
        let Self { part, panel, words, table } = self;
        let form = Indices::<_, BITS>::new(arch, table);
        let overlaps = part.overlaps::<A>(panel) && part.pixels.len() >= WORTH_UNPACKING;
        let beside = A::UNPACKS_BESIDE && part.conv.beside && !overlaps;
        if part.are_few::<A>() || beside {
            // SAFETY: the words are the panel's indices.
            return unsafe { part.of(arch, form, (panel, words)) };
        }
        let size = (panel.offsets.len(), panel.columns);
        let mut weights = borrow_panel(size.0 * size.1);
        unpack(arch, form, words, size, &mut weights);
        arch.apart(OfBytes { part, panel, words: &weights });
        give_back_panel(weights);
    }
}

/// Words of the inner dimension that are measured.
const TRIAL_WORDS: usize = 32;

/// Tiles that are measured: some 20 us.
const TRIAL_TILES: usize = 40;

/// Channels of the layer whose tiles are measured with and without overlap.
const TRIAL_CHANNELS: usize = 32;

/// Its height and width.
const TRIAL_SIZE: usize = 32;

/// How often it runs: some 20 us.
const TRIAL_RUNS: usize = 3;

/// Longer than with weights that are bytes, when unpacking is called free.
const FREE: f64 = 1.1;

/// Whether weights can be unpacked between the products of a tile in no more time, as units are idle beside those that multiply.
fn unpacks_beside(isa: Isa) -> bool {
    static MEASURED: OnceLock<bool> = OnceLock::new();
    let measure = || {
        let time = |packed| isa.dispatch(Trial { packed });
        let [packed, bytes] = least_seconds([&|| time(true), &|| time(false)]);
        packed <= FREE * bytes
    };
    // A tier of too few registers must not decide for the others.
    isa.dispatch(HasRegisters)[0] && *MEASURED.get_or_init(measure)
}

/// Whether a tier has registers to unpack weights between products, and to end a tile there.
struct HasRegisters;

impl Task for HasRegisters {
    type Output = [bool; 2];

    #[inline(always)]
    fn run<A: Codes>(self, _: A) -> [bool; 2] {
        [A::UNPACKS_BESIDE, A::OVERLAPS]
    }
}

/// Whether this CPU is faster where tiles end between the products of the next ones, as units are idle beside those that multiply.
fn overlaps(isa: Isa) -> bool {
    static MEASURED: OnceLock<bool> = OnceLock::new();
    let measure = || {
        let input = ImageLayout::new(TRIAL_SIZE, TRIAL_SIZE, TRIAL_CHANNELS, [0; 4]);
        let output = input;
        let ([kernel, strides, dilations], pads) = ([[1; 2]; 3], [0; 2]);
        let spec = ConvSpec { input, output, kernel, strides, dilations, pads, groups: 1 };
        let (bias, multipliers) = (vec![0; TRIAL_CHANNELS], vec![1.0; TRIAL_CHANNELS]);
        let requantize = Requantize { bias, multipliers, zero_point: 0, low: 0, high: u8::MAX };
        let finish = Finish::Codes { requantize, table: None, add: None };
        let (weights, x) = (vec![0; spec.weight_len()], vec![0; spec.input.len()]);
        let out = RefCell::new(vec![0; spec.output.len()]);
        let pool = Pool::new(1);
        let form = (&weights[..], WeightForm::Int8);
        let mut conv = Conv::apart(isa.vectors(), spec, form, 0, finish);
        let apart = conv.clone();
        conv.overlaps = true;
        let run = |conv: &Conv| {
            for _ in 0..TRIAL_RUNS {
                conv.run(&x, None, &mut out.borrow_mut(), &pool);
            }
        };
        let [overlapped, apart] = least_seconds([&|| run(&conv), &|| run(&apart)]);
        overlapped <= apart
    };
    isa.dispatch(HasRegisters)[1] && *MEASURED.get_or_init(measure)
}

/// Tiles of products with indices of 4 bits, or with bytes, where the tier has registers for the former.
struct Trial {
    packed: bool,
}

impl Task for Trial {
    type Output = ();

    #[inline(always)]
    fn run<A: Codes>(self, arch: A) {
        if !A::UNPACKS_BESIDE {
            return;
        }
        let weights = Words::zeros(TRIAL_WORDS * 2 * A::LANES);
        let offsets: [u32; TRIAL_WORDS] = from_fn(|word| 4 * word as u32);
        let (x, form) = ([weights.as_ptr().cast(); 7], Indices::<_, 4>::new(arch, &Table::EMPTY));
        let from = (weights.as_ptr(), weights.as_ptr().cast());
        for _ in 0..TRIAL_TILES {
            // SAFETY: offsets, weights and biases end with the words.
            unsafe {
                if self.packed {
                    black_box(sums::<A, _, 7, 2, 1>(arch, form, x, &offsets, from));
                } else {
                    black_box(sums::<A, _, 7, 2, 1>(arch, Int8, x, &offsets, from));
                }
            }
        }
    }
}

/// A part on the matrix unit.
#[cfg(target_arch = "x86_64")]
struct OnTiles<'a> {
    part: Part<'a>,
    tiling: &'a Tiling,
}

#[cfg(target_arch = "x86_64")]
impl Task for OnTiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Codes>(self, arch: A) {
        let Part { conv, layers, panels, pixels } = self.part;
        let room = match conv.kept {
            Kept::Bytes => 0,
            // The first panel is as wide as any.
            _ => conv.panels.list[0].offsets.len() * conv.panels.list[0].columns,
        };
        let (mut unpacked, mut sums) = (borrow_panel(room), amx::Room::new());
        self.tiling.configure();
        for panel in &conv.panels.list[panels] {
            let packed = &conv.panels.words[panel.words..];
            let size = (panel.offsets.len(), panel.columns);
            let weights = conv.kept.words(arch, packed, size, &mut unpacked);
            for layer in layers {
                let part = (pixels.clone(), &mut sums);
                // SAFETY: the images' lengths were checked, parts share neither pixels nor panels, and the tiling is this layer's.
                unsafe { self.tiling.run(arch, layer, (panel, weights), part) };
            }
        }
        amx::release();
        give_back_panel(unpacked);
    }
}

/// The lanes of a tier, two vectors across.
fn tile_of(isa: Isa) -> TileShape {
    struct Shape;
    impl Task for Shape {
        type Output = TileShape;

        #[inline(always)]
        fn run<A: Arch>(self, _: A) -> TileShape {
            TileShape { rows: A::ROWS, lanes: A::LANES, vectors: 2 }
        }
    }
    isa.dispatch(Shape)
}

#[cfg(test)]
mod tests {
    use super::{Conv, Finish, Isa, WeightForm};
    use crate::nhwc::spec::samples::{noise, three_by_three};
    use crate::nhwc::{ConvSpec, ImageLayout, Pool, Requantize, ResidualAdd};

    /// Both ways are tested, whichever this CPU is faster with: with and without another image, in either order, with words that take
    /// one phase or two, panels of one vector and of two and such as are not full, rows that end inside a tile, and a last tile that
    /// overlaps the one before.
    #[test]
    fn tiles_that_end_between_products_or_after_give_the_same() {
        for (inputs, kernel, outputs, [height, width]) in [
            (16, 1, 32, [8, 8]),
            (24, 1, 48, [9, 11]),
            (32, 1, 16, [23, 3]),
            (36, 1, 112, [7, 13]),
            (20, 3, 72, [13, 9]),
            (64, 1, 40, [5, 27]),
        ] {
            let pads = kernel / 2;
            let input = ImageLayout::new(height, width, inputs, [pads; 4]);
            let output = ImageLayout::new(height, width, outputs, [0, 1, 2, 1]);
            let spec = three_by_three(input, output);
            let spec = ConvSpec { kernel: [kernel; 2], pads: [pads; 2], ..spec };
            let (x, other) = (noise(spec.input.len(), 7), noise(spec.output.len(), 3));
            let weights: Vec<i8> =
                noise(spec.weight_len(), 0).iter().map(|&byte| byte as i8).collect();
            for order in [None, Some(true), Some(false)] {
                let finish = codes_with(&spec, order);
                for isa in Isa::available() {
                    let form = (&weights[..], WeightForm::Int8);
                    let mut conv = Conv::new(isa, spec.clone(), form, 9, finish.clone());
                    let results = [true, false].map(|overlaps| {
                        conv.overlaps = overlaps;
                        let mut out = vec![0; spec.output.len()];
                        conv.run(&x, Some(&other), &mut out, &Pool::new(1));
                        out
                    });
                    assert!(results[0].iter().any(|&code| code > 20), "{}", isa.name());
                    assert_eq!(results[0], results[1], "{inputs} {outputs} {}", isa.name());
                }
            }
        }
    }

    /// Codes, or their sums with those of another image: the own ones first, or second.
    fn codes_with(spec: &ConvSpec, own_first: Option<bool>) -> Finish {
        let outputs = spec.output.channels;
        let (bias, multipliers) = (vec![100; outputs], vec![0.004; outputs]);
        let requantize = Requantize { bias, multipliers, zero_point: 10, low: 5, high: 250 };
        let (own_ratio, other_ratio, fixed) = (0.7, 0.6, 1.0);
        let (low, high, other) = (20, 240, spec.output);
        let add = own_first.map(|own_first| ResidualAdd {
            own_ratio,
            other_ratio,
            fixed,
            own_first,
            low,
            high,
            other,
        });
        Finish::Codes { requantize, table: None, add }
    }

    /// The way that this CPU is slower with is tested too.
    #[test]
    fn weights_unpacked_between_products_or_before_give_the_same() {
        for (size, outputs) in [(8, 40), (7, 32), (5, 16)] {
            let input = ImageLayout::new(size, size, 20, [1; 4]);
            let output = ImageLayout::new(size, size, outputs, [0; 4]);
            let spec = three_by_three(input, output);
            let x = noise(spec.input.len(), 7);
            for (form, values) in
                [(WeightForm::Table4, 16), (WeightForm::Table2, 4), (WeightForm::Table1, 2)]
            {
                let value = |byte: u8| (byte % values) as i8 - 1;
                let weights: Vec<i8> = noise(spec.weight_len(), 0).into_iter().map(value).collect();
                let finish = Finish::Float { bias: vec![3; outputs], scales: vec![1.0; outputs] };
                for isa in Isa::available() {
                    let mut conv =
                        Conv::new(isa, spec.clone(), (&weights, form), 9, finish.clone());
                    let results = [true, false].map(|beside| {
                        conv.beside = beside;
                        let mut out = vec![0.0; size * size * outputs];
                        conv.run_float(&x, &mut out, &Pool::new(1));
                        out
                    });
                    assert!(results[0].iter().any(|&sum| sum != 0.0), "{}", isa.name());
                    assert_eq!(results[0], results[1], "{form:?} {}", isa.name());
                }
            }
        }
    }
}
