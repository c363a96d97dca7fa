//! The loop in which a unit is learned: batches in, gradients of their shards summed in order, one step of Adam.

use lowbit_graph::{Graph, Session, ValueId, Workspace};
use lowbit_tensor::{Rng, Tensor};
use rayon::prelude::*;

use super::capture::{Pairs, as_quantized};
use super::loss::{Goal, Loss};
use super::skips::Skips;
use super::trainee::Trainee;
use super::{Reconstruction, augment, shards};
use crate::{Progress, PtqError, QuantizedGraph, Samples};

/// Where batches come from.
pub(super) enum Source<'a> {
    /// What was captured at the unit's ends; activations inside it may skip their quantizers.
    Captured { pairs: &'a Pairs, skips: Skips },
    /// Images, changed at random, and what the float network makes of them.
    Images { samples: &'a dyn Samples, teacher: Box<Session>, watched: Vec<ValueId> },
}

/// A part of a batch: what the unit reads, and what it should make.
struct Shard {
    input: Tensor,
    /// What the unit's graph reads beside it.
    masks: Vec<Tensor>,
    goals: Vec<Goal>,
}

/// A unit while it is learned.
pub(super) struct Training<'a> {
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
    /// `bare` is the unit's graph, its outputs in the order of the losses.
    ///
    /// # Errors
    /// `Graph` when the unit does not run.
    pub(super) fn new(
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

    /// Takes all steps; the quantized graph with what was learned. `progress` hears of every step.
    ///
    /// # Errors
    /// `Sample` or `Graph` when an image cannot be read or run, `Value` when learning diverges.
    pub(super) fn run(
        mut self,
        rng: &mut Rng,
        progress: Progress<'_>,
    ) -> Result<QuantizedGraph, PtqError> {
        for iteration in 0..self.settings.iterations {
            self.iterate(rng, iteration)?;
            progress(1);
        }
        let mut learned = self.quantized.clone();
        self.trainee.write(&mut learned)?;
        Ok(learned)
    }

    /// One step on one batch.
    fn iterate(&mut self, rng: &mut Rng, iteration: usize) -> Result<(), PtqError> {
        let available = self.source.images();
        let picked = rng.sample(available, self.settings.batch.min(available));
        let seed = rng.next_u64();
        let progress = iteration as f32 / self.settings.iterations as f32;
        let feeds = self.trainee.feeds(self.quantized)?;
        let shards: Vec<&[usize]> =
            picked.chunks(picked.len().div_ceil(self.works.len())).collect();
        let (session, source, outputs) = (&self.session, &self.source, &self.outputs);
        let (quantized, learned, drop) = (self.quantized, &self.learned, self.settings.drop);
        let parts: Vec<Vec<Tensor>> = self
            .works
            .par_iter_mut()
            .zip(shards.into_par_iter().enumerate())
            .map(|(work, (i, shard))| {
                let mut rng = Rng::new(seed ^ i as u64);
                let shard = source.shard(quantized, (shard, drop), (&mut rng, work))?;
                let all: Vec<&Tensor> =
                    std::iter::once(&shard.input).chain(&shard.masks).chain(&feeds).collect();
                let tape = session.record(&all, work)?;
                let mut seeds = vec![];
                for (&(output, loss), goal) in outputs.iter().zip(&shard.goals) {
                    let made = tape.value(output).expect("the tape holds the unit's outputs");
                    seeds.push((output, loss.gradient(made, goal).1));
                }
                let gradients = session.backward(&tape, &seeds, learned, work)?;
                tape.recycle(work);
                Ok(gradients)
            })
            .collect::<Result<_, PtqError>>()?;
        self.trainee.step(self.quantized, &sum(parts), (self.settings, progress));
        Ok(())
    }
}

impl Source<'_> {
    fn images(&self) -> usize {
        match self {
            Source::Captured { pairs, .. } => pairs.images,
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
            Source::Captured { pairs, skips } => {
                let goals = vec![pairs.goal(indices)];
                let input = mixed(pairs, indices, drop, rng);
                let masks = skips.draw(indices.len(), drop, rng);
                Ok(Shard { input, masks, goals })
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
                let goals = targets.into_iter().map(Goal::plain).collect();
                Ok(Shard { input, masks: vec![], goals })
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
