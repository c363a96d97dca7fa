//! Rules on files of any kind: names, sizes, the changelog, and what must not be said in them.

use super::{File, Violation};

/// Above this a file belongs to the data that scripts bring, not to the history.
const SIZE_MAX_BYTES: u64 = 2_000_000;

/// Roots that exist on one machine only. Written in two halves, so that this file passes.
const MACHINE_ROOTS: &[&str] =
    &[concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Use", "rs/")];

pub(super) fn names(files: &[File]) -> Vec<Violation> {
    let rust = files.iter().filter(|file| file.path.ends_with(".rs"));
    rust.filter_map(|file| {
        let name = file.path.rsplit('/').next()?.strip_suffix(".rs")?;
        let snake = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name == "mod" {
            Some(file.violation(1, "name the file after its module: foo.rs beside foo/"))
        } else if !name.chars().all(snake) {
            Some(file.violation(1, "a Rust file is named in snake_case"))
        } else {
            None
        }
    })
    .collect()
}

pub(super) fn sizes(files: &[File]) -> Vec<Violation> {
    let large =
        files.iter().filter(|f| f.size_bytes > SIZE_MAX_BYTES && !f.path.starts_with("assets/"));
    let why = |file: &File| {
        format!("{} bytes, at most {SIZE_MAX_BYTES} outside assets/", file.size_bytes)
    };
    large.map(|file| file.violation(1, why(file))).collect()
}

pub(super) fn changelog(files: &[File]) -> Vec<Violation> {
    let missing =
        |why: &str| vec![Violation { path: "CHANGELOG.md".into(), line: 1, why: why.into() }];
    let Some(file) = files.iter().find(|file| file.path == "CHANGELOG.md") else {
        return missing("there is none");
    };
    if file.lines().any(|(_, line)| line.starts_with("## ") && line.contains("Unreleased")) {
        return vec![];
    }
    missing("no section \"## [Unreleased]\"")
}

pub(super) fn machine_paths(files: &[File]) -> Vec<Violation> {
    let mut found = vec![];
    for file in files {
        for (line, text) in file.lines() {
            let named = MACHINE_ROOTS.iter().filter(|root| starts_path(text, root));
            let why = |root: &&str| format!("names a path of one machine ({root})");
            found.extend(named.map(|root| file.violation(line, why(root))));
        }
    }
    found
}

/// Whether `root` begins a path in `text`, rather than standing inside one.
fn starts_path(text: &str, root: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "._-~}*)".contains(c);
    let before = |at: usize| text[..at].chars().next_back();
    text.match_indices(root).any(|(at, _)| !before(at).is_some_and(inside))
}
