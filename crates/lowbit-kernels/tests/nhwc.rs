//! Convolutions of codes of every tier against their definition, on random shapes, with images that begin or end where memory does.

use lowbit_kernels::Isa;
use lowbit_kernels::nhwc::{
    Arena, BitConv, BitFinish, Conv, ConvSpec, Depthwise, Finish, ImageLayout, Operands, PackBits,
    Pool, Requantize, ResidualAdd, Thresholds, Values, WeightForm, naive,
};
use proptest::prelude::*;

/// Numbers in `0..=255` from a fixed linear recurrence; every fourth or so is an extreme.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            match state >> 61 {
                0 => 255,
                1 => 128,
                2 => 0,
                3 => 127,
                _ => (state >> 33) as u8,
            }
        })
        .collect()
}

/// A copy of some bytes beside pages that nobody may read or write: before its first byte, or behind its last.
#[cfg(unix)]
struct Fenced {
    map: *mut u8,
    mapped: usize,
    at: usize,
    len: usize,
}

#[cfg(unix)]
impl Fenced {
    /// Most seeds put the fence behind.
    fn new(bytes: &[u8], seed: u64) -> Self {
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let inner = bytes.len().next_multiple_of(page);
        let mapped = inner + 2 * page;
        let (private, open) =
            (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: new pages, of which the inner ones are opened.
        let map = unsafe {
            let map = libc::mmap(std::ptr::null_mut(), mapped, libc::PROT_NONE, private, -1, 0);
            assert!(map != libc::MAP_FAILED, "memory is mapped");
            assert!(libc::mprotect(map.byte_add(page), inner, open) == 0, "pages are opened");
            map.cast::<u8>()
        };
        let before = seed.is_multiple_of(3);
        let at = if before { page } else { page + inner - bytes.len() };
        let mut fenced = Self { map, mapped, at, len: bytes.len() };
        fenced.copy_from_slice(bytes);
        fenced
    }
}

#[cfg(unix)]
impl std::ops::Deref for Fenced {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: these bytes are mapped, open and zeroed by the system, for as long as `self`.
        unsafe { std::slice::from_raw_parts(self.map.add(self.at), self.len) }
    }
}

#[cfg(unix)]
impl std::ops::DerefMut for Fenced {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.map.add(self.at), self.len) }
    }
}

#[cfg(unix)]
impl Drop for Fenced {
    fn drop(&mut self) {
        // SAFETY: what `new` mapped, borrowed by nobody.
        unsafe { libc::munmap(self.map.cast(), self.mapped) };
    }
}

/// Where the system has no such call, tests are of the results alone.
#[cfg(not(unix))]
struct Fenced(Vec<u8>);

#[cfg(not(unix))]
impl Fenced {
    fn new(bytes: &[u8], _: u64) -> Self {
        Self(bytes.to_vec())
    }
}

