//! What is learned inside a unit, and the graph that it is learned on.

use std::collections::HashSet;

use lowbit_graph::{Graph, Input, ValueId};
use lowbit_quant::QuantError;
use lowbit_tensor::{DType, Tensor};

use super::adam::Adam;
use super::units::Unit;
use super::{Reconstruction, Variable};
use crate::adaquant::FreeWeight;
use crate::adaround::{Pull, SoftRounding};
use crate::insert::{back_to_graph, to_rows};
use crate::{PtqError, QuantizedGraph, Weight};

/// One weight tensor.
#[derive(Debug)]
struct LearnedWeight {
    index: usize,
    how: Learned,
    adam: Adam,
    /// Of the scales.
    scale_adam: Adam,
}

#[derive(Debug)]
enum Learned {
    Rounding(SoftRounding),
    Free(FreeWeight),
}

/// One bias or step size, fed under every name that it has in the graph.
#[derive(Debug)]
struct LearnedVector {
    values: Vec<f32>,
    adam: Adam,
    names: Vec<ValueId>,
    /// Length of a step, relative to the learning rate.
    unit: f32,
}

/// All that is learned inside a unit.
#[derive(Debug)]
pub(crate) struct Trainee {
    weights: Vec<LearnedWeight>,
    biases: Vec<(usize, LearnedVector)>,
    scales: Vec<(StepSize, LearnedVector)>,
}

/// Names the step size of a group of activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StepSize {
    pub(crate) group: usize,
    pub(crate) qmax: i32,
}

impl Trainee {
    /// What `settings` lets move in `unit`.
    pub(crate) fn new(
        quantized: &QuantizedGraph,
        unit: &Unit,
        part: &Graph,
        settings: &Reconstruction,
    ) -> Trainee {
        let mut trainee = Trainee { weights: vec![], biases: vec![], scales: vec![] };
        for &index in &unit.weights {
            let weight = &quantized.weights[index];
            let how = match settings.variable {
                Variable::Rounding => Learned::Rounding(SoftRounding::new(
                    &weight.coded,
                    &weight.target,
                    &weight.pruned,
                )),
                Variable::Weights => {
                    let start = (&weight.latent[..], &weight.pruned[..]);
                    Learned::Free(FreeWeight::new(&weight.coded, start, settings.settled))
                }
            };
            let adam = Adam::new(weight.target.len());
            let scale_adam = Adam::new(weight.coded.scales().len());
            trainee.weights.push(LearnedWeight { index, how, adam, scale_adam });
            if let Some(bias) = weight.bias.as_ref().filter(|_| settings.bias_rate > 0.0) {
                let size = bias.values.iter().fold(0.0f32, |m, b| m.max(b.abs()));
                let vector = LearnedVector {
                    values: bias.values.clone(),
                    adam: Adam::new(bias.values.len()),
                    names: vec![bias.result],
                    unit: size.max(f32::MIN_POSITIVE),
                };
                trainee.biases.push((index, vector));
            }
        }
        if settings.step_rate > 0.0 {
            trainee.step_sizes(quantized, part);
        }
        trainee
    }

    /// Step sizes of the activations below 8 bits inside the part.
    fn step_sizes(&mut self, quantized: &QuantizedGraph, part: &Graph) {
        let read: HashSet<ValueId> =
            part.nodes.iter().flat_map(|node| node.inputs.iter().flatten().copied()).collect();
        for site in quantized.sites.iter().chain(&quantized.narrowed) {
            if !read.contains(&site.scale) || !site.is_narrow() || site.channels.is_some() {
                continue;
            }
            let name = StepSize { group: site.group, qmax: site.parameters.qmax };
            match self.scales.iter_mut().find(|(known, _)| *known == name) {
                Some((_, vector)) => vector.names.push(site.scale),
                None => {
                    let vector = LearnedVector {
                        values: vec![site.parameters.scale],
                        adam: Adam::new(1),
                        names: vec![site.scale],
                        unit: site.parameters.scale,
                    };
                    self.scales.push((name, vector));
                }
            }
        }
    }

    /// Makes inputs of what is learned; returns them in the order of [`Trainee::feeds`].
    pub(crate) fn inputs(&self, quantized: &QuantizedGraph) -> Vec<Input> {
        let input = |value: ValueId, dims: Vec<usize>| Input {
            value,
            dtype: DType::F32,
            dims: dims.into_iter().map(Some).collect(),
        };
        let mut inputs = vec![];
        for learned in &self.weights {
            let weight = &quantized.weights[learned.index];
            inputs.push(input(weight.result, weight.graph_shape()));
        }
        for (_, vector) in &self.biases {
            inputs.push(input(vector.names[0], vec![vector.values.len()]));
        }
        for (_, vector) in &self.scales {
            inputs.extend(vector.names.iter().map(|&name| input(name, vec![])));
        }
        inputs
    }

