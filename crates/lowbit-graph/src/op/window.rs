//! Where windows fall on the two spatial axes: the shape rule of convolutions and pools. Knows no data.

use super::AutoPad;
use crate::OpError;

/// Window attributes as the file gives them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowSpec {
    /// Window height and width.
    pub(crate) kernel: [usize; 2],
    /// Steps.
    pub(crate) strides: [usize; 2],
    /// Distance between window elements.
    pub(crate) dilations: [usize; 2],
    /// Top, left, bottom, right; used when `auto_pad` is `Explicit`.
    pub(crate) pads: [usize; 4],
    /// How pads are found.
    pub(crate) auto_pad: AutoPad,
    /// Whether a last partial window counts.
    pub(crate) ceil_mode: bool,
}

/// Windows laid over an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Windows along height and width.
    pub output: [usize; 2],
    /// Top, left, bottom, right, as resolved.
    pub pads: [usize; 4],
}

/// Largest extent or attribute: products of two stay far inside i64.
const EXTENT_MAX: usize = 1 << 30;

/// Lays windows over an input of height and width `input`.
///
/// With `auto_pad` explicit, out = round((in + pads - (dilation·(kernel - 1) + 1)) / stride) + 1, rounded down, or up
/// with `ceil_mode`, where a window that would start in the end padding is dropped (as ONNX since opset 19).
///
/// # Errors
/// `Invalid` when an attribute is 0 or absurd, or when no window fits.
pub(crate) fn resolve_window(input: [usize; 2], spec: &WindowSpec) -> Result<Window, OpError> {
    let (h, top, bottom) = resolve_axis_window(input[0], 0, spec)?;
    let (w, left, right) = resolve_axis_window(input[1], 1, spec)?;
    Ok(Window { output: [h, w], pads: [top, left, bottom, right] })
}

/// Elements a window spans: dilation·(kernel - 1) + 1.
pub(crate) fn span(kernel: usize, dilation: usize) -> usize {
    dilation * (kernel - 1) + 1
}

/// Output extent, pad before, pad after.
fn resolve_axis_window(
    input: usize,
    axis: usize,
    spec: &WindowSpec,
) -> Result<(usize, usize, usize), OpError> {
    let (kernel, stride) = (spec.kernel[axis], spec.strides[axis]);
    let dilation = spec.dilations[axis];
    let (before, after) = match spec.auto_pad {
        AutoPad::Explicit => (spec.pads[axis], spec.pads[axis + 2]),
        AutoPad::Valid | AutoPad::SameUpper | AutoPad::SameLower => (0, 0),
    };
    if kernel == 0 || stride == 0 || dilation == 0 {
        return Err(OpError::Invalid(format!(
            "kernel {kernel}, stride {stride}, dilation {dilation} on spatial axis {axis}: all must be positive"
        )));
    }
    if [input, kernel, stride, dilation, before, after].iter().any(|&x| x > EXTENT_MAX) {
        return Err(OpError::Invalid(format!(
            "an extent or window attribute on spatial axis {axis} exceeds {EXTENT_MAX}"
        )));
    }
    let span = span(kernel, dilation);
    if matches!(spec.auto_pad, AutoPad::SameUpper | AutoPad::SameLower) {
        let output = input.div_ceil(stride);
        let total = (output.saturating_sub(1) * stride + span).saturating_sub(input);
        let (small, large) = (total / 2, total - total / 2);
        return Ok(match spec.auto_pad {
            AutoPad::SameLower => (output, large, small),
            _ => (output, small, large),
        });
    }
    let Some(output) = output_extent([input, before, after], span, stride, spec.ceil_mode) else {
        return Err(OpError::Invalid(format!(
            "a window spanning {span} does not fit spatial axis {axis} of extent {input} with pads {before} and {after}"
        )));
    };
    Ok((output, before, after))
}

/// Windows of `span` that fit an axis of [extent, pad before, pad after]; `None` when none does.
fn output_extent(
    [input, before, after]: [usize; 3],
    span: usize,
    stride: usize,
    ceil_mode: bool,
) -> Option<usize> {
    let padded = input + before + after;
    if !ceil_mode {
        return Some(padded.checked_sub(span)? / stride + 1);
    }
    // ceil((padded - span) / stride) + 1 = floor((padded - span + stride - 1) / stride) + 1, also below zero.
    let output = (padded + stride - 1).checked_sub(span)? / stride + 1;
    let starts_in_end_padding = (output - 1) * stride >= input + before;
    let output = output - usize::from(starts_in_end_padding);
    (output > 0).then_some(output)
}

#[cfg(test)]
mod tests;
