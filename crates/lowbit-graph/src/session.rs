//! Runs a graph: one node after the other, buffers reused.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use lowbit_tensor::{Buffer, Shape, Tensor};
use rayon::prelude::*;

use crate::op::{Operand, Prepared, pooled};
use crate::{Graph, GraphError, Inputs, Node, OpError, ValueId};

mod steps;
mod tape;

use steps::{Narrow, Onto, Plan, Step};
pub use tape::Tape;

/// Buffers that finished values gave back, for the next ones to use.
#[derive(Debug)]
pub struct Pool {
    floats: Vec<Vec<f32>>,
    codes: Vec<Vec<u8>>,
    sums: Vec<Vec<i32>>,
    limit: usize,
}

/// Elements a single result may have unless a session says otherwise: 2^28, 1 GiB of floats.
const DEFAULT_ELEMENT_LIMIT: usize = 1 << 28;

impl Default for Pool {
    fn default() -> Self {
        Pool { floats: vec![], codes: vec![], sums: vec![], limit: DEFAULT_ELEMENT_LIMIT }
    }
}

fn take<T: Copy + Default>(free: &mut Vec<Vec<T>>, len: usize) -> Vec<T> {
    // One of this length, which needs no filling; else the smallest that is large enough, so that a large one is not spent on a
    // small value.
    let fitting = (0..free.len())
        .filter(|&i| free[i].capacity() >= len)
        .min_by_key(|&i| (free[i].len() != len, free[i].capacity()));
    let mut buffer = fitting.map(|i| free.swap_remove(i)).unwrap_or_default();
    buffer.resize(len, T::default());
    buffer
}

impl Pool {
    /// Number of elements of `shape`, when the limit allows it.
    ///
    /// # Errors
    /// `TooLarge` when it does not.
    pub fn check(&self, shape: &Shape) -> Result<usize, OpError> {
        match shape.checked_len() {
            Some(n) if n <= self.limit => Ok(n),
            _ => Err(OpError::TooLarge { shape: shape.to_string(), limit: self.limit }),
        }
    }

    /// A float buffer for `shape`; its contents are arbitrary.
    ///
    /// # Errors
    /// `TooLarge` beyond the session's limit.
    pub fn floats(&mut self, shape: &Shape) -> Result<Vec<f32>, OpError> {
        let len = self.check(shape)?;
        Ok(take(&mut self.floats, len))
    }

    /// A byte buffer for `shape`; its contents are arbitrary.
    ///
    /// # Errors
    /// `TooLarge` beyond the session's limit.
    pub fn codes(&mut self, shape: &Shape) -> Result<Vec<u8>, OpError> {
        let len = self.check(shape)?;
        Ok(take(&mut self.codes, len))
    }

    /// An int32 buffer for `shape`; its contents are arbitrary.
    ///
    /// # Errors
    /// `TooLarge` beyond the session's limit.
    pub fn sums(&mut self, shape: &Shape) -> Result<Vec<i32>, OpError> {
        let len = self.check(shape)?;
        Ok(take(&mut self.sums, len))
    }

    /// Takes an int32 buffer back.
    pub fn give_sums(&mut self, buffer: Vec<i32>) {
        self.sums.push(buffer);
    }

    /// Takes a finished tensor's buffer back.
    pub fn give(&mut self, tensor: Tensor) {
        match tensor.into_buffer() {
            Buffer::F32(v) => self.floats.push(v),
            Buffer::U8(v) => self.codes.push(v),
            Buffer::I32(v) => self.sums.push(v),
            _ => {}
        }
    }
}

/// What one thread needs to run sessions: buffers and scratch, reused from run to run.
#[derive(Debug)]
pub struct Workspace {
    /// Result buffers.
    pub pool: Pool,
    /// Kernel scratch.
    pub scratch: lowbit_kernels::Scratch,
    /// Whether operators may use other threads.
    pub parallel: lowbit_kernels::Parallel,
}

impl Workspace {
    /// A workspace whose operators run on the calling thread alone: for callers that run many images in parallel.
    #[must_use]
    pub fn serial() -> Self {
        Workspace::new(lowbit_kernels::Parallel::Serial)
    }

    /// A workspace whose operators share their work among the threads of the current rayon pool.
    #[must_use]
    pub fn parallel() -> Self {
        Workspace::new(lowbit_kernels::Parallel::Rayon)
    }

    fn new(parallel: lowbit_kernels::Parallel) -> Self {
        Workspace { pool: Pool::default(), scratch: lowbit_kernels::Scratch::new(), parallel }
    }

    /// Refuses results of more than `limit` elements.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.pool.limit = limit;
        self
    }
}

