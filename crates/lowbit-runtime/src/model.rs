//! The embedding API: load a model, run images.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use lowbit_graph::passes;
use lowbit_kernels::Isa;
use lowbit_kernels::nhwc::{Pool, TOGETHER};
use lowbit_tensor::{DType, Tensor};

use crate::{Memory, Network, Plan, RuntimeError};

/// A compiled model. Any number of threads may run it at once; each run takes its memory from those that are idle.
///
/// ```no_run
/// let model = lowbit_runtime::Model::load("net.int8.onnx")?;
/// let image = vec![0.0; model.input_len()];
/// let scores = model.run(&image)?;
/// # Ok::<(), lowbit_runtime::RuntimeError>(())
/// ```
#[derive(Debug)]
pub struct Model {
    plan: Plan,
    pool: Pool,
    idle: Mutex<Vec<Memory>>,
}

impl From<Plan> for Model {
    /// Runs the plan on the calling thread.
    fn from(plan: Plan) -> Model {
        Model { plan, pool: Pool::new(1), idle: Mutex::default() }
    }
}

impl Model {
    /// Reads an ONNX file and compiles it for this CPU, to run on the calling thread.
    ///
    /// # Errors
    /// `Import` when the file cannot be read, `Model` when it leaves the size of an image open or has not one float input,
    /// otherwise what [`Network::new`] finds.
    pub fn load(path: impl AsRef<Path>) -> Result<Model, RuntimeError> {
        let path = path.as_ref();
        let imported = lowbit_onnx::import(path).map_err(|source| RuntimeError::Import {
            path: path.to_path_buf(),
            source: Box::new(source),
        })?;
        let open = || RuntimeError::Model {
            found: "an input whose size is left open".into(),
            expected: "one float32 input with fixed dimensions but the batch",
        };
        let input = imported.inputs.first().ok_or_else(open)?;
        let mut dims = vec![1];
        for dim in input.dims.iter().skip(1) {
            dims.push(dim.ok_or_else(open)?);
        }
        if input.dtype != DType::F32 {
            return Err(open());
        }
        let example = Tensor::full(dims.clone(), 0.5f32);
        let canonical = passes::canonicalize(&imported, &[example])?;
        let (lowered, _) = passes::lower_qdq(&canonical)?;
        Ok(Model::new(&Network::new(&lowered, &dims)?))
    }

    /// Compiles a network for this CPU, to run on the calling thread.
    #[must_use]
    pub fn new(network: &Network) -> Model {
        Plan::new(network, Isa::current()).into()
    }

    /// Runs on `threads` threads: an image's layers are split among them, or a batch's images where there are enough. Results do
    /// not depend on it.
    ///
    /// # Panics
    /// When `threads` is 0, or the system gives no thread.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Model {
        self.pool = Pool::new(threads);
        self
    }

    /// What runs.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Floats of one image.
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.plan.input_len()
    }

    /// Scores of one image.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.plan.output_len()
    }

    /// The scores of one image or of several, one after the other, in the model's own order of elements.
    ///
    /// # Errors
    /// `Length` when `input` is not a whole number of images.
    pub fn run(&self, input: &[f32]) -> Result<Vec<f32>, RuntimeError> {
        let images = input.len() / self.input_len().max(1);
        let mut output = vec![0.0; images * self.output_len()];
        self.run_into(input, &mut output)?;
        Ok(output)
    }

    /// As [`Model::run`], into floats of the caller.
    ///
    /// # Errors
    /// `Length` when `input` is not a whole number of images, or `output` does not hold their scores.
    pub fn run_into(&self, input: &[f32], output: &mut [f32]) -> Result<(), RuntimeError> {
        let (each, scores) = (self.input_len(), self.output_len());
        let images = input.len() / each.max(1);
        let checks =
            [("input", input.len(), images * each), ("output", output.len(), images * scores)];
        for (what, found, expected) in checks {
            if found != expected || images == 0 {
                return Err(RuntimeError::Length { what, found, expected: expected.max(each) });
            }
        }
        let threads = self.pool.threads();
        if images == 1 || images < threads {
            let mut memory = self.take();
            for (image, scores) in input.chunks_exact(each).zip(output.chunks_exact_mut(scores)) {
                self.plan.run(image, scores, &mut memory, &self.pool);
            }
            self.give(memory);
            return Ok(());
        }
        let per_thread = images.div_ceil(threads);
        let outputs: Vec<Mutex<&mut [f32]>> =
            output.chunks_mut(per_thread * scores).map(Mutex::new).collect();
        let alone = Pool::new(1);
        self.pool.run(outputs.len(), &|part| {
            let mut output = outputs[part].lock().unwrap_or_else(PoisonError::into_inner);
            let input = &input[part * per_thread * each..];
            let count = (output.len() / scores.max(1)).min(TOGETHER);
            let mut memories: Vec<Memory> = (0..count).map(|_| self.take()).collect();
            let inputs = input.chunks(TOGETHER * each);
            for (input, output) in inputs.zip(output.chunks_mut(TOGETHER * scores)) {
                let count = output.len() / scores;
                let memories = &mut memories[..count];
                self.plan.run_images(&input[..count * each], output, memories, &alone);
            }
            memories.into_iter().for_each(|memory| self.give(memory));
        });
        Ok(())
    }

    fn take(&self) -> Memory {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.pop().unwrap_or_else(|| self.plan.memory())
    }

    fn give(&self, memory: Memory) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }
}
