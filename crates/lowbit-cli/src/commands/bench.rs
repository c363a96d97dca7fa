//! `lowbit bench`: how fast a model runs here.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use lowbit::{BenchOptions, Benchmark, BitSerial, LayerTime, bench};

use crate::args::{Destination, Dims, GeneralArgs, parse_shape};
use crate::output;
use crate::table::{Align, render};
use crate::terminal::Terminal;

/// The arguments of `lowbit bench`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    /// The model
    model: PathBuf,
    /// Images a run; with more images than threads, each thread takes its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: u16,
    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// Show every layer: time, multiplications a second, share of what the CPU can do
    #[arg(long)]
    layers: bool,
    /// When layers with few bits of codes and weights run on bits: where this CPU is faster so, wherever they can, or never
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Faster)]
    bit_serial: When,
    /// The size of one image in the model's order of dimensions, where the file leaves it open: 3x224x224
    #[arg(long, value_name = "CxHxW", value_parser = parse_shape)]
    input: Option<Dims>,
    /// Write all figures as JSON; - for stdout
    #[arg(long, value_name = "FILE", value_parser = |text: &str| Ok::<_, String>(Destination::from(text)))]
    json: Option<Destination>,
    #[command(flatten)]
    general: GeneralArgs,
}

/// [`BitSerial`], by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum When {
    Faster,
    Always,
    Never,
}

const EXAMPLES: &str = "\
Times are of noise images, floats in and scores out. LOWBIT_ISA=portable|avx2|avxvnni|avx512|amx|neon|neondot forces a
tier of instructions.
Examples:
  lowbit bench net.int8.onnx
  lowbit bench net.int8.onnx --threads 1 --layers
  lowbit bench net.int8.onnx --batch 32 --json times.json";

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: Option<f64> = text.parse().ok();
    let fits = |seconds: &f64| (0.01..=600.0).contains(seconds);
    seconds.filter(fits).ok_or_else(|| "expected 0.01 to 600 seconds".to_owned())
}

/// Measures and prints.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    if let Some(path) = args.json.as_ref().and_then(Destination::file) {
        output::check(path)?;
    }
    let terminal = Terminal::new(&args.general, args.json.as_ref());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let options = BenchOptions {
        threads: args.general.threads.map_or(cores, usize::from),
        batch: args.batch.into(),
        time: Duration::from_secs_f64(args.seconds),
        bit_serial: match args.bit_serial {
            When::Faster => BitSerial::Faster,
            When::Always => BitSerial::Always,
            When::Never => BitSerial::Never,
        },
    };
    let measured = bench(&args.model, args.input.map(|dims| dims.0), &options)?;
    terminal.print(&summary(&measured));
    if args.layers {
        terminal.print(&layers(&measured));
    }
    if let Some(destination) = &args.json {
        output::write_json(destination, &measured)?;
    }
    Ok(())
}

fn summary(measured: &Benchmark) -> String {
    let Benchmark { milliseconds, load_milliseconds: [load, compile], .. } = measured;
    let [weights, activations] = measured.memory_bytes;
    let share = 100.0 * measured.gmacs / measured.peak_gmacs;
    let mib = |bytes: usize| format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20));
    let threads = if measured.threads == 1 { "thread" } else { "threads" };
    let rows = [
        (
            "machine",
            format!(
                "{}, {}, {} {threads}",
                measured.cpu.as_deref().unwrap_or("unknown CPU"),
                measured.isa,
                measured.threads
            ),
        ),
        (
            "time",
            format!(
                "{:.3} ms a run of {} (p10 {:.3}, p90 {:.3}; {} runs)",
                milliseconds.median,
                measured.batch,
                milliseconds.p10,
                milliseconds.p90,
                measured.runs
            ),
        ),
        ("throughput", format!("{:.1} images/s", measured.images_per_second)),
        (
            "arithmetic",
            format!(
                "{:.1} GMAC/s, {share:.0} % of the peak of 8-bit products, {:.0} GMAC/s{}",
                measured.gmacs,
                measured.peak_gmacs,
                measured
                    .peak_sign_gmacs
                    .map_or_else(String::new, |peak| format!("; of signs {peak:.0}"))
            ),
        ),
        ("load", format!("{load:.0} ms to read, {compile:.0} ms to compile")),
        (
            "memory",
            format!(
                "weights and tables {}, activations {}{}",
                mib(weights),
                mib(activations),
                measured.peak_process_bytes.map_or_else(String::new, |peak| format!(
                    "; the process at most {}, file and graph included",
                    mib(peak)
                ))
            ),
        ),
    ];
    let mut text = format!("{}\n", measured.model);
    for (key, value) in rows {
        text += &format!("  {key:<11} {value}\n");
    }
    text
}

fn layers(measured: &Benchmark) -> String {
    if measured.layers.is_empty() {
        return "Layers are timed on one image a run.\n".to_owned();
    }
    let total: f64 = measured.layers.iter().map(|layer| layer.microseconds).sum();
    let share = |layer: &LayerTime| match layer.share_of_peak {
        Some(share) if layer.macs > 0 => format!("{:.0}", 100.0 * share),
        _ => String::new(),
    };
    let row = |layer: &LayerTime| {
        let [height, width, channels] = layer.output;
        let dash = |shown: bool, text: String| if shown { text } else { String::new() };
        vec![
            layer.name.clone(),
            layer.kind.to_owned(),
            format!("{height}x{width}x{channels}"),
            format!("{:.1}", layer.microseconds),
            format!("{:.1}", 100.0 * layer.microseconds / total),
            dash(layer.macs > 0, format!("{:.1}", layer.gmacs)),
            share(layer),
            layer.kernel.unwrap_or_default().to_owned(),
        ]
    };
    let head = [
        ("layer", Align::Left),
        ("what", Align::Left),
        ("output", Align::Left),
        ("µs", Align::Right),
        ("% of time", Align::Right),
        ("GMAC/s", Align::Right),
        ("% of peak", Align::Right),
        ("kernel", Align::Left),
    ];
    render(&head, &measured.layers.iter().map(row).collect::<Vec<_>>())
}
