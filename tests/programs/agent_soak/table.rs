//! Formats the runs as a table with one row for each.

use crate::disturb::Met;
use crate::relay::Passed;
use crate::run::RunOutcome;

/// The columns' names.
const COLUMNS: [&str; 13] = [
    "seconds",
    "in call",
    "in result",
    "elsewhere",
    "configs",
    "recoveries",
    "unknown",
    "found done",
    "not done",
    "tool calls",
    "answered",
    "model calls",
    "WRONG",
];

/// Returns the header: the columns' names below the titles of their groups.
pub(crate) fn head() -> String {
    let names = COLUMNS.map(|name| format!("{name:>width$}", width = name.len()));
    let (struck, outcomes, calls) = ("disturbed", "outcomes", "calls made");
    format!(
        "{:14} {:>7}  {struck:-^38}  {:>10}  {outcomes:-^29}  {calls:-^33}\n{:14} {}",
        "",
        "",
        "",
        "run",
        names.join("  ")
    )
}

/// Returns the row of a run.
pub(crate) fn row(name: &str, outcome: &RunOutcome, wrong: &[String]) -> String {
    let transcript = &outcome.transcript;
    let met = |wanted: Met| outcome.met.iter().filter(|met| **met == wanted).count();
    let relayed = |wanted: Passed| {
        let lines = outcome.relayed.iter();
        lines.filter(|line| line.passed == wanted).count()
    };
    let numbers = [
        met(Met::Call),
        met(Met::Result),
        met(Met::NoCall),
        outcome.changes,
        transcript.recoveries,
        transcript.unknown,
        transcript.found_done(),
        transcript.repeated,
        relayed(Passed::Came),
        relayed(Passed::Answered),
        outcome.model_calls,
        wrong.len(),
    ];
    let seconds = format!("{:.1}", outcome.took.as_secs_f64());
    let cells = [seconds].into_iter().chain(numbers.map(|n| n.to_string()));
    let cells = COLUMNS
        .iter()
        .zip(cells)
        .map(|(column, cell)| format!("{cell:>width$}", width = column.len()));
    let cells: Vec<_> = cells.collect();
    format!("{name:14} {}", cells.join("  "))
}
