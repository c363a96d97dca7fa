//! Where calibration images come from.

use lowbit_tensor::Tensor;

/// Preprocessed images, read at random by many threads.
pub trait Samples: Sync {
    /// Number of images.
    fn len(&self) -> usize;

    /// True when there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Image `index` as the model's input, a batch of one.
    ///
    /// # Errors
    /// Whatever keeps the image from being read.
    fn get(&self, index: usize) -> Result<Tensor, Box<dyn std::error::Error + Send + Sync>>;
}

/// Called with the number of images finished since the last call, from any thread.
pub type Progress<'a> = &'a (dyn Fn(usize) + Sync);
