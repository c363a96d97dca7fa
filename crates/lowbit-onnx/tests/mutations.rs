//! What the fuzz target asks, for compilers without a fuzzer: the seed corpus and changed copies of it, the same each time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use lowbit_graph::{Graph, Session, Workspace};
use lowbit_onnx::{export_bytes, import_bytes};
use lowbit_tensor::{Buffer, DType, Rng, Tensor};

/// Changed copies of each file.
const MUTATIONS: usize = 400;
/// Elements that a result, or an input made up here, may have.
const LIMIT: usize = 1 << 14;

fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folders = ["fuzz/corpus/import", "attacks/models"];
    let entries = folders.iter().flat_map(|f| fs::read_dir(root.join(f)).unwrap());
    let mut files: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "onnx"));
    files.sort();
    files
}

/// One to four changes: a bit, a byte, a part cut out, a part repeated.
fn mutate(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    for _ in 0..=rng.below(4) {
        if changed.is_empty() {
            break;
        }
        let at = rng.below(changed.len());
        let end = (at + 1 + rng.below(16)).min(changed.len());
        match rng.below(5) {
            0 => changed[at] ^= 1 << rng.below(8),
            1 => changed[at] = [0, 1, 0x7f, 0x80, 0xff][rng.below(5)],
            2 => changed[at] = rng.next_u64().to_le_bytes()[0],
            3 => drop(changed.drain(at..end)),
            _ => {
                let part = changed[at..end].to_vec();
                changed.splice(at..at, part);
            }
        }
    }
    changed
}

/// Zeros for every input, if they are few.
fn feeds(graph: &Graph) -> Option<Vec<Tensor>> {
    let feed = |input: &lowbit_graph::Input| {
        let shape: Vec<usize> = input.dims.iter().map(|d| d.unwrap_or(2)).collect();
        let len = shape.iter().try_fold(1usize, |p, &d| p.checked_mul(d))?;
        let buffer = match (input.dtype, len <= LIMIT) {
            (DType::F32, true) => Buffer::F32(vec![0.0; len]),
            (DType::U8 | DType::U4 | DType::U2, true) => Buffer::U8(vec![0; len]),
            (DType::I8 | DType::I4 | DType::I2, true) => Buffer::I8(vec![0; len]),
            (DType::I64, true) => Buffer::I64(vec![0; len]),
            (DType::I32, true) => Buffer::I32(vec![0; len]),
            _ => return None,
        };
        Tensor::try_new(input.dtype, shape, buffer).ok()
    };
    graph.inputs.iter().map(feed).collect()
}

/// Reads, writes, reads and runs; errors are welcome.
fn exercise(bytes: &[u8]) {
    let Ok(graph) = import_bytes(bytes, None) else {
        return;
    };
    if let Ok(written) = export_bytes(&graph) {
        import_bytes(&written, None).expect("what was written is read");
    }
    if let (Some(feeds), Ok(session)) = (feeds(&graph), Session::new(&graph)) {
        let _ = session.run(&feeds, &mut Workspace::serial().with_limit(LIMIT));
    }
}

#[test]
fn the_seeds_are_models_that_run() {
    for path in files().iter().filter(|p| p.components().any(|c| c.as_os_str() == "corpus")) {
        let graph = import_bytes(&fs::read(path).unwrap(), None);
        let graph = graph.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let ran =
            Session::new(&graph).unwrap().run(&feeds(&graph).unwrap(), &mut Workspace::serial());
        ran.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

#[test]
fn no_file_makes_the_importer_panic() {
    let mut rng = Rng::new(0);
    let mut broken = Vec::new();
    let mut ran = 0;
    for path in files() {
        let seed = fs::read(&path).unwrap();
        for round in 0..=MUTATIONS {
            let bytes = if round == 0 { seed.clone() } else { mutate(&seed, &mut rng) };
            ran += 1;
            if catch_unwind(AssertUnwindSafe(|| exercise(&bytes))).is_err() {
                broken.push(format!("{} round {round}", path.display()));
            }
        }
    }
    assert!(ran >= 2000, "{ran} files are too few");
    assert!(broken.is_empty(), "{} of {ran} panic: {broken:#?}", broken.len());
}
