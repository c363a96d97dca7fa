//! Hostile and broken files: each gives the error that `attacks/expected.toml` names, none panics or runs out of memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use lowbit_graph::{Graph, Session, Workspace};
use lowbit_onnx::import;
use lowbit_tensor::Tensor;

/// Elements a result may have here; every honest one has far fewer.
const LIMIT: usize = 1 << 20;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../attacks")
}

fn expected() -> BTreeMap<String, BTreeMap<String, String>> {
    toml::from_str(&fs::read_to_string(folder().join("expected.toml")).unwrap()).unwrap()
}

/// Zeros where the graph wants input, two where it leaves an extent open.
fn zeros(graph: &Graph) -> Vec<Tensor> {
    let feed = |input: &lowbit_graph::Input| {
        let shape: Vec<usize> = input.dims.iter().map(|d| d.unwrap_or(2)).collect();
        Tensor::full(shape, 0.0f32)
    };
    graph.inputs.iter().map(feed).collect()
}

fn run(graph: &Graph) -> Result<(), String> {
    let session = Session::new(graph).map_err(|e| e.to_string())?;
    let ran = session.run(&zeros(graph), &mut Workspace::serial().with_limit(LIMIT));
    ran.map(|_| ()).map_err(|e| e.to_string())
}

/// What is wrong with the answer to one file, if anything.
fn check(path: &Path, kind: &str, text: &str) -> Result<(), String> {
    let imported = import(path).map_err(|e| e.to_string());
    let error = match (kind, imported) {
        ("import", Err(error)) => error,
        ("import", Ok(_)) => return Err("is read".into()),
        (_, Err(error)) => return Err(format!("is not read: {error}")),
        ("run", Ok(graph)) => match run(&graph) {
            Err(error) => error,
            Ok(()) => return Err("runs".into()),
        },
        ("fine", Ok(graph)) => return run(&graph),
        (other, Ok(_)) => return Err(format!("unknown kind {other}")),
    };
    if error.contains(text) { Ok(()) } else { Err(format!("{error}\n    expected: {text}")) }
}

#[test]
fn every_attack_gives_the_expected_error() {
    let expected = expected();
    let mut wrong = Vec::new();
    for (name, row) in &expected {
        let path = folder().join("models").join(format!("{name}.onnx"));
        for (kind, text) in row {
            if let Err(error) = check(&path, kind, text) {
                wrong.push(format!("{name}: {error}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} are wrong:\n{}",
        wrong.len(),
        expected.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_attack_is_listed() {
    let expected = expected();
    for entry in fs::read_dir(folder().join("models")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let model = path.extension().is_some_and(|e| e == "onnx");
        assert!(!model || expected.contains_key(&name), "{name} is not in expected.toml");
    }
}
