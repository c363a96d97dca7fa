//! How much each weight's error matters to its layer's result, by what the layer reads.
//!
//! With inputs that do not correlate, E|Δw·x|² = Σ_j Δw_j²·E[x_j²]: the importance of a weight is the second moment of what it multiplies,
//! the diagonal of the Hessian of the layer's squared error (Choi et al. 2017, arXiv:1612.01543; And the Bit Goes Down, Stock et al. 2020,
//! arXiv:1907.05686).

use std::collections::BTreeMap;

use lowbit_graph::{Graph, Op, Session, Workspace};
use lowbit_tensor::Tensor;
use rayon::prelude::*;

use crate::insert::Rows;
use crate::unfold::Unfolded;
use crate::{Progress, PtqError, Samples};

/// Images under way at most.
const IMAGES_UNDER_WAY: usize = 16;

/// A layer whose weights get an importance.
struct Reader<'a> {
    index: usize,
    op: &'a Op,
    rows: Rows,
}

/// The second moment of what each weight of the layers at `nodes` multiplies, over images and positions: for each node one number a weight,
/// output channels as rows. Nodes that are no layers are left out. `progress` hears of every image.
///
/// # Errors
/// `Sample` or `Graph` when an image cannot be read or run.
pub fn importance(
    graph: &Graph,
    nodes: &[usize],
    samples: &dyn Samples,
    progress: Progress<'_>,
) -> Result<BTreeMap<usize, Vec<f32>>, PtqError> {
    let reader = |&index: &usize| {
        let node = &graph.nodes[index];
        Some(Reader { index, op: &node.op, rows: Rows::of(graph, node)? })
    };
    let readers: Vec<Reader<'_>> = nodes.iter().filter_map(reader).collect();
    let inputs = readers.iter().filter_map(|reader| graph.nodes[reader.index].input(0)).collect();
    let session = Session::new(&graph.between(graph.inputs.clone(), inputs))?;
    let mut sums: Vec<Sums> = readers.iter().map(|_| Sums::default()).collect();
    let indices: Vec<usize> = (0..samples.len()).collect();
    for chunk in indices.chunks(IMAGES_UNDER_WAY) {
        let one = |&index: &usize| -> Result<Vec<Sums>, PtqError> {
            let image = samples.get(index);
            let image = image.map_err(|source| PtqError::Sample { index, source })?;
            let made = session.run(&[image], &mut Workspace::serial())?;
            progress(1);
            Ok(readers.iter().zip(&made).map(|(reader, read)| Sums::of(reader, read)).collect())
        };
        let parts = chunk.par_iter().map(one).collect::<Result<Vec<_>, PtqError>>()?;
        for part in parts {
            sums.iter_mut().zip(part).for_each(|(sum, part)| sum.add(part));
        }
    }
    let each = readers.iter().zip(sums).map(|(reader, sums)| (reader.index, sums.rows(reader)));
    Ok(each.collect())
}

/// Sums of squares of the columns of each group, one group after the other.
#[derive(Default)]
struct Sums {
    squares: Vec<f64>,
    positions: usize,
}

impl Sums {
    /// Of one image.
    fn of(reader: &Reader<'_>, read: &Tensor) -> Sums {
        let unfolded = Unfolded::of((reader.op, &reader.rows.shape), read);
        let columns = unfolded.columns;
        let mut squares = vec![0.0f64; columns * unfolded.groups.len()];
        for (sums, values) in squares.chunks_mut(columns).zip(&unfolded.groups) {
            for row in values.chunks_exact(columns) {
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(x * x));
            }
        }
        Sums { squares, positions: unfolded.positions }
    }

    fn add(&mut self, part: Sums) {
        self.squares.resize(part.squares.len(), 0.0);
        self.squares.iter_mut().zip(part.squares).for_each(|(sum, x)| *sum += x);
        self.positions += part.positions;
    }

    /// The mean of its group for each weight of every row.
    fn rows(self, reader: &Reader<'_>) -> Vec<f32> {
        let (columns, channels) = (reader.rows.per_channel(), reader.rows.channels());
        let groups = (self.squares.len() / columns).max(1);
        let count = self.positions.max(1) as f64;
        let mean: Vec<f32> = self.squares.iter().map(|sum| (sum / count) as f32).collect();
        let row = |o: usize| &mean[o / (channels / groups).max(1) * columns..][..columns];
        (0..channels).flat_map(row).copied().collect()
    }
}

#[cfg(test)]
mod tests;
