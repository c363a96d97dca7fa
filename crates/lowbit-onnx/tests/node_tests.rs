//! ONNX's own tests of single operators, for every operator that is read: each passes, or is refused for a known reason.
//!
//! The files come with the `onnx` Python package (`onnx/backend/test/data/node`), which `$LOWBIT_DATA` or
//! `~/.cache/lowbit/data` holds under `onnx-node-tests`. Without them this test says so and does nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "node_tests/refused.rs"]
mod refused;

use std::collections::HashSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use lowbit_graph::{Graph, Session, Workspace};
use lowbit_onnx::proto::ModelProto;
use lowbit_onnx::{export_bytes, import_bytes, supported_operators, tensor_from_bytes};
use lowbit_tensor::{DType, Tensor};
use prost::Message;
use refused::{REFUSED, TRAINING};

/// ONNX's own tolerances.
const RELATIVE: f64 = 1e-3;
const ABSOLUTE: f64 = 1e-5;

fn folder() -> Option<PathBuf> {
    let data = std::env::var_os("LOWBIT_DATA").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/lowbit/data"));
    let folder = data.or_else(home)?.join("onnx-node-tests");
    folder.is_dir().then_some(folder)
}

/// Folders all of whose nodes are operators that are read.
fn rows(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let supported: HashSet<_> = supported_operators().collect();
    let mut rows = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let Ok(bytes) = fs::read(entry.path().join("model.onnx")) else {
            continue;
        };
        let model = ModelProto::decode(bytes.as_slice()).unwrap();
        let nodes = model.graph.unwrap_or_default().node;
        let known = |domain: &str, op: &str| supported.contains(&(domain, op));
        if nodes.iter().all(|n| known(n.domain(), n.op_type())) {
            rows.push((entry.file_name().into_string().unwrap(), bytes));
        }
    }
    rows.sort();
    rows
}

/// The same model without the outputs after the first, if it has any: what inference needs of operators that also give
/// indices, masks or statistics.
fn first_output_alone(model: &[u8]) -> Option<Vec<u8>> {
    let mut model = ModelProto::decode(model).unwrap();
    let graph = model.graph.as_mut()?;
    if graph.output.len() < 2 {
        return None;
    }
    graph.output.truncate(1);
    Some(model.encode_to_vec())
}

/// Runs one test; the error says what differs or who refuses.
fn run(folder: &Path, model: &[u8]) -> Result<(), String> {
    let graph = import_bytes(model, Some(folder)).map_err(|e| e.to_string())?;
    let session = Session::new(&graph).map_err(|e| e.to_string())?;
    let data = folder.join("test_data_set_0");
    let inputs = tensors(&data, "input")?;
    let found = session.run(&inputs, &mut Workspace::serial()).map_err(|e| e.to_string())?;
    same_when_written(&graph, &inputs, &found)?;
    let expected = tensors(&data, "output")?;
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        compare(found, expected).map_err(|e| format!("output {i}: {e}"))?;
    }
    Ok(())
}

/// Writes the graph, reads it back and expects the same bits.
fn same_when_written(graph: &Graph, inputs: &[Tensor], expected: &[Tensor]) -> Result<(), String> {
    let again = export_bytes(graph).and_then(|bytes| import_bytes(&bytes, None));
    let session = Session::new(&again.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    let found = session.run(inputs, &mut Workspace::serial()).map_err(|e| e.to_string())?;
    // As text, in which a NaN equals itself.
    if format!("{found:?}") == format!("{expected:?}") {
        return Ok(());
    }
    Err("another result after export and import".into())
}

fn tensors(folder: &Path, kind: &str) -> Result<Vec<Tensor>, String> {
    (0..)
        .map(|i| folder.join(format!("{kind}_{i}.pb")))
        .take_while(|path| path.exists())
        .map(|path| tensor_from_bytes(&fs::read(path).unwrap()).map_err(|e| e.to_string()))
        .collect()
}

fn compare(found: &Tensor, expected: &Tensor) -> Result<(), String> {
    if found.dtype() != expected.dtype() || found.shape() != expected.shape() {
        let show = |t: &Tensor| format!("{}{}", t.dtype(), t.shape());
        return Err(format!("wrong result {}, expected {}", show(found), show(expected)));
    }
    let exact = expected.dtype() != DType::F32;
    let differ = |(a, b): (&f64, &f64)| {
        let close =
            a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= ABSOLUTE + RELATIVE * b.abs();
        if exact { a != b } else { !close }
    };
    let (found, expected) = (found.to_f64(), expected.to_f64());
    match found.iter().zip(&expected).position(differ) {
        None => Ok(()),
        Some(i) => Err(format!("wrong result {} at {i}, expected {}", found[i], expected[i])),
    }
}

#[test]

fn every_node_test_passes_or_is_refused_for_a_known_reason() {
    let Some(folder) = folder() else {
        eprintln!("SKIPPED: no onnx-node-tests in $LOWBIT_DATA or ~/.cache/lowbit/data");
        return;
    };
    let rows = rows(&folder);
    let (mut passed, mut refused, mut first_alone, mut wrong) = (0, 0, 0, Vec::new());
    for (name, model) in &rows {
        let ran = catch_unwind(AssertUnwindSafe(|| run(&folder.join(name), model)));
        let ran = ran.unwrap_or_else(|_| Err("panicked".into()));
        let reason = REFUSED.iter().find(|(n, _)| n == name).map(|(_, reason)| *reason);
        match (ran, reason) {
            (Ok(()), None) => passed += 1,
            (Err(error), Some(reason)) if error.contains(reason) => refused += 1,
            (Ok(()), Some(_)) => wrong.push(format!("{name}: passes, but is listed as refused")),
            (Err(error), Some(reason)) => {
                wrong.push(format!("{name}: {error}\n    expected: {reason}"))
            }
            (Err(error), None) => wrong.push(format!("{name}: {error}")),
        }
    }
    for (name, model) in &rows {
        let Some(first) = first_output_alone(model) else {
            continue;
        };
        match run(&folder.join(name), &first) {
            Ok(()) => first_alone += 1,
            Err(error) if TRAINING.iter().any(|t| name.starts_with(t)) => {
                assert!(error.contains("training_mode"))
            }
            Err(error) => wrong.push(format!("{name}, first output alone: {error}")),
        }
    }
    println!("onnx node tests: {first_alone} of several outputs pass with the first alone");
    println!("onnx node tests: {passed} pass, {refused} refused, of {}", rows.len());
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    let known: HashSet<_> = rows.iter().map(|(name, _)| name.as_str()).collect();
    let stale: Vec<_> = REFUSED.iter().filter(|(name, _)| !known.contains(name)).collect();
    assert!(stale.is_empty(), "no such tests: {stale:?}");
}
