//! What a run found, as plain data: `results.json`.

use serde::{Deserialize, Serialize};

use crate::Outcome;

/// Two-sided 95 % quantile of the normal distribution.
const Z95: f64 = 1.959_963_984_540_054;

/// The Wilson score interval of a proportion, in percent (Wilson 1927): honest near 0 and 100 % and for few images.
#[must_use]
pub fn wilson(successes: usize, trials: usize) -> [f64; 2] {
    if trials == 0 {
        return [0.0, 100.0];
    }
    let (n, p) = (trials as f64, successes as f64 / trials as f64);
    let z2 = Z95 * Z95;
    let center = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    [100.0 * (center - half).max(0.0), 100.0 * (center + half).min(1.0)]
}

/// Accuracy in percent, with the 95 % interval of top-1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Share of images whose label has the highest score.
    pub top1: f64,
    /// Share of images whose label is among the five highest.
    pub top5: f64,
    /// Wilson interval of top1.
    pub ci95: [f64; 2],
}

impl Accuracy {
    /// Of outcomes that have labels; `None` when none has.
    #[must_use]
    pub fn of(outcomes: &[Outcome]) -> Option<Accuracy> {
        let count = |hit: fn(&Outcome) -> Option<bool>| {
            outcomes.iter().filter(|outcome| hit(outcome) == Some(true)).count()
        };
        let labelled = outcomes.iter().filter(|outcome| outcome.correct1.is_some()).count();
        if labelled == 0 {
            return None;
        }
        let (top1, top5) = (count(|o| o.correct1), count(|o| o.correct5));
        let percent = |hits: usize| 100.0 * hits as f64 / labelled as f64;
        Some(Accuracy { top1: percent(top1), top5: percent(top5), ci95: wilson(top1, labelled) })
    }
}

/// Float minus quantized accuracy on the same images, in points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drop {
    /// Of top-1.
    pub top1: f64,
    /// Paired 95 % interval: from the images on which exactly one of the two is right.
    pub ci95: [f64; 2],
}

impl Drop {
    /// Of two classifiers' outcomes on the same images; `None` when no image has a label.
    #[must_use]
    pub fn of(float: &[Outcome], quantized: &[Outcome]) -> Option<Drop> {
        let (mut lost, mut won, mut n) = (0.0f64, 0.0f64, 0.0f64);
        for (a, b) in float.iter().zip(quantized) {
            let (Some(a), Some(b)) = (a.correct1, b.correct1) else { continue };
            n += 1.0;
            lost += f64::from(u8::from(a && !b));
            won += f64::from(u8::from(b && !a));
        }
        if n == 0.0 {
            return None;
        }
        let drop = (lost - won) / n;
        let error = ((lost + won) / n - drop * drop).max(0.0).sqrt() / n.sqrt();
        let half = Z95 * error;
        Some(Drop { top1: 100.0 * drop, ci95: [100.0 * (drop - half), 100.0 * (drop + half)] })
    }
}

/// Bytes of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// The float file.
    pub float: u64,
    /// The quantized file, scales and zero points included.
    pub quantized: u64,
}

/// Wall time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Collecting statistics.
    pub calibrate: f64,
    /// Everything between statistics and the quantized graph.
    pub quantize: f64,
    /// Running both models on the evaluation images.
    pub evaluate: f64,
}

/// One layer with weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerResult {
    /// The node's name.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// Bits of a weight; `null` where there are none.
    pub bits_w: Option<u32>,
    /// Bits of an input activation.
    pub bits_a: Option<u32>,
    /// Signal to quantization noise of the layer's result, all layers before it quantized too; `null` where the result stays
    /// float or did not move.
    pub sqnr_db: Option<f64>,
    /// Cosine between the float result and the quantized one.
    pub cosine: Option<f64>,
    /// Multiply-accumulates for one image.
    pub macs: u64,
    /// Bytes of weights, scales and biases.
    pub bytes: u64,
}

/// Accuracy of one model or of a float and a quantized one on the same images.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Images evaluated.
    pub images: usize,
    /// The float model's.
    pub float: Option<Accuracy>,
    /// The quantized model's integer path.
    pub quantized: Option<Accuracy>,
    /// Float minus quantized.
    pub drop: Option<Drop>,
    /// Percent of images on which both name the same class.
    pub agreement: f64,
}

impl Evaluation {
    /// Compares outcomes on the same images.
    #[must_use]
    pub fn of(float: &[Outcome], quantized: &[Outcome]) -> Evaluation {
        let same = float.iter().zip(quantized).filter(|(a, b)| a.top1 == b.top1).count();
        Evaluation {
            images: float.len(),
            float: Accuracy::of(float),
            quantized: Accuracy::of(quantized),
            drop: Drop::of(float, quantized),
            agreement: 100.0 * same as f64 / float.len().max(1) as f64,
        }
    }
}

/// Everything `lowbit quantize` found; the keys are stable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The float model's file name.
    pub model: String,
    /// The recipe's name.
    pub recipe: String,
    /// The recipe's settings.
    pub settings: crate::Recipe,
    /// Seed of everything random.
    pub seed: u64,
    /// Images the ranges come from.
    pub calibration_images: usize,
    /// Images evaluated.
    pub images: usize,
    /// The float model; `null` without labels.
    pub float: Option<Accuracy>,
    /// The quantized model; `null` without labels.
    pub quantized: Option<Accuracy>,
    /// Float minus quantized; `null` without labels.
    pub drop: Option<Drop>,
    /// Percent of images on which both name the same class; `null` when nothing was evaluated.
    pub agreement: Option<f64>,
    /// File sizes.
    pub size_bytes: Sizes,
    /// Layers with weights, in graph order.
    pub layers: Vec<LayerResult>,
    /// What the recipe's steps did.
    pub steps: Vec<crate::StepReport>,
    /// Wall times.
    pub seconds: Seconds,
}
