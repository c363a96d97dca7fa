//! One node on its way in: its operands and attributes, each of which is read or refused.

use std::collections::{HashMap, HashSet};

use lowbit_graph::{Graph, Node, Op, ValueId};
use lowbit_tensor::{DType, Tensor};

use super::table::{Domain, Row};
use crate::OnnxError;
use crate::infer::{Facts, facts_of_node};
use crate::proto::AttributeProto;
use crate::proto::attribute_proto::AttributeType;
use crate::tensor::{External, read_tensor};

/// Names in use, and new ones that keep clear of them.
#[derive(Default)]
pub(crate) struct Names {
    taken: HashSet<String>,
    /// The next number to try behind a name.
    next: HashMap<String, usize>,
}

impl Names {
    pub(crate) fn reserve(&mut self, name: &str) {
        self.taken.insert(name.to_owned());
    }

    pub(crate) fn fresh(&mut self, base: &str) -> String {
        if self.taken.insert(base.to_owned()) {
            return base.to_owned();
        }
        let number = self.next.entry(base.to_owned()).or_insert(0);
        loop {
            *number += 1;
            let name = format!("{base}_{number}");
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }
}

/// One node being translated.
pub(crate) struct NodeImport<'a, 'b> {
    pub(crate) graph: &'a mut Graph,
    pub(crate) names: &'a mut Names,
    pub(crate) facts: &'a mut Facts,
    pub(crate) external: &'a mut External<'b>,
    pub(crate) name: String,
    pub(crate) op: &'static str,
    pub(crate) domain: Domain,
    /// The version of the operator set the node is of.
    pub(crate) opset: i64,
    pub(crate) inputs: Vec<Option<ValueId>>,
    pub(crate) outputs: Vec<Option<ValueId>>,
    /// Those not read yet.
    pub(crate) attributes: Vec<AttributeProto>,
}

impl NodeImport<'_, '_> {
    /// Refuses wrong numbers of inputs, and outputs that someone reads but that are not computed here.
    pub(crate) fn check_arity(
        &mut self,
        row: &Row,
        read: &HashSet<ValueId>,
    ) -> Result<(), OnnxError> {
        let (least, most) = row.inputs;
        if !(least..=most).contains(&self.inputs.len()) {
            let supported = match most {
                usize::MAX => format!("{least} or more"),
                _ => format!("{least} to {most}"),
            };
            return Err(self.wrong("number of inputs", self.inputs.len(), supported));
        }
        if let Some(i) = (0..least).find(|&i| self.inputs[i].is_none()) {
            return Err(self.wrong(format!("input {i}"), "left out", "a value"));
        }
        if self.outputs.first().copied().flatten().is_none() {
            return Err(self.wrong("output 0", "left out", "a value"));
        }
        let extra = self.outputs.iter().skip(row.outputs).flatten();
        if let Some(&value) = extra.into_iter().find(|v| read.contains(v)) {
            let found = format!("\"{}\", which is read", self.graph.value_name(value));
            return Err(self.wrong(
                format!("outputs beyond {}", row.outputs),
                found,
                "none that are read",
            ));
        }
        self.outputs.truncate(row.outputs);
        Ok(())
    }

    /// Refuses attributes that nobody asked for.
    pub(crate) fn finish(&mut self) -> Result<(), OnnxError> {
        match self.attributes.pop() {
            None => Ok(()),
            Some(attribute) => {
                let name = attribute.name.clone().unwrap_or_default();
                let supported = format!("no such attribute in opset {}", self.opset);
                Err(self.attribute_error(&name, show(&attribute), supported))
            }
        }
    }

    /// An error about an attribute.
    pub(crate) fn attribute_error(
        &self,
        attribute: &str,
        found: impl ToString,
        supported: impl ToString,
    ) -> OnnxError {
        OnnxError::Attribute {
            node: self.name.clone(),
            op: self.op,
            attribute: attribute.to_owned(),
            found: found.to_string(),
            supported: supported.to_string(),
        }
    }

    /// An error about an operand.
    pub(crate) fn wrong(
        &self,
        what: impl ToString,
        found: impl ToString,
        supported: impl ToString,
    ) -> OnnxError {
        OnnxError::Node {
            node: self.name.clone(),
            op: self.op,
            what: what.to_string(),
            found: found.to_string(),
            supported: supported.to_string(),
        }
    }

    fn take(
        &mut self,
        name: &str,
        kind: AttributeType,
    ) -> Result<Option<AttributeProto>, OnnxError> {
        let Some(at) = self.attributes.iter().position(|a| a.name.as_deref() == Some(name)) else {
            return Ok(None);
        };
        let attribute = self.attributes.swap_remove(at);
        if attribute.r#type != Some(kind as i32) {
            let supported = format!("type {}", kind.as_str_name().to_ascii_lowercase());
            return Err(self.attribute_error(name, show(&attribute), supported));
        }
        if attribute.ref_attr_name.is_some() {
            return Err(self.attribute_error(
                name,
                "a reference to a function's attribute",
                "a value",
            ));
        }
        Ok(Some(attribute))
    }

    pub(crate) fn int(&mut self, name: &str) -> Result<Option<i64>, OnnxError> {
        Ok(self.take(name, AttributeType::Int)?.map(|a| a.i.unwrap_or_default()))
    }

