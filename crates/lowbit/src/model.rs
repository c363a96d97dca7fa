//! A classifier as read from a file: float or quantized, ready to run.

use std::path::{Path, PathBuf};

use lowbit_data::Preprocess;
use lowbit_graph::Graph;
use lowbit_graph::passes::{self, Placement};
use lowbit_ptq::BatchNormStatistics;
use lowbit_tensor::{DType, Shape, Tensor};

use crate::Error;

/// Channels, height and width of one image, or height, width and channels: as the model reads them.
pub type InputShape = [usize; 3];

/// Notes that lowbit keeps in a model's `metadata_props`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Notes {
    /// How images are preprocessed.
    pub preprocess: Option<Preprocess>,
    /// Class names.
    pub classes: Option<Vec<String>>,
    /// The recipe that quantized the model.
    pub recipe: Option<String>,
}

/// Key of the preprocessing in `metadata_props`.
const PREPROCESS_KEY: &str = "lowbit.preprocess";
/// Key of the class names.
const CLASSES_KEY: &str = "lowbit.classes";
/// Key of the recipe.
const RECIPE_KEY: &str = "lowbit.recipe";

impl Notes {
    /// Reads the notes of a graph; foreign or damaged notes count as absent.
    #[must_use]
    pub fn of(graph: &Graph) -> Notes {
        let note = |key: &str| graph.metadata.get(key);
        Notes {
            preprocess: note(PREPROCESS_KEY).and_then(|text| Preprocess::from_json(text).ok()),
            classes: note(CLASSES_KEY).and_then(|text| serde_json::from_str(text).ok()),
            recipe: note(RECIPE_KEY).cloned(),
        }
    }

    /// Writes the notes into a graph.
    pub fn write(&self, graph: &mut Graph) {
        let mut put = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                graph.metadata.insert(key.to_owned(), value);
            }
        };
        put(PREPROCESS_KEY, self.preprocess.as_ref().map(Preprocess::to_json));
        put(CLASSES_KEY, self.classes.as_ref().and_then(|c| serde_json::to_string(c).ok()));
        put(RECIPE_KEY, self.recipe.clone());
    }
}

/// A model as it runs: float models canonical, quantized ones in their integer form.
#[derive(Clone, Debug)]
pub struct Model {
    /// Where it came from.
    pub path: PathBuf,
    /// As imported.
    pub imported: Graph,
    /// As it runs.
    pub graph: Graph,
    /// For quantized models: how each node runs.
    pub placements: Option<Vec<Placement>>,
    /// What the file says about itself.
    pub notes: Notes,
    /// Shape of one image as a batch of one.
    pub input_shape: [usize; 4],
    /// Bytes of the file and its external data.
    pub size_bytes: u64,
}

impl Model {
    /// Reads a model, ONNX or compressed. `shape` is that of one image where the file leaves height and width open.
    ///
    /// # Errors
    /// `Model` when the file is not one we can run, `NotAClassifier` when it has no single image input.
    pub fn load(path: impl AsRef<Path>, shape: Option<InputShape>) -> Result<Model, Error> {
        let path = path.as_ref().to_path_buf();
        let imported = crate::format::read_graph(&path)?;
        let size_bytes = std::fs::metadata(&path).map_or(0, |m| m.len());
        Model::from_graph(imported, path, (size_bytes, shape))
    }

    /// As [`Model::load`], from the bytes of a file without external data.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_bytes(name: &str, bytes: &[u8], shape: Option<InputShape>) -> Result<Model, Error> {
        let path = PathBuf::from(name);
        let wrap = |source| Error::Model { path: path.clone(), source: Box::new(source) };
        let imported = lowbit_onnx::import_bytes(bytes, None).map_err(wrap)?;
        Model::from_graph(imported, path, (bytes.len() as u64, shape))
    }

    fn from_graph(
        imported: Graph,
        path: PathBuf,
        (size_bytes, shape): (u64, Option<InputShape>),
    ) -> Result<Model, Error> {
        let notes = Notes::of(&imported);
        let example = example(&imported, shape)?;
        let shape = example.shape();
        let input_shape = [shape[0], shape[1], shape[2], shape[3]];
        let canonical = passes::canonicalize(&imported, &[example])?;
        let quantized = canonical.nodes.iter().any(|node| node.op.is_quantized());
        let (graph, placements) = if quantized {
            let (lowered, placements) = passes::lower_qdq(&canonical)?;
            (lowered, Some(placements))
        } else {
            (canonical, None)
        };
        Ok(Model { input_shape, path, imported, graph, placements, notes, size_bytes })
    }

    /// The model as [`Model::graph`] would be if BatchNormalization were not folded into the layers before it.
    ///
    /// # Errors
    /// `Graph` when it does not run.
    pub fn unfolded(&self) -> Result<Graph, Error> {
        let example = Tensor::full(self.input_shape.to_vec(), 0.5f32);
        Ok(passes::canonicalize_unfolded(&self.imported, &[example])?)
    }

    /// What the model's BatchNormalizations say about its layers; empty where the file has none left.
    ///
    /// # Errors
    /// As [`Model::unfolded`].
    pub fn batch_norm_statistics(&self) -> Result<BatchNormStatistics, Error> {
        Ok(BatchNormStatistics::of(&self.unfolded()?))
    }

    /// Whether the model holds quantized operators.
    #[must_use]
    pub fn is_quantized(&self) -> bool {
        self.placements.is_some()
    }

    /// The shape of one image, as far as the file fixes it.
    #[must_use]
    pub fn image_dims(&self) -> [Option<usize>; 3] {
        let dims = &self.imported.inputs[0].dims;
        [dims[1], dims[2], dims[3]]
    }

    /// Bytes of weights and other constants of the graph that runs.
    #[must_use]
    pub fn constant_bytes(&self) -> usize {
        self.graph.constants().map(|(_, tensor)| tensor.size_bytes()).sum()
    }
}

/// One gray image, from which passes learn shapes.
fn example(graph: &Graph, shape: Option<InputShape>) -> Result<Tensor, Error> {
    let wrong = |what, found: String, expected: &str| Error::NotAClassifier {
        what,
        found,
        expected: expected.to_owned(),
    };
    let [input] = graph.inputs.as_slice() else {
        let found = format!("{} inputs", graph.inputs.len());
        return Err(wrong("inputs", found, "one float32 image batch [n, c, h, w]"));
    };
    if input.dtype != DType::F32 || input.dims.len() != 4 {
        let found = format!("{} of rank {}", input.dtype, input.dims.len());
        return Err(wrong("input", found, "float32 of rank 4: [n, c, h, w] or [n, h, w, c]"));
    }
    if graph.outputs.is_empty() {
        return Err(wrong("outputs", "none".into(), "one output of class scores"));
    }
    let mut dims = vec![input.dims[0].unwrap_or(1)];
    for axis in 0..3 {
        let open = || shape.map(|s| s[axis]);
        let dim = input.dims[axis + 1].or_else(open).ok_or_else(|| {
            let found = format!("an open dimension {}", axis + 1);
            wrong("input shape", found, "a size: give images or --input CxHxW")
        })?;
        dims.push(dim);
    }
    let shape = Shape::from(dims);
    match shape.checked_len() {
        Some(n) if n <= 1 << 26 => Ok(Tensor::new(shape, vec![0.5; n])),
        _ => Err(wrong("input", format!("shape {shape}"), "at most 2^26 elements")),
    }
}
