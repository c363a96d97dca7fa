//! What goes into a unit and what should come out, for as many images as a memory budget holds.

use std::sync::atomic::{AtomicUsize, Ordering};

use lowbit_graph::{Graph, Session, ValueId, Workspace};
use lowbit_tensor::Tensor;
use rayon::prelude::*;

use super::units::Unit;
use crate::{PtqError, QuantizedGraph, Samples, Side};

/// One value of many images.
#[derive(Clone, Debug, Default)]
pub(crate) struct Captured {
    /// Shape of one image's value, batch axis first.
    pub(crate) shape: Vec<usize>,
    /// All images, one after the other.
    pub(crate) values: Vec<f32>,
}

impl Captured {
    /// Elements of one image.
    pub(crate) fn per_image(&self) -> usize {
        self.shape.iter().product::<usize>().max(1)
    }

    /// A batch of the images at `indices`.
    pub(crate) fn batch(&self, indices: &[usize]) -> Tensor {
        let per_image = self.per_image();
        let mut values = Vec::with_capacity(per_image * indices.len());
        for &i in indices {
            values.extend_from_slice(&self.values[i * per_image..(i + 1) * per_image]);
        }
        let mut shape = self.shape.clone();
        shape[0] = indices.len();
        Tensor::new(shape, values)
    }
}

/// What a unit is trained on.
#[derive(Clone, Debug)]
pub(crate) struct Pairs {
    /// What the unit reads when all before it is quantized.
    pub(crate) inputs: Captured,
    /// What it reads in the float network.
    pub(crate) float_inputs: Option<Captured>,
    /// What it makes in the float network.
    pub(crate) targets: Captured,
    /// Images held.
    pub(crate) images: usize,
}

/// Runs the float and the quantized network up to the unit.
///
/// # Errors
/// `Sample` or `Graph` when an image cannot be read or run.
pub(crate) fn capture(
    float: &Graph,
    quantized: &QuantizedGraph,
    unit: &Unit,
    (samples, budget_bytes, with_float): (&dyn Samples, usize, bool),
) -> Result<Pairs, PtqError> {
    let mut wanted = vec![unit.output];
    if with_float {
        wanted.push(unit.input);
    }
    let exact = Session::new(&float.between(float.inputs.clone(), wanted))?;
    let seen = quantized.seen(unit.input);
    let graph = &quantized.graph;
    let rounded = Session::new(&graph.between(graph.inputs.clone(), vec![seen]))?;
    let run = |index: usize, work: &mut Workspace| -> Result<Vec<Tensor>, PtqError> {
        let image = samples.get(index).map_err(|source| PtqError::Sample { index, source })?;
        let mut made = rounded.run(std::slice::from_ref(&image), work)?;
        made.extend(exact.run(&[image], work)?);
        Ok(made)
    };
    let first = run(0, &mut Workspace::parallel())?;
    let bytes: usize = first.iter().map(|t| 4 * t.len()).sum();
    let images = samples.len().min((budget_bytes / bytes.max(1)).max(1));
    let mut parts = run_all(images, samples.len(), &run)?;
    let mut held = first.iter().enumerate().map(|(i, one)| gathered(one, (i, &mut parts)));
    let inputs = held.next().unwrap_or_default();
    let mut targets = held.next().unwrap_or_default();
    let mut float_inputs = held.next();
    as_quantized(quantized, unit.output, (&targets.shape, &mut targets.values));
    if let Some(values) = &mut float_inputs {
        as_quantized(quantized, unit.input, (&values.shape, &mut values.values));
    }
    Ok(Pairs { inputs, float_inputs, targets, images })
}

/// Result `i` of all images in one piece; each goes as it is copied, so that little is held twice.
fn gathered(one: &Tensor, (i, parts): (usize, &mut [Vec<Tensor>])) -> Captured {
    let mut values = Vec::with_capacity(one.len() * parts.len());
    for made in parts {
        let tensor = std::mem::replace(&mut made[i], Tensor::scalar(0f32));
        values.extend_from_slice(tensor.f32s());
    }
    Captured { shape: one.shape().to_vec(), values }
}

/// Runs one image.
type Run<'a> = &'a (dyn Fn(usize, &mut Workspace) -> Result<Vec<Tensor>, PtqError> + Sync);

/// Calls `run` for `images` images spread over all of them, in parallel; results in order.
fn run_all(images: usize, available: usize, run: Run<'_>) -> Result<Vec<Vec<Tensor>>, PtqError> {
    let next = AtomicUsize::new(0);
    let mut parts = (0..rayon::current_num_threads())
        .into_par_iter()
        .map(|_| {
            let (mut work, mut done) = (Workspace::serial(), vec![]);
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= images {
                    return Ok(done);
                }
                done.push((i, run(i * available / images, &mut work)?));
            }
        })
        .collect::<Result<Vec<_>, PtqError>>()?
        .concat();
    parts.sort_by_key(|(i, _)| *i);
    Ok(parts.into_iter().map(|(_, made)| made).collect())
}

/// Float values as readers in the quantized graph see them: where layers absorb scales per channel, times a factor.
pub(crate) fn as_quantized(
    quantized: &QuantizedGraph,
    value: ValueId,
    (shape, values): (&[usize], &mut [f32]),
) {
    let Some(site) = quantized.site(value) else { return };
    let Some(channels) = site.channels.as_ref().filter(|c| c.absorbers.reader != Side::Float)
    else {
        return;
    };
    let tensor = site.parameters;
    let plane = shape.iter().skip(2).product::<usize>().max(1);
    let count = channels.scales.len();
    for (i, run) in values.chunks_mut(plane).enumerate() {
        let c = i % count;
        let factor = tensor.scale / channels.scales[c];
        run.iter_mut().for_each(|x| *x *= factor);
    }
}