#[cfg(not(unix))]
impl std::ops::Deref for Fenced {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

#[cfg(not(unix))]
impl std::ops::DerefMut for Fenced {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

/// What is drawn for one axis: kernel, stride, dilation, pad, border beyond the pads, extent of the result.
type Axis = (usize, usize, usize, usize, [usize; 2], usize);

fn axis(most: usize) -> impl Strategy<Value = Axis> {
    (1..=6usize, 1..=3usize, 1..=2usize, 0..=2usize, [0..=1usize, 0..=1usize], 1..=most)
}

/// Groups, input and output channels.
fn channels() -> impl Strategy<Value = (usize, usize, usize)> {
    prop_oneof![
        4 => (1..=130usize, 1..=130usize).prop_map(|(inputs, outputs)| (1, inputs, outputs)),
        1 => (2..=5usize, 1..=9usize, 1..=40usize).prop_map(|(g, i, o)| (g, g * i, g * o)),
    ]
}

fn spec(
    channels: impl Strategy<Value = (usize, usize, usize)>,
    most: usize,
) -> impl Strategy<Value = ConvSpec> {
    let rest = ([0..=1usize, 0..=1usize], prop::array::uniform4(0..=2usize));
    // Now and then a row is wider than any tile.
    let wide = prop_oneof![4 => axis(most), 1 => axis(3 * most)];
    (channels, axis(most), wide, rest).prop_map(
        |((groups, inputs, outputs), a, b, (extra, out_border))| {
            let extent = |(k, s, d, pad, _, o): Axis| {
                ((o - 1) * s + (k - 1) * d + 1).saturating_sub(pad).max(1)
            };
            let past = |axis: Axis, extent: usize| {
                let (k, s, d, pad, _, o) = axis;
                ((o - 1) * s + (k - 1) * d + 1).saturating_sub(pad + extent)
            };
            let (height, width) =
                (extent(a).saturating_sub(a.4[0]).max(1), extent(b).saturating_sub(b.4[0]).max(1));
            let border =
                [a.3 + extra[0], b.3, past(a, height) + a.4[1], past(b, width) + b.4[1] * extra[1]];
            let mut input = ImageLayout::new(height, width, inputs, border);
            input.pixel += 4 * (extra[0] * extra[1]);
            ConvSpec {
                input,
                output: ImageLayout::new(a.5, b.5, outputs, out_border),
                kernel: [a.0, b.0],
                strides: [a.1, b.1],
                dilations: [a.2, b.2],
                pads: [a.3, b.3],
                groups,
            }
        },
    )
}

/// One output a channel, kernels of up to 6, and sometimes several outputs a channel.
fn depthwise() -> impl Strategy<Value = ConvSpec> {
    let channels = prop_oneof![
        6 => (1..=130usize).prop_map(|channels| (channels, channels, channels)),
        1 => (1..=9usize, 2..=3usize).prop_map(|(channels, times)| (channels, channels, channels * times)),
    ];
    spec(channels, 12)
}

/// How a case finishes.
#[derive(Clone, Copy, Debug)]
struct Ending {
    zero_point: u8,
    bounds: [u8; 2],
    table: bool,
    /// Whether there is another image, and whether the own code is the first operand.
    add: Option<bool>,
    float: bool,
}

fn ending() -> impl Strategy<Value = Ending> {
    (any::<u8>(), any::<[u8; 2]>(), any::<[bool; 2]>(), any::<Option<bool>>(), 0..4u8).prop_map(
        |(zero_point, mut bounds, [table, clips], add, float)| {
            bounds.sort_unstable();
            let bounds = if clips { bounds } else { [0, 255] };
            Ending { zero_point, bounds, table, add, float: float == 0 }
        },
    )
}

fn finish(spec: &ConvSpec, ending: Ending, seed: u64) -> Finish {
    let outputs = spec.output.channels;
    let taps = spec.weight_len() / outputs;
    let bias: Vec<i32> =
        noise(outputs, seed ^ 1).iter().map(|&byte| (i32::from(byte) - 128) * 50).collect();
    let factors: Vec<f32> = noise(outputs, seed ^ 2)
        .iter()
        .map(|&byte| (f32::from(byte) + 1.0) / (3000.0 * (taps as f32).sqrt()))
        .collect();
    if ending.float {
        return Finish::Float { bias, scales: factors };
    }
    let [low, high] = ending.bounds;
    Finish::Codes {
        requantize: Requantize {
            bias,
            multipliers: factors,
            zero_point: ending.zero_point,
            low,
            high,
        },
        table: ending.table.then(|| {
            let table: [u8; 256] = noise(256, seed ^ 3).try_into().expect("256 entries");
            Box::new(table)
        }),
        add: ending.add.map(|own_first| ResidualAdd {
            own_ratio: 0.7131,
            other_ratio: 1.337,
            fixed: -33.25,
            own_first,
            low,
            high,
            other: other_layout(spec),
        }),
    }
}

/// The layout of the image that is added.
fn other_layout(spec: &ConvSpec) -> ImageLayout {
    let ImageLayout { height, width, channels, .. } = spec.output;
    let mut other = ImageLayout::new(height, width, channels, [1, 0, 0, 2]);
    other.pixel += 8;
    other
}

fn other_image(spec: &ConvSpec, seed: u64) -> Fenced {
    Fenced::new(&noise(other_layout(spec).len(), seed ^ 9), seed)
}

/// A layer, packed.
enum Layer {
    Conv(Box<Conv>),
    Depthwise(Depthwise),
}

impl Layer {
    fn name(&self) -> &'static str {
        match self {
            Self::Conv(layer) => layer.kernel_name(),
            Self::Depthwise(layer) => layer.kernel_name(),
        }
    }

    fn codes(&self, x: &[u8], other: &[u8], out: &mut [u8], pool: &Pool) {
        match self {
            Self::Conv(layer) => layer.run(x, Some(other), out, pool),
            Self::Depthwise(layer) => layer.run(x, Some(other), out, pool),
        }
    }

