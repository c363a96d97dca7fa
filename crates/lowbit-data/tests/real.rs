//! Real data: the embedded default always; downloaded sets and photographs where they are, else skipped with a line that says so.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

use lowbit_data::{
    Dataset, Filter, IdxBytes, Loader, LoaderSettings, Preprocess, Resize, Split, fetch,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn the_embedded_default_opens_from_disk_and_from_memory() {
    let assets = root().join("assets");
    let read = |name: &str| std::fs::read(assets.join("fashion-mnist").join(name)).unwrap();
    let [train, train_labels, test, test_labels] = [
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
    ]
    .map(read);
    let parts = [
        IdxBytes { split: Split::Train, images: &train, labels: &train_labels },
        IdxBytes { split: Split::Test, images: &test, labels: &test_labels },
    ];
    let disk = Dataset::open(assets.join("fashion-mnist")).unwrap();
    let memory = Dataset::from_idx_bytes("the embedded default", &parts).unwrap();
    let preprocess = Preprocess::from_toml_file(assets.join("preprocess.toml")).unwrap();
    for dataset in [&disk, &memory] {
        assert_eq!([Split::Train, Split::Test].map(|split| dataset.len(split)), [512, 2000]);
        assert!(dataset.check_classes(10).is_ok());
        let labels = dataset.evaluation().labels().unwrap();
        assert_eq!(labels[..5], [9, 2, 1, 1, 6], "the first labels of Fashion-MNIST's test set");
    }
    for position in [0, 1999] {
        let sample = |set: &Dataset| set.evaluation().sample(position, &preprocess).unwrap();
        assert_eq!(sample(&disk), sample(&memory));
    }
}

/// A downloaded set, or none with a line on stderr.
fn downloaded(name: &str) -> Option<Dataset> {
    let path = fetch::default_dir().join(name);
    if !path.is_dir() {
        eprintln!("skipped: {name} is not there; `lowbit data fetch {name}` brings it");
        return None;
    }
    Some(Dataset::open(path).unwrap())
}

#[test]
fn downloaded_sets_have_their_published_counts() {
    for name in ["cifar10", "mnist", "fashion-mnist"] {
        let Some(dataset) = downloaded(name) else {
            continue;
        };
        let train = if name == "cifar10" { 50_000 } else { 60_000 };
        assert_eq!(
            [Split::Train, Split::Test].map(|split| dataset.len(split)),
            [train, 10_000],
            "{name}"
        );
        let mut counts = [0; 10];
        for label in dataset.evaluation().labels().unwrap() {
            counts[label as usize] += 1;
        }
        assert!(name == "mnist" || counts == [1000; 10], "{name}: {counts:?}");
    }
}

/// What Pillow makes of the same files is not stored, as it is 150 MB: it is compared if given as
/// `LOWBIT_PILLOW=file`, raw bytes [1000, 224, 224, 3] in the order of labels.csv.
#[test]
fn photographs_agree_with_pillow_and_any_number_of_threads() {
    let path = root().join("../shared/data/imagenet_compatible_1000");
    if !path.is_dir() {
        eprintln!("skipped: the 1,000 ImageNet-compatible photographs are not there");
        return;
    }
    let dataset = Dataset::open(&path).unwrap();
    assert_eq!((dataset.len(Split::All), dataset.classes()), (1000, None));
    assert!(dataset.check_classes(1000).is_ok());
    let preprocess = Preprocess {
        resize: Some(Resize::Exact { width: 224, height: 224 }),
        filter: Filter::Bicubic,
        scale: 1.0,
        layout: "nhwc".parse().unwrap(),
        ..Preprocess::default()
    };
    let pillow = std::env::var_os("LOWBIT_PILLOW").map(|file| std::fs::read(file).unwrap());
    let subset =
        if pillow.is_some() { dataset.evaluation() } else { dataset.evaluation().first(40) };
    let load = |threads| {
        let settings = LoaderSettings { batch_size: 32, threads };
        let start = std::time::Instant::now();
        let batches = Loader::new(&subset, &preprocess, settings).unwrap();
        let values: Vec<u8> =
            batches.flat_map(|batch| batch.unwrap().inputs).map(|value| value as u8).collect();
        let rate = subset.len() as f64 / start.elapsed().as_secs_f64();
        eprintln!("{threads} threads: {rate:.0} images/s");
        values
    };
    let values = load(1);
    assert!(values == load(2), "results depend on the number of threads");
    if let Some(pillow) = pillow {
        assert_eq!(values.len(), pillow.len());
        let differences = values.iter().zip(&pillow).map(|(a, b)| f64::from(a.abs_diff(*b)));
        let highest = differences.clone().fold(0.0, f64::max);
        let mean = differences.sum::<f64>() / pillow.len() as f64;
        eprintln!("difference from Pillow: mean {mean:.4}, highest {highest}");
        assert!(mean < 1.0);
    }
}
