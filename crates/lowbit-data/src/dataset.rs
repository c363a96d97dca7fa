//! A data set: which images there are, in which splits, with which labels and classes. Pixels stay where they are.
//!
//! What a path holds is recognized by content ([`Dataset::open`]); each kind has its file below. Knows nothing of preprocessing
//! beyond handing pixels to it, and nothing of networks beyond a number of classes.

mod cifar;
mod files;
mod idx;
mod open;
mod record_file;
mod table;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::DataError;
use crate::preprocess::{ImageInfo, Pixels};
use crate::subset::Subset;

/// The largest class number that a CSV may hold.
pub const LABEL_MAX: u32 = 999_999;

/// An opened data set. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Dataset {
    inner: Arc<Parts>,
}

/// What opening found: one split and, if labelled, one label per image.
#[derive(Debug)]
pub(crate) struct Parts {
    name: String,
    kind: Kind,
    source: Source,
    splits: Vec<Split>,
    labels: Option<Vec<u32>>,
    classes: Option<Vec<String>>,
}

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Split {
    /// What a model is trained on, and calibrated with.
    Train,
    /// What choices are made on.
    Validation,
    /// What a model is judged by.
    Test,
    /// Every image, whatever its split.
    All,
}

/// What a data set was recognized as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// CIFAR-10 binary batches.
    Cifar10,
    /// IDX files, as of MNIST.
    Idx,
    /// One folder per class.
    ClassFolders,
    /// A folder of images without labels.
    ImageFolder,
    /// A CSV of files.
    Csv,
}

/// The two IDX files of a split, in memory, plain or gzipped: `include_bytes!` of them.
#[derive(Clone, Copy, Debug)]
pub struct IdxBytes<'a> {
    /// The split.
    pub split: Split,
    /// The images file (`idx3`).
    pub images: &'a [u8],
    /// The labels file (`idx1`).
    pub labels: &'a [u8],
}

/// The facts of a data set, for `lowbit data info`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// What it was recognized as.
    pub kind: Kind,
    /// Where it was found.
    pub name: String,
    /// The splits and their numbers of images.
    pub splits: Vec<(Split, usize)>,
    /// Whether there are labels.
    pub labelled: bool,
    /// The number of classes, if labelled.
    pub class_count: Option<usize>,
    /// The size of every image, where the format fixes it.
    pub image: Option<ImageInfo>,
}

#[derive(Debug)]
pub(crate) enum Source {
    Cifar(cifar::Batches),
    Idx(idx::IdxFiles),
    Files(files::ImageFiles),
}

/// What is done with an image's pixels once they are read.
pub(crate) type Visit<'v> = &'v mut dyn FnMut(Pixels) -> Result<(), DataError>;

impl Dataset {
    /// Opens what `path` holds. In this order: a folder with CIFAR-10 `*.bin` batches, with IDX files, with exactly one CSV
    /// whose header is `file[,label][,split]`, with class folders (numbered by sorted name, as torchvision's
    /// `ImageFolder`) or split folders of class folders, with images; or one such file. Labels are read now, pixels are not;
    /// only gzipped IDX files are unpacked to memory, up to 1 GiB each.
    /// # Errors
    /// `NotRecognized`; for what is recognized and wrong, the variant that names the file or row.
    pub fn open(path: impl AsRef<Path>) -> Result<Dataset, DataError> {
        Dataset::from_parts(open::open(path.as_ref())?)
    }

    /// A data set of IDX files in memory; `name` stands for a path in errors.
    /// # Errors
    /// `Format` when a header contradicts the bytes, `Empty` without images.
    pub fn from_idx_bytes(name: &str, parts: &[IdxBytes]) -> Result<Dataset, DataError> {
        Dataset::from_parts(idx::from_bytes(name, parts)?)
    }

    fn from_parts(parts: Parts) -> Result<Dataset, DataError> {
        let len = parts.splits.len();
        if len == 0 {
            return Err(DataError::Empty { place: parts.name });
        }
        assert!(
            parts.labels.as_ref().is_none_or(|labels| labels.len() == len),
            "a label per image"
        );
        Ok(Dataset { inner: Arc::new(parts) })
    }

    /// The splits there are, or `[All]` where the data set has none.
    pub fn splits(&self) -> Vec<Split> {
        let mut splits = self.inner.splits.clone();
        splits.sort_unstable();
        splits.dedup();
        splits
    }

    /// The number of images of a split, 0 where the data set does not have it.
    pub fn len(&self, split: Split) -> usize {
        self.inner.splits.iter().filter(|&&own| split == Split::All || own == split).count()
    }

    /// The images of a split.
    /// # Errors
    /// `NoSplit` names the splits there are.
    pub fn split(&self, split: Split) -> Result<Subset, DataError> {
        let chosen =
            |&index: &u32| split == Split::All || self.inner.splits[index as usize] == split;
        let indices: Vec<u32> = (0..self.inner.splits.len() as u32).filter(chosen).collect();
        if indices.is_empty() {
            let found: Vec<String> = self.splits().iter().map(Split::to_string).collect();
            return Err(DataError::NoSplit {
                dataset: self.inner.name.clone(),
                split: split.to_string(),
                found: found.join(", "),
            });
        }
        Ok(Subset::new(self.clone(), indices))
    }

