//! Weights and biases in the graph: written once by insertion, and again by every algorithm that changes them.

use std::sync::Arc;

use lowbit_graph::{Graph, Node, ValueId, quantize_bias};
use lowbit_quant::{CodedWeight, QuantError, Quantizer, Table};
use lowbit_tensor::Tensor;

use super::rows::turn;
use super::{Bias, Held, Inserter, QuantizedGraph, Reading, Rounding, Rows, Site, Weight};
use crate::reconstruct::StepSize;
use crate::{Found, PtqError};

/// Bias codes stay below this, so that adding them to any int32 sum the kernels allow cannot overflow.
const BIAS_LIMIT: f32 = (1 << 30) as f32;

/// A weight and how it is to be quantized.
struct Wanted<'a> {
    quantizer: &'a Quantizer,
    rows: Rows,
    importance: Option<Vec<f32>>,
    reading: Reading,
    input_scale: ValueId,
}

impl Inserter {
    /// Quantizes the weight and bias of the node at `index`, where it is a layer that reads codes.
    pub(super) fn weights(
        &mut self,
        float: &Graph,
        index: usize,
        rounding: &Rounding,
    ) -> Result<(), PtqError> {
        let node = &float.nodes[index];
        let Some(Wanted { quantizer, mut rows, importance, reading, input_scale }) =
            self.wanted(float, index, rounding)
        else {
            return Ok(());
        };
        let named = |source| PtqError::Value { name: node.name.clone(), source };
        let coded = match self.shared.remove(&index) {
            Some(coded) => coded,
            None => quantizer
                .fit(&rows.values, &rows.shape, importance.as_deref(), rounding.seed)
                .map_err(named)?,
        };
        let coded = keep_magnitudes(coded, &rows).map_err(named)?;
        let bias = float_bias(float, node, rows.channels()).map_err(named)?;
        let input = reading.found.tensor.scale;
        let mut coded = guard(coded, &rows, (&bias, input)).map_err(named)?;
        // Every layer gets a bias that can be corrected, unless it has one of another form.
        let bias = bias.or_else(|| node.input(2).is_none().then(|| vec![0.0; rows.channels()]));
        let bias = self.scale_outputs(node, bias, (&mut rows, &mut coded)).map_err(named)?;
        let pruned = match quantizer.prunes() {
            true => coded.decode().iter().map(|&w| w == 0.0).collect(),
            false => vec![],
        };
        self.hold(index, node, (rows, coded, pruned), (bias, input_scale, reading));
        Ok(())
    }

