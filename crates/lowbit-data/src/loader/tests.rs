use std::fs;
use std::path::Path;

use super::*;
use crate::{Dataset, Resize, Split};

const JPEG: &[u8] = include_bytes!("../../tests/goldens/rgb_420.jpg");

/// Two classes of images of 37x29, `n` in all.
fn folder(root: &Path, n: usize) -> Subset {
    for i in 0..n {
        let class = root.join(["cat", "dog"][i % 2]);
        fs::create_dir_all(&class).unwrap();
        fs::write(class.join(format!("{i:03}.jpg")), JPEG).unwrap();
    }
    Dataset::open(root).unwrap().split(Split::All).unwrap()
}

fn load(subset: &Subset, batch_size: usize, threads: usize) -> Vec<Result<Batch, DataError>> {
    let settings = LoaderSettings { batch_size, threads };
    Loader::new(subset, &preprocess(), settings).unwrap().collect()
}

fn preprocess() -> Preprocess {
    Preprocess { resize: Some(Resize::Exact { width: 8, height: 6 }), ..Preprocess::default() }
}

#[test]
fn batches_come_in_order_and_equal_single_samples() {
    let root = tempfile::tempdir().unwrap();
    let subset = folder(root.path(), 11);
    for (batch_size, threads) in [(1, 1), (4, 1), (4, 2), (11, 2), (100, 3)] {
        let batches = load(&subset, batch_size, threads);
        let mut next = 0;
        for batch in batches {
            let batch = batch.unwrap();
            assert_eq!(batch.first, next);
            assert_eq!(batch.shape[1..], [3, 6, 8]);
            for (i, input) in batch.inputs.chunks_exact(3 * 6 * 8).enumerate() {
                let sample = subset.sample(next + i, &preprocess()).unwrap();
                assert_eq!(
                    (input, batch.labels.as_ref().unwrap()[i]),
                    (&sample.input[..], sample.label.unwrap())
                );
            }
            next += batch.shape[0];
        }
        assert_eq!(next, 11);
    }
}

#[test]
fn the_first_bad_image_is_named_after_the_good_batches() {
    let root = tempfile::tempdir().unwrap();
    let subset = folder(root.path(), 12);
    for bad in [3, 4] {
        fs::write(subset.place(bad), &JPEG[..300]).unwrap();
    }
    let batches = load(&subset, 2, 2);
    assert_eq!(batches.len(), 2, "the error ends the loading");
    assert!(batches[0].is_ok());
    let error = batches[1].as_ref().unwrap_err().to_string();
    assert_eq!(error, format!("{}: cannot decode this JPEG image", subset.place(3)));
}

#[test]
fn mixed_sizes_are_refused_unless_resized() {
    let root = tempfile::tempdir().unwrap();
    let subset = folder(root.path(), 2);
    let settings = LoaderSettings { batch_size: 2, threads: 1 };
    let plain = Preprocess::default();
    fs::write(subset.place(1), png_2x2()).unwrap();
    let error = Loader::new(&subset, &plain, settings).unwrap().next().unwrap().unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("found [3, 2, 2] after preprocessing, expected [3, 29, 37]"),
        "{message}"
    );
    assert!(load(&subset, 2, 1)[0].is_ok());
}

fn png_2x2() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 2, 2);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&[9; 12]).unwrap();
    bytes
}

#[test]
fn dropping_the_loader_early_stops_it() {
    let root = tempfile::tempdir().unwrap();
    let subset = folder(root.path(), 10);
    let settings = LoaderSettings { batch_size: 1, threads: 1 };
    let mut loader = Loader::new(&subset, &preprocess(), settings).unwrap();
    assert!(loader.next().unwrap().is_ok());
}

#[test]
fn an_empty_subset_gives_no_batch() {
    let root = tempfile::tempdir().unwrap();
    assert!(load(&folder(root.path(), 2).first(0), 4, 1).is_empty());
}
