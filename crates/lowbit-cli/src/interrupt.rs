//! Ctrl-C: outputs are whole or absent, also then.
//!
//! Writing an output and exiting on a signal exclude each other by one lock, so that a temporary file never outlives the
//! process.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

/// The exit code of a process that Ctrl-C ended: 128 + SIGINT.
const EXIT_CODE: i32 = 130;

/// What was done so far. Held while a file is written.
struct State {
    written: Vec<PathBuf>,
    cleanup: Option<Box<dyn FnOnce() + Send>>,
}

static STATE: Mutex<State> = Mutex::new(State { written: vec![], cleanup: None });

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Makes Ctrl-C say what was written and exit with 130.
pub(crate) fn install() {
    // Without a handler the process still dies, only less politely.
    drop(ctrlc::set_handler(|| {
        let mut state = state();
        if let Some(cleanup) = state.cleanup.take() {
            cleanup();
        }
        let names: Vec<String> = state.written.iter().map(|p| p.display().to_string()).collect();
        let done = if names.is_empty() {
            "nothing was written".into()
        } else {
            format!("{} was written before", names.join(", "))
        };
        // "\r\x1b[K" wipes the progress bar's line.
        let wipe =
            if std::io::IsTerminal::is_terminal(&std::io::stderr()) { "\r\x1b[K" } else { "" };
        drop(writeln!(std::io::stderr(), "{wipe}interrupted: {done}"));
        std::process::exit(EXIT_CODE);
    }));
}

/// Runs `write`, which puts a whole file at `path` or nothing, with Ctrl-C waiting until it is done.
pub(crate) fn uninterrupted<E>(
    path: &Path,
    write: impl FnOnce() -> Result<(), E>,
) -> Result<(), E> {
    let mut state = state();
    write()?;
    state.written.push(path.to_path_buf());
    Ok(())
}

/// Runs `work`, and `cleanup` if Ctrl-C comes before it ends.
pub(crate) fn with_cleanup<T>(
    cleanup: impl FnOnce() + Send + 'static,
    work: impl FnOnce() -> T,
) -> T {
    state().cleanup = Some(Box::new(cleanup));
    let result = work();
    state().cleanup = None;
    result
}
