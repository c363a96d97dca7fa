//! The convolutions and products by their definition: seven loops, no tricks. What the fast kernels are tested against.

use crate::geometry::ConvGeometry;

/// Convolves `n` images, `weight` being `[o, i / groups, kh, kw]`; sums in `f64`, tap order channel, row, column.
/// # Panics
/// When a slice is shorter than the geometry says.
#[must_use]
pub fn conv_f32(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    n: usize,
    geometry: &ConvGeometry,
) -> Vec<f32> {
    let mut out = vec![0.0; n * geometry.output_len()];
    for_each_output(n, geometry, |at, output, taps| {
        let sum: f64 =
            taps.iter().map(|&(x_at, w_at)| f64::from(x[x_at]) * f64::from(weight[w_at])).sum();
        out[at] = (sum + bias.map_or(0.0, |bias| f64::from(bias[output]))) as f32;
    });
    out
}

/// The gradient of [`conv_f32`] with respect to `x`, given that of its result; sums in `f64`.
/// # Panics
/// When a slice is shorter than the geometry says.
#[must_use]
pub fn conv_f32_input_gradient(
    grad: &[f32],
    weight: &[f32],
    n: usize,
    geometry: &ConvGeometry,
) -> Vec<f32> {
    let mut sums = vec![0f64; n * geometry.input_len()];
    for_each_output(n, geometry, |at, _, taps| {
        for &(x_at, w_at) in taps {
            sums[x_at] += f64::from(grad[at]) * f64::from(weight[w_at]);
        }
    });
    sums.into_iter().map(|sum| sum as f32).collect()
}

/// The gradient of [`conv_f32`] with respect to `weight`, given that of its result; sums in `f64`.
/// # Panics
/// When a slice is shorter than the geometry says.
#[must_use]
pub fn conv_f32_weight_gradient(
    x: &[f32],
    grad: &[f32],
    n: usize,
    geometry: &ConvGeometry,
) -> Vec<f32> {
    let mut sums = vec![0f64; geometry.weight_shape().iter().product()];
    for_each_output(n, geometry, |at, _, taps| {
        for &(x_at, w_at) in taps {
            sums[w_at] += f64::from(grad[at]) * f64::from(x[x_at]);
        }
    });
    sums.into_iter().map(|sum| sum as f32).collect()
}

/// Sums `(x - x_zero_point) * (weight - weight_zero_points[o])` over the taps inside the image, in `i64`.
/// `weight_zero_points` has one entry, or one for each output channel.
/// # Panics
/// When a slice is shorter than the geometry says, or a sum leaves `i32`.
#[must_use]
pub fn conv_i32(
    x: (&[i32], i32),
    weight: (&[i32], &[i32]),
    n: usize,
    geometry: &ConvGeometry,
) -> Vec<i32> {
    let mut out = vec![0; n * geometry.output_len()];
    for_each_output(n, geometry, |at, output, taps| {
        let weight_zero_point = weight.1[if weight.1.len() == 1 { 0 } else { output }];
        let tap = |&(x_at, w_at): &(usize, usize)| {
            i64::from(x.0[x_at] - x.1) * i64::from(weight.0[w_at] - weight_zero_point)
        };
        out[at] = i32::try_from(taps.iter().map(tap).sum::<i64>()).expect("the sum fits in i32");
    });
    out
}

/// Calls `visit(output index, output channel, [(input index, weight index)])` for every output element.
fn for_each_output(
    n: usize,
    g: &ConvGeometry,
    mut visit: impl FnMut(usize, usize, &[(usize, usize)]),
) {
    let [oh, ow] = g.output();
    let mut taps = Vec::new();
    for image in 0..n {
        for output in 0..g.channels_out {
            for y in 0..oh {
                for x in 0..ow {
                    collect_taps(g, [image, output, y, x], &mut taps);
                    visit(((image * g.channels_out + output) * oh + y) * ow + x, output, &taps);
                }
            }
        }
    }
}

fn collect_taps(g: &ConvGeometry, at: [usize; 4], taps: &mut Vec<(usize, usize)>) {
    let [image, output, y, x] = at;
    let [_, inputs, kh, kw] = g.weight_shape();
    let group = output / (g.channels_out / g.groups);
    taps.clear();
    for channel in 0..inputs {
        for ky in 0..kh {
            for kx in 0..kw {
                let row = (y * g.strides[0] + ky * g.dilations[0]).wrapping_sub(g.pads[0]);
                let column = (x * g.strides[1] + kx * g.dilations[1]).wrapping_sub(g.pads[1]);
                if row < g.input[0] && column < g.input[1] {
                    let plane = image * g.channels_in + group * inputs + channel;
                    let x_at = (plane * g.input[0] + row) * g.input[1] + column;
                    taps.push((x_at, ((output * inputs + channel) * kh + ky) * kw + kx));
                }
            }
        }
    }
}
