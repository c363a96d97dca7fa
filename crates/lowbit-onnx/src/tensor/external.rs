//! Tensor data kept in a file beside the model. The file must lie inside the model's folder.

use std::fs::File;
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

/// Reads the `bytes` bytes that the entries point at.
pub(super) fn read(
    entries: &[StringStringEntryProto],
    folder: Option<&Path>,
    bytes: usize,
) -> Result<Vec<u8>, Wrong> {
    let place = place(entries)?;
    let folder = folder.ok_or_else(|| {
        wrong(
            "external data",
            place.location,
            "data inside the model: its folder is not known",
        )
    })?;
    let mut file = File::open(resolve(folder, place.location)?).map_err(Wrong::Io)?;
    let metadata = file.metadata().map_err(Wrong::Io)?;
    if !metadata.is_file() {
        return Err(wrong(
            "external data location",
            place.location,
            "a regular file",
        ));
    }
    let wanted = bytes as u64;
    if place.length.is_some_and(|length| length != wanted) {
        let found = format!("length {}", place.length.unwrap_or_default());
        return Err(wrong(
            "external data",
            found,
            format!("{wanted} bytes, as the shape says"),
        ));
    }
    if place
        .offset
        .checked_add(wanted)
        .is_none_or(|end| end > metadata.len())
    {
        let found = format!("{wanted} bytes from offset {}", place.offset);
        return Err(wrong(
            "external data",
            found,
            format!("at most the file's {} bytes", metadata.len()),
        ));
    }
    file.seek(SeekFrom::Start(place.offset))
        .map_err(Wrong::Io)?;
    let mut data = vec![0; bytes];
    file.read_exact(&mut data).map_err(Wrong::Io)?;
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
    let plain = relative
        .components()
        .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    // A backslash would be a separator on another system: the same file must be safe everywhere.
    if location.is_empty() || !plain || location.contains('\\') {
        return Err(outside());
    }
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let folder = folder.canonicalize().map_err(Wrong::Io)?;
    let file = folder.join(relative).canonicalize().map_err(Wrong::Io)?;
    if file.starts_with(&folder) {
        Ok(file)
    } else {
        Err(outside())
    }
}
