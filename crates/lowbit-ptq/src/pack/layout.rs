//! How codes lie in the file, so that what belongs to a group broadcasts over them.

use lowbit_quant::{CodedWeight, Granularity};

/// Dimensions of a weight's codes, output channels first.
pub(super) struct Layout {
    /// Of the codes; of a weight in groups [o, groups, codes in a group].
    pub(super) dims: Vec<usize>,
    /// Of what each group has one of: it broadcasts over `dims`.
    pub(super) groups: Vec<usize>,
    /// Whether a code stands for a vector, whose numbers are one more axis behind `dims`.
    pub(super) vectors: bool,
    /// Codes of an output channel, and how many more fill its last group.
    pub(super) row: (usize, usize),
}

impl Layout {
    /// `None` for vectors that end inside a group.
    pub(super) fn of(coded: &CodedWeight) -> Option<Layout> {
        let (shape, dimension) = (coded.shape(), coded.dimension());
        let channels = shape[0];
        let per_row = coded.codes().len() / channels.max(1);
        let vectors = dimension > 1;
        let whole = |groups| {
            let dims = if vectors { vec![coded.codes().len()] } else { shape.to_vec() };
            Layout { dims, groups, vectors, row: (per_row, 0) }
        };
        let tail = |rank: usize| vec![1; rank.saturating_sub(1)];
        let layout = match coded.granularity() {
            Granularity::Tensor => whole(vec![]),
            Granularity::Channel if !vectors => whole([vec![channels], tail(shape.len())].concat()),
            Granularity::Pixel => whole(shape.get(2..).unwrap_or_default().to_vec()),
            Granularity::Row => {
                let mut groups = shape.get(2..).unwrap_or_default().to_vec();
                groups.last_mut().into_iter().for_each(|width| *width = 1);
                whole(groups)
            }
            Granularity::Channel => Self::grouped(channels, per_row, (1, per_row)),
            Granularity::Group { size } => {
                let count = (per_row * dimension).div_ceil(size);
                if !size.is_multiple_of(dimension) {
                    return None;
                }
                Self::grouped(channels, per_row, (count, size / dimension))
            }
        };
        let cut = vectors && layout.row.1 > 0;
        (!cut).then_some(Layout { vectors, ..layout })
    }

    fn grouped(channels: usize, per_row: usize, (count, size): (usize, usize)) -> Layout {
        let dims = vec![channels, count, size];
        let row = (per_row, count * size - per_row);
        Layout { dims, groups: vec![channels, count, 1], vectors: false, row }
    }

    /// Numbers by code, in the order of `dims`.
    pub(super) fn lay(&self, codes: &[u16], number: impl Fn(usize) -> i32) -> Vec<i32> {
        let (per_row, filled) = self.row;
        let fill = || std::iter::repeat_n(number(0), filled);
        let row = |row: &[u16]| -> Vec<i32> {
            row.iter().map(|&code| number(code.into())).chain(fill()).collect()
        };
        codes.chunks(per_row.max(1)).flat_map(row).collect()
    }

    /// Dimensions of the scales.
    pub(super) fn scale_dims(&self) -> Vec<usize> {
        let mut dims = self.groups.clone();
        dims.extend(self.vectors.then_some(1));
        dims
    }

    /// Dimensions of the decoded weight before it is shaped back.
    pub(super) fn decoded_dims(&self, dimension: usize) -> Vec<usize> {
        let mut dims = self.dims.clone();
        dims.extend(self.vectors.then_some(dimension));
        dims
    }
}