    /// The weight of the node at `index`, where it is a layer that reads codes, and how it is to be quantized.
    fn wanted<'a>(
        &self,
        float: &Graph,
        index: usize,
        rounding: &'a Rounding,
    ) -> Option<Wanted<'a>> {
        let node = &float.nodes[index];
        let layer = rounding.assignment.layers.get(&index)?;
        let mut rows = Rows::of(float, node)?;
        let reading = self.reading(float, index)?;
        let input_scale = reading.scale?;
        let factors = input_factors(&reading.found);
        rows.scale_inputs(&node.op, factors.as_deref());
        let importance = rounding.importance.get(&index).map(|of_floats| {
            // w·x = (f·w)·(x/f).
            let squares = factors.map(|all| all.iter().map(|f| 1.0 / (f * f)).collect::<Vec<_>>());
            let mut scaled = Rows { values: of_floats.clone(), ..rows.clone() };
            scaled.scale_inputs(&node.op, squares.as_deref());
            scaled.values
        });
        Some(Wanted { quantizer: &layer.weights, rows, importance, reading, input_scale })
    }

    /// Codes the layers that get one codebook together.
    pub(super) fn share(&mut self, float: &Graph, rounding: &Rounding) -> Result<(), PtqError> {
        let Some(quantizer) = &rounding.shared else { return Ok(()) };
        let layers: Vec<(usize, Wanted<'_>)> = (0..float.nodes.len())
            .filter_map(|index| Some((index, self.wanted(float, index, rounding)?)))
            .filter(|(_, wanted)| wanted.quantizer == quantizer)
            .collect();
        let Some((first, _)) = layers.first() else { return Ok(()) };
        let name = &float.nodes[*first].name;
        let weights: Vec<(&[f32], &[usize])> = layers
            .iter()
            .map(|(_, wanted)| (&wanted.rows.values[..], &wanted.rows.shape[..]))
            .collect();
        let importance: Option<Vec<&[f32]>> =
            layers.iter().map(|(_, wanted)| wanted.importance.as_deref()).collect();
        let importance = importance.map(|parts| parts.concat());
        let coded = quantizer.fit_shared(&weights, importance.as_deref(), rounding.seed);
        let coded = coded.map_err(|source| PtqError::Value { name: name.clone(), source })?;
        self.shared = layers.iter().map(|(index, _)| *index).zip(coded).collect();
        Ok(())
    }

    /// Puts a quantized weight and its bias into the graph.
    fn hold(
        &mut self,
        index: usize,
        node: &Node,
        (rows, coded, pruned): (Rows, CodedWeight, Vec<bool>),
        (bias, input_scale, reading): (Option<Vec<f32>>, ValueId, Reading),
    ) {
        let name = format!("{}_weight", node.name);
        let channels = rows.channels();
        let turned = rows.turned;
        let (held, result) = match coded.integers() {
            Some(_) => {
                let zeros = Tensor::vector(vec![0i8; channels]);
                let empty = Tensor::vector(Vec::<i8>::new());
                let operands = [empty, Tensor::vector(vec![1.0f32; channels]), zeros];
                let [codes, scales, result] = self.dequantized(&name, operands, i64::from(turned));
                (Held::Integers { codes, scales, turned }, result)
            }
            None => {
                let empty = Tensor::vector(Vec::<f32>::new());
                let result = self.quantized.graph.add_constant(&format!("{name}_decoded"), empty);
                (Held::Floats { turned }, result)
            }
        };
        self.quantized.graph.nodes[index].inputs[1] = Some(result);
        let on_integers = matches!(held, Held::Integers { .. });
        let bias = bias.map(|values| self.hold_bias(index, node, values, on_integers));
        let tensor = reading.found.tensor;
        let Some(input) = node.input(0) else { return };
        let target = Arc::<[f32]>::from(rows.values);
        self.quantized.weights.push(Weight {
            node: node.name.clone(),
            index,
            input,
            latent: Arc::clone(&target),
            target,
            shape: rows.shape,
            coded: coded.clone(),
            pruned,
            result,
            bias,
            input_scale,
            input_bits: (tensor.qmax - tensor.qmin + 1).ilog2() as u8,
            held,
        });
        let last = self.quantized.weights.len() - 1;
        self.quantized.set_weight(last, coded);
    }

    fn hold_bias(
        &mut self,
        index: usize,
        node: &Node,
        values: Vec<f32>,
        on_integers: bool,
    ) -> Bias {
        let name = format!("{}_bias", node.name);
        let (result, codes) = if on_integers {
            let zeros = Tensor::vector(vec![0i32; values.len()]);
            let scales = Tensor::vector(vec![1.0f32; values.len()]);
            let [codes, scales, result] =
                self.dequantized(&name, [zeros.clone(), scales, zeros], 0);
            (result, Some([codes, scales]))
        } else {
            (self.quantized.graph.add_constant(&name, Tensor::vector(values.clone())), None)
        };
        let inputs = &mut self.quantized.graph.nodes[index].inputs;
        inputs.resize(inputs.len().max(3), None);
        inputs[2] = Some(result);
        Bias { values, result, codes }
    }

    /// Multiplies each output channel so that its codes mean what the result's scales per channel say.
    fn scale_outputs(
        &self,
        node: &Node,
        bias: Option<Vec<f32>>,
        (rows, coded): (&mut Rows, &mut CodedWeight),
    ) -> Result<Option<Vec<f32>>, QuantError> {
        let found = self.parameters.get(&node.output());
        let Some((_, Found { tensor, channels: Some(channels) })) = found else { return Ok(bias) };
        let mut scales = coded.scales().to_vec();
        let mut bias = bias.unwrap_or_else(|| vec![0.0; rows.channels()]);
        let per_channel = rows.per_channel();
        for (c, (row, bias)) in rows.values.chunks_mut(per_channel).zip(&mut bias).enumerate() {
            let factor = tensor.scale / channels.scales[c];
            let shift = (channels.zero_points[c] - tensor.zero_point) as f32 * tensor.scale;
            row.iter_mut().for_each(|w| *w *= factor);
            scales[c] *= factor;
            *bias = *bias * factor + shift;
        }
        *coded = coded.with_scales(scales)?;
        Ok(Some(bias))
    }
}

impl Weight {
    pub(crate) fn turned(&self) -> bool {
        match self.held {
            Held::Integers { turned, .. } | Held::Floats { turned } => turned,
        }
    }

