//! Rules on Rust source.

use super::{File, Violation, has_word};

/// Words that say a thing is unfinished. Written in two halves, so that this file passes.
const BANNED: &[&str] = &[
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
    concat!("dbg", "!"),
    concat!("todo", "!"),
    concat!("unimplemented", "!"),
];

/// The crate that alone may hold it.
const UNSAFE_CRATE: &str = "crates/lowbit-kernels/";

pub(super) fn module_docs(files: &[File]) -> Vec<Violation> {
    let module = |file: &&File| {
        let inside = file.path.starts_with("xtask/src/")
            || (file.path.starts_with("crates/") && file.path.contains("/src/"));
        inside
            && file.is_source()
            && !file.path.ends_with("/tests.rs")
            && !file.path.contains("/tests/")
    };
    let bare = |file: &&File| !file.text.as_deref().unwrap_or_default().starts_with("//!");
    let why = "open with //! docs: what the module is, what it refuses to know";
    files.iter().filter(module).filter(bare).map(|file| file.violation(1, why)).collect()
}

pub(super) fn unsafe_code(files: &[File]) -> Vec<Violation> {
    let why = "only lowbit-kernels may hold unsafe code";
    code_lines(files)
        .filter(|(file, _, code)| !file.path.starts_with(UNSAFE_CRATE) && has_word(code, "unsafe"))
        .map(|(file, line, _)| file.violation(line, why))
        .collect()
}

pub(super) fn banned_words(files: &[File]) -> Vec<Violation> {
    let mut found = vec![];
    for file in files.iter().filter(|file| file.is_source()) {
        for (line, text) in file.lines() {
            let banned = BANNED.iter().filter(|word| has_word(text, word));
            found.extend(banned.map(|word| file.violation(line, format!("\"{word}\" is banned"))));
        }
    }
    found
}

/// Clippy counts the lines; this sees that it is not told to look away.
pub(super) fn function_lengths(files: &[File]) -> Vec<Violation> {
    let lint = "too_many_lines";
    let why = "shorten the function, or expect the lint with a reason: allow is not for lengths";
    code_lines(files)
        .filter(|(_, _, code)| code.contains("allow(") && code.contains(lint))
        .map(|(file, line, _)| file.violation(line, why))
        .collect()
}

/// Lines of Rust without string literals and comments, as far as one line tells.
fn code_lines(files: &[File]) -> impl Iterator<Item = (&File, usize, String)> {
    let source = files.iter().filter(|file| file.is_source());
    source.flat_map(|file| file.lines().map(move |(number, line)| (file, number, code(line))))
}

fn code(line: &str) -> String {
    let outside: String = line.split('"').step_by(2).collect();
    outside.split("//").next().unwrap_or_default().to_owned()
}
