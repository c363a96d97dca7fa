//! The convolution of codes by its definition: what every tier is tested against.

use super::bits::{Thresholds, Values};
use super::spec::{ConvSpec, Finish};

/// The exact sums of `(x - x_zero_point) * weight` in `i64`, `[y][x][channel]`; `weights` is `[o, i / groups, kh, kw]`.
/// # Panics
/// When a slice is shorter than the sizes say.
#[must_use]
pub fn sums(spec: &ConvSpec, x: &[u8], x_zero_point: u8, weights: &[i8]) -> Vec<i64> {
    let (channels, outputs) = (spec.group_channels(), spec.group_outputs());
    let [kh, kw] = spec.kernel;
    let mut sums = Vec::new();
    for_each_output(spec, |y, column, output| {
        let mut sum = 0;
        for channel in 0..channels {
            for ky in 0..kh {
                for kx in 0..kw {
                    let pixel = spec.tap([y, column], [ky, kx]);
                    let code = x[pixel + output / outputs * channels + channel];
                    let weight = weights[((output * channels + channel) * kh + ky) * kw + kx];
                    sum += (i64::from(code) - i64::from(x_zero_point)) * i64::from(weight);
                }
            }
        }
        sums.push(sum);
    });
    sums
}

/// The exact sums of products of an image of bits, `[y][x][channel]`; taps on pads add 0. `weights` is `[o, i, kh, kw]`.
/// # Panics
/// When a slice is shorter than the sizes say.
#[must_use]
pub fn bit_sums(spec: &ConvSpec, x: &[u8], weights: &[i8], values: Values) -> Vec<i64> {
    let (channels, [kh, kw]) = (spec.input.channels, spec.kernel);
    let inside = |at: usize, k: usize, axis: usize, extent: usize| {
        let tap = at * spec.strides[axis] + k * spec.dilations[axis];
        tap >= spec.pads[axis] && tap - spec.pads[axis] < extent
    };
    let mut sums = Vec::new();
    for_each_output(spec, |y, column, output| {
        let mut sum = 0;
        for channel in 0..channels {
            for ky in (0..kh).filter(|&ky| inside(y, ky, 0, spec.input.height)) {
                for kx in (0..kw).filter(|&kx| inside(column, kx, 1, spec.input.width)) {
                    let pixel = &x[spec.tap([y, column], [ky, kx])..];
                    let code: i64 = (0..values.planes)
                        .map(|plane| {
                            let byte = pixel[plane * spec.input.plane() + channel / 8];
                            i64::from(byte >> (channel % 8) & 1) << plane
                        })
                        .sum();
                    let value = i64::from(values.step) * code - i64::from(values.zero);
                    let weight = weights[((output * channels + channel) * kh + ky) * kw + kx];
                    sum += value * i64::from(weight);
                }
            }
        }
        sums.push(sum);
    });
    sums
}

/// Writes the bits that `thresholds` make of `sums` to `out`, clear where a word has no output, leaving its border as it is.
/// # Panics
/// When a slice is shorter than the sizes say.
pub fn bits(spec: &ConvSpec, sums: &[i64], thresholds: &Thresholds, out: &mut [u8]) {
    let mut sums = sums.iter();
    for_each_output(spec, |y, x, output| {
        let sum = *sums.next().expect("a sum for each output");
        let pixel = &mut out[spec.output.at(y, x)..][..spec.output.pixel];
        if output == 0 {
            pixel.fill(0);
        }
        let reached = |at_least: &&Vec<i32>| sum >= i64::from(at_least[output]);
        let code = thresholds.at_least.iter().filter(reached).count();
        let code = if thresholds.inverted[output] { !code } else { code };
        for plane in 0..thresholds.planes() {
            let bit = (code >> plane & 1) as u8;
            pixel[plane * spec.output.plane() + output / 8] |= bit << (output % 8);
        }
    });
}

/// Writes the codes that `finish` makes of `sums` to `out`, leaving its border and padding as they are.
/// # Panics
/// When `finish` gives floats, needs another image and has none, or a slice is shorter than the sizes say.
pub fn codes(spec: &ConvSpec, sums: &[i64], finish: &Finish, other: Option<&[u8]>, out: &mut [u8]) {
    let Finish::Codes { requantize, table, add } = finish else { panic!("codes are asked for") };
    let zero_point = f32::from(requantize.zero_point);
    let mut sums = sums.iter();
    for_each_output(spec, |y, x, output| {
        let sum = *sums.next().expect("a sum for each output");
        let value = (sum as i32).wrapping_add(requantize.bias[output]) as f32
            * requantize.multipliers[output];
        let code = value.round_ties_even() + zero_point;
        let mut code = code.clamp(requantize.low.into(), requantize.high.into()) as u8;
        if let Some(table) = table {
            code = table[usize::from(code)];
        }
        if let Some(add) = add {
            let other = other.expect("another image")[add.other.at(y, x) + output];
            let own = (f32::from(code), add.own_ratio);
            let other = (f32::from(other), add.other_ratio);
            let (a, b) = if add.own_first { (own, other) } else { (other, own) };
            let sum = a.0.mul_add(a.1, b.0.mul_add(b.1, add.fixed)).round_ties_even();
            code = sum.clamp(add.low.into(), add.high.into()) as u8;
        }
        out[spec.output.at(y, x) + output] = code;
    });
}

/// The floats that `finish` makes of `sums`, `[y][x][channel]`.
/// # Panics
/// When `finish` gives codes, or there are fewer sums than outputs.
#[must_use]
pub fn floats(spec: &ConvSpec, sums: &[i64], finish: &Finish) -> Vec<f32> {
    let Finish::Float { bias, scales } = finish else { panic!("floats are asked for") };
    let mut sums = sums.iter();
    let mut out = Vec::new();
    for_each_output(spec, |_, _, output| {
        let sum = *sums.next().expect("a sum for each output") as i32;
        out.push(sum.wrapping_add(bias[output]) as f32 * scales[output]);
    });
    out
}

fn for_each_output(spec: &ConvSpec, mut visit: impl FnMut(usize, usize, usize)) {
    for y in 0..spec.output.height {
        for x in 0..spec.output.width {
            for output in 0..spec.output.channels {
                visit(y, x, output);
            }
        }
    }
}
