//! Operators on floats, packed for the float kernels. These take the tier of the graph's executor whatever that of the plan, for
//! results of different tiers differ by rounding.

use lowbit_kernels::nhwc::Pool;
use lowbit_kernels::{Activation, ConvGeometry, Order, PackedConv, PackedGemm, Scratch};

use super::StepInfo;
use crate::network::{self, FloatConv, FloatDense, Softmax};

/// An operator that can run.
#[derive(Debug)]
pub(super) enum Float {
    Conv(PackedConv, ConvGeometry, Activation),
    /// With the rows of its left operand.
    Dense(PackedGemm, usize, Activation),
    Softmax(Softmax),
}

impl Float {
    /// Packs weights; `info` gets what tables say of it.
    pub(super) fn new(float: &network::Float, info: &mut StepInfo) -> Float {
        match float {
            network::Float::Conv(conv) => {
                let geometry = geometry(conv);
                let (shape, bias) = (geometry.weight_shape(), conv.bias.as_deref());
                let packed = PackedConv::new(&conv.weights, shape, bias, conv.groups);
                info.kernel = Some(packed.kernel_name());
                (info.macs, info.weight_bytes) = (geometry.macs(), packed.weight_bytes());
                Float::Conv(packed, geometry, conv.activation.for_kernels())
            }
            network::Float::Dense(dense) => {
                let FloatDense { rows, columns, .. } = *dense;
                let order = if dense.transposed { Order::Nk } else { Order::Kn };
                let packed = PackedGemm::new(&dense.weights, order, columns, dense.bias.as_deref());
                info.kernel = Some(packed.kernel_name());
                info.macs = rows * columns[0] * columns[1];
                info.weight_bytes = packed.weight_bytes();
                Float::Dense(packed, rows, dense.activation.for_kernels())
            }
            network::Float::Softmax(softmax) => Float::Softmax(*softmax),
        }
    }

    /// Runs it on one image.
    pub(super) fn run(&self, x: &[f32], y: &mut [f32], room: (&Pool, &mut Scratch)) {
        match self {
            Float::Conv(packed, geometry, activation) => {
                packed.run_on(x, (geometry, *activation), y, room);
            }
            Float::Dense(packed, rows, activation) => {
                packed.run_on(x, (*rows, *activation), y, room);
            }
            Float::Softmax(Softmax { row, log }) => {
                let how = lowbit_graph::Softmax { axis: -1, log: *log, flatten: false };
                for (x, y) in x.chunks_exact(*row).zip(y.chunks_exact_mut(*row)) {
                    how.of_row(x, y);
                }
            }
        }
    }
}

fn geometry(conv: &FloatConv) -> ConvGeometry {
    let ([height, width, channels], [top, left], [bottom, right]) =
        (conv.image, conv.window.pads, conv.end_pads);
    ConvGeometry {
        channels_in: channels,
        channels_out: conv.outputs,
        input: [height, width],
        kernel: conv.window.kernel,
        strides: conv.window.strides,
        dilations: conv.window.dilations,
        pads: [top, left, bottom, right],
        groups: conv.groups,
    }
}
