//! One pass over the images: the statistics of every planned activation, in constant memory.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use lowbit_graph::{Graph, Op, Session, ValueId, Workspace};
use lowbit_quant::{Histogram, QParams, QuantError, RangeRule, Statistics};
use lowbit_tensor::Tensor;
use rayon::prelude::*;

use crate::assignment::{WIDE_BITS, weighted};
use crate::channels::{self, Reader, Wish};
use crate::{Channels, Plan, Progress, PtqError, Region, Samples, Side};

/// What one pass over the images found: statistics per group of the plan.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// As [`Plan::groups`].
    pub statistics: Vec<Statistics>,
    /// The rule they were collected for.
    pub rule: RangeRule,
    /// Statistics per channel of the groups that may have scales per channel.
    pub channels: BTreeMap<usize, ChannelStatistics>,
    /// Mean per channel of what each convolution and fully connected layer reads.
    pub means: BTreeMap<ValueId, Vec<f64>>,
}

/// The quantizer of one group.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What integer operators see.
    pub tensor: QParams,
    /// What the codes mean, where that differs from channel to channel.
    pub channels: Option<Channels>,
}

impl Calibration {
    /// The quantizer of each group, of `bits` bits each. Groups with scales per channel take each channel's extremes, the others
    /// the rule.
    ///
    /// # Errors
    /// `Value` names the activation whose range cannot be had.
    pub fn parameters(
        &self,
        graph: &Graph,
        plan: &Plan,
        bits: &[u8],
    ) -> Result<Vec<Found>, PtqError> {
        let mut found: BTreeMap<usize, Found> = BTreeMap::new();
        let wide = |region: &&Region| region.groups.iter().all(|&group| bits[group] == WIDE_BITS);
        for region in plan.regions.iter().filter(wide) {
            found.extend(self.region(graph, plan, region).into_iter().flatten());
        }
        let groups = (0..plan.groups.len()).into_par_iter();
        let all: Vec<Result<Found, PtqError>> = groups
            .map(|i| match found.get(&i) {
                Some(found) => Ok(found.clone()),
                None => {
                    Ok(Found { tensor: self.tensor(graph, plan, (i, bits[i]))?, channels: None })
                }
            })
            .collect();
        // The first error is the same at any thread count.
        all.into_iter().collect()
    }

    /// The quantizer of `bits` bits of a whole group, by the rule.
    ///
    /// # Errors
    /// `Value` names the activation whose range cannot be had.
    pub(crate) fn tensor(
        &self,
        graph: &Graph,
        plan: &Plan,
        (index, bits): (usize, u8),
    ) -> Result<QParams, PtqError> {
        let group = &plan.groups[index];
        if let Some(scale) = group.sign {
            return Ok(QParams {
                scale,
                zero_point: 1 << (bits - 1),
                qmin: 0,
                qmax: (1 << bits) - 1,
            });
        }
        let name = || graph.value_name(group.root).to_owned();
        let named = |source| PtqError::Value { name: name(), source };
        let levels = 1usize << bits;
        let range = self.statistics[index].range_for(&self.rule, group.limits, levels);
        let (mut low, mut high) = range.map_err(named)?;
        for &value in &group.includes {
            (low, high) = (low.min(value), high.max(value));
        }
        QParams::affine(low, high, bits).map_err(named)
    }

