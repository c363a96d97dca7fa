//! IDX files as of MNIST: big-endian magic and sizes, then bytes; images [n, height, width] and labels [n]. Knows no other format.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::record_file::RecordFile;
use super::{IdxBytes, Kind, Parts, Source, Split, Visit};
use crate::error::DataError;
use crate::image::SIDE_MAX;
use crate::preprocess::{ByteOrder, ImageInfo, Pixels};

/// Zero, zero, unsigned bytes, three dimensions.
pub(crate) const IMAGES_MAGIC: u32 = 0x0803;
const LABELS_MAGIC: u32 = 0x0801;
const IMAGES_HEADER: usize = 16;
const LABELS_HEADER: usize = 8;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const IMAGES_MAX: usize = 100_000_000;
/// A gzipped file is unpacked to memory up to this size.
const UNPACKED_MAX: u64 = 1 << 30;

#[derive(Debug)]
pub(crate) struct IdxFiles {
    files: Vec<ImagesFile>,
}

#[derive(Debug)]
struct ImagesFile {
    file: RecordFile,
    info: ImageInfo,
    /// The index of its first image.
    first: usize,
}

/// The images file and the labels file of a split.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) split: Split,
    pub(crate) images: PathBuf,
    pub(crate) labels: PathBuf,
}

/// Opens pairs of files, in this order.
pub(crate) fn open(name: &Path, pairs: &[Pair]) -> Result<Parts, DataError> {
    let opened = pairs.iter().map(|pair| {
        let images = open_file(&pair.images, IMAGES_HEADER)?;
        let labels = open_file(&pair.labels, LABELS_HEADER)?;
        Ok((pair.split, images, labels))
    });
    assemble(&name.display().to_string(), opened)
}

/// The same, of files in memory.
pub(crate) fn from_bytes(name: &str, parts: &[IdxBytes]) -> Result<Parts, DataError> {
    let opened = parts.iter().map(|part| {
        let file = |what: &str, bytes: &[u8], header: usize| -> Result<RecordFile, DataError> {
            let path = PathBuf::from(format!("{name} {} {what}", part.split));
            let bytes = match bytes.starts_with(&GZIP_MAGIC) {
                true => unpack(&path, bytes, header)?,
                false => bytes.to_vec(),
            };
            Ok(RecordFile::in_memory(&path, bytes))
        };
        let images = file("images", part.images, IMAGES_HEADER)?;
        Ok((part.split, images, file("labels", part.labels, LABELS_HEADER)?))
    });
    assemble(name, opened)
}

type Opened = (Split, RecordFile, RecordFile);

