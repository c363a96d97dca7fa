//! Data sets and preprocessing: the only image decoder.
//!
//! [`Dataset`] recognizes a data set by what it holds and indexes it; [`Subset`] is a choice of its images; [`Preprocess`]
//! turns an [`Image`] into the floats a network reads; [`Loader`] streams batches of them in order. Only offsets, names
//! and labels are held in memory, never the pixels of a whole set. The crate knows nothing of graphs or tensors.
//!
//! ```no_run
//! use lowbit_data::{Dataset, Loader, LoaderSettings, Preprocess, Resize};
//!
//! let dataset = Dataset::open("photographs")?;
//! dataset.check_classes(1000)?;
//! let preprocess = Preprocess {
//!     resize: Some(Resize::ShortSide(256)),
//!     crop: Some(224),
//!     ..Preprocess::default()
//! };
//! // One image at a time, from any thread:
//! let sample = dataset.calibration().spread(512).sample(0, &preprocess)?;
//! // Or batches, in order, decoded ahead:
//! let settings = LoaderSettings { batch_size: 32, threads: 2 };
//! for batch in Loader::new(&dataset.evaluation(), &preprocess, settings)? {
//!     let batch = batch?; // inputs [n, c, h, w] and labels
//! }
//! # Ok::<(), lowbit_data::DataError>(())
//! ```

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
