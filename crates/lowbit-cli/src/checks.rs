//! What goes wrong most often, said early and in plain words: other classes, wrong preprocessing.

use lowbit::{Accuracy, Model, Preprocess, Runner, Subset};
use lowbit_graph::Workspace;
use lowbit_ptq::Samples;

use crate::terminal::Terminal;

/// The number of scores that the model gives for the first image.
pub(crate) fn class_count(
    model: &Model,
    subset: &Subset,
    preprocess: &Preprocess,
) -> anyhow::Result<usize> {
    let images = lowbit::Images::new(subset.first(1), preprocess);
    let input = images.get(0).map_err(|error| anyhow::anyhow!(error))?;
    let scores = Runner::new(&model.graph)?.scores(input, &mut Workspace::serial())?;
    Ok(scores.len())
}

/// Warns of an accuracy so near to guessing that the images must reach the model in another form than it was trained on.
pub(crate) fn check_accuracy(
    terminal: &Terminal,
    accuracy: &Accuracy,
    classes: usize,
    preprocess: &Preprocess,
) {
    if !is_near_chance(accuracy, classes) {
        return;
    }
    let chance = 100.0 / classes as f64;
    terminal.warn(format_args!(
        "top-1 of {:.2} % is close to guessing ({chance:.2} % of {classes} classes): the preprocessing or the \
         labels are probably wrong, and then the numbers below mean nothing\n  \
         used: {preprocess}\n  \
         try:  --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 (torchvision), --scale 127.5 --mean 1 (to -1..1), \
         --scale 1 (raw pixels), --channels bgr\n  \
         and see that class numbers of data and model agree: lowbit data info PATH",
        accuracy.top1
    ));
}

/// Whether top-1 is below 3 times chance (for few classes: a quarter of the way from chance to 100 %), or its interval
/// holds chance.
fn is_near_chance(accuracy: &Accuracy, classes: usize) -> bool {
    let chance = 100.0 / classes as f64;
    let low = (3.0 * chance).min(chance + 0.25 * (100.0 - chance));
    let [from, to] = accuracy.ci95;
    accuracy.top1 < low || (from <= chance && chance <= to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessing_is_noticed() {
        let check = |hits: usize, n: usize, classes, expected| {
            let top1 = 100.0 * hits as f64 / n as f64;
            let accuracy = Accuracy {
                top1,
                top5: 100.0,
                ci95: lowbit::wilson(hits, n),
            };
            assert_eq!(
                is_near_chance(&accuracy, classes),
                expected,
                "{hits} of {n}, {classes}"
            );
        };
        check(10, 100, 10, true);
        check(29, 100, 10, true);
        check(85, 100, 10, false);
        check(55, 100, 2, true);
        check(90, 100, 2, false);
        check(1, 1000, 1000, true);
        check(700, 1000, 1000, false);
        check(1, 2, 2, true);
    }
}
