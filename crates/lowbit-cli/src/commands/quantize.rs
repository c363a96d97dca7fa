//! `lowbit quantize`: a float model in, a quantized model and its proof out.

mod images;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use clap::Args;
use lowbit::{
    Dataset, Evaluation, Float, Format, Images, Model, NoImages, Notes, Preprocess, Quantized,
    Quantizer, RangeRule, Recipe, Results, Runner, Seconds, Sizes, Source, Subset, Watch,
};
use lowbit_ptq::Samples;

use crate::args::{Destination, GeneralArgs, PreprocessArgs, Usage, read_classes};
use crate::checks::check_accuracy;
use crate::commands::Verdict;
use crate::format::FormatName;
use crate::open::{EMBEDDED_NAME, Given, ModelSource, Opened, open, open_alone};
use crate::output;
use crate::progress::Stage;
use crate::terminal::Terminal;

use images::Chosen;

/// The arguments of `lowbit quantize`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct QuantizeArgs {
    /// The float model (ONNX) [default: a small built-in one, with built-in data]
    model: Option<PathBuf>,
    /// Where to write the quantized model [default: MODEL.RECIPE.onnx beside the model, .lbz if compressed]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// What is done to the model: a name that `lowbit recipes` lists, or a TOML file
    #[arg(long, value_name = "NAME|FILE", default_value = "int8")]
    recipe: String,
    /// How the quantized model is written [default: qdq, or qdq-packed where weights have fewer than 8 bits]
    #[arg(long, value_enum)]
    format: Option<FormatName>,
    /// How activation ranges are chosen: min-max, moving-average, percentile, mse, kl [default: the recipe's, mse]
    #[arg(long, value_name = "NAME", value_parser = RangeRule::parse)]
    observer: Option<RangeRule>,
    /// How weights are quantized: a name that `lowbit recipes --quantizers` lists [default: the recipe's]
    #[arg(long, value_name = "NAME", value_parser = Quantizer::preset)]
    weights: Option<Quantizer>,
    /// Exit with 3 if top-1 drops by more than this many points: 1% or 1
    #[arg(long, value_name = "X%", value_parser = parse_points)]
    max_drop: Option<f64>,
    /// Write all results as JSON; - for stdout
    #[arg(long, value_name = "FILE", value_parser = |text: &str| Ok::<_, String>(Destination::from(text)))]
    json: Option<Destination>,
    /// Class names to keep in the model, one per line [default: the model's, else the data's]
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    #[command(flatten)]
    general: GeneralArgs,
    #[command(flatten)]
    images: images::ImageArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
}

const EXAMPLES: &str = "\
Examples:
  lowbit quantize                                  a built-in model and data, to see how it goes
  lowbit quantize net.onnx --data cifar10/         calibrates on train, evaluates on test images
  lowbit quantize net.onnx --data photos.csv --resize 256 --crop 224 \\
      --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
                                                   a set without splits is divided
  lowbit quantize net.onnx --calib some/ --eval val/ --max-drop 1% --json results.json
  lowbit quantize net.onnx --calib some/ --no-eval   without labels
  lowbit quantize net.onnx --data-free             without any image

The preprocessing is kept in the quantized model: `lowbit eval` and `lowbit run` need no flags for it.";

fn parse_points(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim_end();
    let points = number.parse().ok().filter(|points: &f64| (0.0..=100.0).contains(points));
    points.ok_or_else(|| "expected points of 0 to 100, as in 1% or 0.5".to_owned())
}

/// What the stages found.
struct Found {
    quantized: Quantized,
    results: Results,
}

/// Quantizes, evaluates, writes, reports.
pub(crate) fn run(args: &QuantizeArgs) -> anyhow::Result<Verdict> {
    args.general.apply()?;
    let terminal = Terminal::new(&args.general, args.json.as_ref());
    let source = args.model.clone().map_or(ModelSource::Embedded, ModelSource::File);
    let target = target(args, &source)?;
    let (recipe, lost) = recipe(args)?;
    if let Some(lost) = lost {
        terminal.note(format_args!("{lost}"));
    }
    let chosen = match recipe.calibration {
        Source::Images => images::choose(&terminal, &args.images, &source)?,
        Source::Distilled(_) | Source::Statistics => {
            images::choose_data_free(&args.images, &source)?
        }
    };
    check_labels(args, &terminal, &chosen)?;
    let opened = open_for(&source, &args.preprocess, &chosen)?;
    if opened.assumed {
        terminal.note(format_args!("preprocessing assumed: {}", opened.preprocess));
    }
    let notes = notes(args, &opened, &chosen)?;
    let made = quantize(&terminal, (&recipe, args.images.seed()), &opened, &chosen)?;
    let quantized = &made.quantized;
    let format = args.format.map_or_else(|| Format::of(quantized), Format::from);
    let bytes = quantized.to_bytes(format, &notes)?;
    let mut found = evaluate(&terminal, &opened, &chosen, made)?;
    found.results.size_bytes.quantized = bytes.len() as u64;
    found.results.seed = args.images.seed();
    found.results.recipe = Recipe::open(&args.recipe)?.0;
    output::write(&target, &bytes)?;
    if let Some(json) = &args.json {
        output::write_json(json, &found.results)?;
    }
    if let (Some(accuracy), Some(subset)) = (&found.results.float, &chosen.evaluation) {
        check_accuracy(&terminal, accuracy, &opened, subset)?;
    }
    terminal.print(&report::text(&terminal, &found, &target));
    Ok(verdict(&terminal, args, &found))
}

