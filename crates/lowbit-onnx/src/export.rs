//! Writes ONNX models in the lowest opset that has every form the graph needs. The same graph gives the same bytes.

mod forms;
mod opset;
mod qonnx;
mod writer;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use lowbit_graph::{Graph, ValueId};
use prost::Message;

use crate::OnnxError;
use crate::import::Names;
use crate::infer::{Dims, Facts, infer};
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::type_proto::{Tensor as TensorType, Value as TypeValue};
use crate::proto::{
    GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorShapeProto,
    TypeProto, ValueInfoProto,
};
use crate::tensor::{code_of, tensor_to_proto};
use writer::Writer;

/// What protobuf readers accept at most.
const MODEL_BYTES_MAX: usize = i32::MAX as usize;

/// Writes the graph as an ONNX file: to a temporary file beside it, which takes the name when it is complete.
///
/// # Errors
/// As [`export_bytes`], or `Io`; both in `File`. Nothing is left behind.
pub fn export(graph: &Graph, path: impl AsRef<Path>) -> Result<(), OnnxError> {
    let path = path.as_ref();
    let write = || {
        let bytes = export_bytes(graph)?;
        replace(path, &bytes)?;
        Ok(())
    };
    write().map_err(|error: OnnxError| error.in_file(path))
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = beside(path);
    let mut file = File::create_new(&temporary)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to tell; the rest of the file is of no use.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// A name in the same folder that no other process writes.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.part", std::process::id()))
}

/// The graph as an ONNX model.
///
/// # Errors
/// `Graph` when it does not verify; `Node` when an operator has a form that ONNX lacks; `Model` when the result would
/// exceed protobuf's 2 GiB.
pub fn export_bytes(graph: &Graph) -> Result<Vec<u8>, OnnxError> {
    encode(graph, &HashMap::new())
}

/// As [`export_bytes`], with quantizers as QONNX's `IntQuant` and `BipolarQuant` on floats: codes between a
/// QuantizeLinear and its DequantizeLinear, of any width.
///
/// # Errors
/// As [`export_bytes`]; `Node` for quantization that QONNX cannot say.
pub fn export_qonnx_bytes(graph: &Graph) -> Result<Vec<u8>, OnnxError> {
    encode(graph, &qonnx::quantizers(graph, &infer(graph))?)
}

fn encode(graph: &Graph, quantizers: &Quantizers) -> Result<Vec<u8>, OnnxError> {
    graph.verify()?;
    let model = model(graph, quantizers)?;
    let size = model.encoded_len();
    if size > MODEL_BYTES_MAX {
        return Err(OnnxError::Model {
            what: "size",
            found: format!("{size} bytes"),
            supported: format!("{MODEL_BYTES_MAX} bytes"),
        });
    }
    Ok(model.encode_to_vec())
}

/// What is written as QONNX, by node index: [`qonnx::quantizers`].
type Quantizers = HashMap<usize, Option<qonnx::Quantizer>>;

