//! Writes `src/proto/onnx.rs`: `prost` types for `onnx.proto`, compiled by `protox` (no `protoc` needed).

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = protox::compile([here.join("onnx.proto")], [here])?;
    prost_build::Config::new()
        .out_dir(here.join("../src/proto"))
        .disable_comments(["."])
        .compile_fds(descriptors)?;
    Ok(())
}
