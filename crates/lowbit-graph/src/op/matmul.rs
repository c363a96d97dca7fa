//! Matrix products in float.

use lowbit_kernels::{GemmCall, MatShape, Order, PackedGemm, matmul};
use lowbit_tensor::{Shape, Tensor};

use super::conv::backward::give;
use super::reduce::sum_to;
use super::{Activation, Back, Gradients, Inputs};
use crate::{OpError, Workspace};

/// alpha · A' · B' + beta · C, where ' is an optional transpose; then the activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gemm {
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of C.
    pub beta: f32,
    /// Whether A is [k, m].
    pub transpose_a: bool,
    /// Whether B is [n, k].
    pub transpose_b: bool,
    /// Applied to the result; `None` on import, set by a pass.
    pub activation: Activation,
}

/// A constant right operand with its bias, and its sizes.
#[derive(Debug)]
pub(crate) struct PackedRight<W> {
    pub(crate) weight: W,
    pub(crate) k: usize,
    pub(crate) n: usize,
}

/// Rows and columns of an operand after its optional transpose.
pub(crate) fn extents(
    index: usize,
    tensor: &Tensor,
    transposed: bool,
) -> Result<[usize; 2], OpError> {
    super::inputs::expect_rank(index, tensor, 2)?;
    let (rows, columns) = (tensor.shape()[0], tensor.shape()[1]);
    Ok(if transposed { [columns, rows] } else { [rows, columns] })
}

/// Refuses operands whose inner extents differ.
pub(crate) fn same_inner(index: usize, found: usize, expected: usize) -> Result<(), OpError> {
    if found == expected {
        return Ok(());
    }
    Err(OpError::Input {
        index,
        found: format!("{found} rows"),
        expected: format!("{expected}, the left operand's columns"),
    })
}

/// [rows, columns] of values in the other order.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for column in 0..columns {
        out.extend((0..rows).map(|row| values[row * columns + column]));
    }
    out
}

/// [m, k] · [k, n], the right operand in either order.
fn product(
    left: &[f32],
    (right, order): (&[f32], Order),
    MatShape { m, k, n }: MatShape,
    work: &mut Workspace,
) -> Result<Vec<f32>, OpError> {
    let mut out = work.pool.floats(&[m, n].into())?;
    let activation = lowbit_kernels::Activation::None;
    let call = GemmCall { m, activation, parallel: work.parallel };
    PackedGemm::new(right, order, [k, n], None).run(left, &call, &mut out, &mut work.scratch);
    Ok(out)
}

impl Gemm {
    /// ONNX's defaults: A·B + C.
    pub const PLAIN: Gemm = Gemm {
        alpha: 1.0,
        beta: 1.0,
        transpose_a: false,
        transpose_b: false,
        activation: Activation::None,
    };

    /// Packs a constant B, and C when it is a constant row and the factors are 1.
    pub(crate) fn pack(
        &self,
        b: &Tensor,
        c: Option<&Tensor>,
    ) -> Result<PackedRight<PackedGemm>, OpError> {
        let [k, n] = extents(1, b, self.transpose_b)?;
        let inputs = [None, Some(b), c];
        let values = Inputs(&inputs).typed::<f32>(1, "B")?.1;
        let order = if self.transpose_b { Order::Nk } else { Order::Kn };
        let bias = match c {
            Some(c) if self.row_bias(c, n) => Some(c.f32s()),
            _ => None,
        };
        Ok(PackedRight { weight: PackedGemm::new(values, order, [k, n], bias), k, n })
    }

