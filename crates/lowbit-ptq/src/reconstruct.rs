//! Learns roundings, biases and step sizes so that each part of the network keeps its output, on images without labels.
//!
//! ```text
//! for each unit (layer, block, network), in order:
//!     inputs  = what the unit reads in the quantized network so far
//!     targets = what it makes in the float network
//!     repeat: pick a batch; run the unit with soft weights; step against the gradient of |output - target|²
//!     write the hard weights
//! ```
//!
//! The gradients are those of the graph itself. A batch is always cut into the same shards, whose gradients are summed in order: the
//! result does not depend on the number of threads.

mod adam;
mod augment;
mod capture;
mod fisher;
mod loss;
mod settings;
mod skips;
mod trainee;
mod training;
mod units;

use lowbit_graph::{Graph, Input, Session, ValueId, Workspace};
use lowbit_tensor::{DType, Rng};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Progress, PtqError, QuantizedGraph, Samples};
pub(crate) use adam::Adam;
use capture::{Pairs, capture};
use loss::{Goal, Loss};
pub use settings::{Algorithm, Reconstruction, Variable};
use skips::Skips;
pub(crate) use trainee::StepSize;
use trainee::Trainee;
use training::{Source, Training};
pub use units::Scope;
use units::{Unit, scores, units};

/// How one unit went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnitReport {
    /// Its last layer.
    pub name: String,
    /// Mean squared error per element before and after, weighted where the step's `fisher` says so; of a network the divergence of its scores per image.
    pub error: [f64; 2],
    /// Images used.
    pub images: usize,
}

/// Shards of a batch: as many threads can share a step.
const SHARDS: usize = 4;

