//! A network as C99 for microcontrollers: constant arrays, one static block of memory, plain loops; no libc but `memcpy` and
//! `memset`. The arithmetic is that of the graph's own executor, so scores are the same to the bit.
//!
//! ```text
//! network ── Exported (floats only at both ends) ── Places (the arena) ── Unit (constants, calls, kernels used, costs) ── text
//! ```
//!
//! The kernels are C files in `c/kernels`, of which a source holds those that its steps use. Convolutions go through all pixels for
//! one output after the other, so that packed weights are unpacked once an image, into a row of one output.

mod costs;
mod exported;
mod golden;
mod kernel;
mod packed;
mod places;
mod text;
mod unit;

pub use costs::{Costs, StepCost};

use crate::c::exported::Exported;
use crate::c::places::Places;
use crate::c::unit::Unit;
use crate::{Network, RuntimeError};

/// The two files of a network in C.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// `NAME.h`
    pub header: String,
    /// `NAME.c`
    pub source: String,
    /// What the comment at the head of the source says.
    pub costs: Costs,
    /// The softmax that was left out.
    pub softmax: Option<String>,
}

impl Source {
    /// Writes a network as C; all names it defines begin with `name`, and what it includes is `name.h`. A softmax at the end is left
    /// out: scores are what goes into it.
    ///
    /// # Errors
    /// `Node` for a step that has no integer form, `Model` when the network as a whole is not one that C can be written of: more than one
    /// output, floats between steps, sums beyond 32 bits, or a name that is not one in C.
    pub fn new(network: Network, name: &str) -> Result<Source, RuntimeError> {
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(letters) {
            return Err(RuntimeError::Model {
                found: format!("the name \"{name}\""),
                expected: "letters, digits and underscores, a letter first, as C wants them",
            });
        }
        let exported = Exported::new(network)?;
        let golden = golden::Golden::new(&exported);
        let places = Places::new(&exported);
        let unit = Unit::new(&exported, &places)?;
        let costs = Costs::new(&exported, &places, &unit);
        Ok(Source {
            header: text::header(&exported, name, &costs),
            source: text::source(&exported, (&unit, &golden), name, &costs),
            costs,
            softmax: exported.softmax,
        })
    }
}
