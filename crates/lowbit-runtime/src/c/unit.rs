//! Steps as calls of kernels, with the constants they need.

mod conv;
mod glue;

use std::collections::BTreeSet;

use super::costs::StepCost;
use super::exported::Exported;
use super::kernel::Kernel;
use super::places::Places;
use super::text::{array, float};
use crate::RuntimeError;
use crate::network::{Kind, Quantize, Step, ValueIndex};

/// What a source is made of.
#[derive(Debug, Default)]
pub(super) struct Unit {
    /// Definitions, in order.
    pub(super) constants: Vec<String>,
    /// Statements, in order.
    pub(super) calls: Vec<String>,
    /// What these call.
    pub(super) kernels: BTreeSet<Kernel>,
    /// What the steps take, but for memory.
    pub(super) costs: Vec<StepCost>,
    /// Whether a convolution is summed with another image.
    pub(super) sums: bool,
    /// Bytes of the unpacked weights of one output.
    pub(super) row_bytes: usize,
}

/// A step while it is written.
struct Writing<'a> {
    unit: &'a mut Unit,
    exported: &'a Exported,
    places: &'a Places,
    step: &'a Step,
    /// What names of constants end with.
    number: usize,
}

impl Unit {
    pub(super) fn new(exported: &Exported, places: &Places) -> Result<Unit, RuntimeError> {
        let mut unit = Unit::default();
        unit.kernels.extend([Kernel::Round, Kernel::Quantize, Kernel::Best]);
        unit.input(exported, &exported.quantize);
        for (number, step) in exported.steps().enumerate() {
            unit.costs.push(StepCost {
                name: step.name.clone(),
                kind: step.kind.label(),
                bits: None,
                weight_bytes: 0,
                flash_bytes: 0,
                live_bytes: 0,
                macs: 0,
            });
            Writing { unit: &mut unit, exported, places, step, number }.write()?;
        }
        if unit.kernels.contains(&Kernel::Conv) {
            let rows = if unit.row_bytes > 0 { Kernel::RowsPacked } else { Kernel::RowsPlain };
            unit.kernels.extend([Kernel::ConvType, rows]);
        }
        if unit.sums {
            unit.kernels.insert(Kernel::Sum);
        }
        Ok(unit)
    }

    fn input(&mut self, exported: &Exported, how: &Quantize) {
        let [height, width, channels] = exported.value(exported.codes).image();
        let offset = i32::from(exported.codes_of(exported.codes).offset());
        let zeros = how.zero_points.iter().map(|zero| zero + offset);
        self.constants.push(array("float", "input_scale", how.scales.iter().map(|&s| float(s))));
        self.constants.push(array("int32_t", "input_zero", zeros));
        self.constants.push(format!(
            "static const Input input = {{\n    .pixels = {}, .channels = {channels}, .each = {}, .planes = {},\n    \
             .scale = input_scale, .zero = input_zero,\n}};\n",
            height * width,
            usize::from(how.scales.len() > 1),
            usize::from(!how.pixels),
        ));
    }
}

impl Writing<'_> {
    fn write(mut self) -> Result<(), RuntimeError> {
        match &self.step.kind {
            Kind::Conv(conv) => self.conv(conv)?,
            Kind::Dequantize(how) => self.dequantize(how)?,
            Kind::Add(how) => self.add(how)?,
            Kind::Mul(how) => self.multiply(how)?,
            Kind::Table(tables) => self.table(tables),
            Kind::GlobalAverage(how) => self.global_average(how)?,
            Kind::AveragePool(how) => self.average_pool(how)?,
            Kind::MaxPool(window) => self.max_pool(window),
            Kind::Concat(tables) => self.concat(tables),
            Kind::Sample(how) => self.sample(how),
            Kind::Reshape => self.reshape(),
            Kind::Quantize(_) | Kind::Float(_) | Kind::Island(_) => {
                unreachable!("`Exported` refuses these")
            }
        }
        Ok(())
    }

    /// Where a value lies, in C.
    fn place(&self, value: ValueIndex) -> String {
        if value == self.exported.codes {
            "codes".into()
        } else if value == self.exported.scores {
            "scores".into()
        } else {
            format!("arena + {}", self.places.at[value])
        }
    }

    fn input(&self, index: usize) -> String {
        self.place(self.step.inputs[index])
    }

    fn output(&self) -> String {
        self.place(self.step.outputs[0])
    }

    /// Height, width and channels of an operand.
    fn image(&self, index: usize) -> [usize; 3] {
        self.exported.value(self.step.inputs[index]).image()
    }

    fn result(&self) -> [usize; 3] {
        self.exported.value(self.step.outputs[0]).image()
    }

    /// What was added to the model's codes.
    fn offset(&self) -> i32 {
        self.exported.codes_of(self.step.inputs[0]).offset().into()
    }

    /// A call, with the name of the node it stems from.
    fn call(&mut self, kernel: Kernel, call: &str) {
        let name = super::text::comment(&self.step.name);
        self.unit.kernels.insert(kernel);
        self.unit.calls.push(format!("{call}; /* {name} */"));
    }

    /// Defines an array of this step; its name.
    fn array<T: std::fmt::Display>(
        &mut self,
        (kind, bytes): (&str, usize),
        name: &str,
        values: Vec<T>,
    ) -> String {
        let name = format!("{name}{}", self.number);
        self.cost().flash_bytes += bytes * values.len();
        self.unit.constants.push(array(kind, &name, values));
        name
    }

    fn floats(&mut self, name: &str, values: &[f32]) -> Result<String, RuntimeError> {
        self.finite(values)?;
        let values = values.iter().map(|&value| float(value)).collect();
        Ok(self.array(("float", 4), name, values))
    }

    /// Defines a struct of this step; its name.
    fn object(&mut self, kind: &str, name: &str, fields: &str) -> String {
        let name = format!("{name}{}", self.number);
        let text = format!("static const {kind} {name} = {{\n    {fields}\n}};\n");
        self.unit.constants.push(text);
        name
    }

    fn cost(&mut self) -> &mut StepCost {
        self.unit.costs.last_mut().expect("a cost is pushed before its step is written")
    }

    fn finite(&self, values: &[f32]) -> Result<(), RuntimeError> {
        match values.iter().find(|value| !value.is_finite()) {
            None => Ok(()),
            Some(value) => {
                Err(self.refused(format!("found a factor {value}, expected finite ones")))
            }
        }
    }

    fn refused(&self, reason: String) -> RuntimeError {
        let op = self.step.kind.label();
        RuntimeError::Node { node: self.step.name.clone(), op, reason }
    }
}
