//! `lowbit eval`: the accuracy of any model, float or quantized, run natively.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use lowbit::{Accuracy, Dataset, Drop, Evaluation, Images, Outcome, Preprocess, Runner, Subset};
use serde::Serialize;

use crate::args::{Destination, GeneralArgs, PreprocessArgs};
use crate::checks::check_accuracy;
use crate::open::{Given, ModelSource, Opened, open};
use crate::output;
use crate::progress::Stage;
use crate::table::{Align, count, prefixed, render};
use crate::terminal::{Style, Terminal};

/// The arguments of `lowbit eval`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EvalArgs {
    /// The model, float or quantized, by lowbit or by another tool
    model: PathBuf,
    /// Labelled images: CIFAR-10 batches, IDX files, class folders, or a CSV; its test split if it has one
    #[arg(long, value_name = "D")]
    data: PathBuf,
    /// Another model to run on the same images, for the paired difference
    #[arg(long, value_name = "OTHER")]
    compare: Option<PathBuf>,
    /// Evaluate on this many images, evenly spread [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    images: Option<u32>,
    /// Compare every score of compiled models with the executor's, and fail at the first that differs in a bit (slow)
    #[arg(long)]
    check: bool,
    /// Write the numbers as JSON; - for stdout
    #[arg(long, value_name = "FILE", value_parser = |text: &str| Ok::<_, String>(Destination::from(text)))]
    json: Option<Destination>,
    #[command(flatten)]
    general: GeneralArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
}

const EXAMPLES: &str = "\
Models that lowbit wrote remember their preprocessing: flags are needed for others only.
Examples:
  lowbit eval net.int8.onnx --data cifar10/
  lowbit eval net.onnx --data photos.csv --resize 256 --crop 224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
  lowbit eval net.int8.onnx --data cifar10/ --compare net.onnx";

/// What one model scored.
#[derive(Debug, Serialize)]
struct ModelScore {
    model: String,
    quantized: bool,
    size_bytes: u64,
    preprocess: Preprocess,
    #[serde(flatten)]
    accuracy: Accuracy,
}

/// `--json` of this command.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    score: ModelScore,
    data: String,
    images: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    compare: Option<Comparison>,
    /// Whether every score was found equal to the executor's.
    checked: bool,
    seconds: f64,
}

/// The other model, and how the two differ: `drop` is the other minus this one.
#[derive(Debug, Serialize)]
struct Comparison {
    #[serde(flatten)]
    score: ModelScore,
    drop: Drop,
    agreement: f64,
}

/// Evaluates.
pub(crate) fn run(args: &EvalArgs) -> anyhow::Result<()> {
    args.general.apply()?;
    let terminal = Terminal::new(&args.general, args.json.as_ref());
    if let Some(path) = args.json.as_ref().and_then(Destination::file) {
        output::check(path)?;
    }
    let dataset = Dataset::open(&args.data)?;
    let all = dataset.evaluation();
    let subset = args.images.map_or_else(|| all.clone(), |n| all.spread(n as usize));
    let models = open_all(&terminal, args, &subset)?;
    let stage = Stage::start(&terminal, "evaluate", subset.len());
    let outcomes = evaluate_all(&models, &subset, (args.check, &stage))?;
    let seconds = stage.finish().as_secs_f64();
    let mut scores = vec![];
    for (opened, outcomes) in models.iter().zip(&outcomes) {
        let accuracy = Accuracy::of(outcomes).context("no image has a label")?;
        check_accuracy(&terminal, &accuracy, opened, &subset)?;
        scores.push(score(opened, accuracy));
    }
    let mut scores = scores.into_iter();
    let score = scores.next().context("a model was opened")?;
    let compare = scores.next().map(|other| comparison(other, &outcomes)).transpose()?;
    let report = Report {
        score,
        data: dataset.name().into(),
        images: subset.len(),
        compare,
        checked: args.check,
        seconds,
    };
    terminal.print(&text(&terminal, &report));
    args.json.as_ref().map_or(Ok(()), |to| output::write_json(to, &report))
}

