//! What goes into a unit and what should come out, for as many images as a memory budget holds.

use std::sync::atomic::{AtomicUsize, Ordering};

use lowbit_graph::{Graph, Session, ValueId, Workspace};
use lowbit_tensor::Tensor;
use rayon::prelude::*;

use super::Reconstruction;
use super::fisher::{self, Fisher};
use super::loss::Goal;
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
    /// What each element's squared error is multiplied by; `None` is 1.
    pub(crate) importance: Option<Captured>,
    /// Images held.
    pub(crate) images: usize,
}

impl Pairs {
    /// What the unit should make of the images at `indices`.
    pub(crate) fn goal(&self, indices: &[usize]) -> Goal {
        Goal {
            values: self.targets.batch(indices),
            importance: self.importance.as_ref().map(|all| all.batch(indices)),
        }
    }
}

/// Runs the float and the quantized network up to the unit; the float one to its end where errors are weighted.
///
/// # Errors
/// `Sample` or `Graph` when an image cannot be read or run.
pub(crate) fn capture(
    (float, quantized): (&Graph, &QuantizedGraph),
    unit: &Unit,
    samples: &dyn Samples,
    settings: &Reconstruction,
) -> Result<Pairs, PtqError> {
    let mut wanted = vec![unit.output];
    if settings.drop > 0.0 {
        wanted.push(unit.input);
    }
    let exact = Exact::new(float, wanted, settings)?;
    let seen = quantized.seen(unit.input);
    let graph = &quantized.graph;
    let rounded = Session::new(&graph.between(graph.inputs.clone(), vec![seen]))?;
    let run = |index: usize, work: &mut Workspace| -> Result<Vec<Tensor>, PtqError> {
        let image = samples.get(index).map_err(|source| PtqError::Sample { index, source })?;
        let mut made = rounded.run(std::slice::from_ref(&image), work)?;
        made.extend(exact.run(image, index, work)?);
        Ok(made)
    };
    let first = run(0, &mut Workspace::parallel())?;
    let bytes: usize = first.iter().map(|t| 4 * t.len()).sum();
    let images = samples.len().min((settings.budget_bytes / bytes.max(1)).max(1));
    let mut parts = run_all(images, samples.len(), &run)?;
    let mut held = first.iter().enumerate().map(|(i, one)| gathered(one, (i, &mut parts)));
    let inputs = held.next().unwrap_or_default();
    let mut targets = held.next().unwrap_or_default();
    let mut float_inputs = (settings.drop > 0.0).then(|| held.next()).flatten();
    let mut importance = held.next();
    as_quantized(quantized, unit.output, (&targets.shape, &mut targets.values));
    if let Some(values) = &mut float_inputs {
        as_quantized(quantized, unit.input, (&values.shape, &mut values.values));
    }
    if let Some(gradients) = &mut importance {
        fisher::weights(quantized, unit.output, gradients);
    }
    Ok(Pairs { inputs, float_inputs, targets, importance, images })
}

/// The float network's side.
enum Exact {
    Values(Session),
    /// The wanted values, the gradient with respect to the first of them last.
    Gradient(Fisher, Vec<ValueId>),
}

impl Exact {
    fn new(
        float: &Graph,
        wanted: Vec<ValueId>,
        settings: &Reconstruction,
    ) -> Result<Exact, PtqError> {
        if settings.fisher {
            return Ok(Exact::Gradient(Fisher::new(float, settings.seed)?, wanted));
        }
        Ok(Exact::Values(Session::new(&float.between(float.inputs.clone(), wanted))?))
    }

    fn run(
        &self,
        image: Tensor,
        index: usize,
        work: &mut Workspace,
    ) -> Result<Vec<Tensor>, PtqError> {
        match self {
            Exact::Values(session) => Ok(session.run(&[image], work)?),
            Exact::Gradient(fisher, wanted) => fisher.run(&image, (index, wanted), work),
        }
    }
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

/// Float values as readers in the quantized graph see them: no further than where all of them saturate, and where layers absorb scales
/// per channel, times a factor.
pub(crate) fn as_quantized(
    quantized: &QuantizedGraph,
    value: ValueId,
    (shape, values): (&[usize], &mut [f32]),
) {
    let Some(site) = quantized.site(value) else { return };
    values.iter_mut().for_each(|x| *x = site.read(*x));
    let Some(factors) = reader_factors(quantized, value) else { return };
    let plane = shape.iter().skip(2).product::<usize>().max(1);
    for (run, factor) in values.chunks_mut(plane).zip(factors.iter().cycle()) {
        run.iter_mut().for_each(|x| *x *= factor);
    }
}

/// What readers in the quantized graph see each channel of a float value multiplied by; `None` where they see it as it is.
pub(super) fn reader_factors(quantized: &QuantizedGraph, value: ValueId) -> Option<Vec<f32>> {
    let site = quantized.site(value)?;
    let channels = site.channels.as_ref().filter(|c| c.absorbers.reader != Side::Float)?;
    Some(channels.scales.iter().map(|scale| site.parameters.scale / scale).collect())
}
