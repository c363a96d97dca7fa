//! Hostile compressed models: each gives the error that `attacks/containers.toml` names.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use lowbit::Model;

/// An error with its causes.
fn text(error: &dyn Error) -> String {
    let cause = error.source().map(|cause| format!(": {}", text(cause)));
    format!("{error}{}", cause.unwrap_or_default())
}

#[test]
fn every_container_gives_the_expected_error() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../attacks");
    let table = std::fs::read_to_string(folder.join("containers.toml")).unwrap();
    let expected: BTreeMap<String, String> = toml::from_str(&table).unwrap();
    for entry in std::fs::read_dir(folder.join("containers")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let error = text(&Model::load(&path, None).unwrap_err());
        let part = expected.get(&name).unwrap_or_else(|| panic!("{name} is not in the table"));
        assert!(error.contains(part), "{name}: {error}\n    expected: {part}");
    }
    assert!(expected.len() >= 17, "the table is there");
}
