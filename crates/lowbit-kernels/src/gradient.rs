//! Gradients of the `f32` convolution with respect to its input and its weights.
//!
//! The input's gradient is itself a convolution: of the output's gradient, by the weights with inputs and outputs exchanged
//! and both axes reversed. With strides, the input positions fall into phases by their remainder, each reached by its own
//! part of the kernel:
//!
//! ```text
//!     output y reads input i = y * s + k * d - pad with tap k
//!     for each remainder p of (i + pad) modulo s:      i + pad = p + m * s
//!         taps k with k * d = p modulo s               y = m - (k * d - p) / s: a convolution of stride 1
//! ```
//!
//! so that no multiplication is spent on inserted zeros. The weights' gradient is in [`crate::weights`].

use crate::conv::{ConvCall, PackedConv};
use crate::engine::{Core, Form, Scratch};
use crate::geometry::{Activation, ConvGeometry, Parallel};
use crate::isa::Isa;
use crate::weights::WeightTask;
use crate::word::bits;

/// The way back through one convolution without activation.
///
/// Gradients are the same bits for any thread count; batches are summed in the order of their images.
///
/// ```
/// use lowbit_kernels::{ConvGeometry, ConvGradient, Scratch};
///
/// let geometry = ConvGeometry {
///     channels_in: 1,
///     channels_out: 1,
///     input: [1, 3],
///     kernel: [1, 2],
///     strides: [1, 1],
///     dilations: [1, 1],
///     pads: [0; 4],
///     groups: 1,
/// };
/// let (mut of_x, mut of_weight) = ([0.0; 3], [0.0; 2]);
/// let gradient = ConvGradient::new(1, &geometry);
/// gradient.input(&[1.0, 10.0], &[2.0, 3.0], &mut of_x, &mut Scratch::new());
/// assert_eq!(of_x, [2.0, 23.0, 30.0]);
/// gradient.weight(&[4.0, 5.0, 6.0], &[1.0, 10.0], &mut of_weight, &mut Scratch::new());
/// assert_eq!(of_weight, [54.0, 65.0]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ConvGradient<'a> {
    /// The tier that computes.
    pub isa: Isa,
    /// Images in the batch.
    pub n: usize,
    /// Sizes of the convolution on the way forward.
    pub geometry: &'a ConvGeometry,
    /// Threads, for the input's gradient; the weights' is found by the calling thread.
    pub parallel: Parallel,
}

impl<'a> ConvGradient<'a> {
    /// On the best tier and on the calling thread.
    #[must_use]
    pub fn new(n: usize, geometry: &'a ConvGeometry) -> Self {
        Self { isa: Isa::current(), n, geometry, parallel: Parallel::Serial }
    }

    /// The gradient with respect to the input, given that of the output and the weights `[o, i / groups, kh, kw]`.
    /// # Panics
    /// When a length does not fit the geometry.
    pub fn input(&self, grad: &[f32], weight: &[f32], out: &mut [f32], scratch: &mut Scratch) {
        let g = self.geometry;
        self.check(grad, weight.len());
        assert!(out.len() == self.n * g.input_len(), "the gradient of the input holds n images");
        let phases = |axis: usize| (0..g.strides[axis]).map(move |p| Phase::new(g, axis, p));
        if phases(0).chain(phases(1)).any(|phase| phase.taps == 0) {
            out.fill(0.0);
        }
        let columns: Vec<Phase> = phases(1).filter(Phase::is_reached).collect();
        for rows in phases(0).filter(Phase::is_reached) {
            match columns[..] {
                [even, odd] if g.strides[1] == 2 => {
                    let pair = if even.first == 0 { [even, odd] } else { [odd, even] };
                    self.two_phases((rows, pair), (grad, weight), out, scratch);
                }
                _ => {
                    for &columns in &columns {
                        self.phase([rows, columns], (grad, weight), out, scratch);
                    }
                }
            }
        }
    }

    /// The gradient with respect to the weights `[o, i / groups, kh, kw]`, given the input and the gradient of the output.
    /// # Panics
    /// When a length does not fit the geometry.
    pub fn weight(&self, x: &[f32], grad: &[f32], out: &mut [f32], scratch: &mut Scratch) {
        self.check(grad, out.len());
        assert!(x.len() == self.n * self.geometry.input_len(), "the input holds n images");
        let (x, grad) = (bits(x), bits(grad));
        let task = WeightTask { geometry: self.geometry, n: self.n, x, grad, out, scratch };
        self.isa.dispatch(task);
    }

