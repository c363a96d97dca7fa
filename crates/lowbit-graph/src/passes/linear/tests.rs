use super::*;
use crate::passes::canonicalize;
use lowbit_tensor::DType;

#[test]
fn products_and_biases_at_the_end_of_a_graph_become_gemms() {
    let mut graph = Graph::new("chain");
    let mut value = graph.add_input("x", DType::F32, vec![None, Some(2)]);
    for layer in 0..3 {
        let weight = graph.add_constant("w", Tensor::new([2, 2], vec![1.0f32, 2.0, 3.0, 4.0]));
        let bias = graph.add_constant("b", Tensor::vector(vec![5.0f32, 6.0]));
        value = graph.add_node(&format!("product{layer}"), Op::MatMul, &[value, weight]);
        value = graph.add_node(&format!("sum{layer}"), Op::Binary(Binary::Add), &[value, bias]);
    }
    graph.outputs.push(value);
    let normal = canonicalize(&graph, &[Tensor::new([1, 2], vec![0.5f32, 0.5])]).unwrap();
    let gemm = |node: &Node| matches!(node.op, Op::Gemm(_)) && node.inputs.len() == 3;
    assert_eq!(normal.nodes.len(), 3, "{}", normal.dump());
    assert!(normal.nodes.iter().all(gemm), "{}", normal.dump());
}