    /// Whether `c` can be added inside the kernel: one value per column, nothing scaled.
    pub(crate) fn row_bias(&self, c: &Tensor, n: usize) -> bool {
        let row = c.len() == n && c.shape().last() == Some(&n) && c.as_slice::<f32>().is_ok();
        row && (self.alpha, self.beta) == (1.0, 1.0)
    }

    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let packed = self.pack(inputs.required(1, "B")?, inputs.optional(2))?;
        self.run(&packed, inputs, work)
    }

    pub(crate) fn run(
        &self,
        packed: &PackedRight<PackedGemm>,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let (a, values) = inputs.typed::<f32>(0, "A")?;
        let [m, k] = extents(0, a, self.transpose_a)?;
        same_inner(1, packed.k, k)?;
        let shape = Shape::from([m, packed.n]);
        let mut out = work.pool.floats(&shape)?;
        let c = inputs.optional(2).filter(|c| !self.row_bias(c, packed.n));
        let plain = c.is_none() && self.alpha == 1.0;
        let activation = if plain { self.activation } else { Activation::None };
        let call = GemmCall { m, activation: activation.for_kernels(), parallel: work.parallel };
        let turned = if self.transpose_a { Some(transposed(values, k, m)) } else { None };
        packed.weight.run(turned.as_deref().unwrap_or(values), &call, &mut out, &mut work.scratch);
        if !plain {
            self.finish(c, (&mut out, &shape))?;
        }
        Ok(Tensor::new(shape, out))
    }

    /// dA' = alpha · g · B'ᵀ, dB' = alpha · A'ᵀ · g, dC = beta · g summed to its shape; each in the operand's own order.
    pub(crate) fn backward(
        &self,
        back: &Back<'_>,
        work: &mut Workspace,
    ) -> Result<Gradients, OpError> {
        let (a, left) = back.inputs.typed::<f32>(0, "A")?;
        let (b, right) = back.inputs.typed::<f32>(1, "B")?;
        let ([m, k], [_, n]) = (extents(0, a, self.transpose_a)?, extents(1, b, self.transpose_b)?);
        let grad = self.activation.backward(back.output()?.1, back.grad()?.1, work)?;
        let mut found = vec![None; 3];
        if back.wants(0) {
            let order = if self.transpose_b { Order::Kn } else { Order::Nk };
            let of_a = product(&grad, (right, order), MatShape { m, k: n, n: k }, work)?;
            let of_a = if self.transpose_a { transposed(&of_a, m, k) } else { of_a };
            found[0] = Some(self.scaled(a.shape(), of_a));
        }
        if back.wants(1) {
            let of_b = if self.transpose_b {
                let order = if self.transpose_a { Order::Nk } else { Order::Kn };
                let turned = transposed(&grad, m, n);
                product(&turned, (left, order), MatShape { m: n, k: m, n: k }, work)?
            } else {
                let turned = if self.transpose_a { None } else { Some(transposed(left, m, k)) };
                let turned = turned.as_deref().unwrap_or(left);
                product(turned, (&grad, Order::Kn), MatShape { m: k, k: m, n }, work)?
            };
            found[1] = Some(self.scaled(b.shape(), of_b));
        }
        if let Some(c) = back.inputs.optional(2).filter(|_| back.wants(2)) {
            let mut of_c = sum_to(&grad, &[m, n].into(), c.shape(), work)?;
            of_c.as_mut_slice::<f32>()?.iter_mut().for_each(|g| *g *= self.beta);
            found[2] = Some(of_c);
        }
        give(grad, work);
        Ok(found)
    }

    fn scaled(&self, shape: &Shape, mut values: Vec<f32>) -> Tensor {
        if self.alpha != 1.0 {
            values.iter_mut().for_each(|value| *value *= self.alpha);
        }
        Tensor::new(shape.clone(), values)
    }

    /// Scales the product and adds C by the general rule.
    fn finish(
        &self,
        c: Option<&Tensor>,
        (out, shape): (&mut [f32], &Shape),
    ) -> Result<(), OpError> {
        let inputs = [None, None, c];
        let (rows, columns) = match c {
            None => (0, 0),
            Some(c) if c.shape().broadcast(shape).as_ref() == Some(shape) => {
                let extent = |back: usize| c.rank().checked_sub(back).map_or(1, |i| c.shape()[i]);
                (extent(2), extent(1))
            }
            Some(c) => {
                return Err(OpError::Input {
                    index: 2,
                    found: format!("shape {}", c.shape()),
                    expected: format!("one that broadcasts to {shape}"),
                });
            }
        };
        let added = c.map(|_| Inputs(&inputs).typed::<f32>(2, "C")).transpose()?.map(|c| c.1);
        let activation = self.activation.for_kernels();
        for (i, y) in out.iter_mut().enumerate() {
            let (row, column) = (i / shape[1], i % shape[1]);
            let term =
                added.map_or(0.0, |c| c[row.min(rows - 1) * columns + column.min(columns - 1)]);
            *y = activation.apply(self.alpha * *y + self.beta * term);
        }
        Ok(())
    }
}

/// The layout of a batched product with numpy's rules.
pub(crate) struct Batches {
    pub(crate) shape: MatShape,
    /// The result's shape.
    pub(crate) result: Shape,
    /// Per product: which matrix of A and which of B.
    pub(crate) pairs: Vec<(usize, usize)>,
}