    fn check(&self, grad: &[f32], weights: usize) {
        let g = self.geometry;
        assert!(grad.len() == self.n * g.output_len(), "the gradient holds n images");
        assert!(
            weights == g.weight_shape().iter().product(),
            "the weight has the length of its shape"
        );
        assert!(
            g.groups > 0
                && g.channels_in.is_multiple_of(g.groups)
                && g.channels_out.is_multiple_of(g.groups),
            "the groups divide the channels"
        );
    }

    /// One phase of rows and columns.
    fn phase(
        &self,
        phases: [Phase; 2],
        operands: (&[f32], &[f32]),
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let g = self.geometry;
        let geometry = self.phase_geometry(phases);
        let [rows, columns] = phases;
        let whole = g.strides == [1, 1] && geometry.output() == g.input;
        if whole && [rows.crop, columns.crop] == [0, 0] {
            return self.convolve(phases, operands, out, scratch);
        }
        let mut part = std::mem::take(&mut scratch.parts[0]);
        part.resize(self.n * geometry.output_len(), 0.0);
        self.convolve(phases, operands, &mut part, scratch);
        let [height, width] = geometry.output();
        let planes = part.chunks_exact(height * width);
        for (to, from) in out.chunks_exact_mut(g.input[0] * g.input[1]).zip(planes) {
            for (to, from) in rows.lines(to, (from, width), g) {
                let to = to[columns.first..].iter_mut().step_by(g.strides[1]);
                to.zip(&from[columns.crop..][..columns.count]).for_each(|(to, from)| *to = *from);
            }
        }
        scratch.parts[0] = part;
    }

    /// The phases of the even and of the odd columns, so that whole rows are written.
    fn two_phases(
        &self,
        (rows, columns): (Phase, [Phase; 2]),
        operands: (&[f32], &[f32]),
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let g = self.geometry;
        let mut parts = std::mem::take(&mut scratch.parts);
        let sizes = [0, 1].map(|i| self.phase_geometry([rows, columns[i]]).output());
        for (part, column) in parts.iter_mut().zip(columns) {
            let geometry = self.phase_geometry([rows, column]);
            part.resize(self.n * geometry.output_len(), 0.0);
            self.convolve([rows, column], operands, part, scratch);
        }
        let planes = [0, 1].map(|i| parts[i].chunks_exact(sizes[i][0] * sizes[i][1]));
        let [evens, odds] = planes;
        let plane = g.input[0] * g.input[1];
        for ((to, even), odd) in out.chunks_exact_mut(plane).zip(evens).zip(odds) {
            let odd_lines = rows.rows(odd, sizes[1][1]);
            let lines = rows.lines(to, (even, sizes[0][1]), g).zip(odd_lines);
            for ((to, even), odd) in lines {
                let even = &even[columns[0].crop..][..columns[0].count];
                let odd = &odd[columns[1].crop..][..columns[1].count];
                interleave(even, odd, to);
            }
        }
        scratch.parts = parts;
    }

    /// The convolution of one phase, positions computed in vain and all.
    fn convolve(
        &self,
        phases: [Phase; 2],
        (grad, weight): (&[f32], &[f32]),
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let geometry = self.phase_geometry(phases);
        let activation = Activation::None;
        let call = ConvCall { n: self.n, geometry: &geometry, activation, parallel: self.parallel };
        self.turned(weight, phases, &geometry).run(grad, &call, out, scratch);
    }

    fn phase_geometry(&self, [rows, columns]: [Phase; 2]) -> ConvGeometry {
        let g = self.geometry;
        ConvGeometry {
            channels_in: g.channels_out,
            channels_out: g.channels_in,
            input: g.output(),
            kernel: [rows.taps, columns.taps],
            strides: [1, 1],
            dilations: [rows.dilation, columns.dilation],
            pads: [rows.pads[0], columns.pads[0], rows.pads[1], columns.pads[1]],
            groups: g.groups,
        }
    }

