//! What can be wrong with an ONNX file, or with a graph that is to become one.

use std::path::PathBuf;

use lowbit_graph::GraphError;

/// What can be wrong with an ONNX file, or with a graph that is to become one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// Something is wrong with this file.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<OnnxError>,
    },
    /// A file could not be read or written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The bytes are not an ONNX model.
    #[error("not an ONNX model: {0}")]
    Decode(#[from] prost::DecodeError),
    /// A property of the model as a whole.
    #[error("{what}: found {found}, supported: {supported}")]
    Model {
        /// The property.
        what: &'static str,
        /// What it is.
        found: String,
        /// What is supported.
        supported: String,
    },
    /// A tensor stored in the file contradicts itself or is of a type that is not supported.
    #[error("tensor \"{name}\": {what}: found {found}, expected {expected}")]
    Tensor {
        /// The tensor.
        name: String,
        /// Which part of it.
        what: &'static str,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// An operator that is not supported.
    #[error(
        "node \"{node}\": operator \"{op}\" of domain \"{domain}\" is not supported; supported: {supported}"
    )]
    Operator {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// The operator's domain.
        domain: String,
        /// What is supported.
        supported: String,
    },
    /// An attribute that is unknown, of the wrong type, or of a value that is not supported.
    #[error(
        "node \"{node}\" ({op}): attribute \"{attribute}\": found {found}, supported: {supported}"
    )]
    Attribute {
        /// The node.
        node: String,
        /// Its operator.
        op: &'static str,
        /// The attribute.
        attribute: String,
        /// What it is.
        found: String,
        /// What is supported.
        supported: String,
    },
    /// A node's input or output that is missing, superfluous or of a kind that is not supported.
    #[error("node \"{node}\" ({op}): {what}: found {found}, supported: {supported}")]
    Node {
        /// The node.
        node: String,
        /// Its operator.
        op: &'static str,
        /// Which part of it.
        what: String,
        /// What it is.
        found: String,
        /// What is supported.
        supported: String,
    },
    /// The nodes, inputs and initializers do not form a graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl OnnxError {
    /// Says which file it was.
    pub(crate) fn in_file(self, path: &std::path::Path) -> Self {
        OnnxError::File { path: path.to_owned(), source: Box::new(self) }
    }
}
