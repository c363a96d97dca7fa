//! Reads each model and writes it again into a folder: `roundtrip OUT_FOLDER MODEL...`.
//!
//! `tests/ort_check.py` compares what onnxruntime computes for both.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let folder = arguments.next().ok_or("usage: roundtrip OUT_FOLDER MODEL...")?;
    for model in arguments {
        let graph = lowbit_onnx::import(&model)?;
        let name = model.file_name().ok_or("a model has a file name")?;
        lowbit_onnx::export(&graph, folder.join(name))?;
    }
    Ok(())
}