/// A verified graph with its weights packed for the kernels, ready to run. Shared freely between threads.
#[derive(Debug)]
pub struct Session {
    graph: Graph,
    prepared: Vec<Prepared>,
    /// How a run goes that nobody watches, and one where every value is shown.
    joined: Plan,
    plain: Plan,
    /// Per node, whether zeros will do for what is only computed from values; none where values are wanted.
    sketches: Vec<bool>,
}

impl Session {
    /// Verifies the graph and packs its weights.
    ///
    /// # Errors
    /// What [`Graph::verify`] finds, or a node whose constant operands do not fit it.
    pub fn new(graph: &Graph) -> Result<Self, GraphError> {
        graph.verify()?;
        let mut prepared = Vec::with_capacity(graph.nodes.len());
        for node in &graph.nodes {
            let known = |input: &Option<ValueId>| match input.map(|v| graph.constant(v)) {
                None => Operand::Absent,
                Some(None) => Operand::Dynamic,
                Some(Some(tensor)) => Operand::Constant(tensor),
            };
            let operands: Vec<Operand<'_>> = node.inputs.iter().map(known).collect();
            let packed = Prepared::new(&node.op, &operands);
            prepared.push(packed.map_err(|source| GraphError::Op {
                node: node.name.clone(),
                op: node.op.name(),
                source,
            })?);
        }
        let (joined, plain) = (Plan::joined(graph, &prepared), Plan::plain(graph));
        Ok(Session { graph: graph.clone(), prepared, joined, plain, sketches: vec![] })
    }

    /// A session whose runs are about shapes: large float results and codes are zeros where the operator's shape rule is at hand,
    /// but for the values in `exact`.
    ///
    /// # Errors
    /// What [`Graph::verify`] finds.
    pub(crate) fn sketch(graph: &Graph, exact: &HashSet<ValueId>) -> Result<Self, GraphError> {
        graph.verify()?;
        let prepared: Vec<Prepared> = graph.nodes.iter().map(|_| Prepared::Plain).collect();
        let wanted = |node: &Node| node.outputs.iter().flatten().any(|v| exact.contains(v));
        let sketches = graph.nodes.iter().map(|node| !wanted(node)).collect();
        let (joined, plain) = (Plan::joined(graph, &prepared), Plan::plain(graph));
        Ok(Session { graph: graph.clone(), prepared, joined, plain, sketches })
    }

    /// The graph that runs.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Computes the outputs.
    ///
    /// # Errors
    /// `Feed` when the inputs are not the graph's, `Op` when a node refuses its inputs.
    pub fn run(&self, feeds: &[Tensor], work: &mut Workspace) -> Result<Vec<Tensor>, GraphError> {
        self.run_plan(&self.joined, feeds, work, &mut |_, _| {})
    }

    /// Computes the outputs of a batch in slices of a few images, on as many threads as there are workspaces.
    ///
    /// A slice's activations stay in the cache where a whole batch's would go through memory. From where weights outweigh
    /// activations, a few slices go on as one. Images do not see each other in an inference graph; where outputs do not follow the
    /// batch along their first axis (or are not float), the whole batch runs at once.
    ///
    /// # Errors
    /// As [`Session::run`].
    ///
    /// # Panics
    /// When there is no workspace.
    pub fn run_batch(
        &self,
        batch: &Tensor,
        works: &mut [Workspace],
    ) -> Result<Vec<Tensor>, GraphError> {
        let feeds = std::slice::from_ref(batch);
        let n = batch.shape().first().copied().unwrap_or(0);
        let per_image = batch.len() / n.max(1);
        let share = n.div_ceil(works.len()).max(1);
        let slice = (SLICE_FLOATS / per_image.max(1)).clamp(1, share);
        let sliceable = self.graph.inputs.len() == 1 && batch.as_slice::<f32>().is_ok();
        if n <= slice || !sliceable {
            return self.run(feeds, &mut works[0]);
        }
        let group = slice.max(TOGETHER.min(share));
        let next = AtomicUsize::new(0);
        let done: Vec<Vec<Part>> = works
            .par_iter_mut()
            .map(|work| {
                let mut done = vec![];
                loop {
                    let first = next.fetch_add(group, Ordering::Relaxed);
                    if first >= n {
                        return Ok(done);
                    }
                    let images = first..(first + group).min(n);
                    done.extend(self.run_group(batch, images, slice, work)?);
                }
            })
            .collect::<Result<_, GraphError>>()?;
        let mut parts: Vec<Part> = done.into_iter().flatten().collect();
        parts.sort_by_key(|(images, _)| images.start);
        match (0..self.graph.outputs.len()).map(|output| join(&parts, output)).collect() {
            Some(outputs) => Ok(outputs),
            None => self.run(feeds, &mut works[0]),
        }
    }

