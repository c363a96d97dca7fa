//! Reverse-mode gradients: a run that keeps every value, and the way back over it.
//!
//! ```text
//! reached = values that depend on a wanted one
//! gradient[v] = seed[v], or nothing
//! for each node, last first, that makes a value with a gradient from a reached one:
//!     for each reached input: gradient[input] += operator's way back(inputs, outputs, gradient[outputs])
//! ```
//! Nothing here knows an operator.

use std::borrow::Cow;

use lowbit_tensor::{DType, Tensor};

use super::{Session, Workspace};
use crate::op::{Back, pooled};
use crate::{GraphError, Inputs, ValueId};

/// Every value of one run: what the way back reads. Feeds and constants are borrowed, results owned.
#[derive(Clone, Debug)]
pub struct Tape<'a> {
    values: Vec<Option<Cow<'a, Tensor>>>,
}

impl Tape<'_> {
    /// What the run gave or was given for the value with this [`crate::Graph::index_of`].
    fn at(&self, index: usize) -> Option<&Tensor> {
        self.values.get(index)?.as_deref()
    }

    /// Gives the buffers of the results back.
    pub fn recycle(self, work: &mut Workspace) {
        for value in self.values {
            if let Some(Cow::Owned(tensor)) = value {
                work.pool.give(tensor);
            }
        }
    }
}

impl<'a> Tape<'a> {
    /// The tensor of a value: feed, constant or result. `None` when the run had no such value.
    #[must_use]
    pub fn value(&self, value: ValueId) -> Option<&Tensor> {
        self.at(value.index())
    }

    fn new(session: &'a Session, feeds: &[&'a Tensor]) -> Self {
        let mut values = vec![None; session.graph.value_count()];
        for (value, tensor) in session.graph.constants() {
            values[value.index()] = Some(Cow::Borrowed(tensor.as_ref()));
        }
        for (input, &tensor) in session.graph.inputs.iter().zip(feeds) {
            values[input.value.index()] = Some(Cow::Borrowed(tensor));
        }
        Tape { values }
    }
}

