//! `lowbit recipes`: the names that `--recipe` and `--weights` take.

use clap::Args;
use lowbit::PRESETS;

use crate::table::{Align, render};
use crate::terminal::Terminal;

/// The arguments of `lowbit recipes`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RecipesArgs {
    /// List the quantizers of weights and their papers, which --weights and recipe files take
    #[arg(long)]
    quantizers: bool,
}

const EXAMPLES: &str = "\
Examples:
  lowbit recipes
  lowbit recipes --quantizers
  lowbit quantize net.onnx --data cifar10/ --recipe w4a8 --weights apot-4";

/// Prints a line for each.
pub(crate) fn run(args: &RecipesArgs) {
    let recipes = || PRESETS.iter().map(|recipe| vec![recipe.name.into(), recipe.line.into()]);
    let quantizers = || lowbit::QUANTIZERS.iter().map(|q| vec![q.name.into(), q.paper.into()]);
    let rows: Vec<Vec<String>> =
        if args.quantizers { quantizers().collect() } else { recipes().collect() };
    let second = if args.quantizers { "source" } else { "what it does" };
    let text = render(&[("name", Align::Left), (second, Align::Left)], &rows);
    Terminal::for_results(None).print(&text);
}
