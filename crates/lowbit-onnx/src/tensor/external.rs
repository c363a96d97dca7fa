//! Tensor data kept in a file beside the model. The file must lie inside the model's folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::{Wrong, wrong};
use crate::proto::StringStringEntryProto;

/// Where the entries say the data is.
#[derive(Default)]
struct Place<'a> {
    location: &'a str,
    offset: u64,
    length: Option<u64>,
}

/// Bytes that may be read for each byte of the files: tensors may share data, but not without end.
const SHARING_MAX: u64 = 4;

/// The folder that external data may lie in, and how much of it has been read.
#[derive(Debug)]
pub(crate) struct External<'a> {
    folder: Option<&'a Path>,
    /// The files that were read from, with their sizes.
    files: BTreeMap<PathBuf, u64>,
    bytes_read: u64,
}

impl<'a> External<'a> {
    pub(crate) fn new(folder: Option<&'a Path>) -> Self {
        External { folder, files: BTreeMap::new(), bytes_read: 0 }
    }

    /// Reads the `bytes` bytes that the entries point at.
    pub(super) fn read(
        &mut self,
        entries: &[StringStringEntryProto],
        bytes: usize,
    ) -> Result<Vec<u8>, Wrong> {
        let fail = |found: String, expected: String| Err(wrong("external data", found, expected));
        let place = place(entries)?;
        let Some(folder) = self.folder else {
            let expected = "data inside the model: its folder is not known";
            return fail(place.location.to_owned(), expected.to_owned());
        };
        let path = resolve(folder, place.location)?;
        // Before it is opened: opening a pipe would wait for a writer.
        let metadata = fs::metadata(&path).map_err(Wrong::Io)?;
        if !metadata.is_file() {
            return fail(place.location.to_owned(), "a regular file".into());
        }
        let (size, wanted) = (metadata.len(), bytes as u64);
        if let Some(length) = place.length.filter(|&length| length != wanted) {
            return fail(format!("length {length}"), format!("{wanted} bytes, as the shape says"));
        }
        let end = place.offset.checked_add(wanted);
        if end.is_none_or(|end| end > size) {
            let found = format!("{wanted} bytes from offset {}", place.offset);
            return fail(found, format!("at most the file's {size} bytes"));
        }
        self.files.insert(path.clone(), size);
        self.bytes_read = self.bytes_read.saturating_add(wanted);
        let total = self.files.values().fold(0u64, |sum, &size| sum.saturating_add(size));
        if self.bytes_read > total.saturating_mul(SHARING_MAX) {
            let found = format!("{} bytes from files of {total}", self.bytes_read);
            return fail(found, format!("at most {SHARING_MAX} times as many"));
        }
        read_at(&path, place.offset, bytes).map_err(Wrong::Io)
    }
}

fn read_at(path: &Path, offset: u64, bytes: usize) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut data = vec![0; bytes];
    file.read_exact(&mut data)?;
    Ok(data)
}

fn place(entries: &[StringStringEntryProto]) -> Result<Place<'_>, Wrong> {
    let mut place = Place::default();
    let number = |text: &str| {
        text.parse::<u64>()
            .map_err(|_| wrong("external data", format!("\"{text}\""), "a number of bytes"))
    };
    for entry in entries {
        let value = entry.value.as_deref().unwrap_or_default();
        match entry.key.as_deref().unwrap_or_default() {
            "location" => place.location = value,
            "offset" => place.offset = number(value)?,
            "length" => place.length = Some(number(value)?),
            // A digest to compare with, if one likes; the data is the same without.
            "checksum" => {}
            key => {
                return Err(wrong(
                    "external data",
                    format!("key \"{key}\""),
                    "location, offset, length, checksum",
                ));
            }
        }
    }
    Ok(place)
}

/// The file's real path, when it is inside `folder` even after following links.
fn resolve(folder: &Path, location: &str) -> Result<PathBuf, Wrong> {
    let outside = || {
        wrong(
            "external data location",
            format!("\"{location}\""),
            "a file inside the model's folder",
        )
    };
    let relative = Path::new(location);
    let plain =
        relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    // A backslash would be a separator on another system: the same file must be safe everywhere.
    if location.is_empty() || !plain || location.contains('\\') {
        return Err(outside());
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let folder = folder.canonicalize().map_err(Wrong::Io)?;
    let file = folder.join(relative).canonicalize().map_err(Wrong::Io)?;
    if file.starts_with(&folder) { Ok(file) } else { Err(outside()) }
}
