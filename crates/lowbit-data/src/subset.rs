//! A choice of a data set's images, in an order, and reading them one at a time from any thread.
//!
//! Everything here takes `&self`, so that callers may spread the images over threads as they like.

use std::ops::Range;
use std::sync::Arc;

use crate::dataset::Dataset;
use crate::error::DataError;
use crate::image::Image;
use crate::preprocess::{Preprocess, interleaved};

/// Images of a data set. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Subset {
    dataset: Dataset,
    indices: Arc<[u32]>,
}

/// One preprocessed image.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The values, in the order of `shape`.
    pub input: Vec<f32>,
    /// [c, h, w], or [h, w, c] when the layout is `Nhwc`.
    pub shape: [usize; 3],
    /// The class number, if the data set has labels.
    pub label: Option<u32>,
}

impl Subset {
    pub(crate) fn new(dataset: Dataset, indices: Vec<u32>) -> Subset {
        Subset { dataset, indices: indices.into() }
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// The data set that this is of.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// The first `n` images, or all if there are fewer.
    pub fn first(&self, n: usize) -> Subset {
        self.select(0..n.min(self.len()))
    }

    /// `n` images evenly spread, `i * len / n` for i in 0..n, or all if there are fewer: of a set sorted by class, some of each.
    pub fn spread(&self, n: usize) -> Subset {
        let n = n.min(self.len());
        self.select((0..n).map(|i| i * self.len() / n))
    }

    /// The images at positions `range`.
    /// # Errors
    /// `Index` when it goes beyond the end.
    pub fn range(&self, range: Range<usize>) -> Result<Subset, DataError> {
        match range.end <= self.len() {
            true => Ok(self.select(range)),
            false => Err(self.beyond(range.end - 1)),
        }
    }

    /// The images at `positions`, in their order: a shuffle, or a shard.
    /// # Errors
    /// `Index` when one is beyond the end.
    pub fn pick(&self, positions: &[usize]) -> Result<Subset, DataError> {
        match positions.iter().find(|&&position| position >= self.len()) {
            Some(&position) => Err(self.beyond(position)),
            None => Ok(self.select(positions.iter().copied())),
        }
    }

    fn select(&self, positions: impl Iterator<Item = usize>) -> Subset {
        let indices = positions.map(|position| self.indices[position]).collect();
        Subset { dataset: self.dataset.clone(), indices }
    }

    fn beyond(&self, index: usize) -> DataError {
        DataError::Index { dataset: self.dataset.name().into(), index, len: self.len() }
    }

    fn index(&self, position: usize) -> Result<usize, DataError> {
        let index = self.indices.get(position);
        index.map(|&index| index as usize).ok_or_else(|| self.beyond(position))
    }

    /// The label of the image at `position`, without decoding it; none where the data set has no labels.
    /// # Panics
    /// When `position` is not below `len`.
    pub fn label(&self, position: usize) -> Option<u32> {
        self.dataset.label(self.indices[position] as usize)
    }

    /// All labels, without decoding; none where the data set has none.
    pub fn labels(&self) -> Option<Vec<u32>> {
        self.indices.iter().map(|&index| self.dataset.label(index as usize)).collect()
    }

    /// The file, row or record of the image at `position`, for messages.
    /// # Panics
    /// When `position` is not below `len`.
    pub fn place(&self, position: usize) -> String {
        self.dataset.place(self.indices[position] as usize)
    }

    /// The image at `position`, decoded and not preprocessed.
    /// # Errors
    /// `Index`, or what is wrong with its file.
    /// # Panics
    /// Never: reading gives the image or an error.
    pub fn image(&self, position: usize) -> Result<Image, DataError> {
        let mut image = None;
        self.dataset.read(self.index(position)?, &mut |pixels| {
            image = Some(Image::from_parts(pixels.info, interleaved(pixels).into_owned()));
            Ok(())
        })?;
        Ok(image.expect("an image read is visited"))
    }

    /// The shape that every image has after `preprocess`: fixed by it, by the data set, or else that of the first image.
    /// # Errors
    /// `Index` for an empty subset, `Preprocess`, or what is wrong with the first image.
    pub fn output_shape(&self, preprocess: &Preprocess) -> Result<[usize; 3], DataError> {
        match (preprocess.fixed_shape(), self.dataset.image_info()) {
            (Some(shape), None) => Ok(shape),
            (_, Some(info)) => preprocess.output_shape(&info),
            (None, None) => preprocess.output_shape(&self.image(0)?.info()),
        }
    }

    /// Reads and preprocesses the image at `position`; for calibration and evaluation, where each thread takes an image.
    /// CIFAR and IDX allocate nothing but the output.
    /// # Errors
    /// `Index`, `Preprocess`, or what is wrong with its file.
    pub fn sample(&self, position: usize, preprocess: &Preprocess) -> Result<Sample, DataError> {
        let index = self.index(position)?;
        let (mut input, mut shape) = (Vec::new(), [0; 3]);
        self.dataset.read(index, &mut |pixels| {
            shape = preprocess.output_shape(&pixels.info)?;
            input = vec![0.0; shape.iter().product()];
            preprocess.apply_pixels(pixels, &mut input)
        })?;
        Ok(Sample { input, shape, label: self.dataset.label(index) })
    }

    /// The same into a buffer of `shape`, so that a batch is filled in place. Returns the label.
    /// # Errors
    /// As `sample`; `MixedShapes` when the image comes out of another shape.
    /// # Panics
    /// When `out` is not as long as `shape` says.
    pub fn sample_into(
        &self,
        position: usize,
        preprocess: &Preprocess,
        shape: [usize; 3],
        out: &mut [f32],
    ) -> Result<Option<u32>, DataError> {
        let index = self.index(position)?;
        self.dataset.read(index, &mut |pixels| {
            let found = preprocess.output_shape(&pixels.info)?;
            if found != shape {
                let place = self.dataset.place(index);
                return Err(DataError::MixedShapes { place, found, expected: shape });
            }
            preprocess.apply_pixels(pixels, out)
        })?;
        Ok(self.dataset.label(index))
    }
}
