//! Images made from BatchNormalization's memory: ZeroQ (Cai et al. 2020, arXiv:2001.00281), with the slack of DSG (Zhang et al.
//! 2021, arXiv:2103.01049).
//!
//! ```text
//! x = noise
//! repeat: for each normalization l: μ, σ = mean and deviation of what it reads, per channel, over all images x
//!         loss = Σ_l mean over channels of (slack(μ - μ_l) / σ_l)² + (slack(σ - σ_l) / σ_l)²
//!         x -= Adam(∂loss/∂x); x = clamp(x)
//! ```
//! slack(d) is 0 within the margin δ_l and d less the margin beyond; δ_l is the quantile ε over channels of how far noise lies from the
//! statistics, so that images need not all look like the mean image.
//!
//! Differs from the papers: differences count in units of the stored deviation, so that no layer's magnitude decides, and what the
//! image itself is distributed like is left to its clamp. DSG's weights of layers per sample are left out.
//!
//! Where what the network makes of all images would not fit in memory, x is a group of them, one group after the other. A group is cut into
//! shards of fixed size whose sums are added in order: the same images at any number of threads.

use std::ops::Range;

use lowbit_graph::{BatchNorm, Graph, Op, Session, Tape, ValueId, Workspace};
use lowbit_tensor::{Rng, Tensor};
use rayon::prelude::*;

use crate::reconstruct::Adam;
use crate::{Progress, PtqError, Samples};

/// How images are made.
#[derive(Clone, Debug, PartialEq)]
pub struct ZeroQ {
    /// How many.
    pub images: usize,
    /// Steps of Adam.
    pub iterations: usize,
    /// Length of a step, in the units of the network's input.
    pub rate: f32,
    /// ε of DSG's margins: 0 for none (ZeroQ).
    pub slack: f32,
    /// Smallest and largest input of each channel of the first axis behind the batch; one for all, or none to leave it open.
    pub limits: Vec<(f32, f32)>,
    /// Of the noise.
    pub seed: u64,
}

/// Images that were made.
#[derive(Clone, Debug, PartialEq)]
pub struct DistilledImages {
    shape: Vec<usize>,
    images: Vec<Vec<f32>>,
    /// The loss before and after.
    pub loss: [f64; 2],
}

impl Samples for DistilledImages {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn get(&self, index: usize) -> Result<Tensor, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Tensor::new(self.shape.clone(), self.images[index].clone()))
    }
}

/// Images of one shard.
const SHARD: usize = 4;
/// Bytes that the values of the images under way may take. Gradients and buffers kept for the next step come on top: about as much again.
const BUDGET_BYTES: usize = 1 << 30;

/// Makes images of `shape` (a batch of one) whose statistics before every normalization of `unfolded`
/// ([`lowbit_graph::passes::canonicalize_unfolded`]) are the stored ones. `progress` hears of every step of every image.
///
/// # Errors
/// `NoBatchNorm` when the graph has none left, `Graph` when it does not run.
pub fn distill(
    unfolded: &Graph,
    shape: &[usize],
    settings: &ZeroQ,
    progress: Progress<'_>,
) -> Result<DistilledImages, PtqError> {
    let targets = targets(unfolded);
    if targets.is_empty() {
        return Err(PtqError::NoBatchNorm);
    }
    let graph =
        unfolded.between(unfolded.inputs.clone(), targets.iter().map(|t| t.value).collect());
    let session = Session::new(&graph)?;
    let mut shards = noise(shape, settings);
    let mut works: Vec<Workspace> = vec![];
    let (mut loss, count) = ([0.0; 2], shards.len().max(1) as f64);
    for group in groups(&shards, bytes_per_image(&session, shape)?) {
        let size = group.len();
        works.resize_with(works.len().max(size), Workspace::serial);
        let given = (&session, &targets[..], settings);
        let found = distill_group(given, &mut shards[group], &mut works[..size], progress)?;
        let share = size as f64 / count;
        loss = [loss[0] + share * found[0], loss[1] + share * found[1]];
    }
    let per_image: usize = shape.iter().product();
    let cut = |shard: &Tensor| -> Vec<Vec<f32>> {
        shard.f32s().chunks(per_image.max(1)).map(<[f32]>::to_vec).collect()
    };
    Ok(DistilledImages {
        shape: shape.to_vec(),
        images: shards.iter().flat_map(cut).collect(),
        loss,
    })
}

/// Bytes of what the network makes of one image on the way to its normalizations.
fn bytes_per_image(session: &Session, shape: &[usize]) -> Result<usize, PtqError> {
    let image = Tensor::full(shape.to_vec(), 0f32);
    let tape = session.record(&[&image], &mut Workspace::parallel())?;
    let made = session.graph().nodes.iter().flat_map(|node| node.outputs.iter().flatten());
    Ok(made.filter_map(|&value| tape.value(value)).map(|tensor| 4 * tensor.len()).sum())
}

