//! Where text goes: results to stdout, notes and warnings to stderr. A reader that went away is not an error.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use crate::args::{Destination, GeneralArgs};

/// How much to print, and whether in color.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    quiet: bool,
    results: bool,
    color_out: bool,
    color_error: bool,
}

/// A color or weight, as the digits of an ANSI escape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// For headings and the numbers that matter.
    Bold,
    /// For what may be skipped.
    Dim,
    /// For good news.
    Green,
    /// For what deserves a look.
    Yellow,
    /// For bad news.
    Red,
}

impl Terminal {
    /// Prints what `general` lets through; results not at all when `json` takes stdout for itself.
    pub(crate) fn new(general: &GeneralArgs, json: Option<&Destination>) -> Terminal {
        let color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Terminal {
            quiet: general.quiet,
            results: !general.quiet && json != Some(&Destination::Stdout),
            color_out: color && std::io::stdout().is_terminal(),
            color_error: color && std::io::stderr().is_terminal(),
        }
    }

    /// For commands without `--quiet`.
    pub(crate) fn for_results(json: Option<&Destination>) -> Terminal {
        Terminal::new(&GeneralArgs { quiet: false, threads: None }, json)
    }

    /// Whether warnings are not wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether progress bars are wanted.
    pub(crate) fn shows_progress(&self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }

    /// Prints a result, a text that ends its own lines.
    pub(crate) fn print(&self, text: &str) {
        if self.results {
            write_stdout(text);
        }
    }

    /// Tells what was decided for the user.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.quiet {
            drop(writeln!(
                std::io::stderr(),
                "{} {text}",
                paint(self.color_error, Style::Dim, "note:")
            ));
        }
    }

    /// Tells what is probably wrong.
    pub(crate) fn warn(&self, text: impl Display) {
        if !self.quiet {
            let head = paint(self.color_error, Style::Yellow, "warning:");
            drop(writeln!(std::io::stderr(), "{head} {text}"));
        }
    }

    /// `text` in `style`, for stdout.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        paint(self.color_out, style, text)
    }
}

/// Writes to stdout, whatever `--quiet` says: what the user asked to have there.
pub(crate) fn write_stdout(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        drop(writeln!(std::io::stderr(), "error: cannot write to stdout: {error}"));
        std::process::exit(1);
    }
}

/// Prints an error and its causes, one line each.
pub(crate) fn report_error(error: &anyhow::Error) {
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = without_repetition(error.chain().map(|cause| cause.to_string().replace('\n', " ")));
    for (depth, text) in lines.iter().enumerate() {
        if depth == 0 {
            drop(writeln!(std::io::stderr(), "{} {text}", paint(color, Style::Red, "error:")));
        } else {
            drop(writeln!(std::io::stderr(), "  because: {text}"));
        }
    }
}

/// Leaves out what the next cause says again at its start, or the one before said at its end.
fn without_repetition(causes: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = vec![];
    for text in causes {
        match lines.last_mut() {
            Some(last) if text.starts_with(last.as_str()) => *last = text,
            Some(last) if last.ends_with(&text) => {}
            _ => lines.push(text),
        }
    }
    lines
}

fn paint(color: bool, style: Style, text: &str) -> String {
    let code = match style {
        Style::Bold => "1",
        Style::Dim => "2",
        Style::Green => "32",
        Style::Yellow => "33",
        Style::Red => "31",
    };
    if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once() {
        let check = |causes: &[&str], expected: &[&str]| {
            let found = without_repetition(causes.iter().map(|&cause| cause.to_owned()));
            assert_eq!(found, expected);
        };
        check(&["a.onnx", "a.onnx: no such file"], &["a.onnx: no such file"]);
        check(&["\"w\": not finite", "not finite"], &["\"w\": not finite"]);
        check(&["cannot write x", "disk full"], &["cannot write x", "disk full"]);
    }
}
