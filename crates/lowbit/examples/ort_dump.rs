//! The Rust side of `checks/`: writes what lowbit computes as `.npy` files, for onnxruntime to be compared with.
//!
//! ```text
//! ort_dump float MODEL DIR               runs a float model on every DIR/*.npy, as the passes left it
//! ort_dump quantize MODEL DIR DATA PREPROCESS.toml CALIBRATION EVALUATION [RANGES WEIGHTS] [recipe NAME|FILE FORMAT]
//!                                        quantizes, exports and runs both forms on EVALUATION images, and once more the
//!                                        exported file, which must give the same bits
//! ort_dump values MODEL DIR              runs a quantized model on DIR/inputs.npy, keeping every code
//! ```

use std::error::Error;
use std::fs;
use std::path::Path;

use lowbit::{
    Dataset, Float, Format, Images, Model, Notes, Preprocess, Quantizer, RangeRule, Recipe, Runner,
    Split, Subset,
};
use lowbit_graph::{Graph, Session, Workspace};
use lowbit_ptq::Samples;
use lowbit_tensor::{DType, Tensor};
use rayon::prelude::*;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["float", model, dir] => float(model.as_ref(), dir.as_ref()),
        ["values", model, dir] => values(model.as_ref(), dir.as_ref()),
        ["quantize", model, dir, data, preprocess, calibration, evaluation, rules @ ..] => {
            let preprocess = Preprocess::from_toml_file(preprocess)?;
            let (calibration, evaluation) = split(data, calibration.parse()?, evaluation.parse()?)?;
            let images = [calibration, evaluation].map(|subset| Images::new(subset, &preprocess));
            quantize(model.as_ref(), dir.as_ref(), (&images, recipe(rules)?, format(rules)?))
        }
        _ => {
            Err("usage: ort_dump float MODEL DIR | quantize MODEL DIR ... | values MODEL DIR"
                .into())
        }
    }
}

/// The first images of the train and test splits, or of two parts of a set without splits.
fn split(data: &str, calibration: usize, evaluation: usize) -> Result<(Subset, Subset)> {
    let data = Dataset::open(data)?;
    if data.splits().contains(&Split::Train) {
        let parts = (
            data.split(Split::Train)?.first(calibration),
            data.split(Split::Test)?.first(evaluation),
        );
        return Ok(parts);
    }
    let all = data.split(Split::All)?;
    let end = all.len().min(calibration + evaluation);
    Ok((all.range(0..calibration)?, all.range(calibration..end)?))
}

fn recipe(rules: &[&str]) -> Result<Recipe> {
    if let ["recipe", name, _] = rules {
        return Ok(Recipe::open(name)?.1);
    }
    let [activations, weights] = rules else {
        return Ok(Recipe { activations: RangeRule::parse("mse")?, ..Recipe::default() });
    };
    let (activations, weights) = (RangeRule::parse(activations)?, Quantizer::preset(weights)?);
    Ok(Recipe { activations, weights, ..Recipe::default() })
}

/// The form of the exported file.
fn format(rules: &[&str]) -> Result<Format> {
    match rules {
        ["recipe", _, "qdq-packed"] => Ok(Format::QdqPacked),
        ["recipe", _, "qdq"] | [] | [_, _] => Ok(Format::Qdq),
        _ => Err("expected RANGES WEIGHTS, or recipe NAME|FILE qdq|qdq-packed".into()),
    }
}

/// Outputs of a float model, canonical, on arrays that the other side made.
fn float(model: &Path, dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let Some(name) = name.strip_prefix("in_") else {
            continue;
        };
        let input = read_npy(&path)?;
        let shape = input.shape();
        let model = Model::load(model, Some([shape[1], shape[2], shape[3]]))?;
        let outputs = Session::new(&model.graph)?.run(&[input], &mut Workspace::parallel())?;
        write_npy(&dir.join(format!("out_{name}")), &outputs[0])?;
    }
    Ok(())
}

