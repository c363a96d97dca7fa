//! `cargo xtask bench peers`: lowbit beside onnxruntime, OpenVINO and rten, in an environment that it makes itself.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

/// What the environment holds.
const PACKAGES: [&str; 3] = ["numpy", "onnxruntime", "openvino"];

/// The crate whose program runs files on rten, and its version.
const RTEN: [&str; 3] = ["rten-cli", "--version", "0.27.0"];

/// Builds the tool, makes the environment and installs rten where they are missing, and runs `checks/peers.py` with what follows on the command line.
pub(crate) fn peers(rest: &[String]) -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace's folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    run(Command::new(&cargo).current_dir(root).args(["build", "--release", "-p", "lowbit-cli"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let environment = target.join("peers-venv");
    let python = environment.join("bin/python");
    if !python.is_file() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    }
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES))?;
    let rten = target.join("peers-rten");
    run(Command::new(&cargo)
        .args(["install", "--quiet", "--locked", "--root"])
        .arg(&rten)
        .args(RTEN))?;
    let mut bench = Command::new(&python);
    bench.current_dir(root).arg("checks/peers.py").arg("--lowbit");
    bench.arg(target.join("release/lowbit")).arg("--rten");
    bench.arg(rten.join("bin/rten")).args(rest);
    run(&mut bench)?;
    Ok(ExitCode::SUCCESS)
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
