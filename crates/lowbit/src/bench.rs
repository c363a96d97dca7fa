//! How fast a model runs, in total and layer by layer.

use std::path::Path;
use std::time::{Duration, Instant};

use lowbit_kernels::Isa;
use lowbit_kernels::nhwc::{Pool, peak_gmacs, peak_sign_gmacs};
pub use lowbit_runtime::BitSerial;
use lowbit_runtime::{Factors, Network, Plan, StepInfo};
use serde::Serialize;

use crate::Error;
use crate::model::{InputShape, Model};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BenchOptions {
    /// Threads.
    pub threads: usize,
    /// Images a run.
    pub batch: usize,
    /// How long to measure; the runs before it, a tenth of that, do not count.
    pub time: Duration,
    /// When convolutions run on bits.
    pub bit_serial: BitSerial,
}

/// 10th percentile, median and 90th percentile.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// A tenth of the runs took less.
    pub p10: f64,
    /// Half of the runs took less.
    pub median: f64,
    /// A tenth of the runs took more.
    pub p90: f64,
}

impl Spread {
    /// Of values in any order.
    ///
    /// # Panics
    /// When there are none.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let at = |tenths: usize| values[(values.len() - 1) * tenths / 10];
        Spread { p10: at(1), median: at(5), p90: at(9) }
    }
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Benchmark {
    /// The file's name.
    pub model: String,
    /// The CPU's own name, where the system tells it.
    pub cpu: Option<String>,
    /// The tier of instructions.
    pub isa: &'static str,
    /// Threads.
    pub threads: usize,
    /// Images a run.
    pub batch: usize,
    /// Runs that count.
    pub runs: usize,
    /// Time of a run.
    pub milliseconds: Spread,
    /// Images a second at the median.
    pub images_per_second: f64,
    /// Reading the file and simplifying its graph; compiling it for this CPU.
    pub load_milliseconds: [f64; 2],
    /// Multiplications for one image.
    pub macs: usize,
    /// Multiplications a second at the median, in units of 10^9.
    pub gmacs: f64,
    /// What this CPU can do at most with 8-bit codes and these threads, measured in the same run.
    pub peak_gmacs: f64,
    /// The same with signs, for models that have layers of them.
    pub peak_sign_gmacs: Option<f64>,
    /// Bytes of packed weights with tables of codes, and of the activations of one image.
    pub memory_bytes: [usize; 2],
    /// The most memory the process ever had, where the system tells it.
    pub peak_process_bytes: Option<usize>,
    /// Steps of one image, for compiled models on one image a run.
    pub layers: Vec<LayerTime>,
}

/// One step.
#[derive(Clone, Debug, Serialize)]
pub struct LayerTime {
    /// The node it stems from.
    pub name: String,
    /// What it does.
    pub kind: &'static str,
    /// The kernel that runs, for convolutions and products.
    pub kernel: Option<&'static str>,
    /// Height, width and channels of its result.
    pub output: [usize; 3],
    /// Multiplications.
    pub macs: usize,
    /// Bytes of its packed weights, or tables of codes.
    pub weight_bytes: usize,
    /// Median time.
    pub microseconds: f64,
    /// Multiplications a second, in units of 10^9.
    pub gmacs: f64,
    /// Their part of what this CPU can do at most with such operands; `None` for floats, whose peak is not measured.
    pub share_of_peak: Option<f64>,
}

/// How long the peak of the CPU is measured.
const PEAK_TIME: Duration = Duration::from_millis(50);

