//! The pipeline, one type per stage.

mod steps;

use std::collections::BTreeMap;
use std::path::Path;

use lowbit_graph::Graph;
use lowbit_graph::passes::{Placement, lower_qdq, trace};
use lowbit_ptq::{
    Calibration, LayerError, Plan, Progress, QuantizedGraph, Rounding, Samples, UnitReport,
    calibrate, layer_errors, quantize,
};
use serde::{Deserialize, Serialize};

use lowbit_tensor::Tensor;

use crate::inspect::macs;
use crate::{
    Distilled, Error, Importance, InputShape, LayerResult, Model, Notes, Recipe, write_atomically,
};
use lowbit_ptq::{
    Assignment, DistilledImages, ZeroQ, calibrate_from_statistics, distill, importance,
};
use steps::Prepared;

/// A float classifier in canonical form that holds something to quantize.
#[derive(Clone, Debug)]
pub struct Float {
    /// The model.
    pub model: Model,
}

/// A float classifier with the statistics of its activations.
#[derive(Clone, Debug)]
pub struct Calibrated {
    /// The stage before.
    pub float: Float,
    prepared: Prepared,
    plan: Plan,
    calibration: Calibration,
    recipe: Recipe,
}

/// A quantized classifier: the ONNX graph, and the integer graph that it means.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// The float stage.
    pub float: Float,
    /// The float graph that was quantized: the model's, after the recipe's steps on floats.
    pub prepared: Graph,
    /// Float operators between quantizers: what is exported.
    pub quantized: QuantizedGraph,
    /// The integer form: what is evaluated.
    pub integer: Graph,
    /// How each node runs.
    pub placements: Vec<Placement>,
    /// What the recipe's steps did.
    pub steps: Vec<StepReport>,
    recipe: Recipe,
}

impl Float {
    /// Reads a float model. `shape` is that of one image where the file leaves it open.
    ///
    /// # Errors
    /// As [`Model::load`]; `Ptq` when the model is quantized already or holds nothing to quantize.
    pub fn load(path: impl AsRef<Path>, shape: Option<InputShape>) -> Result<Float, Error> {
        Float::new(Model::load(path, shape)?)
    }

    /// Checks that there is something to quantize in `model`.
    ///
    /// # Errors
    /// `Ptq` when the model is quantized already or holds nothing to quantize.
    pub fn new(model: Model) -> Result<Float, Error> {
        Plan::new(&model.graph, false)?;
        Ok(Float { model })
    }

    /// Takes the recipe's steps on floats, runs the model on every image and collects what the recipe's range rule needs.
    ///
    /// # Errors
    /// `Ptq` when an image cannot be read or the model does not run on it.
    pub fn calibrate(
        self,
        images: &dyn Samples,
        recipe: &Recipe,
        progress: Progress<'_>,
    ) -> Result<Calibrated, Error> {
        let prepared = Prepared::new(&self.model, recipe)?;
        let graph = &prepared.graph;
        let plan = Plan::new(graph, recipe.has_channel_scales())?;
        let calibration = calibrate(graph, &plan, images, recipe.activations, progress)?;
        Ok(Calibrated { float: self, prepared, plan, calibration, recipe: recipe.clone() })
    }
}

impl Float {
    /// Makes images from the model's BatchNormalization statistics. `limits` are the smallest and largest value of each channel of an
    /// image.
    ///
    /// # Errors
    /// `Ptq` when the model has no BatchNormalization left.
    pub fn distill(
        &self,
        how: &Distilled,
        limits: &[(f32, f32)],
        seed: u64,
        watch: &dyn Watch,
    ) -> Result<DistilledImages, Error> {
        let Distilled { images, iterations, rate, slack } = *how;
        let settings = ZeroQ { images, iterations, rate, slack, limits: limits.to_vec(), seed };
        watch.begin("distill", iterations * images);
        let unfolded = self.model.unfolded()?;
        let shape = [&[1], &self.model.input_shape[1..]].concat();
        Ok(distill(&unfolded, &shape, &settings, &|n| watch.advance(n))?)
    }

    /// As [`Float::calibrate`], with what follows from the model's BatchNormalization statistics in the place of images.
    ///
    /// # Errors
    /// `Ptq` when the model has no BatchNormalization left, or they do not say enough.
    pub fn calibrate_from_statistics(
        self,
        limits: &[(f32, f32)],
        recipe: &Recipe,
    ) -> Result<Calibrated, Error> {
        let prepared = Prepared::new(&self.model, recipe)?;
        let graph = &prepared.graph;
        let plan = Plan::new(graph, recipe.has_channel_scales())?;
        let statistics = prepared.statistics(&self.model)?;
        let rule = (recipe.activations, limits);
        let calibration = calibrate_from_statistics(graph, &plan, &statistics, rule)?;
        Ok(Calibrated { float: self, prepared, plan, calibration, recipe: recipe.clone() })
    }
}

