//! What came of it all, for humans.

use std::fmt::Write as _;

use super::outcome::{Outcome, Pause};
use super::place::APPENDED_BYTES;
use crate::cli::out::{Out, Tone};
use crate::cli::text::{Cell, brief, table};

/// The longest example.
const EXAMPLE_CHARS: usize = 300;

/// The report.
pub(super) fn show(out: &Out, outcome: &Outcome) -> String {
    let mut rows: Vec<Vec<Cell>> = vec![
        row(
            "acknowledged",
            rate(outcome.acknowledged, outcome.acknowledged_per_s),
        ),
        row(
            "completed",
            rate(outcome.completed, outcome.completed_per_s),
        ),
        row("latency", latency(outcome)),
    ];
    if let Some(sync) = outcome.sync_ms {
        let text = format!(
            "{} to append {APPENDED_BYTES} bytes and sync them (median)",
            ms(sync)
        );
        rows.push(row("disk", text));
    }
    for (number, seen) in (1..).zip(&outcome.disturbances) {
        rows.push(row(format!("{} {number}", seen.what), pause(seen)));
    }
    rows.push(row("longest pause", ms(outcome.longest_pause_ms)));
    rows.push(vec!["faults".into(), faults(outcome)]);
    rows.push(vec!["logs".into(), logs(outcome)]);
    let mut text = heading(outcome);
    text.push_str(&table(out, 2, &[], &rows));
    for example in &outcome.examples {
        let example = out.paint(Tone::Dim, &brief(example, EXAMPLE_CHARS));
        let _ = writeln!(text, "  {example}");
    }
    text
}

fn row(name: impl Into<String>, text: impl Into<String>) -> Vec<Cell> {
    vec![Cell::from(name), Cell::from(text)]
}

fn heading(outcome: &Outcome) -> String {
    let how = match (outcome.wait, outcome.keys) {
        (true, true) => ", with keys",
        (true, false) => "",
        (false, true) => ", not waiting for turns, with keys",
        (false, false) => ", not waiting for turns",
    };
    format!(
        "{} over {} of {}, messages of {} bytes{how}, {:.1} s\n",
        counted(outcome.sessions.into(), "session"),
        counted(outcome.connections.into(), "connection"),
        brief(&outcome.plugin, 80),
        grouped(outcome.text_bytes.into()),
        outcome.elapsed_s,
    )
}

fn rate(count: u64, per_s: f64) -> String {
    format!(
        "{} per second ({} turns)",
        grouped(per_s.round() as u64),
        grouped(count)
    )
}

fn latency(outcome: &Outcome) -> String {
    let latency = &outcome.latency_ms;
    format!(
        "p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
        ms(latency.p50),
        ms(latency.p90),
        ms(latency.p99),
        ms(latency.p999),
        ms(latency.max),
    )
}

fn pause(seen: &Pause) -> String {
    let cut = match seen.reset {
        0 => String::new(),
        requests => format!(", {} cut off", counted(requests, "request")),
    };
    format!(
        "pause {}, silent {}, at {:.1} s{cut}",
        ms(seen.pause_ms),
        ms(seen.silent_ms),
        seen.at_s
    )
}

/// All of them, also those that did not come up: that they did not is what is told.
fn faults(outcome: &Outcome) -> Cell {
    let by_kills = match outcome.reset_by_kills {
        0 => String::new(),
        requests => format!(" ({} by kills)", grouped(requests)),
    };
    let counts = [
        ("refused", outcome.refused, ""),
        ("reset", outcome.reset, by_kills.as_str()),
        ("slow", outcome.slow, ""),
        ("throttled", outcome.throttled, ""),
        ("errors", outcome.errors, ""),
        ("unanswered", outcome.unanswered, ""),
        ("lost", outcome.lost, ""),
        ("doubled", outcome.doubled, ""),
        ("wrong", outcome.wrong, ""),
    ];
    let texts = counts.map(|(name, count, more)| format!("{name} {}{more}", grouped(count)));
    let tone = if outcome.ok { Tone::Good } else { Tone::Bad };
    Cell::toned(texts.join(", "), tone)
}

fn logs(outcome: &Outcome) -> Cell {
    let verified = &outcome.verified;
    if let Some(reason) = &verified.failed {
        return Cell::toned(format!("could not be read: {reason}"), Tone::Bad);
    }
    if verified.sessions == 0 {
        return Cell::toned("not read", Tone::Dim);
    }
    let mut text = format!(
        "{} of {} looked for",
        counted(verified.messages, "message"),
        counted(verified.sessions, "session")
    );
    if verified.sessions < outcome.sessions.into() {
        let _ = write!(
            text,
            " (of {}; --verify-all reads all)",
            grouped(outcome.sessions.into())
        );
    }
    if verified.trimmed > 0 {
        let _ = write!(
            text,
            ", {} trimmed before",
            counted(verified.trimmed, "message")
        );
    }
    Cell::from(text)
}

/// `1 session`, `1,000 sessions`.
pub(super) fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(count))
}

/// A number that can be read: `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Milliseconds with as many digits as mean something.
fn ms(time: f64) -> String {
    let digits = match time {
        ..1.0 => 3,
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{time:.digits$} ms")
}
