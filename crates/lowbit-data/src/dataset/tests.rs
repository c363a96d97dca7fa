use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::preprocess::{Channels, Preprocess};

const PNG: &[u8] = include_bytes!("../../tests/goldens/rgb.png");
const JPEG: &[u8] = include_bytes!("../../tests/goldens/rgb_420.jpg");

/// A folder with files given by relative path.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, contents) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
    root
}

/// Opens `path` in a folder of `files` and expects an error that contains `expected` after the folder's path.
fn check_error(files: &[(&str, &[u8])], path: &str, expected: &str) {
    let root = folder(files);
    let error = Dataset::open(root.path().join(path)).unwrap_err().to_string();
    let error =
        error.replace(&root.path().display().to_string(), "ROOT").replace("ROOT/:", "ROOT:");
    assert!(error.contains(expected), "{error}");
}

fn cifar(labels: &[u8]) -> Vec<u8> {
    let record =
        |&label: &u8| std::iter::once(label).chain((0..3072).map(move |i| (i % 253) as u8 ^ label));
    labels.iter().flat_map(record).collect()
}

fn idx_images(count: u32, height: u32, width: u32) -> Vec<u8> {
    let header = [idx::IMAGES_MAGIC, count, height, width].map(u32::to_be_bytes);
    let pixels = (0..count * height * width).map(|i| (i % 241) as u8);
    header.into_iter().flatten().chain(pixels).collect()
}

