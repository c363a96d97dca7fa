//! Convolutions of 8-bit codes in NHWC whose result is written as codes at once: what a compiled plan runs.
//!
//! An image lies in memory with a border of whole pixels that hold the zero point, so a kernel needs neither an
//! indirection table nor a test for the edge: each word of the inner dimension is at one fixed offset from the pixel.
//! Weights are packed in panels of as many outputs as the register tile has lanes; requantization, clamps, a table of the
//! activation function and the residual add are done on the sums while they are in registers.
//!
//! ```text
//! for each panel of outputs, for each tile of pixels:
//!     sums = bias - zero_point * sum(w)
//!     for each word of the inner dimension: sums += dot(word of each pixel, words of the panel)
//!     write finish(sums)
//! ```
//!
//! Every tier gives the same bytes as [`naive`]. Nothing here knows graphs or how parameters were chosen.

/// Runs a block eight times, each time with a number that the compiler knows: what the block names by it stays in registers.
macro_rules! for_each_of_8 {
    ($step:ident => $run:block) => {
        for_each_of_8!($step => $run, 0 1 2 3 4 5 6 7)
    };
    ($step:ident => $run:block, $($number:literal)*) => {
        $({
            const $step: usize = $number;
            $run
        })*
    };
}

#[cfg(target_arch = "x86_64")]
mod amx;
mod arena;
mod bits;
mod codes;
mod conv;
mod depthwise;
mod finish;
mod forms;
mod layout;
mod lookup;
pub mod naive;
#[cfg(target_arch = "aarch64")]
mod neon;
mod overlap;
mod panels;
mod peak;
mod pool;
mod popcount;
mod spec;
mod tile;
mod trial;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use arena::Arena;
pub use bits::{BitConv, BitFinish, PLANES_MAX, PackBits, Thresholds, Values};
pub(crate) use codes::Codes;
pub use conv::{Conv, Operands, TOGETHER};
pub use depthwise::Depthwise;
pub use layout::ImageLayout;
pub use lookup::lookup;
pub use peak::{peak_gmacs, peak_sign_gmacs};
pub use pool::Pool;
pub use spec::{ConvSpec, Finish, Requantize, ResidualAdd, WeightForm};
