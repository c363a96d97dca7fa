//! The Rust side of `checks/bench_ort.py`: does one job in a process of its own, so that its time and memory can be read.
//!
//! ```text
//! ort_bench float MODEL BATCH THREADS CxHxW whole|images
//!     for every number read from stdin, runs that many batches and prints the seconds: the batch as a whole, or its
//!     images on as many threads, as lowbit evaluates
//! ort_bench quantize MODEL OUT.onnx DATA PREPROCESS.toml IMAGES RANGES WEIGHTS
//!     calibrates, quantizes, exports and prints its peak memory in kilobytes
//! ```

use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

use lowbit::{Dataset, Float, Images, Model, Preprocess, Quantizer, RangeRule, Recipe, Split};
use lowbit_graph::{Session, Workspace};
use lowbit_tensor::{Rng, Tensor};
use rayon::prelude::*;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["float", model, batch, threads, shape, how] => {
            let threads: usize = threads.parse()?;
            rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
            float(model, (batch.parse()?, shape), (threads, *how == "whole"))
        }
        ["quantize", model, out, data, preprocess, images, ranges, weights] => {
            let preprocess = Preprocess::from_toml_file(preprocess)?;
            let data = Dataset::open(data)?;
            let split =
                if data.splits().contains(&Split::Train) { Split::Train } else { Split::All };
            let images = Images::new(data.split(split)?.first(images.parse()?), &preprocess);
            let (activations, weights) = (RangeRule::parse(ranges)?, Quantizer::preset(weights)?);
            let recipe = Recipe { activations, weights, ..Recipe::default() };
            let float = Float::load(model, Some(images.shape()?))?;
            let quantized =
                float.calibrate(&images, &recipe, &|_| {})?.quantize(&images, 0, &())?;
            quantized.export(out.as_ref())?;
            print_peak()
        }
        _ => Err("usage: see the head of this example".into()),
    }
}

/// What Linux says of this process. (The parent's rusage would count the parent's memory before exec.)
fn print_peak() -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.and_then(|rest| rest.split_whitespace().next());
    Ok(writeln!(std::io::stdout(), "{}", kilobytes.unwrap_or("0"))?)
}

fn float(
    model: &str,
    (batch, shape): (usize, &str),
    (threads, whole): (usize, bool),
) -> Result<()> {
    let dims: Vec<usize> =
        shape.split('x').map(str::parse).collect::<std::result::Result<_, _>>()?;
    let [a, b, c] = dims[..] else {
        return Err("a shape has three sizes".into());
    };
    let session = Session::new(&Model::load(model, Some([a, b, c]))?.graph)?;
    let mut rng = Rng::new(7);
    let inputs: Vec<Tensor> = (0..if whole { 1 } else { batch })
        .map(|_| {
            let n = if whole { batch } else { 1 };
            Tensor::new(
                [n, a, b, c],
                (0..n * a * b * c).map(|_| rng.normal()).collect::<Vec<f32>>(),
            )
        })
        .collect();
    // Slices of a batch share the threads among themselves; a single slice shares its work.
    let mut works: Vec<Workspace> = match (threads, batch) {
        (1, _) => vec![Workspace::serial()],
        (_, 1) => vec![Workspace::parallel()],
        _ => (0..threads).map(|_| Workspace::serial()).collect(),
    };
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let rounds: usize = line?.trim().parse()?;
        let start = Instant::now();
        for _ in 0..rounds {
            if whole {
                session.run_batch(&inputs[0], &mut works)?;
            } else {
                let one = |work: &mut Workspace, input: &Tensor| {
                    session.run(std::slice::from_ref(input), work).map(drop)
                };
                inputs.par_iter().try_for_each_init(Workspace::serial, one)?;
            }
        }
        writeln!(out, "{}", start.elapsed().as_secs_f64())?;
        out.flush()?;
    }
    Ok(())
}
