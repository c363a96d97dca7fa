//! What is written is read back as it was.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use lowbit_graph::{Graph, Op};
use lowbit_onnx::proto::ModelProto;
use lowbit_onnx::{export_bytes, import_bytes};
use lowbit_tensor::Tensor;
use prost::Message;

/// Real models: the embedded default, and those in the folder that `$LOWBIT_MODELS` names.
fn models() -> Vec<PathBuf> {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets");
    let more = std::env::var_os("LOWBIT_MODELS").map(PathBuf::from);
    let folders = std::iter::once(assets).chain(more);
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap());
    let mut models: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    models.retain(|path| path.extension().is_some_and(|e| e == "onnx"));
    assert!(!models.is_empty(), "the embedded default is a model");
    models.sort();
    models
}

type Names = Vec<Option<String>>;

/// A graph without the ids that its history gave to its values.
#[derive(Debug, PartialEq)]
struct Normal {
    name: String,
    metadata: BTreeMap<String, String>,
    inputs: Vec<String>,
    outputs: Vec<String>,
    nodes: Vec<(String, Op, Names, Names)>,
    constants: BTreeMap<String, Tensor>,
}

fn normal(graph: &Graph) -> Normal {
    let name = |v| graph.value_name(v).to_owned();
    let names = |values: &[Option<_>]| values.iter().map(|v| v.map(name)).collect();
    let input = |i: &lowbit_graph::Input| format!("{} {} {:?}", name(i.value), i.dtype, i.dims);
    let node = |n: &lowbit_graph::Node| {
        (n.name.clone(), n.op.clone(), names(&n.inputs), names(&n.outputs))
    };
    Normal {
        name: graph.name.clone(),
        metadata: graph.metadata.clone(),
        inputs: graph.inputs.iter().map(input).collect(),
        outputs: graph.outputs.iter().map(|&v| name(v)).collect(),
        nodes: graph.nodes.iter().map(node).collect(),
        constants: graph.constants().map(|(v, t)| (name(v), t.as_ref().clone())).collect(),
    }
}

fn check(bytes: &[u8], what: &str) {
    let graph = import_bytes(bytes, None).unwrap();
    let written = export_bytes(&graph).unwrap();
    let again = import_bytes(&written, None).unwrap();
    assert!(normal(&graph) == normal(&again), "{what} changes on the way out and in");
    assert!(export_bytes(&again).unwrap() == written, "{what} gives other bytes the second time");
}

#[test]
fn real_models_survive_export_and_import() {
    for path in models() {
        check(&fs::read(&path).unwrap(), &path.display().to_string());
    }
}

#[test]
fn real_files_survive_protobuf_byte_for_byte() {
    for path in models() {
        let bytes = fs::read(&path).unwrap();
        let model = ModelProto::decode(bytes.as_slice()).unwrap();
        assert!(model.encode_to_vec() == bytes, "{}", path.display());
    }
}
