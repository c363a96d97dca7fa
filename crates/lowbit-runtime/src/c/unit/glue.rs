//! What lies between convolutions.

use super::Writing;
use crate::RuntimeError;
use crate::c::kernel::Kernel;
use crate::c::text::float;
use crate::network::{Add, AveragePool, Dequantize, GlobalAverage, Mul, Sample, Window};

impl Writing<'_> {
    pub(super) fn dequantize(&mut self, how: &Dequantize) -> Result<(), RuntimeError> {
        let [height, width, channels] = self.image(0);
        let offset = self.offset();
        let scale = self.floats("scale", &how.scales)?;
        let zeros = how.zero_points.iter().map(|zero| zero + offset).collect();
        let zero = self.array(("int32_t", 4), "zero", zeros);
        let fields = format!(
            ".pixels = {}, .channels = {channels}, .each = {}, .scale = {scale}, .zero = {zero},",
            height * width,
            usize::from(how.scales.len() > 1),
        );
        let object = self.object("Floats", "floats", &fields);
        let call = format!("dequantize(&{object}, {}, {})", self.input(0), self.output());
        self.call(Kernel::Dequantize, &call);
        Ok(())
    }

    pub(super) fn add(&mut self, how: &Add) -> Result<(), RuntimeError> {
        let sum = self.sum(how, self.offset())?;
        self.unit.kernels.insert(Kernel::Sum);
        let (a, b, out) = (self.input(0), self.input(1), self.output());
        let call = format!("add(&{sum}, {a}, {b}, {out}, {})", self.count());
        self.call(Kernel::Add, &call);
        Ok(())
    }

    pub(super) fn multiply(&mut self, how: &Mul) -> Result<(), RuntimeError> {
        self.finite(&[how.ratio])?;
        let [a, b] = how.zero_points;
        let period: usize = self.image(1).iter().product();
        let fields = format!(
            ".zero = {{{a}, {b}, {}}}, .ratio = {}, .offset = {}, .period = {period},",
            how.zero_point,
            float(how.ratio),
            self.offset(),
        );
        self.cost().flash_bytes += 16;
        let object = self.object("Product", "product", &fields);
        let (a, b, out) = (self.input(0), self.input(1), self.output());
        let call = format!("multiply(&{object}, {a}, {b}, {out}, {})", self.count());
        self.call(Kernel::Multiply, &call);
        Ok(())
    }

    pub(super) fn table(&mut self, tables: &[[u8; 256]]) {
        let name = self.array(("uint8_t", 1), "table", tables.concat());
        let (x, out, count) = (self.input(0), self.output(), self.count());
        let call = format!("look_up({name}, {x}, {out}, {count}, {})", tables.len());
        self.call(Kernel::Table, &call);
    }

    pub(super) fn global_average(&mut self, how: &GlobalAverage) -> Result<(), RuntimeError> {
        self.finite(&[how.multiplier])?;
        let ([height, width, channels], offset) = (self.image(0), self.offset());
        let fields = format!(
            ".pixels = {}, .channels = {channels}, .zero = {{{}, {}}}, .factor = {}, .offset = {offset},",
            height * width,
            how.zero_points[0],
            how.zero_points[1],
            float(how.multiplier),
        );
        self.cost().flash_bytes += 12;
        let object = self.object("Average", "average", &fields);
        let call = format!("global_average(&{object}, {}, {})", self.input(0), self.output());
        self.call(Kernel::GlobalAverage, &call);
        Ok(())
    }

    pub(super) fn max_pool(&mut self, window: &Window) {
        let fields = self.window(window);
        let object = self.object("Window", "window", &fields);
        let call = format!("max_pool(&{object}, {}, {})", self.input(0), self.output());
        self.unit.kernels.insert(Kernel::Window);
        self.call(Kernel::MaxPool, &call);
    }

    #[expect(clippy::cast_precision_loss, reason = "codes of 8 bits are exact")]
    pub(super) fn average_pool(&mut self, how: &AveragePool) -> Result<(), RuntimeError> {
        let offset = self.offset();
        let [from, to] = how.scales;
        self.finite(&[to])?;
        let zero = how.zero_points[0] + offset;
        let values: Vec<f32> = (0..256).map(|code| (code - zero) as f32 * from).collect();
        let values = self.floats("values", &values)?;
        let [height, width, _] = self.image(0);
        let counted = |axis: usize, extent: usize| {
            let (pad, end) = (how.window.pads[axis], how.end_pads[axis]);
            if how.count_include_pad {
                (format!("-{pad}"), extent + end)
            } else {
                ("0".into(), extent)
            }
        };
        let ((top, bottom), (left, right)) = (counted(0, height), counted(1, width));
        let fields = format!(
            ".window = {{\n    {}\n    }},\n    .first = {{{top}, {left}}}, .end = {{{bottom}, {right}}},\n    \
             .values = {values}, .scale = {}, .zero_point = {}, .offset = {offset},",
            self.window(&how.window),
            float(to),
            how.zero_points[1],
        );
        let object = self.object("Mean", "mean", &fields);
        let call = format!("average_pool(&{object}, {}, {})", self.input(0), self.output());
        self.unit.kernels.insert(Kernel::Window);
        self.call(Kernel::AveragePool, &call);
        Ok(())
    }

    pub(super) fn concat(&mut self, tables: &[Option<Box<[u8; 256]>>]) {
        let ([height, width, row], mut first) = (self.result(), 0);
        for (index, table) in tables.iter().enumerate() {
            let channels = self.image(index)[2];
            let table = match table {
                Some(table) => {
                    self.array(("uint8_t", 1), &format!("table{index}_"), table.to_vec())
                }
                None => "0".into(),
            };
            let (x, out, count) = (self.input(index), self.output(), height * width * channels);
            let call =
                format!("copy_channels({x}, {channels}, {table}, {out} + {first}, {count}, {row})");
            self.call(Kernel::Concat, &call);
            first += channels;
        }
    }

    pub(super) fn sample(&mut self, how: &Sample) {
        let list = |of: &[String]| of.join(", ");
        let sizes = |of: [usize; 3]| list(&of.map(|n| n.to_string()));
        let places = |of: [i64; 3]| list(&of.map(|n| n.to_string()));
        let fields = format!(
            ".extent = {{{}}}, .out = {{{}}}, .start = {{{}}}, .step = {{{}}}, .fill = {},",
            sizes(self.image(0)),
            sizes(self.result()),
            places(how.start),
            places(how.step),
            how.fill,
        );
        let object = self.object("Sample", "sample", &fields);
        let call = format!("sample(&{object}, {}, {})", self.input(0), self.output());
        self.call(Kernel::Sample, &call);
    }

    pub(super) fn reshape(&mut self) {
        let ([height, width, channels], [oh, ow, outputs]) = (self.image(0), self.result());
        let fields = format!(
            ".pixels = {}, .channels = {channels}, .out_pixels = {}, .out_channels = {outputs},",
            height * width,
            oh * ow,
        );
        let object = self.object("Shapes", "shapes", &fields);
        let call = format!("reshape(&{object}, {}, {})", self.input(0), self.output());
        self.call(Kernel::Reshape, &call);
    }

    /// Elements of the result.
    fn count(&self) -> usize {
        self.result().iter().product()
    }

    fn window(&self, window: &Window) -> String {
        let ([height, width, channels], [oh, ow, _]) = (self.image(0), self.result());
        let ([kh, kw], [sy, sx]) = (window.kernel, window.strides);
        let ([dy, dx], [py, px]) = (window.dilations, window.pads);
        format!(
            ".height = {height}, .width = {width}, .channels = {channels}, .out_height = {oh}, .out_width = {ow},\n    \
             .kernel_height = {kh}, .kernel_width = {kw}, .stride_y = {sy}, .stride_x = {sx},\n    \
             .dilation_y = {dy}, .dilation_x = {dx}, .pad_y = {py}, .pad_x = {px},"
        )
    }
}
