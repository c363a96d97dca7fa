//! Rounds one weight after the other and lets those not yet rounded make up for the error: GPTQ (Frantar et al. 2022,
//! arXiv:2210.17323), the fast form of optimal brain quantization (Frantar and Alistarh 2022, arXiv:2208.11580).
//!
//! With X what a layer reads (in the network quantized so far) and H = X·Xᵀ, the error of a row of weights is ΔwᵀHΔw. With the upper
//! triangle U of H⁻¹ = UᵀU:
//!
//! ```text
//! for each column j, the most active first:
//!     q_j = the level nearest to w_j
//!     w_k -= (w_j - q_j) / U_jj · U_jk    for all columns k behind j
//! ```
//!
//! As in the paper, with columns in the order of falling H_jj (the authors' code has it as an option). H is damped by a share of its mean
//! diagonal. A layer keeps its old rounding where the new one has the larger error.

mod cholesky;
mod moments;

use lowbit_graph::{Graph, Session};
use lowbit_quant::CodedWeight;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Progress, PtqError, QuantizedGraph, Samples, UnitReport, Weight};
use cholesky::inverse_factor;
use moments::{Moments, second_moments};

/// How [`gptq`] goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gptq {
    /// What is added to H's diagonal, as a share of its mean.
    pub damping: f64,
}

impl Gptq {
    /// The paper's: one percent.
    pub const PAPER: Gptq = Gptq { damping: 0.01 };
}

/// Rounds the weights of every layer anew. `progress` hears of every image, once a layer.
///
/// # Errors
/// `Sample` or `Graph` when an image cannot be read or run, `Value` names a layer that cannot be rounded.
pub fn gptq(
    float: &Graph,
    quantized: &QuantizedGraph,
    samples: &dyn Samples,
    settings: Gptq,
    progress: Progress<'_>,
) -> Result<(QuantizedGraph, Vec<UnitReport>), PtqError> {
    let mut rounded = quantized.clone();
    let mut reports = vec![];
    for index in 0..quantized.weights.len() {
        let weight = &rounded.weights[index];
        let node = rounded.graph.nodes.iter().find(|node| node.name == weight.node);
        let Some(input) = node.and_then(|node| node.input(0)) else { continue };
        if !has_ranks(&weight.coded) {
            continue;
        }
        let part = rounded.graph.between(rounded.graph.inputs.clone(), vec![input]);
        let session = Session::new(&part)?;
        let op = &float.nodes[weight.index].op;
        let moments = second_moments(&session, (op, &weight.shape), samples, progress)?;
        let coded = round(weight, &moments, settings)
            .map_err(|source| PtqError::Value { name: weight.node.clone(), source })?;
        let error = [&weight.coded, &coded].map(|coded| moments.error(coded, &weight.target));
        let images = samples.len();
        reports.push(UnitReport {
            name: weight.node.clone(),
            error: [error[0], error[0].min(error[1])],
            images,
        });
        if error[1] < error[0] {
            rounded.set_weight(index, coded);
        }
    }
    Ok((rounded, reports))
}

/// Whether codes are ranks of numbers.
fn has_ranks(coded: &CodedWeight) -> bool {
    coded.tables().iter().all(|table| table.levels().is_some())
}

/// All rows of a layer.
fn round(
    weight: &Weight,
    moments: &Moments,
    settings: Gptq,
) -> Result<CodedWeight, lowbit_quant::QuantError> {
    let columns = moments.columns;
    let mut codes = weight.coded.codes().to_vec();
    let rows_per_group = (weight.shape[0] / moments.groups.len().max(1)).max(1);
    for (group, h) in moments.groups.iter().enumerate() {
        let order = order(h, columns);
        let factor = inverse_factor(&damped(h, columns, &order, settings.damping), columns);
        let first = group * rows_per_group;
        let rows = &mut codes[first * columns..(first + rows_per_group) * columns];
        rows.par_chunks_mut(columns).enumerate().for_each(|(row, codes)| {
            round_row(weight, (first + row) * columns, (&order, &factor), codes);
        });
    }
    weight.coded.with_codes(codes)
}

/// Columns by falling activity.
fn order(h: &[f64], columns: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..columns).collect();
    order.sort_by(|&a, &b| h[b * columns + b].total_cmp(&h[a * columns + a]).then(a.cmp(&b)));
    order
}

/// H in that order, with a share of its mean diagonal added; a column that is never active gets 1.
fn damped(h: &[f64], columns: usize, order: &[usize], damping: f64) -> Vec<f64> {
    let mean = (0..columns).map(|j| h[j * columns + j]).sum::<f64>() / columns.max(1) as f64;
    let added = (damping * mean).max(f64::MIN_POSITIVE.sqrt());
    let mut damped = Vec::with_capacity(columns * columns);
    for &i in order {
        damped.extend(order.iter().map(|&j| h[i * columns + j]));
    }
    for j in 0..columns {
        let diagonal = &mut damped[j * columns + j];
        *diagonal = if *diagonal > 0.0 { *diagonal + added } else { 1.0 };
    }
    damped
}

fn round_row(
    weight: &Weight,
    first: usize,
    (order, factor): (&[usize], &[f64]),
    codes: &mut [u16],
) {
    let columns = order.len();
    let mut values: Vec<f64> = order.iter().map(|&j| f64::from(weight.target[first + j])).collect();
    for (j, &column) in order.iter().enumerate() {
        let (element, wanted) = (first + column, values[j]);
        let (below, above) = weight.coded.neighbours(element, wanted as f32);
        let off = |code: u16| (f64::from(weight.coded.value(element, code)) - wanted).abs();
        let nearest = if off(above) < off(below) { above } else { below };
        let pruned = weight.pruned.get(element) == Some(&true);
        let code = if pruned { codes[column] } else { nearest };
        codes[column] = code;
        let row = &factor[j * columns..(j + 1) * columns];
        let error = (wanted - f64::from(weight.coded.value(element, code))) / row[j];
        values[j + 1..].iter_mut().zip(&row[j + 1..]).for_each(|(w, u)| *w -= error * u);
    }
}

#[cfg(test)]
mod tests;
