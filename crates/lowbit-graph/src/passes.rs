//! Rewrites, one per file, each verified by running random graphs before and after.
//!
//! A pass takes a graph and returns a new one that computes the same outputs (float passes: up to rounding).

mod activations;
mod batch_norm;
mod constants;
mod linear;
mod lower;
mod noops;
#[cfg(test)]
pub(crate) mod testing;
mod trace;

use lowbit_tensor::Tensor;

pub(crate) use activations::as_activation;
pub use activations::{fuse_activations, recognize_activations};
pub use batch_norm::fold_batch_norm;
pub use constants::{fold_constants, fold_shapes};
pub use linear::normalize_linear;

pub use lower::{Placement, Runs, lower_qdq};
pub use noops::remove_noops;
pub use trace::{Trace, trace};

use crate::{Graph, GraphError};

/// A pass: the traced shapes of the graph it gets, and the graph.
pub type Pass = fn(&Graph, &Trace) -> Result<Graph, GraphError>;

/// The passes that make an imported float graph canonical, in order.
pub const CANONICAL: &[(&str, Pass)] = &[
    ("fold_shapes", fold_shapes),
    ("fold_constants", |graph, _| fold_constants(graph)),
    ("remove_noops", remove_noops),
    ("recognize_activations", |graph, _| recognize_activations(graph)),
    ("normalize_linear", normalize_linear),
    ("fold_batch_norm", fold_batch_norm),
    ("fuse_activations", |graph, _| fuse_activations(graph)),
];

/// Runs [`CANONICAL`] on a float graph; `example` feeds one batch of one image each, to learn shapes.
///
/// # Errors
/// When the graph does not run on the example, or a pass leaves it invalid.
pub fn canonicalize(graph: &Graph, example: &[Tensor]) -> Result<Graph, GraphError> {
    run(graph, example, CANONICAL.iter())
}

/// As [`canonicalize`], with BatchNormalization left where it is: its statistics are what data-free algorithms read.
///
/// # Errors
/// As [`canonicalize`].
pub fn canonicalize_unfolded(graph: &Graph, example: &[Tensor]) -> Result<Graph, GraphError> {
    run(graph, example, CANONICAL.iter().filter(|(name, _)| *name != "fold_batch_norm"))
}

fn run<'a>(
    graph: &Graph,
    example: &[Tensor],
    passes: impl Iterator<Item = &'a (&'static str, Pass)>,
) -> Result<Graph, GraphError> {
    // Passes keep the values they keep: one trace serves all, and a value that a pass made has no known shape.
    let traced = trace(graph, example)?;
    let mut graph = graph.clone();
    for (_, pass) in passes {
        graph = pass(&graph, &traced)?;
        graph.remove_dead();
        graph.sort()?;
        graph.verify()?;
    }
    Ok(graph)
}

#[cfg(test)]
mod tests;
