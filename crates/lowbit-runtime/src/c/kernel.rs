//! The C functions that steps call, in the order in which a source holds them.

/// A file of `kernels`. What it uses stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kernel {
    Round,
    Quantize,
    ConvType,
    RowsPlain,
    RowsPacked,
    Conv,
    ConvFloats,
    Sum,
    ConvCodes,
    Add,
    Multiply,
    Table,
    GlobalAverage,
    Window,
    MaxPool,
    AveragePool,
    Concat,
    Sample,
    Reshape,
    Dequantize,
    Best,
}

impl Kernel {
    pub(super) fn text(self) -> &'static str {
        match self {
            Kernel::Round => include_str!("kernels/round.c"),
            Kernel::Quantize => include_str!("kernels/quantize.c"),
            Kernel::ConvType => include_str!("kernels/conv_type.c"),
            Kernel::RowsPlain => include_str!("kernels/rows_plain.c"),
            Kernel::RowsPacked => include_str!("kernels/rows_packed.c"),
            Kernel::Conv => include_str!("kernels/conv.c"),
            Kernel::ConvFloats => include_str!("kernels/conv_floats.c"),
            Kernel::Sum => include_str!("kernels/sum.c"),
            Kernel::ConvCodes => include_str!("kernels/conv_codes.c"),
            Kernel::Add => include_str!("kernels/add.c"),
            Kernel::Multiply => include_str!("kernels/multiply.c"),
            Kernel::Table => include_str!("kernels/table.c"),
            Kernel::GlobalAverage => include_str!("kernels/global_average.c"),
            Kernel::Window => include_str!("kernels/window.c"),
            Kernel::MaxPool => include_str!("kernels/max_pool.c"),
            Kernel::AveragePool => include_str!("kernels/average_pool.c"),
            Kernel::Concat => include_str!("kernels/concat.c"),
            Kernel::Sample => include_str!("kernels/sample.c"),
            Kernel::Reshape => include_str!("kernels/reshape.c"),
            Kernel::Dequantize => include_str!("kernels/dequantize.c"),
            Kernel::Best => include_str!("kernels/best.c"),
        }
    }
}
