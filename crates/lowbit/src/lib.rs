//! lowbit: makes a trained image classifier small and fast, and proves what that cost.
//!
//! The stages are types, each made from the one before, so that a wrong order does not compile:
//! [`Float`] (as imported and made canonical) → [`Calibrated`] (statistics of every activation) → [`Quantized`] (an ONNX
//! graph and its integer form) → [`Evaluation`] (both run on the same labelled images) → [`Results`] (plain data).
//!
//! ```no_run
//! use lowbit::{Float, Images, Preprocess, Recipe, Split};
//!
//! let data = lowbit::Dataset::open("cifar-10-batches-bin")?;
//! let preprocess = Preprocess::default();
//! let float = Float::load("resnet20.onnx", Some([3, 32, 32]))?;
//! let calibration = Images::new(data.split(Split::Train)?.spread(512), &preprocess);
//! let quantized = float.calibrate(&calibration, &Recipe::default(), &|_| {})?.quantize(&calibration, 0, &())?;
//! quantized.export("resnet20.int8.onnx".as_ref())?;
//! # Ok::<(), lowbit::Error>(())
//! ```

mod bench;
mod c;
mod compressed;
mod error;
mod evaluate;
mod format;
mod images;
mod inspect;
mod model;
mod output;
mod recipe;
mod results;
mod stages;

pub use bench::{BenchOptions, Benchmark, BitSerial, LayerTime, Spread, bench};
pub use c::{CSource, to_c};
pub use error::Error;
pub use evaluate::{Outcome, Runner, evaluate, top_classes};
pub use format::{Format, convert};
pub use images::{Images, NoImages};
pub use inspect::{Inspection, NodeReport, Target, inspect};
pub use lowbit_data::{Channels, DataError, Dataset, Filter, IdxBytes, Layout, Preprocess, Resize};
pub use lowbit_data::{Image, Kind, Split, Subset, fetch, preprocess};
pub use lowbit_quant::{PRESETS as QUANTIZERS, Quantizer, RangeRule};
pub use model::{InputShape, Model, Notes};
pub use output::write_atomically;
pub use recipe::{
    Distilled, FloatStep, Importance, LayerKind, LayerRecipe, Override, PRESETS, Recipe,
    RecipePreset, Source, Step, Which,
};
pub use results::{Accuracy, Drop, Evaluation, LayerResult, Results, Seconds, Sizes, wilson};
pub use stages::{Calibrated, Float, Quantized, StepReport, Watch};
