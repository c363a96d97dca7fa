use super::*;

#[test]
fn unknown_names_list_the_known() {
    let error = fetch("imagenet", Path::new("/nowhere")).unwrap_err().to_string();
    assert_eq!(
        error,
        "found data set name \"imagenet\", expected one of: cifar10, mnist, fashion-mnist"
    );
}

#[test]
fn names_and_sets_agree() {
    for (name, set) in SETS {
        assert_eq!(set.to_string(), name);
        assert_eq!(name.parse::<PublicSet>().unwrap(), set);
    }
}

#[test]
fn a_missing_program_is_named() {
    let work = tempfile::tempdir().unwrap();
    let line = ["lowbit-no-such-program"];
    let error = run(PublicSet::Mnist, work.path(), &line).unwrap_err().to_string();
    assert!(error.starts_with("mnist: cannot run `lowbit-no-such-program`"), "{error}");
}

#[test]
fn a_failing_program_says_why() {
    let work = tempfile::tempdir().unwrap();
    let line = ["cargo", "no-such-command"];
    let error = run(PublicSet::Mnist, work.path(), &line).unwrap_err().to_string();
    assert!(error.contains("`cargo no-such-command` failed with exit status"), "{error}");
}

#[test]
fn a_wrong_file_is_named_with_both_checksums() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(MNIST[0].0), b"abc").unwrap();
    let error = verify(dir.path(), &MNIST).unwrap_err().to_string();
    let end = "t10k-images-idx3-ubyte: found md5 900150983cd24fb0d6963f7d28e17f72, \
               expected 2646ac647ad5339dbf082846283269ea";
    assert!(error.ends_with(end), "{error}");
}

#[test]
fn sheets_become_records() {
    let info = crate::preprocess::ImageInfo { width: CIFAR_AREA, height: 2, channels: 3 };
    let pixels: Vec<u8> = (0..2 * CIFAR_AREA * 3).map(|i| (i % 251) as u8).collect();
    let sheet = Image::new(info, pixels.clone()).unwrap();
    let records = cifar_records(&sheet, &[7, 9], Path::new("sheet.png")).unwrap();
    assert_eq!((records.len(), records[0], records[3073]), (2 * 3073, 7, 9));
    for (image, channel, pixel) in [(0, 0, 0), (0, 2, 1023), (1, 1, 5)] {
        let from = pixels[(image * CIFAR_AREA + pixel) * 3 + channel];
        assert_eq!(records[image * 3073 + 1 + channel * CIFAR_AREA + pixel], from);
    }
    assert!(cifar_records(&sheet, &[7], Path::new("sheet.png")).is_err());
}

/// Brings the real sets: `RUN_SLOW_TESTS=mnist,cifar10 cargo test -p lowbit-data fetches`.
#[test]
fn fetches_what_is_asked_for() {
    let Ok(names) = std::env::var("RUN_SLOW_TESTS") else {
        eprintln!("skipped: RUN_SLOW_TESTS is not set, and fetching needs a network");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    for (name, _) in SETS.iter().filter(|(name, _)| names.split(',').any(|n| n == *name)) {
        let folder = fetch(name, dir.path()).unwrap();
        let dataset = crate::Dataset::open(&folder).unwrap();
        assert_eq!(dataset.len(crate::Split::Test), 10_000, "{name}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "scraps are removed");
        fs::remove_dir_all(folder).unwrap();
    }
}