    /// The weights of a phase, inputs and outputs exchanged, both axes reversed.
    fn turned(
        &self,
        weight: &[f32],
        [rows, columns]: [Phase; 2],
        turned: &ConvGeometry,
    ) -> PackedConv {
        let [_, inputs, kh, kw] = self.geometry.weight_shape();
        let outputs = self.geometry.channels_out / self.geometry.groups;
        let form = Form { shape: turned.weight_shape(), groups: turned.groups, pack: 1 };
        let word = |[input, output, y, x]: [usize; 4]| {
            let (group, input) = (input / inputs, input % inputs);
            let at = (group * outputs + output) * inputs + input;
            weight[(at * kh + rows.tap(y)) * kw + columns.tap(x)].to_bits()
        };
        PackedConv(Core::new(self.isa, form, |_| 0, word))
    }
}

/// Writes even and odd elements in turn; there may be one more of the even ones.
fn interleave(even: &[f32], odd: &[f32], to: &mut [f32]) {
    for ((to, &even), &odd) in to.chunks_exact_mut(2).zip(even).zip(odd) {
        to[0] = even;
        to[1] = odd;
    }
    if even.len() > odd.len() {
        to[to.len() - 1] = even[even.len() - 1];
    }
}

/// Along one axis, the input positions of one remainder and the taps that reach them.
#[derive(Clone, Copy)]
struct Phase {
    /// The first position, and how many follow at the distance of the stride.
    first: usize,
    count: usize,
    /// Taps in falling order: the last, the distance to the one before, how many.
    last_tap: usize,
    tap_step: usize,
    taps: usize,
    /// Distance in the output between the taps.
    dilation: usize,
    /// Zeros around the output.
    pads: [usize; 2],
    /// Positions before the first that the convolution computes in vain.
    crop: usize,
}

impl Phase {
    fn new(g: &ConvGeometry, axis: usize, remainder: usize) -> Self {
        let (stride, dilation, pad) = (g.strides[axis], g.dilations[axis], g.pads[axis]);
        let start = pad.saturating_sub(remainder).div_ceil(stride);
        let first = remainder + start * stride - pad;
        let count = g.input[axis].saturating_sub(first).div_ceil(stride);
        let reaching = (0..g.kernel[axis]).filter(|k| k * dilation % stride == remainder);
        let taps: Vec<usize> = reaching.collect();
        let (Some(&first_tap), Some(&last_tap)) = (taps.first(), taps.last()) else {
            let none = [0; 2];
            return Self {
                first,
                count,
                last_tap: 0,
                tap_step: 0,
                taps: 0,
                dilation: 1,
                pads: none,
                crop: 0,
            };
        };
        let tap_step = taps.get(1).map_or(stride, |second| second - first_tap);
        let reach = |tap: usize| (tap * dilation - remainder) / stride;
        let before = reach(last_tap).saturating_sub(start);
        let crop = start.saturating_sub(reach(last_tap));
        let needed = crop + count + reach(last_tap) - reach(first_tap);
        Self {
            first,
            count,
            last_tap,
            tap_step,
            taps: taps.len(),
            dilation: (tap_step * dilation / stride).max(1),
            pads: [before, needed.saturating_sub(g.output()[axis] + before)],
            crop,
        }
    }

    /// The rows of a phase's plane that count.
    fn rows<'p>(&self, plane: &'p [f32], width: usize) -> impl Iterator<Item = &'p [f32]> {
        plane.chunks_exact(width).skip(self.crop).take(self.count)
    }

    /// The input's rows of this phase beside those of its plane `from`.
    fn lines<'p>(
        &self,
        to: &'p mut [f32],
        (from, width): (&'p [f32], usize),
        g: &ConvGeometry,
    ) -> impl Iterator<Item = (&'p mut [f32], &'p [f32])> {
        let to = to.chunks_exact_mut(g.input[1]).skip(self.first).step_by(g.strides[0]);
        to.zip(self.rows(from, width))
    }

    fn is_reached(&self) -> bool {
        self.taps > 0 && self.count > 0
    }

    /// The tap at `position` of the reversed kernel.
    fn tap(&self, position: usize) -> usize {
        self.last_tap - position * self.tap_step
    }
}