    /// Runs images of a batch: each slice up to where weights outweigh activations, all together from there on.
    fn run_group(
        &self,
        batch: &Tensor,
        images: Range<usize>,
        slice: usize,
        work: &mut Workspace,
    ) -> Result<Vec<Part>, GraphError> {
        let slices =
            images.clone().step_by(slice).map(|first| first..(first + slice).min(images.end));
        let (mut parts, mut values, mut places) = (vec![], vec![], vec![]);
        for part in slices.clone() {
            match self.run_head(&[cut(batch, &part)], images.len() > slice, work)? {
                Reached::End(outputs) => parts.push((part, outputs)),
                Reached::Narrow(narrow, value) => {
                    places.push(narrow);
                    values.push(value);
                }
            }
        }
        let Some(narrow) = places.first() else {
            return Ok(parts);
        };
        let alike = parts.is_empty() && places.iter().all(|place| place.step == narrow.step);
        let value = stack(&values, work);
        values.into_iter().for_each(|value| work.pool.give(value));
        if let Some(value) = value.filter(|_| alike)
            && let Ok(outputs) = self.run_tail(narrow, value, work)
        {
            return Ok(vec![(images, outputs)]);
        }
        // The graph is for slices of this size alone.
        slices.map(|part| Ok((part.clone(), self.run(&[cut(batch, &part)], work)?))).collect()
    }

