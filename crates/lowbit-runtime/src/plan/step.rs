//! One step, compiled: its kernel with packed weights, and where its operands lie.

use std::ops::Range;

use lowbit_kernels::Isa;
use lowbit_kernels::nhwc::{
    self, BitConv, BitFinish, ConvSpec, Depthwise, ImageLayout, Operands, PackBits, Pool,
    Requantize, ResidualAdd, WeightForm, lookup,
};

use super::bits::{Bits, Choice};
use super::float::Float;
use super::{Factors, Layouts, Memory, Plan, Slot, StepInfo, glue, island};
use crate::network::{self, Conv, Finish, Kind, Network, Step, ValueIndex};

/// A step that can run.
#[derive(Debug)]
pub(super) struct Compiled {
    info: StepInfo,
    run: Run,
    inputs: Vec<ValueIndex>,
    outputs: Vec<ValueIndex>,
    /// Whether it writes the bits of its result alone.
    to_bits: bool,
    /// What makes bits of the codes that it writes.
    pack: Option<PackBits>,
}

#[derive(Debug)]
enum Run {
    Conv(nhwc::Conv),
    Depthwise(nhwc::Depthwise),
    FloatConv(nhwc::Conv),
    /// A convolution of bits.
    Bits(Box<BitConv>),
    FloatBits(Box<BitConv>),
    /// A table whose results are bits.
    Pack(PackBits),
    Float(Box<Float>),
    /// What is no convolution runs by the network's own numbers.
    Plain(Kind),
}

/// How values lie.
#[derive(Clone, Copy)]
pub(super) struct Lies<'a> {
    pub(super) layouts: &'a Layouts,
    pub(super) choice: &'a Choice,
}

impl Compiled {
    /// Step `number` of a network.
    pub(super) fn new(isa: Isa, number: usize, network: &Network, lies: Lies<'_>) -> Compiled {
        let step = &network.steps[number];
        let (x, y) = (step.inputs[0], step.outputs[0]);
        let bits = lies.choice.bits[y].as_ref();
        let (alone, beside): (Vec<&Bits>, Vec<&Bits>) =
            bits.into_iter().partition(|bits| bits.alone);
        let alone = alone.first().map(|bits| &bits.thresholds);
        let mut info = StepInfo {
            name: step.name.clone(),
            kind: step.kind.label(),
            kernel: None,
            factors: Factors::Codes,
            writes_bits: alone.is_some(),
            macs: 0,
            weight_bytes: table_bytes(&step.kind),
            output: network.values[y].image(),
        };
        let run = match &step.kind {
            Kind::Conv(conv) if lies.choice.on_bits[number] => {
                let few = network.few(x).expect("codes that lie as bits are few");
                let spec = spec(conv, step, lies, [true, alone.is_some()]);
                info.macs = spec.macs();
                let finish = match alone {
                    Some(thresholds) => BitFinish::Bits(thresholds.clone()),
                    None => BitFinish::Sums(finish(conv, step, lies)),
                };
                let packed = BitConv::new(isa, spec, &conv.weights, few.values, finish);
                info.factors = Factors::Bits { passes: packed.passes() };
                (info.kernel, info.weight_bytes) =
                    (Some(packed.kernel_name()), packed.weight_bytes());
                let floats = matches!(conv.finish, Finish::Floats(_));
                if floats { Run::FloatBits(packed.into()) } else { Run::Bits(packed.into()) }
            }
            Kind::Conv(conv) => {
                let spec = spec(conv, step, lies, [false; 2]);
                info.macs = spec.macs();
                let zero_point = network.values[x].codes().map_or(0, |codes| codes.zero_point);
                let finish = finish(conv, step, lies);
                let (run, kernel, weight_bytes) = convolution(isa, conv, spec, zero_point, finish);
                (info.kernel, info.weight_bytes) = (Some(kernel), weight_bytes);
                run
            }
            Kind::Float(float) => {
                info.factors = Factors::Floats;
                Run::Float(Box::new(Float::new(float, &mut info)))
            }
            Kind::Table(_) if let Some(thresholds) = alone => {
                (info.kind, info.weight_bytes) = ("pack", 0);
                Run::Pack(PackBits::new(isa, thresholds))
            }
            plain => Run::Plain(plain.clone()),
        };
        Compiled {
            info,
            run,
            inputs: step.inputs.clone(),
            outputs: step.outputs.clone(),
            to_bits: alone.is_some(),
            pack: beside.first().map(|bits| PackBits::new(isa, &bits.thresholds)),
        }
    }

