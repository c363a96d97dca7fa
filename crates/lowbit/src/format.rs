//! How a quantized model is written: the same integers in four forms.

use std::path::Path;

use lowbit_graph::{Graph, passes};
use lowbit_onnx::OnnxError;
use lowbit_ptq::{pack, qcdq};

use crate::{Error, Notes, Quantized, Recipe, compressed};

/// The forms of a quantized model's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// int8 weights and DequantizeLinear; weights that no integers stand for are floats. Every runtime reads it.
    Qdq,
    /// Weights as narrow codes, which standard operators decode when the file is loaded.
    QdqPacked,
    /// Quantizers as operators of QONNX on floats.
    Qonnx,
    /// As `QdqPacked`, the codes entropy-coded, in a container of our own.
    Compressed,
}

impl Format {
    /// The form a quantized model is written in unless another is asked for: packed where a weight has fewer than 8 bits.
    #[must_use]
    pub fn of(quantized: &Quantized) -> Format {
        let wide = quantized.quantized.weights.iter().all(|weight| weight.coded.bits() >= 8);
        if wide { Format::Qdq } else { Format::QdqPacked }
    }

    /// A recipe without what this form cannot hold, and a sentence about what that is, where it has such a thing.
    #[must_use]
    pub fn fitted(self, recipe: Recipe) -> (Recipe, Option<&'static str>) {
        // QONNX has one quantizer where scales per channel need another before than behind.
        if self != Format::Qonnx || !recipe.has_channel_scales() {
            return (recipe, None);
        }
        let lost = "--format qonnx leaves out channel_scales: activations get one scale per tensor";
        (Recipe { channel_scales: false, ..recipe }, Some(lost))
    }

    /// What file names end with.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Format::Qdq | Format::QdqPacked | Format::Qonnx => "onnx",
            Format::Compressed => "lbz",
        }
    }
}

impl Quantized {
    /// The bytes of a file in `format`, with notes.
    ///
    /// # Errors
    /// `Ptq` names a layer that the format cannot hold, `Model` says why the graph cannot be written.
    pub fn to_bytes(&self, format: Format, notes: &Notes) -> Result<Vec<u8>, Error> {
        let mut graph = match format {
            Format::Qdq => self.quantized.graph.clone(),
            Format::QdqPacked | Format::Compressed => pack(&self.quantized)?,
            Format::Qonnx => {
                let float = &self.float.model.graph;
                qcdq(&self.quantized, &self.recipe().assign(float))?
            }
        };
        notes.write(&mut graph);
        let path = &self.float.model.path;
        let wrap = |source| named(path, source);
        match format {
            Format::Qdq | Format::QdqPacked => lowbit_onnx::export_bytes(&graph).map_err(wrap),
            Format::Qonnx => lowbit_onnx::export_qonnx_bytes(&graph).map_err(wrap),
            Format::Compressed => compressed::compress(&graph, path),
        }
    }
}

/// The bytes of a quantized model's file in another form. Packed codes and compressed ones are the same codes; int8 ones are
/// not packed any narrower.
///
/// # Errors
/// `Model` when the file is not one that is read, `Format` for a form that needs what a file does not say.
pub fn convert(path: &Path, format: Format) -> Result<Vec<u8>, Error> {
    let graph = read_graph(path)?;
    let wrap = |source| named(path, source);
    match format {
        Format::Qdq => {
            let mut unpacked = passes::fold_constants(&graph)?;
            unpacked.remove_dead();
            lowbit_onnx::export_bytes(&unpacked).map_err(wrap)
        }
        Format::QdqPacked => lowbit_onnx::export_bytes(&graph).map_err(wrap),
        Format::Compressed => compressed::compress(&graph, path),
        Format::Qonnx => Err(Error::Format {
            path: path.to_owned(),
            what: "conversion to qonnx",
            found: "a file, which does not say which grids it was made on".to_owned(),
            expected: "quantizing with --format qonnx",
        }),
    }
}

/// The graph in a file of any form.
pub(crate) fn read_graph(path: &Path) -> Result<Graph, Error> {
    let wrap = |source| named(path, source);
    if compressed::is_compressed(path) {
        let bytes = std::fs::read(path).map_err(|source| wrap(source.into()))?;
        return compressed::expand(&bytes, path);
    }
    lowbit_onnx::import(path).map_err(wrap)
}

pub(crate) fn named(path: &Path, source: OnnxError) -> Error {
    Error::Model { path: path.to_owned(), source: Box::new(source) }
}
