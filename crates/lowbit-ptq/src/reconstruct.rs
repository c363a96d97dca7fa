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
mod loss;
mod settings;
mod trainee;
mod units;

use lowbit_graph::{Graph, Input, Session, ValueId, Workspace};
use lowbit_tensor::{DType, Rng, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Progress, PtqError, QuantizedGraph, Samples};
pub(crate) use adam::Adam;
use capture::{Pairs, as_quantized, capture};
use loss::Loss;
pub use settings::{Algorithm, Reconstruction, Variable};
pub(crate) use trainee::StepSize;
use trainee::Trainee;
pub use units::Scope;
use units::{Unit, scores, units};

/// How one unit went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnitReport {
    /// Its last layer.
    pub name: String,
    /// Mean squared error per element before and after, of a network the divergence of its scores per image.
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
                let data = (samples, settings.budget_bytes, settings.drop > 0.0);
                let pairs = capture(float, &quantized, &unit, data)?;
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
    let bare = part(quantized, &unit, &pairs.inputs.shape);
    let trainee = Trainee::new(quantized, &unit, &bare, settings);
    // The loss starts at the number of weights, so that learning rates and the pull mean the same for every unit.
    let count: usize = unit.weights.iter().map(|&i| quantized.weights[i].target.len()).sum();
    let per_batch = settings.batch.min(pairs.images) * pairs.targets.per_image();
    let weight = (count as f64 / (start.max(f64::MIN_POSITIVE) * per_batch as f64)) as f32;
    let source = (Source::Captured(pairs), vec![Loss::Squared { weight }]);
    let mut training = Training::new(quantized, &bare, trainee, source, settings)?;
    for iteration in 0..settings.iterations {
        training.iterate(rng, iteration)?;
        progress(1);
    }
    let mut learned = quantized.clone();
    training.trainee.write(&mut learned)?;
    let end = unit_error(&learned, &unit, pairs)?;
    // An algorithm may not leave a unit worse than it found it.
    let kept = if end <= start { learned } else { quantized.clone() };
    let error = [start, end.min(start)];
    Ok((kept, UnitReport { name: unit.name, error, images: pairs.images }))
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
    let mut training = Training::new(quantized, &bare, trainee, (source, losses), settings)?;
    for iteration in 0..settings.iterations {
        training.iterate(rng, iteration)?;
        progress(1);
    }
    let mut learned = quantized.clone();
    training.trainee.write(&mut learned)?;
    let start = divergence(quantized, (float, scores), samples)?;
    let end = divergence(&learned, (float, scores), samples)?;
    // An algorithm may not leave a network worse than it found it.
    let kept = if end <= start { learned } else { quantized.clone() };
    let error = [start, end.min(start)];
    Ok((kept, UnitReport { name: unit.name, error, images: samples.len() }))
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
        let made = student.run(&[image], &mut work)?.swap_remove(0);
        Ok(Loss::Divergence { weight: 1.0 }.gradient(&made, &target).0)
    };
    let each = (0..images).into_par_iter().map(one).collect::<Result<Vec<f64>, PtqError>>()?;
    Ok(each.iter().sum::<f64>() / images.max(1) as f64)
}

/// How many shards a batch is cut into: one an image where the model takes one image at a time, for shapes may then be written into it.
fn shards(quantized: &QuantizedGraph, batch: usize) -> usize {
    let batch_of_one = quantized.graph.inputs[0].dims.first().is_some_and(Option::is_some);
    if batch_of_one { batch } else { SHARDS }
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
    let batches: Vec<Vec<usize>> =
        (0..images).collect::<Vec<_>>().chunks(8).map(<[usize]>::to_vec).collect();
    let sums: Vec<f64> = batches
        .par_iter()
        .map(|batch| {
            let mut work = Workspace::serial();
            let made = session.run(&[pairs.inputs.batch(batch)], &mut work)?;
            let target = pairs.targets.batch(batch);
            let squares = made[0]
                .f32s()
                .iter()
                .zip(target.f32s())
                .map(|(y, t)| f64::from(y - t) * f64::from(y - t));
            Ok(squares.sum())
        })
        .collect::<Result<_, PtqError>>()?;
    let count = images * pairs.targets.per_image();
    Ok(sums.iter().sum::<f64>() / count.max(1) as f64)
}

/// Images on which a unit's error is measured.
const ERROR_IMAGES: usize = 256;

/// Where batches come from.
enum Source<'a> {
    /// What was captured at the unit's ends.
    Captured(&'a Pairs),
    /// Images, changed at random, and what the float network makes of them.
    Images { samples: &'a dyn Samples, teacher: Box<Session>, watched: Vec<ValueId> },
}

/// A part of a batch: what the unit reads, and what it should make.
struct Shard {
    input: Tensor,
    targets: Vec<Tensor>,
}

struct Training<'a> {
    quantized: &'a QuantizedGraph,
    source: Source<'a>,
    settings: &'a Reconstruction,
    session: Session,
    trainee: Trainee,
    outputs: Vec<(ValueId, Loss)>,
    learned: Vec<ValueId>,
    /// One for each shard.
    works: Vec<Workspace>,
}

