//! GMAC/s of the convolutions of ResNet-20, MobileNetV1 0.75, EfficientNet-Lite0 and open-nsfw, f32 and integer, one thread.
//!
//! `cargo bench -p lowbit-kernels --bench layers [-- NET [BATCH]]` prints for each layer the best of several timings,
//! and for each network the time of all layers for one image. `LOWBIT_ISA` forces a tier.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use lowbit_kernels::{
    Activation, ConvCall, ConvGeometry, IntSlice, Isa, PackedConv, PackedQConv, Parallel,
    QConvCall, Scratch,
};

/// A layer and how often the network has it.
struct Layer {
    geometry: ConvGeometry,
    count: usize,
}

fn conv(channels: [usize; 2], size: usize, kernel: usize, stride: usize, count: usize) -> Layer {
    let total = kernel.saturating_sub(if size.is_multiple_of(stride) { stride } else { 1 });
    let (before, after) = (total / 2, total - total / 2);
    let geometry = ConvGeometry {
        channels_in: channels[0],
        channels_out: channels[1],
        input: [size; 2],
        kernel: [kernel; 2],
        strides: [stride; 2],
        dilations: [1; 2],
        pads: [before, before, after, after],
        groups: 1,
    };
    Layer { geometry, count }
}

fn depthwise(channels: usize, size: usize, kernel: usize, stride: usize, count: usize) -> Layer {
    let mut layer = conv([channels; 2], size, kernel, stride, count);
    layer.geometry.groups = channels;
    layer
}

fn resnet20() -> Vec<Layer> {
    vec![
        conv([3, 16], 32, 3, 1, 1),
        conv([16, 16], 32, 3, 1, 6),
        conv([16, 32], 32, 3, 2, 1),
        conv([16, 32], 32, 1, 2, 1),
        conv([32, 32], 16, 3, 1, 5),
        conv([32, 64], 16, 3, 2, 1),
        conv([32, 64], 16, 1, 2, 1),
        conv([64, 64], 8, 3, 1, 5),
    ]
}

fn mobilenet() -> Vec<Layer> {
    let mut layers = vec![conv([3, 24], 224, 3, 2, 1)];
    let blocks = [
        (24, 48, 112, 1, 1),
        (48, 96, 112, 2, 1),
        (96, 96, 56, 1, 1),
        (96, 192, 56, 2, 1),
        (192, 192, 28, 1, 1),
        (192, 384, 28, 2, 1),
        (384, 384, 14, 1, 5),
        (384, 768, 14, 2, 1),
        (768, 768, 7, 1, 1),
    ];
    for (inputs, outputs, size, stride, count) in blocks {
        layers.push(depthwise(inputs, size, 3, stride, count));
        layers.push(conv([inputs, outputs], size / stride, 1, 1, count));
    }
    layers
}

fn efficientnet() -> Vec<Layer> {
    let mut layers = vec![
        conv([3, 32], 224, 3, 2, 1),
        depthwise(32, 112, 3, 1, 1),
        conv([32, 16], 112, 1, 1, 1),
    ];
    let stages = [
        (16, 24, 112, 3, 2, 2),
        (24, 40, 56, 5, 2, 2),
        (40, 80, 28, 3, 2, 3),
        (80, 112, 14, 5, 1, 3),
        (112, 192, 14, 5, 2, 4),
        (192, 320, 7, 3, 1, 1),
    ];
    for (inputs, outputs, size, kernel, stride, repeats) in stages {
        layers.push(conv([inputs, 6 * inputs], size, 1, 1, 1));
        layers.push(depthwise(6 * inputs, size, kernel, stride, 1));
        let size = size / stride;
        layers.push(conv([6 * inputs, outputs], size, 1, 1, 1));
        if repeats > 1 {
            layers.push(conv([outputs, 6 * outputs], size, 1, 1, repeats - 1));
            layers.push(depthwise(6 * outputs, size, kernel, 1, repeats - 1));
            layers.push(conv([6 * outputs, outputs], size, 1, 1, repeats - 1));
        }
    }
    layers.push(conv([320, 1280], 7, 1, 1, 1));
    layers
}

