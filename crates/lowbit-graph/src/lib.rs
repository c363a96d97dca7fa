//! The graph of an image classifier: its operators, how they run, and the passes that rewrite them.
//!
//! Operators follow ONNX's newest meaning of each name (importers translate older forms), so that a graph can be written
//! back without loss. Nothing here knows files, data sets or how quantization parameters are chosen.

mod error;
mod graph;
mod op;
pub mod passes;
mod session;

pub use error::{GraphError, OpError};
pub use graph::{Graph, Input, Node, ValueId};
pub use op::*;
pub use session::{Pool, Session, Tape, Workspace};

pub use lowbit_kernels::minmax;
