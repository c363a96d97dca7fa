//! CIFAR-10's binary batches: records of a label byte and 3072 bytes [channel, row, column]. Knows no other format.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::record_file::RecordFile;
use super::{Kind, Parts, Source, Split, Visit};
use crate::error::DataError;
use crate::preprocess::{ByteOrder, ImageInfo, Pixels};

pub(crate) const IMAGE: ImageInfo = ImageInfo { width: 32, height: 32, channels: 3 };
pub(crate) const RECORD_BYTES: usize = 1 + 32 * 32 * 3;

/// batches.meta.txt of the data set.
const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

#[derive(Debug)]
pub(crate) struct Batches {
    batches: Vec<Batch>,
}

#[derive(Debug)]
struct Batch {
    file: RecordFile,
    /// The index of its first image.
    first: usize,
}

/// Opens the given batch files, in this order.
pub(crate) fn open(name: &Path, files: &[PathBuf]) -> Result<Parts, DataError> {
    let mut batches = Vec::new();
    let (mut splits, mut labels) = (Vec::new(), Vec::new());
    let opened: Vec<_> = files.par_iter().map(|path| open_batch(path)).collect();
    for (path, opened) in files.iter().zip(opened) {
        let first = labels.len();
        let (file, of_batch) = opened?;
        labels.extend(of_batch);
        splits.resize(labels.len(), split_of(path));
        batches.push(Batch { file, first });
    }
    Ok(Parts {
        name: name.display().to_string(),
        kind: Kind::Cifar10,
        source: Source::Cifar(Batches { batches }),
        splits,
        labels: Some(labels),
        classes: Some(CLASSES.map(String::from).to_vec()),
    })
}

/// A file and the labels of its images.
fn open_batch(path: &Path) -> Result<(RecordFile, Vec<u32>), DataError> {
    let file = RecordFile::open(path)?;
    let labels = (0..record_count(&file)?).map(|record| read_label(&file, record));
    let labels = labels.collect::<Result<_, _>>()?;
    Ok((file, labels))
}

fn split_of(path: &Path) -> Split {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    match name {
        name if name.starts_with("data_batch") => Split::Train,
        name if name.starts_with("test_batch") => Split::Test,
        _ => Split::All,
    }
}

fn record_count(file: &RecordFile) -> Result<usize, DataError> {
    let bytes = file.len()?;
    let records = bytes / RECORD_BYTES as u64;
    if bytes == 0 || !bytes.is_multiple_of(RECORD_BYTES as u64) {
        let expected = format!("CIFAR-10 records: a multiple of {RECORD_BYTES} bytes");
        return Err(DataError::format(file.name(), format!("{bytes} bytes"), expected));
    }
    Ok(records as usize)
}

fn read_label(file: &RecordFile, record: usize) -> Result<u32, DataError> {
    let mut label = [0];
    file.read_exact_at(&mut label, (record * RECORD_BYTES) as u64)?;
    let label = u32::from(label[0]);
    if label as usize >= CLASSES.len() {
        let place = format!("{} record {record}", file.name());
        return Err(DataError::LabelOutOfRange { place, label, classes: CLASSES.len() });
    }
    Ok(label)
}

impl Batches {
    /// The batch of image `index` and its record there.
    fn find(&self, index: usize) -> (&Batch, usize) {
        let batch = self.batches.partition_point(|batch| batch.first <= index) - 1;
        let batch = &self.batches[batch];
        (batch, index - batch.first)
    }

    pub(crate) fn place(&self, index: usize) -> String {
        let (batch, record) = self.find(index);
        format!("{} record {record}", batch.file.name())
    }

    pub(crate) fn read(&self, index: usize, visit: Visit) -> Result<(), DataError> {
        let (batch, record) = self.find(index);
        let offset = (record * RECORD_BYTES + 1) as u64;
        batch.file.with_record(offset, RECORD_BYTES - 1, &mut |bytes| {
            visit(Pixels { info: IMAGE, bytes, order: ByteOrder::Planar })
        })
    }
}