fn idx_labels(labels: &[u8]) -> Vec<u8> {
    let header = [0x0801u32, labels.len() as u32].map(u32::to_be_bytes);
    header.into_iter().flatten().chain(labels.iter().copied()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn cifar_batches_are_split_by_name_and_read_in_place() {
    let (first, second, test) = (cifar(&[3, 4]), cifar(&[5]), cifar(&[9, 0, 1]));
    let root = folder(&[
        ("data_batch_1.bin", &first),
        ("data_batch_2.bin", &second),
        ("test_batch.bin", &test),
        ("batches.meta.txt", b"airplane"),
    ]);
    let dataset = Dataset::open(root.path()).unwrap();
    assert_eq!(dataset.splits(), [Split::Train, Split::Test]);
    assert_eq!([Split::Train, Split::Test, Split::All].map(|s| dataset.len(s)), [3, 3, 6]);
    let train = dataset.calibration();
    assert_eq!(train.labels().unwrap(), [3, 4, 5]);
    assert_eq!(dataset.evaluation().labels().unwrap(), [9, 0, 1]);
    assert!(train.place(2).ends_with("data_batch_2.bin record 0"));
    let image = train.image(1).unwrap();
    assert_eq!(image.pixels()[3 * 40 + 2], ((2 * 1024 + 40) % 253) as u8 ^ 4);
    let sample = train.sample(1, &Preprocess::default()).unwrap();
    assert_eq!((sample.shape, sample.label), ([3, 32, 32], Some(4)));
    let mut expected = vec![0.0; 3072];
    Preprocess::default().apply(&image, &mut expected).unwrap();
    assert_eq!(sample.input, expected);
    assert_eq!(dataset.classes().unwrap()[9], "truck");
    let shown = dataset.describe().to_string();
    assert!(
        shown.ends_with("CIFAR-10 binary batches, train 3, test 3, 10 classes, 32x32x3"),
        "{shown}"
    );
    let one = Dataset::open(root.path().join("data_batch_2.bin")).unwrap();
    assert_eq!((one.splits(), one.evaluation().len()), (vec![Split::Train], 1));
}

#[test]
fn wrong_cifar_files_are_named() {
    let cut = &cifar(&[1, 2])[..6000];
    check_error(
        &[("data_batch_1.bin", cut)],
        "",
        "ROOT/data_batch_1.bin: found 6000 bytes, expected CIFAR-10 records: a multiple of 3073 bytes",
    );
    check_error(&[("a.bin", b"")], "a.bin", "ROOT/a.bin: found 0 bytes");
    check_error(
        &[("test_batch.bin", &cifar(&[1, 10]))],
        "",
        "ROOT/test_batch.bin record 1: found label 10, expected one of 10 classes (0 to 9)",
    );
}

#[test]
fn idx_files_are_read_plain_gzipped_and_from_memory() {
    let (images, labels) = (idx_images(3, 4, 5), idx_labels(&[2, 0, 1]));
    let (test_images, test_labels) = (gzip(&idx_images(2, 4, 5)), gzip(&idx_labels(&[1, 1])));
    let root = folder(&[
        ("train-images-idx3-ubyte", &images),
        ("train-labels-idx1-ubyte", &labels),
        ("t10k-images-idx3-ubyte.gz", &test_images),
        ("t10k-labels-idx1-ubyte.gz", &test_labels),
    ]);
    let parts = [
        IdxBytes { split: Split::Train, images: &images, labels: &labels },
        IdxBytes { split: Split::Test, images: &test_images, labels: &test_labels },
    ];
    let preprocess = Preprocess { channels: Channels::Gray, ..Preprocess::default() };
    for dataset in
        [Dataset::open(root.path()).unwrap(), Dataset::from_idx_bytes("demo", &parts).unwrap()]
    {
        assert_eq!(dataset.splits(), [Split::Train, Split::Test]);
        assert_eq!(dataset.calibration().labels().unwrap(), [2, 0, 1]);
        assert_eq!(dataset.evaluation().labels().unwrap(), [1, 1]);
        assert_eq!((dataset.classes(), dataset.class_count()), (None, Some(3)));
        let sample = dataset.calibration().sample(2, &preprocess).unwrap();
        assert_eq!(sample.shape, [1, 4, 5]);
        assert_eq!(sample.input[7], 47.0 / 255.0);
    }
    let one = Dataset::open(root.path().join("t10k-images-idx3-ubyte.gz")).unwrap();
    assert_eq!((one.splits(), one.len(Split::All)), (vec![Split::Test], 2));
}

const IMAGES: &str = "train-images-idx3-ubyte";
const LABELS: &str = "train-labels-idx1-ubyte";

#[test]
fn wrong_idx_files_are_named() {
    let good = idx_images(2, 3, 3);
    let huge = {
        let mut header = idx_images(1, 1, 1)[..16].to_vec();
        header[4..16].fill(0xff);
        gzip(&header)
    };
    let long = gzip(&[&good[..], &[0; 100]].concat());
    let cases: [(&[u8], &[u8], &str); 8] = [
        (
            &idx_labels(&[1, 2]),
            &idx_labels(&[1, 2]),
            "ROOT/train-images-idx3-ubyte: found 10 bytes, expected IDX magic 0x00000803",
        ),
        (
            &good,
            &good,
            "ROOT/train-labels-idx1-ubyte: found magic 0x00000803, expected IDX magic 0x00000801",
        ),
        (
            &good[..20],
            &idx_labels(&[1, 2]),
            "ROOT/train-images-idx3-ubyte: found 20 bytes, expected 34 as its header says",
        ),
        (
            &good,
            &idx_labels(&[1]),
            "ROOT/train-labels-idx1-ubyte: found 1 labels, expected 2, as many as the images",
        ),
        (&idx_images(0, 3, 3), &idx_labels(&[]), "ROOT: found no images"),
        (
            &idx_images(2, 0, 3),
            &idx_labels(&[1, 2]),
            "found 3x0 images, expected sides of 1 to 16384",
        ),
        (
            &huge,
            &idx_labels(&[1]),
            "found sizes [4294967295, 4294967295, 4294967295], expected at most 1073741824 bytes",
        ),
        (
            &long,
            &idx_labels(&[1, 2]),
            "ROOT/train-images-idx3-ubyte: found more than 34 bytes, expected 34",
        ),
    ];
    for (images, labels, expected) in cases {
        check_error(&[(IMAGES, images), (LABELS, labels)], "", expected);
    }
}

#[test]
fn images_without_labels_are_named() {
    let expected = "found no labels file, expected train-labels-idx1-ubyte or";
    check_error(&[(IMAGES, &idx_images(2, 3, 3))], "", expected);
}

#[test]
fn class_folders_are_numbered_by_name() {
    let root = folder(&[
        ("train/dog/b.jpg", JPEG),
        ("train/dog/a.PNG", PNG),
        ("train/ant/deep/x.jpeg", JPEG),
        ("train/notes.txt", b"kept out"),
        ("test/dog/y.jpg", JPEG),
        ("test/bee/.hidden.jpg", b""),
        ("val/bee/z.jpg", JPEG),
    ]);
    let dataset = Dataset::open(root.path()).unwrap();
    assert_eq!(dataset.classes().unwrap(), ["ant", "bee", "dog"]);
    assert_eq!(dataset.splits(), [Split::Train, Split::Validation, Split::Test]);
    let train = dataset.calibration();
    assert_eq!(train.labels().unwrap(), [0, 2, 2]);
    assert!(train.place(1).ends_with("train/dog/a.PNG"));
    assert_eq!(train.image(1).unwrap().width(), 37);
    assert_eq!(dataset.evaluation().labels().unwrap(), [2]);
    let one = Dataset::open(root.path().join("train")).unwrap();
    assert_eq!((one.splits(), one.labelled(), one.len(Split::All)), (vec![Split::All], true, 3));
}

#[test]
fn a_class_may_be_called_train() {
    let root = folder(&[("train/a.png", PNG), ("test/a.png", PNG)]);
    assert_eq!(Dataset::open(root.path()).unwrap().classes().unwrap(), ["test", "train"]);
}

#[test]
fn plain_folders_have_no_labels() {
    let root = folder(&[("b.png", PNG), ("a.jpg", JPEG), ("readme.md", b"")]);
    let dataset = Dataset::open(root.path()).unwrap();
    assert_eq!((dataset.describe().kind, dataset.len(Split::All)), (Kind::ImageFolder, 2));
    assert_eq!(dataset.evaluation().sample(0, &Preprocess::default()).unwrap().label, None);
    let error = dataset.check_classes(10).unwrap_err().to_string();
    assert!(error.ends_with("found no labels, expected one per image"), "{error}");
}

fn table(text: &str) -> (TempDir, PathBuf) {
    let root = folder(&[("i/a.png", PNG), ("i/b, c.jpg", JPEG), ("t.csv", text.as_bytes())]);
    let csv = root.path().join("t.csv");
    (root, csv)
}

#[test]
fn tables_take_numbers_names_and_splits() {
    type Case<'a> = (&'a str, Option<Vec<u32>>, Option<Vec<&'a str>>, Vec<Split>);
    let cases: [Case; 4] = [
        ("file,label\ni/a.png,3\n\"i/b, c.jpg\",0\n", Some(vec![3, 0]), None, vec![Split::All]),
        (
            "label, file, split\r\nzebra, i/a.png, train\r\nant, i/a.png, test\r\n",
            Some(vec![1, 0]),
            Some(vec!["ant", "zebra"]),
            vec![Split::Train, Split::Test],
        ),
        ("file\ni/a.png\n", None, None, vec![Split::All]),
        ("\u{feff}file,split\ni/a.png,val\n", None, None, vec![Split::Validation]),
    ];
    for (text, labels, classes, splits) in cases {
        let (root, csv) = table(text);
        for path in [csv.as_path(), root.path()] {
            let dataset = Dataset::open(path).unwrap();
            assert_eq!(dataset.split(Split::All).unwrap().labels(), labels, "{text}");
            let classes =
                classes.as_ref().map(|names| names.iter().map(|n| n.to_string()).collect());
            assert_eq!(dataset.classes().map(<[String]>::to_vec), classes, "{text}");
            assert_eq!(dataset.splits(), splits, "{text}");
        }
    }
    let (root, _) = table("");
    let absolute = root.path().join("i/a.png");
    let csv = root.path().join("t.csv");
    fs::write(&csv, format!("file,label\n{},5\n", absolute.display())).unwrap();
    let subset = Dataset::open(&csv).unwrap().evaluation();
    assert_eq!((subset.image(0).unwrap().height(), subset.label(0)), (29, Some(5)));
}

#[test]
fn wrong_rows_are_named() {
    let cases = [
        ("", "t.csv line 1: found header ``, expected header `file[,label][,split]`"),
        ("file,labels\ni/a.png,1\n", "t.csv line 1: found header `file,labels`, expected header"),
        ("file,label\n", "t.csv: found no images"),
        ("file,label\ni/a.png,1\ni/x.png,2\n", "t.csv line 3: found no file \"i/x.png\", expected"),
        (
            "file,label\ni/a.png,1\ni/a.png,x\n",
            "t.csv line 3: found label \"x\", expected a class number",
        ),
        (
            "file,label\ni/a.png,x\ni/a.png,\n",
            "t.csv line 3: found an empty label, expected a class",
        ),
        (
            "file,label\ni/a.png,-1\n",
            "t.csv line 2: found label \"-1\", expected a class number from 0",
        ),
        ("file,label\ni/a.png,1.0\n", "t.csv line 2: found label \"1.0\""),
        ("file,label\ni/a.png,1000000\n", "t.csv line 2: found label \"1000000\""),
        ("file,label\ni/a.png\n", "t.csv line 2: found 1 fields, expected 2"),
        (
            "file,split\ni/a.png,dev\n",
            "t.csv line 2: found split \"dev\", expected one of: train, val, test",
        ),
    ];
    for (text, expected) in cases {
        let (_root, csv) = table(text);
        let error = Dataset::open(csv).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn what_is_no_data_set_is_told_what_would_be() {
    let known = "expected one of: CIFAR-10 binary batches";
    check_error(&[("readme.txt", b"hi")], "", known);
    check_error(&[("readme.txt", b"hi")], "", "a folder of 1 entries (readme.txt, ...)");
    check_error(&[("a.npy", b"hi")], "a.npy", "found a file of 2 bytes and no known kind");
    check_error(&[("d/a.txt", b"hi")], "", "found a folder of 1 entries (d, ...)");
    check_error(&[], "", "ROOT: found no images, expected at least one");
    check_error(&[], "nowhere", "ROOT/nowhere: cannot open");
    let csv = b"file\nx.png\n";
    check_error(&[("a.csv", csv), ("b.csv", csv)], "", "found several CSV files");
    check_error(
        &[("cat/a.webp", b"")],
        "",
        "ROOT/cat/a.webp: found a .webp file, expected JPEG or PNG",
    );
}

#[test]
fn class_counts_are_compared_with_the_model() {
    let (_root, csv) = table("file,label\ni/a.png,3\ni/a.png,12\ni/a.png,99\n");
    let dataset = Dataset::open(csv).unwrap();
    assert!(dataset.check_classes(1000).is_ok());
    let error = dataset.check_classes(10).unwrap_err().to_string();
    let end = "t.csv line 3 (i/a.png): found label 12, expected one of 10 classes (0 to 9)";
    assert!(error.ends_with(end), "{error}");
    let root = folder(&[("dog/a.png", PNG), ("ant/a.png", PNG)]);
    let dataset = Dataset::open(root.path()).unwrap();
    assert!(dataset.check_classes(2).is_ok());
    let error = dataset.check_classes(3).unwrap_err().to_string();
    assert!(
        error.contains("found 2 named classes, expected 3, as many as the model has"),
        "{error}"
    );
    assert!(error.contains("ant/a.png, class 0 \"ant\""), "{error}");
}

#[test]
fn subsets_choose_and_check() {
    let root = folder(&[("data_batch_1.bin", &cifar(&[0, 1, 2, 3, 4, 5, 6, 7]))]);
    let dataset = Dataset::open(root.path()).unwrap();
    let all = dataset.split(Split::All).unwrap();
    let labels = |subset: Subset| subset.labels().unwrap();
    assert_eq!(labels(all.first(3)), [0, 1, 2]);
    assert_eq!(labels(all.first(100)).len(), 8);
    assert_eq!(labels(all.spread(3)), [0, 2, 5]);
    assert_eq!(labels(dataset.subset(Split::Train, 2..4).unwrap()), [2, 3]);
    assert_eq!(labels(all.spread(4).pick(&[3, 0]).unwrap()), [6, 0]);
    assert!(all.first(0).is_empty());
    let error = dataset.subset(Split::Train, 2..9).unwrap_err().to_string();
    assert!(error.ends_with("image 8 was asked for, expected an index below 8"), "{error}");
    assert!(all.image(8).is_err() && all.pick(&[8]).is_err());
    let error = dataset.split(Split::Test).unwrap_err().to_string();
    assert!(error.ends_with("found splits train, expected a split test"), "{error}");
}

#[test]
fn a_file_that_shrinks_later_is_named() {
    let root = folder(&[("data_batch_1.bin", &cifar(&[0, 1]))]);
    let subset = Dataset::open(root.path()).unwrap().calibration();
    fs::write(root.path().join("data_batch_1.bin"), b"").unwrap();
    let error = subset.sample(1, &Preprocess::default()).unwrap_err().to_string();
    assert!(error.ends_with("data_batch_1.bin: cannot read"), "{error}");
}
