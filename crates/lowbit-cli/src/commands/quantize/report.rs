//! What `lowbit quantize` shows a person.

use std::path::Path;

use lowbit::{Accuracy, LayerResult, Results};
use lowbit_graph::passes::Runs;

use super::Found;
use crate::table::{Align, bar, count, prefixed, render};
use crate::terminal::{Style, Terminal};

/// Layers shown.
const WORST: usize = 5;

/// Reasons for float nodes shown.
const REASONS: usize = 8;

/// The whole report.
pub(crate) fn text(terminal: &Terminal, found: &Found, target: &Path) -> String {
    let results = &found.results;
    let target = target.display().to_string();
    format!(
        "{}\n{}{}{}{}\n  wrote {}\n",
        accuracy_table(terminal, results),
        comparison(terminal, results),
        worst_layers(terminal, &results.layers),
        float_nodes(terminal, found),
        times(results),
        terminal.paint(Style::Bold, &target),
    )
}

fn accuracy_table(terminal: &Terminal, results: &Results) -> String {
    let head = [
        (results.model.as_str(), Align::Left),
        ("top-1", Align::Right),
        ("95 % interval", Align::Right),
        ("top-5", Align::Right),
        ("size", Align::Right),
        ("", Align::Left),
    ];
    let sizes = results.size_bytes;
    let ratio = sizes.float as f64 / sizes.quantized.max(1) as f64;
    let rows = [
        row(terminal, ("float", ""), results.float.as_ref(), sizes.float),
        row(
            terminal,
            (&results.recipe, &format!("{ratio:.2}x smaller")),
            results.quantized.as_ref(),
            sizes.quantized,
        ),
    ];
    let keep = |column: usize| results.float.is_some() || !(1..=3).contains(&column);
    let head: Vec<(&str, Align)> = (0..head.len()).filter(|&i| keep(i)).map(|i| head[i]).collect();
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| (0..row.len()).filter(|&i| keep(i)).map(|i| row[i].clone()).collect())
        .collect();
    render(&head, &rows)
}

fn row(
    terminal: &Terminal,
    (name, remark): (&str, &str),
    accuracy: Option<&Accuracy>,
    size: u64,
) -> Vec<String> {
    let shown = |value: Option<f64>| value.map(|v| format!("{v:.2} %")).unwrap_or_default();
    let interval = accuracy.map(|a| format!("{:.2} to {:.2}", a.ci95[0], a.ci95[1]));
    vec![
        name.to_owned(),
        terminal.paint(Style::Bold, &shown(accuracy.map(|a| a.top1))),
        interval.unwrap_or_default(),
        shown(accuracy.map(|a| a.top5)),
        prefixed(size, "B"),
        remark.to_owned(),
    ]
}

/// The drop and the agreement, in words.
fn comparison(terminal: &Terminal, results: &Results) -> String {
    let Some(agreement) = results.agreement else {
        return "  not evaluated\n".to_owned();
    };
    let images = count(results.images as u64);
    let agreement = format!("same class from both for {agreement:.2} % of images");
    let Some(drop) = &results.drop else {
        return format!("  {agreement} ({images}, without labels)\n");
    };
    let significant = drop.ci95[0] > 0.0;
    let style = if significant { Style::Yellow } else { Style::Green };
    let points = terminal.paint(style, &format!("{:+.2} points", 0.0 - drop.top1));
    format!(
        "  top-1 changes by {points}, 95 % interval {:+.2} to {:+.2}, paired on {images} images{}\n  {agreement}\n",
        0.0 - drop.ci95[1],
        0.0 - drop.ci95[0],
        if significant { "" } else { " (not significant)" },
    )
}

fn worst_layers(terminal: &Terminal, layers: &[LayerResult]) -> String {
    let mut known: Vec<(&LayerResult, f64)> =
        layers.iter().filter_map(|layer| Some((layer, layer.sqnr_db?))).collect();
    if known.is_empty() {
        return String::new();
    }
    let total = known.len();
    known.sort_by(|a, b| a.1.total_cmp(&b.1));
    known.truncate(WORST);
    let rows: Vec<Vec<String>> = known
        .iter()
        .map(|(layer, sqnr)| {
            vec![
                layer.name.clone(),
                layer.op.clone(),
                format!("{sqnr:.1} dB"),
                terminal.paint(style_of(*sqnr), &sqnr_bar(*sqnr)),
            ]
        })
        .collect();
    let columns = [("", Align::Left), ("", Align::Left), ("", Align::Right), ("", Align::Left)];
    let shown =
        if total > WORST { format!(", the lowest {WORST} of {total}") } else { String::new() };
    format!(
        "\n  signal to quantization noise{shown} (higher is better)\n{}",
        render(&columns, &rows)
    )
}

/// A layer below 10 dB carries noise of more than 30 % of its signal's amplitude; above 20 dB, less than 10 %.
fn style_of(sqnr_db: f64) -> Style {
    match sqnr_db {
        db if db < 10.0 => Style::Red,
        db if db < 20.0 => Style::Yellow,
        _ => Style::Green,
    }
}

fn sqnr_bar(sqnr_db: f64) -> String {
    const FULL_DB: f64 = 50.0;
    const WIDTH: usize = 20;
    bar(sqnr_db / FULL_DB, WIDTH)
}

/// What runs in float, grouped by operator and reason.
fn float_nodes(terminal: &Terminal, found: &Found) -> String {
    let placements = &found.quantized.placements;
    let mut groups: Vec<((&str, &str), Vec<&str>)> = vec![];
    for placement in placements {
        let Runs::Float(reason) = &placement.runs else {
            continue;
        };
        let key = (placement.op, reason.as_str());
        match groups.iter_mut().find(|(other, _)| *other == key) {
            Some((_, nodes)) => nodes.push(&placement.node),
            None => groups.push((key, vec![&placement.node])),
        }
    }
    let total = placements.len();
    if groups.is_empty() {
        let text = format!("all {total} nodes run as integers");
        return format!("\n  {}\n", terminal.paint(Style::Green, &text));
    }
    let nodes: usize = groups.iter().map(|(_, nodes)| nodes.len()).sum();
    let mut text = format!("\n  {nodes} of {total} nodes stay float\n");
    for ((op, reason), nodes) in groups.iter().take(REASONS) {
        let name = match nodes.as_slice() {
            [node] => format!("\"{node}\""),
            [first, ..] => format!("\"{first}\" and {} more", nodes.len() - 1),
            [] => String::new(),
        };
        text += &format!("  - {op} {name}: {reason}\n");
    }
    if groups.len() > REASONS {
        text += "  - …; `lowbit inspect` shows all\n";
    }
    text
}

fn times(results: &Results) -> String {
    let seconds = &results.seconds;
    let evaluate = if results.images == 0 {
        String::new()
    } else {
        let images = count(results.images as u64);
        format!(", evaluate {:.1} s ({images} images, both models)", seconds.evaluate)
    };
    format!(
        "\n  calibrate {:.1} s ({} images), quantize {:.1} s{evaluate}",
        seconds.calibrate,
        count(results.calibration_images as u64),
        seconds.quantize,
    )
}
