//! Opens a model together with the preprocessing of its images: each needs the other where the file leaves sizes open.

use std::path::{Path, PathBuf};

use anyhow::Context;
use lowbit::{DataError, Dataset, Error, IdxBytes, InputShape, Layout, Model, Preprocess, Split};

use crate::args::PreprocessArgs;

/// A model and how its images are made.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) model: Model,
    pub(crate) preprocess: Preprocess,
}

/// Where a model is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ModelSource {
    /// A file.
    File(PathBuf),
    /// The embedded default.
    Embedded,
}

/// The name of the embedded model.
pub(crate) const EMBEDDED_NAME: &str = "fashion_resnet8.onnx";

/// The name of the embedded data.
pub(crate) const EMBEDDED_DATA: &str = "the built-in Fashion-MNIST sample";

/// Gives the shape that images have after a preprocessing.
pub(crate) type ShapeOf<'a> = &'a dyn Fn(&Preprocess) -> Result<InputShape, DataError>;

impl ModelSource {
    /// The path, or the name of the embedded one.
    pub(crate) fn path(&self) -> &Path {
        match self {
            ModelSource::File(path) => path,
            ModelSource::Embedded => Path::new(EMBEDDED_NAME),
        }
    }

    fn load(&self, shape: Option<InputShape>) -> Result<Model, Error> {
        match self {
            ModelSource::File(path) => Model::load(path, shape),
            ModelSource::Embedded => {
                let bytes = include_bytes!("../../../assets/fashion_resnet8.onnx");
                let mut model = Model::from_bytes(EMBEDDED_NAME, bytes, shape)?;
                let text = include_str!("../../../assets/preprocess.toml");
                model.notes.preprocess = Some(Preprocess::from_toml(text, "built-in")?);
                let classes = include_str!("../../../assets/classes.txt").lines();
                model.notes.classes = Some(classes.map(str::to_owned).collect());
                Ok(model)
            }
        }
    }
}

/// The embedded images.
pub(crate) fn embedded_data() -> anyhow::Result<Dataset> {
    macro_rules! file {
        ($name:literal) => {
            include_bytes!(concat!("../../../assets/fashion-mnist/", $name))
        };
    }
    let parts = [
        IdxBytes {
            split: Split::Train,
            images: file!("train-images-idx3-ubyte.gz"),
            labels: file!("train-labels-idx1-ubyte.gz"),
        },
        IdxBytes {
            split: Split::Test,
            images: file!("t10k-images-idx3-ubyte.gz"),
            labels: file!("t10k-labels-idx1-ubyte.gz"),
        },
    ];
    Dataset::from_idx_bytes(EMBEDDED_DATA, &parts).context("the built-in data")
}

/// Opens a model for images of the shape that `shape_of` tells.
pub(crate) fn open(
    source: &ModelSource,
    args: &PreprocessArgs,
    shape_of: ShapeOf<'_>,
) -> anyhow::Result<Opened> {
    let (model, shape) = match source.load(None) {
        Err(Error::NotAClassifier {
            what: "input shape",
            ..
        }) => {
            // The file leaves height or width open: the images decide.
            let shape = shape_of(&args.resolve(None, [None; 3])?)?;
            (source.load(Some(shape))?, Some(shape))
        }
        model => (model?, None),
    };
    let preprocess = args.resolve(model.notes.preprocess.as_ref(), model.image_dims())?;
    let found = shape_of(&preprocess)?;
    check_shape(model.image_dims(), &preprocess, found)?;
    match shape {
        Some(shape) if shape != found => Ok(Opened {
            model: source.load(Some(found))?,
            preprocess,
        }),
        _ => Ok(Opened { model, preprocess }),
    }
}

/// Whether images of shape `found` fit a model of dimensions `dims`.
pub(crate) fn check_shape(
    dims: [Option<usize>; 3],
    preprocess: &Preprocess,
    found: InputShape,
) -> Result<(), Error> {
    let fits = |shape: InputShape| (0..3).all(|i| dims[i].is_none_or(|dim| dim == shape[i]));
    if fits(found) {
        return Ok(());
    }
    let shown = dims.map(|dim| dim.map_or("any".to_owned(), |dim| dim.to_string()));
    Err(Error::InputShape {
        found,
        expected: format!("[{}]", shown.join(", ")),
        hint: shape_hint(dims, preprocess, found),
    })
}

/// What to put on the command line so that images fit.
fn shape_hint(dims: [Option<usize>; 3], preprocess: &Preprocess, found: InputShape) -> String {
    let [a, b, c] = found;
    let (channels, height, width, turned, other) = match preprocess.layout {
        Layout::Nchw => (0, 1, 2, [b, c, a], "nhwc"),
        Layout::Nhwc => (2, 0, 1, [c, a, b], "nchw"),
    };
    if (0..3).all(|i| dims[i].is_none_or(|dim| dim == turned[i])) {
        return format!("add --layout {other}");
    }
    if let Some(wanted) = dims[channels].filter(|&wanted| wanted != found[channels]) {
        return match wanted {
            1 => "add --channels gray".to_owned(),
            3 => "add --channels rgb (or bgr)".to_owned(),
            _ => format!("a model of {wanted} channels reads no images; is --layout right?"),
        };
    }
    let width = dims[width].unwrap_or(found[width]);
    let height = dims[height].unwrap_or(found[height]);
    if width == height {
        let larger = (width * 8 + 3) / 7;
        format!("add --resize {width}x{height}, or --resize {larger} --crop {width}")
    } else {
        format!("add --resize {width}x{height}")
    }
}
