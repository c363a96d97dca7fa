//! The binary `lowbit`: parse, call the library, print. No algorithm lives here.
//!
//! Exit codes: 0 done, 1 failed, 2 usage, 3 finished but the wanted accuracy was not reached, 130 interrupted.

mod args;
mod checks;
mod commands;
mod format;
mod interrupt;
mod open;
mod output;
mod progress;
mod table;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Usage;
use crate::commands::{Command, Verdict};

/// Makes a trained image classifier (ONNX) small and fast, and proves what that cost.
#[derive(Debug, Parser)]
#[command(name = "lowbit", version, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  lowbit quantize                              try it: a small built-in model and data
  lowbit quantize net.onnx --data cifar10/ --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
  lowbit eval net.int8.onnx --data cifar10/    the file remembers its preprocessing
  lowbit inspect net.int8.onnx --target ort    what runs as integers in onnxruntime
  lowbit run net.int8.onnx cat.jpg             top-5 classes
  lowbit bench net.int8.onnx --layers          how fast it runs, layer by layer

`lowbit COMMAND --help` explains each command.
Exit codes: 0 done, 1 failed, 2 usage, 3 finished but --max-drop was exceeded, 130 interrupted.";

fn main() -> ExitCode {
    report_panics();
    interrupt::install();
    match commands::run(Cli::parse().command) {
        Ok(Verdict::Reached) => ExitCode::SUCCESS,
        Ok(Verdict::NotReached) => ExitCode::from(3),
        Err(error) => {
            terminal::report_error(&error);
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

/// Makes a panic, which is a mistake of ours, read as an error and exit with 1; with RUST_BACKTRACE set, it stays as it is.
fn report_panics() {
    if std::env::var_os("RUST_BACKTRACE").is_some() {
        return;
    }
    std::panic::set_hook(Box::new(|panic| {
        terminal::report_error(&anyhow::anyhow!(
            "a mistake in lowbit, please report it: {}",
            panic.to_string().replace('\n', " ")
        ));
        std::process::exit(1);
    }));
}
