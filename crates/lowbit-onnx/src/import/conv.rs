//! Convolutions. One-dimensional ones become two-dimensional between an Unsqueeze and a Squeeze.

use lowbit_graph::{Activation, AutoPad, Conv, Op, ValueId};
use lowbit_tensor::Tensor;

use super::node::NodeImport;
use crate::OnnxError;

/// Number of spatial axes of a window operator.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Spatial {
    One,
    Two,
}

/// Where a lifted axis goes: [n, c, w] becomes [n, c, 1, w].
const LIFTED_AXIS: i64 = 2;

/// What convolutions and pools have in common, lifted to two axes.
pub(super) struct Window {
    pub(super) spatial: Spatial,
    pub(super) kernel: Option<[usize; 2]>,
    pub(super) strides: [usize; 2],
    pub(super) dilations: [usize; 2],
    pub(super) pads: [usize; 4],
    pub(super) auto_pad: AutoPad,
}

impl Window {
    /// Reads the attributes; `rank` is that of the input or the weight, if known.
    pub(super) fn read(
        node: &mut NodeImport<'_, '_>,
        rank: Option<usize>,
    ) -> Result<Self, OnnxError> {
        let kernel = node.sizes("kernel_shape")?;
        let spatial = match kernel.as_ref().map(Vec::len).or(rank.map(|r| r.saturating_sub(2))) {
            Some(1) => Spatial::One,
            // A graph of unknown ranks: the operator checks them when it runs.
            Some(2) | None => Spatial::Two,
            Some(other) => return Err(node.wrong("spatial axes", other, "1 or 2")),
        };
        let kernel = kernel.map(|k| pair(node, "kernel_shape", &k, spatial)).transpose()?;
        let mut steps = |name: &str| match node.sizes(name)? {
            None => Ok([1, 1]),
            Some(given) => pair(node, name, &given, spatial),
        };
        let strides = steps("strides")?;
        let dilations = steps("dilations")?;
        for (name, values) in [
            ("strides", strides),
            ("dilations", dilations),
            ("kernel_shape", kernel.unwrap_or([1, 1])),
        ] {
            if values.contains(&0) {
                return Err(node.attribute_error(name, "0", "1 or more"));
            }
        }
        let auto_pad = auto_pad(node)?;
        let pads = pads(node, spatial)?;
        if auto_pad != AutoPad::Explicit && pads != [0; 4] {
            return Err(node.attribute_error(
                "pads",
                format!("{pads:?} beside auto_pad"),
                "one of the two",
            ));
        }
        Ok(Window { spatial, kernel, strides, dilations, pads, auto_pad })
    }
}

fn pair(
    node: &NodeImport<'_, '_>,
    name: &str,
    given: &[usize],
    spatial: Spatial,
) -> Result<[usize; 2], OnnxError> {
    match (given, spatial) {
        (&[h, w], Spatial::Two) => Ok([h, w]),
        (&[w], Spatial::One) => Ok([1, w]),
        _ => Err(node.attribute_error(
            name,
            format!("{given:?}"),
            "one value per spatial axis, 1 or 2 of them",
        )),
    }
}

fn auto_pad(node: &mut NodeImport<'_, '_>) -> Result<AutoPad, OnnxError> {
    match node.string("auto_pad")?.as_deref() {
        None | Some("NOTSET") => Ok(AutoPad::Explicit),
        Some("SAME_UPPER") => Ok(AutoPad::SameUpper),
        Some("SAME_LOWER") => Ok(AutoPad::SameLower),
        Some("VALID") => Ok(AutoPad::Valid),
        Some(other) => {
            Err(node.attribute_error("auto_pad", other, "NOTSET, SAME_UPPER, SAME_LOWER, VALID"))
        }
    }
}

fn pads(node: &mut NodeImport<'_, '_>, spatial: Spatial) -> Result<[usize; 4], OnnxError> {
    match (node.sizes("pads")?.as_deref(), spatial) {
        (None, _) => Ok([0; 4]),
        (Some(&[top, left, bottom, right]), Spatial::Two) => Ok([top, left, bottom, right]),
        (Some(&[left, right]), Spatial::One) => Ok([0, left, 0, right]),
        (Some(other), _) => {
            let supported = "a begin and an end per spatial axis, 1 or 2 of them";
            Err(node.attribute_error("pads", format!("{other:?}"), supported))
        }
    }
}

pub(super) fn conv(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let (conv, spatial) = read(node, 1)?;
    Ok(lift(node, Op::Conv(conv), spatial, &[0, 1]))
}

pub(super) fn conv_integer(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let (conv, spatial) = read(node, 1)?;
    Ok(lift(node, Op::ConvInteger(conv), spatial, &[0, 1]))
}

pub(super) fn qlinear_conv(node: &mut NodeImport<'_, '_>) -> Result<Op, OnnxError> {
    let (conv, spatial) = read(node, 3)?;
    Ok(lift(node, Op::QLinearConv(conv), spatial, &[0, 3]))
}

fn read(node: &mut NodeImport<'_, '_>, weight: usize) -> Result<(Conv, Spatial), OnnxError> {
    let rank = node.rank(weight).or(node.rank(0));
    let window = Window::read(node, rank)?;
    let group = node.int("group")?.unwrap_or(1);
    let groups = usize::try_from(group).ok().filter(|&g| g > 0);
    let groups = groups.ok_or_else(|| node.attribute_error("group", group, "1 or more"))?;
    let conv = Conv {
        kernel: window.kernel,
        strides: window.strides,
        dilations: window.dilations,
        pads: window.pads,
        auto_pad: window.auto_pad,
        groups,
        activation: Activation::None,
    };
    Ok((conv, window.spatial))
}

/// Gives the inputs at `lifted` a second spatial axis and takes it from the result.
pub(super) fn lift(
    node: &mut NodeImport<'_, '_>,
    op: Op,
    spatial: Spatial,
    lifted: &[usize],
) -> Op {
    if spatial == Spatial::Two {
        return op;
    }
    for &index in lifted {
        let unsqueezed = unsqueeze(node, node.inputs[index]);
        node.inputs[index] = Some(unsqueezed);
    }
    let inputs = std::mem::take(&mut node.inputs);
    let wide = node.push("2d", op, inputs);
    let axes = node.constant("axes", Tensor::vector(vec![LIFTED_AXIS]));
    node.inputs = vec![Some(wide), Some(axes)];
    Op::Squeeze
}

fn unsqueeze(node: &mut NodeImport<'_, '_>, value: Option<ValueId>) -> ValueId {
    let axes = node.constant("axes", Tensor::vector(vec![LIFTED_AXIS]));
    node.push("lifted", Op::Unsqueeze, vec![value, Some(axes)])
}