/// Runs of shards of about equal length that fit the budget, or of one shard.
fn groups(shards: &[Tensor], bytes_per_image: usize) -> Vec<Range<usize>> {
    let most = (BUDGET_BYTES / (SHARD * bytes_per_image.max(1))).max(1);
    let count = shards.len().div_ceil(most);
    (0..count).map(|i| i * shards.len() / count..(i + 1) * shards.len() / count).collect()
}

/// Changes the images of one group; the loss before and after.
fn distill_group(
    (session, targets, settings): (&Session, &[Target], &ZeroQ),
    shards: &mut [Tensor],
    works: &mut [Workspace],
    progress: Progress<'_>,
) -> Result<[f64; 2], PtqError> {
    let mut targets = targets.to_vec();
    let images = shards.iter().map(|shard| shard.shape()[0]).sum();
    let mut adams: Vec<Adam> = shards.iter().map(|shard| Adam::new(shard.len())).collect();
    let mut loss = [0.0; 2];
    for iteration in 0..settings.iterations {
        let tapes = record(session, shards, works)?;
        let moments: Vec<Moments> = targets.iter().map(|t| Moments::of(&tapes, t.value)).collect();
        if iteration == 0 {
            margins(&mut targets, &moments, settings.slack);
        }
        loss[1] = targets.iter().zip(&moments).map(|(t, m)| t.loss(m)).sum();
        if iteration == 0 {
            loss[0] = loss[1];
        }
        let gradients = back(session, tapes, (&targets, &moments), works)?;
        // A step grows shorter as a half cosine.
        let part = iteration as f32 / settings.iterations as f32;
        let rate = settings.rate * 0.5 * (1.0 + (part * std::f32::consts::PI).cos());
        for ((shard, adam), gradient) in shards.iter_mut().zip(&mut adams).zip(&gradients) {
            let mut values = shard.f32s().to_vec();
            adam.step(&mut values, gradient.f32s(), rate);
            clamp(&mut values, shard.shape(), &settings.limits);
            *shard = Tensor::new(shard.shape().clone(), values);
        }
        progress(images);
    }
    Ok(loss)
}

/// What one normalization remembers of what it reads.
#[derive(Clone)]
struct Target {
    value: ValueId,
    means: Vec<f64>,
    deviations: Vec<f64>,
    /// Differences of means and deviations that do not count, in units of the deviation.
    margins: [f64; 2],
}

fn targets(graph: &Graph) -> Vec<Target> {
    let one = |node: &lowbit_graph::Node| {
        let Op::BatchNorm(BatchNorm { epsilon }) = node.op else { return None };
        let means = graph.constant_input(node, 3)?.as_slice::<f32>().ok()?;
        let variances = graph.constant_input(node, 4)?.as_slice::<f32>().ok()?;
        let deviation = |v: &f32| f64::from(v + epsilon).sqrt();
        Some(Target {
            value: node.input(0)?,
            means: means.iter().map(|&m| f64::from(m)).collect(),
            deviations: variances.iter().map(deviation).collect(),
            margins: [0.0; 2],
        })
    };
    graph.nodes.iter().filter_map(one).collect()
}

/// Mean and deviation of each channel over all shards.
struct Moments {
    means: Vec<f64>,
    deviations: Vec<f64>,
    /// Elements of a channel.
    count: f64,
}

impl Moments {
    fn of(tapes: &[Tape<'_>], value: ValueId) -> Moments {
        let mut sums: Vec<[f64; 2]> = vec![];
        let mut count = 0;
        let parts: Vec<(Vec<[f64; 2]>, usize)> =
            tapes.par_iter().filter_map(|tape| tape.value(value).map(channel_sums)).collect();
        for (part, elements) in parts {
            sums.resize(part.len(), [0.0; 2]);
            for (sum, part) in sums.iter_mut().zip(&part) {
                *sum = [sum[0] + part[0], sum[1] + part[1]];
            }
            count += elements;
        }
        let count = count.max(1) as f64;
        let means: Vec<f64> = sums.iter().map(|s| s[0] / count).collect();
        let variance = |(s, mean): (&[f64; 2], &f64)| (s[1] / count - mean * mean).max(0.0);
        let deviations = sums.iter().zip(&means).map(variance).map(f64::sqrt).collect();
        Moments { means, deviations, count }
    }
}

/// Sum and sum of squares of each channel, and how many elements a channel has.
pub(crate) fn channel_sums(tensor: &Tensor) -> (Vec<[f64; 2]>, usize) {
    let channels = tensor.shape().get(1).copied().unwrap_or(1).max(1);
    let plane = tensor.shape().iter().skip(2).product::<usize>().max(1);
    let mut sums = vec![[0.0; 2]; channels];
    for (i, values) in tensor.f32s().chunks(plane).enumerate() {
        let sum = &mut sums[i % channels];
        for run in values.chunks(64) {
            sum[0] += f64::from(run.iter().sum::<f32>());
            sum[1] += f64::from(run.iter().map(|x| x * x).sum::<f32>());
        }
    }
    (sums, tensor.len() / channels)
}

impl Target {
    /// What counts of the differences of mean and deviation of channel `c`, in units of the deviation.
    fn differences(&self, moments: &Moments, c: usize) -> [f64; 2] {
        let beyond = |difference: f64, margin: f64| {
            difference.signum() * (difference.abs() / self.deviations[c] - margin).max(0.0)
        };
        [
            beyond(moments.means[c] - self.means[c], self.margins[0]),
            beyond(moments.deviations[c] - self.deviations[c], self.margins[1]),
        ]
    }

