//! House rules that can be held by reading the files: edges between crates, module docs, banned words, names, sizes, links.
//!
//! A rule is a function from all files to violations; [`RULES`] lists them. Rules know nothing of git or of one another.

mod edges;
mod files;
mod links;
mod source;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

/// Every rule, in the order in which it reports.
const RULES: &[(&str, Rule)] = &[
    ("edges between crates", edges::check),
    ("module docs", source::module_docs),
    ("unsafe code", source::unsafe_code),
    ("banned words", source::banned_words),
    ("function lengths", source::function_lengths),
    ("file names", files::names),
    ("file sizes", files::sizes),
    ("changelog", files::changelog),
    ("paths of one machine", files::machine_paths),
    ("links", links::check),
];

type Rule = fn(&[File]) -> Vec<Violation>;

/// A file of the repository: tracked, or new and not ignored.
#[derive(Debug)]
struct File {
    /// Relative to the root, with `/`.
    path: String,
    /// What it takes on disk.
    size_bytes: u64,
    /// What it says, when it is UTF-8.
    text: Option<String>,
}

/// What is wrong, and where.
#[derive(Debug, PartialEq)]
struct Violation {
    path: String,
    /// From 1.
    line: usize,
    why: String,
}

impl File {
    /// The lines with their numbers; none when the file is not text.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.iter().flat_map(|text| text.lines());
        lines.enumerate().map(|(i, line)| (i + 1, line))
    }

    /// Whether it is Rust source that a person wrote.
    fn is_source(&self) -> bool {
        let generated = |text: &String| text.lines().take(3).any(|l| l.contains("@generated"));
        self.path.ends_with(".rs") && !self.text.as_ref().is_some_and(generated)
    }

    fn violation(&self, line: usize, why: impl Into<String>) -> Violation {
        Violation { path: self.path.clone(), line, why: why.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.why)
    }
}

/// Applies every rule to the repository and prints what breaks one.
#[expect(clippy::print_stdout, reason = "a command's report")]
pub(crate) fn run() -> Result<ExitCode> {
    let files = repository()?;
    let mut count = 0;
    for (rule, check) in RULES {
        for violation in check(&files) {
            println!("{violation} ({rule})");
            count += 1;
        }
    }
    println!("tidy: {} files, {} rules, {count} violations", files.len(), RULES.len());
    Ok(if count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn repository() -> Result<Vec<File>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent")?;
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("tidy asks git which files there are")?;
    ensure!(listed.status.success(), "git: {}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).context("file names are UTF-8")?;
    let paths = names.split('\0').filter(|name| !name.is_empty());
    Ok(paths.filter_map(|path| read(root, path)).collect())
}

/// `None` for what is not there any more and for links.
fn read(root: &Path, path: &str) -> Option<File> {
    let full: PathBuf = root.join(path);
    let meta = std::fs::symlink_metadata(&full).ok().filter(std::fs::Metadata::is_file)?;
    let text = std::fs::read(&full).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    Some(File { path: path.to_owned(), size_bytes: meta.len(), text })
}

/// Where `word` stands in `line` as a word of its own.
fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(part) && (!after.is_some_and(part) || word.ends_with('!'))
    })
}

#[cfg(test)]
mod tests;
