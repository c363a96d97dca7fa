//! Pooling over windows.

use lowbit_graph::{Op, Pool2d};

use super::conv::{Spatial, Window, lift};
use super::node::NodeImport;
use crate::OnnxError;

pub(super) fn max(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    // How the second output counts; `check_arity` refuses graphs that read it.
    node.flag("storage_order", false)?;
    let (pool, spatial) = read(node, false)?;
    Ok(lift(node, Op::MaxPool(pool), spatial, &[0]))
}

pub(super) fn average(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let count_include_pad = node.flag("count_include_pad", false)?;
    let (pool, spatial) = read(node, count_include_pad)?;
    Ok(lift(node, Op::AveragePool(pool), spatial, &[0]))
}

pub(super) fn qlinear_average(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    node.only("channels_last", 0)?;
    let count_include_pad = node.flag("count_include_pad", false)?;
    let (pool, spatial) = read(node, count_include_pad)?;
    Ok(lift(node, Op::QLinearAveragePool(pool), spatial, &[0]))
}

fn read(
    node: &mut NodeImport<'_, '_>,
    count_include_pad: bool,
) -> Result<(Pool2d, Spatial), OnnxError> {
    let window = Window::read(node, node.rank(0))?;
    let ceil_mode = node.flag("ceil_mode", false)?;
    let Some(kernel) = window.kernel else {
        return Err(node.attribute_error("kernel_shape", "none", "the window's extents"));
    };
    let pool = Pool2d {
        kernel,
        strides: window.strides,
        dilations: window.dilations,
        pads: window.pads,
        auto_pad: window.auto_pad,
        ceil_mode,
        count_include_pad,
    };
    Ok((pool, window.spatial))
}
