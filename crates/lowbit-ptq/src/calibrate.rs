//! One pass over the images: the statistics of every planned activation, in constant memory.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use lowbit_graph::{Graph, Session, Workspace};
use lowbit_quant::{Histogram, QParams, QuantError, RangeRule, Statistics};
use rayon::prelude::*;

use crate::{Plan, Progress, PtqError, Samples};

/// What one pass over the images found: statistics per group of the plan.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// As [`Plan::groups`].
    pub statistics: Vec<Statistics>,
    /// The rule they were collected for.
    pub rule: RangeRule,
}

impl Calibration {
    /// The quantizer of each group.
    ///
    /// # Errors
    /// `Value` names the activation whose range cannot be had.
    pub fn parameters(&self, graph: &Graph, plan: &Plan) -> Result<Vec<QParams>, PtqError> {
        let groups = plan.groups.iter().zip(&self.statistics);
        groups
            .map(|(group, statistics)| {
                let named = |source| PtqError::Value {
                    name: graph.value_name(group.root).to_owned(),
                    source,
                };
                let (mut low, mut high) = statistics.range(&self.rule).map_err(named)?;
                low = low.max(group.limits.0);
                high = high.min(group.limits.1).max(low);
                for &value in &group.includes {
                    (low, high) = (low.min(value), high.max(value));
                }
                QParams::affine_u8(low, high).map_err(named)
            })
            .collect()
    }
}

/// Extremes of every group on one image.
type Extremes = Vec<(f32, f32)>;

/// Extremes of finished images, folded into the statistics in image order: the result is the same at any thread count.
struct Ordered {
    next: usize,
    waiting: BTreeMap<usize, Extremes>,
    statistics: Vec<Statistics>,
}

impl Ordered {
    fn finish(&mut self, index: usize, extremes: Extremes, rule: &RangeRule) {
        self.waiting.insert(index, extremes);
        while let Some(extremes) = self.waiting.remove(&self.next) {
            for (statistics, (low, high)) in self.statistics.iter_mut().zip(extremes) {
                statistics.add_extremes(low, high, rule);
            }
            self.next += 1;
        }
    }
}

/// Runs the float graph on every image, as many at a time as rayon has threads, and collects statistics.
///
/// # Errors
/// `Sample` when an image cannot be read, `Graph` when the graph does not run on it, `Value` when an activation is NaN or
/// infinite, and `NoSamples` inside `Value` when there are no images.
pub fn calibrate(
    graph: &Graph,
    plan: &Plan,
    samples: &dyn Samples,
    rule: RangeRule,
    progress: Progress<'_>,
) -> Result<Calibration, PtqError> {
    let session = Session::new(graph)?;
    let mut group_of = vec![None; graph.value_count()];
    for (i, group) in plan.groups.iter().enumerate() {
        group_of[graph.index_of(group.root)] = Some(i);
    }
    let worker = Worker {
        session: &session,
        samples,
        rule,
        group_of,
        groups: plan.groups.len(),
    };
    let ordered = Mutex::new(Ordered {
        next: 0,
        waiting: BTreeMap::new(),
        statistics: vec![Statistics::default(); plan.groups.len()],
    });
    let next = AtomicUsize::new(0);
    let histograms: Vec<Vec<Histogram>> = (0..rayon::current_num_threads())
        .into_par_iter()
        .map(|_| {
            let mut work = Workspace::serial();
            let mut histograms = vec![Histogram::default(); plan.groups.len()];
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= samples.len() {
                    return Ok(histograms);
                }
                let extremes = worker.image(index, &mut work, &mut histograms)?;
                let mut ordered = ordered.lock().expect("no thread panics while it folds");
                ordered.finish(index, extremes, &rule);
                progress(1);
            }
        })
        .collect::<Result<_, PtqError>>()?;
    let mut statistics = ordered
        .into_inner()
        .expect("no thread panicked while it folded")
        .statistics;
    for part in histograms {
        for (statistics, histogram) in statistics.iter_mut().zip(&part) {
            statistics.histogram.merge(histogram);
        }
    }
    Ok(Calibration { statistics, rule })
}

struct Worker<'a> {
    session: &'a Session,
    samples: &'a dyn Samples,
    rule: RangeRule,
    /// Per value, the group whose root it is.
    group_of: Vec<Option<usize>>,
    groups: usize,
}

impl Worker<'_> {
    fn image(
        &self,
        index: usize,
        work: &mut Workspace,
        histograms: &mut [Histogram],
    ) -> Result<Extremes, PtqError> {
        let input = self
            .samples
            .get(index)
            .map_err(|source| PtqError::Sample { index, source })?;
        let graph = self.session.graph();
        let mut extremes = vec![(f32::INFINITY, f32::NEG_INFINITY); self.groups];
        let mut bad = None;
        self.session
            .run_observed(&[input], work, &mut |value, tensor| {
                let Some(group) = self.group_of[graph.index_of(value)] else {
                    return;
                };
                let Ok(values) = tensor.as_slice::<f32>() else {
                    return;
                };
                let (low, high) = lowbit_graph::minmax(values);
                if !low.is_finite() || !high.is_finite() {
                    bad.get_or_insert((value, if low.is_finite() { high } else { low }));
                }
                extremes[group] = (low, high);
                if self.rule.needs_histogram() {
                    histograms[group].add(values);
                }
            })?;
        match bad {
            None => Ok(extremes),
            Some((value, found)) => Err(PtqError::Value {
                name: graph.value_name(value).to_owned(),
                source: QuantError::NotFinite { found },
            }),
        }
    }
}
