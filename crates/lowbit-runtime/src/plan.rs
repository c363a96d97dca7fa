//! A network made ready for this CPU: layouts, one block of memory, packed weights, steps in order.

mod bits;
mod float;
mod glue;
mod island;
pub(crate) mod memory;
mod step;

use std::ops::Range;

use lowbit_kernels::nhwc::{Arena, ImageLayout, Pool};
use lowbit_kernels::{Isa, Scratch};

use crate::network::{Codes, Kind, Network, ValueIndex};
pub use crate::plan::bits::BitSerial;
use crate::plan::bits::Choice;
use crate::plan::island::Room;
use crate::plan::memory::{Lifetime, VECTOR, place};
use crate::plan::step::{Compiled, Lies};

/// Where a value lies while a plan runs, as codes, bits or floats.
#[derive(Clone, Debug)]
struct Slot {
    /// Bytes of the arena for codes, elements of the floats otherwise.
    range: Range<usize>,
    /// How codes lie.
    layout: ImageLayout,
    /// How codes are to be read; the border holds their zero point, and that of bits zeros. `None` for floats.
    codes: Option<Codes>,
}

impl Slot {
    /// What was added to the model's codes.
    fn offset(&self) -> i32 {
        self.codes.map_or(0, |codes| codes.offset().into())
    }
}

/// A network compiled for one CPU. Immutable, shared by all that run it.
#[derive(Debug)]
pub struct Plan {
    isa: Isa,
    slots: Vec<Slot>,
    /// Of the values that lie as bits.
    bits: Vec<Option<Slot>>,
    steps: Vec<Compiled>,
    arena_len: usize,
    floats_len: usize,
    /// The step from which on several images run together.
    together: usize,
    input: ValueIndex,
    outputs: Vec<ValueIndex>,
    input_len: usize,
    output_len: usize,
}

/// The memory of one run at a time.
#[derive(Debug)]
pub struct Memory {
    arena: Arena,
    floats: Vec<f32>,
    /// What the float kernels work in.
    scratch: Scratch,
    /// What islands run in.
    room: Room,
}

/// What a step multiplies: each has a peak of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factors {
    /// Codes of 8 bits.
    Codes,
    /// Bits.
    Bits {
        /// How often those of the codes meet those of the weights: once for each plane of either.
        passes: usize,
    },
    /// Floats of 32 bits.
    Floats,
}

/// What a step of a plan is, for tables.
#[derive(Clone, Debug, PartialEq)]
pub struct StepInfo {
    /// The node it stems from.
    pub name: String,
    /// What it does.
    pub kind: &'static str,
    /// The kernel that runs, for convolutions and products.
    pub kernel: Option<&'static str>,
    /// What it multiplies.
    pub factors: Factors,
    /// Whether it writes the bits of its result and nothing else.
    pub writes_bits: bool,
    /// Multiplications for one image.
    pub macs: usize,
    /// Bytes of its packed weights, or tables.
    pub weight_bytes: usize,
    /// Height, width and channels of its result.
    pub output: [usize; 3],
}

impl Plan {
    /// Chooses kernels of `isa`, packs weights, lays out memory.
    #[must_use]
    pub fn new(network: &Network, isa: Isa) -> Plan {
        Self::choosing(network, isa, BitSerial::default())
    }

    /// As [`Plan::new`]; says when convolutions run on bits.
    #[must_use]
    pub fn choosing(network: &Network, isa: Isa, wanted: BitSerial) -> Plan {
        let choice = bits::choose(network, isa, wanted);
        let layouts = layouts(network, &choice);
        let (slots, bits) = slots(network, &layouts, &choice);
        let lies = Lies { layouts: &layouts, choice: &choice };
        let steps = (0..network.steps.len()).map(|step| Compiled::new(isa, step, network, lies));
        let steps = steps.collect();
        let end = |codes: bool| {
            let all = slots.iter().chain(bits.iter().flatten());
            let ends = all.filter(|slot| slot.codes.is_some() == codes);
            ends.map(|slot| slot.range.end).max().unwrap_or(0)
        };
        let output_len = network.outputs.first().map_or(0, |&output| network.values[output].len());
        let mut plan = Plan {
            isa,
            together: 0,
            arena_len: end(true),
            floats_len: end(false),
            steps,
            input: network.input,
            outputs: network.outputs.clone(),
            input_len: network.values[network.input].len(),
            output_len,
            slots,
            bits,
        };
        plan.together = plan.best_together();
        plan
    }