impl Calibrated {
    /// Quantizes weights, biases and activations, and takes the recipe's steps. Steps that learn do so on `images`; `seed` names what they
    /// draw at random.
    ///
    /// # Errors
    /// `Ptq` when a weight or range is not finite, a quantizer does not fit its layer, or an image cannot be read.
    pub fn quantize(
        self,
        images: &dyn Samples,
        seed: u64,
        watch: &dyn Watch,
    ) -> Result<Quantized, Error> {
        let graph = &self.prepared.graph;
        let assignment = self.recipe.assign(graph);
        let importance = self.importance(&assignment, images, watch)?;
        let shared = self.recipe.shared_codebook.then(|| self.recipe.weights.clone());
        let rounding = Rounding { assignment, importance, shared, seed };
        let quantized = quantize(graph, &self.plan, &self.calibration, &rounding)?;
        let given = steps::Given {
            graph,
            assignment: &rounding.assignment,
            calibration: &self.calibration,
            images,
            seed,
            watch,
        };
        let (quantized, reports) = given.run(quantized, &self.recipe.steps)?;
        let (integer, placements) = lower_qdq(&quantized.graph)?;
        let Calibrated { float, prepared, recipe, .. } = self;
        let steps = [prepared.reports, reports].concat();
        let prepared = prepared.graph;
        Ok(Quantized { float, prepared, quantized, integer, placements, steps, recipe })
    }

    /// How much each weight matters, of the layers whose quantizers ask, by node.
    fn importance(
        &self,
        assignment: &Assignment,
        images: &dyn Samples,
        watch: &dyn Watch,
    ) -> Result<BTreeMap<usize, Vec<f32>>, Error> {
        let refused = |message| Error::Recipe { place: "recipe".to_owned(), message };
        self.recipe.check().map_err(refused)?;
        let Some(Importance::Activations) = self.recipe.importance else {
            return Ok(BTreeMap::new());
        };
        steps::needs_images("importance", images)?;
        watch.begin("importance", images.len());
        let asking = assignment.layers.iter().filter(|(_, layer)| layer.weights.takes_importance());
        let nodes: Vec<usize> = asking.map(|(&index, _)| index).collect();
        Ok(importance(&self.prepared.graph, &nodes, images, &|n| watch.advance(n))?)
    }
}

/// Hears how the steps of a recipe go.
pub trait Watch: Sync {
    /// A step of `total` iterations begins.
    fn begin(&self, step: &'static str, total: usize);

    /// `done` more iterations of it are over.
    fn advance(&self, done: usize);
}

/// Nobody watches.
impl Watch for () {
    fn begin(&self, _: &'static str, _: usize) {}

    fn advance(&self, _: usize) {}
}

/// What one step of a recipe did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Its name.
    pub step: String,
    /// Errors of the units it learned, before and after.
    pub units: Vec<UnitReport>,
}

impl Quantized {
    /// How far each quantized activation lies from its float original on `images`.
    ///
    /// # Errors
    /// `Ptq` when an image cannot be read.
    pub fn layer_errors(
        &self,
        images: &dyn Samples,
        progress: Progress<'_>,
    ) -> Result<Vec<LayerError>, Error> {
        let float = &self.prepared;
        Ok(layer_errors(float, &self.quantized, &self.integer, images, progress)?)
    }

    /// The layers with weights, in graph order, with the errors that [`Quantized::layer_errors`] found.
    ///
    /// # Errors
    /// `Graph` when the float model does not run.
    pub fn layers(&self, errors: &[LayerError]) -> Result<Vec<LayerResult>, Error> {
        let (model, graph) = (&self.float.model, &self.prepared);
        let traced = trace(graph, &[Tensor::full(model.input_shape.to_vec(), 0.5f32)])?;
        let mut layers = vec![];
        for node in &graph.nodes {
            let weight = self.quantized.weights.iter().find(|w| w.node == node.name);
            let Some(weight) = weight else { continue };
            let error = errors.iter().find(|error| error.value == node.output());
            let bias = weight.bias.as_ref().map_or(0, |bias| 4 * bias.values.len() as u64);
            layers.push(LayerResult {
                name: node.name.clone(),
                op: node.op.name().to_owned(),
                bits_w: Some(weight.coded.bits().into()),
                bits_a: Some(weight.input_bits.into()),
                sqnr_db: error.map(|e| e.sqnr_db).filter(|db| db.is_finite()),
                cosine: error.map(|e| e.cosine),
                macs: macs(graph, node, &traced),
                bytes: weight.coded.size().total_bytes() + bias,
            });
        }
        Ok(layers)
    }

    /// The ONNX file, with notes.
    ///
    /// # Errors
    /// `Model` when the graph cannot be written.
    pub fn to_onnx(&self, notes: &Notes) -> Result<Vec<u8>, Error> {
        let mut graph = self.quantized.graph.clone();
        notes.write(&mut graph);
        lowbit_onnx::export_bytes(&graph).map_err(|source| Error::Model {
            path: self.float.model.path.clone(),
            source: Box::new(source),
        })
    }

    /// Writes the ONNX file whole or not at all.
    ///
    /// # Errors
    /// `Model` or `Write`.
    pub fn export(&self, path: &Path) -> Result<(), Error> {
        let notes = Notes { recipe: Some(Recipe::NAME.to_owned()), ..Notes::default() };
        write_atomically(path, &self.to_onnx(&notes)?)
    }

    /// The recipe that made it.
    #[must_use]
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }
}