    /// Runs to the first narrow place behind which weights outweigh activations, where the caller asks for it, or to the end.
    fn run_head(
        &self,
        feeds: &[Tensor],
        stop: bool,
        work: &mut Workspace,
    ) -> Result<Reached<'_>, GraphError> {
        self.check_feeds(feeds.iter())?;
        let (plan, n) = (&self.joined, feeds[0].shape().first());
        let mut live = HashMap::new();
        let mut at = 0;
        for narrow in plan.narrows.iter().filter(|_| stop) {
            self.advance((plan, at..narrow.step), (feeds, &mut live), work, &mut |_, _| {})?;
            at = narrow.step;
            let passes = |value: &Tensor| {
                let shape = value.shape();
                value.as_slice::<f32>().is_ok() && shape.first() == n && narrow.is_heavy(shape)
            };
            if live.get(&narrow.value).is_some_and(passes)
                && let Some(value) = live.remove(&narrow.value)
            {
                return Ok(Reached::Narrow(narrow, value));
            }
        }
        self.advance((plan, at..plan.steps.len()), (feeds, &mut live), work, &mut |_, _| {})?;
        Ok(Reached::End(self.outputs(feeds, &live)))
    }

    /// Runs from a narrow place to the end.
    fn run_tail(
        &self,
        narrow: &Narrow,
        value: Tensor,
        work: &mut Workspace,
    ) -> Result<Vec<Tensor>, GraphError> {
        let steps = narrow.step..self.joined.steps.len();
        let mut live = HashMap::from([(narrow.value, value)]);
        self.advance((&self.joined, steps), (&[], &mut live), work, &mut |_, _| {})?;
        Ok(self.outputs(&[], &live))
    }

    /// Computes the outputs and shows every value on the way, inputs first, as soon as it is known.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_observed(
        &self,
        feeds: &[Tensor],
        work: &mut Workspace,
        observe: &mut dyn FnMut(ValueId, &Tensor),
    ) -> Result<Vec<Tensor>, GraphError> {
        self.run_plan(&self.plain, feeds, work, observe)
    }

    fn run_plan(
        &self,
        plan: &Plan,
        feeds: &[Tensor],
        work: &mut Workspace,
        observe: &mut dyn FnMut(ValueId, &Tensor),
    ) -> Result<Vec<Tensor>, GraphError> {
        self.check_feeds(feeds.iter())?;
        for (input, tensor) in self.graph.inputs.iter().zip(feeds) {
            observe(input.value, tensor);
        }
        let mut live = HashMap::new();
        self.advance((plan, 0..plan.steps.len()), (feeds, &mut live), work, observe)?;
        Ok(self.outputs(feeds, &live))
    }

    /// Takes some steps of a plan.
    fn advance(
        &self,
        (plan, steps): (&Plan, Range<usize>),
        (feeds, live): (&[Tensor], &mut HashMap<ValueId, Tensor>),
        work: &mut Workspace,
        observe: &mut dyn FnMut(ValueId, &Tensor),
    ) -> Result<(), GraphError> {
        for (step, expiring) in plan.steps[steps.clone()].iter().zip(&plan.expiring[steps]) {
            let made = match &step.onto {
                Some(onto) => self.add_onto((step, onto), expiring, (feeds, live), work)?,
                None => self.step(step.last(), feeds, live, work)?,
            };
            for (value, tensor) in self.graph.nodes[step.last()].outputs.iter().zip(made) {
                if let Some(value) = *value {
                    observe(value, &tensor);
                    live.insert(value, tensor);
                }
            }
            for value in expiring {
                // Sketches take nothing from the pool.
                if let Some(tensor) = live.remove(value)
                    && self.sketches.is_empty()
                {
                    work.pool.give(tensor);
                }
            }
        }
        Ok(())
    }

    fn outputs(&self, feeds: &[Tensor], live: &HashMap<ValueId, Tensor>) -> Vec<Tensor> {
        let take = |&value: &ValueId| self.read(value, feeds, live).cloned();
        self.graph.outputs.iter().filter_map(take).collect()
    }

    /// Computes the outputs of a graph of one node, shows each with its number, and takes their buffers back into `work`. A run takes no
    /// more memory than three short lists (operands, results, a shape) and what the operator itself does not take from `work`.
    ///
    /// # Errors
    /// As [`Session::run`].
    ///
    /// # Panics
    /// When the graph has another number of nodes.
    pub fn run_alone(
        &self,
        feeds: &[Tensor],
        work: &mut Workspace,
        show: &mut dyn FnMut(usize, &Tensor),
    ) -> Result<(), GraphError> {
        assert_eq!(self.graph.nodes.len(), 1, "nodes of a graph that is one operator");
        self.check_feeds(feeds.iter())?;
        let made = self.step(0, feeds, &HashMap::new(), work)?;
        for (value, tensor) in self.graph.nodes[0].outputs.iter().zip(made) {
            let output = self.graph.outputs.iter().position(|output| Some(*output) == *value);
            if let Some(output) = output {
                show(output, &tensor);
            }
            work.pool.give(tensor);
        }
        Ok(())
    }

    fn step(
        &self,
        index: usize,
        feeds: &[Tensor],
        live: &HashMap<ValueId, Tensor>,
        work: &mut Workspace,
    ) -> Result<Vec<Tensor>, GraphError> {
        let node = &self.graph.nodes[index];
        let read = |v: &Option<ValueId>| v.and_then(|v| self.read(v, feeds, live));
        let inputs: Vec<Option<&Tensor>> = node.inputs.iter().map(read).collect();
        if self.sketches.get(index) == Some(&true)
            && let Some(sketched) = node.op.sketch(&Inputs(&inputs))
        {
            return Ok(vec![sketched]);
        }
        let made = self.prepared[index].forward(&node.op, &Inputs(&inputs), work);
        made.map_err(|source| self.refused(index, source))
    }

    /// Runs a convolution, the sum that reads it and the activation behind: at once in the place of the other operand, or one by one
    /// where that has another shape.
    fn add_onto(
        &self,
        (step, onto): (&Step, &Onto),
        expiring: &[ValueId],
        (feeds, live): (&[Tensor], &mut HashMap<ValueId, Tensor>),
        work: &mut Workspace,
    ) -> Result<Vec<Tensor>, GraphError> {
        let node = &self.graph.nodes[step.nodes[0]];
        let refused = |source| self.refused(step.nodes[0], source);
        let held = if expiring.contains(&onto.other) && !node.inputs.contains(&Some(onto.other)) {
            live.remove(&onto.other)
        } else {
            None
        };
        let read = |v: &Option<ValueId>| v.and_then(|v| self.read(v, feeds, live));
        let inputs: Vec<Option<&Tensor>> = node.inputs.iter().map(read).collect();
        let other = held.as_ref().or_else(|| self.read(onto.other, feeds, live));
        if let Prepared::Conv(conv, packed) = &self.prepared[step.nodes[0]]
            && let Some(other) = other
            && conv.result_shape(packed, &Inputs(&inputs)).map_err(refused)? == *other.shape()
            && other.as_slice::<f32>().is_ok()
        {
            let held = match held {
                Some(held) => held,
                None => {
                    pooled(other.shape(), other.f32s().iter().copied(), work).map_err(refused)?
                }
            };
            let made = conv.run_onto(packed, &Inputs(&inputs), (held, onto.activation), work);
            return Ok(vec![made.map_err(refused)?]);
        }
        live.extend(held.map(|held| (onto.other, held)));
        for &index in &step.nodes {
            let made = self.step(index, feeds, live, work)?;
            if index == step.last() {
                return Ok(made);
            }
            let outputs = self.graph.nodes[index].outputs.iter().flatten();
            live.extend(outputs.copied().zip(made));
        }
        Ok(vec![])
    }

    /// What node `index` found wrong.
    fn refused(&self, index: usize, source: OpError) -> GraphError {
        let node = &self.graph.nodes[index];
        GraphError::Op { node: node.name.clone(), op: node.op.name(), source }
    }

    fn read<'a>(
        &'a self,
        value: ValueId,
        feeds: &'a [Tensor],
        live: &'a HashMap<ValueId, Tensor>,
    ) -> Option<&'a Tensor> {
        let fed =
            || self.graph.inputs.iter().position(|i| i.value == value).and_then(|i| feeds.get(i));
        live.get(&value).or_else(|| self.graph.constant(value).map(AsRef::as_ref)).or_else(fed)
    }

    fn check_feeds<'a>(
        &self,
        feeds: impl ExactSizeIterator<Item = &'a Tensor>,
    ) -> Result<(), GraphError> {
        let graph = &self.graph;
        if feeds.len() != graph.inputs.len() {
            return Err(GraphError::Feed {
                input: graph.inputs.first().map_or("", |i| graph.value_name(i.value)).to_owned(),
                found: format!("{} tensors", feeds.len()),
                expected: format!("{} tensors", graph.inputs.len()),
            });
        }
        for (input, tensor) in graph.inputs.iter().zip(feeds) {
            let fits = tensor.rank() == input.dims.len()
                && tensor.shape().iter().zip(&input.dims).all(|(&d, e)| e.is_none_or(|e| e == d));
            if !fits || tensor.dtype() != input.dtype {
                let dims: Vec<_> =
                    input.dims.iter().map(|d| d.map_or("?".into(), |d| d.to_string())).collect();
                return Err(GraphError::Feed {
                    input: graph.value_name(input.value).to_owned(),
                    found: format!("{}{}", tensor.dtype(), tensor.shape()),
                    expected: format!("{}[{}]", input.dtype, dims.join(", ")),
                });
            }
        }
        Ok(())
    }
}

