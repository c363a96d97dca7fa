//! One progress bar per stage, on stderr, with rate and time left; silent when nobody watches.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::terminal::Terminal;

const TEMPLATE: &str = "{prefix:>12} [{bar:30}] {pos}/{len} images, {rate}, {eta} left";

/// A stage under way. Dropping it removes the bar.
#[derive(Debug)]
pub(crate) struct Stage {
    bar: ProgressBar,
    start: Instant,
}

impl Stage {
    /// Starts the clock of stage `name` over `total` images.
    pub(crate) fn start(terminal: &Terminal, name: &'static str, total: usize) -> Stage {
        let target = if terminal.shows_progress() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template(TEMPLATE).expect("a template of known keys");
        let bar = ProgressBar::with_draw_target(Some(total as u64), target)
            .with_style(style.with_key("rate", write_rate).progress_chars("=> "))
            .with_prefix(name);
        bar.tick();
        Stage { bar, start: Instant::now() }
    }

    /// Counts images; from any thread.
    pub(crate) fn advance(&self, images: usize) {
        self.bar.inc(images as u64);
    }

    /// Sets how many images there are in all.
    pub(crate) fn lengthen(&self, total: usize) {
        self.bar.set_length(total as u64);
    }

    /// Ends the stage and says how long it took.
    pub(crate) fn finish(self) -> Duration {
        self.start.elapsed()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Images per second to three digits.
fn write_rate(state: &ProgressState, out: &mut dyn std::fmt::Write) {
    let rate = state.per_sec();
    let decimals = if rate < 10.0 { 2 } else { usize::from(rate < 100.0) };
    // Nothing can be done about a line that cannot be formatted.
    let _ = write!(out, "{rate:.decimals$}/s");
}
