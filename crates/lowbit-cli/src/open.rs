//! Opens a model together with the preprocessing of its images: each needs the other where the file leaves sizes open.

use std::path::{Path, PathBuf};

use anyhow::Context;
use lowbit::{
    DataError, Dataset, Error, IdxBytes, InputShape, Layout, Model, Preprocess, Runner, Split,
};
use lowbit_graph::Workspace;
use lowbit_tensor::Tensor;

use crate::args::PreprocessArgs;

/// A model and how its images are made.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) model: Model,
    pub(crate) preprocess: Preprocess,
    /// The number of classes.
    pub(crate) classes: usize,
    /// Whether neither the command line nor the model said which values the model reads.
    pub(crate) assumed: bool,
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

/// What a model will be given.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    /// The shape that images have after a preprocessing.
    pub(crate) shape_of: &'a dyn Fn(&Preprocess) -> Result<InputShape, DataError>,
    /// The labels it will be judged by.
    pub(crate) labels: Option<&'a Dataset>,
    /// The preprocessing of a model without notes, where a related model has some.
    pub(crate) related: Option<&'a Preprocess>,
}

impl ModelSource {
    /// The path, or the name of the embedded one.
    pub(crate) fn path(&self) -> &Path {
        match self {
            ModelSource::File(path) => path,
            ModelSource::Embedded => Path::new(EMBEDDED_NAME),
        }
    }

    fn load(&self, shape: Option<InputShape>) -> anyhow::Result<Model> {
        match self {
            ModelSource::File(path) => Ok(Model::load(path, shape)?),
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

/// Opens a model for what it will be given. Other labels are reported before other shapes: they mean that the data is wrong.
pub(crate) fn open(
    source: &ModelSource,
    args: &PreprocessArgs,
    given: Given<'_>,
) -> anyhow::Result<Opened> {
    let (mut model, shape) = match source.load(None) {
        Err(error) if leaves_size_open(&error) => {
            // The images decide.
            let shape = (given.shape_of)(&args.resolve(given.related, [None; 3])?)?;
            (source.load(Some(shape))?, Some(shape))
        }
        model => (model?, None),
    };
    let notes = model.notes.preprocess.as_ref().or(given.related);
    let assumed = !args.says_values() && notes.is_none();
    let preprocess = args.resolve(notes, model.image_dims())?;
    let found = (given.shape_of)(&preprocess)?;
    if shape.is_some_and(|shape| shape != found) {
        model = source.load(Some(found))?;
    }
    let classes = class_count(&model, found)?;
    if let Some(labels) = given.labels {
        labels.check_classes(classes)?;
    }
    check_shape(model.image_dims(), &preprocess, found)?;
    Ok(Opened { model, preprocess, classes, assumed })
}

/// Opens a model that no image will be given to: its file must say how large they are.
pub(crate) fn open_alone(source: &ModelSource, args: &PreprocessArgs) -> anyhow::Result<Opened> {
    let model = source.load(None)?;
    let notes = model.notes.preprocess.as_ref();
    let assumed = !args.says_values() && notes.is_none();
    let preprocess = args.resolve(notes, model.image_dims())?;
    let [_, a, b, c] = model.input_shape;
    let classes = class_count(&model, [a, b, c])?;
    Ok(Opened { model, preprocess, classes, assumed })
}

/// Whether a model could not be opened only because its file leaves height or width open.
pub(crate) fn leaves_size_open(error: &anyhow::Error) -> bool {
    let open = |error: &Error| matches!(error, Error::NotAClassifier { what: "input shape", .. });
    error.downcast_ref::<Error>().is_some_and(open)
}

/// The number of scores that the model gives for an image, of shape `open` where the file does not fix it.
fn class_count(model: &Model, open: InputShape) -> anyhow::Result<usize> {
    let dims = model.image_dims();
    let [a, b, c] = std::array::from_fn(|axis| dims[axis].unwrap_or(open[axis]));
    let gray = Tensor::new([1, a, b, c], vec![0.5f32; a * b * c]);
    Ok(Runner::new(&model.graph, &model.input_shape)?.scores(gray, &mut Workspace::serial())?.len())
}

/// Whether images of shape `found` fit a model of dimensions `dims`.
pub(crate) fn check_shape(
    dims: [Option<usize>; 3],
    preprocess: &Preprocess,
    found: InputShape,
) -> anyhow::Result<()> {
    let fits = |shape: InputShape| (0..3).all(|i| dims[i].is_none_or(|dim| dim == shape[i]));
    if fits(found) {
        return Ok(());
    }
    let shown = dims.map(|dim| dim.map_or("any".to_owned(), |dim| dim.to_string()));
    Err(Error::InputShape {
        found,
        expected: format!("[{}]", shown.join(", ")),
        hint: shape_hint(dims, preprocess, found),
    }
    .into())
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
