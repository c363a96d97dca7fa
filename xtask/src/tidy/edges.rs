//! Which of our crates may depend on which.

use super::{File, Violation};

/// Each crate and those of ours that it may use, in flow order.
pub(super) const EDGES: &[(&str, &[&str])] = &[
    ("lowbit-tensor", &[]),
    ("lowbit-quant", &["lowbit-tensor"]),
    ("lowbit-kernels", &[]),
    ("lowbit-graph", &["lowbit-kernels", "lowbit-tensor"]),
    ("lowbit-onnx", &["lowbit-graph", "lowbit-tensor"]),
    ("lowbit-data", &[]),
    ("lowbit-ptq", &["lowbit-graph", "lowbit-quant", "lowbit-tensor"]),
    ("lowbit-runtime", &["lowbit-graph", "lowbit-kernels", "lowbit-onnx", "lowbit-tensor"]),
    (
        "lowbit",
        &[
            "lowbit-data",
            "lowbit-graph",
            "lowbit-kernels",
            "lowbit-onnx",
            "lowbit-ptq",
            "lowbit-quant",
            "lowbit-runtime",
            "lowbit-tensor",
        ],
    ),
    ("lowbit-cli", &["lowbit", "lowbit-graph", "lowbit-ptq", "lowbit-tensor"]),
    ("xtask", &[]),
];

const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

pub(super) fn check(files: &[File]) -> Vec<Violation> {
    let ours = |file: &&File| {
        let parts: Vec<&str> = file.path.split('/').collect();
        matches!(parts[..], ["crates", _, "Cargo.toml"] | ["xtask", "Cargo.toml"])
    };
    files.iter().filter(ours).flat_map(of_manifest).collect()
}

fn of_manifest(file: &File) -> Vec<Violation> {
    let text = file.text.as_deref().unwrap_or_default();
    let manifest: toml::Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![file.violation(1, format!("not a manifest: {error}"))],
    };
    let package = manifest.get("package").and_then(|p| p.get("name")?.as_str());
    let name = package.unwrap_or_default();
    let Some((_, allowed)) = EDGES.iter().find(|(crate_name, _)| *crate_name == name) else {
        return vec![file.violation(1, format!("\"{name}\" has no row in the edge table of tidy"))];
    };
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let groups =
        targets.into_iter().flat_map(toml::Table::values).filter_map(toml::Value::as_table);
    let dependencies = std::iter::once(&manifest)
        .chain(groups)
        .flat_map(|table| TABLES.iter().filter_map(|key| table.get(*key)?.as_table()))
        .flat_map(toml::Table::keys);
    dependencies
        .filter(|used| {
            EDGES.iter().any(|(own, _)| own == used) && !allowed.contains(&used.as_str())
        })
        .map(|used| {
            let line = file.lines().find(|(_, line)| line.starts_with(used.as_str()));
            let why = format!("{name} may not depend on {used}: the edge table of tidy");
            file.violation(line.map_or(1, |(line, _)| line), why)
        })
        .collect()
}