    /// A truth value: 0 or 1.
    pub(crate) fn flag(&mut self, name: &str, default: bool) -> Result<bool, OnnxError> {
        match self.int(name)? {
            None => Ok(default),
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            Some(other) => Err(self.attribute_error(name, other, "0 or 1")),
        }
    }

    /// An attribute of which only one value is supported.
    pub(crate) fn only(&mut self, name: &str, supported: i64) -> Result<(), OnnxError> {
        match self.int(name)? {
            Some(value) if value != supported => Err(self.attribute_error(name, value, supported)),
            _ => Ok(()),
        }
    }

    pub(crate) fn float(&mut self, name: &str) -> Result<Option<f32>, OnnxError> {
        Ok(self.take(name, AttributeType::Float)?.map(|a| a.f.unwrap_or_default()))
    }

    pub(crate) fn ints(&mut self, name: &str) -> Result<Option<Vec<i64>>, OnnxError> {
        Ok(self.take(name, AttributeType::Ints)?.map(|a| a.ints))
    }

    pub(crate) fn floats(&mut self, name: &str) -> Result<Option<Vec<f32>>, OnnxError> {
        Ok(self.take(name, AttributeType::Floats)?.map(|a| a.floats))
    }

    pub(crate) fn string(&mut self, name: &str) -> Result<Option<String>, OnnxError> {
        let Some(attribute) = self.take(name, AttributeType::String)? else {
            return Ok(None);
        };
        let bytes = attribute.s.unwrap_or_default();
        let text = String::from_utf8(bytes);
        text.map(Some).map_err(|_| self.attribute_error(name, "bytes", "text"))
    }

    pub(crate) fn tensor(&mut self, name: &str) -> Result<Option<Tensor>, OnnxError> {
        let Some(attribute) = self.take(name, AttributeType::Tensor)? else {
            return Ok(None);
        };
        let proto = attribute.t.unwrap_or_default();
        let tensor = read_tensor(proto, self.external);
        tensor.map(Some).map_err(|e| self.attribute_error(name, e, "a tensor that can be read"))
    }

    /// A list of sizes, none negative.
    pub(crate) fn sizes(&mut self, name: &str) -> Result<Option<Vec<usize>>, OnnxError> {
        let Some(ints) = self.ints(name)? else {
            return Ok(None);
        };
        let sizes: Option<Vec<usize>> = ints.iter().map(|&i| usize::try_from(i).ok()).collect();
        match sizes {
            Some(sizes) => Ok(Some(sizes)),
            None => Err(self.attribute_error(name, format!("{ints:?}"), "none negative")),
        }
    }

    /// The input at `index`.
    pub(crate) fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    /// The rank of an input, when it is known before the graph runs.
    pub(crate) fn rank(&self, index: usize) -> Option<usize> {
        Some(self.facts.get(self.input(index)?)?.dims.as_ref()?.len())
    }

    /// The element type of an input, when it is known before the graph runs.
    pub(crate) fn dtype(&self, index: usize) -> Option<DType> {
        self.facts.get(self.input(index)?)?.dtype
    }

    /// Adds a constant and returns it.
    pub(crate) fn constant(&mut self, what: &str, tensor: Tensor) -> ValueId {
        let name = self.names.fresh(&format!("{}_{what}", self.name));
        let value = self.graph.add_value(&name);
        self.facts.set_constant(value, &tensor);
        self.graph.set_constant(value, tensor);
        value
    }

    /// Puts a constant where a newer form of the operator has an input.
    pub(crate) fn set_input(&mut self, index: usize, what: &str, tensor: Tensor) {
        let value = self.constant(what, tensor);
        if self.inputs.len() <= index {
            self.inputs.resize(index + 1, None);
        }
        self.inputs[index] = Some(value);
    }

    /// As [`NodeImport::set_input`], for a list of integers, if there is one.
    pub(crate) fn set_ints(&mut self, index: usize, what: &str, ints: Option<Vec<i64>>) {
        if let Some(ints) = ints {
            self.set_input(index, what, Tensor::vector(ints));
        }
    }

    /// Appends a helper node before this one and returns its output.
    pub(crate) fn push(&mut self, what: &str, op: Op, inputs: Vec<Option<ValueId>>) -> ValueId {
        let name = format!("{}_{what}", self.name);
        let output_name = self.names.fresh(&format!("{name}_out"));
        let output = self.graph.add_value(&output_name);
        let made = Node { name, op, inputs, outputs: vec![Some(output)] };
        facts_of_node(self.graph, &made, self.facts);
        self.graph.nodes.push(made);
        output
    }
}

/// An attribute's value for a message, cut short.
fn show(attribute: &AttributeProto) -> String {
    let kind = AttributeType::try_from(attribute.r#type.unwrap_or_default());
    match kind {
        Ok(AttributeType::Int) => attribute.i.unwrap_or_default().to_string(),
        Ok(AttributeType::Float) => attribute.f.unwrap_or_default().to_string(),
        Ok(AttributeType::String) => {
            let bytes = attribute.s.as_deref().unwrap_or_default();
            format!("\"{}\"", String::from_utf8_lossy(&bytes[..bytes.len().min(40)]))
        }
        Ok(AttributeType::Ints) => format!("{:?}", &attribute.ints[..attribute.ints.len().min(8)]),
        Ok(kind) => format!("type {}", kind.as_str_name().to_ascii_lowercase()),
        Err(_) => format!("type {}", attribute.r#type.unwrap_or_default()),
    }
}
