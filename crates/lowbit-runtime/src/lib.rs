//! Compiles a quantized graph to a static plan of integer steps and runs it, equal to the graph's own executor bit for bit.
//!
//! [`Network`] is the graph as steps with all their numbers; what follows from it (plans for this CPU, C for
//! microcontrollers) knows nothing of graphs.

pub mod c;
mod error;
mod model;
pub mod network;
mod plan;

pub use error::RuntimeError;
pub use model::Model;
pub use network::Network;
pub use plan::{BitSerial, Factors, Memory, Plan, StepInfo};
