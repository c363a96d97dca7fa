//! What sums lack where taps lie on pads.

use crate::nhwc::spec::ConvSpec;

/// Biases, or the most that counts may be, by the way in which a pixel lies at the edge.
#[derive(Clone, Debug)]
pub(super) struct Edges {
    /// Where the numbers of each row's missing taps begin.
    rows: Vec<usize>,
    /// Where those of each column's begin, from there on.
    columns: Vec<usize>,
    /// `[set of rows][set of columns][code][lane of all panels]`, with one code for biases.
    pub(super) numbers: Vec<i32>,
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
        let rows = rows.into_iter().map(|set| set * column_sets.len() * lanes).collect();
        let columns = columns.into_iter().map(|set| set * lanes).collect();
        Self { rows, columns, numbers: all, lanes }
    }

    /// Makes limits of biases: the greatest counts with which `bias - scale * count` reaches each code's least sum, `[code][output]`.
    pub(super) fn limit(&mut self, at_least: &[Vec<i32>], scale: i64) {
        let mut limits = Vec::with_capacity(self.numbers.len() * at_least.len());
        for bias in self.numbers.chunks_exact(self.lanes) {
            for least in at_least {
                let of_output = |(&bias, &least): (&i32, &i32)| {
                    let most = (i64::from(bias) - i64::from(least)).div_euclid(scale);
                    // A count is neither below 0 nor beyond `i32`.
                    most.clamp(-1, i32::MAX.into()) as i32
                };
                limits.extend(bias.iter().zip(least).map(of_output));
                // Bits beyond the outputs are clear.
                limits.resize(limits.len().next_multiple_of(self.lanes), -1);
            }
        }
        for place in self.rows.iter_mut().chain(&mut self.columns) {
            *place *= at_least.len();
        }
        self.numbers = limits;
    }

    /// Lanes of all panels.
    pub(super) fn lanes(&self) -> usize {
        self.lanes
    }

    /// Where the numbers of `R` pixels from row `y` and column `x` on begin, in rows of `width`.
    #[inline(always)]
    pub(super) fn at<const R: usize>(
        &self,
        [mut y, mut x]: [usize; 2],
        width: usize,
    ) -> [usize; R] {
        let mut places = [0; R];
        if x + R <= width {
            let (row, columns) = (self.rows[y], &self.columns[x..][..R]);
            for r in 0..R {
                places[r] = row + columns[r];
            }
            return places;
        }
        for place in &mut places {
            *place = self.rows[y] + self.columns[x];
            x += 1;
            if x == width {
                (y, x) = (y + 1, 0);
            }
        }
        places
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