/// Reads and compiles a model and measures it on images of noise. Islands run on one
/// thread.
///
/// # Errors
/// As [`Model::load`], and `Runtime` for a model that cannot be compiled.
pub fn bench(
    path: impl AsRef<Path>,
    shape: Option<InputShape>,
    options: &BenchOptions,
) -> Result<Benchmark, Error> {
    let path = path.as_ref();
    let started = Instant::now();
    let model = Model::load(path, shape)?;
    let loaded = started.elapsed();
    let started = Instant::now();
    let network = Network::new(&model.graph, &model.input_shape)?;
    let isa = Isa::current();
    let plan = Plan::choosing(&network, isa, options.bit_serial);
    let compiled = lowbit_runtime::Model::from(plan).with_threads(options.threads);
    let ready = started.elapsed();
    // What runs does not need them.
    drop((network, model));
    let input = noise(options.batch * compiled.input_len());
    let mut output = vec![0.0; options.batch * compiled.output_len()];
    let milliseconds = measure(options.time, || compiled.run_into(&input, &mut output))?;
    let runs = milliseconds.len();
    let spread = Spread::of(milliseconds);
    let plan = compiled.plan();
    let pool = Pool::new(options.threads);
    let peak = peak_gmacs(isa, &pool, PEAK_TIME);
    let bits = |step: &StepInfo| matches!(step.factors, Factors::Bits { .. });
    let signs = plan.steps().iter().any(bits);
    let peak_sign_gmacs = signs.then(|| peak_sign_gmacs(isa, &pool, PEAK_TIME));
    let peak_of = |factors| match factors {
        Factors::Codes => Some(peak),
        Factors::Bits { passes } => peak_sign_gmacs.map(|peak| peak / passes as f64),
        // Not measured.
        Factors::Floats => None,
    };
    let macs: usize = plan.steps().iter().map(|step| step.macs).sum();
    let per_second = options.batch as f64 / spread.median * 1e3;
    let layers =
        if options.batch == 1 { layers(&compiled, options, &input, peak_of) } else { vec![] };
    Ok(Benchmark {
        model: path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into()),
        cpu: cpu_name(),
        isa: isa.name(),
        threads: options.threads,
        batch: options.batch,
        runs,
        milliseconds: spread,
        images_per_second: per_second,
        load_milliseconds: [loaded, ready].map(|time| time.as_secs_f64() * 1e3),
        macs,
        gmacs: macs as f64 * per_second / 1e9,
        peak_gmacs: peak,
        peak_sign_gmacs,
        memory_bytes: [plan.weight_bytes(), plan.activation_bytes()],
        peak_process_bytes: peak_process_bytes(),
        layers,
    })
}

/// Milliseconds of runs for about `time`, at least five, after some that do not count.
fn measure<E>(time: Duration, mut run: impl FnMut() -> Result<(), E>) -> Result<Vec<f64>, E> {
    let warm = Instant::now();
    while warm.elapsed() < time / 10 {
        run()?;
    }
    let (begin, mut times) = (Instant::now(), vec![]);
    while begin.elapsed() < time || times.len() < 5 {
        let started = Instant::now();
        run()?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// Times every step; `peak_of` gives the most multiplications a second, in units of 10^9.
fn layers(
    model: &lowbit_runtime::Model,
    options: &BenchOptions,
    input: &[f32],
    peak_of: impl Fn(Factors) -> Option<f64>,
) -> Vec<LayerTime> {
    let plan = model.plan();
    let (mut memory, pool) = (plan.memory(), Pool::new(options.threads));
    let mut output = vec![0.0; plan.output_len()];
    let steps = plan.steps();
    let mut times: Vec<Vec<f64>> = vec![vec![]; steps.len()];
    let begin = Instant::now();
    while begin.elapsed() < options.time || times[0].len() < 5 {
        let mut last = Instant::now();
        plan.run_observed((input, &mut output), &mut memory, &pool, &mut |step| {
            let now = Instant::now();
            times[step].push((now - last).as_secs_f64() * 1e6);
            last = now;
        });
    }
    let layer = |(step, times): (StepInfo, Vec<f64>)| {
        let microseconds = Spread::of(times).median;
        let gmacs = step.macs as f64 / microseconds / 1e3;
        LayerTime {
            gmacs,
            share_of_peak: peak_of(step.factors).map(|peak| gmacs / peak),
            name: step.name,
            kind: step.kind,
            kernel: step.kernel,
            output: step.output,
            macs: step.macs,
            weight_bytes: step.weight_bytes,
            microseconds,
        }
    };
    steps.into_iter().zip(times).map(layer).collect()
}

/// Floats between -1 and 1, the same every time.
fn noise(len: usize) -> Vec<f32> {
    let mut rng = lowbit_tensor::Rng::new(0);
    (0..len).map(|_| rng.uniform() * 2.0 - 1.0).collect()
}

fn field(file: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn cpu_name() -> Option<String> {
    field("/proc/cpuinfo", "model name")
}

fn peak_process_bytes() -> Option<usize> {
    let kib = field("/proc/self/status", "VmHWM")?;
    Some(kib.split_whitespace().next()?.parse::<usize>().ok()? * 1024)
}
