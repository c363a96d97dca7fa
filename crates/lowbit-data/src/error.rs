//! The one error of this crate: every variant says where, what was found and what was expected.

use std::path::PathBuf;

/// What can be wrong with a data set, an image, a preprocessing or a download.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder could not be read or written.
    #[error("{}: cannot {action}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was attempted, as a verb: "read", "list".
        action: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Nothing we know was found at a path.
    #[error(
        "{}: found {found}, expected one of: CIFAR-10 binary batches (data_batch_*.bin, test_batch.bin); \
         IDX files (*-images-idx3-ubyte with *-labels-idx1-ubyte, plain or .gz); \
         a folder with one folder of JPEG or PNG images per class, perhaps under train/ and test/; \
         a folder of JPEG or PNG images; a CSV file with a header `file,label[,split]`", path.display()
    )]
    NotRecognized {
        /// What was to be opened.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// A data set file whose header, size or contents contradict its format.
    #[error("{file}: found {found}, expected {expected}")]
    Format {
        /// The file, with its row or record where one is at fault.
        file: String,
        /// What it holds.
        found: String,
        /// What it should hold.
        expected: String,
    },
    /// A data set or a part of it without a single image.
    #[error("{place}: found no images, expected at least one")]
    Empty {
        /// The file, folder or split.
        place: String,
    },
    /// A split that the data set does not have.
    #[error("{dataset}: found splits {found}, expected a split {split}")]
    NoSplit {
        /// The data set.
        dataset: String,
        /// The wanted split.
        split: String,
        /// The splits there are.
        found: String,
    },
    /// A range or index beyond the end of a subset.
    #[error("{dataset}: image {index} was asked for, expected an index below {len}")]
    Index {
        /// The data set.
        dataset: String,
        /// The index asked for.
        index: usize,
        /// How many images there are.
        len: usize,
    },
    /// A label that is not a class number.
    #[error("{place}: found label \"{label}\", expected a class number from 0 to {max}")]
    LabelNotANumber {
        /// The file and row.
        place: String,
        /// The label as written.
        label: String,
        /// The largest class number.
        max: u32,
    },
    /// A label beyond the classes there are.
    #[error("{place}: found label {label}, expected one of {classes} classes (0 to {})", classes.saturating_sub(1))]
    LabelOutOfRange {
        /// The file and row or record.
        place: String,
        /// The label.
        label: u32,
        /// The number of classes.
        classes: usize,
    },
    /// A data set whose classes are named and not as many as the model's.
    #[error(
        "{dataset}: found {found} named classes, expected {expected}, as many as the model has ({first})"
    )]
    ClassCount {
        /// The data set.
        dataset: String,
        /// The number of classes it names.
        found: usize,
        /// The number of classes of the model.
        expected: usize,
        /// The first image, its label and the class's name.
        first: String,
    },
    /// Labels were needed of a data set that has none.
    #[error("{dataset}: found no labels, expected one per image")]
    NoLabels {
        /// The data set.
        dataset: String,
    },
    /// A file that a CSV names and that is not there.
    #[error(
        "{place}: found no file \"{file}\", expected the path of an image (relative to the CSV's folder or absolute)"
    )]
    MissingFile {
        /// The CSV and its line.
        place: String,
        /// The path as written.
        file: String,
    },
    /// An image that cannot be decoded.
    #[error("{file}: cannot decode this {format} image")]
    Decode {
        /// The image's file.
        file: String,
        /// "JPEG" or "PNG".
        format: &'static str,
        /// What the decoder says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An image of a kind that is not decoded.
    #[error("{file}: found {found}, expected {expected}")]
    UnsupportedImage {
        /// The image's file.
        file: String,
        /// Its kind.
        found: String,
        /// The kinds that are.
        expected: String,
    },
    /// Pixels that do not fill the stated size, or a size that is not allowed.
    #[error(
        "{file}: found an image of {width}x{height}x{channels} in {bytes} bytes, expected {expected}"
    )]
    ImageSize {
        /// The image's file.
        file: String,
        /// Its width.
        width: usize,
        /// Its height.
        height: usize,
        /// Its number of channels.
        channels: usize,
        /// The number of bytes given.
        bytes: usize,
        /// The sizes allowed.
        expected: String,
    },
    /// A value of a preprocessing that makes no sense, alone or for this image.
    #[error("preprocessing: found {key} = {found}, expected {expected}")]
    Preprocess {
        /// The key.
        key: &'static str,
        /// Its value.
        found: String,
        /// The values allowed.
        expected: String,
    },
    /// A preprocessing file or text that cannot be read.
    #[error("{place}: {message}, expected the keys {expected}")]
    PreprocessText {
        /// The file and line.
        place: String,
        /// What is wrong, naming the key.
        message: String,
        /// The keys there are.
        expected: &'static str,
    },
    /// Images of one batch that come out of different sizes.
    #[error(
        "{place}: found {found:?} after preprocessing, expected {expected:?} as for the images before it; give a resize or a crop"
    )]
    MixedShapes {
        /// The image.
        place: String,
        /// Its shape.
        found: [usize; 3],
        /// The shape before.
        expected: [usize; 3],
    },
    /// The threads of a loader could not be started.
    #[error("cannot start {threads} loading threads")]
    Threads {
        /// The number wanted.
        threads: usize,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A public data set of this name is not known.
    #[error("found data set name \"{found}\", expected one of: {expected}")]
    UnknownSet {
        /// The name given.
        found: String,
        /// The names known.
        expected: String,
    },
    /// A program that a download needs cannot be started.
    #[error("{set}: cannot run `{program}`, which brings this data set: install {install}")]
    Program {
        /// The data set.
        set: &'static str,
        /// The program.
        program: String,
        /// What provides it.
        install: &'static str,
        /// Why it did not start.
        #[source]
        source: std::io::Error,
    },
    /// A program of a download failed.
    #[error("{set}: `{command}` failed with {status}: {stderr}")]
    Command {
        /// The data set.
        set: &'static str,
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// The end of what it said.
        stderr: String,
    },
    /// A downloaded file that is not the published one.
    #[error("{}: found md5 {found}, expected {expected}", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Its checksum.
        found: String,
        /// The published one.
        expected: &'static str,
    },
}

impl DataError {
    /// For `map_err`: the failure to do `action` ("read") with `path`.
    pub(crate) fn io(
        path: &std::path::Path,
        action: &'static str,
    ) -> impl FnOnce(std::io::Error) -> DataError {
        let path = path.to_path_buf();
        move |source| DataError::Io { path, action, source }
    }

    /// A file whose contents are `found` where `expected` should be.
    pub(crate) fn format(
        file: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> DataError {
        DataError::Format { file: file.into(), found: found.into(), expected: expected.into() }
    }
}
