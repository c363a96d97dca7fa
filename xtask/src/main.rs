//! Repository chores: `cargo xtask tidy` checks what the compiler and clippy do not, `cargo xtask bench peers` measures.

mod bench;
mod tidy;

use std::process::ExitCode;

use anyhow::{Result, bail};

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => tidy::run(),
        ["bench", "peers", ..] => bench::peers(&args[2..]),
        _ => bail!("usage: cargo xtask tidy | bench peers [OPTIONS of checks/peers.py]"),
    }
}
