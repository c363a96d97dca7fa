//! The convolution behind both word types: stage, sweep or slide, split over images, groups and threads.

use std::ops::Range;

use crate::depthwise::DepthwiseTask;
use crate::geometry::ConvGeometry;
use crate::isa::Isa;
use crate::stage::{Feed, Layout, Move, StageTask, Stager, staged_channels};
use crate::sweep::{Group, Pixels, Stream, Sweep, SweepTask};
use crate::threads::Threads;
use crate::tile::{Offsets, Sink};
use crate::word::Word;

/// Words of staged images that are swept together: small maps then fill their panels across images.
const BLOCK_WORDS: usize = 1 << 16;
/// Panels that a block fills at least, where there are images: of many panels, one that is part empty matters little.
const FULL_PANELS: usize = 8;

/// Buffers that kernels reuse from call to call, whatever their sizes. One for each thread that calls.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) staged: Vec<u32>,
    pub(crate) offsets: Vec<u32>,
    pub(crate) panel: Vec<u32>,
    pub(crate) moves: Vec<Move>,
    /// Phases of an input's gradient.
    pub(crate) parts: [Vec<f32>; 2],
    children: Vec<Scratch>,
}

impl Scratch {
    /// Empty buffers; they grow as needed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Scratch of `count` threads that work for this one.
    pub(crate) fn children(&mut self, count: usize) -> &mut [Self] {
        grow_children(&mut self.children, count)
    }
}

fn grow_children(children: &mut Vec<Scratch>, count: usize) -> &mut [Scratch] {
    if children.len() < count {
        children.resize_with(count, Scratch::default);
    }
    &mut children[..count]
}

/// Weights in words, laid out for the tiles of `isa`.
#[derive(Clone, Debug)]
pub(crate) struct Core {
    pub(crate) isa: Isa,
    /// `[o, i / groups, kh, kw]`
    shape: [usize; 4],
    groups: usize,
    /// Channels that share a word.
    pack: usize,
    /// `[group][panel][depth][rows]`, or `[channel][tap]` for a depthwise convolution.
    weights: Vec<u32>,
    /// `[group][panel][rows]`
    bias: Vec<u32>,
    /// Offsets of the depth in a packed panel.
    packed: Vec<u32>,
}

/// One call: what is read, how words are finished, which images.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a, F, W> {
    pub(crate) feed: F,
    pub(crate) word: W,
    pub(crate) geometry: &'a ConvGeometry,
}

/// Shape, groups and channels per word of weights to be packed.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    pub(crate) shape: [usize; 4],
    pub(crate) groups: usize,
    pub(crate) pack: usize,
}

impl Core {
    /// `word(o, i, ky, kx)` gives the weight word whose first input channel is `i`.
    pub(crate) fn new(
        isa: Isa,
        form: Form,
        bias: impl Fn(usize) -> u32,
        word: impl Fn([usize; 4]) -> u32,
    ) -> Self {
        let [outputs, inputs, kh, kw] = form.shape;
        assert!(
            form.groups > 0 && outputs % form.groups == 0,
            "the groups divide the output channels"
        );
        let group_outputs = outputs / form.groups;
        let rows = if group_outputs == 1 && inputs == 1 { 1 } else { isa.tile().rows };
        let panels = group_outputs.div_ceil(rows);
        let depth = inputs.div_ceil(form.pack) * kh * kw;
        let mut weights = vec![0; form.groups * panels * depth * rows];
        let mut padded_bias = vec![0; form.groups * panels * rows];
        for output in 0..outputs {
            let (group, in_group) = (output / group_outputs, output % group_outputs);
            let panel = group * panels + in_group / rows;
            padded_bias[panel * rows + in_group % rows] = bias(output);
            let lane = weights[panel * depth * rows + in_group % rows..].iter_mut().step_by(rows);
            let taps = (0..inputs).step_by(form.pack).flat_map(|input| {
                (0..kh).flat_map(move |y| (0..kw).map(move |x| [output, input, y, x]))
            });
            for (to, at) in lane.zip(taps) {
                *to = word(at);
            }
        }
        let packed = (0..depth).map(|k| (k * isa.tile().columns()) as u32).collect();
        Self {
            isa,
            shape: form.shape,
            groups: form.groups,
            pack: form.pack,
            weights,
            bias: padded_bias,
            packed,
        }
    }

    pub(crate) fn weight_bytes(&self) -> usize {
        size_of_val(&self.weights[..]) + size_of_val(&self.bias[..])
    }

