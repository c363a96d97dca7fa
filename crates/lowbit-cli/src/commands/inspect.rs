//! `lowbit inspect`: what a model consists of, and what of it runs as integers where.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use lowbit::{Inspection, Model, NodeReport, Target};

use crate::args::{Destination, Dims, Usage, parse_shape};
use crate::output;
use crate::table::{Align, count, prefixed, render};
use crate::terminal::{Style, Terminal};

/// The arguments of `lowbit inspect`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InspectArgs {
    /// The model, float or quantized, by lowbit or by another tool
    model: PathBuf,
    /// Where it would run
    #[arg(long, value_enum, default_value = "lowbit")]
    target: TargetName,
    /// The size of one image in the model's order of dimensions, where the file leaves it open: 3x224x224
    #[arg(long, value_name = "CxHxW", value_parser = parse_shape)]
    input: Option<Dims>,
    /// Write all of it as JSON; - for stdout
    #[arg(long, value_name = "FILE", value_parser = |text: &str| Ok::<_, String>(Destination::from(text)))]
    json: Option<Destination>,
}

const EXAMPLES: &str = "\
Examples:
  lowbit inspect net.onnx
  lowbit inspect net.int8.onnx --target ort      what onnxruntime would fuse into integer kernels, what not, why, the fix
  lowbit inspect net.onnx --input 3x224x224      where the file leaves height and width open";

/// The names of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TargetName {
    /// lowbit itself
    Lowbit,
    /// onnxruntime's CPU provider
    Ort,
}

/// Prints the inspection.
pub(crate) fn run(args: &InspectArgs) -> anyhow::Result<()> {
    if let Some(path) = args.json.as_ref().and_then(Destination::file) {
        output::check(path)?;
    }
    let terminal = Terminal::for_results(args.json.as_ref());
    let shape = args.input.map(|dims| dims.0);
    let model = Model::load(&args.model, shape).map_err(|error| match error {
        lowbit::Error::NotAClassifier { what: "input shape", found, .. } => {
            anyhow::Error::new(Usage(format!(
                "{} has {found}: say the size of an image with --input, as in --input 3x224x224",
                args.model.display()
            )))
        }
        error => error.into(),
    })?;
    let target = match args.target {
        TargetName::Lowbit => Target::Lowbit,
        TargetName::Ort => Target::Ort,
    };
    let inspection = lowbit::inspect(&model, target)?;
    terminal.print(&report(&terminal, args, &inspection));
    args.json.as_ref().map_or(Ok(()), |to| output::write_json(to, &inspection))
}

fn report(terminal: &Terminal, args: &InspectArgs, inspection: &Inspection) -> String {
    let kind = if inspection.quantized { "quantized" } else { "float" };
    let mut text = format!(
        "{} ({kind}, {}): {} in, {} out\n\n",
        terminal.paint(Style::Bold, &args.model.display().to_string()),
        prefixed(inspection.size_bytes, "B"),
        dims(&inspection.input),
        dims(&inspection.output),
    );
    let head = [
        ("node", Align::Left),
        ("operator", Align::Left),
        ("result", Align::Left),
        ("parameters", Align::Right),
        ("MACs", Align::Right),
        ("weights", Align::Right),
        ("runs as", Align::Left),
    ];
    let rows: Vec<Vec<String>> =
        inspection.nodes.iter().map(|node| node_row(terminal, node)).collect();
    text += &render(&head, &rows);
    text += &format!(
        "\n  {} parameters, {} multiply-accumulates per image\n",
        count(inspection.parameters),
        prefixed(inspection.macs, ""),
    );
    if inspection.quantized {
        text += &fallbacks(terminal, args.target, inspection);
    }
    text
}

fn node_row(terminal: &Terminal, node: &NodeReport) -> Vec<String> {
    let number = |n: u64| if n == 0 { String::new() } else { count(n) };
    let style = if node.integer { Style::Green } else { Style::Dim };
    vec![
        node.name.clone(),
        node.op.clone(),
        dims(&node.shape),
        number(node.parameters),
        if node.macs == 0 { String::new() } else { prefixed(node.macs, "") },
        node.bits_w.map(|bits| format!("{bits} bits")).unwrap_or_default(),
        terminal.paint(style, &node.runs_as),
    ]
}

/// What of a quantized model runs in float, why, and what to do.
fn fallbacks(terminal: &Terminal, target: TargetName, inspection: &Inspection) -> String {
    let place = match target {
        TargetName::Lowbit => "lowbit",
        TargetName::Ort => "onnxruntime",
    };
    let float: Vec<&NodeReport> = inspection.nodes.iter().filter(|node| !node.integer).collect();
    let total = inspection.nodes.len();
    if float.is_empty() {
        let text = format!("all {total} nodes run as integers in {place}");
        return format!("\n  {}\n", terminal.paint(Style::Green, &text));
    }
    let mut text = format!("\n  {} of {total} nodes run in float in {place}:\n", float.len());
    for group in alike(&float) {
        let node = group[0];
        let more = match group.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        let reason = node.reason.as_deref().unwrap_or("no integer form");
        text += &format!("  - {} \"{}\"{more}: {reason}\n", node.op, node.name);
        if let Some(fix) = &node.fix {
            text += &format!("    {} {fix}\n", terminal.paint(Style::Green, "fix:"));
        }
    }
    text
}

/// Groups nodes of one operator that are float for one reason, in order of their first.
fn alike<'a>(nodes: &[&'a NodeReport]) -> Vec<Vec<&'a NodeReport>> {
    let mut groups: Vec<Vec<&NodeReport>> = vec![];
    for &node in nodes {
        let like = |group: &&mut Vec<&NodeReport>| {
            (&group[0].op, &group[0].reason) == (&node.op, &node.reason)
        };
        match groups.iter_mut().find(like) {
            Some(group) => group.push(node),
            None => groups.push(vec![node]),
        }
    }
    groups
}

fn dims(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}
