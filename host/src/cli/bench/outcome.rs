//! The report of a run, as `--json` prints it.

use std::time::Duration;

use serde::Serialize;

use super::chaos::KILL;
use super::check_log::LogTotals;
use super::flags::Bench;
use super::quiesce::Settled;
use crate::loadgen::{Example, FaultKind, Report};

/// The whole report, with units in the names.
#[derive(Clone, Debug, Serialize)]
pub(super) struct BenchReport {
    pub(super) ok: bool,
    pub(super) version: &'static str,
    pub(super) plugin: String,
    pub(super) sessions: u32,
    pub(super) connections: u32,
    pub(super) text_bytes: u32,
    /// Whether each request waited for its turn.
    pub(super) wait: bool,
    /// Whether messages had idempotency keys.
    pub(super) keys: bool,
    pub(super) elapsed_s: f64,
    pub(super) acknowledged: u64,
    pub(super) acknowledged_per_s: f64,
    pub(super) completed: u64,
    pub(super) completed_per_s: f64,
    pub(super) latency_ms: Latency,
    pub(super) longest_pause_ms: f64,
    pub(super) disturbances: Vec<Pause>,
    pub(super) refused: u64,
    pub(super) reset: u64,
    /// The part of `reset` that kills explain.
    pub(super) reset_by_kills: u64,
    pub(super) slow: u64,
    pub(super) throttled: u64,
    pub(super) errors: u64,
    pub(super) unanswered: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) wrong: u64,
    pub(super) verified: Verified,
    /// The median time of appending and syncing, if the directory is known.
    pub(super) sync_ms: Option<f64>,
    /// Descriptions of some of the faults.
    pub(super) examples: Vec<String>,
}

/// Latencies of turns, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    #[serde(rename = "p99.9")]
    pub(super) p999: f64,
    pub(super) max: f64,
    pub(super) mean: f64,
}

/// The effect of a restart or a kill on clients.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Pause {
    pub(super) what: String,
    pub(super) at_s: f64,
    pub(super) pause_ms: f64,
    pub(super) silent_ms: f64,
    pub(super) reset: u64,
}

/// The scope of the check of the logs.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Verified {
    pub(super) sessions: u64,
    pub(super) messages: u64,
    pub(super) trimmed: u64,
    /// Why the check could not be completed.
    pub(super) failed: Option<String>,
}

/// The results of the steps after the load.
#[derive(Debug, Default)]
pub(super) struct After {
    /// Set if turns had to be waited for at the end.
    pub(super) settled: Option<Settled>,
    /// The number of sessions whose logs were checked, and the result.
    pub(super) found: Option<(usize, LogTotals)>,
    /// Why one of these steps failed.
    pub(super) failed: Option<String>,
}

impl BenchReport {
    pub(super) fn new(
        args: &Bench,
        plugin: &str,
        sync: Option<Duration>,
        report: Report,
        after: After,
    ) -> Self {
        let counts = report.counts;
        // Times are recorded in microseconds.
        let ms = |time: Duration| time.as_micros() as f64 / 1e3;
        let per_s = |count: u64, time: Duration| match time.as_secs_f64() {
            0.0 => 0.0,
            seconds => count as f64 / seconds,
        };
        let (completed, completed_per_s, failed, open) = match after.settled {
            Some(settled) if args.no_wait => (
                settled.completed,
                per_s(settled.completed, report.elapsed + settled.took),
                settled.failed,
                settled.open,
            ),
            _ => (counts.completed, report.completed_per_second(), 0, 0),
        };
        let disturbances = report.disturbances.iter();
        // A kill cuts off what is in flight: at most one request of each connection.
        let reset_by_kills = disturbances
            .clone()
            .filter(|disturbance| disturbance.what == KILL)
            .map(|kill| kill.reset.min(args.connections().into()))
            .sum();
        let (read, found) = after.found.unwrap_or_default();
        // Resets that kills explain need no example.
        let is_shown =
            |example: &Example| example.fault != FaultKind::Reset || counts.reset > reset_by_kills;
        let examples = report.examples.iter().filter(|it| is_shown(it));
        let examples = examples.map(|example| example.text.clone());
        let mut outcome = Self {
            ok: false,
            version: env!("CARGO_PKG_VERSION"),
            plugin: plugin.to_owned(),
            sessions: args.sessions,
            connections: args.connections(),
            text_bytes: args.text_bytes,
            wait: !args.no_wait,
            keys: args.keys,
            elapsed_s: report.elapsed.as_secs_f64(),
            acknowledged: counts.acknowledged,
            acknowledged_per_s: report.acknowledged_per_second(),
            completed,
            completed_per_s,
            latency_ms: Latency {
                p50: ms(report.latency(0.5)),
                p90: ms(report.latency(0.9)),
                p99: ms(report.latency(0.99)),
                p999: ms(report.latency(0.999)),
                max: ms(report.latency_max()),
                mean: report.latencies.mean().round() / 1e3,
            },
            longest_pause_ms: ms(report.longest_pause()),
            disturbances: disturbances
                .map(|seen| Pause {
                    what: seen.what.clone(),
                    at_s: seen.at.as_secs_f64(),
                    pause_ms: ms(seen.pause),
                    silent_ms: ms(seen.silence),
                    reset: seen.reset,
                })
                .collect(),
            refused: counts.refused,
            reset: counts.reset,
            reset_by_kills,
            slow: counts.slow,
            throttled: counts.throttled,
            errors: counts.errors + failed,
            unanswered: counts.unanswered + open,
            // The load and the logs count the same losses and duplicates, so they are not added up.
            lost: counts.lost.max(found.lost),
            doubled: counts.doubled.max(found.doubled),
            wrong: counts.wrong + found.wrong,
            verified: Verified {
                sessions: read as u64,
                messages: found.messages,
                trimmed: found.trimmed,
                failed: after.failed,
            },
            sync_ms: sync.map(ms),
            examples: examples.chain(found.examples).collect(),
        };
        outcome.ok = outcome.is_ok();
        outcome
    }

    fn is_ok(&self) -> bool {
        let faults = [
            self.refused,
            self.reset - self.reset_by_kills,
            self.errors,
            self.unanswered,
            self.lost,
            self.doubled,
            self.wrong,
        ];
        faults.iter().all(|count| *count == 0)
            && self.acknowledged > 0
            && self.verified.failed.is_none()
    }
}