    /// Quantizers of the groups in one region; `None` when it turns out to have no scales per channel.
    fn region(&self, graph: &Graph, plan: &Plan, region: &Region) -> Option<Vec<(usize, Found)>> {
        let mut wishes = vec![];
        for &index in &region.groups {
            let (group, statistics) = (&plan.groups[index], self.channels.get(&index)?);
            let absorbers = group.absorbers?;
            if absorbers.flattened && statistics.plane != 1 {
                return None;
            }
            let ranges = statistics.ranges_within(group.limits);
            if region.groups.len() == 1
                && (absorbers.maker, absorbers.reader) == (Side::Weighted, Side::Float)
            {
                let (tensor, channels) = channels::independent(&ranges, absorbers)?;
                return Some(vec![(index, Found { tensor, channels: Some(channels) })]);
            }
            wishes.push(Wish::new(&ranges, absorbers)?);
        }
        if wishes.iter().any(|wish| wish.channels() != wishes[0].channels()) {
            return None;
        }
        let depthwise = |(_, node): &(usize, usize)| match &graph.nodes[*node].op {
            Op::Conv(conv) => conv.groups == wishes[0].channels(),
            _ => false,
        };
        let free = !region.readers.is_empty() && region.readers.iter().all(depthwise);
        let reader = if free { Reader::Depthwise } else { Reader::Any };
        let found = channels::shared(&wishes, reader).into_iter();
        let found = found.map(|(tensor, channels)| Found { tensor, channels: Some(channels) });
        Some(region.groups.iter().copied().zip(found).collect())
    }
}

/// What calibration keeps of the channels (axis 1) of one value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChannelStatistics {
    /// Extremes; none unless the value has four axes.
    pub ranges: Vec<(f32, f32)>,
    /// Elements per channel in one image.
    pub plane: usize,
}

impl ChannelStatistics {
    fn of(tensor: &Tensor) -> ChannelStatistics {
        let &[_, channels, height, width] = &tensor.shape()[..] else {
            return ChannelStatistics::default();
        };
        let plane = height * width;
        let mut ranges = vec![(f32::INFINITY, f32::NEG_INFINITY); channels];
        for (i, values) in tensor.f32s().chunks(plane.max(1)).enumerate() {
            let (low, high) = lowbit_graph::minmax(values);
            let known = &mut ranges[i % channels];
            *known = (known.0.min(low), known.1.max(high));
        }
        ChannelStatistics { ranges, plane }
    }

    /// Takes in another image.
    fn add(&mut self, other: ChannelStatistics) {
        for (known, new) in self.ranges.iter_mut().zip(other.ranges) {
            *known = (known.0.min(new.0), known.1.max(new.1));
        }
        self.plane = self.plane.max(other.plane);
    }

    /// The extremes, cut to `limits` and widened to hold 0.
    fn ranges_within(&self, (low, high): (f32, f32)) -> Vec<(f32, f32)> {
        let clip = |x: f32| x.max(low).min(high);
        self.ranges.iter().map(|&(a, b)| (clip(a).min(0.0), clip(b).max(0.0))).collect()
    }
}

/// What one image contributes beside its histogram.
struct Observed {
    /// Extremes of every group.
    extremes: Vec<(f32, f32)>,
    /// Channel means of what weighted layers read.
    means: Vec<(ValueId, Vec<f64>)>,
    /// Statistics per channel, by group.
    channels: Vec<(usize, ChannelStatistics)>,
}

/// What finished images contribute, folded in image order: the result is the same at any thread count.
struct Ordered {
    next: usize,
    waiting: BTreeMap<usize, Observed>,
    statistics: Vec<Statistics>,
    /// Sums over images of the means.
    means: BTreeMap<ValueId, Vec<f64>>,
    channels: BTreeMap<usize, ChannelStatistics>,
}

