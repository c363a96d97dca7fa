//! What can be wrong with a model that is to be compiled, or with what it is fed.

use std::path::PathBuf;

use lowbit_graph::GraphError;
use lowbit_onnx::OnnxError;

/// What can be wrong with a model that is to be compiled, or with what it is fed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// A file is not a model that can be imported.
    #[error("cannot read {path}")]
    Import {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<OnnxError>,
    },
    /// A node has a form that cannot be compiled.
    #[error("node \"{node}\" ({op}): {reason}")]
    Node {
        /// The node's name.
        node: String,
        /// Its operator.
        op: &'static str,
        /// What was found and what was expected.
        reason: String,
    },
    /// The model as a whole does not fit.
    #[error("model: found {found}, expected {expected}")]
    Model {
        /// What it has.
        found: String,
        /// What is supported.
        expected: &'static str,
    },
    /// Floats that are not one image after the other.
    #[error("{what}: found {found} floats, expected {expected}")]
    Length {
        /// Input or output.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// The graph does not run.
    #[error(transparent)]
    Graph(#[from] GraphError),
}
