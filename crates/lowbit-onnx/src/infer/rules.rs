//! One rule per operator: what its result's dimensions and element type are, as far as its inputs tell.

use lowbit_graph::Op;
use lowbit_tensor::DType;

use super::{Dims, Known};

/// Keeps a file from claiming an absurd number of axes.
const RANK_MAX: usize = 64;

/// The element type of output `index`.
pub(super) fn dtype(known: &Known<'_>, index: usize) -> Option<DType> {
    let codes = |zero_point: usize| known.dtype(zero_point).or(Some(DType::U8));
    match &known.node.op {
        Op::Binary(binary) if binary.is_comparison() => Some(DType::Bool),
        Op::Shape(_) => Some(DType::I64),
        Op::ConstantOfShape(constant) => Some(constant.value.dtype()),
        Op::Cast(cast) => Some(cast.to),
        Op::QuantizeLinear(quantize) => Some(quantize.to),
        Op::DequantizeLinear(_) => Some(DType::F32),
        Op::DynamicQuantizeLinear if index == 1 => Some(DType::F32),
        Op::DynamicQuantizeLinear => Some(DType::U8),
        Op::ConvInteger(_) | Op::MatMulInteger => Some(DType::I32),
        Op::QGemm(_) if known.node.input(7).is_none() => Some(DType::F32),
        Op::QGemm(_) => codes(8),
        Op::QLinearConcat(_) => known.dtype(1),
        Op::Where => known.dtype(1),
        _ => known.dtype(0),
    }
}

/// The dimensions of the first output.
pub(super) fn dims(known: &Known<'_>) -> Dims {
    match &known.node.op {
        Op::Conv(_) | Op::ConvInteger(_) => conv(known.dims(0), known.dims(1)),
        Op::QLinearConv(_) => conv(known.dims(0), known.dims(3)),
        Op::Gemm(g) => gemm(known.dims(0), known.dims(1), g.transpose_a, g.transpose_b),
        Op::QGemm(g) => gemm(known.dims(0), known.dims(3), g.transpose_a, g.transpose_b),
        Op::MatMul | Op::MatMulInteger => matmul(known.dims(0)?, known.dims(1)?),
        Op::QLinearMatMul => matmul(known.dims(0)?, known.dims(3)?),
        Op::Binary(_) => broadcast(known.dims(0)?, known.dims(1)?),
        Op::QLinearAdd | Op::QLinearMul => broadcast(known.dims(0)?, known.dims(3)?),
        Op::Where => broadcast(broadcast(known.dims(0)?, known.dims(1)?)?, known.dims(2)?),
        Op::MaxPool(_) | Op::AveragePool(_) | Op::QLinearAveragePool(_) => {
            spatial(known.dims(0)?, None)
        }
        Op::GlobalAveragePool | Op::GlobalMaxPool | Op::QLinearGlobalAveragePool => {
            spatial(known.dims(0)?, Some(1))
        }
        Op::Reduce(reduce) => reduced(known, reduce.keep_dims, reduce.noop_with_empty_axes),
        Op::Concat(concat) => joined(known, 0..known.node.inputs.len(), concat.axis),
        Op::QLinearConcat(concat) => {
            joined(known, (2..known.node.inputs.len()).step_by(3), concat.axis)
        }
        Op::Split(split) => forget(known.dims(0)?, &[split.axis]),
        Op::Slice => slice(known),
        Op::Pad(_) => pad(known),
        Op::Reshape(reshape) => reshaped(known, reshape.allow_zero),
        Op::Flatten(flatten) => flat(&known.dims(0)?, flatten.axis),
        Op::Squeeze => squeeze(known),
        Op::Unsqueeze => unsqueeze(known),
        Op::Transpose(transpose) => transposed(known.dims(0)?, transpose.perm.as_deref()),
        Op::Gather(gather) => gathered(&known.dims(0)?, &known.dims(1)?, gather.axis),
        Op::Shape(s) => Some(vec![known.dims(0).map(|x| window(x.len(), s.start, s.end))]),
        Op::ConstantOfShape(_) => named(known, 0),
        Op::Expand => broadcast(known.dims(0)?, named(known, 1)?),
        Op::BatchNorm(_)
        | Op::LayerNorm(_)
        | Op::Unary(_)
        | Op::Clip
        | Op::PRelu
        | Op::Softmax(_) => known.dims(0),
        Op::Cast(_) | Op::Identity | Op::QuantizeLinear(_) | Op::DequantizeLinear(_) => {
            known.dims(0)
        }
        Op::DynamicQuantizeLinear | Op::QLinearUnary(_) | Op::QLinearSoftmax(_) => known.dims(0),
    }
}

/// An axis that may count from the end.
fn axis(axis: i64, rank: usize) -> Option<usize> {
    let signed = i64::try_from(rank).ok()?;
    let from_start = if axis < 0 { axis.checked_add(signed)? } else { axis };
    usize::try_from(from_start).ok().filter(|&a| a < rank)
}