    /// The shape of the weight in the graph.
    pub(crate) fn graph_shape(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if self.turned() {
            shape.reverse();
        }
        shape
    }
}

/// Rows of output channels as the graph holds them.
pub(crate) fn back_to_graph<T: Copy>(weight: &Weight, rows: Vec<T>) -> Vec<T> {
    if weight.turned() { turn(&rows, weight.target.len() / weight.shape[0].max(1)) } else { rows }
}

/// What the graph holds as rows of output channels.
pub(crate) fn to_rows<T: Copy>(weight: &Weight, held: &[T]) -> Vec<T> {
    if weight.turned() { turn(held, weight.shape[0]) } else { held.to_vec() }
}

impl QuantizedGraph {
    /// Replaces the step size of a group of activations, and the bias codes whose scale follows from it.
    pub(crate) fn set_step_size(&mut self, name: StepSize, scale: f32) {
        let mut changed = vec![];
        for site in self.sites.iter_mut().chain(&mut self.narrowed) {
            if site.group == name.group && site.parameters.qmax == name.qmax {
                site.parameters.scale = scale;
                changed.push(site.scale);
                self.graph.set_constant(site.scale, Tensor::scalar(scale));
            }
        }
        for index in 0..self.weights.len() {
            let weight = &self.weights[index];
            if let Some(bias) =
                weight.bias.as_ref().filter(|_| changed.contains(&weight.input_scale))
            {
                let values = bias.values.clone();
                self.set_bias(index, values);
            }
        }
    }

    /// Replaces the codes of weight `index`, and the bias codes whose scale follows the weight's.
    pub fn set_weight(&mut self, index: usize, coded: CodedWeight) {
        let weight = &mut self.weights[index];
        weight.coded = coded;
        match (weight.held, weight.coded.integers()) {
            (Held::Integers { codes, scales, .. }, Some((values, found))) => {
                let tensor = Tensor::new(weight.graph_shape(), back_to_graph(weight, values));
                self.graph.set_constant(codes, tensor);
                let found = one_per_channel(found, weight.shape[0]);
                self.graph.set_constant(scales, Tensor::vector(found));
            }
            _ => {
                let values = back_to_graph(weight, weight.coded.decode());
                let tensor = Tensor::new(weight.graph_shape(), values);
                self.graph.set_constant(weight.result, tensor);
            }
        }
        if let Some(bias) = self.weights[index].bias.as_ref().map(|bias| bias.values.clone()) {
            self.set_bias(index, bias);
        }
    }

    /// Replaces the bias of weight `index`.
    ///
    /// # Panics
    /// When the layer has none.
    pub fn set_bias(&mut self, index: usize, values: Vec<f32>) {
        let weight = &self.weights[index];
        let input = self.graph.constant(weight.input_scale).map_or(1.0, |s| s.f32s()[0]);
        let integers = weight.coded.integers();
        let bias = self.weights[index].bias.as_mut().expect("the layer has a bias");
        match (bias.codes, integers) {
            (Some([codes, scales]), Some((_, found))) => {
                let found = one_per_channel(found, values.len());
                let products: Vec<f32> = found.iter().map(|weight| input * weight).collect();
                let coded = values.iter().zip(&products).map(|(&b, &s)| quantize_bias(b, s));
                self.graph.set_constant(codes, Tensor::vector(coded.collect::<Vec<i32>>()));
                self.graph.set_constant(scales, Tensor::vector(products));
            }
            _ => self.graph.set_constant(bias.result, Tensor::vector(values.clone())),
        }
        bias.values = values;
    }
}

/// The one scale of a tensor for every channel.
fn one_per_channel(scales: Vec<f32>, channels: usize) -> Vec<f32> {
    if let [one] = scales[..] { vec![one; channels] } else { scales }
}

/// Mean and deviation of a float channel, as the layer that makes the site's codes computes it: where it absorbs scales per channel, times a
/// factor and shifted, as [`Inserter::scale_outputs`] has it.
pub(crate) fn channel_map(site: Option<&Site>) -> impl Fn(usize, [f64; 2]) -> [f64; 2] {
    let tensor = site.map(|site| site.parameters);
    let channels = site.and_then(|site| site.channels.as_ref());
    move |c, [mean, deviation]| {
        let (Some(tensor), Some(channels)) = (tensor, channels) else { return [mean, deviation] };
        let factor = f64::from(tensor.scale / channels.scales[c]);
        let shift =
            f64::from(channels.zero_points[c] - tensor.zero_point) * f64::from(tensor.scale);
        [mean * factor + shift, deviation * factor]
    }
}