    fn floats(&self, x: &[u8], out: &mut [f32], pool: &Pool) {
        match self {
            Self::Conv(layer) => layer.run_float(x, out, pool),
            Self::Depthwise(layer) => layer.run_float(x, out, pool),
        }
    }
}

/// One of the values that a form has room for.
fn value(byte: u8, form: Option<WeightForm>) -> i8 {
    match form {
        None | Some(WeightForm::Int8) => byte as i8,
        Some(WeightForm::Table4) => {
            [-128, -91, -40, -20, -7, -3, -1, 0, 1, 2, 5, 9, 33, 64, 126, 127]
                [usize::from(byte % 16)]
        }
        Some(WeightForm::Table2) => [-128, 0, 1, 127][usize::from(byte % 4)],
        Some(WeightForm::Table1) => [-128, 127][usize::from(byte % 2)],
    }
}

/// Runs `spec` on every tier, on one and three threads, and compares with the definition. Without a form it is depthwise.
fn check(spec: &ConvSpec, ending: Ending, seed: u64, form: Option<WeightForm>) {
    let x = Fenced::new(&noise(spec.input.len(), seed), seed);
    let weights: Vec<i8> =
        noise(spec.weight_len(), seed ^ 7).into_iter().map(|byte| value(byte, form)).collect();
    let finish = finish(spec, ending, seed);
    let other = other_image(spec, seed);
    let zero_point = seed as u8;
    let sums = naive::sums(spec, &x, zero_point, &weights);
    for isa in Isa::available() {
        let (spec, finish) = (spec.clone(), finish.clone());
        let layer = match form {
            Some(form) => {
                let weights = (&weights[..], form);
                let conv = Conv::new(isa, spec.clone(), weights, zero_point, finish.clone());
                Layer::Conv(Box::new(conv))
            }
            None => Layer::Depthwise(Depthwise::new(
                isa,
                spec.clone(),
                &weights,
                zero_point,
                finish.clone(),
            )),
        };
        for threads in [1, 3] {
            let pool = Pool::new(threads);
            if ending.float {
                let expected = naive::floats(&spec, &sums, &finish);
                let mut out = vec![f32::NAN; expected.len()];
                layer.floats(&x, &mut out, &pool);
                assert_eq!(out, expected, "{} on {threads} threads", layer.name());
            } else {
                let mut expected = vec![77; spec.output.len()];
                naive::codes(&spec, &sums, &finish, Some(&other), &mut expected);
                let mut out = Fenced::new(&vec![77; spec.output.len()], seed);
                layer.codes(&x, &other, &mut out, &pool);
                let same = out[..] == expected;
                assert!(same, "{} on {threads} threads", layer.name());
            }
        }
        if let Layer::Conv(conv) = &layer {
            check_each(conv, ending, (&x, &other), seed);
        }
    }
}

/// Runs several images at once, more than meet one panel, and compares with each alone.
fn check_each(conv: &Conv, ending: Ending, (x, other): (&[u8], &[u8]), seed: u64) {
    const IMAGES: usize = 10;
    let (spec, pool) = (conv.spec(), Pool::new(1));
    let images: Vec<Fenced> = (0..IMAGES as u64)
        .map(|image| {
            let bytes: Vec<u8> = x.iter().map(|byte| byte.wrapping_mul(image as u8 | 1)).collect();
            Fenced::new(&bytes, seed)
        })
        .collect();
    let len = spec.output.height * spec.output.width * spec.output.channels;
    if ending.float {
        let mut each = vec![vec![f32::NAN; len]; IMAGES];
        let out = images.iter().zip(&mut each);
        conv.run_each_float(out.map(|(x, out)| Operands { x, other: None, out }));
        for (x, each) in images.iter().zip(each) {
            let mut alone = vec![f32::NAN; len];
            conv.run_float(x, &mut alone, &pool);
            assert_eq!(each, alone, "{}", conv.kernel_name());
        }
    } else {
        let mut each = vec![vec![77; spec.output.len()]; IMAGES];
        let out = images.iter().zip(&mut each);
        conv.run_each(out.map(|(x, out)| Operands { x, other: Some(other), out }));
        for (x, each) in images.iter().zip(each) {
            let mut alone = vec![77; spec.output.len()];
            conv.run(x, Some(other), &mut alone, &pool);
            assert!(each == alone, "{}", conv.kernel_name());
        }
    }
}

/// An image of bits from noise: clear in its border and beyond its channels.
fn bits(layout: &ImageLayout, planes: usize, seed: u64) -> Vec<u8> {
    let codes = ImageLayout::new(layout.height, layout.width, layout.channels, [0; 4]);
    let levels = (1 << planes) - 1;
    let at_least = (1..=levels).map(|level| vec![256 * level / (levels + 1); layout.channels]);
    let thresholds =
        Thresholds { at_least: at_least.collect(), inverted: vec![false; layout.channels] };
    let mut image = vec![0; layout.len()];
    let x = noise(codes.len(), seed);
    PackBits::new(Isa::Portable, &thresholds).run((&codes, &x), (layout, &mut image));
    image
}

/// Thresholds of so many planes for each channel, in their order; some are turned round.
fn thresholds(channels: usize, planes: usize, seed: u64, value: impl Fn(u8) -> i32) -> Thresholds {
    let levels = (1 << planes) - 1;
    let mut at_least = vec![Vec::new(); levels];
    for all in noise(channels * levels, seed ^ 5).chunks_exact(levels) {
        let mut all: Vec<i32> = all.iter().map(|&byte| value(byte)).collect();
        all.sort_unstable();
        at_least.iter_mut().zip(all).for_each(|(list, value)| list.push(value));
    }
    let inverted = noise(channels, seed ^ 6).into_iter().map(|byte| byte % 3 == 0).collect();
    Thresholds { at_least, inverted }
}

/// What convolutions of bits multiply: values, the planes and the shift of weights, and whether these have zeros.
type Bits = (Values, usize, u32, bool);

/// Runs a convolution of bits on every tier, on one and three threads, and compares with the definition.
fn check_bits(
    spec: &ConvSpec,
    ending: Result<Ending, usize>,
    seed: u64,
    (values, planes, shift, zeros): Bits,
) {
    let mut spec = spec.clone();
    let outputs = spec.output.channels;
    let ImageLayout { height, width, channels, border, .. } = spec.input;
    spec.input = ImageLayout::bits([height, width, channels], values.planes, border);
    if let Err(planes) = ending {
        let [height, width] = [spec.output.height, spec.output.width];
        spec.output = ImageLayout::bits([height, width, outputs], planes, spec.output.border);
    }
    let x = Fenced::new(&bits(&spec.input, values.planes, seed), seed);
    let levels = (1i32 << planes) - 1;
    let weight = |byte: u8| match zeros {
        true => i32::from(byte) % (2 * levels + 1) - levels,
        false => i32::from(byte) % (levels + 1) * 2 - levels,
    };
    let weights: Vec<i8> = noise(spec.weight_len(), seed ^ 7)
        .into_iter()
        .map(|byte| (weight(byte) << shift) as i8)
        .collect();
    let sums = naive::bit_sums(&spec, &x, &weights, values);
    let thresholds = thresholds(outputs, ending.err().unwrap_or(1), seed, |byte| {
        (i32::from(byte) / 8 - 16) << shift
    });
    let other = other_image(&spec, seed);
    let finish = ending.ok().map(|ending| (ending, finish(&spec, ending, seed)));
    for isa in Isa::available() {
        let how = match &finish {
            Some((_, finish)) => BitFinish::Sums(finish.clone()),
            None => BitFinish::Bits(thresholds.clone()),
        };
        let conv = BitConv::new(isa, spec.clone(), &weights, values, how);
        for threads in [1, 3] {
            let pool = Pool::new(threads);
            let mut expected = vec![77; spec.output.len()];
            let mut out = Fenced::new(&expected, seed);
            match &finish {
                Some((Ending { float: true, .. }, finish)) => {
                    let expected = naive::floats(&spec, &sums, finish);
                    let mut out = vec![f32::NAN; expected.len()];
                    conv.run_float(&x, &mut out, &pool);
                    assert_eq!(out, expected, "{} on {threads} threads", conv.kernel_name());
                    continue;
                }
                Some((_, finish)) => {
                    naive::codes(&spec, &sums, finish, Some(&other), &mut expected);
                }
                None => naive::bits(&spec, &sums, &thresholds, &mut expected),
            }
            conv.run(&x, Some(&other), &mut out, &pool);
            assert!(out[..] == expected, "{} on {threads} threads", conv.kernel_name());
        }
    }
}

/// Signs at a distance, or codes of few bits.
fn values() -> impl Strategy<Value = Values> {
    let signs =
        (0..=6u32).prop_map(|shift| Values { planes: 1, step: 2 << shift, zero: 1 << shift });
    let codes = (1..=4usize, 0..=15i32).prop_map(|(planes, zero)| Values {
        planes,
        step: 1,
        zero: zero % (1 << planes),
    });
    prop_oneof![signs, codes]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 200 } else { 2000 }))]

    #[test]
    fn dense_convolutions_equal_their_definition(
        spec in spec(channels(), 12), ending in ending(), seed in any::<u64>(),
    ) {
        check(&spec, ending, seed, Some(WeightForm::Int8));
    }

    #[test]
    fn convolutions_of_few_values_equal_their_definition(
        spec in spec(channels(), 9), ending in ending(), seed in any::<u64>(),
        form in prop::sample::select(vec![
            WeightForm::Table4, WeightForm::Table2, WeightForm::Table1,
        ]),
    ) {
        check(&spec, ending, seed, Some(form));
    }

    #[test]
    fn convolutions_of_bits_equal_their_definition(
        spec in spec((1..=130usize, 1..=130usize).prop_map(|(i, o)| (1, i, o)), 9),
        ending in prop_oneof![ending().prop_map(Ok), (1..=3usize).prop_map(Err)],
        seed in any::<u64>(), values in values(), planes in prop_oneof![Just(1), 1..=4usize],
        shift in 0..=6u32, zeros in any::<bool>(),
    ) {
        let shift = shift.min(7 - planes as u32);
        check_bits(&spec, ending, seed, (values, planes, shift, zeros));
    }

    #[test]
    fn bits_of_codes_count_the_thresholds_that_codes_reach(
        extent in [1..=3usize, 1..=5usize], channels in 1..=200usize, border in [0..=1usize, 0..=2usize],
        seed in any::<u64>(), planes in 1..=4usize,
    ) {
        let [height, width] = extent;
        let codes = ImageLayout::new(height, width, channels, [border[0], border[1], 0, 1]);
        let layout =
            ImageLayout::bits([height, width, channels], planes, [border[1], 1, border[0], 0]);
        let x = noise(codes.len(), seed);
        let thresholds = thresholds(channels, planes, seed, |byte| {
            [-5, 0, 256, 300].get(usize::from(byte / 4)).copied().unwrap_or(byte.into())
        });
        for isa in Isa::available() {
            let mut bits = vec![0x5a; layout.len()];
            PackBits::new(isa, &thresholds).run((&codes, &x), (&layout, &mut bits));
            for (y, column) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                let pixel = &bits[layout.at(y, column)..][..layout.pixel];
                for (channel, plane) in
                    (0..8 * layout.plane()).flat_map(|c| (0..planes).map(move |p| (c, p)))
                {
                    let byte = pixel[plane * layout.plane() + channel / 8];
                    let bit = byte >> (channel % 8) & 1 == 1;
                    let expected = channel < channels && {
                        let code = i32::from(x[codes.at(y, column) + channel]);
                        let reached = |list: &&Vec<i32>| code >= list[channel];
                        let count = thresholds.at_least.iter().filter(reached).count();
                        (count >> plane & 1 == 1) != thresholds.inverted[channel]
                    };
                    prop_assert_eq!(bit, expected, "{} channel {}", isa.name(), channel);
                }
            }
        }
    }

    #[test]
    fn depthwise_convolutions_equal_their_definition(
        spec in depthwise(), ending in ending(), seed in any::<u64>(),
    ) {
        check(&spec, ending, seed, None);
    }
}

