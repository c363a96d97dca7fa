use lowbit_tensor::{DType, Rng, Tensor};

use crate::op::testing::{check, codes, refuse};
use crate::{Conv, Op};

/// A convolution of random codes, as lists.
struct Case {
    conv: Conv,
    x: (Vec<i32>, [usize; 4], i32, DType),
    w: (Vec<i32>, [usize; 4], Vec<i32>, DType),
}

fn random(len: usize, dtype: DType, rng: &mut Rng) -> Vec<i32> {
    let (low, high) = dtype.range().unwrap();
    // Every fourth is an extreme.
    let one = |rng: &mut Rng| match rng.below(8) {
        0 => low,
        1 => high,
        _ => low + rng.below((high - low) as usize + 1) as i32,
    };
    (0..len).map(|_| one(rng)).collect()
}

impl Case {
    fn new(seed: u64) -> Case {
        let rng = &mut Rng::new(seed);
        let groups = [1, 1, 2, 4][rng.below(4)];
        let inside = [1, 2, 3][rng.below(3)];
        let channels = groups * (1 + rng.below(3));
        let kernel = [1 + rng.below(3), 1 + rng.below(3)];
        let conv = Conv {
            strides: [1 + rng.below(2), 1 + rng.below(3)],
            dilations: [1 + rng.below(2), 1 + rng.below(2)],
            pads: [0; 4].map(|_| rng.below(3)),
            groups,
            ..Conv::PLAIN
        };
        let types = [DType::U8, DType::I8];
        let (x_type, w_type) = (types[rng.below(2)], types[rng.below(2)]);
        let dims = [1 + rng.below(2), groups * inside, 5 + rng.below(4), 5 + rng.below(4)];
        let shape = [channels, inside, kernel[0], kernel[1]];
        let zeros = if rng.below(2) == 0 { 1 } else { channels };
        Case {
            conv,
            x: (
                random(dims.iter().product(), x_type, rng),
                dims,
                random(1, x_type, rng)[0],
                x_type,
            ),
            w: (
                random(shape.iter().product(), w_type, rng),
                shape,
                random(zeros, w_type, rng),
                w_type,
            ),
        }
    }

    fn extents(&self) -> [usize; 4] {
        let axis = |i: usize| {
            let span = self.conv.dilations[i] * (self.w.1[2 + i] - 1) + 1;
            let padded = self.x.1[2 + i] + self.conv.pads[i] + self.conv.pads[i + 2];
            (padded - span) / self.conv.strides[i] + 1
        };
        [self.x.1[0], self.w.1[0], axis(0), axis(1)]
    }

    /// Σ (x - z_x)·(w - z_w) for one output; what lies outside is x = z_x.
    fn sum(&self, [n, o, y, x]: [usize; 4]) -> i32 {
        let [channels_out, inside, kh, kw] = self.w.1;
        let [_, channels, height, width] = self.x.1;
        let first = o / (channels_out / self.conv.groups) * inside;
        let zero = self.w.2[if self.w.2.len() == 1 { 0 } else { o }];
        let mut sum = 0;
        for (i, r, s) in (0..inside * kh * kw).map(|t| (t / (kh * kw), t / kw % kh, t % kw)) {
            let row = y * self.conv.strides[0] + r * self.conv.dilations[0];
            let column = x * self.conv.strides[1] + s * self.conv.dilations[1];
            let (row, column) =
                (row.wrapping_sub(self.conv.pads[0]), column.wrapping_sub(self.conv.pads[1]));
            if row < height && column < width {
                let at = ((n * channels + first + i) * height + row) * width + column;
                let weight = self.w.0[((o * inside + i) * kh + r) * kw + s];
                sum += (self.x.0[at] - self.x.2) * (weight - zero);
            }
        }
        sum
    }

    /// All sums with their output channels, in order.
    fn sums(&self) -> Vec<(usize, i32)> {
        let [n, c, h, w] = self.extents();
        let at = |i: usize| [i / (c * h * w), i / (h * w) % c, i / w % h, i % w];
        (0..n * c * h * w).map(|i| (at(i)[1], self.sum(at(i)))).collect()
    }

    fn x(&self) -> [Tensor; 2] {
        [codes(self.x.3, &self.x.1, &self.x.0), codes(self.x.3, &[], &[self.x.2])]
    }

