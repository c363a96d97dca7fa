//! One step, compiled: its kernel with packed weights, and where its operands lie.

use lowbit_kernels::Isa;
use lowbit_kernels::nhwc::{
    self, ConvSpec, Depthwise, ImageLayout, Operands, PackSigns, Pool, Requantize, ResidualAdd,
    SignConv, SignFinish, WeightForm, lookup,
};

use super::float::Float;
use super::signs::Signs;
use super::{Factors, Memory, Plan, StepInfo, glue, island};
use crate::network::{self, Conv, Finish, Kind, Network, Step, ValueIndex};

/// A step that can run.
#[derive(Debug)]
pub(super) struct Compiled {
    info: StepInfo,
    run: Run,
    inputs: Vec<ValueIndex>,
    outputs: Vec<ValueIndex>,
}

#[derive(Debug)]
enum Run {
    Conv(nhwc::Conv),
    Depthwise(nhwc::Depthwise),
    FloatConv(nhwc::Conv),
    /// A convolution of bits.
    Signs(Box<SignConv>),
    FloatSigns(Box<SignConv>),
    /// A table whose results are bits.
    Pack(PackSigns),
    /// The same, looked up: bits are set where entries are above the zero point.
    PackTables(Vec<[u8; 256]>, u8),
    Float(Box<Float>),
    /// What is no convolution runs by the network's own numbers.
    Plain(Kind),
}

/// How values lie: their layouts, and which are bits.
#[derive(Clone, Copy)]
pub(super) struct Lies<'a> {
    pub(super) layouts: &'a [ImageLayout],
    pub(super) signs: &'a [Option<Signs>],
}

impl Compiled {
    pub(super) fn new(isa: Isa, step: &Step, network: &Network, lies: Lies<'_>) -> Compiled {
        let (x, y) = (step.inputs[0], step.outputs[0]);
        let mut info = StepInfo {
            name: step.name.clone(),
            kind: step.kind.label(),
            kernel: None,
            factors: Factors::Codes,
            macs: 0,
            weight_bytes: 0,
            output: network.values[y].image(),
        };
        let run = match &step.kind {
            Kind::Conv(conv) => {
                let spec = spec(conv, step, lies.layouts);
                info.macs = spec.macs();
                let zero_point = network.values[x].codes().map_or(0, |codes| codes.zero_point);
                let (run, kernel, weight_bytes) =
                    convolution(isa, conv, spec, (lies, step, zero_point));
                (info.kernel, info.weight_bytes) = (Some(kernel), weight_bytes);
                if lies.signs[x].is_some() {
                    info.factors = Factors::Signs;
                }
                run
            }
            Kind::Float(float) => {
                info.factors = Factors::Floats;
                Run::Float(Box::new(Float::new(float, &mut info)))
            }
            Kind::Table(tables) if let Some(signs) = &lies.signs[y] => {
                info.kind = "signs";
                match &signs.thresholds {
                    Some(thresholds) => Run::Pack(PackSigns::new(isa, thresholds)),
                    None => {
                        let codes = network.values[y].codes().expect("signs are codes");
                        Run::PackTables(tables.clone(), codes.zero_point)
                    }
                }
            }
            plain => Run::Plain(plain.clone()),
        };
        Compiled { info, run, inputs: step.inputs.clone(), outputs: step.outputs.clone() }
    }

    pub(super) fn info(&self) -> &StepInfo {
        &self.info
    }

    pub(super) fn weight_bytes(&self) -> usize {
        self.info.weight_bytes
    }

    /// Bytes of weights that images of a batch share.
    pub(super) fn shared_weight_bytes(&self) -> usize {
        if matches!(self.run, Run::Float(_)) { 0 } else { self.info.weight_bytes }
    }

    /// Whether it takes memory beside its operands, as much as it finds out when it runs.
    pub(super) fn takes_memory(&self) -> bool {
        matches!(self.run, Run::Float(_) | Run::Plain(Kind::Island(_)))
    }

    pub(super) fn run(&self, plan: &Plan, input: &[f32], memory: &mut Memory, pool: &Pool) {
        let (x, y) = (&plan.slots[self.inputs[0]], &plan.slots[self.outputs[0]]);
        match &self.run {
            Run::FloatConv(conv) => conv.run_float(
                &memory.arena[x.range.clone()],
                &mut memory.floats[y.range.clone()],
                pool,
            ),
            Run::FloatSigns(conv) => conv.run_float(
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
                glue::quantize(plan.isa, quantize, y.offset(), (floats, &mut memory.row), to);
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
            Run::Conv(_)
            | Run::Depthwise(_)
            | Run::Signs(_)
            | Run::Pack(_)
            | Run::PackTables(..)
            | Run::Plain(_) => {
                self.run_on_codes(plan, (&mut memory.arena, &mut memory.row), pool);
            }
        }
        self.fill_borders(plan, memory);
    }

    /// Runs several images, each in its own memory, on this thread. The images of a convolution share the way of its weights to the core.
    pub(super) fn run_together<'a>(
        &self,
        plan: &Plan,
        inputs: impl Iterator<Item = &'a [f32]>,
        (memories, pool): (&mut [Memory], &Pool),
    ) {
        let (x, y) = (&plan.slots[self.inputs[0]], &plan.slots[self.outputs[0]]);
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
        memories.iter_mut().for_each(|memory| self.fill_borders(plan, memory));
    }