/// Floats of input that one slice of a batch holds: larger ones leave the cache.
const SLICE_FLOATS: usize = 1 << 17;

/// Images that go on together, where slices have fewer, from where weights outweigh activations: weights are then read once for
/// all of them, and the register tiles of small images are full.
const TOGETHER: usize = 4;

/// The outputs of some images of a batch.
type Part = (Range<usize>, Vec<Tensor>);

/// How far a run went.
enum Reached<'s> {
    /// To a narrow place, with the value that passes it.
    Narrow(&'s Narrow, Tensor),
    /// To the outputs.
    End(Vec<Tensor>),
}

/// Images of a float batch.
fn cut(batch: &Tensor, images: &Range<usize>) -> Tensor {
    let mut dims = batch.shape().to_vec();
    let per_image = batch.len() / dims[0].max(1);
    dims[0] = images.len();
    let part = &batch.f32s()[images.start * per_image..images.end * per_image];
    Tensor::new(dims, part.to_vec())
}

/// Float values along their first axis, in a buffer of the pool; `None` when they differ in more than that.
fn stack(values: &[Tensor], work: &mut Workspace) -> Option<Tensor> {
    let first = values.first()?.shape();
    if values.iter().any(|value| value.shape()[1..] != first[1..]) {
        return None;
    }
    let mut dims = first.to_vec();
    dims[0] = values.iter().map(|value| value.shape()[0]).sum();
    let shape = Shape::from(dims);
    let mut out = work.pool.floats(&shape).ok()?;
    let mut rest = &mut *out;
    for value in values {
        let (part, behind) = rest.split_at_mut(value.len());
        part.copy_from_slice(value.f32s());
        rest = behind;
    }
    Some(Tensor::new(shape, out))
}

/// One output of all parts, one after the other; `None` when it does not follow the batch.
fn join(parts: &[Part], output: usize) -> Option<Tensor> {
    let mut dims = parts.first()?.1.get(output)?.shape().to_vec();
    let mut values = vec![];
    for (images, outputs) in parts {
        let part = outputs.get(output)?;
        if part.shape().first() != Some(&images.len()) {
            return None;
        }
        values.extend_from_slice(part.as_slice::<f32>().ok()?);
    }
    dims[0] = parts.iter().map(|(images, _)| images.len()).sum();
    (dims.iter().product::<usize>() == values.len()).then(|| Tensor::new(dims, values))
}

#[cfg(test)]
mod tests;
