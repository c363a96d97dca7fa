//! Reads ONNX models: checks the model, then translates node after node, in an order in which they can run.

mod activation;
mod conv;
mod layout;
mod limits;
mod linear;
mod node;
mod order;
mod pool;
mod qonnx;
mod quantized;
mod shape;
mod table;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::Path;

use lowbit_graph::{Graph, GraphError, Node, ValueId};
use prost::Message;

use crate::OnnxError;
use crate::infer::{Facts, facts_of_node, given_facts};
use crate::proto::tensor_shape_proto::dimension::Value as Dim;
use crate::proto::type_proto::Value as TypeValue;
use crate::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use crate::tensor::{External, SUPPORTED_TYPES, dtype_of, read_tensor, type_name};
pub(crate) use node::Names;
use node::NodeImport;
pub use table::supported_operators;
use table::{Domain, Row};

/// The oldest operator set that is read.
pub const MIN_OPSET: i64 = 7;
/// The newest operator set that is read.
pub const MAX_OPSET: i64 = 25;

/// Reads the model in a file. Tensors stored outside are looked for in the file's folder and nowhere else.
///
/// # Errors
/// `File`, holding what is wrong with it.
pub fn import(path: impl AsRef<Path>) -> Result<Graph, OnnxError> {
    let path = path.as_ref();
    let read = || {
        let bytes = fs::read(path)?;
        limits::check(&bytes)?;
        let model = ModelProto::decode(bytes.as_slice())?;
        // The weights are now in the model: the file's own copy is not needed while they are converted.
        drop(bytes);
        import_model(model, path.parent())
    };
    read().map_err(|error: OnnxError| error.in_file(path))
}

/// Reads a model from memory. Tensors stored outside are looked for in `folder`, and refused when there is none.
///
/// # Errors
/// What is wrong with the model.
pub fn import_bytes(bytes: &[u8], folder: Option<&Path>) -> Result<Graph, OnnxError> {
    limits::check(bytes)?;
    import_model(ModelProto::decode(bytes)?, folder)
}

fn import_model(model: ModelProto, folder: Option<&Path>) -> Result<Graph, OnnxError> {
    let opsets = Opsets::new(&model)?;
    refuse_parts(&model)?;
    let mut metadata = BTreeMap::new();
    for entry in model.metadata_props {
        metadata.insert(entry.key.unwrap_or_default(), entry.value.unwrap_or_default());
    }
    let proto = model.graph.ok_or_else(|| model_error("graph", "none", "one graph"))?;
    let mut graph = Importer::new(opsets, folder, &proto).run(proto)?;
    graph.metadata = metadata;
    graph.verify()?;
    Ok(graph)
}

fn model_error(what: &'static str, found: impl ToString, supported: impl ToString) -> OnnxError {
    OnnxError::Model { what, found: found.to_string(), supported: supported.to_string() }
}

/// The operator set version of each domain.
struct Opsets {
    onnx: i64,
    versions: BTreeMap<String, i64>,
}

impl Opsets {
    fn new(model: &ModelProto) -> Result<Self, OnnxError> {
        let mut versions = BTreeMap::new();
        for opset in &model.opset_import {
            let domain = match opset.domain.as_deref().unwrap_or_default() {
                "ai.onnx" => "",
                other => other,
            };
            let version = opset.version.unwrap_or_default();
            if versions.insert(domain.to_owned(), version).is_some() {
                return Err(model_error(
                    "opset_import",
                    format!("domain \"{domain}\" twice"),
                    "once",
                ));
            }
        }
        let supported = format!("{MIN_OPSET} to {MAX_OPSET}");
        let onnx = match versions.get("") {
            Some(&v) if (MIN_OPSET..=MAX_OPSET).contains(&v) => v,
            Some(v) => return Err(model_error("opset", v, supported)),
            // A graph of other domains' operators alone needs no version of ONNX's own.
            None if !versions.is_empty() => MAX_OPSET,
            None => return Err(model_error("opset", "none", supported)),
        };
        Ok(Opsets { onnx, versions })
    }

