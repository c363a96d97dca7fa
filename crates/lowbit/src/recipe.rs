//! What is done to a model: plain data, by name or from a file.

mod file;
mod presets;

use std::path::Path;

use lowbit_graph::{Graph, Node, Op};
use lowbit_ptq::{
    Assignment, ChannelBits, Equalization, Gptq, Layer, Moment, OutlierSplitting, Position,
    Reconstruction,
};
use lowbit_quant::{Granularity, Quantizer, RangeRule};
use serde::{Deserialize, Serialize};

use crate::Error;

pub use presets::{PRESETS, RecipePreset};

/// How a model is quantized.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Recipe {
    /// How activation ranges are chosen.
    pub activations: RangeRule,
    /// Bits of the activations that layers read, 2 to 8.
    pub activation_bits: u8,
    /// Whether activations get a scale per channel where their neighbours absorb it. Only where weights have one too and no activation
    /// has fewer than 8 bits.
    pub channel_scales: bool,
    /// How weights are quantized.
    pub weights: Quantizer,
    /// How much each weight's error counts, of layers whose scale rule asks; all the same where `None`.
    pub importance: Option<Importance>,
    /// Whether the layers that `weights` quantizes have one codebook together.
    pub shared_codebook: bool,
    /// The first and the last layer, where they differ from the others.
    pub ends: Option<LayerRecipe>,
    /// Layers that differ, by name or kind; the last that matches counts.
    pub layers: Vec<Override>,
    /// What activations are measured on.
    pub calibration: Source,
    /// What is done to the float model before, in order.
    pub float_steps: Vec<FloatStep>,
    /// What is done to the quantized model then, in order.
    pub steps: Vec<Step>,
}

/// Where the importance of weights comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Importance {
    /// The second moments of what each weight multiplies: [`lowbit_ptq::importance`].
    Activations,
}

/// What activations are measured on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Images that the caller gives.
    Images,
    /// Images made from the model's BatchNormalization statistics.
    Distilled(Distilled),
    /// No images: ranges that follow from the model's BatchNormalization statistics.
    Statistics,
}

/// How images are made from statistics: [`lowbit_ptq::ZeroQ`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Distilled {
    /// How many.
    pub images: usize,
    /// Steps.
    pub iterations: usize,
    /// Length of a step, in the units of the network's input.
    pub rate: f32,
    /// Quantile of noise below which differences do not count.
    pub slack: f32,
}

impl Source {
    /// Distilled images as a recipe names them without saying more.
    pub const DISTILLED: Source =
        Source::Distilled(Distilled { images: 64, iterations: 100, rate: 0.1, slack: 0.0 });
}

/// The quantizers of some layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LayerRecipe {
    /// How their weights are quantized.
    pub weights: Quantizer,
    /// Bits of the activations they read.
    pub activation_bits: u8,
}

/// Layers that differ from the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Override {
    /// Which.
    pub which: Which,
    /// How their weights are quantized, if not as the others'.
    pub weights: Option<Quantizer>,
    /// Bits of the activations they read, if not as the others'.
    pub activation_bits: Option<u8>,
}

/// Picks layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// By the node's name, in which `*` stands for anything.
    Name(String),
    /// By what they are.
    Kind(LayerKind),
}

/// Kinds of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerKind {
    /// Convolutions with one input channel a group.
    Depthwise,
    /// Convolutions of 1x1 that are not depthwise.
    Pointwise,
    /// All other convolutions.
    Conv,
    /// Fully connected layers.
    Gemm,
    /// The layers that read the image.
    First,
    /// The layers that make the scores.
    Last,
}

/// An algorithm that changes the float model, before anything is quantized.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum FloatStep {
    /// Channels between two layers get weights of equal range.
    Equalize(Equalization),
    /// Channels that hold a layer's largest weights are doubled and halved.
    SplitOutliers(OutlierSplitting),
}

/// An algorithm that changes the quantized model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum Step {
    /// Channels of a layer get bits of their own, as many on average as they had.
    AllocateBits(ChannelBits),
    /// Biases take back the mean shift of the rounded weights.
    BiasCorrection,
    /// Layers get the mean, or mean and spread, back that they have in the float network, as measured.
    Reestimate {
        /// Which.
        moment: Moment,
    },
    /// Roundings are turned until their errors cancel in every kernel and channel.
    Squant,
    /// Weights are rounded one after the other, those left making up for the error.
    Gptq(Gptq),
    /// Roundings, weights, biases and step sizes are learned.
    Reconstruct(Reconstruction),
}

impl FloatStep {
    /// The step's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            FloatStep::Equalize(_) => "equalize",
            FloatStep::SplitOutliers(_) => "outlier-channel-splitting",
        }
    }
}

impl Step {
    /// Whether it reads images.
    #[must_use]
    pub fn needs_images(&self) -> bool {
        match self {
            Step::Gptq(_) | Step::Reestimate { .. } | Step::Reconstruct(_) => true,
            Step::AllocateBits(_) | Step::BiasCorrection | Step::Squant => false,
        }
    }

    /// The step's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Step::AllocateBits(_) => "channel-bits",
            Step::BiasCorrection => "bias-correction",
            Step::Reestimate { moment: Moment::Mean } => "empirical-bias-correction",
            Step::Reestimate { moment: Moment::Spread } => "batch-norm-reestimation",
            Step::Squant => "squant",
            Step::Gptq(_) => "gptq",
            Step::Reconstruct(settings) => settings.name(),
        }
    }
}

