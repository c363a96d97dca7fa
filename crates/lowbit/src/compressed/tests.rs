use lowbit_graph::{Cast, Op};
use lowbit_tensor::Rng;

use super::*;

/// Three tensors of codes: few values, one value alone, too few to be worth it.
fn graph() -> Graph {
    let mut graph = Graph::new("g");
    let x = graph.add_input("x", DType::F32, vec![None, Some(4)]);
    let mut rng = Rng::new(1);
    let four: Vec<u16> = (0..1200).map(|_| [8, 8, 8, 9, 7, 15][rng.below(6)]).collect();
    let tensors = [
        codes_to_tensor(DType::I4, vec![30, 40], &four).unwrap(),
        codes_to_tensor(DType::U8, vec![300], &[7; 300]).unwrap(),
        codes_to_tensor(DType::I2, vec![3], &[0, 1, 2]).unwrap(),
    ];
    let mut outputs = vec![graph.add_node("relu", Op::Unary(lowbit_graph::Unary::Relu), &[x])];
    for (i, tensor) in tensors.into_iter().enumerate() {
        let codes = graph.add_constant(&format!("codes{i}"), tensor);
        outputs.push(graph.add_node(
            &format!("cast{i}"),
            Op::Cast(Cast { to: DType::F32 }),
            &[codes],
        ));
    }
    graph.outputs = outputs;
    graph
}

fn error(bytes: &[u8]) -> String {
    expand(bytes, Path::new("m.lbz")).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn expanding_gives_back_the_file_to_the_byte() {
    let graph = graph();
    let whole = lowbit_onnx::export_bytes(&graph).unwrap();
    let compressed = compress(&graph, Path::new("m.lbz")).unwrap();
    let expanded = expand(&compressed, Path::new("m.lbz")).unwrap();
    assert_eq!(lowbit_onnx::export_bytes(&expanded).unwrap(), whole);
    assert!(compressed.len() < whole.len(), "{} of {}", compressed.len(), whole.len());
}

#[test]
fn a_file_that_is_cut_or_longer_is_refused() {
    let compressed = compress(&graph(), Path::new("m.lbz")).unwrap();
    for end in 0..compressed.len() {
        error(&compressed[..end]);
    }
    assert!(error(&[&compressed[..], b"more"].concat()).contains("4 bytes more"));
}

/// A change is an error or changes nothing: the checksum finds what nothing else does.
#[test]
fn changed_bytes_are_refused() {
    let whole = lowbit_onnx::export_bytes(&graph()).unwrap();
    let compressed = compress(&graph(), Path::new("m.lbz")).unwrap();
    let mut rng = Rng::new(7);
    for _ in 0..3000 {
        let mut bytes = compressed.clone();
        for _ in 0..=rng.below(3) {
            let at = rng.below(bytes.len());
            bytes[at] = rng.below(256) as u8;
        }
        if let Ok(graph) = expand(&bytes, Path::new("m.lbz")) {
            assert!(lowbit_onnx::export_bytes(&graph).unwrap() == whole, "read as another model");
        }
    }
}
