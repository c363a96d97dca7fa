//! Lets elements of activations inside a unit skip their quantizer while it is learned, as QDrop does (Wei et al. 2022,
//! arXiv:2203.05740, equation 8).
//!
//! ```text
//! result' = result + m·(value - result)      m in {0, 1}, drawn anew for every element in every step
//! ```
//! Gradients follow: through the quantizer where m is 0, past it where m is 1. Activations with scales per channel keep theirs: at 8 bits
//! there is nothing worth skipping.

use std::collections::{HashMap, HashSet};

use lowbit_graph::{Binary, Graph, Input, Op, Session, ValueId, Workspace};
use lowbit_tensor::{DType, Rng, Tensor};

use crate::{PtqError, QuantizedGraph};

/// The masks of a unit, in the order of its graph's inputs behind the first.
#[derive(Clone, Debug, Default)]
pub(super) struct Skips {
    /// Shapes for one image.
    shapes: Vec<Vec<usize>>,
}

impl Skips {
    /// Rewrites the quantizers in `part`, which reads one image's value of `shape`, and makes inputs of the masks.
    ///
    /// # Errors
    /// `Graph` when the part does not run.
    pub(super) fn insert(
        quantized: &QuantizedGraph,
        part: &mut Graph,
        shape: &[usize],
    ) -> Result<Skips, PtqError> {
        let session = Session::new(part)?;
        let image = Tensor::full(shape.to_vec(), 0f32);
        let tape = session.record(&[&image], &mut Workspace::parallel())?;
        let made = part.nodes.iter().flat_map(|node| node.outputs.iter().flatten().copied());
        let made: HashSet<ValueId> = made.collect();
        let fed: Vec<ValueId> = part.inputs.iter().map(|input| input.value).collect();
        let mut skips = Skips::default();
        let mut mixed: HashMap<ValueId, ValueId> = HashMap::new();
        for site in quantized.sites.iter().chain(&quantized.narrowed) {
            let inside = made.contains(&site.value) || fed.contains(&site.value);
            let shape = tape.value(site.result).map(|tensor| tensor.shape().to_vec());
            let Some(shape) = shape.filter(|_| inside && made.contains(&site.result)) else {
                continue;
            };
            if site.channels.is_some() {
                continue;
            }
            let value = mixed.get(&site.value).copied().unwrap_or(site.value);
            mixed.insert(site.result, skip(part, (value, site.result), &shape));
            skips.shapes.push(shape);
        }
        part.sort()?;
        Ok(skips)
    }

    /// Masks for some images, each element 1 with probability `share`.
    pub(super) fn draw(&self, images: usize, share: f32, rng: &mut Rng) -> Vec<Tensor> {
        let one = |shape: &Vec<usize>| {
            let mut shape = shape.clone();
            if let Some(first) = shape.first_mut().filter(|_| images > 1) {
                *first *= images;
            }
            let count = shape.iter().product();
            let values = (0..count).map(|_| f32::from(u8::from(rng.uniform() < share)));
            Tensor::new(shape, values.collect::<Vec<f32>>())
        };
        self.shapes.iter().map(one).collect()
    }
}

/// Makes readers of `result` see the mix of it and `value`; returns the mix.
fn skip(part: &mut Graph, (value, result): (ValueId, ValueId), shape: &[usize]) -> ValueId {
    let mix = part.fresh("mix");
    part.replace_uses(result, mix);
    let mask = part.fresh("skip");
    let dims = std::iter::once(None).chain(shape.iter().skip(1).map(|&d| Some(d))).collect();
    part.inputs.push(Input { value: mask, dtype: DType::F32, dims });
    let difference = part.add_node("skip_difference", Op::Binary(Binary::Sub), &[value, result]);
    let share = part.add_node("skip_share", Op::Binary(Binary::Mul), &[mask, difference]);
    part.add_node("skip_mix", Op::Binary(Binary::Add), &[result, share]);
    if let Some(node) = part.nodes.last_mut() {
        node.outputs = vec![Some(mix)];
    }
    mix
}

#[cfg(test)]
mod tests;