    fn loss(&self, moments: &Moments) -> f64 {
        let channels = self.means.len();
        let square = |c: usize| self.differences(moments, c).iter().map(|d| d * d).sum::<f64>();
        (0..channels).map(square).sum::<f64>() / channels.max(1) as f64
    }

    /// ∂loss/∂x = 2·(d_μ + d_σ·(x - μ)/σ) / (channels · elements · σ_l).
    fn gradient(&self, x: &Tensor, moments: &Moments) -> Tensor {
        let channels = self.means.len();
        let plane = x.shape().iter().skip(2).product::<usize>().max(1);
        let mut values = Vec::with_capacity(x.len());
        for (i, run) in x.f32s().chunks(plane).enumerate() {
            let c = i % channels;
            let [mean, deviation] = self.differences(moments, c);
            let unit = 2.0 / (channels as f64 * moments.count * self.deviations[c]);
            let slope = (unit * deviation / moments.deviations[c].max(LEAST_DEVIATION)) as f32;
            let (offset, center) = ((unit * mean) as f32, moments.means[c] as f32);
            values.extend(run.iter().map(|x| offset + slope * (x - center)));
        }
        Tensor::new(x.shape().clone(), values)
    }
}

/// Below this a deviation counts as constant.
const LEAST_DEVIATION: f64 = 1e-6;

/// The quantile `slack` of what noise lies off, per normalization.
fn margins(targets: &mut [Target], moments: &[Moments], slack: f32) {
    if slack <= 0.0 {
        return;
    }
    for (target, moments) in targets.iter_mut().zip(moments) {
        let found = [0, 1].map(|which| {
            let off = |c: usize| target.differences(moments, c)[which].abs();
            let mut all: Vec<f64> = (0..target.means.len()).map(off).collect();
            all.sort_by(f64::total_cmp);
            let at = (f64::from(slack) * all.len() as f64) as usize;
            all.get(at.min(all.len().saturating_sub(1))).copied().unwrap_or(0.0)
        });
        target.margins = found;
    }
}

/// Standard normal noise within the limits, in shards.
fn noise(shape: &[usize], settings: &ZeroQ) -> Vec<Tensor> {
    let per_image: usize = shape.iter().product();
    let mut rng = Rng::new(settings.seed);
    let starts: Vec<usize> = (0..settings.images).step_by(SHARD).collect();
    let shard = |&start: &usize| {
        let images = SHARD.min(settings.images - start);
        let mut dims = shape.to_vec();
        dims[0] = images;
        let mut values: Vec<f32> = (0..images * per_image).map(|_| rng.normal()).collect();
        clamp(&mut values, &dims, &settings.limits);
        Tensor::new(dims, values)
    };
    starts.iter().map(shard).collect()
}

fn clamp(values: &mut [f32], shape: &[usize], limits: &[(f32, f32)]) {
    let channels = shape.get(1).copied().unwrap_or(1).max(1);
    let plane = shape.iter().skip(2).product::<usize>().max(1);
    for (i, run) in values.chunks_mut(plane).enumerate() {
        let limit = if limits.len() == 1 { limits.first() } else { limits.get(i % channels) };
        let Some(&(low, high)) = limit else { continue };
        run.iter_mut().for_each(|x| *x = x.max(low).min(high));
    }
}

fn record<'a>(
    session: &'a Session,
    shards: &'a [Tensor],
    works: &mut [Workspace],
) -> Result<Vec<Tape<'a>>, PtqError> {
    let one = |(work, shard)| Ok(session.record(&[shard], work)?);
    works.par_iter_mut().zip(shards).map(one).collect()
}

/// The gradient of the loss with respect to each shard's images.
fn back(
    session: &Session,
    tapes: Vec<Tape<'_>>,
    (targets, moments): (&[Target], &[Moments]),
    works: &mut [Workspace],
) -> Result<Vec<Tensor>, PtqError> {
    let input = session.graph().inputs[0].value;
    let one = |(work, tape): (&mut Workspace, Tape<'_>)| {
        let seed = |(target, moments): (&Target, &Moments)| {
            Some((target.value, target.gradient(tape.value(target.value)?, moments)))
        };
        let seeds: Vec<(ValueId, Tensor)> = targets.iter().zip(moments).filter_map(seed).collect();
        let mut found = session.backward(&tape, &seeds, &[input], work)?;
        tape.recycle(work);
        Ok(found.swap_remove(0))
    };
    works.par_iter_mut().zip(tapes).map(one).collect()
}

#[cfg(test)]
mod tests;
