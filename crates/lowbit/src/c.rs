//! A quantized model's file as C.

use std::path::Path;

use lowbit_runtime::Network;
pub use lowbit_runtime::c::Source as CSource;

use crate::{Error, Model};

/// A quantized model as C99 for microcontrollers; all names it defines begin with `name`. Its scores equal those of [`crate::Runner`] bit
/// for bit, but for a softmax at the end, which is left out.
///
/// # Errors
/// `Model` when the file is not one that is read, `Format` when it is not quantized, `Runtime` when it has steps that C cannot be written
/// of, or `name` is not one in C.
pub fn to_c(path: &Path, name: &str) -> Result<CSource, Error> {
    let model = Model::load(path, None)?;
    if !model.is_quantized() {
        return Err(Error::Format {
            path: path.to_owned(),
            what: "export to C",
            found: "a float model".to_owned(),
            expected: "a quantized one, as lowbit quantize writes it",
        });
    }
    Ok(CSource::new(Network::new(&model.graph, &model.input_shape)?, name)?)
}