/// Where the model goes, once nothing speaks against it.
fn target(args: &QuantizeArgs, source: &ModelSource) -> anyhow::Result<PathBuf> {
    let (recipe, _) = Recipe::open(&args.recipe)?;
    let target =
        args.output.clone().unwrap_or_else(|| default_target(source, &recipe, args.format));
    output::check(&target)?;
    let same = |a: &Path, b: &Path| matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
    if same(&target, source.path()) && *source != ModelSource::Embedded {
        return Err(Usage(format!("{} would overwrite the float model", target.display())).into());
    }
    if let Some(json) = args.json.as_ref().and_then(Destination::file) {
        output::check(json)?;
        if json == target || same(json, source.path()) {
            let text = format!("--json {} would overwrite a model", json.display());
            return Err(Usage(text).into());
        }
    }
    Ok(target)
}

/// `net.onnx` as `net.int8.onnx` beside it; the embedded model's in the current folder.
fn default_target(source: &ModelSource, recipe: &str, format: Option<FormatName>) -> PathBuf {
    let path = match source {
        ModelSource::File(path) => path.as_path(),
        ModelSource::Embedded => Path::new(EMBEDDED_NAME),
    };
    let extension = Format::from(format.unwrap_or(FormatName::Qdq)).extension();
    path.with_extension(format!("{recipe}.{extension}"))
}

/// Opens the model, checking that its classes are those of the labels, before time is spent on it.
fn open_for(
    source: &ModelSource,
    args: &PreprocessArgs,
    chosen: &Chosen,
) -> anyhow::Result<Opened> {
    let labels = chosen.evaluation.as_ref().map(Subset::dataset);
    let labels = labels.filter(|dataset| dataset.labelled());
    let Some(images) = chosen.calibration.as_ref().or(chosen.evaluation.as_ref()) else {
        return open_alone(source, args);
    };
    let shape_of = |preprocess: &Preprocess| images.output_shape(preprocess);
    open(source, args, Given { shape_of: &shape_of, labels, related: None })
}

/// Says what cannot be measured without labels.
fn check_labels(args: &QuantizeArgs, terminal: &Terminal, chosen: &Chosen) -> anyhow::Result<()> {
    let Some(evaluation) = &chosen.evaluation else {
        return Ok(());
    };
    let dataset = evaluation.dataset();
    if dataset.labelled() {
        return Ok(());
    }
    if args.max_drop.is_some() {
        let text = format!("--max-drop needs labels, and {} has none", dataset.name());
        return Err(Usage(text).into());
    }
    terminal.note(format_args!(
        "{} has no labels: agreement with the float model is all that can be measured",
        dataset.name()
    ));
    Ok(())
}

/// What the quantized file remembers.
fn notes(args: &QuantizeArgs, opened: &Opened, chosen: &Chosen) -> anyhow::Result<Notes> {
    let classes = opened.classes;
    let data = chosen.evaluation.as_ref().or(chosen.calibration.as_ref()).map(Subset::dataset);
    let names = match &args.classes {
        Some(path) => {
            let names = read_classes(path)?;
            anyhow::ensure!(
                names.len() == classes,
                "{}: found {} class names, expected {classes}, as many as the model has",
                path.display(),
                names.len()
            );
            Some(names)
        }
        None => {
            let of_data = || data.and_then(Dataset::classes).map(<[String]>::to_vec);
            let names = opened.model.notes.classes.clone().or_else(of_data);
            names.filter(|names| names.len() == classes)
        }
    };
    Ok(Notes {
        preprocess: Some(opened.preprocess.clone()),
        classes: names,
        recipe: Some(Recipe::open(&args.recipe)?.0),
    })
}

/// The recipe, with what the command line changes, and what the format took from it.
fn recipe(args: &QuantizeArgs) -> anyhow::Result<(Recipe, Option<&'static str>)> {
    let (_, recipe) = Recipe::open(&args.recipe)?;
    let calibration = match recipe.calibration {
        Source::Images if args.images.is_data_free() => Source::DISTILLED,
        known => known,
    };
    let recipe = Recipe {
        activations: args.observer.unwrap_or(recipe.activations),
        weights: args.weights.clone().unwrap_or(recipe.weights),
        calibration,
        ..recipe
    };
    Ok(match args.format {
        Some(format) => Format::from(format).fitted(recipe),
        None => (recipe, None),
    })
}

/// A quantized model, what it was calibrated on and how long that took.
struct Made {
    quantized: Quantized,
    images: Box<dyn Samples>,
    seconds: Seconds,
}

