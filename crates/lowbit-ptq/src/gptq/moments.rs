//! Second moments of what a layer reads: one matrix for each group of a convolution, summed over images and positions.

use lowbit_graph::{Activation, Gemm, Inputs, Op, Session, Workspace};
use lowbit_quant::CodedWeight;
use lowbit_tensor::Tensor;
use rayon::prelude::*;

use crate::pairs::groups;
use crate::unfold::Unfolded;
use crate::{Progress, PtqError, Samples};

/// X·Xᵀ of what each group of a layer reads, and how many columns X has.
pub(super) struct Moments {
    /// Row-major, `columns` a side.
    pub(super) groups: Vec<Vec<f64>>,
    /// Elements of a row of weights.
    pub(super) columns: usize,
    /// Positions summed over.
    positions: f64,
}

/// Bytes that the matrices of images under way may take.
const BYTES_UNDER_WAY: usize = 256 << 20;
/// Images under way at most.
const IMAGES_UNDER_WAY: usize = 16;

/// Runs every image up to the layer and sums. Matrices are added in image order: the same at any thread count.
pub(super) fn second_moments(
    session: &Session,
    (op, shape): (&Op, &[usize]),
    samples: &dyn Samples,
    progress: Progress<'_>,
) -> Result<Moments, PtqError> {
    let columns = shape.iter().skip(1).product::<usize>().max(1);
    let mut moments =
        Moments { groups: vec![vec![0.0; columns * columns]; groups(op)], columns, positions: 0.0 };
    let bytes = 4 * columns * columns * groups(op);
    let under_way = (BYTES_UNDER_WAY / bytes.max(1)).clamp(1, IMAGES_UNDER_WAY);
    for first in (0..samples.len()).step_by(under_way) {
        let indices: Vec<usize> = (first..(first + under_way).min(samples.len())).collect();
        let parts: Vec<(Vec<Vec<f32>>, usize)> = indices
            .par_iter()
            .map(|&index| {
                let image = samples.get(index);
                let image = image.map_err(|source| PtqError::Sample { index, source })?;
                let mut work = Workspace::serial();
                let read = session.run(&[image], &mut work)?.swap_remove(0);
                let part = image_moments((op, shape), &read, &mut work)?;
                progress(1);
                Ok(part)
            })
            .collect::<Result<_, PtqError>>()?;
        for (matrices, positions) in parts {
            for (sum, matrix) in moments.groups.iter_mut().zip(matrices) {
                sum.iter_mut().zip(matrix).for_each(|(sum, x)| *sum += f64::from(x));
            }
            moments.positions += positions as f64;
        }
    }
    Ok(moments)
}

impl Moments {
    /// Mean squared error of the layer's result: the mean over rows of ΔwᵀHΔw, per position.
    pub(super) fn error(&self, coded: &CodedWeight, target: &[f32]) -> f64 {
        let columns = self.columns;
        let decoded = coded.decode();
        let error: Vec<f64> = decoded.iter().zip(target).map(|(q, w)| f64::from(q - w)).collect();
        let rows = error.len() / columns;
        let rows_per_group = (rows / self.groups.len()).max(1);
        let row_error = |(i, row): (usize, &[f64])| -> f64 {
            let h = &self.groups[i / rows_per_group];
            let terms = row.iter().enumerate().filter(|(_, e)| **e != 0.0);
            let term = |(j, e): (usize, &f64)| {
                let line = h[j * columns..(j + 1) * columns].iter().zip(row);
                e * line.map(|(h, e)| h * e).sum::<f64>()
            };
            terms.map(term).sum()
        };
        let errors: Vec<f64> = error.par_chunks(columns).enumerate().map(row_error).collect();
        errors.iter().sum::<f64>() / (rows.max(1) as f64 * self.positions.max(1.0))
    }
}

/// The matrices of one image.
fn image_moments(
    (op, shape): (&Op, &[usize]),
    read: &Tensor,
    work: &mut Workspace,
) -> Result<(Vec<Vec<f32>>, usize), PtqError> {
    let unfolded = Unfolded::of((op, shape), read);
    let (columns, positions) = (unfolded.columns, unfolded.positions);
    let matrix = |values: Vec<f32>| product(values, [positions, columns], work);
    let matrices = unfolded.groups.into_iter().map(matrix).collect::<Result<_, PtqError>>()?;
    Ok((matrices, positions))
}

/// Below this many columns a matrix is summed in place.
const COLUMNS_IN_PLACE: usize = 32;

/// XᵀX of row-major X [positions, columns].
fn product(
    values: Vec<f32>,
    [positions, columns]: [usize; 2],
    work: &mut Workspace,
) -> Result<Vec<f32>, PtqError> {
    if columns < COLUMNS_IN_PLACE {
        let mut sums = vec![0.0; columns * columns];
        for row in values.chunks_exact(columns) {
            for (line, &x) in sums.chunks_exact_mut(columns).zip(row) {
                line.iter_mut().zip(row).for_each(|(sum, y)| *sum += x * y);
            }
        }
        return Ok(sums);
    }
    let x = Tensor::new([positions, columns], values);
    let gemm = Gemm {
        alpha: 1.0,
        beta: 1.0,
        transpose_a: true,
        transpose_b: false,
        activation: Activation::None,
    };
    let made = Op::Gemm(gemm).forward(&Inputs(&[Some(&x), Some(&x)]), work);
    let wrong =
        |source| lowbit_graph::GraphError::Op { node: "second moments".into(), op: "Gemm", source };
    Ok(made.map_err(wrong)?.swap_remove(0).f32s().to_vec())
}