    /// Where its first operand lies.
    fn from<'a>(&self, plan: &'a Plan) -> &'a Slot {
        let value = self.inputs[0];
        match &self.run {
            Run::Bits(_) | Run::FloatBits(_) => {
                plan.bits[value].as_ref().expect("it was laid out as bits")
            }
            _ => &plan.slots[value],
        }
    }

    /// Where its result lies.
    fn to<'a>(&self, plan: &'a Plan) -> &'a Slot {
        let value = self.outputs[0];
        let bits = plan.bits[value].as_ref().filter(|_| self.to_bits);
        bits.unwrap_or(&plan.slots[value])
    }

    pub(super) fn info(&self) -> &StepInfo {
        &self.info
    }

    pub(super) fn weight_bytes(&self) -> usize {
        self.info.weight_bytes
    }

    /// Bytes of weights that images of a batch share.
    pub(super) fn shared_weight_bytes(&self) -> usize {
        if matches!(self.run, Run::Float(_) | Run::Plain(_)) { 0 } else { self.info.weight_bytes }
    }

    /// Whether it takes memory beside its operands, as much as it finds out when it runs.
    pub(super) fn takes_memory(&self) -> bool {
        matches!(self.run, Run::Float(_) | Run::Plain(Kind::Island(_)))
    }

    pub(super) fn run(&self, plan: &Plan, input: &[f32], memory: &mut Memory, pool: &Pool) {
        let (x, y) = (self.from(plan), self.to(plan));
        match &self.run {
            Run::FloatConv(conv) => conv.run_float(
                &memory.arena[x.range.clone()],
                &mut memory.floats[y.range.clone()],
                pool,
            ),
            Run::FloatBits(conv) => conv.run_float(
                &memory.arena[x.range.clone()],
                &mut memory.floats[y.range.clone()],
                pool,
            ),
            Run::Plain(Kind::Quantize(quantize)) => {
                let floats = if self.inputs[0] == plan.input {
                    input
                } else {
                    &memory.floats[x.range.clone()]
                };
                let to = (&mut memory.arena[y.range.clone()], &y.layout);
                glue::quantize(plan.isa, (quantize, y.offset()), floats, to, pool);
            }
            Run::Plain(Kind::Dequantize(dequantize)) => glue::dequantize(
                plan.isa,
                dequantize,
                x.offset(),
                (&memory.arena[x.range.clone()], &x.layout),
                &mut memory.floats[y.range.clone()],
            ),
            Run::Float(float) => {
                let (out, rest) = split(&mut memory.floats, y.range.clone());
                let floats = if self.inputs[0] == plan.input { input } else { rest.get(&x.range) };
                float.run(floats, out, (pool, &mut memory.scratch));
            }
            Run::Plain(Kind::Island(island)) => {
                let values = (&self.inputs[..], &self.outputs[..]);
                island::run(&island.session, values, (plan, input), memory);
            }
            Run::Conv(_) | Run::Depthwise(_) | Run::Bits(_) | Run::Pack(_) | Run::Plain(_) => {
                self.run_on_codes(plan, &mut memory.arena, pool);
            }
        }
        self.pack_and_fill(plan, memory, pool);
    }

    /// Runs several images, each in its own memory, on this thread. The images of a convolution share the way of its weights to the core.
    pub(super) fn run_together<'a>(
        &self,
        plan: &Plan,
        inputs: impl Iterator<Item = &'a [f32]>,
        (memories, pool): (&mut [Memory], &Pool),
    ) {
        let (x, y) = (self.from(plan), self.to(plan));
        match &self.run {
            Run::Conv(conv) => conv.run_each(memories.iter_mut().map(|memory| {
                let (out, rest) = split(&mut memory.arena, y.range.clone());
                let other = self.inputs.get(1).map(|&other| rest.get(&plan.slots[other].range));
                Operands { x: rest.get(&x.range), other, out }
            })),
            Run::FloatConv(conv) => conv.run_each_float(memories.iter_mut().map(|memory| {
                let out = &mut memory.floats[y.range.clone()];
                Operands { x: &memory.arena[x.range.clone()], other: None, out }
            })),
            _ => {
                for (memory, input) in memories.iter_mut().zip(inputs) {
                    self.run(plan, input, memory, pool);
                }
                return;
            }
        }
        memories.iter_mut().for_each(|memory| self.pack_and_fill(plan, memory, pool));
    }

    /// Bytes that its codes take, read and written.
    pub(super) fn code_bytes(&self, plan: &Plan) -> usize {
        let rest = self.inputs[1..].iter().chain(&self.outputs[1..]);
        let rest = rest.map(|&value| &plan.slots[value]);
        let all = rest.chain([self.from(plan), self.to(plan)]);
        all.filter(|slot| slot.codes.is_some()).map(|slot| slot.range.len()).sum()
    }

    /// Steps whose operands and result are all codes.
    fn run_on_codes(&self, plan: &Plan, arena: &mut [u8], pool: &Pool) {
        let isa = plan.isa;
        let (x, y) = (self.from(plan), self.to(plan));
        let (out, rest) = split(arena, y.range.clone());
        let image = |index: usize| {
            let slot = if index == 0 { x } else { &plan.slots[self.inputs[index]] };
            (rest.get(&slot.range), &slot.layout)
        };
        let (from, to) = (image(0), (&mut *out, &y.layout));
        let residual = || self.inputs.get(1).map(|_| image(1).0);
        let kind = match &self.run {
            Run::Conv(conv) | Run::FloatConv(conv) => {
                return conv.run(from.0, residual(), to.0, pool);
            }
            Run::Depthwise(conv) => return conv.run(from.0, residual(), to.0, pool),
            Run::Bits(conv) | Run::FloatBits(conv) => {
                return conv.run(from.0, residual(), to.0, pool);
            }
            Run::Pack(bits) => {
                return pool.run_rows(to, &|rows, to, layout| {
                    let (from, from_layout) = part(from, &rows);
                    bits.run((&from_layout, from), (layout, to));
                });
            }
            Run::Float(_) => unreachable!("`run` takes it out"),
            Run::Plain(kind) => kind,
        };
        match kind {
            Kind::Add(_)
            | Kind::Mul(_)
            | Kind::Table(_)
            | Kind::AveragePool(_)
            | Kind::MaxPool(_) => {
                let other = if self.inputs.len() > 1 { image(1) } else { from };
                pool.run_rows(to, &|rows, to, layout| {
                    on_rows(isa, (kind, x.offset()), [from, other], (rows, (to, layout)));
                });
            }
            Kind::GlobalAverage(mean) => glue::global_average(isa, mean, x.offset(), from, to),
            Kind::Concat(tables) => {
                let mut first = 0;
                for (index, table) in tables.iter().enumerate() {
                    let part = image(index);
                    glue::copy_channels(table.as_deref(), part, (&mut *out, &y.layout), first);
                    first += part.1.channels;
                }
            }
            Kind::Sample(sample) => glue::sample(isa, sample, from, to),
            Kind::Reshape => glue::reshape(from, to),
            Kind::Conv(_)
            | Kind::Quantize(_)
            | Kind::Dequantize(_)
            | Kind::Float(_)
            | Kind::Island(_) => {
                unreachable!("`run` and `new` take these out")
            }
        }
    }

    /// Makes bits of the codes of the result where they are wanted, and fills the borders.
    fn pack_and_fill(&self, plan: &Plan, memory: &mut Memory, pool: &Pool) {
        for &output in &self.outputs {
            let (codes, bits) = (&plan.slots[output], plan.bits[output].as_ref());
            if let Some((pack, bits)) = self.pack.as_ref().zip(bits) {
                let (out, rest) = split(&mut memory.arena, bits.range.clone());
                let from = (rest.get(&codes.range), &codes.layout);
                pool.run_rows((out, &bits.layout), &|rows, to, layout| {
                    let (from, from_layout) = part(from, &rows);
                    pack.run((&from_layout, from), (layout, to));
                });
            }
            for slot in bits.into_iter().chain([codes]) {
                if let Some(codes) = slot.codes
                    && slot.layout.border != [0; 4]
                    && !slot.range.is_empty()
                {
                    let image = &mut memory.arena[slot.range.clone()];
                    slot.layout.fill_border(image, codes.zero_point);
                }
            }
        }
    }
}

