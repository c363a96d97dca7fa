//! How far each quantized activation lies from its float original.

use std::sync::atomic::{AtomicUsize, Ordering};

use lowbit_graph::{Graph, GraphError, Session, ValueId, Workspace};
use lowbit_tensor::{Buffer, Tensor};
use rayon::prelude::*;

use crate::{Progress, PtqError, QuantizedGraph, Samples, Site};

/// The error of one activation, as it is after all layers before it were quantized too. Values beyond which all readers saturate
/// (hard-swish is 0 below -3) count as the limit itself: what is cut there is no error.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerError {
    /// The float value.
    pub value: ValueId,
    /// 10·log10(Σx² / Σ(x - x̂)²); infinite when nothing moved.
    pub sqnr_db: f64,
    /// Σx·x̂ / (|x|·|x̂|).
    pub cosine: f64,
    /// Mean of x̂ - x per channel (axis 1).
    pub mean_shift: Vec<f64>,
}

/// Sums over images: signal², noise², x·x̂, x̂², and the shift and count per channel.
#[derive(Clone, Debug, Default)]
struct Sums {
    signal: f64,
    noise: f64,
    product: f64,
    quantized: f64,
    shift: Vec<f64>,
    count: f64,
}

/// Runs both graphs on every image and compares the quantized activations with the float ones.
///
/// `lowered` is the integer form of `quantized`.
///
/// # Errors
/// `Sample` or `Graph` when an image cannot be read or run.
pub fn layer_errors(
    float: &Graph,
    quantized: &QuantizedGraph,
    lowered: &Graph,
    samples: &dyn Samples,
    progress: Progress<'_>,
) -> Result<Vec<LayerError>, PtqError> {
    let comparison = Comparison {
        float: Session::new(float)?,
        integer: Session::new(lowered)?,
        sites: &quantized.sites,
    };
    // Images are summed in groups of fixed size, and the groups in order: the same result at any thread count.
    const GROUP: usize = 8;
    let groups = samples.len().div_ceil(GROUP);
    let next = AtomicUsize::new(0);
    let mut parts: Vec<(usize, Vec<Sums>)> = (0..rayon::current_num_threads())
        .into_par_iter()
        .map(|_| {
            let mut work = Workspace::serial();
            let mut done = vec![];
            loop {
                let group = next.fetch_add(1, Ordering::Relaxed);
                if group >= groups {
                    return Ok(done);
                }
                let mut sums = vec![Sums::default(); quantized.sites.len()];
                for index in group * GROUP..((group + 1) * GROUP).min(samples.len()) {
                    let input = samples.get(index);
                    let input = input.map_err(|source| PtqError::Sample { index, source })?;
                    comparison.image(input, &mut work, &mut sums)?;
                    progress(1);
                }
                done.push((group, sums));
            }
        })
        .collect::<Result<Vec<_>, PtqError>>()?
        .concat();
    parts.sort_by_key(|(group, _)| *group);
    let mut totals = vec![Sums::default(); quantized.sites.len()];
    for (_, sums) in &parts {
        totals.iter_mut().zip(sums).for_each(|(total, part)| total.add(part));
    }
    Ok(quantized.sites.iter().zip(totals).map(|(site, sums)| sums.error(site.value)).collect())
}

struct Comparison<'a> {
    float: Session,
    integer: Session,
    sites: &'a [Site],
}

impl Comparison<'_> {
    fn image(
        &self,
        input: Tensor,
        work: &mut Workspace,
        sums: &mut [Sums],
    ) -> Result<(), GraphError> {
        let mut site_of = vec![None; self.integer.graph().value_count()];
        let mut value_of = vec![None; self.float.graph().value_count()];
        for (i, site) in self.sites.iter().enumerate() {
            site_of[self.integer.graph().index_of(site.codes)] = Some(i);
            value_of[self.float.graph().index_of(site.value)] = Some(i);
        }
        let mut originals: Vec<Option<Tensor>> = vec![None; self.sites.len()];
        let feeds = [input];
        self.float.run_observed(&feeds, work, &mut |value, tensor| {
            if let Some(i) = value_of[self.float.graph().index_of(value)] {
                originals[i] = Some(tensor.clone());
            }
        })?;
        self.integer.run_observed(&feeds, work, &mut |value, tensor| {
            if let Some(i) = site_of[self.integer.graph().index_of(value)]
                && let (Some(original), Buffer::U8(codes)) = (&originals[i], tensor.buffer())
            {
                sums[i].compare(original, codes, &self.sites[i]);
            }
        })?;
        Ok(())
    }
}

impl Site {
    /// The values of all codes in one of `count` channels: several belong to one scale where spatial axes were flattened.
    fn table(&self, channel: usize, count: usize) -> [f32; 256] {
        let mut parameters = self.parameters;
        if let Some(channels) = &self.channels {
            let channel = channel * channels.scales.len() / count;
            parameters.scale = channels.scales[channel];
            parameters.zero_point = channels.zero_points[channel];
        }
        let mut code = 0;
        [0.0; 256].map(|_: f32| {
            code += 1;
            self.read(parameters.decode(code - 1))
        })
    }
}

impl Sums {
    fn compare(&mut self, original: &Tensor, codes: &[u8], site: &Site) {
        let shape = original.shape();
        let channels = shape.get(1).copied().unwrap_or(1).max(1);
        let plane = shape.iter().skip(2).product::<usize>().max(1);
        self.shift.resize(channels, 0.0);
        let runs = original.f32s().chunks(plane).zip(codes.chunks(plane));
        for (i, (values, codes)) in runs.enumerate() {
            let mut sums = [0.0f64; 5];
            let table = site.table(i % channels, channels);
            for (&x, &code) in values.iter().zip(codes) {
                let (x, y) = (f64::from(site.read(x)), f64::from(table[usize::from(code)]));
                let difference = y - x;
                sums[0] += x * x;
                sums[1] += difference * difference;
                sums[2] += x * y;
                sums[3] += y * y;
                sums[4] += difference;
            }
            self.signal += sums[0];
            self.noise += sums[1];
            self.product += sums[2];
            self.quantized += sums[3];
            self.shift[i % channels] += sums[4];
        }
        self.count += (original.len() / channels) as f64;
    }

    fn add(&mut self, other: &Sums) {
        self.signal += other.signal;
        self.noise += other.noise;
        self.product += other.product;
        self.quantized += other.quantized;
        self.count += other.count;
        self.shift.resize(self.shift.len().max(other.shift.len()), 0.0);
        self.shift.iter_mut().zip(&other.shift).for_each(|(a, b)| *a += b);
    }

    fn error(&self, value: ValueId) -> LayerError {
        let norm = (self.signal * self.quantized).sqrt();
        LayerError {
            value,
            sqnr_db: 10.0 * (self.signal / self.noise).log10(),
            cosine: if norm > 0.0 { self.product / norm } else { 1.0 },
            mean_shift: self.shift.iter().map(|s| s / self.count.max(1.0)).collect(),
        }
    }
}
