//! One step, compiled: its kernel with packed weights, and where its operands lie.

use std::sync::Arc;

use lowbit_graph::Workspace;
use lowbit_kernels::Isa;
use lowbit_kernels::nhwc::{
    self, ConvSpec, Depthwise, ImageLayout, Pool, Requantize, ResidualAdd, WeightForm,
};
use lowbit_tensor::{DType, Tensor};

use super::{Memory, Plan, StepInfo, glue};
use crate::network::{
    self, AveragePool, Codes, Conv, Dequantize, Finish, GlobalAverage, Island, Kind, Mul, Network,
    Quantize, Sample, Step, ValueIndex, Window,
};

/// A step that can run.
#[derive(Debug)]
pub(super) struct Compiled {
    info: StepInfo,
    run: Run,
    inputs: Vec<ValueIndex>,
    outputs: Vec<ValueIndex>,
    /// Of the first input and the first output, where they are codes.
    codes: [Codes; 2],
}

#[derive(Debug)]
enum Run {
    Conv(nhwc::Conv),
    Depthwise(nhwc::Depthwise),
    FloatConv(nhwc::Conv),
    Quantize(Quantize),
    Dequantize(Dequantize),
    Add(network::Add),
    Mul(Mul),
    Table(Vec<[u8; 256]>),
    GlobalAverage(GlobalAverage),
    AveragePool(AveragePool),
    MaxPool(Window),
    Concat(Vec<Option<Box<[u8; 256]>>>),
    Sample(Sample),
    Reshape,
    Island(IslandRun),
}

/// A graph of one operator, and what its inputs are.
#[derive(Debug)]
struct IslandRun {
    session: Arc<lowbit_graph::Session>,
    inputs: Vec<(Vec<usize>, Option<Codes>)>,
}

/// Floats mean no codes.
const NO_CODES: Codes = Codes { zero_point: 0, signed: false };

impl Compiled {
    pub(super) fn new(
        isa: Isa,
        step: &Step,
        network: &Network,
        layouts: &[ImageLayout],
    ) -> Compiled {
        let (x, y) = (step.inputs[0], step.outputs[0]);
        let mut info = StepInfo {
            name: step.name.clone(),
            kind: step.kind.label(),
            kernel: None,
            macs: 0,
            weight_bytes: 0,
            output: network.values[y].image(),
        };
        let codes = [x, y].map(|v| network.values[v].codes().unwrap_or(NO_CODES));
        let run = match &step.kind {
            Kind::Conv(conv) => {
                let spec = spec(conv, step, layouts);
                info.macs = spec.macs();
                let (run, kernel, weight_bytes) =
                    convolution(isa, conv, spec, (layouts, step, codes[0]));
                (info.kernel, info.weight_bytes) = (Some(kernel), weight_bytes);
                run
            }
            Kind::Quantize(quantize) => Run::Quantize(quantize.clone()),
            Kind::Dequantize(dequantize) => Run::Dequantize(dequantize.clone()),
            Kind::Add(add) => Run::Add(*add),
            Kind::Mul(mul) => Run::Mul(*mul),
            Kind::Table(tables) => Run::Table(tables.clone()),
            Kind::GlobalAverage(mean) => Run::GlobalAverage(*mean),
            Kind::AveragePool(pool) => Run::AveragePool(*pool),
            Kind::MaxPool(window) => Run::MaxPool(*window),
            Kind::Concat(tables) => Run::Concat(tables.clone()),
            Kind::Sample(sample) => Run::Sample(*sample),
            Kind::Reshape => Run::Reshape,
            Kind::Island(island) => Run::Island(IslandRun::new(island, step, network)),
        };
        Compiled { info, run, inputs: step.inputs.clone(), outputs: step.outputs.clone(), codes }
    }

    pub(super) fn info(&self) -> &StepInfo {
        &self.info
    }

    pub(super) fn weight_bytes(&self) -> usize {
        self.info.weight_bytes
    }

    pub(super) fn run(&self, plan: &Plan, input: &[f32], memory: &mut Memory, pool: &Pool) {
        let slot = |value: ValueIndex| &plan.slots[value];
        let (x, y) = (slot(self.inputs[0]), slot(self.outputs[0]));
        let offsets = self.codes.map(|codes| i32::from(codes.offset()));
        match &self.run {
            Run::Quantize(quantize) => {
                let floats = if self.inputs[0] == plan.input {
                    input
                } else {
                    &memory.floats[x.range.clone()]
                };
                let to = (&mut memory.arena[y.range.clone()], &y.layout);
                let row = &mut memory.row[..];
                glue::quantize(plan.isa, quantize, offsets[1], (floats, row), to);
            }
            Run::Dequantize(dequantize) => glue::dequantize(
                dequantize,
                offsets[0],
                (&memory.arena[x.range.clone()], &x.layout),
                &mut memory.floats[y.range.clone()],
            ),
            Run::FloatConv(conv) => conv.run_float(
                &memory.arena[x.range.clone()],
                &mut memory.floats[y.range.clone()],
                pool,
            ),
            Run::Island(island) => return island.run(self, plan, input, memory),
            on_codes => self.run_on_codes(on_codes, plan, memory, pool),
        }
        self.finish(plan, memory);
    }