/// The memory around the range that is written.
struct Around<'a, T> {
    before: &'a [T],
    after: &'a [T],
    /// Where `after` begins.
    end: usize,
}

impl<'a, T> Around<'a, T> {
    fn get(&self, range: &Range<usize>) -> &'a [T] {
        if range.start < self.before.len() {
            &self.before[range.clone()]
        } else {
            &self.after[range.start - self.end..range.end - self.end]
        }
    }
}

fn split<T>(memory: &mut [T], range: Range<usize>) -> (&mut [T], Around<'_, T>) {
    let (before, rest) = memory.split_at_mut(range.start);
    let (out, after) = rest.split_at_mut(range.len());
    (out, Around { before, after, end: range.end })
}

/// Computes some rows of a result; `offset` is what the codes of the operands are raised by.
fn on_rows(
    isa: Isa,
    (kind, offset): (&Kind, i32),
    operands: [glue::From<'_>; 2],
    (rows, to): (Range<usize>, glue::To<'_>),
) {
    match kind {
        Kind::Add(add) => {
            let [a, b] = operands.map(|image| part(image, &rows));
            glue::add(isa, add, offset, [(a.0, &a.1), (b.0, &b.1)], to);
        }
        Kind::Mul(mul) => {
            let [a, b] = operands.map(|image| {
                // One pixel is a gate, for all rows.
                if image.1.height == 1 { (image.0, *image.1) } else { part(image, &rows) }
            });
            glue::mul(isa, mul, offset, [(a.0, &a.1), (b.0, &b.1)], to);
        }
        Kind::Table(tables) => {
            let (from, layout) = part(operands[0], &rows);
            lookup(isa, tables, (from, &layout), to);
        }
        Kind::AveragePool(mean) => {
            glue::average_pool(isa, mean, offset, operands[0], (rows.start, to));
        }
        Kind::MaxPool(window) => glue::max_pool(isa, window, operands[0], (rows.start, to)),
        _ => unreachable!("only these are computed row by row"),
    }
}

/// Some rows of an image.
fn part<'a>(
    (image, layout): (&'a [u8], &ImageLayout),
    rows: &Range<usize>,
) -> (&'a [u8], ImageLayout) {
    let (bytes, own) = layout.rows(rows.clone());
    (&image[bytes], own)
}

/// The sizes of a convolution; the flags say whether operand and result are bits.
fn spec(conv: &Conv, step: &Step, lies: Lies<'_>, bits: [bool; 2]) -> ConvSpec {
    let layout = |value: ValueIndex, bits: bool| {
        let of_bits = lies.layouts.bits[value].filter(|_| bits);
        of_bits.unwrap_or(lies.layouts.codes[value])
    };
    ConvSpec {
        input: layout(step.inputs[0], bits[0]),
        output: layout(step.outputs[0], bits[1]),
        kernel: conv.window.kernel,
        strides: conv.window.strides,
        dilations: conv.window.dilations,
        pads: conv.window.pads,
        groups: conv.groups,
    }
}

/// What becomes of the sums.
fn finish(conv: &Conv, step: &Step, lies: Lies<'_>) -> nhwc::Finish {
    let bias = conv.bias.clone();
    match &conv.finish {
        Finish::Floats(scales) => nhwc::Finish::Float { bias, scales: scales.clone() },
        Finish::Codes { multipliers, zero_point: result, range: [low, high], table, add } => {
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
                    other: lies.layouts.codes[step.inputs[1]],
                }
            };
            nhwc::Finish::Codes {
                requantize: Requantize {
                    bias,
                    multipliers: multipliers.clone(),
                    zero_point: *result,
                    low: *low,
                    high: *high,
                },
                table: table.clone(),
                add: add.as_ref().map(residual),
            }
        }
    }
}

