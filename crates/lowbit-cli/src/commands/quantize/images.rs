//! Which images calibrate and which evaluate: never the same.

use std::path::{Path, PathBuf};

use clap::Args;
use lowbit::{Dataset, Kind, Split, Subset};
use lowbit_tensor::Rng;

use crate::args::Usage;
use crate::open::{ModelSource, embedded_data};
use crate::table::count;
use crate::terminal::Terminal;

/// What is said about images.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Images")]
pub(crate) struct ImageArgs {
    /// CIFAR-10 batches, IDX files, class folders, or a CSV with a header `file,label[,split]`. Calibrates on the train split and
    /// evaluates on the test split; a set without splits is divided
    #[arg(long, value_name = "D", conflicts_with_all = ["calib", "eval"])]
    data: Option<PathBuf>,
    /// What to calibrate on, instead of --data; labels are not needed
    #[arg(long, value_name = "C")]
    calib: Option<PathBuf>,
    /// What to evaluate on, instead of --data
    #[arg(long, value_name = "E")]
    eval: Option<PathBuf>,
    /// Calibrate without any image, on what the model's BatchNormalization remembers of its training; --data or --eval still
    /// evaluate
    #[arg(long, conflicts_with_all = ["calib", "calib_images"])]
    data_free: bool,
    /// Do not evaluate
    #[arg(long, conflicts_with_all = ["eval", "eval_images", "max_drop"])]
    no_eval: bool,
    /// Calibrate on this many images
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = image_count())]
    calib_images: u32,
    /// Evaluate on this many images, evenly spread [default: all]
    #[arg(long, value_name = "N", value_parser = image_count())]
    eval_images: Option<u32>,
    /// Draw the calibration images with this seed [default: evenly spread over the train split or the class folders, the
    /// first of a list without splits]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

fn image_count() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

impl ImageArgs {
    /// Whether calibration may not read images.
    pub(crate) fn is_data_free(&self) -> bool {
        self.data_free
    }

    /// The seed that results record: 0 when nothing was drawn.
    pub(crate) fn seed(&self) -> u64 {
        self.seed.unwrap_or(0)
    }

    /// Positions of `n` of `len` images: drawn with a seed, evenly spread without.
    fn positions(&self, len: usize, n: usize) -> Vec<usize> {
        let n = n.min(len);
        match self.seed {
            Some(seed) => Rng::new(seed).sample(len, n),
            None => (0..n).map(|i| i * len / n).collect(),
        }
    }
}

/// The images of both stages.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// Calibrates, unless nothing does.
    pub(crate) calibration: Option<Subset>,
    /// Evaluates, if that is wanted.
    pub(crate) evaluation: Option<Subset>,
}

/// Chooses what evaluates where no image calibrates.
pub(crate) fn choose_data_free(args: &ImageArgs, source: &ModelSource) -> anyhow::Result<Chosen> {
    let dataset = match (args.data.as_ref().or(args.eval.as_ref()), args.calib.as_ref()) {
        (None, Some(_)) if !args.no_eval => return Err(no_eval_set()),
        _ if args.no_eval => None,
        (Some(path), _) => Some(Dataset::open(path)?),
        (None, _) if *source == ModelSource::Embedded => Some(embedded_data()?),
        (None, _) => None,
    };
    let evaluation = dataset.map(|dataset| dataset.evaluation());
    let fewer = |all: Subset| args.eval_images.map_or(all.clone(), |n| all.spread(n as usize));
    Ok(Chosen { calibration: None, evaluation: evaluation.map(fewer) })
}

fn no_eval_set() -> anyhow::Error {
    Usage("--calib needs --eval E (or --no-eval)".into()).into()
}