impl Session {
    /// Runs the graph and keeps every value. The tape borrows the feeds, so that shards of a batch share their weights.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn record<'a>(
        &'a self,
        feeds: &[&'a Tensor],
        work: &mut Workspace,
    ) -> Result<Tape<'a>, GraphError> {
        self.check_feeds(feeds.iter().copied())?;
        let mut tape = Tape::new(self, feeds);
        for (i, node) in self.graph.nodes.iter().enumerate() {
            let read = |v: &Option<ValueId>| v.and_then(|v| tape.value(v));
            let inputs: Vec<Option<&Tensor>> = node.inputs.iter().map(read).collect();
            let made = self.prepared[i].forward(&node.op, &Inputs(&inputs), work);
            let made = made.map_err(|source| self.refused(i, source))?;
            for (value, tensor) in node.outputs.iter().zip(made) {
                if let Some(value) = value {
                    tape.values[value.index()] = Some(Cow::Owned(tensor));
                }
            }
        }
        Ok(tape)
    }

    /// The gradients of Σ seed · value over all `seeds` with respect to the `wanted` values (inputs, constants or results), in that
    /// order: float32 tensors of the values' shapes, zeros where nothing depends on a value.
    ///
    /// Every other value counts as a function of those before it, a wanted one too. Codes have gradients like floats: those of
    /// the straight-through estimator, see [`crate::QuantizeLinear`]. A tensor may be given back to `work.pool` when done with.
    ///
    /// # Errors
    /// `Seed` when a seed does not fit its value, `Unrecorded` when the tape lacks a value, `Op` when an operator in between has
    /// no gradient.
    pub fn backward(
        &self,
        tape: &Tape<'_>,
        seeds: &[(ValueId, Tensor)],
        wanted: &[ValueId],
        work: &mut Workspace,
    ) -> Result<Vec<Tensor>, GraphError> {
        let mut grads = Sums::new(self.graph.value_count());
        for (value, seed) in seeds {
            self.check_seed(tape, *value, seed)?;
            grads.add(*value, copied(seed, work), work);
        }
        let reached = self.reached(wanted);
        for (i, node) in self.graph.nodes.iter().enumerate().rev() {
            let leads = node.inputs.iter().flatten().any(|v| reached[v.index()]);
            if !leads || !node.outputs.iter().flatten().any(|&v| grads.of(v).is_some()) {
                continue;
            }
            let made = self.step_back(i, tape, (&grads, &reached), work)?;
            for &output in node.outputs.iter().flatten().filter(|v| !wanted.contains(v)) {
                grads.give(output, work);
            }
            for (input, grad) in node.inputs.iter().zip(made) {
                if let (Some(input), Some(grad)) = (*input, grad) {
                    grads.add(input, grad, work);
                }
            }
        }
        let mut found: Vec<Tensor> = Vec::with_capacity(wanted.len());
        for (i, &value) in wanted.iter().enumerate() {
            let same = wanted[..i].iter().position(|&earlier| earlier == value);
            found.push(match (same, grads.take(value)) {
                (Some(earlier), _) => found[earlier].clone(),
                (None, Some(grad)) => grad,
                (None, None) => self.zeros(tape, value)?,
            });
        }
        grads.give_all(work);
        Ok(found)
    }

    /// Per value, whether it is a wanted one or depends on one.
    fn reached(&self, wanted: &[ValueId]) -> Vec<bool> {
        let mut reached = vec![false; self.graph.value_count()];
        wanted.iter().for_each(|v| reached[v.index()] = true);
        for node in &self.graph.nodes {
            if node.inputs.iter().flatten().any(|v| reached[v.index()]) {
                node.outputs.iter().flatten().for_each(|v| reached[v.index()] = true);
            }
        }
        reached
    }

    fn step_back(
        &self,
        index: usize,
        tape: &Tape<'_>,
        (grads, reached): (&Sums, &[bool]),
        work: &mut Workspace,
    ) -> Result<Vec<Option<Tensor>>, GraphError> {
        let node = &self.graph.nodes[index];
        let read = |v: &Option<ValueId>| v.and_then(|v| tape.value(v));
        let inputs: Vec<Option<&Tensor>> = node.inputs.iter().map(read).collect();
        let outputs: Vec<Option<&Tensor>> = node.outputs.iter().map(read).collect();
        let of = |v: &Option<ValueId>| v.and_then(|v| grads.of(v));
        let of_outputs: Vec<Option<&Tensor>> = node.outputs.iter().map(of).collect();
        let is_reached = |v: &Option<ValueId>| v.is_some_and(|v| reached[v.index()]);
        let wanted: Vec<bool> = node.inputs.iter().map(is_reached).collect();
        let back = Back {
            inputs: &Inputs(&inputs),
            outputs: &outputs,
            grads: &of_outputs,
            wanted: &wanted,
        };
        node.op.backward(&back, work).map_err(|source| self.refused(index, source))
    }

    fn check_seed(&self, tape: &Tape<'_>, value: ValueId, seed: &Tensor) -> Result<(), GraphError> {
        let recorded = tape.value(value).ok_or_else(|| self.unrecorded(value))?;
        if seed.dtype() == DType::F32 && seed.shape() == recorded.shape() {
            return Ok(());
        }
        Err(GraphError::Seed {
            value: self.graph.value_name(value).to_owned(),
            found: format!("{}{}", seed.dtype(), seed.shape()),
            expected: format!("float32{}", recorded.shape()),
        })
    }

    fn zeros(&self, tape: &Tape<'_>, value: ValueId) -> Result<Tensor, GraphError> {
        let recorded = tape.value(value).ok_or_else(|| self.unrecorded(value))?;
        Ok(Tensor::full(recorded.shape().clone(), 0f32))
    }

    fn unrecorded(&self, value: ValueId) -> GraphError {
        GraphError::Unrecorded { value: self.graph.value_name(value).to_owned() }
    }
}

/// A copy in a buffer of the pool, unless one so large is beyond the session's limit.
fn copied(tensor: &Tensor, work: &mut Workspace) -> Tensor {
    let values = tensor.f32s().iter().copied();
    pooled(tensor.shape(), values, work).unwrap_or_else(|_| tensor.clone())
}

/// The gradient of each value as far as it is known; `None` is zero.
struct Sums(Vec<Option<Tensor>>);

impl Sums {
    fn new(values: usize) -> Self {
        Sums(vec![None; values])
    }

    fn of(&self, value: ValueId) -> Option<&Tensor> {
        self.0[value.index()].as_ref()
    }

    fn add(&mut self, value: ValueId, term: Tensor, work: &mut Workspace) {
        let Some(sum) = &mut self.0[value.index()] else {
            self.0[value.index()] = Some(term);
            return;
        };
        assert_eq!(sum.shape(), term.shape(), "two gradients of one value have its shape");
        let sum = sum.as_mut_slice::<f32>().expect("gradients are float32");
        sum.iter_mut().zip(term.f32s()).for_each(|(sum, term)| *sum += term);
        work.pool.give(term);
    }

    fn take(&mut self, value: ValueId) -> Option<Tensor> {
        self.0[value.index()].take()
    }

    fn give(&mut self, value: ValueId, work: &mut Workspace) {
        if let Some(tensor) = self.take(value) {
            work.pool.give(tensor);
        }
    }

    fn give_all(self, work: &mut Workspace) {
        self.0.into_iter().flatten().for_each(|tensor| work.pool.give(tensor));
    }
}

#[cfg(test)]
mod tests;
