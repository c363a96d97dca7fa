//! The quantizer: what to do, as plain data, and [`Quantizer::fit`], which does it to a weight.
//!
//! A quantizer is grid × granularity × scale rule × zero point × rounding × gradient rule. Fitting finds scales, tables
//! and codes: a [`CodedWeight`]. It knows slices and shapes, no graph.

use lowbit_tensor::Rng;
use serde::{Deserialize, Serialize};

use crate::coded::{CodedWeight, Parts, Table};
use crate::error::{bits_within, finite, length, setting};
use crate::scale::{self, Group, Prepared, innermost};
use crate::{
    ClusterMethod, Codebook, Entries, GradientRule, Granularity, Grid, Groups, Levels, QuantError,
    ScaleRule, Uniform, UniformCodes, cluster,
};

/// How weights become codes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Quantizer {
    /// The levels, in units of the scale.
    pub grid: Grid,
    /// Which weights share a scale.
    pub granularity: Granularity,
    /// How the scale is found.
    pub scale: ScaleRule,
    /// Where zero is.
    pub zero_point: ZeroPoint,
    /// Which of the two neighbouring levels a weight takes.
    pub rounding: Rounding,
    /// How training sees through the rounding.
    pub gradient: GradientRule,
}

/// Where zero is on a uniform grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ZeroPoint {
    /// At the grid's own 0.
    Symmetric,
    /// At a code found for each group: x = s·(q - z). Signed and unsigned uniform grids.
    Affine,
}

/// Which of the two neighbouring levels a weight takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// The nearer one; the grid says which on a tie.
    Nearest,
    /// Either, with a probability that falls with its distance, so that the expectation is the weight (Gupta et al.
    /// 2015, arXiv:1502.02551).
    Stochastic,
}

/// What fitting finds for one group.
struct GroupFit {
    scale: f32,
    /// `None` where the grid's own levels serve.
    table: Option<Table>,
    codes: Vec<u16>,
}

impl Quantizer {
    /// The usual: a scale per channel, zero at 0, nearest levels, the clipped straight-through gradient.
    #[must_use]
    pub fn per_channel(grid: Grid, scale: ScaleRule) -> Quantizer {
        Quantizer {
            grid,
            granularity: Granularity::Channel,
            scale,
            zero_point: ZeroPoint::Symmetric,
            rounding: Rounding::Nearest,
            gradient: GradientRule::ClipSte,
        }
    }

    /// Whether [`Quantizer::fit`] heeds an importance of weights: least squares and clustering do.
    #[must_use]
    pub fn takes_importance(&self) -> bool {
        self.scale.takes_importance()
    }

    /// Whether the smallest weights become 0 and are meant to stay there.
    #[must_use]
    pub fn prunes(&self) -> bool {
        matches!(innermost(&self.scale), ScaleRule::Cluster(clustering) if clustering.prune > 0.0)
    }

    /// Whether several weights can share what is fitted: [`Quantizer::fit_shared`].
    #[must_use]
    pub fn is_shareable(&self) -> bool {
        let scalar = matches!(self.grid, Grid::Codebook(Codebook { dimension: 1, .. }));
        scalar && self.granularity == Granularity::Tensor
    }