    /// The present values.
    ///
    /// # Errors
    /// `Value` when learning diverged.
    pub(crate) fn feeds(&self, quantized: &QuantizedGraph) -> Result<Vec<Tensor>, PtqError> {
        let mut feeds = vec![];
        for learned in &self.weights {
            let weight = &quantized.weights[learned.index];
            let values = match &learned.how {
                Learned::Rounding(rounding) => rounding.weight(),
                Learned::Free(free) => free.weight().map_err(|source| named(weight, source))?,
            };
            feeds.push(Tensor::new(weight.graph_shape(), back_to_graph(weight, values)));
        }
        feeds.extend(self.biases.iter().map(|(_, v)| Tensor::vector(v.values.clone())));
        for (_, vector) in &self.scales {
            feeds.extend(vector.names.iter().map(|_| Tensor::scalar(vector.values[0])));
        }
        Ok(feeds)
    }

    /// Moves everything against its gradient; `gradients` are in the order of [`Trainee::feeds`].
    pub(crate) fn step(
        &mut self,
        quantized: &QuantizedGraph,
        gradients: &[Vec<f32>],
        (settings, progress): (&Reconstruction, f32),
    ) {
        let mut gradients = gradients.iter();
        let cosine = rate_share(progress);
        let pull = Pull::at(progress, settings.pull);
        for learned in &mut self.weights {
            let Some(gradient) = gradients.next() else { return };
            let weight = &quantized.weights[learned.index];
            let gradient = to_rows(weight, gradient);
            match &mut learned.how {
                Learned::Rounding(rounding) => {
                    let gradient = rounding.gradient(&gradient, pull);
                    learned.adam.step(&mut rounding.variable, &gradient, settings.rate);
                }
                Learned::Free(free) => {
                    let rate = settings.scale_rate * cosine;
                    let scales = free.scale_gradient(&gradient);
                    let gradient = free.gradient(&gradient);
                    if rate > 0.0 {
                        learned.scale_adam.step(&mut free.factors, &scales, rate);
                    }
                    let rate = settings.rate * cosine;
                    learned.adam.step(&mut free.variable, &gradient, rate);
                }
            }
        }
        for (_, vector) in &mut self.biases {
            let Some(gradient) = gradients.next() else { return };
            let rate = settings.bias_rate * cosine * vector.unit;
            vector.adam.step(&mut vector.values, gradient, rate);
        }
        for (_, vector) in &mut self.scales {
            let sum = vector.names.iter().filter_map(|_| gradients.next());
            let sum: f32 = sum.map(|gradient| gradient.iter().sum::<f32>()).sum();
            let rate = settings.step_rate * cosine * vector.unit;
            vector.adam.step(&mut vector.values, &[sum], rate);
            vector.values[0] = vector.values[0].max(vector.unit * LEAST_STEP);
        }
    }

    /// Writes what was learned into the quantized graph.
    ///
    /// # Errors
    /// `Value` names a layer whose learned values are not finite.
    pub(crate) fn write(self, quantized: &mut QuantizedGraph) -> Result<(), PtqError> {
        for (name, vector) in &self.scales {
            quantized.set_step_size(*name, vector.values[0]);
        }
        for learned in self.weights {
            let weight = &quantized.weights[learned.index];
            let coded = match &learned.how {
                Learned::Rounding(rounding) => weight.coded.with_codes(rounding.codes()),
                Learned::Free(free) => free.coded(),
            };
            let coded = coded.map_err(|source| named(weight, source))?;
            if let Learned::Free(free) = &learned.how {
                quantized.weights[learned.index].latent = free.latent().into();
            }
            quantized.set_weight(learned.index, coded);
        }
        for (index, vector) in self.biases {
            let name = || quantized.weights[index].node.clone();
            if let Some(&found) = vector.values.iter().find(|b| !b.is_finite()) {
                let source = QuantError::NotFinite { found };
                return Err(PtqError::Value { name: name(), source });
            }
            quantized.set_bias(index, vector.values);
        }
        Ok(())
    }
}

/// What the learning rates are multiplied by: nothing moves while Adam's moments are first gathered, for its first steps are as long as the
/// rate in every coordinate at once, whatever the gradients' noise; where a block's weights were learned before, many lie near a threshold, and
/// one such step turns them over together. Then a cosine falls to 0.
fn rate_share(progress: f32) -> f32 {
    if progress < WARM_UP {
        return 0.0;
    }
    0.5 * (1.0 + ((progress - WARM_UP) / (1.0 - WARM_UP) * std::f32::consts::PI).cos())
}

/// Share of the iterations that gather moments.
const WARM_UP: f32 = 0.05;

fn named(weight: &Weight, source: QuantError) -> PtqError {
    PtqError::Value { name: weight.node.clone(), source }
}

/// A step size does not fall below this share of what it was.
const LEAST_STEP: f32 = 0.1;