/// Where the weights of a group (most often, an output channel) are all a, -a or 0, gives that group the scale at which they are
/// powers of two: this loses nothing, and sums of signs are integers times one power of two. The power is the largest there is up to
/// 64, since the bias is rounded to multiples of that scale.
fn keep_magnitudes(coded: CodedWeight, rows: &Rows) -> Result<CodedWeight, QuantError> {
    let Some((integers, found)) = coded.integers() else { return Ok(coded) };
    if !matches!(coded.tables(), [Table::Scalar(_)]) || integers.len() != coded.codes().len() {
        return Ok(coded);
    }
    let levels = coded.integer_table().unwrap_or_default();
    let has = |power: i8| levels.contains(&power) && levels.contains(&-power);
    let Some(power) = (0..=6).rev().map(|shift| 1i8 << shift).find(|&power| has(power)) else {
        return Ok(coded);
    };
    let magnitudes = magnitudes(&coded, &rows.values);
    if magnitudes.iter().all(Option::is_none) {
        return Ok(coded);
    }
    let mut scales = coded.scales().to_vec();
    for ((scale, found), magnitude) in scales.iter_mut().zip(found).zip(&magnitudes) {
        if let Some(magnitude) = magnitude {
            // The quotient is the unit of the levels: a power of two.
            *scale = magnitude / f32::from(power) / (found / *scale);
        }
    }
    let kept = coded.with_scales(scales)?;
    let rounded = kept.round_to(&rows.values)?;
    let codes = (0..rounded.codes().len()).map(|e| {
        let kept = magnitudes[coded.group_of(e)].is_some();
        if kept { rounded.codes()[e] } else { coded.codes()[e] }
    });
    let kept = kept.with_codes(codes.collect())?;
    let exact = kept.decode().into_iter().zip(&rows.values).enumerate();
    let mut exact = exact.filter(|(e, _)| magnitudes[coded.group_of(*e)].is_some());
    Ok(if exact.all(|(_, (now, then))| now == *then) { kept } else { coded })
}

/// For each group the only magnitude of its weights that are not 0, where there are at least two of them.
fn magnitudes(coded: &CodedWeight, weights: &[f32]) -> Vec<Option<f32>> {
    let mut found = vec![(0usize, Some(0f32)); coded.scales().len()];
    for (e, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
        let (count, magnitude) = &mut found[coded.group_of(e)];
        *count += 1;
        *magnitude = magnitude.filter(|&known| *count == 1 || known == weight.abs());
        *magnitude = magnitude.map(|_| weight.abs());
    }
    found.into_iter().map(|(count, magnitude)| magnitude.filter(|_| count > 1)).collect()
}

/// Raises the scale of channels whose bias would not fit int32 at s_x·s_w.
fn guard(
    coded: CodedWeight,
    rows: &Rows,
    (bias, input): (&Option<Vec<f32>>, f32),
) -> Result<CodedWeight, QuantError> {
    let Some((_, found)) = coded.integers() else { return Ok(coded) };
    let mut scales = coded.scales().to_vec();
    let one = scales.len() == 1;
    for (c, b) in bias.iter().flatten().enumerate() {
        let group = if one { 0 } else { c };
        let least = b.abs() / (input * BIAS_LIMIT);
        scales[group] = scales[group].max(coded.scales()[group] * least / found[group]);
    }
    if scales == coded.scales() {
        return Ok(coded);
    }
    coded.with_scales(scales)?.round_to(&rows.values)
}

/// The node's bias as one float per output channel; `None` when it has none, or one of another form.
fn float_bias(float: &Graph, node: &Node, channels: usize) -> Result<Option<Vec<f32>>, QuantError> {
    let Some(bias) = float.constant_input(node, 2) else {
        return Ok(None);
    };
    let values = bias.f32s();
    if let Some(&found) = values.iter().find(|b| !b.is_finite()) {
        return Err(QuantError::NotFinite { found });
    }
    let scaled = matches!(&node.op, lowbit_graph::Op::Gemm(gemm) if gemm.beta != 1.0);
    let row = values.len() == channels && bias.shape().last() == Some(&channels);
    Ok((row && !scaled).then(|| values.to_vec()))
}

/// What each input channel of a convolution is multiplied by so that codes mean what the scales per channel say: x = f · x'.
fn input_factors(input: &Found) -> Option<Vec<f32>> {
    let channels = input.channels.as_ref()?;
    Some(channels.scales.iter().map(|scale| scale / input.tensor.scale).collect())
}