/// Opens the model, and the other if there is one. A model without notes takes the other's.
fn open_all(terminal: &Terminal, args: &EvalArgs, subset: &Subset) -> anyhow::Result<Vec<Opened>> {
    let shape_of = |preprocess: &Preprocess| subset.output_shape(preprocess);
    let labels = Some(subset.dataset());
    let open_with = |path: &Path, related: Option<&Preprocess>| {
        let given = Given { shape_of: &shape_of, labels, related };
        open(&ModelSource::File(path.to_path_buf()), &args.preprocess, given)
    };
    let own_notes = |opened: &Opened| opened.model.notes.preprocess.clone();
    let other = args.compare.as_ref().map(|path| (path, open_with(path, None)));
    let notes = other.as_ref().and_then(|(_, other)| own_notes(other.as_ref().ok()?));
    let mut models = vec![open_with(&args.model, notes.as_ref())?];
    match other {
        None => {}
        Some((_, Ok(other))) if own_notes(&other).is_some() => models.push(other),
        Some((path, _)) => models.push(open_with(path, own_notes(&models[0]).as_ref())?),
    }
    for opened in &models {
        let path = opened.model.path.display();
        if opened.assumed {
            terminal.note(format_args!("preprocessing assumed: {}", opened.preprocess));
        } else if own_notes(opened).is_none() && !args.preprocess.says_values() {
            terminal.note(format_args!("{path} is preprocessed as the other model says"));
        }
    }
    Ok(models)
}

/// Runs all models together where they read the same input, else one after the other.
fn evaluate_all(
    models: &[Opened],
    subset: &Subset,
    (check, stage): (bool, &Stage),
) -> anyhow::Result<Vec<Vec<Outcome>>> {
    let runner = |opened: &Opened| {
        let (graph, shape) = (&opened.model.graph, &opened.model.input_shape);
        anyhow::Ok(if check { Runner::checked(graph, shape)? } else { Runner::new(graph, shape)? })
    };
    let runners: Vec<Runner> = models.iter().map(runner).collect::<anyhow::Result<_>>()?;
    if check {
        let compiled = runners.iter().any(Runner::is_compiled);
        ensure!(
            compiled,
            "--check compares compiled models with the executor; no model given is one"
        );
    }
    let images = |opened: &Opened| Images::new(subset.clone(), &opened.preprocess);
    if models.iter().all(|opened| opened.preprocess == models[0].preprocess) {
        let runners: Vec<&Runner> = runners.iter().collect();
        return Ok(lowbit::evaluate(&runners, &images(&models[0]), &|n| stage.advance(n))?);
    }
    stage.lengthen(subset.len() * models.len());
    let mut outcomes = vec![];
    for (opened, runner) in models.iter().zip(&runners) {
        outcomes.extend(lowbit::evaluate(&[runner], &images(opened), &|n| stage.advance(n))?);
    }
    Ok(outcomes)
}

fn score(opened: &Opened, accuracy: Accuracy) -> ModelScore {
    let model = &opened.model;
    ModelScore {
        model: file_name(&model.path),
        quantized: model.is_quantized(),
        size_bytes: model.size_bytes,
        preprocess: opened.preprocess.clone(),
        accuracy,
    }
}

fn comparison(score: ModelScore, outcomes: &[Vec<Outcome>]) -> anyhow::Result<Comparison> {
    let evaluation = Evaluation::of(&outcomes[1], &outcomes[0]);
    let drop = evaluation.drop.context("no image has a label")?;
    Ok(Comparison { score, drop, agreement: evaluation.agreement })
}

/// The last part of a path.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn text(terminal: &Terminal, report: &Report) -> String {
    let head = [
        ("model", Align::Left),
        ("top-1", Align::Right),
        ("95 % interval", Align::Right),
        ("top-5", Align::Right),
        ("size", Align::Right),
        ("", Align::Left),
    ];
    let row = |score: &ModelScore| {
        let accuracy = &score.accuracy;
        vec![
            score.model.clone(),
            terminal.paint(Style::Bold, &format!("{:.2} %", accuracy.top1)),
            format!("{:.2} to {:.2}", accuracy.ci95[0], accuracy.ci95[1]),
            format!("{:.2} %", accuracy.top5),
            prefixed(score.size_bytes, "B"),
            if score.quantized { "quantized" } else { "float" }.to_owned(),
        ]
    };
    let others = report.compare.iter().map(|compare| row(&compare.score));
    let rows: Vec<Vec<String>> = std::iter::once(row(&report.score)).chain(others).collect();
    let mut text = render(&head, &rows);
    if let Some(compare) = &report.compare {
        text += &format!(
            "\n  {} is {:+.2} points from {}, 95 % interval {:+.2} to {:+.2} (paired); same class for {:.2} %\n",
            report.score.model,
            0.0 - compare.drop.top1,
            compare.score.model,
            0.0 - compare.drop.ci95[1],
            0.0 - compare.drop.ci95[0],
            compare.agreement,
        );
    }
    let images = count(report.images as u64);
    let checked = if report.checked { "; every score is the executor's, bit for bit" } else { "" };
    text + &format!("\n  {images} images of {} in {:.1} s{checked}\n", report.data, report.seconds)
}
