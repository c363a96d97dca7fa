//! Draws the pictures of docs/: levels of quantizers over the histogram of a layer's weights.
//!
//! `cargo run --release -p lowbit --example grid_pictures -- MODEL.onnx LAYER docs/pictures`

use std::fmt::Write as _;
use std::path::Path;

use lowbit::{Model, Quantizer};
use lowbit_quant::Granularity;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A picture and the quantizer it shows.
const PICTURES: &[(&str, &str)] = &[
    ("uniform", "int4-mse"),
    ("binary", "bwn"),
    ("ternary", "ternary-optimal"),
    ("power-of-two", "pot-4"),
    ("additive-power-of-two", "apot-4"),
    ("basis", "lq-nets-3"),
    ("codebook", "kmeans-16"),
    ("minifloat", "fp4-e2m1"),
    ("companded", "companded-4"),
];

const WIDTH: f32 = 640.0;
const HEIGHT: f32 = 160.0;
const BINS: usize = 128;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, layer, folder] = &args[..] else {
        return Err("usage: see the head of this example".into());
    };
    let model = Model::load(model, None)?;
    let node = model.graph.nodes.iter().find(|node| node.name == *layer);
    let weight = node.and_then(|node| model.graph.constant_input(node, 1));
    let weight = weight.ok_or_else(|| format!("no layer \"{layer}\" with weights"))?;
    for (name, quantizer) in PICTURES {
        // One scale for all, so that one picture shows it.
        let quantizer =
            Quantizer { granularity: Granularity::Tensor, ..Quantizer::preset(quantizer)? };
        let picture = draw(weight.f32s(), weight.shape(), &quantizer)?;
        std::fs::write(Path::new(folder).join(format!("{name}.svg")), picture)?;
    }
    Ok(())
}

/// The histogram of w / s, and a line for each level that is used.
fn draw(weight: &[f32], shape: &[usize], quantizer: &Quantizer) -> Result<String> {
    let coded = quantizer.fit(weight, shape, None, 0)?;
    let scale = |e: usize| coded.scales()[coded.group_of(e)];
    let scaled: Vec<f32> = weight.iter().enumerate().map(|(e, w)| w / scale(e)).collect();
    let limit = scaled.iter().fold(0.0f32, |m, x| m.max(x.abs())) * 1.02;
    let mut bins = [0usize; BINS];
    for x in &scaled {
        bins[(((x + limit) / (2.0 * limit)) * BINS as f32).clamp(0.0, BINS as f32 - 1.0)
            as usize] += 1;
    }
    let most = bins.iter().copied().max().unwrap_or(1).max(1) as f32;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n<path fill=\"#9db8d9\" d=\"M0 {HEIGHT}"
    );
    let step = WIDTH / BINS as f32;
    for (i, &count) in bins.iter().enumerate() {
        let (x, y) = (i as f32 * step, HEIGHT - count as f32 / most * (HEIGHT - 20.0));
        write!(svg, "L{x:.0} {y:.1}L{:.0} {y:.1}", x + step)?;
    }
    writeln!(svg, "L{WIDTH} {HEIGHT}Z\"/>")?;
    let decoded = coded.decode();
    let mut levels: Vec<f32> = decoded.iter().enumerate().map(|(e, w)| w / scale(e)).collect();
    levels.sort_by(f32::total_cmp);
    levels.dedup_by(|a, b| (*a - *b).abs() < limit * 1e-4);
    for level in &levels {
        let x = (level + limit) / (2.0 * limit) * WIDTH;
        writeln!(svg, "<path stroke=\"#c03020\" d=\"M{x:.1} 18V{HEIGHT}\"/>")?;
    }
    let power: f64 = weight.iter().map(|w| f64::from(w * w)).sum();
    let noise: f64 = weight.iter().zip(&decoded).map(|(w, q)| f64::from((w - q) * (w - q))).sum();
    let (bits, db) = (coded.bits(), 10.0 * (power / noise).log10());
    let grid = quantizer.grid.name();
    writeln!(
        svg,
        "<text x=\"6\" y=\"13\" font-size=\"12\">{grid}, {bits} bits, {} levels, {db:.1} dB</text>\n</svg>",
        levels.len()
    )?;
    Ok(svg)
}