/// Bytes a recipe file may have.
const FILE_BYTES_MAX: u64 = 1 << 16;

impl Recipe {
    /// The name of the default recipe.
    pub const NAME: &'static str = "int8";

    /// The recipe of that name, or in that file, with the name it goes by.
    ///
    /// # Errors
    /// `Recipe` names the file, line and key, or the names there are.
    pub fn open(name_or_file: &str) -> Result<(String, Recipe), Error> {
        let path = Path::new(name_or_file);
        if let Some(preset) = PRESETS.iter().find(|preset| preset.name == name_or_file) {
            return Ok((preset.name.to_owned(), (preset.recipe)()));
        }
        let wrong = |message: String| Error::Recipe { place: name_or_file.to_owned(), message };
        let size = std::fs::metadata(path).map_err(|e| {
            let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
            wrong(format!("neither a file ({e}) nor a recipe; there are: {}", names.join(", ")))
        })?;
        if size.len() > FILE_BYTES_MAX {
            return Err(wrong(format!("{} bytes, expected at most {FILE_BYTES_MAX}", size.len())));
        }
        let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok((stem.into_owned(), Recipe::from_toml(&text, name_or_file)?))
    }

    /// Reads the text of a recipe file; `file` names it in errors.
    ///
    /// # Errors
    /// `Recipe` names the line and what is wrong with it.
    pub fn from_toml(text: &str, file: &str) -> Result<Recipe, Error> {
        file::parse(text, file)
    }

    /// Refuses settings that the quantizer of weights would ignore.
    ///
    /// # Errors
    /// Says which, and what it goes with.
    pub fn check(&self) -> Result<(), String> {
        if self.shared_codebook && !self.weights.is_shareable() {
            let found = self.weights.grid.name();
            return Err(format!(
                "shared_codebook: found weights of grid {found}, expected a codebook of numbers per tensor"
            ));
        }
        if self.importance.is_none() {
            return Ok(());
        }
        if !self.weights.takes_importance() {
            return Err(format!(
                "importance: the scale rule {} ignores it; those of least squares, means and clusters do not",
                self.weights.scale.name()
            ));
        }
        if self.steps.iter().any(|step| matches!(step, Step::AllocateBits(_))) {
            return Err("importance: the step channel-bits fits weights anew without it".to_owned());
        }
        Ok(())
    }

    /// Whether activations get scales per channel.
    #[must_use]
    pub fn has_channel_scales(&self) -> bool {
        let mut all = std::iter::once((&self.weights, self.activation_bits))
            .chain(self.ends.iter().map(|ends| (&ends.weights, ends.activation_bits)))
            .chain(self.layers.iter().map(|layer| {
                let weights = layer.weights.as_ref().unwrap_or(&self.weights);
                (weights, layer.activation_bits.unwrap_or(self.activation_bits))
            }));
        let fits = |(weights, bits): (&Quantizer, u8)| {
            weights.granularity == Granularity::Channel && bits == 8
        };
        self.channel_scales && all.all(fits)
    }

    /// Which layer of `graph` gets which quantizers.
    #[must_use]
    pub fn assign(&self, graph: &Graph) -> Assignment {
        Assignment::new(graph, |node, position| {
            let ends = self.ends.as_ref().filter(|_| position != Position::Middle);
            let mut layer = match ends {
                Some(ends) => {
                    Layer { weights: ends.weights.clone(), activation_bits: ends.activation_bits }
                }
                None => {
                    Layer { weights: self.weights.clone(), activation_bits: self.activation_bits }
                }
            };
            for other in self.layers.iter().filter(|o| o.which.matches(graph, node, position)) {
                layer.activation_bits = other.activation_bits.unwrap_or(layer.activation_bits);
                if let Some(weights) = &other.weights {
                    layer.weights = weights.clone();
                }
            }
            layer
        })
    }
}

impl Default for Recipe {
    fn default() -> Self {
        presets::int8()
    }
}

impl Which {
    fn matches(&self, graph: &Graph, node: &Node, position: Position) -> bool {
        match self {
            Which::Name(pattern) => glob(pattern.as_bytes(), node.name.as_bytes()),
            Which::Kind(LayerKind::First) => position == Position::First,
            Which::Kind(LayerKind::Last) => position == Position::Last,
            Which::Kind(kind) => LayerKind::of(graph, node) == Some(*kind),
        }
    }
}

impl LayerKind {
    /// What a node is, apart from where it stands.
    fn of(graph: &Graph, node: &Node) -> Option<LayerKind> {
        let weight = graph.constant_input(node, 1)?;
        match (&node.op, &weight.shape()[..]) {
            (Op::Gemm(_), _) => Some(LayerKind::Gemm),
            (Op::Conv(conv), [_, 1, ..]) if conv.groups > 1 => Some(LayerKind::Depthwise),
            (Op::Conv(_), [_, _, 1, 1]) => Some(LayerKind::Pointwise),
            (Op::Conv(_), _) => Some(LayerKind::Conv),
            _ => None,
        }
    }
}

/// Whether `text` is `pattern`, in which `*` stands for any run of bytes.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', rest @ ..] => (0..=text.len()).any(|i| glob(rest, &text[i..])),
        [first, rest @ ..] => text.first() == Some(first) && glob(rest, &text[1..]),
    }
}

#[cfg(test)]
mod tests;
