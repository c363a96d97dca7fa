//! What a layer multiplies its weights with, position by position.

use lowbit_graph::{AutoPad, Conv, Op};
use lowbit_tensor::Tensor;

/// What a layer multiplies its rows of weights with: for each group [positions, columns].
pub(crate) struct Unfolded {
    pub(crate) groups: Vec<Vec<f32>>,
    pub(crate) columns: usize,
    pub(crate) positions: usize,
}

impl Unfolded {
    /// `shape` is that of the weight with output channels as rows, `read` what the layer reads of one image.
    pub(crate) fn of((op, shape): (&Op, &[usize]), read: &Tensor) -> Unfolded {
        if let Op::Conv(conv) = op {
            return Unfolded::of_convolution(conv, shape, read);
        }
        let columns = shape.iter().skip(1).product::<usize>().max(1);
        let positions = read.len() / columns;
        Unfolded { groups: vec![read.f32s().to_vec()], columns, positions }
    }

    /// `shape` is [o, i, kh, kw], `read` [1, c, h, w].
    fn of_convolution(conv: &Conv, shape: &[usize], read: &Tensor) -> Unfolded {
        let (per_group, kernel) = (shape[1], [shape[2], shape[3]]);
        let size = [read.shape()[2], read.shape()[3]];
        let [vertical, horizontal] =
            [0, 1].map(|axis| window(conv, axis, kernel[axis], size[axis]));
        let (values, plane) = (read.f32s(), size[0] * size[1]);
        let columns = per_group * kernel[0] * kernel[1];
        let group = |group: usize| {
            let mut rows = Vec::with_capacity(vertical.count * horizontal.count * columns);
            for y in 0..vertical.count {
                for x in 0..horizontal.count {
                    for c in 0..per_group {
                        let channel = &values[(group * per_group + c) * plane..][..plane];
                        for ky in 0..kernel[0] {
                            let row =
                                vertical.at(y, ky).map(|y| &channel[y * size[1]..][..size[1]]);
                            rows.extend((0..kernel[1]).map(|kx| {
                                row.and_then(|row| Some(row[horizontal.at(x, kx)?])).unwrap_or(0.0)
                            }));
                        }
                    }
                }
            }
            rows
        };
        let groups = (0..conv.groups.max(1)).map(group).collect();
        Unfolded { groups, columns, positions: vertical.count * horizontal.count }
    }
}

/// Where the taps of a kernel fall along one axis.
struct Window {
    size: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    count: usize,
}

impl Window {
    /// The element under a tap at a position; `None` on padding.
    fn at(&self, position: usize, tap: usize) -> Option<usize> {
        let at = (position * self.stride + tap * self.dilation).checked_sub(self.before)?;
        (at < self.size).then_some(at)
    }
}

fn window(conv: &Conv, axis: usize, kernel: usize, size: usize) -> Window {
    let (stride, dilation) = (conv.strides[axis], conv.dilations[axis]);
    let extent = (kernel - 1) * dilation + 1;
    let same = size.div_ceil(stride);
    let padding = ((same - 1) * stride + extent).saturating_sub(size);
    let (before, after) = match conv.auto_pad {
        AutoPad::Explicit => (conv.pads[axis], conv.pads[axis + 2]),
        AutoPad::Valid => (0, 0),
        AutoPad::SameUpper => (padding / 2, padding.div_ceil(2)),
        AutoPad::SameLower => (padding.div_ceil(2), padding / 2),
    };
    let count = (size + before + after).saturating_sub(extent) / stride + 1;
    Window { size, stride, dilation, before, count }
}