fn model(graph: &Graph, quantizers: &Quantizers) -> Result<ModelProto, OnnxError> {
    let facts = infer(graph);
    let opset = opset::least(graph, &facts);
    let mut names = Names::default();
    let value_names = unique_names(graph, &mut names);
    let mut writer = Writer::new(&value_names, names);
    for (index, node) in graph.nodes.iter().enumerate() {
        match quantizers.get(&index) {
            None => writer.node(node)?,
            Some(Some(quantizer)) => writer.quantizer(node, quantizer),
            Some(None) => {}
        }
    }
    let mut opset_import =
        vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(opset) }];
    if writer.uses_microsoft {
        let domain = Some("com.microsoft".to_owned());
        opset_import.push(OperatorSetIdProto { domain, version: Some(1) });
    }
    if !quantizers.is_empty() {
        let domain = Some(qonnx::DOMAIN.to_owned());
        opset_import.push(OperatorSetIdProto { domain, version: Some(1) });
    }
    let read: HashSet<&String> = writer.nodes.iter().flat_map(|node| &node.input).collect();
    // What only a QuantizeLinear read that is not written is not written either.
    let wanted = |value: ValueId| quantizers.is_empty() || read.contains(&value_names[&value]);
    let mut initializer: Vec<_> = graph
        .constants()
        .filter(|(value, _)| wanted(*value))
        .map(|(value, tensor)| tensor_to_proto(&value_names[&value], tensor))
        .collect();
    initializer.append(&mut writer.initializers);
    let proto = GraphProto {
        name: Some(if graph.name.is_empty() { "graph".into() } else { graph.name.clone() }),
        node: writer.nodes,
        initializer,
        input: inputs(graph, &value_names),
        output: outputs(graph, &value_names, &facts)?,
        ..GraphProto::default()
    };
    let entry = |(key, value): (&String, &String)| StringStringEntryProto {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    Ok(ModelProto {
        ir_version: Some(opset::ir_version(opset)),
        opset_import,
        producer_name: Some("lowbit".into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        graph: Some(proto),
        metadata_props: graph.metadata.iter().map(entry).collect(),
        ..ModelProto::default()
    })
}

/// A name for each value: its own where that is free. Those of inputs and outputs, which callers know, come first.
fn unique_names(graph: &Graph, names: &mut Names) -> HashMap<ValueId, String> {
    let mut given = HashMap::new();
    let constants = graph.constants().map(|(value, _)| value);
    let made = graph.nodes.iter().flat_map(|n| n.outputs.iter().flatten().copied());
    let outside = graph.inputs.iter().map(|i| i.value).chain(graph.outputs.iter().copied());
    for value in outside.chain(constants).chain(made) {
        given.entry(value).or_insert_with(|| match graph.value_name(value) {
            "" => names.fresh("value"),
            name => names.fresh(name),
        });
    }
    given
}

fn inputs(graph: &Graph, names: &HashMap<ValueId, String>) -> Vec<ValueInfoProto> {
    let info = |input: &lowbit_graph::Input| {
        let dim = |(axis, extent): (usize, &Option<usize>)| match (axis, extent) {
            (_, Some(extent)) => fixed(*extent),
            (0, None) => open(Some("N".into())),
            (_, None) => open(Some(format!("d{axis}"))),
        };
        let dims = input.dims.iter().enumerate().map(dim).collect();
        value_info(&names[&input.value], input.dtype, Some(dims))
    };
    graph.inputs.iter().map(info).collect()
}

fn outputs(
    graph: &Graph,
    names: &HashMap<ValueId, String>,
    facts: &Facts,
) -> Result<Vec<ValueInfoProto>, OnnxError> {
    let info = |&value: &ValueId| {
        let fact = facts.get(value).cloned().unwrap_or_default();
        let Some(dtype) = fact.dtype else {
            return Err(OnnxError::Model {
                what: "element type of a graph output",
                found: format!("unknown for \"{}\"", graph.value_name(value)),
                supported: "known types".into(),
            });
        };
        Ok(value_info(&names[&value], dtype, output_dims(fact.dims)))
    };
    graph.outputs.iter().map(info).collect()
}

fn output_dims(dims: Dims) -> Option<Vec<Dimension>> {
    let dim = |extent: Option<usize>| extent.map_or_else(|| open(None), fixed);
    dims.map(|dims| dims.into_iter().map(dim).collect())
}

fn fixed(extent: usize) -> Dimension {
    let extent = i64::try_from(extent).unwrap_or(i64::MAX);
    Dimension { value: Some(dimension::Value::DimValue(extent)), ..Dimension::default() }
}

fn open(name: Option<String>) -> Dimension {
    Dimension { value: name.map(dimension::Value::DimParam), ..Dimension::default() }
}

fn value_info(
    name: &str,
    dtype: lowbit_tensor::DType,
    dims: Option<Vec<Dimension>>,
) -> ValueInfoProto {
    let tensor = TensorType {
        elem_type: Some(code_of(dtype) as i32),
        shape: dims.map(|dim| TensorShapeProto { dim }),
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(TypeValue::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}