fn conv(x: Dims, weight: Dims) -> Dims {
    let batch = x.and_then(|x| x.first().copied().flatten());
    let outputs = weight.and_then(|w| w.first().copied().flatten());
    Some(vec![batch, outputs, None, None])
}

fn gemm(a: Dims, b: Dims, transpose_a: bool, transpose_b: bool) -> Dims {
    let at = |dims: Dims, i: usize| dims.and_then(|d| d.get(i).copied().flatten());
    Some(vec![at(a, usize::from(transpose_a)), at(b, usize::from(!transpose_b))])
}

fn matmul(mut a: Vec<Option<usize>>, mut b: Vec<Option<usize>>) -> Dims {
    let (vector_a, vector_b) = (a.len() == 1, b.len() == 1);
    if vector_a {
        a.insert(0, Some(1));
    }
    if vector_b {
        b.push(Some(1));
    }
    if a.len() < 2 || b.len() < 2 {
        return None;
    }
    let (n, _) = (b.pop()?, b.pop()?);
    let (_, m) = (a.pop()?, a.pop()?);
    let mut dims = broadcast(a, b)?;
    dims.extend((!vector_a).then_some(m));
    dims.extend((!vector_b).then_some(n));
    Some(dims)
}

fn broadcast(a: Vec<Option<usize>>, b: Vec<Option<usize>>) -> Dims {
    let (mut long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let offset = long.len() - short.len();
    for (l, s) in long[offset..].iter_mut().zip(short) {
        *l = match (*l, s) {
            (Some(1), other) | (other, Some(1)) => other,
            (Some(extent), _) | (_, Some(extent)) => Some(extent),
            (None, None) => None,
        };
    }
    Some(long)
}

fn spatial(mut x: Vec<Option<usize>>, extent: Option<usize>) -> Dims {
    x.iter_mut().skip(2).for_each(|d| *d = extent);
    Some(x)
}

fn forget(mut x: Vec<Option<usize>>, axes: &[i64]) -> Dims {
    for &a in axes {
        let a = axis(a, x.len())?;
        x[a] = None;
    }
    Some(x)
}

fn reduced(known: &Known<'_>, keep_dims: bool, noop: bool) -> Dims {
    let x = known.dims(0)?;
    let axes = match known.node.input(1) {
        None => Some(vec![]),
        Some(_) => known.ints(1),
    };
    let Some(axes) = axes else {
        let gone = if keep_dims { 0 } else { count(known, 1)? };
        return Some(vec![None; x.len().checked_sub(gone)?]);
    };
    if axes.is_empty() && noop {
        return Some(x);
    }
    let gone: Option<Vec<usize>> = axes.iter().map(|&a| axis(a, x.len())).collect();
    let gone = gone?;
    let hit = |i: &usize| gone.is_empty() || gone.contains(i);
    let rank = 0..x.len();
    if keep_dims {
        return Some(rank.map(|i| if hit(&i) { Some(1) } else { x[i] }).collect());
    }
    Some(rank.filter(|i| !hit(i)).map(|i| x[i]).collect())
}

fn joined(known: &Known<'_>, parts: impl Iterator<Item = usize>, at: i64) -> Dims {
    let parts: Vec<Dims> = parts.map(|i| known.dims(i)).collect();
    let mut dims = parts.iter().flatten().next()?.clone();
    let at = axis(at, dims.len())?;
    let mut along = parts.iter().map(|p| p.as_ref()?.get(at).copied().flatten());
    dims[at] = along.try_fold(0usize, |sum, extent| sum.checked_add(extent?));
    Some(dims)
}

fn slice(known: &Known<'_>) -> Dims {
    let x = known.dims(0)?;
    let axes = match known.node.input(3) {
        Some(_) => known.ints(3),
        None => known.ints(1).and_then(|s| (0..i64::try_from(s.len()).ok()?).map(Some).collect()),
    };
    let Some(axes) = axes else {
        return Some(vec![None; x.len()]);
    };
    let steps = known.ints(4).or(known.node.input(4).is_none().then(|| vec![1; axes.len()]));
    let mut dims = forget(x.clone(), &axes)?;
    let (Some(starts), Some(ends), Some(steps)) = (known.ints(1), known.ints(2), steps) else {
        return Some(dims);
    };
    for (i, &a) in axes.iter().enumerate() {
        let a = axis(a, x.len())?;
        if let (Some(extent), Some(1)) = (x[a], steps.get(i)) {
            let clamp = |v: i64| {
                let n = i64::try_from(extent).ok()?;
                Some((if v < 0 { v.checked_add(n)? } else { v }).clamp(0, n))
            };
            let (start, end) = (clamp(*starts.get(i)?)?, clamp(*ends.get(i)?)?);
            dims[a] = usize::try_from((end - start).max(0)).ok();
        }
    }
    Some(dims)
}

/// How many of `rank` dimensions lie from `start` to `end`, both clamped.
fn window(rank: usize, start: i64, end: Option<i64>) -> usize {
    let n = i64::try_from(rank).unwrap_or(i64::MAX);
    let clamp = |v: i64| (if v < 0 { v.saturating_add(n) } else { v }).clamp(0, n);
    usize::try_from(clamp(end.unwrap_or(n)) - clamp(start)).unwrap_or(0)
}

fn pad(known: &Known<'_>) -> Dims {
    let x = known.dims(0)?;
    let pads = known.ints(1).filter(|p| p.len() == 2 * x.len() && known.node.input(3).is_none());
    let Some(pads) = pads else {
        return Some(vec![None; x.len()]);
    };
    let grown = |i: usize| {
        let sum = pads[i].checked_add(pads[i + x.len()])?;
        usize::try_from(i64::try_from(x[i]?).ok()?.checked_add(sum)?).ok()
    };
    Some((0..x.len()).map(grown).collect())
}

/// The dimensions that the integers at input `index` name.
fn named(known: &Known<'_>, index: usize) -> Dims {
    if let Some(ints) = known.ints(index) {
        return Some(ints.iter().map(|&d| usize::try_from(d).ok()).collect());
    }
    // A computed shape: its own extent is the rank.
    let rank = count(known, index)?;
    (rank <= RANK_MAX).then(|| vec![None; rank])
}

fn reshaped(known: &Known<'_>, allow_zero: bool) -> Dims {
    let mut dims = named(known, 1)?;
    if let Some(x) = known.dims(0) {
        if !allow_zero {
            for (i, d) in dims.iter_mut().enumerate().filter(|(_, d)| **d == Some(0)) {
                *d = x.get(i).copied().flatten();
            }
        }
        let x: Option<Vec<usize>> = x.into_iter().collect();
        let total = x.and_then(|x| product(&x));
        let open: Vec<usize> = (0..dims.len()).filter(|&i| dims[i].is_none()).collect();
        let others: Vec<usize> = dims.iter().copied().flatten().collect();
        if let (Some(total), Some(rest), &[one]) = (total, product(&others), &open[..])
            && rest > 0
        {
            dims[one] = Some(total / rest);
        }
    }
    Some(dims)
}

fn product(extents: &[usize]) -> Option<usize> {
    extents.iter().try_fold(1usize, |p, &d| p.checked_mul(d))
}

fn flat(x: &[Option<usize>], at: i64) -> Dims {
    let rank = x.len();
    let at = if usize::try_from(at) == Ok(rank) { rank } else { axis(at, rank)? };
    let part = |dims: &[Option<usize>]| product(&dims.iter().copied().collect::<Option<Vec<_>>>()?);
    Some(vec![part(&x[..at]), part(&x[at..])])
}

/// How many integers an input holds that is computed.
fn count(known: &Known<'_>, index: usize) -> Option<usize> {
    known.dims(index)?.first().copied().flatten()
}

fn squeeze(known: &Known<'_>) -> Dims {
    let x = known.dims(0)?;
    if known.node.input(1).is_some() && known.ints(1).is_none() {
        return Some(vec![None; x.len().checked_sub(count(known, 1)?)?]);
    }
    let gone: Vec<usize> = match known.node.input(1) {
        Some(_) => known.ints(1)?.iter().map(|&a| axis(a, x.len())).collect::<Option<_>>()?,
        None => {
            let all: Vec<usize> = x.iter().copied().collect::<Option<_>>()?;
            (0..all.len()).filter(|&i| all[i] == 1).collect()
        }
    };
    Some((0..x.len()).filter(|i| !gone.contains(i)).map(|i| x[i]).collect())
}

fn unsqueeze(known: &Known<'_>) -> Dims {
    let mut dims = known.dims(0)?;
    let Some(axes) = known.ints(1) else {
        let rank = dims.len().checked_add(count(known, 1)?)?;
        return (rank <= RANK_MAX).then(|| vec![None; rank]);
    };
    let rank = dims.len().checked_add(axes.len())?;
    let new: Option<Vec<usize>> = axes.iter().map(|&a| axis(a, rank)).collect();
    let mut new = new?;
    new.sort_unstable();
    for a in new {
        if a > dims.len() {
            return None;
        }
        dims.insert(a, Some(1));
    }
    Some(dims)
}

fn transposed(x: Vec<Option<usize>>, perm: Option<&[usize]>) -> Dims {
    match perm {
        None => Some(x.into_iter().rev().collect()),
        Some(perm) if perm.len() == x.len() => perm.iter().map(|&p| x.get(p).copied()).collect(),
        Some(_) => None,
    }
}

fn gathered(data: &[Option<usize>], indices: &[Option<usize>], at: i64) -> Dims {
    let at = axis(at, data.len())?;
    Some([&data[..at], indices, &data[at + 1..]].concat())
}
