//! `lowbit completions`: what a shell needs to complete our flags.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::terminal;

/// The arguments of `lowbit completions`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  lowbit completions bash > ~/.local/share/bash-completion/completions/lowbit
  lowbit completions zsh > ~/.zfunc/_lowbit
  lowbit completions fish > ~/.config/fish/completions/lowbit.fish";

/// Prints them.
pub(crate) fn run(args: &CompletionsArgs) {
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "lowbit", &mut script);
    terminal::write_stdout(&String::from_utf8_lossy(&script));
}