/// A packed convolution of codes, the kernel's name, and the bytes of its weights.
fn convolution(
    isa: Isa,
    conv: &Conv,
    spec: ConvSpec,
    zero_point: u8,
    finish: nhwc::Finish,
) -> (Run, &'static str, usize) {
    let floats = matches!(conv.finish, Finish::Floats(_));
    if conv.is_depthwise() && !floats {
        let packed = Depthwise::new(isa, spec, &conv.weights, zero_point, finish);
        let (kernel, bytes) = (packed.kernel_name(), packed.weight_bytes());
        return (Run::Depthwise(packed), kernel, bytes);
    }
    // Wider forms take what does not fit in the narrowest.
    let weights = (&conv.weights[..], WeightForm::Table1);
    let packed = nhwc::Conv::new(isa, spec, weights, zero_point, finish);
    let (kernel, bytes) = (packed.kernel_name(), packed.weight_bytes());
    (if floats { Run::FloatConv(packed) } else { Run::Conv(packed) }, kernel, bytes)
}

/// Bytes of the codes that a step looks up.
fn table_bytes(kind: &Kind) -> usize {
    let tables = match kind {
        Kind::Table(tables) => tables.len(),
        Kind::Concat(tables) => tables.iter().flatten().count(),
        _ => 0,
    };
    256 * tables
}
