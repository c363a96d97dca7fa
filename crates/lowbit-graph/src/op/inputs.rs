//! What an operator is given, with errors that say which input is wrong.

use lowbit_tensor::{DType, Element, Tensor};

use crate::OpError;

/// The tensors a node reads, in ONNX's order; absent optional inputs are `None`.
#[derive(Debug)]
pub struct Inputs<'a>(pub &'a [Option<&'a Tensor>]);

impl<'a> Inputs<'a> {
    /// How many positions are given.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The input at `index`, if given.
    #[must_use]
    pub fn optional(&self, index: usize) -> Option<&'a Tensor> {
        self.0.get(index).copied().flatten()
    }

    /// The input at `index`.
    ///
    /// # Errors
    /// `Missing` when it is not given.
    pub fn required(&self, index: usize, name: &'static str) -> Result<&'a Tensor, OpError> {
        self.optional(index).ok_or(OpError::Missing { index, name })
    }

    /// The input at `index` with its elements as `T`.
    ///
    /// # Errors
    /// `Missing` or `Input` when it is absent or of another type.
    pub fn typed<T: Element>(
        &self,
        index: usize,
        name: &'static str,
    ) -> Result<(&'a Tensor, &'a [T]), OpError> {
        let tensor = self.required(index, name)?;
        let values = tensor.as_slice::<T>().map_err(|_| OpError::Input {
            index,
            found: tensor.dtype().to_string(),
            expected: T::DTYPE.to_string(),
        })?;
        Ok((tensor, values))
    }

    /// The float input at `index`, which must have `rank` axes.
    ///
    /// # Errors
    /// `Missing` or `Input` when it is absent or different.
    pub fn float(
        &self,
        index: usize,
        name: &'static str,
        rank: usize,
    ) -> Result<(&'a Tensor, &'a [f32]), OpError> {
        let (tensor, values) = self.typed::<f32>(index, name)?;
        expect_rank(index, tensor, rank)?;
        Ok((tensor, values))
    }

    /// The integer values of a shape-like operand (axes, pads, bounds) at `index`, if given.
    ///
    /// # Errors
    /// `Input` when it is not of an integer type.
    pub fn integers(&self, index: usize) -> Result<Option<Vec<i64>>, OpError> {
        let Some(tensor) = self.optional(index) else {
            return Ok(None);
        };
        match tensor.dtype() {
            DType::I64 | DType::I32 => Ok(tensor.to_i64()),
            other => Err(OpError::Input {
                index,
                found: other.to_string(),
                expected: "int64 or int32".into(),
            }),
        }
    }

    /// The one float at `index`, if given.
    ///
    /// # Errors
    /// `Input` when it is not a float32 of one element.
    pub fn float_scalar(&self, index: usize) -> Result<Option<f32>, OpError> {
        let Some(tensor) = self.optional(index) else {
            return Ok(None);
        };
        match tensor.as_slice::<f32>() {
            Ok([value]) => Ok(Some(*value)),
            _ => Err(OpError::Input {
                index,
                found: format!("{}{}", tensor.dtype(), tensor.shape()),
                expected: "float32 of one element".into(),
            }),
        }
    }
}

/// Refuses a tensor of another rank.
pub(crate) fn expect_rank(index: usize, tensor: &Tensor, rank: usize) -> Result<(), OpError> {
    if tensor.rank() == rank {
        return Ok(());
    }
    Err(OpError::Input {
        index,
        found: format!("rank {} {}", tensor.rank(), tensor.shape()),
        expected: format!("rank {rank}"),
    })
}

/// Resolves an axis that may count from the end.
///
/// # Errors
/// `Invalid` when it is outside [-rank, rank).
pub(crate) fn resolve_axis(axis: i64, rank: usize) -> Result<usize, OpError> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let resolved = if axis < 0 { axis + signed } else { axis };
    match usize::try_from(resolved) {
        Ok(a) if a < rank => Ok(a),
        _ => Err(OpError::Invalid(format!("axis {axis} of a rank-{rank} tensor"))),
    }
}
