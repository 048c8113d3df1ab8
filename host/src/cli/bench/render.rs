//! The report of a run, for humans.

use std::fmt::Write as _;

use super::disk_probe::APPENDED_BYTES;
use super::outcome::{BenchReport, Pause};
use crate::cli::out::{Out, Tone};
use crate::cli::table::{Cell, table};
use crate::cli::text::{brief, counted, grouped};

/// The width to which an example is cut.
const EXAMPLE_CHARS: usize = 300;

/// Renders the report.
pub(super) fn render(out: &Out, outcome: &BenchReport) -> String {
    let (acknowledged, completed) = (outcome.acknowledged, outcome.completed);
    let mut rows: Vec<Vec<Cell>> = vec![
        row(
            "acknowledged",
            rate(acknowledged, outcome.acknowledged_per_s, "message"),
        ),
        row(
            "completed",
            rate(completed, outcome.completed_per_s, "turn"),
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
    for (at, seen) in outcome.disturbances.iter().enumerate() {
        let alike = outcome.disturbances[..=at].iter();
        let number = alike.filter(|other| other.what == seen.what).count();
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

fn heading(outcome: &BenchReport) -> String {
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

fn rate(count: u64, per_s: f64, what: &str) -> String {
    let per_s = grouped(per_s.round() as u64);
    format!("{per_s} per second ({})", counted(count, what))
}

fn latency(outcome: &BenchReport) -> String {
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

/// Renders all kinds of faults, also those with a count of 0: their absence is the result that is
/// reported.
fn faults(outcome: &BenchReport) -> Cell {
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

fn logs(outcome: &BenchReport) -> Cell {
    let verified = &outcome.verified;
    if let Some(reason) = &verified.failed {
        return Cell::toned(format!("could not be read: {reason}"), Tone::Bad);
    }
    if verified.sessions == 0 {
        return Cell::toned("not read", Tone::Dim);
    }
    let as_it_must = match outcome.lost + outcome.doubled + outcome.wrong {
        0 => "each there once, with one turn",
        _ => "not all as they must be",
    };
    let mut text = format!(
        "{} in {}: {as_it_must}",
        counted(verified.messages, "message"),
        counted(verified.sessions, "session")
    );
    if verified.sessions < outcome.sessions.into() {
        let _ = write!(
            text,
            "; of {}, --verify-all reads all",
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

/// Formats milliseconds with as many digits as are significant.
fn ms(time: f64) -> String {
    let digits = match time {
        ..1.0 => 3,
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{time:.digits$} ms")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::outcome::{Latency, Verified};

    fn outcome() -> BenchReport {
        BenchReport {
            ok: true,
            version: "1",
            plugin: "echo".to_owned(),
            sessions: 2000,
            connections: 1,
            text_bytes: 200,
            wait: true,
            keys: true,
            elapsed_s: 10.0,
            acknowledged: 12_345,
            acknowledged_per_s: 1234.5,
            completed: 12_345,
            completed_per_s: 1234.5,
            latency_ms: Latency {
                p50: 0.671,
                p90: 1.5,
                p99: 22.25,
                p999: 100.4,
                max: 1000.6,
                mean: 0.8,
            },
            longest_pause_ms: 1000.6,
            disturbances: Vec::new(),
            refused: 0,
            reset: 0,
            reset_by_kills: 0,
            slow: 0,
            throttled: 0,
            errors: 0,
            unanswered: 0,
            lost: 0,
            doubled: 0,
            wrong: 0,
            verified: Verified {
                sessions: 1000,
                messages: 6000,
                trimmed: 0,
                failed: None,
            },
            sync_ms: Some(0.19),
            examples: Vec::new(),
        }
    }

    #[test]
    fn a_run_without_faults_is_told_in_a_few_lines() {
        let text = render(&Out::new(true), &outcome());
        let expected = "\
2,000 sessions over 1 connection of echo, messages of 200 bytes, with keys, 10.0 s
  acknowledged   1,235 per second (12,345 messages)
  completed      1,235 per second (12,345 turns)
  latency        p50 0.671 ms  p90 1.50 ms  p99 22.2 ms  p99.9 100 ms  max 1001 ms
  disk           0.190 ms to append 512 bytes and sync them (median)
  longest pause  1001 ms
  faults         refused 0, reset 0, slow 0, throttled 0, errors 0, unanswered 0, lost 0, doubled 0, wrong 0
  logs           6,000 messages in 1,000 sessions: each there once, with one turn; of 2,000, --verify-all reads all
";
        assert_eq!(text, expected);
    }

    #[test]
    fn disturbances_are_numbered_by_their_kind_and_faults_have_words() {
        let seen = |what: &str, reset| Pause {
            what: what.to_owned(),
            at_s: 2.0,
            pause_ms: 45.1,
            silent_ms: 30.2,
            reset,
        };
        let outcome = BenchReport {
            ok: false,
            reset: 5,
            reset_by_kills: 4,
            disturbances: vec![seen("kill", 0), seen("restart", 1), seen("kill", 4)],
            lost: 1,
            examples: vec!["session 3: \u{1b}[2Jgone".to_owned()],
            ..outcome()
        };
        let text = render(&Out::new(true), &outcome);
        for line in [
            "  restart 1      pause 45.1 ms, silent 30.2 ms, at 2.0 s, 1 request cut off\n",
            "  kill 2         pause 45.1 ms, silent 30.2 ms, at 2.0 s, 4 requests cut off\n",
            "reset 5 (4 by kills)",
            "lost 1,",
            "not all as they must be",
            "  session 3: \\u{1b}[2Jgone\n",
        ] {
            assert!(text.contains(line), "{line:?} in\n{text}");
        }
    }
}