#[test]
fn few_values_take_few_bits() {
    let image = ImageLayout::new(4, 4, 64, [1; 4]);
    let spec = ConvSpec {
        input: image,
        output: image,
        kernel: [3; 2],
        strides: [1; 2],
        dilations: [1; 2],
        pads: [1; 2],
        groups: 1,
    };
    let bytes = |form, odd: i8| {
        let mut weights: Vec<i8> =
            noise(spec.weight_len(), 5).into_iter().map(|byte| value(byte, Some(form))).collect();
        weights[0] = odd;
        let finish = Finish::Float { bias: vec![0; 64], scales: vec![1.0; 64] };
        Conv::new(Isa::Portable, spec.clone(), (&weights, form), 3, finish).weight_bytes()
    };
    let all = spec.weight_len();
    assert_eq!(bytes(WeightForm::Int8, 1), all);
    assert_eq!(bytes(WeightForm::Table4, 1), all / 2);
    assert_eq!(bytes(WeightForm::Table2, 1), all / 4);
    assert_eq!(bytes(WeightForm::Table1, 127), all / 8);
    // A value too many: the next wider form.
    assert_eq!(bytes(WeightForm::Table1, 5), all / 4);
    assert_eq!(bytes(WeightForm::Table2, 5), all / 2);
    assert_eq!(bytes(WeightForm::Table4, 4), all);
}

#[test]
fn arenas_hold_images() {
    let layout = ImageLayout::new(3, 5, 6, [1, 2, 1, 0]);
    let mut arena = Arena::new(layout.len());
    layout.fill_border(&mut arena, 9);
    for y in 0..3 {
        for x in 0..5 {
            assert!(arena[layout.at(y, x)..][..layout.pixel].iter().all(|&code| code == 0));
        }
    }
    let inside = 3 * 5 * layout.pixel;
    assert_eq!(arena.iter().filter(|&&code| code == 9).count(), layout.len() - inside);
}