/// Reconstructs every unit. `progress` hears of every iteration.
///
/// # Errors
/// `Sample` or `Graph` when an image cannot be read or run, `Value` when training diverges.
pub fn reconstruct(
    float: &Graph,
    quantized: &QuantizedGraph,
    samples: &dyn Samples,
    settings: &Reconstruction,
    progress: Progress<'_>,
) -> Result<(QuantizedGraph, Vec<UnitReport>), PtqError> {
    let mut quantized = quantized.clone();
    let mut reports = vec![];
    for (i, unit) in units(float, &quantized, settings.scope).into_iter().enumerate() {
        let mut rng = Rng::new(settings.seed ^ (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (learned, report) = match settings.scope {
            Scope::Layer | Scope::Block => {
                let pairs = capture((float, &quantized), &unit, samples, settings)?;
                unit_by_outputs(&quantized, (unit, &pairs), (settings, &mut rng), progress)?
            }
            Scope::Network => {
                let data = (float, samples);
                network(&quantized, (unit, data), (settings, &mut rng), progress)?
            }
        };
        quantized = learned;
        reports.push(report);
    }
    Ok((quantized, reports))
}

/// Keeps the output of one layer or block.
fn unit_by_outputs(
    quantized: &QuantizedGraph,
    (unit, pairs): (Unit, &Pairs),
    (settings, rng): (&Reconstruction, &mut Rng),
    progress: Progress<'_>,
) -> Result<(QuantizedGraph, UnitReport), PtqError> {
    let start = unit_error(quantized, &unit, pairs)?;
    let mut bare = part(quantized, &unit, &pairs.inputs.shape);
    let trainee = Trainee::new(quantized, &unit, &bare, settings);
    let skips = match settings.drop > 0.0 {
        true => Skips::insert(quantized, &mut bare, &pairs.inputs.shape)?,
        false => Skips::default(),
    };
    // The loss starts at the number of weights, so that learning rates and the pull mean the same for every unit.
    let count: usize = unit.weights.iter().map(|&i| quantized.weights[i].target.len()).sum();
    let per_batch = settings.batch.min(pairs.images) * pairs.targets.per_image();
    let weight = (count as f64 / (start.max(f64::MIN_POSITIVE) * per_batch as f64)) as f32;
    let source = (Source::Captured { pairs, skips }, vec![Loss::Squared { weight }]);
    let training = Training::new(quantized, &bare, trainee, source, settings)?;
    let learned = training.run(rng, progress)?;
    let end = unit_error(&learned, &unit, pairs)?;
    Ok(not_worse(quantized, learned, ([start, end], unit.name, pairs.images)))
}

/// Keeps the scores of the whole network, and what its blocks make.
fn network(
    quantized: &QuantizedGraph,
    (unit, (float, samples)): (Unit, (&Graph, &dyn Samples)),
    (settings, rng): (&Reconstruction, &mut Rng),
    progress: Progress<'_>,
) -> Result<(QuantizedGraph, UnitReport), PtqError> {
    let scores = scores(float);
    let blocks = units(float, quantized, Scope::Block).into_iter().map(|block| block.output);
    let mut watched: Vec<ValueId> =
        blocks.filter(|value| quantized.site(*value).is_some() && *value != scores).collect();
    // Each shard divides by its own power.
    let parts = shards(quantized, settings.batch) * watched.len().max(1);
    let share = settings.features / parts as f32;
    let mut losses = vec![Loss::Relative { weight: share }; watched.len()];
    let weight = 1.0 / settings.batch.min(samples.len()) as f32;
    losses.push(Loss::Divergence { weight });
    watched.push(scores);
    let outputs: Vec<ValueId> = watched.iter().map(|&value| quantized.seen(value)).collect();
    let bare = quantized.graph.between(quantized.graph.inputs.clone(), outputs);
    let trainee = Trainee::new(quantized, &unit, &bare, settings);
    let teacher = Box::new(Session::new(&float.between(float.inputs.clone(), watched.clone()))?);
    let source = Source::Images { samples, teacher, watched };
    let training = Training::new(quantized, &bare, trainee, (source, losses), settings)?;
    let learned = training.run(rng, progress)?;
    let start = divergence(quantized, (float, scores), samples)?;
    let end = divergence(&learned, (float, scores), samples)?;
    Ok(not_worse(quantized, learned, ([start, end], unit.name, samples.len())))
}

/// What was learned, unless its error is the larger one: an algorithm may not leave a unit worse than it found it.
fn not_worse(
    before: &QuantizedGraph,
    learned: QuantizedGraph,
    ([start, end], name, images): ([f64; 2], String, usize),
) -> (QuantizedGraph, UnitReport) {
    let kept = if end <= start { learned } else { before.clone() };
    (kept, UnitReport { name, error: [start, end.min(start)], images })
}

/// Mean divergence of the scores from the float network's, over images as they are.
fn divergence(
    quantized: &QuantizedGraph,
    (float, scores): (&Graph, ValueId),
    samples: &dyn Samples,
) -> Result<f64, PtqError> {
    let outputs = vec![quantized.seen(scores)];
    let student = Session::new(&quantized.graph.between(quantized.graph.inputs.clone(), outputs))?;
    let teacher = Session::new(&float.between(float.inputs.clone(), vec![scores]))?;
    let images = samples.len().min(ERROR_IMAGES);
    let one = |i: usize| -> Result<f64, PtqError> {
        let index = i * samples.len() / images;
        let image = samples.get(index).map_err(|source| PtqError::Sample { index, source })?;
        let mut work = Workspace::serial();
        let target = teacher.run(std::slice::from_ref(&image), &mut work)?.swap_remove(0);
        let goal = Goal::plain(target);
        let made = student.run(&[image], &mut work)?.swap_remove(0);
        Ok(Loss::Divergence { weight: 1.0 }.gradient(&made, &goal).0)
    };
    let each = (0..images).into_par_iter().map(one).collect::<Result<Vec<f64>, PtqError>>()?;
    Ok(each.iter().sum::<f64>() / images.max(1) as f64)
}

/// How many shards a batch is cut into: one an image where the model takes one image at a time.
fn shards(quantized: &QuantizedGraph, batch: usize) -> usize {
    if takes_one_image(quantized) { batch } else { SHARDS }
}

/// Whether the model's batch is written into its file, and so perhaps into the shapes inside it.
fn takes_one_image(quantized: &QuantizedGraph) -> bool {
    quantized.graph.inputs[0].dims.first().is_some_and(Option::is_some)
}

/// Number of iterations [`reconstruct`] will report.
#[must_use]
pub fn iterations(float: &Graph, quantized: &QuantizedGraph, settings: &Reconstruction) -> usize {
    units(float, quantized, settings.scope).len() * settings.iterations
}

/// The part of the quantized graph that is the unit, reading images of `shape`.
fn part(quantized: &QuantizedGraph, unit: &Unit, shape: &[usize]) -> Graph {
    let dims = std::iter::once(None).chain(shape[1..].iter().map(|&d| Some(d))).collect();
    let fed = Input { value: quantized.seen(unit.input), dtype: DType::F32, dims };
    quantized.graph.between(vec![fed], vec![quantized.seen(unit.output)])
}

/// Mean squared error per element of the unit with its hard weights, over the first images.
fn unit_error(quantized: &QuantizedGraph, unit: &Unit, pairs: &Pairs) -> Result<f64, PtqError> {
    let session = Session::new(&part(quantized, unit, &pairs.inputs.shape))?;
    let images = pairs.images.min(ERROR_IMAGES);
    let batch = if takes_one_image(quantized) { 1 } else { ERROR_BATCH };
    let batches: Vec<Vec<usize>> =
        (0..images).collect::<Vec<_>>().chunks(batch).map(<[usize]>::to_vec).collect();
    let sums: Vec<f64> = batches
        .par_iter()
        .map(|batch| {
            let mut work = Workspace::serial();
            let made = session.run(&[pairs.inputs.batch(batch)], &mut work)?;
            Ok(pairs.goal(batch).squared_error(&made[0]))
        })
        .collect::<Result<_, PtqError>>()?;
    let count = images * pairs.targets.per_image();
    Ok(sums.iter().sum::<f64>() / count.max(1) as f64)
}

/// Images on which a unit's error is measured.
const ERROR_IMAGES: usize = 256;
/// Images that run together then, where the model takes more than one.
const ERROR_BATCH: usize = 8;

#[cfg(test)]
mod tests;
