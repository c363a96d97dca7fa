//! What sums lack where taps lie on pads.

use crate::nhwc::spec::ConvSpec;

/// Biases by the way in which a pixel lies at the edge.
#[derive(Clone, Debug)]
pub(super) struct Edges {
    /// The set of each row's missing taps, times the number of sets of columns.
    rows: Vec<usize>,
    columns: Vec<usize>,
    /// `[set of rows][set of columns][lane of all panels]`.
    pub(super) bias: Vec<i32>,
    lanes: usize,
}

impl Edges {
    /// `zero` times the weights on pads is added to the biases: bits of a border are clear, which is a value of `-zero`.
    pub(super) fn new(
        spec: &ConvSpec,
        (weights, zero): (&[i8], i32),
        bias: &[i32],
        lanes: usize,
    ) -> Self {
        let (rows, row_sets) = missing(spec, 0);
        let (columns, column_sets) = missing(spec, 1);
        let taps = weights.len() / bias.len();
        let mut all = Vec::new();
        for rows in &row_sets {
            for columns in &column_sets {
                let first = all.len();
                all.resize(first + lanes, 0);
                for (output, weights) in weights.chunks_exact(taps).enumerate() {
                    let kernels = weights.chunks_exact(rows.len() * columns.len());
                    let on_pads: i32 = kernels
                        .flat_map(|kernel| kernel.iter().enumerate())
                        .filter(|(at, _)| rows[at / columns.len()] || columns[at % columns.len()])
                        .map(|(_, &weight)| i32::from(weight))
                        .sum();
                    all[first + output] = bias[output].wrapping_add(zero * on_pads);
                }
            }
        }
        let rows = rows.into_iter().map(|set| set * column_sets.len()).collect();
        Self { rows, columns, bias: all, lanes }
    }

    /// Lanes of all panels.
    pub(super) fn lanes(&self) -> usize {
        self.lanes
    }

    /// Where the biases of the pixel at row `y` and column `x` begin.
    #[inline(always)]
    pub(super) fn at(&self, y: usize, x: usize) -> usize {
        (self.rows[y] + self.columns[x]) * self.lanes
    }
}

/// For each place along an axis the index of its set, and the sets: which taps lie on pads.
fn missing(spec: &ConvSpec, axis: usize) -> (Vec<usize>, Vec<Vec<bool>>) {
    let (extent, outputs) =
        [(spec.input.height, spec.output.height), (spec.input.width, spec.output.width)][axis];
    let mut sets: Vec<Vec<bool>> = Vec::new();
    let of_output = |at: usize| {
        let set: Vec<bool> = (0..spec.kernel[axis])
            .map(|k| {
                let tap = at * spec.strides[axis] + k * spec.dilations[axis];
                tap < spec.pads[axis] || tap - spec.pads[axis] >= extent
            })
            .collect();
        sets.iter().position(|known| *known == set).unwrap_or_else(|| {
            sets.push(set);
            sets.len() - 1
        })
    };
    ((0..outputs).map(of_output).collect(), sets)
}