    /// Codes and parameters of a weight of that shape, output channels first. `importance` is one number of at least 0
    /// for each weight. Equal seeds give equal codes.
    ///
    /// # Errors
    /// `NotFinite`, `Length` or `NoSamples` for such weights or importance; `Unsuited`, `Bits` or `Setting` where the
    /// quantizer's parts do not fit together.
    pub fn fit(
        &self,
        weight: &[f32],
        shape: &[usize],
        importance: Option<&[f32]>,
        seed: u64,
    ) -> Result<CodedWeight, QuantError> {
        self.check(importance)?;
        check_weight(weight, shape, importance)?;
        let groups = Groups::of(self.granularity, shape)?;
        let levels = self.grid.levels()?;
        let prepared = levels.as_ref().map(|levels| Prepared::new(&self.scale, levels));
        let mut fits = vec![];
        for group in 0..groups.count() {
            let members = groups.members(group);
            let pick = |all: &[f32]| -> Vec<f32> { members.iter().map(|&e| all[e]).collect() };
            let (values, weights) = (pick(weight), importance.map(pick));
            let part = Group { values: &values, importance: weights.as_deref() };
            let seed = seed ^ (group as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            fits.push((self.fit_group(&part, prepared.as_ref(), seed)?, members));
        }
        let shared = levels.map(Table::Scalar);
        Ok(self.assemble(shape, (groups, fits), shared))
    }

    /// As [`Quantizer::fit`] with nearest rounding, each channel with its own bit width; for uniform grids with a scale
    /// per channel.
    ///
    /// # Errors
    /// As [`Quantizer::fit`]; `Unsuited` for other grids and granularities, `Length` when there is not one width a channel.
    pub fn fit_with_channel_bits(
        &self,
        weight: &[f32],
        shape: &[usize],
        importance: Option<&[f32]>,
        bits: &[u8],
    ) -> Result<CodedWeight, QuantError> {
        let Grid::Uniform(Uniform { codes, .. }) = self.grid else {
            return unsuited("bits per channel", "bits", self.grid.name(), "a uniform grid");
        };
        if self.granularity != Granularity::Channel || self.rounding != Rounding::Nearest {
            let found = self.granularity.name();
            return unsuited("granularity", found, "bits per channel", "channel, rounding nearest");
        }
        check_weight(weight, shape, importance)?;
        let groups = Groups::of(self.granularity, shape)?;
        length("bit widths", bits.len(), groups.count())?;
        for &found in bits {
            bits_within(found, 1..=16, "1..=16")?;
        }
        let mut fits: Vec<Option<(GroupFit, Vec<usize>)>> = bits.iter().map(|_| None).collect();
        // A width at a time, so that what depends on the levels alone is computed once for each.
        for width in 1..=16 {
            let grid = Grid::Uniform(Uniform { bits: width, codes });
            let one = Quantizer { grid, ..self.clone() };
            let channels: Vec<usize> = (0..bits.len()).filter(|&c| bits[c] == width).collect();
            for (channel, fit) in one.fit_channels(weight, importance, &groups, &channels)? {
                fits[channel] = Some((fit, groups.members(channel)));
            }
        }
        Ok(self.assemble(shape, (groups, fits.into_iter().flatten().collect()), None))
    }

    /// Some channels, each with a table of its own.
    fn fit_channels(
        &self,
        weight: &[f32],
        importance: Option<&[f32]>,
        groups: &Groups,
        channels: &[usize],
    ) -> Result<Vec<(usize, GroupFit)>, QuantError> {
        if channels.is_empty() {
            return Ok(vec![]);
        }
        self.check(importance)?;
        let levels = self.grid.levels()?;
        let prepared = levels.as_ref().map(|levels| Prepared::new(&self.scale, levels));
        let per_channel = weight.len() / groups.count();
        let fit = |&channel: &usize| {
            let run = channel * per_channel..(channel + 1) * per_channel;
            let importance = importance.map(|h| &h[run.clone()]);
            let group = Group { values: &weight[run], importance };
            let mut fit = self.fit_group(&group, prepared.as_ref(), 0)?;
            fit.table = fit.table.or_else(|| levels.clone().map(Table::Scalar));
            Ok((channel, fit))
        };
        channels.iter().map(fit).collect()
    }

    /// One codebook for several weights, each given with its shape: fitted to all of them, each then coded with it.
    /// `importance` is one number of at least 0 for each of their weights, one after the other. The table is counted in
    /// each one's size; [`crate::shared_size`] counts it once.
    ///
    /// # Errors
    /// As [`Quantizer::fit`]; `Unsuited` unless the grid is a codebook of numbers for a whole tensor.
    pub fn fit_shared(
        &self,
        weights: &[(&[f32], &[usize])],
        importance: Option<&[f32]>,
        seed: u64,
    ) -> Result<Vec<CodedWeight>, QuantError> {
        if !self.is_shareable() {
            let (found, expected) = (self.grid.name(), "a codebook of numbers per tensor");
            return unsuited("grid", found, "several weights", expected);
        }
        for (weight, shape) in weights {
            length("weights", weight.len(), shape.iter().product())?;
        }
        let all: Vec<f32> = weights.iter().flat_map(|(weight, _)| *weight).copied().collect();
        let fitted = self.fit(&all, &[1, all.len()], importance, seed)?;
        let mut from = 0;
        let part = |&(weight, shape): &(&[f32], &[usize])| {
            let codes = fitted.codes()[from..from + weight.len()].to_vec();
            from += weight.len();
            fitted.part(codes, shape)
        };
        Ok(weights.iter().map(part).collect())
    }

    /// Refuses parts that do not fit together.
    fn check(&self, importance: Option<&[f32]>) -> Result<(), QuantError> {
        self.scale.check(&self.grid)?;
        if self.scale.needs_importance() && importance.is_none() {
            return unsuited("scale rule", "weighted-mse", "no importance", "one for each weight");
        }
        let steps = |u: &Uniform| matches!(u.codes, UniformCodes::Signed | UniformCodes::Unsigned);
        let affine = matches!(&self.grid, Grid::Uniform(uniform) if steps(uniform));
        if self.zero_point == ZeroPoint::Affine && !affine {
            let expected = "a signed or unsigned uniform grid";
            return unsuited("zero point", "affine", self.grid.name(), expected);
        }
        let rule = innermost(&self.scale);
        if self.zero_point == ZeroPoint::Symmetric && *rule == ScaleRule::MinMax {
            return unsuited("scale rule", "min-max", "a symmetric zero point", "an affine one");
        }
        let own_codes = matches!(rule, ScaleRule::Twn | ScaleRule::MaxFraction { .. });
        if self.rounding == Rounding::Stochastic && (own_codes || self.grid.levels()?.is_none()) {
            let expected = "a grid with fixed levels and a rule without thresholds";
            return unsuited("rounding", "stochastic", self.scale.name(), expected);
        }
        self.check_granularity()
    }

    fn check_granularity(&self) -> Result<(), QuantError> {
        let found = self.granularity.name();
        let vectors = matches!(&self.grid, Grid::Codebook(book) if book.dimension > 1);
        if vectors && matches!(self.granularity, Granularity::Pixel | Granularity::Row) {
            return unsuited("granularity", found, "vectors", "tensor, channel or group");
        }
        if matches!(&self.grid, Grid::Hashed(_)) && self.granularity != Granularity::Tensor {
            return unsuited("granularity", found, "a hashed grid", "tensor");
        }
        Ok(())
    }

    fn fit_group(
        &self,
        group: &Group,
        prepared: Option<&Prepared>,
        seed: u64,
    ) -> Result<GroupFit, QuantError> {
        match (&self.grid, prepared) {
            (Grid::Codebook(book), _) => fit_codebook(*book, &self.scale, group, seed),
            (Grid::Basis(basis), _) => {
                let found = scale::find_basis(&self.scale, *basis, group);
                let codes = group.values.iter().map(|&w| found.levels.project(w)).collect();
                Ok(GroupFit { scale: 1.0, table: Some(Table::Basis(found)), codes })
            }
            (Grid::Hashed(hashed), _) => {
                let values = bucket_means(*hashed, group, seed);
                let codes = (0..group.values.len()).map(|e| hashed_code(hashed.place(e, seed)));
                let codes = codes.collect();
                Ok(GroupFit { scale: 1.0, table: Some(Table::Hashed { values, seed }), codes })
            }
            (_, Some(prepared)) if self.zero_point == ZeroPoint::Symmetric => {
                let found = prepared.find(group);
                let levels = found.levels.as_ref().unwrap_or(prepared.levels());
                let scale = found.scale as f32;
                let codes = found.codes.unwrap_or_else(|| self.round(group, levels, scale, seed));
                Ok(GroupFit { scale, table: found.levels.map(Table::Scalar), codes })
            }
            (grid, _) => {
                let count = 1usize << grid.bits()?;
                let (scale, zero_point) = scale::affine(&self.scale, count, group)?;
                let levels = Levels::steps(-zero_point, count as i32 - 1 - zero_point);
                let codes = self.round(group, &levels, scale as f32, seed);
                Ok(GroupFit { scale: scale as f32, table: Some(Table::Scalar(levels)), codes })
            }
        }
    }

    fn round(&self, group: &Group, levels: &Levels, scale: f32, seed: u64) -> Vec<u16> {
        let units = group.values.iter().map(|&w| w / scale);
        match self.rounding {
            Rounding::Nearest => units.map(|u| levels.project(u)).collect(),
            Rounding::Stochastic => {
                let mut rng = Rng::new(seed);
                units.map(|u| draw(levels, u, &mut rng)).collect()
            }
        }
    }

    fn assemble(
        &self,
        shape: &[usize],
        (groups, fits): (Groups, Vec<(GroupFit, Vec<usize>)>),
        shared: Option<Table>,
    ) -> CodedWeight {
        let dimension =
            if let Grid::Codebook(book) = &self.grid { usize::from(book.dimension) } else { 1 };
        let elements: usize = shape.iter().product();
        let own = fits.iter().any(|(fit, _)| fit.table.is_some());
        let mut codes = vec![0; elements / dimension];
        let (mut scales, mut tables) = (vec![], vec![]);
        for (fit, members) in fits {
            let firsts = members.iter().step_by(dimension);
            firsts.zip(fit.codes).for_each(|(&e, code)| codes[e / dimension] = code);
            scales.push(fit.scale);
            if own {
                tables.extend(fit.table.or_else(|| shared.clone()));
            }
        }
        if !own {
            tables.extend(shared);
        }
        let scale_bits = self.scale_bits();
        let table_bits = tables.iter().map(|table| self.table_bits(table)).sum();
        CodedWeight::new(Parts {
            shape: shape.to_vec(),
            groups,
            codes,
            scales,
            tables,
            scale_bits,
            table_bits,
        })
    }

    /// Bits that a stored scale takes: an exponent, a float, or nothing where tables hold the magnitudes.
    fn scale_bits(&self) -> u8 {
        let tables = match &self.grid {
            Grid::Codebook(book) => book.numbers == Entries::Float,
            Grid::Basis(_) | Grid::Hashed(_) => true,
            Grid::Uniform(_)
            | Grid::Binary { .. }
            | Grid::Ternary
            | Grid::PowerOfTwo(_)
            | Grid::AdditivePowerOfTwo(_)
            | Grid::Minifloat { .. }
            | Grid::Companded(_) => self.two_valued(),
        };
        let exponents = matches!(self.scale, ScaleRule::PowerOfTwo { .. } | ScaleRule::LogRange);
        if tables {
            0
        } else if exponents {
            8
        } else {
            32
        }
    }

    fn two_valued(&self) -> bool {
        let values = crate::TernaryValues::Two;
        matches!(innermost(&self.scale), ScaleRule::MaxFraction { values: v, .. } if *v == values)
    }

    /// Bits that a table takes in a file: nothing for the grid's own levels, a zero point for shifted ones, a byte for
    /// a channel's width.
    fn table_bits(&self, table: &Table) -> u64 {
        let entries = table.numbers() as u64;
        match &self.grid {
            Grid::Codebook(book) if book.numbers == Entries::Int8 => 8 * entries,
            Grid::Codebook(_) | Grid::Basis(_) => 32 * entries,
            Grid::Hashed(_) => 32 * entries + 64,
            Grid::Uniform(own) => {
                let width = if table.bits() == own.bits { 0 } else { 8 };
                let affine = self.zero_point == ZeroPoint::Affine;
                width + if affine { u64::from(table.bits()) } else { 0 }
            }
            Grid::Ternary if self.two_valued() => 64,
            Grid::Binary { .. }
            | Grid::Ternary
            | Grid::PowerOfTwo(_)
            | Grid::AdditivePowerOfTwo(_)
            | Grid::Minifloat { .. }
            | Grid::Companded(_) => 0,
        }
    }
}

fn unsuited<T>(
    part: &'static str,
    found: &'static str,
    with: &'static str,
    expected: &'static str,
) -> Result<T, QuantError> {
    Err(QuantError::Unsuited { part, found, with, expected })
}

fn check_weight(
    weight: &[f32],
    shape: &[usize],
    importance: Option<&[f32]>,
) -> Result<(), QuantError> {
    length("weights", weight.len(), shape.iter().product())?;
    if weight.is_empty() {
        return Err(QuantError::NoSamples);
    }
    finite(weight)?;
    let Some(importance) = importance else { return Ok(()) };
    length("importance", importance.len(), weight.len())?;
    finite(importance)?;
    let least = importance.iter().copied().fold(0.0, f32::min);
    setting("importance", f64::from(least), least >= 0.0, "at least 0")
}

fn draw(levels: &Levels, unit: f32, rng: &mut Rng) -> u16 {
    let (below, above) = levels.neighbours(unit);
    let (low, high) = (levels.value(below), levels.value(above));
    let part = if high > low { (unit - low) / (high - low) } else { 0.0 };
    if rng.uniform() < part { above } else { below }
}

fn fit_codebook(
    book: Codebook,
    rule: &ScaleRule,
    group: &Group,
    seed: u64,
) -> Result<GroupFit, QuantError> {
    let ScaleRule::Cluster(clustering) = innermost(rule) else {
        unreachable!("checked before: {}", rule.name())
    };
    let (dimension, entries) = (usize::from(book.dimension), book.entries as usize);
    if dimension > 1 {
        clustering.check_vectors()?;
        let whole = group.values.len() / dimension * dimension;
        length("weights of a group of whole vectors", group.values.len(), whole)?;
        let ClusterMethod::KMeans { rounds, .. } = clustering.method else {
            unreachable!("vectors are clustered by k-means")
        };
        let found = cluster::vectors(group, dimension, entries, (rounds, seed));
        let (scale, entries) = snap(book.numbers, &found.centers);
        let codes = assign_vectors(group, dimension, &entries, scale);
        return Ok(GroupFit { scale, table: Some(Table::Vectors { dimension, entries }), codes });
    }
    let found = cluster::scalars(clustering, group, entries, seed);
    let (scale, values) = snap(book.numbers, &found.centers);
    let levels = Levels::nearest(values.clone());
    let codes = found.codes.iter().map(|&code| levels.project(values[usize::from(code)])).collect();
    Ok(GroupFit { scale, table: Some(Table::Scalar(levels)), codes })
}

/// Scale and entries as they are stored.
fn snap(numbers: Entries, centers: &[f32]) -> (f32, Vec<f32>) {
    let most = centers.iter().fold(0.0f32, |m, c| m.max(c.abs()));
    let step = most / 127.0;
    match numbers {
        Entries::Float => (1.0, centers.to_vec()),
        Entries::Int8 if step < f32::MIN_POSITIVE => (1.0, vec![0.0; centers.len()]),
        Entries::Int8 => {
            let snapped = centers.iter().map(|c| (c / step).round_ties_even() + 0.0);
            (step, snapped.collect())
        }
    }
}

pub(crate) fn assign_vectors(
    group: &Group,
    dimension: usize,
    entries: &[f32],
    scale: f32,
) -> Vec<u16> {
    let values: Vec<f32> = entries.iter().map(|entry| entry * scale).collect();
    cluster::assign(group, dimension, &values)
}

/// Code 2h, or 2h + 1 where ξ is -1.
pub(crate) fn hashed_code((bucket, negative): (u16, bool)) -> u16 {
    2 * bucket + u16::from(negative)
}

/// v_j = Σhξw / Σh over the weights of bucket j: least squared error.
fn bucket_means(hashed: crate::Hashed, group: &Group, seed: u64) -> Vec<f32> {
    let mut sums = vec![[0.0f64; 2]; usize::from(hashed.buckets)];
    for (e, &w) in group.values.iter().enumerate() {
        let (bucket, negative) = hashed.place(e, seed);
        let signed = f64::from(if negative { -w } else { w });
        let (sum, h) = (&mut sums[usize::from(bucket)], group.weight(e));
        *sum = [sum[0] + h, sum[1] + h * signed];
    }
    sums.into_iter().map(|[h, hw]| if h > 0.0 { (hw / h) as f32 } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests;
