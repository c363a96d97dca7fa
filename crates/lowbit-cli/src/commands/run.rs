//! `lowbit run`: classifies images.

use std::path::PathBuf;

use clap::Args;
use lowbit::{Image, Runner, top_classes};
use lowbit_graph::Workspace;
use lowbit_tensor::Tensor;

use crate::args::{GeneralArgs, PreprocessArgs, read_classes};
use crate::open::{Given, ModelSource, Opened, check_shape, open};
use crate::table::{Align, bar, render};
use crate::terminal::{Style, Terminal};

/// The arguments of `lowbit run`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// The model, float or quantized
    model: PathBuf,
    /// JPEG or PNG images
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// How many classes to show
    #[arg(short = 'k', long, value_name = "K", default_value_t = 5, value_parser = top_parser())]
    top: u64,
    /// Class names, one per line [default: those kept in the model]
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    #[command(flatten)]
    general: GeneralArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
}

const EXAMPLES: &str = "\
Scores are turned into probabilities by a softmax unless they are probabilities already.
Examples:
  lowbit run net.int8.onnx cat.jpg dog.png
  lowbit run net.onnx cat.jpg -k 3 --classes names.txt --resize 256 --crop 224";

fn top_parser() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=1000)
}

/// Classifies every image.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<()> {
    args.general.apply()?;
    let terminal = Terminal::new(&args.general, None);
    let source = ModelSource::File(args.model.clone());
    let first = Image::open(&args.images[0])?;
    let shape_of = |preprocess: &lowbit::Preprocess| preprocess.output_shape(&first.info());
    let given = Given { shape_of: &shape_of, labels: None, related: None };
    let opened = open(&source, &args.preprocess, given)?;
    if opened.assumed {
        terminal.note(format_args!("preprocessing assumed: {}", opened.preprocess));
    }
    let classes = match &args.classes {
        Some(path) => Some(read_classes(path)?),
        None => opened.model.notes.classes.clone(),
    };
    let runner = Runner::new(&opened.model.graph, &opened.model.input_shape)?;
    let mut work = Workspace::serial();
    for path in &args.images {
        let scores = runner.scores(input(&opened, &Image::open(path)?)?, &mut work)?;
        let probabilities = probabilities(&scores);
        terminal.print(&format!("{}\n", path.display()));
        let top = usize::try_from(args.top).unwrap_or(usize::MAX);
        let rows: Vec<Vec<String>> = top_classes(&scores, top)
            .into_iter()
            .map(|class| row(&terminal, class, probabilities[class], classes.as_deref()))
            .collect();
        let columns = [("", Align::Right), ("", Align::Left), ("", Align::Left)];
        terminal.print(&render(&columns, &rows));
    }
    Ok(())
}

fn input(opened: &Opened, image: &Image) -> anyhow::Result<Tensor> {
    let [a, b, c] = opened.preprocess.output_shape(&image.info())?;
    check_shape(opened.model.image_dims(), &opened.preprocess, [a, b, c])?;
    let mut values = vec![0.0; a * b * c];
    opened.preprocess.apply(image, &mut values)?;
    Ok(Tensor::new([1, a, b, c], values))
}

fn row(terminal: &Terminal, class: usize, share: f32, classes: Option<&[String]>) -> Vec<String> {
    const WIDTH: usize = 20;
    let name = classes.and_then(|names| names.get(class)).cloned();
    let name = name.unwrap_or_else(|| format!("class {class}"));
    let bar = bar(share.into(), WIDTH);
    vec![format!("{:.1} %", 100.0 * share), name, terminal.paint(Style::Green, &bar)]
}

/// The scores as probabilities: as they are if they are not negative and sum to 1 within 0.001, else through a softmax.
fn probabilities(scores: &[f32]) -> Vec<f32> {
    const TOLERANCE: f32 = 1e-3;
    let sum: f32 = scores.iter().sum();
    if scores.iter().all(|&score| score >= 0.0) && (sum - 1.0).abs() <= TOLERANCE {
        return scores.to_vec();
    }
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = scores.iter().map(|score| (score - highest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one() {
        assert_eq!(probabilities(&[0.25, 0.75]), [0.25, 0.75]);
        assert_eq!(probabilities(&[1000.0, 1000.0]), [0.5, 0.5]);
        assert!((probabilities(&[3.0, -1.0, 0.5]).iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
}