impl Batches {
    pub(crate) fn new(a: &Tensor, b: &Tensor) -> Result<Batches, OpError> {
        let wrong = |expected: &str| OpError::Input {
            index: 1,
            found: format!("shapes {} and {}", a.shape(), b.shape()),
            expected: expected.to_owned(),
        };
        if a.rank() == 0 || b.rank() == 0 {
            return Err(wrong("at least one axis"));
        }
        // A vector on the left is a row, on the right a column; the axis vanishes from the result.
        let left: Vec<usize> =
            if a.rank() == 1 { vec![1, a.shape()[0]] } else { a.shape().to_vec() };
        let right: Vec<usize> =
            if b.rank() == 1 { vec![b.shape()[0], 1] } else { b.shape().to_vec() };
        let (a_batch, a_matrix) = left.split_at(left.len() - 2);
        let (b_batch, b_matrix) = right.split_at(right.len() - 2);
        let [m, k, n] = [a_matrix[0], a_matrix[1], b_matrix[1]];
        if b_matrix[0] != k {
            return Err(wrong("inner extents that are equal"));
        }
        let (a_batch, b_batch) = (Shape::from(a_batch), Shape::from(b_batch));
        let batch =
            a_batch.broadcast(&b_batch).ok_or_else(|| wrong("batch axes that broadcast"))?;
        let count = batch.checked_len().ok_or_else(|| wrong("fewer products"))?;
        if count > 0 && m * n == 0 {
            return Err(wrong("no empty matrix"));
        }
        let pairs = (0..count)
            .map(|i| (matrix_at(&a_batch, &batch, i), matrix_at(&b_batch, &batch, i)))
            .collect();
        let mut result = batch.to_vec();
        if a.rank() > 1 {
            result.push(m);
        }
        if b.rank() > 1 {
            result.push(n);
        }
        Ok(Batches { shape: MatShape { m, k, n }, result: result.into(), pairs })
    }
}

/// Which of an operand's matrices, whose batch axes are `own`, meets the result's matrix at `position` of `batch`.
fn matrix_at(own: &Shape, batch: &Shape, position: usize) -> usize {
    let (mut index, mut rest) = (0, position);
    let strides = own.strides();
    for axis in (0..batch.len()).rev() {
        let at = rest % batch[axis];
        rest /= batch[axis];
        if let Some(i) = (axis + own.len()).checked_sub(batch.len())
            && own[i] > 1
        {
            index += at * strides[i];
        }
    }
    index
}

/// MatMul of two operands known only now.
pub(crate) fn forward(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let (a, left) = inputs.typed::<f32>(0, "A")?;
    let (b, right) = inputs.typed::<f32>(1, "B")?;
    let batches = Batches::new(a, b)?;
    let mut out = work.pool.floats(&batches.result)?;
    let MatShape { m, k, n } = batches.shape;
    for (&(i, j), y) in batches.pairs.iter().zip(out.chunks_exact_mut(m * n)) {
        let (x, w) = (&left[i * m * k..(i + 1) * m * k], &right[j * k * n..(j + 1) * k * n]);
        matmul(x, w, batches.shape, y, work.parallel);
    }
    Ok(Tensor::new(batches.result, out))
}

/// Per product dA += g · Bᵀ and dB += Aᵀ · g, in the order of the products.
pub(crate) fn backward(back: &Back<'_>, work: &mut Workspace) -> Result<Gradients, OpError> {
    let (a, left) = back.inputs.typed::<f32>(0, "A")?;
    let (b, right) = back.inputs.typed::<f32>(1, "B")?;
    let batches = Batches::new(a, b)?;
    let MatShape { m, k, n } = batches.shape;
    let grad = back.grad()?.1;
    let mut of_a = work.pool.floats(a.shape())?;
    let mut of_b = work.pool.floats(b.shape())?;
    of_a.fill(0.0);
    of_b.fill(0.0);
    for (&(i, j), grad) in batches.pairs.iter().zip(grad.chunks_exact((m * n).max(1))) {
        let (left_at, right_at) = (i * m * k..(i + 1) * m * k, j * k * n..(j + 1) * k * n);
        if back.wants(0) {
            let right = (&right[right_at.clone()], Order::Nk);
            let term = product(grad, right, MatShape { m, k: n, n: k }, work)?;
            add(&mut of_a[left_at.clone()], term, work);
        }
        if back.wants(1) {
            let turned = transposed(&left[left_at], m, k);
            let term = product(&turned, (grad, Order::Kn), MatShape { m: k, k: m, n }, work)?;
            add(&mut of_b[right_at], term, work);
        }
    }
    let mut found = vec![None; 2];
    for (index, (operand, sums)) in [(a, of_a), (b, of_b)].into_iter().enumerate() {
        let sums = Tensor::new(operand.shape().clone(), sums);
        if back.wants(index) {
            found[index] = Some(sums);
        } else {
            work.pool.give(sums);
        }
    }
    Ok(found)
}

/// Adds a term and gives its buffer back.
fn add(sum: &mut [f32], term: Vec<f32>, work: &mut Workspace) {
    sum.iter_mut().zip(&term).for_each(|(sum, term)| *sum += term);
    work.pool.give(Tensor::vector(term));
}
