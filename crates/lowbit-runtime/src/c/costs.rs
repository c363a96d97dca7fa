//! What a network takes of a microcontroller: constants in flash, bytes of memory, multiplications.

use std::fmt::Write;

use super::exported::Exported;
use super::places::Places;
use super::unit::Unit;

/// What the steps take, and all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs {
    /// In the order in which they run.
    pub steps: Vec<StepCost>,
    /// Static memory: activations and, where weights are packed, those of one output.
    pub arena_bytes: usize,
    /// Codes of one image, which the caller holds.
    pub input_bytes: usize,
}

/// What one step takes.
#[derive(Clone, Debug, PartialEq)]
pub struct StepCost {
    /// The node it stems from.
    pub name: String,
    /// What it does.
    pub kind: &'static str,
    /// Of a weight, for convolutions.
    pub bits: Option<usize>,
    /// Weights as they are stored.
    pub weight_bytes: usize,
    /// All its constants, the weights among them.
    pub flash_bytes: usize,
    /// Of the arena, while it runs.
    pub live_bytes: usize,
    /// Multiplications for one image.
    pub macs: usize,
}

impl Costs {
    pub(super) fn new(exported: &Exported, places: &Places, unit: &Unit) -> Costs {
        let mut steps = unit.costs.clone();
        steps.iter_mut().zip(&places.live).for_each(|(step, &live)| step.live_bytes = live);
        Costs {
            steps,
            arena_bytes: places.bytes + unit.row_bytes,
            input_bytes: exported.value(exported.codes).len(),
        }
    }

    /// Bytes of all constants: weights, biases, factors, tables.
    #[must_use]
    pub fn flash_bytes(&self) -> usize {
        self.steps.iter().map(|step| step.flash_bytes).sum()
    }

    /// Multiplications for one image.
    #[must_use]
    pub fn macs(&self) -> usize {
        self.steps.iter().map(|step| step.macs).sum()
    }

    /// The lines of a table.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        let mut row = |cells: [&str; 6]| {
            let [kind, bits, flash, live, macs, name] = cells;
            let line = format!("{kind:<15} {bits:>4} {flash:>9} {live:>9} {macs:>12}  {name}");
            let _ = writeln!(text, " * {}", line.trim_end());
        };
        row(["step", "bits", "flash", "arena", "MACs", "node"]);
        for step in &self.steps {
            let numbers = [step.flash_bytes, step.live_bytes, step.macs].map(|n| n.to_string());
            let bits = step.bits.map_or(String::new(), |bits| bits.to_string());
            let name = super::text::comment(&step.name);
            row([step.kind, &bits, &numbers[0], &numbers[1], &numbers[2], &name]);
        }
        let sums = [self.flash_bytes(), self.arena_bytes, self.macs()].map(|n| n.to_string());
        row(["total", "", &sums[0], &sums[1], &sums[2], ""]);
        text
    }
}
