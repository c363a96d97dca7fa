//! Files that the user asked for: checked before the work, written whole after it.

use std::path::Path;

use anyhow::{Context, bail};
use serde::Serialize;

use crate::args::Destination;
use crate::{interrupt, terminal};

/// Refuses a path that could not be written, before hours of work go into it.
pub(crate) fn check(path: &Path) -> anyhow::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    if path.is_dir() {
        bail!("{}: is a folder, expected the name of a file to write", path.display());
    }
    if !parent.is_dir() {
        bail!("{}: the folder {} does not exist", path.display(), parent.display());
    }
    Ok(())
}

/// Writes a file whole or not at all. Devices and pipes cannot be renamed over and are written straight.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    interrupt::uninterrupted(path, || {
        if path.exists() && !path.is_file() {
            return std::fs::write(path, bytes)
                .with_context(|| format!("cannot write {}", path.display()));
        }
        lowbit::write_atomically(path, bytes).map_err(anyhow::Error::from)
    })
}

/// Writes `value` as indented JSON to where `--json` says.
pub(crate) fn write_json(to: &Destination, value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value).context("results as JSON")?;
    text.push('\n');
    match to {
        Destination::Stdout => {
            terminal::write_stdout(&text);
            Ok(())
        }
        Destination::File(path) => write(path, text.as_bytes()),
    }
}
