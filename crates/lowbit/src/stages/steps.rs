//! The steps of a recipe, run one after the other: those on floats first, then those on the quantized graph.

use lowbit_graph::Graph;
use lowbit_ptq::{
    Assignment, BatchNormStatistics, Calibration, QuantizedGraph, Reconstruction, Samples,
    UnitReport, allocate_bits, bias_correction, equalize, gptq, iterations, reconstruct,
    reestimate, split_outliers, squant,
};

use super::{StepReport, Watch};
use crate::{Error, FloatStep, Model, Recipe, Step};

/// A float graph after the recipe's steps on floats.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) graph: Graph,
    pub(super) reports: Vec<StepReport>,
    /// What is known of the graph's layers, where a step asked.
    statistics: Option<BatchNormStatistics>,
}

impl Prepared {
    /// Takes the steps on floats.
    pub(super) fn new(model: &Model, recipe: &Recipe) -> Result<Prepared, Error> {
        let mut graph = model.graph.clone();
        let mut reports = vec![];
        let mut statistics: Option<BatchNormStatistics> = None;
        for step in &recipe.float_steps {
            let known = match statistics.take() {
                Some(known) => known,
                None => model.batch_norm_statistics()?,
            };
            let (changed, known) = match step {
                FloatStep::Equalize(settings) => equalize(&graph, &known, *settings),
                FloatStep::SplitOutliers(settings) => split_outliers(&graph, &known, *settings),
            };
            graph = changed;
            statistics = Some(known);
            reports.push(StepReport { step: step.name().to_owned(), units: vec![] });
        }
        Ok(Prepared { graph, reports, statistics })
    }

    /// What BatchNormalization says of the graph's layers.
    pub(super) fn statistics(&self, model: &Model) -> Result<BatchNormStatistics, Error> {
        self.statistics.clone().map_or_else(|| model.batch_norm_statistics(), Ok)
    }
}

/// Refuses what reads images where there are none.
pub(super) fn needs_images(place: &str, images: &dyn Samples) -> Result<(), Error> {
    if !images.is_empty() {
        return Ok(());
    }
    let message = "reads images, and there are none: calibration = \"distilled\" makes some";
    Err(Error::Recipe { place: place.to_owned(), message: message.to_owned() })
}

/// What steps on the quantized graph may use.
pub(super) struct Given<'a> {
    /// The float graph that was quantized.
    pub(super) graph: &'a Graph,
    pub(super) assignment: &'a Assignment,
    pub(super) calibration: &'a Calibration,
    pub(super) images: &'a dyn Samples,
    pub(super) seed: u64,
    pub(super) watch: &'a dyn Watch,
}

impl Given<'_> {
    /// Takes the steps on the quantized graph.
    pub(super) fn run(
        &self,
        mut quantized: QuantizedGraph,
        steps: &[Step],
    ) -> Result<(QuantizedGraph, Vec<StepReport>), Error> {
        let mut reports = vec![];
        for step in steps {
            let (changed, units) = self.step(&quantized, step)?;
            quantized = changed;
            reports.push(StepReport { step: step.name().to_owned(), units });
        }
        Ok((quantized, reports))
    }

    fn step(
        &self,
        quantized: &QuantizedGraph,
        step: &Step,
    ) -> Result<(QuantizedGraph, Vec<UnitReport>), Error> {
        let Given { graph, calibration, images, seed, watch, .. } = *self;
        let progress = |n| watch.advance(n);
        if step.needs_images() {
            needs_images(step.name(), images)?;
        }
        match step {
            Step::AllocateBits(settings) => {
                Ok(allocate_bits(quantized, self.assignment, *settings)?)
            }
            Step::BiasCorrection => Ok((bias_correction(graph, quantized, calibration), vec![])),
            Step::Squant => Ok(squant(graph, quantized)?),
            Step::Reestimate { moment } => {
                watch.begin(step.name(), quantized.weights.len() * images.len());
                Ok(reestimate(graph, quantized, images, *moment, &progress)?)
            }
            Step::Gptq(settings) => {
                watch.begin(step.name(), quantized.weights.len() * images.len());
                Ok(gptq(graph, quantized, images, *settings, &progress)?)
            }
            Step::Reconstruct(settings) => {
                let settings = Reconstruction { seed, ..*settings };
                watch.begin(step.name(), iterations(graph, quantized, &settings));
                Ok(reconstruct(graph, quantized, images, &settings, &progress)?)
            }
        }
    }
}