    pub(crate) fn run<F: Feed, W: Word>(
        &self,
        job: &Job<'_, F, W>,
        (n, threads): (usize, Threads<'_>),
        out: &mut [u32],
        scratch: &mut Scratch,
    ) {
        let g = job.geometry;
        assert!(
            g.weight_shape() == self.shape && g.groups == self.groups,
            "the geometry is that of the packed weights"
        );
        assert!(g.channels_in == self.shape[1] * g.groups, "the groups divide the input channels");
        assert!(out.len() == n * g.output_len(), "the output holds n images");
        let threads = threads.for_work(n * g.macs());
        match threads {
            Threads::One => self.images(job, 0..n, out, scratch),
            Threads::Rayon if n >= rayon::current_num_threads() => {
                let tasks = n.min(threads.parts());
                let each = n.div_ceil(tasks);
                let out = (out, (each * g.output_len()).max(1));
                threads.chunks_with(out, scratch.children(tasks), |task, out, scratch| {
                    self.images(job, task * each..((task + 1) * each).min(n), out, scratch);
                });
            }
            _ => self.few_images(job, (n, threads), out, scratch),
        }
    }

    fn few_images<F: Feed, W: Word>(
        &self,
        job: &Job<'_, F, W>,
        (n, threads): (usize, Threads<'_>),
        out: &mut [u32],
        scratch: &mut Scratch,
    ) {
        if job.geometry.is_depthwise() {
            return self.split_depthwise(job, (n, threads), out, scratch);
        }
        let layout = Layout::new(job.geometry);
        for (image, out) in out.chunks_exact_mut(job.geometry.output_len()).enumerate() {
            self.block(job, &layout, Block { images: image..image + 1, threads }, (out, scratch));
        }
    }

    fn split_depthwise<F: Feed, W: Word>(
        &self,
        job: &Job<'_, F, W>,
        (n, threads): (usize, Threads<'_>),
        out: &mut [u32],
        scratch: &mut Scratch,
    ) {
        let area: usize = job.geometry.output().iter().product();
        let planes = n * job.geometry.channels_out;
        let tasks = planes.min(threads.parts());
        let each = planes.div_ceil(tasks.max(1));
        let out = (out, (each * area).max(1));
        threads.chunks_with(out, scratch.children(tasks), |task, out, scratch| {
            self.depthwise(job, task * each, out, scratch);
        });
    }

    /// The planes of `out`, the first being output plane `first` counted through the images.
    fn depthwise<F: Feed, W: Word>(
        &self,
        job: &Job<'_, F, W>,
        first: usize,
        out: &mut [u32],
        scratch: &mut Scratch,
    ) {
        let layout = Layout::new(job.geometry);
        layout.moves(&mut scratch.moves);
        let task = DepthwiseTask {
            job: *job,
            stager: Stager { feed: job.feed, layout: &layout, moves: &scratch.moves },
            first,
            weights: &self.weights,
            bias: &self.bias,
            out,
            staged: &mut scratch.staged,
        };
        self.isa.dispatch(task);
    }

    /// The images of a range, on this thread.
    fn images<F: Feed, W: Word>(
        &self,
        job: &Job<'_, F, W>,
        images: Range<usize>,
        out: &mut [u32],
        scratch: &mut Scratch,
    ) {
        if job.geometry.is_depthwise() {
            return self.depthwise(job, images.start * job.geometry.channels_out, out, scratch);
        }
        let layout = Layout::new(job.geometry);
        let image_words = staged_channels::<F>(job.geometry) * layout.plane();
        let area: usize = job.geometry.output().iter().product();
        let filled = (FULL_PANELS * self.isa.tile().columns()).div_ceil(area.max(1));
        let step = (BLOCK_WORDS / image_words.max(1)).max(filled).max(1);
        let image_out = job.geometry.output_len();
        for start in images.clone().step_by(step) {
            let block = start..(start + step).min(images.end);
            let out = &mut out
                [(start - images.start) * image_out..(block.end - images.start) * image_out];
            self.block(
                job,
                &layout,
                Block { images: block, threads: Threads::One },
                (out, scratch),
            );
        }
    }

    /// Stages some images, then sweeps them.
    fn block<F: Feed, W: Word>(
        &self,
        job: &Job<'_, F, W>,
        layout: &Layout,
        block: Block<'_>,
        (out, scratch): (&mut [u32], &mut Scratch),
    ) {
        let g = job.geometry;
        let Scratch { staged, offsets, panel, moves, children, .. } = scratch;
        let channels = staged_channels::<F>(g);
        let image_words = channels * layout.plane();
        let x = match job.feed.direct() {
            Some(words) if layout.is_identity() => &words[block.images.start * g.input_len()..],
            _ => {
                layout.moves(moves);
                self.stage(Stager { feed: job.feed, layout, moves }, channels, &block, staged)
            }
        };
        let x = &x[..x.len().min(block.images.len() * image_words + SLACK)];
        self.offsets(layout, offsets);
        let [rows, width] = g.output();
        let images = block.images.len();
        let pixels = Pixels {
            images,
            rows,
            width,
            pitch: layout.pitch(),
            image_words,
            image_out: g.output_len(),
        };
        let sweep = Sweep {
            word: job.word,
            x,
            stream: Stream::new(pixels, self.isa.tile(), self.shape[0] / self.groups),
            taps: Offsets::new(offsets),
            packed: Offsets::new(&self.packed),
            area: rows * width,
            out: Sink::new(out),
        };
        let group_words = channels / g.groups * layout.plane();
        match block.threads {
            Threads::One => self.sweep(&sweep, group_words, panel),
            threads => self.split_sweep(&sweep, group_words, (threads, children)),
        }
    }

    /// Where the taps of a group lie in its staged channels, in the order of the packed weights.
    fn offsets(&self, layout: &Layout, offsets: &mut Vec<u32>) {
        let [_, inputs, kh, kw] = self.shape;
        offsets.clear();
        offsets.extend((0..kh * kw).map(|tap| layout.tap(tap / kw, tap % kw) as u32));
        for channel in 1..inputs.div_ceil(self.pack) {
            let first = (channel * layout.plane()) as u32;
            offsets.extend_from_within(..kh * kw);
            offsets[channel * kh * kw..].iter_mut().for_each(|offset| *offset += first);
        }
    }

    fn stage<'s, F: Feed>(
        &self,
        stager: Stager<'_, F>,
        channels: usize,
        block: &Block<'_>,
        staged: &'s mut Vec<u32>,
    ) -> &'s [u32] {
        let plane = stager.layout.plane();
        let words = block.images.len() * channels * plane;
        if staged.len() < words + SLACK {
            staged.resize(words + SLACK, 0);
        }
        let first = block.images.start * channels;
        let each = channels.div_ceil(block.threads.parts());
        block.threads.chunks(&mut staged[..words], (each * plane).max(1), |task, to| {
            self.isa.dispatch(StageTask { stager, first: first + task * each, to });
        });
        &staged[..words + SLACK]
    }

    fn group(&self, index: usize, sweep_area: usize, group_words: usize) -> Group<'_> {
        let channels = self.shape[0] / self.groups;
        let weights = self.weights.len() / self.groups;
        let bias = self.bias.len() / self.groups;
        Group {
            from: index * group_words,
            to: index * channels * sweep_area,
            channels,
            weights: &self.weights[index * weights..][..weights],
            bias: &self.bias[index * bias..][..bias],
        }
    }

