//! What goes wrong most often, said early and in plain words: images that reach the model in another form than it was
//! trained on.

use lowbit::{Accuracy, Channels, Images, Model, Preprocess, Runner, Subset};

use crate::open::Opened;
use crate::terminal::Terminal;

/// Images that other preprocessings are tried on.
const TRIED_IMAGES: usize = 100;

/// How many points of top-1 on them another preprocessing must win to be mentioned.
const GAIN_MIN: f64 = 10.0;

/// Warns of a float accuracy so near to guessing that the preprocessing is probably wrong; then, and where nobody said how
/// to preprocess, tries what is usual and names what does better.
pub(crate) fn check_accuracy(
    terminal: &Terminal,
    accuracy: &Accuracy,
    opened: &Opened,
    subset: &Subset,
) -> anyhow::Result<()> {
    let near_chance = is_near_chance(accuracy, opened.classes);
    if near_chance {
        let (classes, chance) = (opened.classes, 100.0 / opened.classes as f64);
        terminal.warn(format_args!(
            "top-1 of {:.2} % is close to guessing ({chance:.2} % with {classes} classes): the preprocessing or the \
             labels are probably wrong, and then these numbers mean nothing\n  preprocessing used: {}",
            accuracy.top1, opened.preprocess
        ));
    }
    if terminal.is_quiet() || !(near_chance || opened.assumed) {
        return Ok(());
    }
    match better_flags(&opened.model, subset, &opened.preprocess)? {
        Some((flags, from, to)) => terminal.warn(format_args!(
            "with `{flags}` top-1 is {to:.0} % instead of {from:.0} % (on {} images)",
            TRIED_IMAGES.min(subset.len())
        )),
        None if near_chance => terminal.warn(
            "the usual values do no better: check --resize and --crop, and that data and model number classes \
             alike (lowbit data info PATH)",
        ),
        None => {}
    }
    Ok(())
}

/// Flags, scale, mean and standard deviation of a preprocessing in common use.
type Usual = (&'static str, f32, &'static [f32], &'static [f32]);

/// In the order they are tried: torchvision's, Keras' (-1 to 1), EfficientNet-Lite's, raw pixels, 0 to 1.
const USUAL: [Usual; 5] = [
    (
        "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225",
        255.0,
        &[0.485, 0.456, 0.406],
        &[0.229, 0.224, 0.225],
    ),
    ("--scale 127.5 --mean 1", 127.5, &[1.0], &[1.0]),
    ("--scale 1 --mean 127 --std 128", 1.0, &[127.0], &[128.0]),
    ("--scale 1", 1.0, &[0.0], &[1.0]),
    ("--scale 255", 255.0, &[0.0], &[1.0]),
];

/// The usual flags of highest top-1 on a few images, if they beat `used` clearly: flags, top-1 with `used`, top-1 with
/// them.
fn better_flags(
    model: &Model,
    subset: &Subset,
    used: &Preprocess,
) -> anyhow::Result<Option<(String, f64, f64)>> {
    let runner = Runner::new(&model.graph, &model.input_shape)?;
    let subset = subset.spread(TRIED_IMAGES);
    let top1 = |preprocess: &Preprocess| -> anyhow::Result<f64> {
        let images = Images::new(subset.clone(), preprocess);
        let outcomes = lowbit::evaluate(&[&runner], &images, &|_| {})?;
        Ok(Accuracy::of(&outcomes[0]).map_or(0.0, |accuracy| accuracy.top1))
    };
    let now = top1(used)?;
    let mut best: Option<(String, f64)> = None;
    for (flags, tried) in candidates(used) {
        let found = top1(&tried)?;
        if best.as_ref().is_none_or(|(_, top1)| found > *top1) {
            best = Some((flags, found));
        }
    }
    Ok(best.filter(|(_, top1)| *top1 >= now + GAIN_MIN).map(|(flags, top1)| (flags, now, top1)))
}

/// The usual preprocessings of the same sizes as `used`, red first and blue first.
fn candidates(used: &Preprocess) -> Vec<(String, Preprocess)> {
    let orders: &[(Channels, &str)] = match used.channels {
        Channels::Gray => &[(Channels::Gray, "")],
        Channels::Rgb | Channels::Bgr => &[(Channels::Rgb, ""), (Channels::Bgr, " --channels bgr")],
    };
    let fitting = USUAL.iter().filter(|(_, _, mean, _)| mean.len() <= used.channels.count());
    let all = fitting.flat_map(|&(flags, scale, mean, std)| {
        orders.iter().map(move |&(channels, more)| {
            let (mean, std) = (mean.to_vec(), std.to_vec());
            (format!("{flags}{more}"), Preprocess { scale, mean, std, channels, ..used.clone() })
        })
    });
    all.filter(|(_, tried)| tried != used).collect()
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
            let accuracy = Accuracy { top1, top5: 100.0, ci95: lowbit::wilson(hits, n) };
            assert_eq!(is_near_chance(&accuracy, classes), expected, "{hits} of {n}, {classes}");
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