    /// Images that run together get each other's weights from a near cache, and lose their own codes there: from the step on from
    /// which weights outweigh codes the most. A byte of codes counts as four of weights, below which nothing was gained.
    fn best_together(&self) -> usize {
        let (mut best, mut from, mut saved) = (0, self.steps.len(), 0i64);
        for (index, step) in self.steps.iter().enumerate().rev() {
            let [weights, codes] = [step.shared_weight_bytes(), step.code_bytes(self)]
                .map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
            saved += weights - 4 * codes;
            if saved > best {
                (best, from) = (saved, index);
            }
        }
        from
    }

    /// Floats of one input image.
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.input_len
    }

    /// Scores of one image: elements of the first output.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.output_len
    }

    /// The number of the step from which on images of a batch run together; that of the steps where they never do.
    #[must_use]
    pub fn together(&self) -> usize {
        self.together
    }

    /// Bytes of activations while an image runs.
    #[must_use]
    pub fn activation_bytes(&self) -> usize {
        self.arena_len + 4 * self.floats_len
    }

    /// Bytes of packed weights and tables.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.steps.iter().map(Compiled::weight_bytes).sum()
    }

    /// What the steps are, in the order in which they run.
    #[must_use]
    pub fn steps(&self) -> Vec<StepInfo> {
        self.steps.iter().map(|step| step.info().clone()).collect()
    }

    /// Memory to run in. What float operators and islands work in is found by running them on zeros, on one thread: the first run on
    /// more threads adds what each of these needs.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let mut memory = Memory {
            arena: Arena::new(self.arena_len),
            floats: vec![0.0; self.floats_len],
            scratch: Scratch::new(),
            room: Room::new(),
        };
        let mut takers = self.steps.iter().filter(|step| step.takes_memory()).peekable();
        if takers.peek().is_some() {
            let (zeros, alone) = (vec![0.0; self.input_len], Pool::new(1));
            takers.for_each(|step| step.run(self, &zeros, &mut memory, &alone));
        }
        memory
    }

    /// Runs one image and writes the first output.
    ///
    /// # Panics
    /// When a length is not [`Plan::input_len`] or [`Plan::output_len`], or the memory is that of another plan.
    pub fn run(&self, input: &[f32], output: &mut [f32], memory: &mut Memory, pool: &Pool) {
        self.run_observed((input, output), memory, pool, &mut |_| {});
    }

    /// Runs as many images as there are memories, from [`Plan::together`] on layer by layer: weights meet all images while they are in a
    /// near cache. Convolutions that do so stay on this thread; `pool` has the others.
    ///
    /// # Panics
    /// When the lengths are not those of as many images, or a memory is that of another plan.
    pub fn run_images(
        &self,
        input: &[f32],
        output: &mut [f32],
        memories: &mut [Memory],
        pool: &Pool,
    ) {
        assert_eq!(input.len(), self.input_len * memories.len(), "floats of the inputs");
        assert_eq!(output.len(), self.output_len * memories.len(), "floats of the outputs");
        let inputs = || input.chunks_exact(self.input_len);
        let (alone, together) = self.steps.split_at(self.together);
        for (memory, input) in memories.iter_mut().zip(inputs()) {
            assert_eq!(memory.arena.len(), self.arena_len, "memory of this plan");
            alone.iter().for_each(|step| step.run(self, input, memory, pool));
        }
        for step in together {
            step.run_together(self, inputs(), (memories, pool));
        }
        let slot = &self.slots[self.outputs[0]];
        for (memory, output) in memories.iter().zip(output.chunks_exact_mut(self.output_len)) {
            output.copy_from_slice(&memory.floats[slot.range.clone()]);
        }
    }

    /// As [`Plan::run`]; calls `observe` with the number of each step that is done.
    ///
    /// # Panics
    /// As [`Plan::run`].
    pub fn run_observed(
        &self,
        (input, output): (&[f32], &mut [f32]),
        memory: &mut Memory,
        pool: &Pool,
        observe: &mut dyn FnMut(usize),
    ) {
        assert_eq!(input.len(), self.input_len, "floats of the input");
        assert_eq!(output.len(), self.output_len, "floats of the output");
        assert_eq!(memory.arena.len(), self.arena_len, "memory of this plan");
        for (index, step) in self.steps.iter().enumerate() {
            step.run(self, input, memory, pool);
            observe(index);
        }
        let slot = &self.slots[self.outputs[0]];
        output.copy_from_slice(&memory.floats[slot.range.clone()]);
    }
}

