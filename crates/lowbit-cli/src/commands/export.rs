//! `lowbit export`: a quantized model in another form, or as C.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use lowbit::{Format, convert, to_c};

use crate::args::Usage;
use crate::format::FormatName;
use crate::output;
use crate::table::prefixed;
use crate::terminal::{Style, Terminal};

/// The arguments of `lowbit export`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExportArgs {
    /// A quantized model: a file that lowbit wrote, or for c any that it runs
    model: PathBuf,
    /// The form it is to have
    #[arg(long, value_enum)]
    to: Form,
    /// Where to write it; for c, NAME of NAME.h, NAME.c and all that they define, or a folder, where the model gives the name
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  lowbit export net.deep-compression.lbz --to qdq -o net.onnx      for any runtime
  lowbit export net.w4a8.onnx --to compressed -o net.w4a8.lbz      to keep or to send
  lowbit export net.int8.onnx --to c -o firmware/net               firmware/net.h and net.c, for a microcontroller";

/// What a model can be turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    File(FormatName),
    C,
}

impl ValueEnum for Form {
    fn value_variants<'a>() -> &'a [Form] {
        &[
            Form::File(FormatName::Qdq),
            Form::File(FormatName::QdqPacked),
            Form::File(FormatName::Qonnx),
            Form::File(FormatName::Compressed),
            Form::C,
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Form::File(name) => name.to_possible_value(),
            Form::C => Some(PossibleValue::new("c").help(
                "C99 with constant arrays and one static arena, for microcontrollers: the same scores, bit for bit",
            )),
        }
    }
}

/// Converts.
pub(crate) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    match args.to {
        Form::File(name) => file(args, name.into()),
        Form::C => c(args),
    }
}

fn file(args: &ExportArgs, format: Format) -> anyhow::Result<()> {
    output::check(&args.output)?;
    if let (Ok(from), Ok(to)) = (args.model.canonicalize(), args.output.canonicalize())
        && from == to
    {
        let text = format!("{} would overwrite the model", args.output.display());
        return Err(Usage(text).into());
    }
    let before = std::fs::metadata(&args.model)
        .with_context(|| format!("{}: cannot read", args.model.display()))?
        .len();
    let bytes = convert(&args.model, format)?;
    output::write(&args.output, &bytes)?;
    let terminal = Terminal::for_results(None);
    terminal.print(&format!(
        "  wrote {} ({}, from {})\n",
        terminal.paint(Style::Bold, &args.output.display().to_string()),
        prefixed(bytes.len() as u64, "B"),
        prefixed(before, "B"),
    ));
    Ok(())
}

fn c(args: &ExportArgs) -> anyhow::Result<()> {
    let (folder, name) = place(&args.output, &args.model);
    let paths = ["h", "c"].map(|extension| folder.join(format!("{name}.{extension}")));
    paths.iter().try_for_each(|path| output::check(path))?;
    let made = to_c(&args.model, &name)?;
    output::write(&paths[0], made.header.as_bytes())?;
    output::write(&paths[1], made.source.as_bytes())?;
    let (terminal, costs) = (Terminal::for_results(None), &made.costs);
    terminal.print(&format!(
        "  wrote {} and {}\n  flash {} of constants · memory {} + {} of input codes · {} MACs\n",
        terminal.paint(Style::Bold, &paths[0].display().to_string()),
        terminal.paint(Style::Bold, &paths[1].display().to_string()),
        prefixed(costs.flash_bytes() as u64, "B"),
        prefixed(costs.arena_bytes as u64, "B"),
        prefixed(costs.input_bytes as u64, "B"),
        prefixed(costs.macs() as u64, ""),
    ));
    if let Some(softmax) = &made.softmax {
        terminal.print(&format!("  scores are what goes into \"{softmax}\", which is left out\n"));
    }
    Ok(())
}

/// The folder and the name of the two files.
fn place(output: &Path, model: &Path) -> (PathBuf, String) {
    let text = |part: Option<&std::ffi::OsStr>| {
        part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default()
    };
    if output.is_dir() {
        let letters = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        return (output.to_owned(), text(model.file_stem()).chars().map(letters).collect());
    }
    let folder = output.parent().unwrap_or(Path::new("")).to_owned();
    let name = match output.extension() {
        Some(extension) if extension == "c" || extension == "h" => text(output.file_stem()),
        _ => text(output.file_name()),
    };
    (folder, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_output_or_model() {
        let check = |output: &str, model: &str, folder: &str, name: &str| {
            let found = place(Path::new(output), Path::new(model));
            assert_eq!(found, (PathBuf::from(folder), name.to_owned()), "{output} {model}");
        };
        check("net", "a.onnx", "", "net");
        check("src/net.c", "a.onnx", "src", "net");
        check("src/net.h", "a.onnx", "src", "net");
        check("net.v2", "a.onnx", "", "net.v2");
        check(".", "models/net-8.int8.onnx", ".", "net_8_int8");
    }
}