/// Opens the data and chooses.
pub(crate) fn choose(
    terminal: &Terminal,
    args: &ImageArgs,
    source: &ModelSource,
) -> anyhow::Result<Chosen> {
    let chosen = match (&args.data, &args.calib, &args.eval) {
        (Some(data), ..) => of_one(terminal, args, &Dataset::open(data)?)?,
        // One folder named twice is a set to divide: the same images must not do both.
        (None, Some(calib), Some(eval)) if same_path(calib, eval) => {
            of_one(terminal, args, &Dataset::open(calib)?)?
        }
        (None, Some(calib), Some(eval)) => {
            let pool = Dataset::open(calib)?.calibration();
            let evaluation = Dataset::open(eval)?.evaluation();
            let positions = args.positions(pool.len(), args.calib_images as usize);
            Chosen { calibration: Some(pool.pick(&positions)?), evaluation: Some(evaluation) }
        }
        (None, Some(calib), None) if args.no_eval => {
            let pool = Dataset::open(calib)?.calibration();
            let positions = args.positions(pool.len(), args.calib_images as usize);
            Chosen { calibration: Some(pool.pick(&positions)?), evaluation: None }
        }
        (None, Some(_), None) => {
            return Err(no_eval_set());
        }
        (None, None, Some(_)) => {
            return Err(Usage("--eval needs --calib C (or --data-free)".into()).into());
        }
        (None, None, None) if *source == ModelSource::Embedded => {
            of_one(terminal, args, &embedded_data()?)?
        }
        (None, None, None) => {
            let text = "images are needed: --data D, --calib C with --eval E (or --no-eval), or --data-free";
            return Err(Usage(text.into()).into());
        }
    };
    let evaluation = chosen.evaluation.filter(|_| !args.no_eval);
    let fewer = |all: Subset| args.eval_images.map_or(all.clone(), |n| all.spread(n as usize));
    Ok(Chosen { evaluation: evaluation.map(fewer), ..chosen })
}

fn same_path(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Both stages' images from one set: by its splits, else by dividing it.
fn of_one(terminal: &Terminal, args: &ImageArgs, dataset: &Dataset) -> anyhow::Result<Chosen> {
    let wanted = args.calib_images as usize;
    let splits = dataset.splits();
    let has_test = splits.iter().any(|split| matches!(split, Split::Test | Split::Validation));
    if splits.contains(&Split::Train) && has_test {
        let pool = dataset.calibration();
        let calibration = pool.pick(&args.positions(pool.len(), wanted))?;
        let calibration = Some(calibration);
        return Ok(Chosen { calibration, evaluation: Some(dataset.evaluation()) });
    }
    let all = dataset.split(Split::All)?;
    if args.no_eval {
        let calibration = all.pick(&args.positions(all.len(), wanted))?;
        return Ok(Chosen { calibration: Some(calibration), evaluation: None });
    }
    anyhow::ensure!(
        all.len() >= 2,
        "{}: one image cannot both calibrate and evaluate",
        dataset.name()
    );
    // At most half, so that something is left to evaluate.
    let wanted = wanted.min(all.len() / 2);
    // A list is in its author's order; folders are sorted by class, where the first images would miss classes.
    let listed = dataset.describe().kind != Kind::ClassFolders;
    let (taken, how) = match args.seed {
        Some(_) => (args.positions(all.len(), wanted), "images drawn with the seed"),
        None if listed => ((0..wanted).collect(), "images from the start of the list"),
        None => (args.positions(all.len(), wanted), "evenly spread images"),
    };
    let mut is_taken = vec![false; all.len()];
    taken.iter().for_each(|&position| is_taken[position] = true);
    let rest: Vec<usize> = (0..all.len()).filter(|&position| !is_taken[position]).collect();
    terminal.note(format_args!(
        "{} has no train and test splits: {} {} calibrate, the other {} are for evaluation",
        dataset.name(),
        count(taken.len() as u64),
        how,
        count(rest.len() as u64),
    ));
    Ok(Chosen { calibration: Some(all.pick(&taken)?), evaluation: Some(all.pick(&rest)?) })
}