    /// The version that applies to a node of `domain`.
    fn of(&self, domain: Domain) -> Result<i64, OnnxError> {
        match domain {
            Domain::Onnx => Ok(self.onnx),
            Domain::Microsoft => match self.versions.get(domain.name()) {
                // Stock tools leave it out now and then; there is only one version.
                Some(1) | None => Ok(1),
                Some(v) => Err(model_error("opset of com.microsoft", v, "1")),
            },
            Domain::Qonnx => match self.versions.get(domain.name()) {
                // The quantizers mean the same in both; files under an older name leave the version out.
                Some(1 | 2) | None => Ok(1),
                Some(v) => Err(model_error("opset of qonnx.custom_op.general", v, "1, 2")),
            },
        }
    }
}

fn refuse_parts(model: &ModelProto) -> Result<(), OnnxError> {
    if let Some(function) = model.functions.first() {
        let name = function.name.clone().unwrap_or_default();
        return Err(model_error(
            "functions",
            format!("function \"{name}\""),
            "models without functions",
        ));
    }
    if !model.training_info.is_empty() {
        return Err(model_error("training_info", "present", "inference models"));
    }
    let Some(graph) = &model.graph else {
        return Ok(());
    };
    if !graph.sparse_initializer.is_empty() {
        return Err(model_error("sparse_initializer", "present", "dense initializers"));
    }
    if graph.output.is_empty() {
        return Err(model_error("graph outputs", "none", "one or more"));
    }
    Ok(())
}

/// One graph being read.
struct Importer<'a> {
    opsets: Opsets,
    external: External<'a>,
    graph: Graph,
    values: HashMap<String, ValueId>,
    names: Names,
    facts: Facts,
    /// Values that some node reads or the graph gives out.
    read: HashSet<ValueId>,
}

impl<'a> Importer<'a> {
    fn new(opsets: Opsets, folder: Option<&'a Path>, proto: &GraphProto) -> Self {
        Importer {
            opsets,
            external: External::new(folder),
            graph: Graph::new(proto.name.as_deref().unwrap_or_default()),
            values: HashMap::new(),
            names: Names::default(),
            facts: Facts::default(),
            read: HashSet::new(),
        }
    }

    fn run(mut self, proto: GraphProto) -> Result<Graph, OnnxError> {
        self.declare(&proto);
        self.initializers(proto.initializer)?;
        self.inputs(&proto.input)?;
        self.facts = given_facts(&self.graph);
        self.outputs(&proto.output)?;
        for (index, node) in order::runnable(proto.node)? {
            self.node(index, node)?;
        }
        Ok(self.graph)
    }

    /// Makes every value of the file, so that names made up later keep clear of them.
    fn declare(&mut self, proto: &GraphProto) {
        let inputs = proto.input.iter().map(|v| v.name.as_deref().unwrap_or_default());
        let constants = proto.initializer.iter().map(|t| t.name.as_deref().unwrap_or_default());
        for name in inputs.chain(constants) {
            self.value(name);
        }
        for node in &proto.node {
            for name in node.output.iter().chain(&node.input).filter(|n| !n.is_empty()) {
                self.value(name);
            }
            for name in node.input.iter().filter(|n| !n.is_empty()) {
                let value = self.value(name);
                self.read.insert(value);
            }
        }
    }

    fn value(&mut self, name: &str) -> ValueId {
        if let Some(&value) = self.values.get(name) {
            return value;
        }
        let value = self.graph.add_value(name);
        self.names.reserve(name);
        self.values.insert(name.to_owned(), value);
        value
    }

    fn initializers(&mut self, initializers: Vec<TensorProto>) -> Result<(), OnnxError> {
        for proto in initializers {
            let value = self.value(proto.name.as_deref().unwrap_or_default());
            let tensor = read_tensor(proto, &mut self.external)?;
            if self.graph.constant(value).is_some() {
                let value = self.graph.value_name(value).to_owned();
                return Err(GraphError::Duplicate { value }.into());
            }
            self.graph.set_constant(value, tensor);
        }
        Ok(())
    }

    /// What the caller provides: models before IR version 4 list their initializers here as well.
    fn inputs(&mut self, inputs: &[ValueInfoProto]) -> Result<(), OnnxError> {
        for info in inputs {
            let name = info.name.as_deref().unwrap_or_default();
            let value = self.value(name);
            if self.graph.constant(value).is_none() {
                let (dtype, dims) = tensor_type(name, info)?;
                self.graph.inputs.push(lowbit_graph::Input { value, dtype, dims });
            }
        }
        Ok(())
    }

