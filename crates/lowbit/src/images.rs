//! A subset of a data set, preprocessed: what calibration and evaluation read.

use lowbit_data::{Preprocess, Subset};
use lowbit_ptq::Samples;
use lowbit_tensor::Tensor;

/// Preprocessed images of a data set.
#[derive(Clone, Debug)]
pub struct Images {
    subset: Subset,
    preprocess: Preprocess,
}

impl Images {
    /// The images of `subset` through `preprocess`.
    #[must_use]
    pub fn new(subset: Subset, preprocess: &Preprocess) -> Self {
        Images { subset, preprocess: preprocess.clone() }
    }

    /// The label of image `index`, if the set has labels.
    #[must_use]
    pub fn label(&self, index: usize) -> Option<u32> {
        self.subset.label(index)
    }

    /// The images before preprocessing.
    #[must_use]
    pub fn subset(&self) -> &Subset {
        &self.subset
    }

    /// What is done to them.
    #[must_use]
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// The shape of one preprocessed image.
    ///
    /// # Errors
    /// What is wrong with the preprocessing or the first image.
    pub fn shape(&self) -> Result<[usize; 3], lowbit_data::DataError> {
        self.subset.output_shape(&self.preprocess)
    }
}

/// No images at all, for steps that read none.
#[derive(Clone, Copy, Debug)]
pub struct NoImages;

impl Samples for NoImages {
    fn len(&self) -> usize {
        0
    }

    fn get(&self, index: usize) -> Result<Tensor, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("image {index} of none").into())
    }
}

impl Samples for Images {
    fn len(&self) -> usize {
        self.subset.len()
    }

    fn get(&self, index: usize) -> Result<Tensor, Box<dyn std::error::Error + Send + Sync>> {
        let sample = self.subset.sample(index, &self.preprocess)?;
        let [a, b, c] = sample.shape;
        Ok(Tensor::new([1, a, b, c], sample.input))
    }
}