    fn sweep<W: Word>(&self, sweep: &Sweep<'_, W>, group_words: usize, buffer: &mut Vec<u32>) {
        let outputs = 0..(self.shape[0] / self.groups).div_ceil(self.isa.tile().rows);
        for index in 0..self.groups {
            let group = self.group(index, sweep.area, group_words);
            let panels = 0..sweep.stream.panels();
            self.isa.dispatch(SweepTask {
                sweep: *sweep,
                group,
                panels,
                outputs: outputs.clone(),
                buffer,
            });
        }
    }

    /// Splits groups and panels over threads, and output panels too where there are too few.
    fn split_sweep<W: Word>(
        &self,
        sweep: &Sweep<'_, W>,
        group_words: usize,
        (threads, children): (Threads<'_>, &mut Vec<Scratch>),
    ) {
        let outputs = (self.shape[0] / self.groups).div_ceil(self.isa.tile().rows);
        let panels = sweep.stream.panels();
        let wanted = threads.parts();
        let parts = wanted.div_ceil(self.groups).min(panels).max(1);
        let splits = wanted.div_ceil(self.groups * parts).min(outputs).max(1);
        let cut = |total: usize, count: usize, index: usize| {
            total * index / count..total * (index + 1) / count
        };
        let tasks = self.groups * parts * splits;
        threads.chunks(grow_children(children, tasks), 1, |task, scratch| {
            let (index, rest) = (task / (parts * splits), task % (parts * splits));
            self.isa.dispatch(SweepTask {
                sweep: *sweep,
                group: self.group(index, sweep.area, group_words),
                panels: cut(panels, parts, rest / splits),
                outputs: cut(outputs, splits, rest % splits),
                buffer: &mut scratch[0].panel,
            });
        });
    }
}

/// Readable words behind the staged images, so that the last vector may reach over the end.
const SLACK: usize = 64;

/// Images that are staged and swept together.
struct Block<'a> {
    images: Range<usize>,
    threads: Threads<'a>,
}
