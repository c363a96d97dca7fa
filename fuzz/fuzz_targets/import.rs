//! Any bytes are a model or an error; what is a model can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lowbit_onnx::{export_bytes, import_bytes};

fuzz_target!(|bytes: &[u8]| {
    let Ok(graph) = import_bytes(bytes, None) else {
        return;
    };
    // A graph may hold what ONNX cannot say, but what was written must be read.
    if let Ok(written) = export_bytes(&graph) {
        import_bytes(&written, None).expect("what was written is read");
    }
});