fn quantize(
    model: &Path,
    dir: &Path,
    (images, recipe, format): (&[Images; 2], Recipe, Format),
) -> Result<()> {
    let [calibration, evaluation] = images;
    let float = Float::load(model, Some(calibration.shape()?))?;
    let quantized =
        float.calibrate(calibration, &recipe, &|_| {})?.quantize(calibration, 0, &())?;
    let path = dir.join("quantized.onnx");
    fs::write(&path, quantized.to_bytes(format, &Notes::default())?)?;
    let inputs = (0..evaluation.len()).map(|i| evaluation.get(i)).collect::<Result<Vec<_>>>()?;
    write_npy(&dir.join("inputs.npy"), &stack(&inputs))?;
    let scores_of = |runner: Runner| -> Result<Tensor> {
        let rows: Result<Vec<_>> = inputs
            .par_iter()
            .map_init(Workspace::serial, |work, input| {
                let scores = runner.scores(input.clone(), work)?;
                Ok(Tensor::new([1, scores.len()], scores))
            })
            .collect();
        Ok(stack(&rows?))
    };
    let scores = |graph: &Graph| scores_of(Runner::new(graph, inputs[0].shape())?);
    write_npy(&dir.join("float.npy"), &scores(&quantized.float.model.graph)?)?;
    let integer = scores(&quantized.integer)?;
    write_npy(&dir.join("integer.npy"), &integer)?;
    let read = scores(&Model::load(&path, Some(calibration.shape()?))?.graph)?;
    let bits = |scores: &Tensor| scores.f32s().iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
    if bits(&read) != bits(&integer) {
        return Err("the exported file, read back, gives other scores".into());
    }
    if bits(&scores_of(Runner::oracle(&quantized.integer)?)?) != bits(&integer) {
        return Err("the compiled network gives other scores than the graph's own executor".into());
    }
    let labels: Vec<f32> = (0..evaluation.len()).map(|i| label(evaluation, i)).collect();
    write_npy(&dir.join("labels.npy"), &Tensor::vector(labels))?;
    let placements: Vec<String> = quantized
        .placements
        .iter()
        .map(|p| format!("{}\t{}\t{:?}", p.op, p.node, p.runs))
        .collect();
    Ok(fs::write(dir.join("placements.tsv"), placements.join("\n"))?)
}

/// The label as a float that holds every class index exactly; -1 where there is none.
#[expect(clippy::cast_precision_loss, reason = "classes are few")]
fn label(images: &Images, index: usize) -> f32 {
    images.label(index).map_or(-1.0, |label| label as f32)
}

/// Every uint8 value of the integer graph, one file each; `values.tsv` names them in the order they are made.
fn values(model: &Path, dir: &Path) -> Result<()> {
    let input = read_npy(&dir.join("inputs.npy"))?;
    let shape = input.shape();
    let model = Model::load(model, Some([shape[1], shape[2], shape[3]]))?;
    let session = Session::new(&model.graph)?;
    let mut made = vec![];
    let outputs = session.run_observed(
        std::slice::from_ref(&input),
        &mut Workspace::serial(),
        &mut |value, tensor| {
            made.push((model.graph.value_name(value).to_owned(), tensor.clone()));
        },
    )?;
    let producer: std::collections::HashMap<&str, &str> = model
        .graph
        .nodes
        .iter()
        .map(|n| (model.graph.value_name(n.output()), n.op.name()))
        .collect();
    let mut index = String::new();
    for (i, (name, tensor)) in made.iter().enumerate() {
        if tensor.dtype() == DType::U8 {
            write_npy(&dir.join(format!("value_{i}.npy")), tensor)?;
            let op = producer.get(name.as_str()).copied().unwrap_or("input");
            index.push_str(&format!("{i}\t{op}\t{name}\n"));
        }
    }
    fs::write(dir.join("values.tsv"), index)?;
    write_npy(&dir.join("integer.npy"), &outputs[0])
}

/// Batches of one, as one batch.
fn stack(parts: &[Tensor]) -> Tensor {
    let mut shape = parts[0].shape().to_vec();
    shape[0] = parts.len();
    let values: Vec<f32> = parts.iter().flat_map(|part| part.f32s().iter().copied()).collect();
    Tensor::new(shape, values)
}

/// NumPy's format 1.0, little endian, C order.
fn write_npy(path: &Path, tensor: &Tensor) -> Result<()> {
    let (descr, bytes): (&str, Vec<u8>) = match tensor.dtype() {
        DType::U8 => ("|u1", tensor.as_slice::<u8>()?.to_vec()),
        DType::F32 => ("<f4", tensor.f32s().iter().flat_map(|x| x.to_le_bytes()).collect()),
        other => return Err(format!("no .npy of {other}").into()),
    };
    let dims: String = tensor.shape().iter().map(|d| format!("{d},")).collect();
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims})}}");
    header.push_str(&" ".repeat(64 - (10 + header.len() + 1) % 64));
    header.push('\n');
    let length = u16::try_from(header.len())?.to_le_bytes();
    let file = [b"\x93NUMPY\x01\x00".as_slice(), &length, header.as_bytes(), &bytes].concat();
    Ok(fs::write(path, file)?)
}

/// A float32 array that [`write_npy`] or NumPy wrote.
fn read_npy(path: &Path) -> Result<Tensor> {
    let file = fs::read(path)?;
    let length = usize::from(u16::from_le_bytes([file[8], file[9]]));
    let (header, data) = file[10..].split_at(length);
    let header = std::str::from_utf8(header)?;
    if !header.contains("<f4") {
        return Err(format!("{}: not float32", path.display()).into());
    }
    let dims = header.split(['(', ')']).nth(1).ok_or("no shape")?;
    let dims: Vec<usize> = dims
        .split(',')
        .map(str::trim)
        .filter(|d| !d.is_empty())
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()?;
    let values: Vec<f32> =
        data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Ok(Tensor::new(dims, values))
}
