//! Reports progress: on a terminal a line that changes, elsewhere a line every few seconds.

use std::convert::Infallible;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, interval};

use crate::cli::out::hint;
use crate::cli::text::grouped;
use crate::loadgen::LoadProbe;

const TICK: Duration = Duration::from_millis(250);
/// The interval of lines if there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The progress line on standard error.
pub(super) struct BenchProgress(ProgressBar);

impl BenchProgress {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Begins a phase with a known number of steps, or without one.
    pub(super) fn begin(&self, what: &str, steps: Option<usize>) {
        let template = match steps {
            Some(_) => "{spinner} {msg} {pos}/{len}",
            None => "{spinner} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style);
        }
        self.0.set_position(0);
        self.0.set_length(steps.unwrap_or_default() as u64);
        self.0.set_message(what.to_owned());
        if self.0.is_hidden() {
            hint(match steps {
                Some(steps) => format!("{what}: {}", grouped(steps as u64)),
                None => what.to_owned(),
            });
        }
    }

    /// Counts one step as done.
    pub(super) fn step(&self) {
        self.0.inc(1);
    }

    /// Reports the load's rate and faults until it is dropped.
    pub(super) async fn follow(&self, watch: &LoadProbe, wait: bool) -> Infallible {
        let every = if self.0.is_hidden() { LINE_EVERY } else { TICK };
        let mut ticks = interval(every);
        ticks.tick().await;
        let began = Instant::now();
        let (mut before, mut at) = (0, began);
        loop {
            ticks.tick().await;
            let counts = watch.counts();
            let done = if wait {
                counts.completed
            } else {
                counts.acknowledged
            };
            let rate = (done - before) as f64 / at.elapsed().as_secs_f64();
            (before, at) = (done, Instant::now());
            let mut line = format!(
                "{} s: {} turns/s",
                began.elapsed().as_secs(),
                grouped(rate as u64)
            );
            for (name, count) in [
                ("refused", counts.refused),
                ("reset", counts.reset),
                ("throttled", counts.throttled),
                ("errors", counts.errors),
                ("lost", counts.lost),
                ("doubled", counts.doubled),
                ("wrong", counts.wrong),
            ] {
                if count > 0 {
                    line.push_str(&format!(", {} {name}", grouped(count)));
                }
            }
            if self.0.is_hidden() {
                hint(&line);
            }
            self.0.set_message(line);
        }
    }

    /// Removes the line from the terminal.
    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