/// How each value lies as codes, and as bits where it does.
struct Layouts {
    codes: Vec<ImageLayout>,
    bits: Vec<Option<ImageLayout>>,
}

/// The border is the widest that a reader wants.
fn layouts(network: &Network, choice: &Choice) -> Layouts {
    // Of codes and of bits.
    let mut borders = vec![[[0usize; 4]; 2]; network.values.len()];
    for (number, step) in network.steps.iter().enumerate() {
        let Kind::Conv(conv) = &step.kind else { continue };
        let (x, y) = (step.inputs[0], step.outputs[0]);
        let ([height, width, _], [oh, ow, _]) =
            (network.values[x].image(), network.values[y].image());
        let window = conv.window;
        let border = &mut borders[x][usize::from(choice.on_bits[number])];
        for (axis, (extent, outputs)) in [(height, oh), (width, ow)].into_iter().enumerate() {
            let reach = (outputs - 1) * window.strides[axis]
                + (window.kernel[axis] - 1) * window.dilations[axis]
                + 1;
            let after = reach.saturating_sub(window.pads[axis] + extent);
            border[axis] = border[axis].max(window.pads[axis]);
            border[axis + 2] = border[axis + 2].max(after);
        }
    }
    let images = || network.values.iter().map(crate::network::Value::image).zip(&borders);
    Layouts {
        codes: images()
            .map(|([height, width, channels], [border, _])| {
                ImageLayout::new(height, width, channels, *border)
            })
            .collect(),
        bits: images()
            .zip(&choice.bits)
            .map(|((image, [_, border]), bits)| {
                let planes = bits.as_ref()?.few.values.planes;
                Some(ImageLayout::bits(image, planes, *border))
            })
            .collect(),
    }
}

/// Where each value lies as codes or floats, and as bits.
fn slots(network: &Network, layouts: &Layouts, choice: &Choice) -> (Vec<Slot>, Vec<Option<Slot>>) {
    const NEVER: Lifetime = Lifetime { len: 0, first: usize::MAX, last: 0 };
    let values = network.values.len();
    // Of codes, bits and floats.
    let mut lifetimes = [0; 3].map(|_| vec![NEVER; values]);
    for (index, value) in network.values.iter().enumerate() {
        match value.codes() {
            Some(_) if choice.codes[index] => lifetimes[0][index].len = layouts.codes[index].len(),
            Some(_) => {}
            // The caller keeps the input.
            None if index == network.input => {}
            None => lifetimes[2][index].len = value.len(),
        }
        lifetimes[1][index].len = layouts.bits[index].map_or(0, |layout| layout.len());
    }
    for (number, step) in network.steps.iter().enumerate() {
        let mut used = |kind: usize, value: ValueIndex| {
            let lifetime = &mut lifetimes[kind][value];
            lifetime.first = lifetime.first.min(number);
            lifetime.last = number;
        };
        for (index, &value) in step.inputs.iter().enumerate() {
            let kinds: &[usize] = if choice.reads_bits(number, index) { &[1] } else { &[0, 2] };
            kinds.iter().for_each(|&kind| used(kind, value));
        }
        for &value in &step.outputs {
            [0, 1, 2].into_iter().for_each(|kind| used(kind, value));
        }
    }
    let last = network.steps.len();
    network.outputs.iter().for_each(|&output| lifetimes[2][output].last = last);
    network.outputs.iter().for_each(|&output| lifetimes[0][output].last = last);
    let [codes, bits, floats] = lifetimes;
    // Codes and bits share one block.
    let mut bytes = place(&[codes, bits].concat(), VECTOR);
    let (bits, floats) = (bytes.split_off(values), place(&floats, VECTOR));
    let of_value = |(index, (bytes, floats)): (usize, (Range<usize>, Range<usize>))| {
        let codes = network.values[index].codes();
        let range = if codes.is_some() { bytes } else { floats };
        Slot { range, layout: layouts.codes[index], codes }
    };
    let slots = bytes.into_iter().zip(floats).enumerate().map(of_value).collect();
    let of_bits = |(index, range): (usize, Range<usize>)| {
        // Bits of a border are clear.
        let codes = network.values[index].codes().map(|codes| Codes { zero_point: 0, ..codes });
        layouts.bits[index].map(|layout| Slot { range, layout, codes })
    };
    (slots, bits.into_iter().enumerate().map(of_bits).collect())
}
