//! What can go wrong between a file and a proven quantized model.

use std::path::PathBuf;

/// What can go wrong. Each variant wraps the crate that found it; the message says where, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model file.
    #[error("{path}")]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<lowbit_onnx::OnnxError>,
    },
    /// The graph does not run.
    #[error(transparent)]
    Graph(Box<lowbit_graph::GraphError>),
    /// Images, labels or preprocessing.
    #[error(transparent)]
    Data(Box<lowbit_data::DataError>),
    /// Calibration or quantization.
    #[error(transparent)]
    Ptq(Box<lowbit_ptq::PtqError>),
    /// A recipe's name or file.
    #[error("recipe {place}: {message}")]
    Recipe {
        /// The name or file, with the line.
        place: String,
        /// What is wrong with it.
        message: String,
    },
    /// A model that was compiled is fed something else.
    #[error(transparent)]
    Runtime(Box<lowbit_runtime::RuntimeError>),
    /// A rule's name.
    #[error(transparent)]
    Rule(#[from] lowbit_quant::QuantError),
    /// The model is not an image classifier as this tool understands it.
    #[error("the model {what}: found {found}, expected {expected}")]
    NotAClassifier {
        /// What was looked at.
        what: &'static str,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// A compiled network gives other scores than the executor, which defines them.
    #[error("score {class} of the compiled network is {found}, the executor's is {expected}")]
    Differs {
        /// Which score.
        class: usize,
        /// The compiled network's.
        found: f32,
        /// The executor's.
        expected: f32,
    },
    /// The images do not come out of preprocessing as the model reads them.
    #[error("images come out of preprocessing as {found:?}, the model reads {expected}; {hint}")]
    InputShape {
        /// Channels, height and width (or height, width, channels).
        found: [usize; 3],
        /// The model's.
        expected: String,
        /// What to do.
        hint: String,
    },
    /// A file of our own, or a form it cannot have.
    #[error("{path}: {what}: found {found}, expected {expected}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Which part of it.
        what: &'static str,
        /// What it is.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A file could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

macro_rules! boxed {
    ($($variant:ident from $error:ty),*) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Error::$variant(Box::new(error))
            }
        })*
    };
}

boxed!(
    Graph from lowbit_graph::GraphError,
    Data from lowbit_data::DataError,
    Ptq from lowbit_ptq::PtqError,
    Runtime from lowbit_runtime::RuntimeError
);
