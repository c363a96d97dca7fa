//! Operators that only move elements: between equal parameters they move the codes.

use lowbit_tensor::{DType, Tensor};

use super::{Coded, Lowering, Runs};
use crate::op::quantize_one;
use crate::{Node, Op};

impl Lowering {
    pub(super) fn movement(&mut self, node: &Node) -> Result<Runs, String> {
        let from = self.activation_input(node, 0)?;
        let to = self.quantized(node.output())?;
        if !self.equal(from, to) {
            return Err("its input and its result have different scales or zero points".into());
        }
        let dtype = self.code_type(from);
        if matches!(node.op, Op::MaxPool(_)) && !matches!(dtype, DType::U8 | DType::I8) {
            return Err(format!("codes are {dtype}, expected uint8 or int8"));
        }
        let mut moved = node.clone();
        moved.inputs[0] = Some(from.codes);
        moved.outputs = vec![Some(to.codes)];
        if matches!(node.op, Op::Pad(_)) {
            moved.inputs.resize(moved.inputs.len().max(3), None);
            moved.inputs[2] = Some(self.pad_code(node, from)?);
        }
        self.replace(node, vec![moved]);
        Ok(Runs::Codes)
    }

    fn equal(&self, a: Coded, b: Coded) -> bool {
        let (a, b) = (self.parameters(a), self.parameters(b));
        a.is_some() && a == b
    }

    /// The code of Pad's constant.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "in the code's range"
    )]
    fn pad_code(&mut self, node: &Node, coded: Coded) -> Result<crate::ValueId, String> {
        let value = match node.input(2) {
            None => 0.0,
            Some(value) => self
                .constant(value)
                .and_then(|c| c.as_slice::<f32>().ok()?.first().copied())
                .ok_or("its constant is computed")?,
        };
        let (scale, zero_point, range) = self.parameters(coded).ok_or("its scale is computed")?;
        let code = quantize_one(value, scale, zero_point, range);
        let tensor = match self.code_type(coded) {
            DType::U8 => Tensor::scalar(code as u8),
            DType::I8 => Tensor::scalar(code as i8),
            other => return Err(format!("codes are {other}, expected uint8 or int8")),
        };
        Ok(self.graph.add_constant(&format!("{}_code", node.name), tensor))
    }
}
