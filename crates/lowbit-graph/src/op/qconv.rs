//! Integer convolution: the exact sums, and their requantization.

use lowbit_kernels::{PackedQConv, QConvCall, Requantization, requantize};
use lowbit_tensor::{DType, Shape, Tensor};

use super::conv::PackedWeight;
use super::qparams::{Code, QParam, by_code_type};
use super::{Activation, Conv, Inputs, qparams};
use crate::{OpError, Workspace};

/// Taps per output beyond which an int32 sum might overflow.
const TAPS_MAX: usize = 33_025;

/// Packs a constant integer weight with its zero points.
pub(crate) fn pack(
    conv: &Conv,
    index: usize,
    weight: &Tensor,
    zero_points: Option<&Tensor>,
) -> Result<PackedWeight<PackedQConv>, OpError> {
    let shape = conv.weight_shape(index, weight)?;
    if shape[1] * shape[2] * shape[3] > TAPS_MAX {
        return Err(OpError::Unsupported {
            what: "taps of an integer convolution",
            found: (shape[1] * shape[2] * shape[3]).to_string(),
            supported: "33025, beyond which int32 may overflow",
        });
    }
    let zero_points = qparams::zero_points(zero_points, shape[0])?;
    let groups = conv.groups;
    let inputs = [Some(weight)];
    let packed = match weight.dtype() {
        DType::I8 => {
            let codes = Inputs(&inputs).typed::<i8>(0, "w")?.1;
            PackedQConv::new(i8::slice(codes), shape, &zero_points, groups)
        }
        DType::U8 => {
            let codes = Inputs(&inputs).typed::<u8>(0, "w")?.1;
            PackedQConv::new(u8::slice(codes), shape, &zero_points, groups)
        }
        other => {
            return Err(OpError::Input {
                index,
                found: other.to_string(),
                expected: "int8 or uint8".into(),
            });
        }
    };
    Ok(PackedWeight { weight: packed, shape })
}

/// The exact int32 sums, without bias.
fn accumulate<T: Code>(
    conv: &Conv,
    packed: &PackedWeight<PackedQConv>,
    (x, zero_point): (&Tensor, i32),
    work: &mut Workspace,
) -> Result<(Vec<i32>, Shape), OpError> {
    let (geometry, shape) = conv.geometry(x, packed.shape)?;
    let mut sums = work.pool.sums(&shape)?;
    let call = QConvCall {
        n: x.shape()[0],
        geometry: &geometry,
        x_zero_point: zero_point,
        parallel: work.parallel,
    };
    let codes = T::slice(x.as_slice::<T>()?);
    packed.weight.run(codes, &call, &mut sums, &mut work.scratch);
    Ok((sums, shape))
}

/// `rint(f32(sum + bias) · f32(f32(s_x·s_w[o]) / s_y)) + z_y`.
pub(crate) fn qlinear(
    conv: &Conv,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let packed = pack(conv, 3, inputs.required(3, "w")?, inputs.optional(5))?;
    run(conv, &packed, inputs, work)
}

/// [`qlinear`] with a weight packed before.
pub(crate) fn run(
    conv: &Conv,
    packed: &PackedWeight<PackedQConv>,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    if conv.activation != Activation::None {
        return Err(OpError::Invalid("an activation is not fused into integer codes".into()));
    }
    by_code_type!(inputs, 0, run_of(conv, packed, inputs, work))
}

fn run_of<T: Code>(
    conv: &Conv,
    packed: &PackedWeight<PackedQConv>,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let x = inputs.required(0, "x")?;
    let (from, to) = (QParam::read::<T>(inputs, 1)?, QParam::read::<T>(inputs, 6)?);
    let (_, scales) = inputs.typed::<f32>(4, "w_scale")?;
    let channels = packed.shape[0];
    let bias = inputs.optional(8).map(|_| inputs.typed::<i32>(8, "B")).transpose()?;
    let per_channel = [(4, scales.len(), true), (8, bias.map_or(0, |b| b.1.len()), bias.is_some())];
    for (index, found, given) in per_channel {
        if given && found != channels && !(index == 4 && found == 1) {
            return Err(OpError::Input {
                index,
                found: format!("{found} elements"),
                expected: format!("{channels}, one per output channel"),
            });
        }
    }
    let (sums, shape) = accumulate::<T>(conv, packed, (x, from.zero_point), work)?;
    let mut out = T::buffer(work, &shape)?;
    let plane = shape[2] * shape[3];
    for (i, (sums, codes)) in
        sums.chunks_exact(plane.max(1)).zip(out.chunks_exact_mut(plane.max(1))).enumerate()
    {
        let channel = i % channels;
        let scale = scales[if scales.len() == 1 { 0 } else { channel }];
        let how = Requantization {
            bias: bias.map_or(0, |b| b.1[channel]),
            multiplier: from.scale * scale / to.scale,
            zero_point: to.zero_point,
        };
        requantize(sums, how, codes);
    }
    work.pool.give_sums(sums);
    Ok(Tensor::new(shape, out))
}

/// ConvInteger: the exact sums.
pub(crate) fn integer(
    conv: &Conv,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    by_code_type!(inputs, 0, integer_of(conv, inputs, work))
}

fn integer_of<T: Code>(
    conv: &Conv,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let packed = pack(conv, 1, inputs.required(1, "w")?, inputs.optional(3))?;
    let zero_point = qparams::zero_point::<T>(inputs, 2)?;
    let x = inputs.required(0, "x")?;
    let (sums, shape) = accumulate::<T>(conv, &packed, (x, zero_point), work)?;
    Ok(Tensor::new(shape, sums))
}

#[cfg(test)]
mod tests;