/// Calibrates and quantizes.
fn quantize(
    terminal: &Terminal,
    (recipe, seed): (&Recipe, u64),
    opened: &Opened,
    chosen: &Chosen,
) -> anyhow::Result<Made> {
    let float = Float::new(opened.model.clone())?;
    let limits = opened.preprocess.value_limits();
    let steps = Steps { terminal, stage: Mutex::default() };
    let start = Instant::now();
    let images: Box<dyn Samples> = match (&recipe.calibration, &chosen.calibration) {
        (Source::Distilled(how), _) => Box::new(float.distill(how, &limits, seed, &steps)?),
        (Source::Images, Some(subset)) => Box::new(Images::new(subset.clone(), &opened.preprocess)),
        (Source::Images | Source::Statistics, _) => Box::new(NoImages),
    };
    drop(steps);
    let calibrated = if recipe.calibration == Source::Statistics {
        float.calibrate_from_statistics(&limits, recipe)?
    } else {
        let stage = Stage::start(terminal, "calibrate", images.len());
        float.calibrate(images.as_ref(), recipe, &|n| stage.advance(n))?
    };
    let calibrate = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let steps = Steps { terminal, stage: Mutex::default() };
    let quantized = calibrated.quantize(images.as_ref(), seed, &steps)?;
    drop(steps);
    let quantize = start.elapsed().as_secs_f64();
    Ok(Made { quantized, images, seconds: Seconds { calibrate, quantize, evaluate: 0.0 } })
}

/// Shows how the steps of a recipe go.
struct Steps<'a> {
    terminal: &'a Terminal,
    stage: Mutex<Option<Stage>>,
}

impl Watch for Steps<'_> {
    fn begin(&self, step: &'static str, total: usize) {
        if let Ok(mut stage) = self.stage.lock() {
            *stage = Some(Stage::start(self.terminal, step, total));
        }
    }

    fn advance(&self, done: usize) {
        if let Ok(stage) = self.stage.lock()
            && let Some(stage) = stage.as_ref()
        {
            stage.advance(done);
        }
    }
}

/// Images that the errors of layers are measured on: means over whole feature maps need few.
const LAYER_IMAGES: usize = 64;

/// Measures what quantization did: layer by layer, then on the evaluation images.
fn evaluate(
    terminal: &Terminal,
    opened: &Opened,
    chosen: &Chosen,
    Made { quantized, images: calibration, mut seconds }: Made,
) -> anyhow::Result<Found> {
    let given = chosen.calibration.as_ref().or(chosen.evaluation.as_ref());
    let spread = given.map(|all| Images::new(all.spread(LAYER_IMAGES), &opened.preprocess));
    let images = spread.as_ref().map_or(calibration.as_ref(), |images| images as &dyn Samples);
    let stage = Stage::start(terminal, "layers", images.len());
    let errors = quantized.layer_errors(images, &|n| stage.advance(n))?;
    drop(stage);
    let mut evaluation = None;
    if let Some(subset) = &chosen.evaluation {
        let float = Runner::new(&quantized.float.model.graph, &quantized.float.model.input_shape)?;
        let integer = Runner::new(&quantized.integer, &quantized.float.model.input_shape)?;
        let images = Images::new(subset.clone(), &opened.preprocess);
        let stage = Stage::start(terminal, "evaluate", images.len());
        let outcomes = lowbit::evaluate(&[&float, &integer], &images, &|n| stage.advance(n))?;
        seconds.evaluate = stage.finish().as_secs_f64();
        evaluation = Some(Evaluation::of(&outcomes[0], &outcomes[1]));
    }
    let model: &Model = &quantized.float.model;
    let results = Results {
        model: super::eval::file_name(&model.path),
        recipe: String::new(),
        settings: quantized.recipe().clone(),
        seed: 0,
        calibration_images: calibration.len(),
        images: evaluation.as_ref().map_or(0, |evaluation| evaluation.images),
        float: evaluation.as_ref().and_then(|evaluation| evaluation.float.clone()),
        quantized: evaluation.as_ref().and_then(|evaluation| evaluation.quantized.clone()),
        drop: evaluation.as_ref().and_then(|evaluation| evaluation.drop.clone()),
        agreement: evaluation.as_ref().map(|evaluation| evaluation.agreement),
        size_bytes: Sizes { float: model.size_bytes, quantized: 0 },
        layers: quantized.layers(&errors)?,
        steps: quantized.steps.clone(),
        seconds,
    };
    Ok(Found { quantized, results })
}

/// Whether the drop is within the wanted one.
fn verdict(terminal: &Terminal, args: &QuantizeArgs, found: &Found) -> Verdict {
    let (Some(most), Some(drop)) = (args.max_drop, &found.results.drop) else {
        return Verdict::Reached;
    };
    if drop.top1 > most {
        let top1 = drop.top1;
        terminal.warn(format_args!("top-1 drops by {top1:.2} points, more than the {most} wanted"));
        return Verdict::NotReached;
    }
    if drop.ci95[1] > most {
        terminal.note(format_args!(
            "the drop is within {most} points on these images, but its interval reaches {:.2}: more images would tell",
            drop.ci95[1]
        ));
    }
    Verdict::Reached
}