fn assemble(
    name: &str,
    opened: impl Iterator<Item = Result<Opened, DataError>>,
) -> Result<Parts, DataError> {
    let (mut files, mut splits, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for opened in opened {
        let (split, images, labels_file) = opened?;
        let (count, info) = read_images_header(&images)?;
        let own_labels = read_labels(&labels_file)?;
        if own_labels.len() != count {
            let found = format!("{} labels", own_labels.len());
            let expected = format!("{count}, as many as the images of {}", images.name());
            return Err(DataError::format(labels_file.name(), found, expected));
        }
        files.push(ImagesFile { file: images, info, first: labels.len() });
        splits.resize(splits.len() + count, split);
        labels.extend(own_labels.into_iter().map(u32::from));
    }
    Ok(Parts {
        name: name.to_string(),
        kind: Kind::Idx,
        source: Source::Idx(IdxFiles { files }),
        splits,
        labels: Some(labels),
        classes: None,
    })
}

/// Whether `path` holds the header of an images file, plain or gzipped.
pub(crate) fn is_images_file(path: &Path) -> bool {
    let Ok(file) = std::fs::File::open(path) else {
        return false;
    };
    let mut magic = [0; 4];
    let plain = (&file).read_exact(&mut magic).is_ok();
    if plain && magic.starts_with(&GZIP_MAGIC) {
        let Ok(file) = std::fs::File::open(path) else {
            return false;
        };
        let unpacked = flate2::read::GzDecoder::new(file).read_exact(&mut magic);
        return unpacked.is_ok() && u32::from_be_bytes(magic) == IMAGES_MAGIC;
    }
    plain && u32::from_be_bytes(magic) == IMAGES_MAGIC
}

fn open_file(path: &Path, header: usize) -> Result<RecordFile, DataError> {
    let mut file = std::fs::File::open(path).map_err(DataError::io(path, "open"))?;
    let mut magic = Vec::new();
    (&mut file).take(2).read_to_end(&mut magic).map_err(DataError::io(path, "read"))?;
    if magic != GZIP_MAGIC {
        return RecordFile::open(path);
    }
    let file = std::fs::File::open(path).map_err(DataError::io(path, "open"))?;
    Ok(RecordFile::in_memory(path, unpack(path, std::io::BufReader::new(file), header)?))
}

/// Unpacks a gzipped IDX file to memory, as many bytes as its header says and not more.
fn unpack(path: &Path, packed: impl Read, header_bytes: usize) -> Result<Vec<u8>, DataError> {
    let mut decoder = flate2::read::GzDecoder::new(packed);
    let mut bytes = vec![0; header_bytes];
    decoder.read_exact(&mut bytes).map_err(DataError::io(path, "unpack"))?;
    let sizes = bytes[4..].as_chunks::<4>().0;
    let stated = sizes
        .iter()
        .try_fold(1u64, |product, size| product.checked_mul(u64::from(u32::from_be_bytes(*size))));
    let Some(stated) = stated.filter(|&stated| stated <= UNPACKED_MAX) else {
        let sizes: Vec<u32> = sizes.iter().map(|size| u32::from_be_bytes(*size)).collect();
        let expected = format!("at most {UNPACKED_MAX} bytes in a gzipped file; unpack it first");
        return Err(DataError::format(
            path.display().to_string(),
            format!("sizes {sizes:?}"),
            expected,
        ));
    };
    // One byte more than stated shows that there are too many; the checks of the header tell.
    decoder.take(stated + 1).read_to_end(&mut bytes).map_err(DataError::io(path, "unpack"))?;
    Ok(bytes)
}

fn read_images_header(file: &RecordFile) -> Result<(usize, ImageInfo), DataError> {
    let header: [u32; 4] = read_header(file, IMAGES_MAGIC)?;
    let [count, height, width] = [header[1], header[2], header[3]].map(|size| size as usize);
    if !(1..=SIDE_MAX).contains(&height) || !(1..=SIDE_MAX).contains(&width) {
        let expected = format!("sides of 1 to {SIDE_MAX}");
        return Err(DataError::format(file.name(), format!("{width}x{height} images"), expected));
    }
    check_bytes(file, IMAGES_HEADER as u64 + count as u64 * (height * width) as u64)?;
    Ok((count, ImageInfo { width, height, channels: 1 }))
}

fn read_labels(file: &RecordFile) -> Result<Vec<u8>, DataError> {
    let header: [u32; 2] = read_header(file, LABELS_MAGIC)?;
    if header[1] as usize > IMAGES_MAX {
        let expected = format!("at most {IMAGES_MAX}");
        return Err(DataError::format(file.name(), format!("{} labels", header[1]), expected));
    }
    check_bytes(file, LABELS_HEADER as u64 + u64::from(header[1]))?;
    let mut labels = vec![0; header[1] as usize];
    file.read_exact_at(&mut labels, LABELS_HEADER as u64)?;
    Ok(labels)
}

fn read_header<const N: usize>(file: &RecordFile, magic: u32) -> Result<[u32; N], DataError> {
    let expected = format!("IDX magic {magic:#010x} and {} sizes", N - 1);
    let bytes = file.len()?;
    if bytes < 4 * N as u64 {
        return Err(DataError::format(file.name(), format!("{bytes} bytes"), expected));
    }
    let mut header = [0; N];
    for (i, word) in header.iter_mut().enumerate() {
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, 4 * i as u64)?;
        *word = u32::from_be_bytes(bytes);
    }
    if header[0] != magic {
        return Err(DataError::format(file.name(), format!("magic {:#010x}", header[0]), expected));
    }
    Ok(header)
}

fn check_bytes(file: &RecordFile, expected: u64) -> Result<(), DataError> {
    match file.len()? {
        found if found == expected => Ok(()),
        found => {
            let found = match found > expected {
                true => format!("more than {expected} bytes"),
                false => format!("{found} bytes"),
            };
            Err(DataError::format(file.name(), found, format!("{expected} as its header says")))
        }
    }
}

impl IdxFiles {
    fn find(&self, index: usize) -> (&ImagesFile, usize) {
        let file = self.files.partition_point(|file| file.first <= index) - 1;
        let file = &self.files[file];
        (file, index - file.first)
    }

    pub(crate) fn image_info(&self) -> Option<ImageInfo> {
        let first = self.files.first()?.info;
        self.files.iter().all(|file| file.info == first).then_some(first)
    }

    pub(crate) fn place(&self, index: usize) -> String {
        let (file, image) = self.find(index);
        format!("{} image {image}", file.file.name())
    }

    pub(crate) fn read(&self, index: usize, visit: Visit) -> Result<(), DataError> {
        let (file, image) = self.find(index);
        let len = file.info.width * file.info.height;
        let offset = IMAGES_HEADER as u64 + image as u64 * len as u64;
        file.file.with_record(offset, len, &mut |bytes| {
            visit(Pixels { info: file.info, bytes, order: ByteOrder::Interleaved })
        })
    }
}
