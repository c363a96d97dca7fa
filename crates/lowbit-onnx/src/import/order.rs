//! An order in which a file's nodes can run. ONNX demands that they stand in one; some writers do not care.

use std::collections::{BTreeSet, HashMap};

use lowbit_graph::GraphError;

use crate::OnnxError;
use crate::proto::NodeProto;

/// The nodes with their places in the file, each after those it reads from, otherwise in the file's order.
pub(super) fn runnable(nodes: Vec<NodeProto>) -> Result<Vec<(usize, NodeProto)>, OnnxError> {
    let mut producers: HashMap<&str, usize> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            if producers.insert(output, i).is_some() {
                return Err(GraphError::Duplicate { value: output.clone() }.into());
            }
        }
    }
    let mut pending = vec![0usize; nodes.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        for &producer in node.input.iter().filter_map(|name| producers.get(name.as_str())) {
            pending[i] += 1;
            readers[producer].push(i);
        }
    }
    let mut ready: BTreeSet<usize> = (0..nodes.len()).filter(|&i| pending[i] == 0).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(i) = ready.pop_first() {
        order.push(i);
        for &reader in &readers[i] {
            pending[reader] -= 1;
            if pending[reader] == 0 {
                ready.insert(reader);
            }
        }
    }
    if let Some(stuck) = pending.iter().position(|&p| p > 0) {
        let node = nodes[stuck].name.clone().unwrap_or_default();
        return Err(GraphError::Cycle { node }.into());
    }
    let mut slots: Vec<Option<NodeProto>> = nodes.into_iter().map(Some).collect();
    let mut take = |i: usize| (i, slots[i].take().expect("each node is in the order once"));
    Ok(order.into_iter().map(&mut take).collect())
}
