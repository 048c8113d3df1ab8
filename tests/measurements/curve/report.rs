//! Reports the rounds' results: as a table, against the targets, and as a plot.

use std::path::Path;
use std::time::Duration;

use super::rounds::{Kill, Restart};
use crate::plot::{self, Plot, Scale, Series};
use crate::told::{chapter, line, median};

/// Target: the longest that a client may wait in a planned restart.
const PAUSE_MS: f64 = 100.0;
/// Target: how much longer a start after a kill may take than a bare opening of the store.
const BEYOND_BARE_MS: f64 = 30.0;
/// Target: how much later than the first answer the hundredth session may be answered.
const HUNDRED_MS: f64 = 100.0;
/// Target: the ratio of a figure with the largest store to the same figure with the smallest.
const SPREAD: f64 = 1.2;

/// The results of all rounds with one number of stored sessions.
pub(crate) struct Point {
    sessions: usize,
    active: usize,
    pub(crate) restarts: Vec<Restart>,
    pub(crate) kills: Vec<Kill>,
}

/// One curve of the plot: a median that is computed for each point.
struct CurveFigure {
    name: &'static str,
    rival: bool,
    of: fn(&Point) -> f64,
}

const FIGURES: &[CurveFigure] = &[
    CurveFigure {
        name: "planned restart: longest wait",
        rival: false,
        of: |point| point.restart(|restart| restart.pause),
    },
    CurveFigure {
        name: "kill -9: to the first answered turn",
        rival: false,
        of: |point| point.kill(|kill| kill.first),
    },
    CurveFigure {
        name: "kill -9: to 100 sessions answered",
        rival: false,
        of: |point| point.kill(|kill| kill.first + kill.hundred),
    },
    CurveFigure {
        name: "RocksDB alone: opening that store",
        rival: true,
        of: |point| point.kill(|kill| kill.bare),
    },
];

impl Point {
    pub(crate) fn new(sessions: usize, active: usize) -> Self {
        Self {
            sessions,
            active,
            restarts: Vec::new(),
            kills: Vec::new(),
        }
    }

    fn restart(&self, of: fn(&Restart) -> Duration) -> f64 {
        median_ms(self.restarts.iter().map(of))
    }

    fn kill(&self, of: fn(&Kill) -> Duration) -> f64 {
        median_ms(self.kills.iter().map(of))
    }
}

fn median_ms(times: impl Iterator<Item = Duration>) -> f64 {
    median(times.map(|time| time.as_secs_f64() * 1e3).collect())
}

/// Prints the medians, and whether each target was met.
pub(crate) fn print(points: &[Point]) {
    chapter("medians, in ms");
    println!(
        "  {:>9} {:>7} {:>8} {:>6} {:>8} {:>8} {:>8} {:>11} {:>8}",
        "sessions", "active", "restart", "usual", "first", "bare", "beyond", "100 sess.", "failed"
    );
    for point in points {
        let beyond = median(point.kills.iter().map(Kill::beyond_bare_ms).collect());
        let troubles: usize = point.restarts.iter().map(|restart| restart.troubles).sum();
        println!(
            "  {:>9} {:>7} {:>8.1} {:>6.1} {:>8.1} {:>8.1} {beyond:>8.1} {:>11.1} {troubles:>8}",
            point.sessions,
            point.active,
            point.restart(|restart| restart.pause),
            point.restart(|restart| restart.usual),
            point.kill(|kill| kill.first),
            point.kill(|kill| kill.bare),
            point.kill(|kill| kill.hundred),
        );
    }
    chapter("targets");
    let worst = |of: &dyn Fn(&Point) -> f64| points.iter().map(of).fold(0.0, f64::max);
    let judge = |what: &str, found: f64, most: f64, unit: &str| {
        let verdict = if found <= most { "met" } else { "MISSED" };
        line(what, format!("{found:.2}{unit} of {most}{unit}: {verdict}"));
    };
    let pause = worst(&|point| point.restart(|restart| restart.pause));
    judge(
        "a client's longest wait in a restart",
        pause,
        PAUSE_MS,
        " ms",
    );
    let beyond = worst(&|point| median(point.kills.iter().map(Kill::beyond_bare_ms).collect()));
    judge(
        "a kill, beyond a bare opening",
        beyond,
        BEYOND_BARE_MS,
        " ms",
    );
    let hundred = worst(&|point| point.kill(|kill| kill.hundred));
    judge("from there to 100 sessions", hundred, HUNDRED_MS, " ms");
    if let ([first, .., last], [restart, kill, ..]) = (points, FIGURES) {
        for figure in [restart, kill] {
            let ratio = (figure.of)(last) / (figure.of)(first);
            let what = format!("{}, {} to {}", figure.name, first.sessions, last.sessions);
            judge(&what, ratio, SPREAD, "x");
        }
    }
}

impl Kill {
    fn beyond_bare_ms(&self) -> f64 {
        (self.first.as_secs_f64() - self.bare.as_secs_f64()) * 1e3
    }
}

/// Draws the curves into `restarts.svg` in a directory.
pub(crate) fn draw(points: &[Point], folder: &Path) -> anyhow::Result<()> {
    let series = FIGURES.iter().map(|figure| Series {
        name: figure.name.to_owned(),
        rival: figure.rival,
        values: points.iter().map(figure.of).collect(),
    });
    let active = points.iter().map(|point| point.active).max().unwrap_or(0);
    let plot = Plot {
        title: "What clients wait for, over the number of stored sessions".to_owned(),
        across: format!("stored sessions, of which {active} are active"),
        places: points
            .iter()
            .map(|point| plot::count(point.sessions))
            .collect(),
        up: "milliseconds".to_owned(),
        scale: Scale::Linear,
        series: series.collect(),
    };
    plot.write(folder, "restarts")
}
