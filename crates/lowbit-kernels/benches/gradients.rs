//! GMAC/s of convolutions forward, packing included, and of their gradients, one thread.
//!
//! `cargo bench -p lowbit-kernels --bench gradients [-- BATCH]` prints for each layer the best of several timings.
//! `LOWBIT_ISA` forces a tier.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use lowbit_kernels::{
    Activation, ConvCall, ConvGeometry, ConvGradient, Isa, PackedConv, Parallel, Scratch,
};

/// A square convolution with SAME padding.
fn conv([inputs, outputs, groups]: [usize; 3], [size, kernel, stride]: [usize; 3]) -> ConvGeometry {
    ConvGeometry {
        channels_in: inputs,
        channels_out: outputs,
        input: [size; 2],
        kernel: [kernel; 2],
        strides: [stride; 2],
        dilations: [1; 2],
        pads: [kernel / 2; 4],
        groups,
    }
}

fn layers() -> Vec<ConvGeometry> {
    vec![
        conv([3, 16, 1], [32, 3, 1]),
        conv([16, 16, 1], [32, 3, 1]),
        conv([16, 32, 1], [32, 3, 2]),
        conv([32, 32, 1], [16, 3, 1]),
        conv([64, 64, 1], [8, 3, 1]),
        conv([96, 24, 1], [56, 1, 1]),
        conv([144, 144, 144], [56, 3, 1]),
        conv([144, 144, 144], [56, 3, 2]),
        conv([3, 32, 1], [224, 3, 2]),
        conv([384, 384, 1], [14, 1, 1]),
        conv([1152, 320, 1], [7, 1, 1]),
        conv([672, 672, 672], [14, 5, 1]),
    ]
}

/// The shortest of repeated runs, for about 300 ms.
fn best(mut run: impl FnMut()) -> Duration {
    run();
    let start = Instant::now();
    let mut best = Duration::MAX;
    while start.elapsed() < Duration::from_millis(300) {
        let begin = Instant::now();
        run();
        best = best.min(begin.elapsed());
    }
    best
}

/// Seconds of the run on packed weights, the packing, the gradient of the input, that of the weights.
fn times(g: &ConvGeometry, n: usize) -> [f64; 4] {
    let x = vec![0.5f32; n * g.input_len()];
    let weight = vec![0.25f32; g.weight_shape().iter().product()];
    let mut out = vec![0.0; n * g.output_len()];
    let grad = vec![0.125f32; n * g.output_len()];
    let (mut of_x, mut of_weight) = (x.clone(), weight.clone());
    let mut scratch = Scratch::new();
    let parallel = Parallel::Serial;
    let call = ConvCall { n, geometry: g, activation: Activation::Relu, parallel };
    let pack = || PackedConv::new(black_box(&weight), g.weight_shape(), None, g.groups);
    let packed = pack();
    let gradient = ConvGradient::new(n, g);
    [
        best(|| packed.run(black_box(&x), &call, &mut out, &mut scratch)),
        best(|| drop(black_box(pack()))),
        best(|| gradient.input(black_box(&grad), black_box(&weight), &mut of_x, &mut scratch)),
        best(|| gradient.weight(black_box(&x), black_box(&grad), &mut of_weight, &mut scratch)),
    ]
    .map(|time| time.as_secs_f64())
}

fn main() {
    let given = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let n = given.unwrap_or(16);
    println!("batch {n}, {}, GMAC/s", Isa::current().name());
    for g in layers() {
        let [run, pack, of_x, of_weight] = times(&g, n);
        let rate = |seconds: f64| (n * g.macs()) as f64 / seconds / 1e9;
        println!(
            "{:4} -> {:4} {k}x{k}/{} on {:3}, groups {:3}: forward {:5.1}, with packing {:5.1}, input {:5.1}, weight {:5.1}",
            g.channels_in,
            g.channels_out,
            g.strides[0],
            g.input[0],
            g.groups,
            rate(run),
            rate(run + pack),
            rate(of_x),
            rate(of_weight),
            k = g.kernel[0],
        );
    }
}
