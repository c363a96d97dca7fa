//! Data sets and preprocessing: the only image decoder.
//!
//! [`Dataset`] recognizes a data set by what it holds and indexes it; [`Subset`] is a choice of its images; [`Preprocess`]
//! turns an [`Image`] into the floats a network reads; [`Loader`] streams batches of them in order. Only offsets, names
//! and labels are held in memory, never the pixels of a whole set. The crate knows nothing of graphs or tensors.

pub mod dataset;
pub mod error;
pub mod fetch;
pub mod image;
pub mod loader;
pub mod preprocess;
mod resize;
pub mod subset;

pub use dataset::{Dataset, Description, IdxBytes, Kind, Split};
pub use error::DataError;
pub use image::Image;
pub use loader::{Batch, Loader, LoaderSettings};
pub use preprocess::{Channels, Filter, ImageInfo, Layout, Preprocess, Resize};
pub use subset::{Sample, Subset};