impl Ordered {
    fn finish(&mut self, index: usize, observed: Observed, rule: &RangeRule) {
        self.waiting.insert(index, observed);
        while let Some(observed) = self.waiting.remove(&self.next) {
            for (statistics, (low, high)) in self.statistics.iter_mut().zip(observed.extremes) {
                statistics.add_extremes(low, high, rule);
            }
            for (value, means) in observed.means {
                let sums = self.means.entry(value).or_insert_with(|| vec![0.0; means.len()]);
                sums.iter_mut().zip(&means).for_each(|(sum, mean)| *sum += mean);
            }
            for (group, statistics) in observed.channels {
                match self.channels.entry(group) {
                    Entry::Vacant(entry) => _ = entry.insert(statistics),
                    Entry::Occupied(mut entry) => entry.get_mut().add(statistics),
                }
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
///
/// # Panics
/// Only where a worker thread panicked.
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
    let layers = graph.nodes.iter().filter(|node| weighted(graph, node));
    let averaged = layers.filter_map(|node| node.input(0)).collect();
    let worker = Worker { session: &session, samples, rule, group_of, plan, averaged };
    let ordered = Mutex::new(Ordered {
        next: 0,
        waiting: BTreeMap::new(),
        statistics: vec![Statistics::default(); plan.groups.len()],
        means: BTreeMap::new(),
        channels: BTreeMap::new(),
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
                let observed = worker.image(index, &mut work, &mut histograms)?;
                let mut ordered = ordered.lock().expect("no thread panics while it folds");
                ordered.finish(index, observed, &rule);
                progress(1);
            }
        })
        .collect::<Result<_, PtqError>>()?;
    let ordered = ordered.into_inner().expect("no thread panicked while it folded");
    let (mut statistics, mut means) = (ordered.statistics, ordered.means);
    let images = samples.len() as f64;
    means.values_mut().flatten().for_each(|sum| *sum /= images);
    for part in histograms {
        for (statistics, histogram) in statistics.iter_mut().zip(&part) {
            statistics.histogram.merge(histogram);
        }
    }
    Ok(Calibration { statistics, rule, channels: ordered.channels, means })
}

struct Worker<'a> {
    session: &'a Session,
    samples: &'a dyn Samples,
    rule: RangeRule,
    /// Per value, the group whose root it is.
    group_of: Vec<Option<usize>>,
    plan: &'a Plan,
    /// Values whose channel means are wanted.
    averaged: HashSet<ValueId>,
}

impl Worker<'_> {
    fn image(
        &self,
        index: usize,
        work: &mut Workspace,
        histograms: &mut [Histogram],
    ) -> Result<Observed, PtqError> {
        let input = self.samples.get(index).map_err(|source| PtqError::Sample { index, source })?;
        let graph = self.session.graph();
        let mut extremes = vec![(f32::INFINITY, f32::NEG_INFINITY); self.plan.groups.len()];
        let (mut bad, mut means, mut channels) = (None, vec![], vec![]);
        self.session.run_observed(&[input], work, &mut |value, tensor| {
            let Ok(values) = tensor.as_slice::<f32>() else { return };
            if self.averaged.contains(&value) {
                means.push((value, channel_means(tensor)));
            }
            let Some(group) = self.group_of[graph.index_of(value)] else { return };
            let (low, high) = lowbit_graph::minmax(values);
            if !low.is_finite() || !high.is_finite() {
                bad.get_or_insert((value, if low.is_finite() { high } else { low }));
            }
            extremes[group] = (low, high);
            // Scales per channel come from the channels' extremes: counting values would be for nothing.
            if self.plan.groups[group].absorbers.is_some() {
                channels.push((group, ChannelStatistics::of(tensor)));
            } else if self.rule.needs_histogram() {
                histograms[group].add(values);
            }
        })?;
        match bad {
            None => Ok(Observed { extremes, means, channels }),
            Some((value, found)) => Err(PtqError::Value {
                name: graph.value_name(value).to_owned(),
                source: QuantError::NotFinite { found },
            }),
        }
    }
}

/// The mean of each channel (axis 1) over all else.
fn channel_means(tensor: &Tensor) -> Vec<f64> {
    let channels = tensor.shape().get(1).copied().unwrap_or(1).max(1);
    let plane = tensor.shape().iter().skip(2).product::<usize>().max(1);
    let mut sums = vec![0.0; channels];
    for (i, values) in tensor.f32s().chunks(plane).enumerate() {
        // Short runs in f32 let the compiler use vectors; runs are summed in f64.
        let runs = values.chunks(64).map(|run| f64::from(run.iter().sum::<f32>()));
        sums[i % channels] += runs.sum::<f64>();
    }
    let count = (tensor.len() / channels).max(1) as f64;
    sums.iter().map(|sum| sum / count).collect()
}
