//! Convolutions and fully connected layers.

use super::Writing;
use crate::RuntimeError;
use crate::c::kernel::Kernel;
use crate::c::packed::Packed;
use crate::c::text::float;
use crate::network::{Add, Conv, Finish};

impl Writing<'_> {
    pub(super) fn conv(&mut self, conv: &Conv) -> Result<(), RuntimeError> {
        self.fits(conv)?;
        let factors = match &conv.finish {
            Finish::Floats(scales) => scales,
            Finish::Codes { multipliers, .. } => multipliers,
        };
        let object = self.layer(conv, factors)?;
        let (x, out) = (self.input(0), self.output());
        self.unit.kernels.insert(Kernel::Conv);
        match &conv.finish {
            Finish::Floats(_) => {
                self.call(Kernel::ConvFloats, &format!("conv_floats(&{object}, {x}, {out})"));
            }
            Finish::Codes { zero_point, range, table, add, .. } => {
                let mut fields = format!(
                    ".zero_point = {zero_point}, .low = {}, .high = {},",
                    range[0], range[1]
                );
                if let Some(table) = table {
                    let name = self.array(("uint8_t", 1), "table", table.to_vec());
                    fields += &format!(" .table = {name},");
                }
                let mut other = String::from("0");
                if let Some((add, own_first)) = add {
                    self.unit.sums = true;
                    let sum = self.sum(add, 0)?;
                    fields += &format!(" .add = &{sum}, .own_first = {},", u8::from(*own_first));
                    other = self.input(1);
                }
                let codes = self.object("Codes", "codes", &fields);
                let call = format!("conv_codes(&{object}, &{codes}, {x}, {other}, {out})");
                self.call(Kernel::ConvCodes, &call);
            }
        }
        Ok(())
    }

    /// Defines what is known of the layer but its finish.
    fn layer(&mut self, conv: &Conv, factors: &[f32]) -> Result<String, RuntimeError> {
        let ([height, width, channels], [oh, ow, outputs]) = (self.image(0), self.result());
        let packed = Packed::new(conv);
        let signed = |bytes: &[u8]| bytes.iter().map(|&b| b.cast_signed()).collect::<Vec<i8>>();
        let mut levels = String::from("0");
        let weights = if packed.bits == 8 {
            self.array(("int8_t", 1), "weights", signed(&packed.bytes))
        } else {
            self.unit.row_bytes = self.unit.row_bytes.max(conv.taps().next_multiple_of(4));
            levels = self.array(("int8_t", 1), "levels", packed.levels);
            self.array(("uint8_t", 1), "weights", packed.bytes.clone())
        };
        let bias = self.array(("int32_t", 4), "bias", conv.bias.clone());
        let factors = self.floats("factors", factors)?;
        let cost = self.cost();
        cost.bits = Some(packed.bits);
        cost.weight_bytes = packed.bytes.len();
        cost.macs = oh * ow * outputs * conv.taps();
        let zero_point = self.exported.codes_of(self.step.inputs[0]).zero_point;
        let window = &conv.window;
        let ([kh, kw], [sy, sx]) = (window.kernel, window.strides);
        let ([dy, dx], [py, px]) = (window.dilations, window.pads);
        let fields = [
            format!(".height = {height}, .width = {width}, .channels = {channels},"),
            format!(".out_height = {oh}, .out_width = {ow}, .out_channels = {outputs},"),
            format!(
                ".kernel_height = {kh}, .kernel_width = {kw}, .stride_y = {sy}, .stride_x = {sx},"
            ),
            format!(".dilation_y = {dy}, .dilation_x = {dx}, .pad_y = {py}, .pad_x = {px},"),
            format!(
                ".group_channels = {}, .group_outputs = {}, .taps = {}, .zero_point = {zero_point},",
                channels / conv.groups,
                outputs / conv.groups,
                conv.taps()
            ),
            format!(
                ".bits = {}, .levels = {levels}, .weights = {weights}, .bias = {bias}, .factors = {factors},",
                packed.bits
            ),
        ];
        Ok(self.object("Conv", "conv", &fields.join("\n    ")))
    }

    /// Defines the parameters of a sum.
    pub(super) fn sum(&mut self, add: &Add, offset: i32) -> Result<String, RuntimeError> {
        self.finite(&[add.ratios[0], add.ratios[1], add.fixed])?;
        self.cost().flash_bytes += 12;
        let [a, b] = add.ratios.map(float);
        let fixed = float(add.fixed);
        let fields = format!(".ratio = {{{a}, {b}}}, .fixed = {fixed}, .offset = {offset},");
        Ok(self.object("Sum", "sum", &fields))
    }

    /// Sums are computed in 32 bits, whose overflow C leaves open.
    fn fits(&self, conv: &Conv) -> Result<(), RuntimeError> {
        let zero_point = i64::from(self.exported.codes_of(self.step.inputs[0]).zero_point);
        let farthest = zero_point.max(255 - zero_point);
        let sums = conv.weights.chunks_exact(conv.taps()).zip(&conv.bias).map(|(row, &bias)| {
            let weights: i64 = row.iter().map(|&weight| i64::from(weight).abs()).sum();
            farthest * weights + i64::from(bias).abs()
        });
        match sums.max() {
            Some(largest) if largest > i64::from(i32::MAX) => {
                Err(self.refused(format!("sums may reach {largest}, expected less than 2^31")))
            }
            _ => Ok(()),
        }
    }
}