    /// Steps whose operands and result are all codes.
    fn run_on_codes(&self, run: &Run, plan: &Plan, memory: &mut Memory, pool: &Pool) {
        let slot = |value: ValueIndex| &plan.slots[value];
        let (x, y) = (slot(self.inputs[0]), slot(self.outputs[0]));
        let offset = i32::from(self.codes[0].offset());
        let (out, rest) = split(&mut memory.arena, y.range.clone());
        let bytes = |value: ValueIndex| rest.get(&slot(value).range);
        let from = (bytes(self.inputs[0]), &x.layout);
        let to = (&mut *out, &y.layout);
        let second = || {
            let other = slot(self.inputs[1]);
            (bytes(self.inputs[1]), &other.layout)
        };
        let residual = || self.inputs.get(1).map(|&other| bytes(other));
        match run {
            Run::Conv(conv) => conv.run(from.0, residual(), to.0, pool),
            Run::Depthwise(conv) => conv.run(from.0, residual(), to.0, pool),
            Run::Add(add) => glue::add(plan.isa, add, offset, [from, second()], to),
            Run::Mul(mul) => glue::mul(plan.isa, mul, offset, [from, second()], to),
            Run::Table(tables) => glue::table(plan.isa, tables, from, to),
            Run::GlobalAverage(mean) => glue::global_average(plan.isa, mean, offset, from, to),
            Run::AveragePool(pool) => glue::average_pool(plan.isa, pool, offset, from, to),
            Run::MaxPool(window) => glue::max_pool(plan.isa, window, from, to),
            Run::Concat(tables) => {
                let mut first = 0;
                for (&input, table) in self.inputs.iter().zip(tables) {
                    let part = (bytes(input), &slot(input).layout);
                    glue::copy_channels(table.as_deref(), part, (&mut *out, &y.layout), first);
                    first += slot(input).layout.channels;
                }
            }
            Run::Sample(sample) => glue::sample(plan.isa, sample, from, to),
            Run::Reshape => glue::reshape(from, to),
            Run::Quantize(_) | Run::Dequantize(_) | Run::FloatConv(_) | Run::Island(_) => {
                unreachable!("these have float operands")
            }
        }
    }

    /// Fills the borders of the results that are codes.
    fn finish(&self, plan: &Plan, memory: &mut Memory) {
        for &output in &self.outputs {
            let slot = &plan.slots[output];
            if slot.layout.border != [0; 4] {
                slot.layout.fill_border(&mut memory.arena[slot.range.clone()], slot.zero_point);
            }
        }
    }
}

/// The arena around the range that is written.
struct Around<'a> {
    before: &'a [u8],
    after: &'a [u8],
    /// Where `after` begins.
    end: usize,
}

impl Around<'_> {
    fn get(&self, range: &std::ops::Range<usize>) -> &[u8] {
        if range.start < self.before.len() {
            &self.before[range.clone()]
        } else {
            &self.after[range.start - self.end..range.end - self.end]
        }
    }
}

fn split(arena: &mut [u8], range: std::ops::Range<usize>) -> (&mut [u8], Around<'_>) {
    let (before, rest) = arena.split_at_mut(range.start);
    let (out, after) = rest.split_at_mut(range.len());
    (out, Around { before, after, end: range.end })
}

fn spec(conv: &Conv, step: &Step, layouts: &[ImageLayout]) -> ConvSpec {
    ConvSpec {
        input: layouts[step.inputs[0]],
        output: layouts[step.outputs[0]],
        kernel: conv.window.kernel,
        strides: conv.window.strides,
        dilations: conv.window.dilations,
        pads: conv.window.pads,
        groups: conv.groups,
    }
}

