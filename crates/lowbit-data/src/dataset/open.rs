//! Recognizes what a path holds by content. Knows the looks of each kind, not its insides.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::files::{entries, open_folder};
use super::idx::{self, Pair};
use super::{Parts, Split, cifar, table};
use crate::error::DataError;

pub(crate) fn open(path: &Path) -> Result<Parts, DataError> {
    let metadata = std::fs::metadata(path).map_err(DataError::io(path, "open"))?;
    if metadata.is_dir() { open_dir(path) } else { open_file(path, metadata.len()) }
}

fn open_file(path: &Path, bytes: u64) -> Result<Parts, DataError> {
    if has_ending(path, "csv") {
        table::open(path, path)
    } else if has_ending(path, "bin") {
        cifar::open(path, &[path.to_path_buf()])
    } else if idx::is_images_file(path) {
        idx::open(path, &[pair_of(path)?])
    } else {
        let found = format!("a file of {bytes} bytes and no known kind");
        Err(DataError::NotRecognized { path: path.to_path_buf(), found })
    }
}

fn open_dir(root: &Path) -> Result<Parts, DataError> {
    let entries = entries(root)?;
    let files: Vec<&PathBuf> = entries.iter().filter(|path| path.is_file()).collect();
    let batches: Vec<PathBuf> = files
        .iter()
        .filter(|path| has_ending(path, "bin"))
        .map(|path| path.to_path_buf())
        .collect();
    if !batches.is_empty() {
        return cifar::open(root, &batches);
    }
    let pairs = idx_pairs(&files)?;
    if !pairs.is_empty() {
        return idx::open(root, &pairs);
    }
    let is_table = |path: &&&PathBuf| has_ending(path, "csv") && table::has_our_header(path);
    let tables: Vec<_> = files.iter().filter(is_table).collect();
    match tables.as_slice() {
        [] => {}
        [csv] => return table::open(root, csv),
        [first, second, ..] => {
            let found =
                format!("several CSV files, as {} and {}", first.display(), second.display());
            let place = root.display().to_string();
            return Err(DataError::format(
                place,
                found,
                "one, or its path instead of the folder's",
            ));
        }
    }
    if let Some(parts) = open_folder(root)? {
        return Ok(parts);
    }
    if entries.is_empty() {
        return Err(DataError::Empty { place: root.display().to_string() });
    }
    let names = entries.iter().take(4).map(|path| file_name(path)).collect::<Vec<_>>();
    let found = format!("a folder of {} entries ({}, ...)", entries.len(), names.join(", "));
    Err(DataError::NotRecognized { path: root.to_path_buf(), found })
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().and_then(OsStr::to_str).is_some_and(|own| own.eq_ignore_ascii_case(ending))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The IDX pairs of a folder; where a file is there plain and gzipped, the plain one.
fn idx_pairs(files: &[&PathBuf]) -> Result<Vec<Pair>, DataError> {
    let is_images = |name: &str| name.contains("images") && name.contains("idx3");
    let mut pairs = Vec::new();
    for path in files {
        let name = file_name(path);
        let plain = name.strip_suffix(".gz").map(|plain| path.with_file_name(plain));
        if is_images(&name) && !plain.is_some_and(|plain| plain.is_file()) {
            pairs.push(pair_of(path)?);
        }
    }
    Ok(pairs)
}

/// The labels file beside an images file, plain or gzipped.
fn pair_of(images: &Path) -> Result<Pair, DataError> {
    let name = file_name(images);
    let labels_name = name.replace("images", "labels").replace("idx3", "idx1");
    let labels_name = labels_name.trim_end_matches(".gz");
    let candidates = [labels_name.to_string(), format!("{labels_name}.gz")];
    let mut candidates = candidates.iter().map(|name| images.with_file_name(name));
    match candidates.find(|path| path != images && path.is_file()) {
        Some(labels) => Ok(Pair { split: split_of(&name), images: images.to_path_buf(), labels }),
        None => Err(DataError::format(
            images.display().to_string(),
            "no labels file",
            format!("{labels_name} or {labels_name}.gz beside it"),
        )),
    }
}

fn split_of(name: &str) -> Split {
    let has = |word: &str| name.contains(word);
    match () {
        () if has("train") => Split::Train,
        () if has("t10k") || has("test") => Split::Test,
        () if has("val") => Split::Validation,
        () => Split::All,
    }
}