impl<'a> Training<'a> {
    fn new(
        quantized: &'a QuantizedGraph,
        bare: &Graph,
        trainee: Trainee,
        (source, losses): (Source<'a>, Vec<Loss>),
        settings: &'a Reconstruction,
    ) -> Result<Self, PtqError> {
        let learned = trainee.inputs(quantized);
        let inputs = bare.inputs.iter().cloned().chain(learned.iter().cloned()).collect();
        let session = Session::new(&bare.between(inputs, bare.outputs.clone()))?;
        Ok(Training {
            quantized,
            source,
            settings,
            trainee,
            outputs: bare.outputs.iter().copied().zip(losses).collect(),
            session,
            learned: learned.iter().map(|input| input.value).collect(),
            works: (0..shards(quantized, settings.batch)).map(|_| Workspace::serial()).collect(),
        })
    }

    /// One step on one batch; returns the loss.
    fn iterate(&mut self, rng: &mut Rng, iteration: usize) -> Result<f64, PtqError> {
        let available = self.source.images();
        let picked = rng.sample(available, self.settings.batch.min(available));
        let seed = rng.next_u64();
        let progress = iteration as f32 / self.settings.iterations as f32;
        let feeds = self.trainee.feeds(self.quantized)?;
        let shards: Vec<&[usize]> =
            picked.chunks(picked.len().div_ceil(self.works.len())).collect();
        let (session, source, outputs) = (&self.session, &self.source, &self.outputs);
        let (quantized, learned, drop) = (self.quantized, &self.learned, self.settings.drop);
        let parts: Vec<(f64, Vec<Tensor>)> = self
            .works
            .par_iter_mut()
            .zip(shards.into_par_iter().enumerate())
            .map(|(work, (i, shard))| {
                let mut rng = Rng::new(seed ^ i as u64);
                let shard = source.shard(quantized, (shard, drop), (&mut rng, work))?;
                let all: Vec<&Tensor> = std::iter::once(&shard.input).chain(&feeds).collect();
                let tape = session.record(&all, work)?;
                let (mut total, mut seeds) = (0.0, vec![]);
                for (&(output, loss), target) in outputs.iter().zip(&shard.targets) {
                    let made = tape.value(output).expect("the tape holds the unit's outputs");
                    let (value, seed) = loss.gradient(made, target);
                    total += value;
                    seeds.push((output, seed));
                }
                let gradients = session.backward(&tape, &seeds, learned, work)?;
                tape.recycle(work);
                Ok((total, gradients))
            })
            .collect::<Result<_, PtqError>>()?;
        let total = parts.iter().map(|(value, _)| value).sum();
        let gradients = sum(parts.into_iter().map(|(_, gradients)| gradients).collect());
        self.trainee.step(self.quantized, &gradients, (self.settings, progress));
        Ok(total)
    }
}

impl Source<'_> {
    fn images(&self) -> usize {
        match self {
            Source::Captured(pairs) => pairs.images,
            Source::Images { samples, .. } => samples.len(),
        }
    }

    fn shard(
        &self,
        quantized: &QuantizedGraph,
        (indices, drop): (&[usize], f32),
        (rng, work): (&mut Rng, &mut Workspace),
    ) -> Result<Shard, PtqError> {
        match self {
            Source::Captured(pairs) => {
                let targets = vec![pairs.targets.batch(indices)];
                Ok(Shard { input: mixed(pairs, indices, drop, rng), targets })
            }
            Source::Images { samples, teacher, watched } => {
                let mut values = vec![];
                let mut shape = vec![];
                for &index in indices {
                    let image = samples.get(index);
                    let image = image.map_err(|source| PtqError::Sample { index, source })?;
                    shape = image.shape().to_vec();
                    values.extend(augment::augmented(&image, rng));
                }
                if let Some(first) = shape.first_mut() {
                    *first = indices.len();
                }
                let input = Tensor::new(shape, values);
                let mut targets = teacher.run(std::slice::from_ref(&input), work)?;
                for (&value, target) in watched.iter().zip(&mut targets) {
                    let shape = target.shape().to_vec();
                    if let Ok(values) = target.as_mut_slice::<f32>() {
                        as_quantized(quantized, value, (&shape, values));
                    }
                }
                Ok(Shard { input, targets })
            }
        }
    }
}

/// The shards' gradients, added in order.
fn sum(parts: Vec<Vec<Tensor>>) -> Vec<Vec<f32>> {
    let mut parts = parts.into_iter();
    let first = parts.next().unwrap_or_default();
    let mut total: Vec<Vec<f32>> = first.iter().map(|tensor| tensor.f32s().to_vec()).collect();
    for part in parts {
        for (sum, tensor) in total.iter_mut().zip(&part) {
            sum.iter_mut().zip(tensor.f32s()).for_each(|(a, b)| *a += b);
        }
    }
    total
}

/// A batch of inputs in which a share of the elements is the float network's.
fn mixed(pairs: &Pairs, shard: &[usize], drop: f32, rng: &mut Rng) -> Tensor {
    let quantized = pairs.inputs.batch(shard);
    let Some(float) = &pairs.float_inputs else { return quantized };
    let float = float.batch(shard);
    let pick = |(q, f): (&f32, &f32)| if rng.uniform() < drop { *f } else { *q };
    let values = quantized.f32s().iter().zip(float.f32s()).map(pick).collect();
    Tensor::new(quantized.shape().clone(), values)
}

#[cfg(test)]
mod tests;