/// A packed convolution, the kernel's name, and the bytes of its weights.
fn convolution(
    isa: Isa,
    conv: &Conv,
    spec: ConvSpec,
    (layouts, step, from): (&[ImageLayout], &Step, Codes),
) -> (Run, &'static str, usize) {
    let bias = conv.bias.clone();
    let finish = match &conv.finish {
        Finish::Floats(scales) => nhwc::Finish::Float { bias, scales: scales.clone() },
        Finish::Codes { multipliers, zero_point, range: [low, high], table, add } => {
            let residual = |(add, own_first): &(network::Add, bool)| {
                let [a, b] = add.ratios;
                let (own_ratio, other_ratio) = if *own_first { (a, b) } else { (b, a) };
                ResidualAdd {
                    own_ratio,
                    other_ratio,
                    fixed: add.fixed,
                    own_first: *own_first,
                    low: 0,
                    high: 255,
                    other: layouts[step.inputs[1]],
                }
            };
            nhwc::Finish::Codes {
                requantize: Requantize {
                    bias,
                    multipliers: multipliers.clone(),
                    zero_point: *zero_point,
                    low: *low,
                    high: *high,
                },
                table: table.clone(),
                add: add.as_ref().map(residual),
            }
        }
    };
    let floats = matches!(conv.finish, Finish::Floats(_));
    if conv.is_depthwise() && !floats {
        let packed = Depthwise::new(isa, spec, &conv.weights, from.zero_point, finish);
        let (kernel, bytes) = (packed.kernel_name(), packed.weight_bytes());
        return (Run::Depthwise(packed), kernel, bytes);
    }
    let weights = (&conv.weights[..], form(&conv.weights));
    let packed = nhwc::Conv::new(isa, spec, weights, from.zero_point, finish);
    let (kernel, bytes) = (packed.kernel_name(), packed.weight_bytes());
    (if floats { Run::FloatConv(packed) } else { Run::Conv(packed) }, kernel, bytes)
}

/// The smallest form that holds the weights.
fn form(weights: &[i8]) -> WeightForm {
    let mut seen = [false; 256];
    weights.iter().for_each(|&weight| seen[usize::from(weight.cast_unsigned())] = true);
    match seen.into_iter().filter(|&seen| seen).count() {
        0..=2 => WeightForm::Binary,
        3 => WeightForm::Ternary,
        4 => WeightForm::Table2,
        5..=16 => WeightForm::Table4,
        _ => WeightForm::Int8,
    }
}

impl IslandRun {
    fn new(island: &Island, step: &Step, network: &Network) -> IslandRun {
        let session = Arc::clone(&island.session);
        let dims = session
            .graph()
            .inputs
            .iter()
            .map(|input| input.dims.iter().map(|dim| dim.unwrap_or(1)).collect::<Vec<usize>>());
        let codes = |value: &ValueIndex| network.values[*value].codes();
        IslandRun { inputs: dims.zip(step.inputs.iter().map(codes)).collect(), session }
    }

    fn run(&self, step: &Compiled, plan: &Plan, input: &[f32], memory: &mut Memory) {
        let feed = |(&value, (dims, codes)): (&ValueIndex, &(Vec<usize>, Option<Codes>))| {
            let slot = &plan.slots[value];
            match codes {
                None if value == plan.input => Tensor::new(dims.clone(), input.to_vec()),
                None => Tensor::new(dims.clone(), memory.floats[slot.range.clone()].to_vec()),
                Some(codes) => {
                    let mut flat =
                        vec![0; slot.layout.height * slot.layout.width * slot.layout.channels];
                    glue::to_planes((&memory.arena[slot.range.clone()], &slot.layout), &mut flat);
                    if codes.signed {
                        let signed = flat.iter().map(|&code| (code ^ 128).cast_signed()).collect();
                        Tensor::new::<i8>(dims.clone(), signed)
                    } else {
                        Tensor::new(dims.clone(), flat)
                    }
                }
            }
        };
        let feeds: Vec<Tensor> = step.inputs.iter().zip(&self.inputs).map(feed).collect();
        let made = self.session.run(&feeds, &mut Workspace::serial());
        let made = made.expect("the operator ran on zeros of the same shapes when it was compiled");
        for (&output, result) in step.outputs.iter().zip(made) {
            let slot = &plan.slots[output];
            let range = slot.range.clone();
            match result.dtype() {
                DType::F32 => memory.floats[range].copy_from_slice(result.f32s()),
                DType::I8 => {
                    let codes = result.as_slice::<i8>().expect("int8");
                    let flat: Vec<u8> =
                        codes.iter().map(|&code| code.cast_unsigned() ^ 128).collect();
                    glue::from_planes(&flat, (&mut memory.arena[range], &slot.layout));
                }
                _ => {
                    let flat = result.as_slice::<u8>().expect("uint8, as when it was compiled");
                    glue::from_planes(flat, (&mut memory.arena[range], &slot.layout));
                }
            }
        }
        step.finish(plan, memory);
    }
}