    /// Bytes that its codes take, read and written.
    pub(super) fn code_bytes(&self, plan: &Plan) -> usize {
        let values = self.inputs.iter().chain(&self.outputs).map(|&value| &plan.slots[value]);
        values.filter(|slot| slot.codes.is_some()).map(|slot| slot.range.len()).sum()
    }

    /// Steps whose operands and result are all codes.
    fn run_on_codes(&self, plan: &Plan, (arena, row): (&mut [u8], &mut [u8]), pool: &Pool) {
        let isa = plan.isa;
        let (x, y) = (&plan.slots[self.inputs[0]], &plan.slots[self.outputs[0]]);
        let (out, rest) = split(arena, y.range.clone());
        let image = |index: usize| {
            let slot = &plan.slots[self.inputs[index]];
            (rest.get(&slot.range), &slot.layout)
        };
        let (from, to) = (image(0), (&mut *out, &y.layout));
        let residual = || self.inputs.get(1).map(|_| image(1).0);
        let kind = match &self.run {
            Run::Conv(conv) | Run::FloatConv(conv) => {
                return conv.run(from.0, residual(), to.0, pool);
            }
            Run::Depthwise(conv) => return conv.run(from.0, residual(), to.0, pool),
            Run::Signs(conv) | Run::FloatSigns(conv) => {
                return conv.run(from.0, residual(), to.0, pool);
            }
            Run::PackTables(tables, zero_point) => {
                return glue::signs(isa, (tables, *zero_point), from, to);
            }
            Run::Pack(signs) => return signs.run((from.1, from.0), (to.1, to.0)),
            Run::Float(_) => unreachable!("`run` takes it out"),
            Run::Plain(kind) => kind,
        };
        match kind {
            Kind::Add(add) => glue::add(isa, add, x.offset(), [from, image(1)], to),
            Kind::Mul(mul) => glue::mul(isa, mul, x.offset(), [from, image(1)], to),
            Kind::Table(tables) => lookup(isa, tables, from, to),
            Kind::GlobalAverage(mean) => glue::global_average(isa, mean, x.offset(), from, to),
            Kind::AveragePool(mean) => glue::average_pool(isa, mean, x.offset(), from, to),
            Kind::MaxPool(window) => glue::max_pool(isa, window, from, row, to),
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

    /// Fills the borders of the results that are codes.
    fn fill_borders(&self, plan: &Plan, memory: &mut Memory) {
        for &output in &self.outputs {
            let slot = &plan.slots[output];
            if let Some(codes) = slot.codes
                && slot.layout.border != [0; 4]
            {
                slot.layout.fill_border(&mut memory.arena[slot.range.clone()], codes.zero_point);
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
    fn get(&self, range: &std::ops::Range<usize>) -> &'a [T] {
        if range.start < self.before.len() {
            &self.before[range.clone()]
        } else {
            &self.after[range.start - self.end..range.end - self.end]
        }
    }
}

fn split<T>(memory: &mut [T], range: std::ops::Range<usize>) -> (&mut [T], Around<'_, T>) {
    let (before, rest) = memory.split_at_mut(range.start);
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
    (lies, step, zero_point): (Lies<'_>, &Step, u8),
) -> (Run, &'static str, usize) {
    let bias = conv.bias.clone();
    let finish = match &conv.finish {
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
                    other: lies.layouts[step.inputs[1]],
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
    };
    let floats = matches!(conv.finish, Finish::Floats(_));
    if let Some(signs) = &lies.signs[step.inputs[0]] {
        let finish = match &lies.signs[step.outputs[0]] {
            Some(Signs { thresholds: Some(thresholds), .. }) => {
                SignFinish::Bits(thresholds.clone())
            }
            _ => SignFinish::Sums(finish),
        };
        let weights = conv.weights.iter().map(|&weight| weight * signs.distance.cast_signed());
        let packed = SignConv::new(isa, spec, &weights.collect::<Vec<i8>>(), finish);
        let (kernel, bytes) = (packed.kernel_name(), packed.weight_bytes());
        let packed = Box::new(packed);
        let run = if floats { Run::FloatSigns(packed) } else { Run::Signs(packed) };
        return (run, kernel, bytes);
    }
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