/// The thin ResNet-50 of open-nsfw.
fn open_nsfw() -> Vec<Layer> {
    let mut layers = vec![conv([3, 64], 224, 7, 2, 1)];
    let stages =
        [(64, 32, 56, 1, 3), (128, 64, 56, 2, 4), (256, 128, 28, 2, 6), (512, 256, 14, 2, 3)];
    for (inputs, inner, size, stride, repeats) in stages {
        let (outputs, small) = (4 * inner, size / stride);
        layers.push(conv([inputs, outputs], size, 1, stride, 1));
        layers.push(conv([inputs, inner], size, 1, stride, 1));
        layers.push(conv([inner, inner], small, 3, 1, repeats));
        layers.push(conv([inner, outputs], small, 1, 1, repeats));
        layers.push(conv([outputs, inner], small, 1, 1, repeats - 1));
    }
    layers
}

/// The shortest of repeated runs, for about 60 ms.
fn best(mut run: impl FnMut()) -> Duration {
    run();
    let start = Instant::now();
    let mut best = Duration::MAX;
    while start.elapsed() < Duration::from_millis(60) {
        let begin = Instant::now();
        run();
        best = best.min(begin.elapsed());
    }
    best
}

fn time_float(g: &ConvGeometry, n: usize) -> Duration {
    let x = vec![0.5f32; n * g.input_len()];
    let weight = vec![0.25f32; g.weight_shape().iter().product()];
    let bias = vec![0.125f32; g.channels_out];
    let packed = PackedConv::new(&weight, g.weight_shape(), Some(&bias), g.groups);
    let mut out = vec![0.0; n * g.output_len()];
    let mut scratch = Scratch::new();
    let call =
        ConvCall { n, geometry: g, activation: Activation::Relu, parallel: Parallel::Serial };
    best(|| packed.run(black_box(&x), &call, black_box(&mut out), &mut scratch))
}

fn time_int(g: &ConvGeometry, n: usize) -> Duration {
    let x = vec![100u8; n * g.input_len()];
    let weight = vec![3i8; g.weight_shape().iter().product()];
    let packed = PackedQConv::new(IntSlice::I8(&weight), g.weight_shape(), &[0], g.groups);
    let mut out = vec![0; n * g.output_len()];
    let mut scratch = Scratch::new();
    let call = QConvCall { n, geometry: g, x_zero_point: 128, parallel: Parallel::Serial };
    best(|| packed.run(IntSlice::U8(black_box(&x)), &call, black_box(&mut out), &mut scratch))
}

fn report(name: &str, layers: &[Layer], n: usize) {
    println!("{name}, batch {n}, {}", Isa::current().name());
    let mut total = [Duration::ZERO; 2];
    let mut macs = 0;
    for Layer { geometry: g, count } in layers {
        let times = [time_float(g, n), time_int(g, n)];
        let rate = times.map(|time| (n * g.macs()) as f64 / time.as_secs_f64() / 1e9);
        let kind = if g.groups > 1 { "depthwise" } else { "dense" };
        println!(
            "{kind:>9} {:4} -> {:4} {k}x{k}/{} on {:3}: f32 {:5.1} GMAC/s, int {:5.1} GMAC/s, {:6.0} us x {count}",
            g.channels_in,
            g.channels_out,
            g.strides[0],
            g.input[0],
            rate[0],
            rate[1],
            times[0].as_secs_f64() * 1e6 / n as f64,
            k = g.kernel[0],
        );
        (0..2).for_each(|i| total[i] += times[i] * *count as u32 / n as u32);
        macs += g.macs() * count;
    }
    let [float, int] = total.map(|time| time.as_secs_f64() * 1e3);
    println!(
        "all layers, one image: {} MMAC, f32 {float:.3} ms, int {int:.3} ms\n",
        macs / 1_000_000
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let n = arguments.get(1).and_then(|n| n.parse().ok()).unwrap_or(1);
    for (name, layers) in [
        ("resnet20", resnet20()),
        ("mobilenet", mobilenet()),
        ("efficientnet", efficientnet()),
        ("open-nsfw", open_nsfw()),
    ] {
        if arguments.first().is_none_or(|wanted| name.starts_with(wanted.as_str())) {
            report(name, &layers, n);
        }
    }
}