    fn w(&self) -> [Tensor; 2] {
        let zeros: &[usize] = if self.w.2.len() == 1 { &[] } else { &[self.w.2.len()] };
        [codes(self.w.3, &self.w.1, &self.w.0), codes(self.w.3, zeros, &self.w.2)]
    }
}

#[test]
fn conv_integer_gives_the_exact_sums() {
    for seed in 0..150 {
        let case = Case::new(seed);
        let ([x, x_zero], [w, w_zero]) = (case.x(), case.w());
        let sums = case.sums().into_iter().map(|(_, sum)| sum).collect();
        let expected = Tensor::new(case.extents(), sums);
        check(&Op::ConvInteger(case.conv), &[&x, &w, &x_zero, &w_zero], &expected);
    }
}

#[test]
fn qlinear_conv_rounds_the_scaled_sums() {
    for seed in 0..150 {
        let case = Case::new(seed);
        let rng = &mut Rng::new(seed + 1000);
        let channels = case.w.1[0];
        let scales = if rng.below(2) == 0 { 1 } else { channels };
        let w_scale: Vec<f32> = (0..scales).map(|_| 0.001 + 0.01 * rng.uniform()).collect();
        let (x_scale, y_scale) = (0.01 + rng.uniform(), 0.1 + 2.0 * rng.uniform());
        let bias: Vec<i32> = (0..channels).map(|_| rng.below(40_000) as i32 - 20_000).collect();
        let y_zero = random(1, case.x.3, rng)[0];
        let (low, high) = case.x.3.range().unwrap();
        let code = |(o, sum): (usize, i32)| {
            let scale = w_scale[if scales == 1 { 0 } else { o }];
            let multiplier = x_scale * scale / y_scale;
            let rounded = ((sum + bias[o]) as f32 * multiplier).round_ties_even();
            (rounded + y_zero as f32).clamp(low as f32, high as f32) as i32
        };
        let expected: Vec<i32> = case.sums().into_iter().map(code).collect();
        let expected = codes(case.x.3, &case.extents(), &expected);
        let ([x, x_zero], [w, w_zero]) = (case.x(), case.w());
        let shape: &[usize] = if scales == 1 { &[] } else { &[scales] };
        let w_scale = Tensor::new(shape, w_scale.clone());
        let [x_scale, y_scale] = [x_scale, y_scale].map(Tensor::scalar);
        let (y_zero, bias) = (codes(case.x.3, &[], &[y_zero]), Tensor::vector(bias.clone()));
        let op = Op::QLinearConv(case.conv);
        let inputs = [&x, &x_scale, &x_zero, &w, &w_scale, &w_zero, &y_scale, &y_zero, &bias];
        check(&op, &inputs, &expected);
    }
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let scale = Tensor::scalar(0.1f32);
    let x = codes(DType::U8, &[1, 2, 3, 3], &[7; 18]);
    let w = codes(DType::I8, &[2, 2, 1, 1], &[1; 4]);
    let [zero, signed_zero] = [DType::U8, DType::I8].map(|dtype| codes(dtype, &[], &[0]));
    let op = Op::QLinearConv(Conv::PLAIN);
    let short = Tensor::vector(vec![1i32]);
    let run = |z_x: &Tensor, z_y: &Tensor, bias: &Tensor, why: &str| {
        refuse(&op, &[&x, &scale, z_x, &w, &scale, &signed_zero, &scale, z_y, bias], why);
    };
    run(&zero, &zero, &short, "input 8: found 1 elements, expected 2, one per output channel");
    let bias = Tensor::vector(vec![1i32, 2]);
    run(&signed_zero, &zero, &bias, "input 2: found int8, expected uint8");
    run(&zero, &signed_zero, &bias, "input 7: found int8, expected uint8");
    refuse(&Op::ConvInteger(Conv::PLAIN), &[&x, &w, &signed_zero], "input 2: found int8");
    refuse(&Op::ConvInteger(Conv::PLAIN), &[&scale, &w], "expected uint8 or int8");
    let fused = Conv { activation: crate::Activation::Relu, ..Conv::PLAIN };
    let inputs = [&x, &scale, &zero, &w, &scale, &signed_zero, &scale, &zero];
    refuse(&Op::QLinearConv(fused), &inputs, "an activation is not fused");
}
