//! The subcommands, one file each.

mod bench;
mod completions;
mod data;
mod eval;
mod export;
mod inspect;
mod quantize;
mod recipes;
mod run;

use clap::Subcommand;

/// What the user wants done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Quantize a model and measure what it cost
    Quantize(Box<quantize::QuantizeArgs>),
    /// Measure the accuracy of a model, float or quantized
    Eval(Box<eval::EvalArgs>),
    /// Show layers, shapes, parameters, operations and bits; what runs as integers and what does not
    Inspect(inspect::InspectArgs),
    /// Classify images
    Run(Box<run::RunArgs>),
    /// Measure how fast a model runs here, in total and layer by layer
    Bench(bench::BenchArgs),
    /// Write a quantized model in another form, or as C
    Export(export::ExportArgs),
    /// List the recipes and quantizers that have names
    Recipes(recipes::RecipesArgs),
    /// Look at a data set, or fetch a public one
    Data(data::DataArgs),
    /// Print completions for a shell
    Completions(completions::CompletionsArgs),
}

/// How a command that did not fail ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As wanted.
    Reached,
    /// With a result that is not as good as was asked for.
    NotReached,
}

/// Does it.
pub(crate) fn run(command: Command) -> anyhow::Result<Verdict> {
    match command {
        Command::Quantize(args) => return quantize::run(&args),
        Command::Eval(args) => eval::run(&args)?,
        Command::Inspect(args) => inspect::run(&args)?,
        Command::Run(args) => run::run(&args)?,
        Command::Bench(args) => bench::run(&args)?,
        Command::Export(args) => export::run(&args)?,
        Command::Recipes(args) => recipes::run(&args),
        Command::Data(args) => data::run(&args)?,
        Command::Completions(args) => completions::run(&args),
    }
    Ok(Verdict::Reached)
}
