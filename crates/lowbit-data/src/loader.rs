//! Streams a subset's images as batches, in order: decoded in parallel, one batch ahead of the reader, at most three in memory.
//!
//! ```text
//! thread:  for each batch: decode its images on the pool ──channel of one batch──▶ iterator
//! ```

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rayon::prelude::*;

use crate::error::DataError;
use crate::preprocess::Preprocess;
use crate::subset::Subset;

/// An iterator over batches. The first error ends it. Dropping it stops the loading after the batch in work.
#[derive(Debug)]
pub struct Loader {
    batches: Receiver<Result<Batch, DataError>>,
    thread: Option<JoinHandle<()>>,
}

/// How to load.
#[derive(Clone, Copy, Debug)]
pub struct LoaderSettings {
    /// Images per batch; the last batch holds the rest.
    pub batch_size: usize,
    /// Decoding threads; 0 for as many as there are cores.
    pub threads: usize,
}

/// Preprocessed images that follow one another in the subset.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The position of the first in the subset.
    pub first: usize,
    /// The values, in the order of `shape`.
    pub inputs: Vec<f32>,
    /// [n, c, h, w], or [n, h, w, c] when the layout is `Nhwc`.
    pub shape: [usize; 4],
    /// One per image where the data set has labels.
    pub labels: Option<Vec<u32>>,
}

impl Loader {
    /// Starts loading all of `subset`. Results are equal at any number of threads.
    /// # Errors
    /// `Threads`; `Preprocess` or what is wrong with the first image, whose shape all must have.
    /// # Panics
    /// When `batch_size` is 0.
    pub fn new(
        subset: &Subset,
        preprocess: &Preprocess,
        settings: LoaderSettings,
    ) -> Result<Loader, DataError> {
        assert!(settings.batch_size > 0, "a batch holds at least one image");
        let preprocess = preprocess.clone().validated()?;
        let threads = settings.threads;
        let failed = |source| DataError::Threads { threads, source };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|source| failed(Box::new(source)))?;
        let work = Work {
            shape: if subset.is_empty() { [0; 3] } else { subset.output_shape(&preprocess)? },
            subset: subset.clone(),
            preprocess,
            batch_size: settings.batch_size,
            pool,
        };
        let (sender, batches) = sync_channel(1);
        let thread = std::thread::Builder::new().name("lowbit-loader".into());
        let spawned = thread.spawn(move || work.send_all(&sender));
        let thread = Some(spawned.map_err(|source| failed(Box::new(source)))?);
        Ok(Loader { batches, thread })
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Result<Batch, DataError>> {
        let batch = self.batches.recv().ok();
        if batch.is_none()
            && let Some(thread) = self.thread.take()
        {
            // A panic must not look like the end of the data.
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        batch
    }
}

struct Work {
    subset: Subset,
    preprocess: Preprocess,
    shape: [usize; 3],
    batch_size: usize,
    pool: rayon::ThreadPool,
}

impl Work {
    fn send_all(&self, sender: &SyncSender<Result<Batch, DataError>>) {
        for first in (0..self.subset.len()).step_by(self.batch_size) {
            let batch = self.pool.install(|| self.load(first));
            let failed = batch.is_err();
            let reader_gone = sender.send(batch).is_err();
            if failed || reader_gone {
                return;
            }
        }
    }

    /// The images from `first` on; of several errors the one of the first image.
    fn load(&self, first: usize) -> Result<Batch, DataError> {
        let count = self.batch_size.min(self.subset.len() - first);
        let [a, b, c] = self.shape;
        let mut inputs = vec![0.0; count * a * b * c];
        let results: Vec<Result<Option<u32>, DataError>> = inputs
            .par_chunks_exact_mut(a * b * c)
            .enumerate()
            .map(|(i, out)| self.subset.sample_into(first + i, &self.preprocess, self.shape, out))
            .collect();
        let labels: Vec<Option<u32>> = results.into_iter().collect::<Result<_, _>>()?;
        let labels = labels.into_iter().collect();
        Ok(Batch { first, inputs, shape: [count, a, b, c], labels })
    }
}

#[cfg(test)]
mod tests;