    /// The images of a split at the positions `range`.
    /// # Errors
    /// `NoSplit`, or `Index` when the range goes beyond the split.
    pub fn subset(&self, split: Split, range: Range<usize>) -> Result<Subset, DataError> {
        self.split(split)?.range(range)
    }

    /// What to calibrate on: the train split, or everything where there is none.
    /// # Panics
    /// Never: a data set has an image.
    pub fn calibration(&self) -> Subset {
        let split = self.first_of(&[Split::Train]);
        self.split(split).expect("an opened data set has an image")
    }

    /// What to evaluate on: the test split, else the validation split, else everything.
    /// # Panics
    /// Never: a data set has an image.
    pub fn evaluation(&self) -> Subset {
        let split = self.first_of(&[Split::Test, Split::Validation]);
        self.split(split).expect("an opened data set has an image")
    }

    fn first_of(&self, wished: &[Split]) -> Split {
        let there = self.splits();
        wished.iter().copied().find(|split| there.contains(split)).unwrap_or(Split::All)
    }

    /// The names of the classes, by number, where the data set names them.
    pub fn classes(&self) -> Option<&[String]> {
        self.inner.classes.as_deref()
    }

    /// The number of classes: of names, else the highest label + 1; none without labels.
    pub fn class_count(&self) -> Option<usize> {
        let highest = || self.inner.labels.as_ref()?.iter().max().map(|&label| label as usize + 1);
        self.inner.classes.as_ref().map(Vec::len).or_else(highest)
    }

    /// Whether there are labels.
    pub fn labelled(&self) -> bool {
        self.inner.labels.is_some()
    }

    /// Whether a model of `model_classes` outputs can be judged by these labels.
    /// # Errors
    /// `NoLabels`; `LabelOutOfRange` names the first row or file whose label the model does not have; `ClassCount` when
    /// the classes are named and not as many, so that numbers do not correspond.
    pub fn check_classes(&self, model_classes: usize) -> Result<(), DataError> {
        let dataset = self.inner.name.clone();
        let Some(labels) = &self.inner.labels else {
            return Err(DataError::NoLabels { dataset });
        };
        if let Some(index) = labels.iter().position(|&label| label as usize >= model_classes) {
            let (place, label) = (self.place(index), labels[index]);
            return Err(DataError::LabelOutOfRange { place, label, classes: model_classes });
        }
        match &self.inner.classes {
            Some(names) if names.len() != model_classes => {
                let name = &names[labels[0] as usize];
                let first =
                    format!("the first is {}, class {} \"{name}\"", self.place(0), labels[0]);
                let (found, expected) = (names.len(), model_classes);
                Err(DataError::ClassCount { dataset, found, expected, first })
            }
            _ => Ok(()),
        }
    }

    /// The facts of this data set.
    pub fn describe(&self) -> Description {
        Description {
            kind: self.inner.kind,
            name: self.inner.name.clone(),
            splits: self.splits().into_iter().map(|split| (split, self.len(split))).collect(),
            labelled: self.labelled(),
            class_count: self.class_count(),
            image: self.inner.source.image_info(),
        }
    }

    /// The path it was opened from, or the name given.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The file, row or record of image `index`, for messages.
    pub(crate) fn place(&self, index: usize) -> String {
        match &self.inner.source {
            Source::Cifar(batches) => batches.place(index),
            Source::Idx(files) => files.place(index),
            Source::Files(files) => files.place(index),
        }
    }

    pub(crate) fn label(&self, index: usize) -> Option<u32> {
        self.inner.labels.as_ref().map(|labels| labels[index])
    }

    pub(crate) fn image_info(&self) -> Option<ImageInfo> {
        self.inner.source.image_info()
    }

    /// Reads the pixels of image `index` and hands them to `visit`.
    pub(crate) fn read(&self, index: usize, visit: Visit) -> Result<(), DataError> {
        match &self.inner.source {
            Source::Cifar(batches) => batches.read(index, visit),
            Source::Idx(files) => files.read(index, visit),
            Source::Files(files) => files.read(index, visit),
        }
    }
}

impl Source {
    fn image_info(&self) -> Option<ImageInfo> {
        match self {
            Source::Cifar(_) => Some(cifar::IMAGE),
            Source::Idx(files) => files.image_info(),
            Source::Files(_) => None,
        }
    }
}

impl FromStr for Split {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Split, DataError> {
        match text {
            "train" => Ok(Split::Train),
            "val" | "valid" | "validation" => Ok(Split::Validation),
            "test" => Ok(Split::Test),
            "all" => Ok(Split::All),
            other => Err(DataError::format(
                "split",
                format!("\"{other}\""),
                "one of: train, val, test, all",
            )),
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Split::Train => "train",
            Split::Validation => "val",
            Split::Test => "test",
            Split::All => "all",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Kind::Cifar10 => "CIFAR-10 binary batches",
            Kind::Idx => "IDX files",
            Kind::ClassFolders => "one folder per class",
            Kind::ImageFolder => "a folder of images without labels",
            Kind::Csv => "a CSV of files",
        })
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.kind)?;
        for (split, len) in &self.splits {
            write!(f, ", {split} {len}")?;
        }
        if let Some(count) = self.class_count {
            write!(f, ", {count} classes")?;
        }
        if let Some(ImageInfo { width, height, channels }) = self.image {
            write!(f, ", {width}x{height}x{channels}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
