//! GMAC/s of convolutions of codes, and their share of what the CPU can do, measured in the same run.
//!
//! `cargo bench -p lowbit-kernels --bench nhwc [-- WORD]` prints the layers whose name holds WORD, on one thread and on two.
//! The time is the least of many short runs. `LOWBIT_ISA` forces a tier.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use lowbit_kernels::Isa;
use lowbit_kernels::nhwc::{
    Arena, BitConv, BitFinish, Conv, ConvSpec, Depthwise, Finish, ImageLayout, Pool, Requantize,
    ResidualAdd, Thresholds, Values, WeightForm, peak_gmacs, peak_sign_gmacs,
};

/// How long a layer, or the peak, is measured at a time.
const BUDGET: Duration = Duration::from_millis(20);

/// How often a layer and the peak are measured, in turn.
const SLICES: usize = 8;

/// Name, input channels, output channels, size of the input, kernel, stride.
type Dense = (&'static str, usize, usize, usize, usize, usize);

const DENSE: &[Dense] = &[
    ("resnet20 first", 3, 16, 32, 3, 1),
    ("resnet20 16", 16, 16, 32, 3, 1),
    ("resnet20 16-32", 16, 32, 32, 3, 2),
    ("resnet20 32", 32, 32, 16, 3, 1),
    ("resnet20 64", 64, 64, 8, 3, 1),
    ("thin first", 3, 64, 224, 7, 2),
    ("thin 32-128 add", 32, 128, 56, 1, 1),
    ("thin 128-32", 128, 32, 56, 1, 1),
    ("thin 64-256 add", 64, 256, 28, 1, 1),
    ("thin 128-512 add", 128, 512, 14, 1, 1),
    ("thin 256-1024 add", 256, 1024, 7, 1, 1),
    ("resnet50 64", 64, 64, 56, 3, 1),
    ("resnet50 128", 128, 128, 28, 3, 1),
    ("resnet50 256", 256, 256, 14, 3, 1),
    ("resnet50 512", 512, 512, 7, 3, 1),
    ("lite0 first", 3, 32, 224, 3, 2),
    ("lite0 32-16", 32, 16, 112, 1, 1),
    ("lite0 16-96", 16, 96, 112, 1, 1),
    ("lite0 96-24", 96, 24, 56, 1, 1),
    ("lite0 24-144", 24, 144, 56, 1, 1),
    ("lite0 144-40", 144, 40, 28, 1, 1),
    ("lite0 40-240", 40, 240, 28, 1, 1),
    ("lite0 240-80", 240, 80, 14, 1, 1),
    ("lite0 80-480", 80, 480, 14, 1, 1),
    ("lite0 112-672", 112, 672, 14, 1, 1),
    ("lite0 672-192", 672, 192, 7, 1, 1),
    ("lite0 192-1152", 192, 1152, 7, 1, 1),
    ("lite0 1152-320", 1152, 320, 7, 1, 1),
    ("lite0 320-1280", 320, 1280, 7, 1, 1),
    ("lite0 classes", 1280, 1000, 1, 1, 1),
    ("gemv 4096", 4096, 4096, 1, 1, 1),
];

/// How weights are kept, what is said of it, and how many values they have.
const FORMS: &[(WeightForm, &str, i8)] =
    &[(WeightForm::Int8, "", 127), (WeightForm::Table4, " w4", 16), (WeightForm::Table2, " w2", 4)];

/// Name, channels, size of the input, kernel, stride.
type Each = (&'static str, usize, usize, usize, usize);

const DEPTHWISE: &[Each] = &[
    ("mobilenet 24 dw", 24, 112, 3, 1),
    ("mobilenet 48 dw s2", 48, 112, 3, 2),
    ("mobilenet 384 dw", 384, 14, 3, 1),
    ("lite0 32 dw", 32, 112, 3, 1),
    ("lite0 96 dw s2", 96, 112, 3, 2),
    ("lite0 144 dw", 144, 56, 3, 1),
    ("lite0 144 dw5 s2", 144, 56, 5, 2),
    ("lite0 240 dw5", 240, 28, 5, 1),
    ("lite0 480 dw", 480, 14, 3, 1),
    ("lite0 672 dw5", 672, 14, 5, 1),
    ("lite0 1152 dw5", 1152, 7, 5, 1),
];

fn main() {
    let word = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let wanted = |name: &str| word.as_ref().is_none_or(|word| name.contains(word.as_str()));
    let isa = Isa::current();
    let pools = [Pool::new(1), Pool::new(2)];
    println!(
        "{}; percentages are of the peak of products from registers: of bytes, or of signs",
        isa.name()
    );
    println!(
        "{:27} {:>9} {:>8} {:>6} {:>9} {:>8} {:>6}",
        "layer", "µs", "GMAC/s", "%", "µs x2", "GMAC/s", "%"
    );
    for &layer in DENSE.iter().filter(|layer| wanted(layer.0)) {
        let spec = dense(layer);
        let forms =
            if spec.macs() > 80_000_000 || spec.output.height == 1 { FORMS } else { &FORMS[..1] };
        for &(form, name, values) in forms {
            let all = noise(spec.weight_len()).into_iter();
            let weights: Vec<i8> = all.map(|w| w.rem_euclid(values) - values / 2).collect();
            let finish = if layer.0.ends_with("add") { added(&spec) } else { codes(&spec) };
            let conv = Conv::new(isa, spec.clone(), (&weights, form), 3, finish);
            let name = format!("{}{name}", layer.0);
            let other = vec![99; spec.output.len()];
            report((isa, peak_gmacs), &name, &spec, &pools, &|x, out, pool| {
                conv.run(x, Some(&other), out, pool);
            });
        }
    }
    for &layer in DENSE.iter().filter(|layer| layer.1 >= 64 && layer.4 == 3) {
        on_bits(isa, layer, &pools, &wanted);
    }
    for &(name, channels, size, kernel, stride) in DEPTHWISE.iter().filter(|layer| wanted(layer.0))
    {
        let mut spec = dense((name, channels, channels, size, kernel, stride));
        spec.groups = channels;
        let layer = Depthwise::new(isa, spec.clone(), &noise(spec.weight_len()), 3, codes(&spec));
        report((isa, peak_gmacs), name, &spec, &pools, &|x, out, pool| {
            layer.run(x, None, out, pool)
        });
    }
}

/// Convolutions of bits of the sizes of a dense layer.
fn on_bits(isa: Isa, layer: Dense, pools: &[Pool; 2], wanted: &dyn Fn(&str) -> bool) {
    let (name, channels, outputs, size, ..) = layer;
    for (values, ternary, kind) in KINDS {
        let name = format!("{name} bits {kind}");
        if !wanted(&name) {
            continue;
        }
        let mut spec = dense(layer);
        let planes = values.planes;
        spec.input = ImageLayout::bits([size, size, channels], planes, spec.input.border);
        let extent = spec.output.height;
        spec.output = ImageLayout::bits([extent, extent, outputs], planes, spec.output.border);
        let most = if planes == 1 { 1 } else { 3 };
        let all = noise(spec.weight_len()).into_iter();
        let weights: Vec<i8> = all
            .map(|w| match ternary {
                true => w.rem_euclid(3) - 1,
                false => w.rem_euclid(most + 1) * 2 - most,
            })
            .collect();
        let at_least = vec![vec![3; outputs]; (1 << planes) - 1];
        let thresholds = Thresholds { at_least, inverted: vec![false; outputs] };
        let finish = BitFinish::Bits(thresholds);
        let conv = BitConv::new(isa, spec.clone(), &weights, values, finish);
        report((isa, peak_sign_gmacs), &name, &spec, pools, &|x, out, pool| {
            conv.run(x, None, out, pool);
        });
    }
}

/// Values, whether weights are ternary, and what it is called: signs by signs, and codes of 2 bits.
const KINDS: [(Values, bool, &str); 4] = [
    (Values::SIGNS, false, "binary"),
    (Values::SIGNS, true, "ternary"),
    (TWO_BITS, true, "ternary a2"),
    (TWO_BITS, false, "w2a2"),
];
const TWO_BITS: Values = Values { planes: 2, step: 1, zero: 0 };

/// One run of a layer, from its input to its output.
type Run<'a> = dyn Fn(&[u8], &mut [u8], &Pool) + 'a;

/// Multiplications of one kind a second, at most.
type Peak = fn(Isa, &Pool, Duration) -> f64;

fn report(
    (isa, of_registers): (Isa, Peak),
    name: &str,
    spec: &ConvSpec,
    pools: &[Pool; 2],
    run: &Run<'_>,
) {
    let (mut x, mut out) = (Arena::new(spec.input.len()), Arena::new(spec.output.len()));
    x.fill(77);
    let columns: Vec<String> = pools
        .iter()
        .map(|pool| {
            // The clock moves from one moment to the next, so the peak is measured between runs of the layer.
            let (mut least, mut peak) = (Duration::MAX, 0f64);
            for _ in 0..SLICES {
                peak = peak.max(of_registers(isa, pool, BUDGET));
                least = least.min(least_time(|| run(black_box(&x), &mut out, pool)));
            }
            let gmacs = spec.macs() as f64 / least.as_secs_f64() / 1e9;
            let micros = least.as_secs_f64() * 1e6;
            format!("{micros:9.1} {gmacs:8.1} {:6.1}", 100.0 * gmacs / peak)
        })
        .collect();
    println!("{name:27} {}", columns.join(" "));
}

fn least_time(mut run: impl FnMut()) -> Duration {
    let begin = Instant::now();
    let mut least = Duration::MAX;
    while begin.elapsed() < BUDGET {
        let start = Instant::now();
        run();
        least = least.min(start.elapsed());
    }
    least
}

fn dense((_, inputs, outputs, size, kernel, stride): Dense) -> ConvSpec {
    let pad = usize::from(kernel > 1) * (kernel / 2);
    let border = [pad; 4];
    let extent = size.div_ceil(stride);
    ConvSpec {
        input: ImageLayout::new(size, size, inputs, border),
        output: ImageLayout::new(extent, extent, outputs, [1; 4]),
        kernel: [kernel; 2],
        strides: [stride; 2],
        dilations: [1; 2],
        pads: [pad; 2],
        groups: 1,
    }
}

fn codes(spec: &ConvSpec) -> Finish {
    let outputs = spec.output.channels;
    let requantize = Requantize {
        bias: vec![100; outputs],
        multipliers: vec![0.001; outputs],
        zero_point: 10,
        low: 10,
        high: 250,
    };
    Finish::Codes { requantize, table: None, add: None }
}

/// Codes of the sum with another image.
fn added(spec: &ConvSpec) -> Finish {
    let Finish::Codes { requantize, table, .. } = codes(spec) else { unreachable!() };
    let add = ResidualAdd {
        own_ratio: 0.7,
        other_ratio: 0.6,
        fixed: 1.0,
        own_first: true,
        low: 0,
        high: 255,
        other: spec.output,
    };
    Finish::Codes { requantize, table, add: Some(add) }
}

fn noise(len: usize) -> Vec<i8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as i8).collect()
}