    fn outputs(&mut self, outputs: &[ValueInfoProto]) -> Result<(), OnnxError> {
        for info in outputs {
            let name = info.name.as_deref().unwrap_or_default();
            let Some(&value) = self.values.get(name) else {
                return Err(GraphError::Output { value: name.to_owned() }.into());
            };
            self.read.insert(value);
            self.graph.outputs.push(value);
        }
        Ok(())
    }

    fn node(&mut self, index: usize, proto: NodeProto) -> Result<(), OnnxError> {
        let op_type = proto.op_type.clone().unwrap_or_default();
        let name = match proto.name.as_deref().unwrap_or_default() {
            "" => format!("{op_type}_{index}"),
            given => given.to_owned(),
        };
        let row = table::find(&name, &proto)?;
        let opset = self.opsets.of(row.domain)?;
        let mut lookup = |names: &[String]| -> Vec<Option<ValueId>> {
            names.iter().map(|n| (!n.is_empty()).then(|| self.value(n))).collect()
        };
        let (inputs, outputs) = (lookup(&proto.input), lookup(&proto.output));
        let mut node = NodeImport {
            graph: &mut self.graph,
            names: &mut self.names,
            facts: &mut self.facts,
            external: &mut self.external,
            name,
            op: row.name,
            domain: row.domain,
            opset,
            inputs,
            outputs,
            attributes: proto.attribute,
        };
        node.check_arity(row, &self.read)?;
        translate(node, row)
    }
}

/// Appends the node to the graph, or its value when it is a constant.
fn translate(mut node: NodeImport<'_, '_>, row: &Row) -> Result<(), OnnxError> {
    if let table::Translate::Constant(read) = row.translate {
        let tensor = read(&mut node)?;
        node.finish()?;
        let output = node.outputs[0].expect("check_arity saw the first output");
        if node.graph.constant(output).is_some() {
            let value = node.graph.value_name(output).to_owned();
            return Err(GraphError::Duplicate { value }.into());
        }
        node.facts.set_constant(output, &tensor);
        node.graph.set_constant(output, tensor);
        return Ok(());
    }
    let table::Translate::Node(read) = row.translate else {
        return Ok(());
    };
    let op = read(&mut node)?;
    node.finish()?;
    let NodeImport { graph, facts, name, mut inputs, outputs, .. } = node;
    // Trailing optional inputs that are left out and those that were never written are the same.
    while inputs.last().is_some_and(Option::is_none) {
        inputs.pop();
    }
    let made = Node { name, op, inputs, outputs };
    facts_of_node(graph, &made, facts);
    graph.nodes.push(made);
    Ok(())
}

/// The element type and dimensions of a graph input.
fn tensor_type(
    name: &str,
    info: &ValueInfoProto,
) -> Result<(lowbit_tensor::DType, Vec<Option<usize>>), OnnxError> {
    let fail = |what, found: String, expected: &str| OnnxError::Tensor {
        name: name.to_owned(),
        what,
        found,
        expected: expected.to_owned(),
    };
    let tensor = match info.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(TypeValue::TensorType(tensor)) => tensor,
        Some(other) => {
            let kind = match other {
                TypeValue::SequenceType(_) => "a sequence",
                TypeValue::MapType(_) => "a map",
                TypeValue::OptionalType(_) => "an optional",
                TypeValue::SparseTensorType(_) => "a sparse tensor",
                TypeValue::OpaqueType(_) | TypeValue::TensorType(_) => "an opaque value",
            };
            return Err(fail("graph input type", kind.into(), "a tensor"));
        }
        None => return Err(fail("graph input type", "none".into(), "a tensor")),
    };
    let code = tensor.elem_type.unwrap_or_default();
    let dtype = dtype_of(code)
        .ok_or_else(|| fail("graph input element type", type_name(code), SUPPORTED_TYPES))?;
    let shape = tensor
        .shape
        .as_ref()
        .ok_or_else(|| fail("graph input shape", "none".into(), "a known rank"))?;
    let dims = shape.dim.iter().map(|d| match d.value {
        // Some writers say -1 where they mean any extent.
        Some(Dim::DimValue(v)) => usize::try_from(v).ok(),
        Some(Dim::DimParam(_)) | None => None,
    });
    Ok((dtype, dims.collect()))
}
