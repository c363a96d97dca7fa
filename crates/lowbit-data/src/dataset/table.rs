//! A CSV that names image files, with a header `file[,label][,split]` in any order. Knows nothing of the images themselves.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::files::ImageFiles;
use super::{Kind, LABEL_MAX, Parts, Source, Split};
use crate::error::DataError;

/// The columns of `file`, `label` and `split`.
struct Columns {
    file: usize,
    label: Option<usize>,
    split: Option<usize>,
}

/// Whether a CSV has a header that `open` takes.
pub(crate) fn has_our_header(csv: &Path) -> bool {
    reader(csv).and_then(|mut reader| read_columns(csv, &mut reader)).is_ok()
}

pub(crate) fn open(name: &Path, csv: &Path) -> Result<Parts, DataError> {
    let mut reader = reader(csv)?;
    let columns = read_columns(csv, &mut reader)?;
    let root = csv.parent().unwrap_or(Path::new("")).to_path_buf();
    let (mut files, mut lines, mut splits, mut labels) = (vec![], vec![], vec![], vec![]);
    for record in reader.into_records() {
        let record = record.map_err(|error| csv_error(csv, &error))?;
        let line = record.position().map_or(0, csv::Position::line);
        let place = || format!("{} line {line}", csv.display());
        files.push(existing_file(&root, &record[columns.file], place)?);
        splits.push(match columns.split {
            Some(column) => parse_split(&record[column], place)?,
            None => Split::All,
        });
        if let Some(column) = columns.label {
            labels.push(written_label(&record[column], place)?);
        }
        lines.push(line as u32);
    }
    let (labels, classes) = match columns.label {
        Some(_) => number_labels(csv, &labels, &lines)?,
        None => (None, None),
    };
    let source = Source::Files(ImageFiles::of_table(&root, csv, files, lines));
    let name = name.display().to_string();
    Ok(Parts { name, kind: Kind::Csv, source, splits, labels, classes })
}

fn reader(csv: &Path) -> Result<csv::Reader<File>, DataError> {
    let file = File::open(csv).map_err(DataError::io(csv, "open"))?;
    Ok(csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file))
}

fn csv_error(csv: &Path, error: &csv::Error) -> DataError {
    let line = error.position().map_or(String::new(), |at| format!(" line {}", at.line()));
    let file = format!("{}{line}", csv.display());
    let found = match error.kind() {
        csv::ErrorKind::UnequalLengths { len, expected_len, .. } => {
            return DataError::format(file, format!("{len} fields"), format!("{expected_len}"));
        }
        _ => error.to_string(),
    };
    DataError::format(file, found, "comma-separated UTF-8 text")
}

fn read_columns(csv: &Path, reader: &mut csv::Reader<File>) -> Result<Columns, DataError> {
    let header = reader.headers().map_err(|error| csv_error(csv, &error))?;
    let find = |name: &str| header.iter().position(|column| column == name);
    let (label, split) = (find("label"), find("split"));
    let known = 1 + usize::from(label.is_some()) + usize::from(split.is_some());
    match find("file") {
        Some(file) if header.len() == known => Ok(Columns { file, label, split }),
        _ => {
            let found = format!("header `{}`", header.iter().collect::<Vec<_>>().join(","));
            let found = found.chars().take(200).collect::<String>();
            let file = format!("{} line 1", csv.display());
            Err(DataError::format(file, found, "header `file[,label][,split]`"))
        }
    }
}

fn existing_file(
    root: &Path,
    written: &str,
    place: impl Fn() -> String,
) -> Result<PathBuf, DataError> {
    match !written.is_empty() && root.join(written).is_file() {
        true => Ok(PathBuf::from(written)),
        false => Err(DataError::MissingFile { place: place(), file: written.into() }),
    }
}

fn written_label(written: &str, place: impl Fn() -> String) -> Result<String, DataError> {
    match written {
        "" => Err(DataError::format(place(), "an empty label", "a class number or a class name")),
        label => Ok(label.to_string()),
    }
}

fn parse_split(written: &str, place: impl Fn() -> String) -> Result<Split, DataError> {
    match written.parse() {
        Ok(Split::All) | Err(_) => {
            let found = format!("split \"{written}\"");
            Err(DataError::format(place(), found, "one of: train, val, test"))
        }
        Ok(split) => Ok(split),
    }
}

type Numbered = (Option<Vec<u32>>, Option<Vec<String>>);

/// Labels are class numbers if any is a number, else names numbered in sorted order.
fn number_labels(csv: &Path, labels: &[String], lines: &[u32]) -> Result<Numbered, DataError> {
    // "-1" and "3.0" are numbers meant, and refused below; class names are words.
    let is_number = |label: &String| label.parse::<f64>().is_ok();
    if !labels.iter().any(is_number) {
        let mut names = labels.to_vec();
        names.sort_unstable();
        names.dedup();
        let number = |label| names.binary_search(label).expect("of this list") as u32;
        let numbers = labels.iter().map(number).collect();
        return Ok((Some(numbers), Some(names)));
    }
    let numbers = labels.iter().zip(lines).map(|(label, line)| {
        let number = label.parse().ok().filter(|&number| number <= LABEL_MAX);
        number.ok_or_else(|| DataError::LabelNotANumber {
            place: format!("{} line {line}", csv.display()),
            label: label.clone(),
            max: LABEL_MAX,
        })
    });
    Ok((Some(numbers.collect::<Result<_, _>>()?), None))
}
