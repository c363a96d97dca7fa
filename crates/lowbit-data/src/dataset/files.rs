//! Image files by their paths: class folders, folders of images, and what a CSV names. Knows JPEG and PNG by their endings only.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{Kind, Parts, Source, Split, Visit};
use crate::error::DataError;
use crate::image::{Image, read_file};
use crate::preprocess::{ByteOrder, Pixels};

const DECODED: [&str; 3] = ["jpg", "jpeg", "png"];
/// Image formats that are refused rather than passed over.
const REFUSED: [&str; 7] = ["bmp", "gif", "webp", "tif", "tiff", "avif", "heic"];
const DEPTH_MAX: usize = 16;

#[derive(Debug)]
pub(crate) struct ImageFiles {
    root: PathBuf,
    /// Relative to `root`, or absolute.
    files: Vec<PathBuf>,
    table: Option<TableRows>,
}

/// Where a CSV names each file.
#[derive(Debug)]
struct TableRows {
    csv: String,
    lines: Vec<u32>,
}

impl ImageFiles {
    pub(crate) fn of_table(
        root: &Path,
        csv: &Path,
        files: Vec<PathBuf>,
        lines: Vec<u32>,
    ) -> ImageFiles {
        let table = Some(TableRows { csv: csv.display().to_string(), lines });
        ImageFiles { root: root.to_path_buf(), files, table }
    }

    pub(crate) fn place(&self, index: usize) -> String {
        let file = self.files[index].display();
        match &self.table {
            Some(table) => format!("{} line {} ({file})", table.csv, table.lines[index]),
            None => self.root.join(&self.files[index]).display().to_string(),
        }
    }

    pub(crate) fn read(&self, index: usize, visit: Visit) -> Result<(), DataError> {
        let path = self.root.join(&self.files[index]);
        let image = Image::decode(&read_file(&path)?, &path.display().to_string())?;
        let bytes = image.pixels();
        visit(Pixels { info: image.info(), bytes, order: ByteOrder::Interleaved })
    }
}

/// Opens a folder of class folders, of split folders of class folders, or of images; none if it has no image.
pub(crate) fn open_folder(root: &Path) -> Result<Option<Parts>, DataError> {
    let folders = subfolders(root)?;
    let is_split = |folder: &PathBuf| split_of_folder(folder).is_some();
    let nested = |folder: &PathBuf| subfolders(folder).is_ok_and(|below| !below.is_empty());
    let splits = !folders.is_empty() && folders.iter().all(is_split) && folders.iter().any(nested);
    let mut listing = Listing::default();
    if splits {
        for folder in &folders {
            let split = split_of_folder(folder).expect("checked above");
            list_classes(folder, split, &mut listing)?;
        }
    } else {
        list_classes(root, Split::All, &mut listing)?;
    }
    if !listing.files.is_empty() {
        return labelled(root, listing).map(Some);
    }
    let files = images_in(root)?;
    if files.is_empty() {
        return Ok(None);
    }
    let splits = vec![Split::All; files.len()];
    Ok(Some(parts(root, Kind::ImageFolder, files, splits)))
}

#[derive(Default)]
struct Listing {
    files: Vec<PathBuf>,
    splits: Vec<Split>,
    classes: Vec<String>,
}

/// Classes are the sorted names over all splits.
fn labelled(root: &Path, listing: Listing) -> Result<Parts, DataError> {
    let mut names = listing.classes.clone();
    names.sort_unstable();
    names.dedup();
    let number = |name: &String| names.binary_search(name).expect("of this list") as u32;
    let labels = listing.classes.iter().map(number).collect();
    let mut parts = parts(root, Kind::ClassFolders, listing.files, listing.splits);
    parts.labels = Some(labels);
    parts.classes = Some(names);
    Ok(parts)
}

fn parts(root: &Path, kind: Kind, files: Vec<PathBuf>, splits: Vec<Split>) -> Parts {
    let relative = |file: PathBuf| file.strip_prefix(root).map(Path::to_path_buf).unwrap_or(file);
    let files = files.into_iter().map(relative).collect();
    let files = ImageFiles { root: root.to_path_buf(), files, table: None };
    let name = root.display().to_string();
    Parts { name, kind, source: Source::Files(files), splits, labels: None, classes: None }
}

fn list_classes(root: &Path, split: Split, listing: &mut Listing) -> Result<(), DataError> {
    for folder in subfolders(root)? {
        let mut files = Vec::new();
        walk(&folder, 0, &mut files)?;
        let class = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        listing.splits.resize(listing.splits.len() + files.len(), split);
        listing.classes.resize(listing.classes.len() + files.len(), class);
        listing.files.append(&mut files);
    }
    Ok(())
}

/// The images of a class folder and of the folders in it, sorted.
fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    if depth > DEPTH_MAX {
        let found = format!("folders more than {DEPTH_MAX} deep");
        return Err(DataError::format(folder.display().to_string(), found, "fewer"));
    }
    files.append(&mut images_in(folder)?);
    for below in subfolders(folder)? {
        walk(&below, depth + 1, files)?;
    }
    Ok(())
}

/// The entries of a folder, hidden ones left out, sorted by name.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io(folder, "list"))? {
        let entry = entry.map_err(DataError::io(folder, "list"))?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

fn subfolders(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    Ok(entries(folder)?.into_iter().filter(|path| path.is_dir()).collect())
}

fn images_in(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut images = Vec::new();
    for path in entries(folder)? {
        let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        let ending = ending.to_ascii_lowercase();
        if REFUSED.contains(&ending.as_str()) {
            let (file, found) = (path.display().to_string(), format!("a .{ending} file"));
            let expected = "JPEG or PNG images".into();
            return Err(DataError::UnsupportedImage { file, found, expected });
        }
        if DECODED.contains(&ending.as_str()) {
            images.push(path);
        }
    }
    Ok(images)
}

fn split_of_folder(folder: &Path) -> Option<Split> {
    match folder.file_name()?.to_str()? {
        "train" => Some(Split::Train),
        "val" | "valid" | "validation" => Some(Split::Validation),
        "test" => Some(Split::Test),
        _ => None,
    }
}
