//! Runs a classifier over labelled images.

use std::sync::atomic::{AtomicUsize, Ordering};

use lowbit_graph::{Graph, Session, Workspace};
use lowbit_ptq::{Progress, PtqError, Samples};
use lowbit_runtime::Network;
use lowbit_tensor::{DType, Tensor};
use rayon::prelude::*;

use crate::{Error, Images};

/// What a classifier said of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The class with the highest score; the first of equals.
    pub top1: u32,
    /// Whether that is the label; `None` without one.
    pub correct1: Option<bool>,
    /// Whether the label is among the five highest scores.
    pub correct5: Option<bool>,
}

/// A classifier that can run on many threads: compiled where it is quantized, else by the graph's own executor.
#[derive(Debug)]
pub struct Runner {
    runs: Runs,
}

#[derive(Debug)]
enum Runs {
    Compiled(Box<lowbit_runtime::Model>),
    Graph(Session),
    /// Both, to compare.
    Checked(Box<lowbit_runtime::Model>, Session),
}

impl Runner {
    /// Prepares a graph for images of `dims`, the first being the batch. A quantized graph that cannot be compiled, or whose batch is
    /// fixed at more than one, is run by the graph's own executor.
    ///
    /// # Errors
    /// `Graph` when it is not valid.
    pub fn new(graph: &Graph, dims: &[usize]) -> Result<Runner, Error> {
        let integer = graph.nodes.iter().any(|node| node.op.is_quantized());
        let network = integer.then(|| Network::new(graph, dims)).and_then(Result::ok);
        match network {
            Some(network) if network.outputs.len() == 1 => {
                Ok(Runner { runs: Runs::Compiled(Box::new(lowbit_runtime::Model::new(&network))) })
            }
            _ => Runner::oracle(graph),
        }
    }

    /// As [`Runner::new`], but a compiled graph's scores are compared with the executor's, image by image and bit by bit.
    ///
    /// # Errors
    /// `Graph` when it is not valid.
    pub fn checked(graph: &Graph, dims: &[usize]) -> Result<Runner, Error> {
        Ok(match Runner::new(graph, dims)?.runs {
            Runs::Compiled(model) => Runner { runs: Runs::Checked(model, Session::new(graph)?) },
            runs => Runner { runs },
        })
    }

    /// Prepares a graph to be run by its own executor, the definition of what every operator computes.
    ///
    /// # Errors
    /// `Graph` when it is not valid.
    pub fn oracle(graph: &Graph) -> Result<Runner, Error> {
        Ok(Runner { runs: Runs::Graph(Session::new(graph)?) })
    }

    /// Whether the graph was compiled.
    #[must_use]
    pub fn is_compiled(&self) -> bool {
        !matches!(self.runs, Runs::Graph(_))
    }

    /// The scores of a batch of one image: all elements of the model's first output.
    ///
    /// # Errors
    /// `Graph` when the input does not fit, `NotAClassifier` when the output is not float scores of one image, `Differs` where
    /// [`Runner::checked`] finds another score than the executor's.
    pub fn scores(&self, input: Tensor, work: &mut Workspace) -> Result<Vec<f32>, Error> {
        match &self.runs {
            Runs::Graph(session) => executed(session, input, work),
            Runs::Compiled(model) => Ok(model.run(input.f32s())?),
            Runs::Checked(model, session) => {
                let scores = model.run(input.f32s())?;
                let executed = executed(session, input, work)?;
                let mut pairs = scores.iter().zip(&executed).enumerate();
                match pairs.find(|(_, (found, expected))| found.to_bits() != expected.to_bits()) {
                    None => Ok(scores),
                    Some((class, (&found, &expected))) => {
                        Err(Error::Differs { class, found, expected })
                    }
                }
            }
        }
    }
}

fn executed(session: &Session, input: Tensor, work: &mut Workspace) -> Result<Vec<f32>, Error> {
    let outputs = session.run(&[input], work)?;
    let wrong = |found: String| Error::NotAClassifier {
        what: "output",
        found,
        expected: "float32 scores, one per class".into(),
    };
    let scores = outputs.into_iter().next().ok_or_else(|| wrong("nothing".into()))?;
    if scores.dtype() != DType::F32 || scores.is_empty() {
        return Err(wrong(format!("{}{}", scores.dtype(), scores.shape())));
    }
    Ok(scores.f32s().to_vec())
}

/// The `k` classes of highest score, best first; equal scores in order of class.
#[must_use]
pub fn top_classes(scores: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    order.truncate(k);
    order
}

fn outcome(scores: &[f32], label: Option<u32>) -> Outcome {
    let top = top_classes(scores, 5);
    let is = |class: &usize| label.map(|label| *class == label as usize);
    Outcome {
        top1: u32::try_from(top[0]).unwrap_or(u32::MAX),
        correct1: is(&top[0]),
        correct5: label.map(|label| top.contains(&(label as usize))),
    }
}

/// Runs every image through every runner, as many images at a time as rayon has threads. Returns outcomes per runner, in image
/// order.
///
/// # Errors
/// What is wrong with an image or a model.
pub fn evaluate(
    runners: &[&Runner],
    images: &Images,
    progress: Progress<'_>,
) -> Result<Vec<Vec<Outcome>>, Error> {
    let next = AtomicUsize::new(0);
    let mut found: Vec<(usize, Vec<Outcome>)> = (0..rayon::current_num_threads())
        .into_par_iter()
        .map(|_| {
            let mut work = Workspace::serial();
            let mut found = vec![];
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= images.len() {
                    return Ok(found);
                }
                let input =
                    images.get(index).map_err(|source| PtqError::Sample { index, source })?;
                let outcomes: Result<Vec<Outcome>, Error> = runners
                    .iter()
                    .map(|runner| {
                        let scores = runner.scores(input.clone(), &mut work)?;
                        Ok(outcome(&scores, images.label(index)))
                    })
                    .collect();
                found.push((index, outcomes?));
                progress(1);
            }
        })
        .collect::<Result<Vec<_>, Error>>()?
        .concat();
    found.sort_by_key(|(index, _)| *index);
    let of = |runner: usize| found.iter().map(|(_, outcomes)| outcomes[runner]).collect();
    Ok((0..runners.len()).map(of).collect())
}
