//! Runs a model on tensors stored as `TensorProto`: `run MODEL OUT_FOLDER INPUT.pb...` writes `output_0.pb` and so on.
//!
//! `tests/ort_check.py` compares them with what onnxruntime computes.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use lowbit_graph::{Session, Workspace};
use lowbit_onnx::{import, tensor_from_bytes, tensor_to_proto};
use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let (Some(model), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("usage: run MODEL OUT_FOLDER INPUT.pb...".into());
    };
    let mut feeds = Vec::new();
    for path in arguments {
        feeds.push(tensor_from_bytes(&fs::read(path)?)?);
    }
    let session = Session::new(&import(model)?)?;
    for (i, output) in session.run(&feeds, &mut Workspace::parallel())?.iter().enumerate() {
        fs::write(
            folder.join(format!("output_{i}.pb")),
            tensor_to_proto("", output).encode_to_vec(),
        )?;
    }
    Ok(())
}
