//! How many nodes, attributes, tensors and values a file holds, counted before any is allocated.
//!
//! An empty attribute takes two bytes in a file and hundreds in memory: a small file could ask for gigabytes. So the wire
//! format is walked first, following only the fields that lead to such messages; whatever is malformed is left to the
//! real decoder to refuse.

use super::model_error;
use crate::OnnxError;

/// Nodes, attributes, tensors and values together: a hundred times a large classifier's.
const MESSAGES_MAX: usize = 1 << 18;

/// Nesting that is followed; the decoder refuses more.
const DEPTH_MAX: usize = 100;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Training,
    Function,
    Graph,
    Node,
    Attribute,
    Tensor,
    Value,
}

/// (message, number of the field, what it holds), from onnx.proto.
const FIELDS: &[(Kind, u64, Kind)] = &[
    (Kind::Model, 7, Kind::Graph),
    (Kind::Model, 20, Kind::Training),
    (Kind::Model, 25, Kind::Function),
    (Kind::Training, 1, Kind::Graph),
    (Kind::Training, 2, Kind::Graph),
    (Kind::Function, 7, Kind::Node),
    (Kind::Function, 11, Kind::Attribute),
    (Kind::Function, 12, Kind::Value),
    (Kind::Graph, 1, Kind::Node),
    (Kind::Graph, 5, Kind::Tensor),
    (Kind::Graph, 11, Kind::Value),
    (Kind::Graph, 12, Kind::Value),
    (Kind::Graph, 13, Kind::Value),
    (Kind::Graph, 15, Kind::Tensor),
    (Kind::Node, 5, Kind::Attribute),
    (Kind::Attribute, 5, Kind::Tensor),
    (Kind::Attribute, 6, Kind::Graph),
    (Kind::Attribute, 10, Kind::Tensor),
    (Kind::Attribute, 11, Kind::Graph),
    (Kind::Attribute, 15, Kind::Value),
    (Kind::Attribute, 23, Kind::Tensor),
];

/// Refuses files of absurdly many parts.
pub(super) fn check(bytes: &[u8]) -> Result<(), OnnxError> {
    let mut count = 0;
    walk(bytes, Kind::Model, 0, &mut count);
    if count <= MESSAGES_MAX {
        return Ok(());
    }
    let found = format!("more than {MESSAGES_MAX}");
    Err(model_error(
        "nodes, attributes, tensors and values",
        found,
        format!("{MESSAGES_MAX} together"),
    ))
}

/// Counts the messages inside one; `None` where it is malformed.
fn walk(mut bytes: &[u8], kind: Kind, depth: usize, count: &mut usize) -> Option<()> {
    while !bytes.is_empty() && *count <= MESSAGES_MAX && depth < DEPTH_MAX {
        let key = varint(&mut bytes)?;
        match key & 7 {
            0 => drop(varint(&mut bytes)?),
            1 => bytes = bytes.get(8..)?,
            5 => bytes = bytes.get(4..)?,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (inside, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                let field = FIELDS.iter().find(|(k, f, _)| *k == kind && *f == key >> 3);
                if let Some(&(_, _, held)) = field {
                    *count += 1;
                    walk(inside, held, depth + 1, count);
                }
            }
            _ => return None,
        }
    }
    Some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_megabyte_of_empty_nodes_is_refused_unread() {
        let nodes = [0x0a, 0x00].repeat(MESSAGES_MAX + 1);
        let mut model = vec![0x3a];
        let mut length = nodes.len();
        while length > 127 {
            model.push((length & 127) as u8 | 128);
            length >>= 7;
        }
        model.push(length as u8);
        model.extend(nodes);
        let error = check(&model).unwrap_err().to_string();
        assert!(error.contains("found more than 262144"), "{error}");
    }
}
