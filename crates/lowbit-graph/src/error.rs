//! What can be wrong with a graph or with the values an operator is given.

/// What an operator found wrong with its inputs or attributes.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OpError {
    /// A required input is absent.
    #[error("input {index} ({name}) is missing")]
    Missing {
        /// Position among the inputs.
        index: usize,
        /// Its name in the ONNX standard.
        name: &'static str,
    },
    /// An input has the wrong type, rank or shape.
    #[error("input {index}: found {found}, expected {expected}")]
    Input {
        /// Position among the inputs.
        index: usize,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// Attributes or operands that contradict each other.
    #[error("{0}")]
    Invalid(String),
    /// A legal form that this project does not run.
    #[error("{what}: found {found}, supported: {supported}")]
    Unsupported {
        /// The attribute or property.
        what: &'static str,
        /// What it is.
        found: String,
        /// What is supported.
        supported: &'static str,
    },
    /// The result would be larger than the session allows.
    #[error("result of shape {shape} exceeds the limit of {limit} elements")]
    TooLarge {
        /// The result's shape.
        shape: String,
        /// The limit.
        limit: usize,
    },
    /// A gradient was asked for that goes through an operator without one.
    #[error("this operator has no gradient")]
    NoGradient,
    /// A tensor could not be made or read.
    #[error(transparent)]
    Tensor(#[from] lowbit_tensor::TensorError),
}

/// What can be wrong with a graph.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// An operator refused its inputs.
    #[error("node \"{node}\" ({op}): {source}")]
    Op {
        /// The node's name.
        node: String,
        /// Its operator.
        op: &'static str,
        /// Why.
        source: OpError,
    },
    /// A node reads a value nothing produces before it.
    #[error(
        "node \"{node}\" reads \"{value}\", which no earlier node, input or initializer provides"
    )]
    Undefined {
        /// The reading node.
        node: String,
        /// The value's name.
        value: String,
    },
    /// Two nodes, or a node and an input or initializer, provide the same value.
    #[error("value \"{value}\" is provided twice")]
    Duplicate {
        /// The value's name.
        value: String,
    },
    /// The nodes form a cycle.
    #[error("the graph has a cycle through node \"{node}\"")]
    Cycle {
        /// A node on it.
        node: String,
    },
    /// An output that nothing produces.
    #[error("graph output \"{value}\" is not produced by any node, input or initializer")]
    Output {
        /// The output's name.
        value: String,
    },
    /// A gradient to start from does not fit its value.
    #[error("seed of \"{value}\": found {found}, expected {expected}")]
    Seed {
        /// The value's name.
        value: String,
        /// What was given.
        found: String,
        /// What the value has.
        expected: String,
    },
    /// A value that the recorded run did not have.
    #[error("value \"{value}\" is not on the tape")]
    Unrecorded {
        /// The value's name.
        value: String,
    },
    /// The caller's inputs do not fit the graph's.
    #[error("graph input \"{input}\": found {found}, expected {expected}")]
    Feed {
        /// The input's name.
        input: String,
        /// What was given.
        found: String,
        /// What the graph declares.
        expected: String,
    },
}
