//! `lowbit export`: a quantized model in another form.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use lowbit::convert;

use crate::args::Usage;
use crate::format::FormatName;
use crate::output;
use crate::table::prefixed;
use crate::terminal::{Style, Terminal};

/// The arguments of `lowbit export`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExportArgs {
    /// A quantized model that lowbit wrote
    model: PathBuf,
    /// The form it is to have
    #[arg(long, value_enum)]
    to: FormatName,
    /// Where to write it
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  lowbit export net.deep-compression.lbz --to qdq -o net.onnx      for any runtime
  lowbit export net.w4a8.onnx --to compressed -o net.w4a8.lbz      to keep or to send";

/// Converts.
pub(crate) fn run(args: &ExportArgs) -> anyhow::Result<()> {
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
    let bytes = convert(&args.model, args.to.into())?;
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
