//! `abide drain` and `abide restart`: ask, then follow until it is over.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::args::{Global, Operate};
use super::client::{Client, ClientError};
use super::error::CliError;
use super::out::{Out, hint};
use super::target;
use super::text::duration;
use super::wire::DaemonReport;
use crate::domain::{RestartRecord, RestartStatus, UnixMillis};

/// Between two looks at a restart that goes on.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OperateGoal {
    /// Drain, then stop.
    Stop,
    /// Drain, then serve again.
    Restart,
}

/// Runs the command. False if it ended otherwise than asked.
pub(crate) async fn run(
    global: &Global,
    args: Operate,
    goal: OperateGoal,
) -> Result<bool, CliError> {
    let client = Client::new(target::find(global)?)?;
    let mut out = Out::new(global.no_color);
    let planned = match goal {
        OperateGoal::Stop => client.operate("drain").await?,
        OperateGoal::Restart => client.operate("restart").await?,
    };
    let generation = planned.generation;
    if args.no_wait {
        if args.json.json {
            out.json(&json!({ "generation": generation }))?;
        } else {
            out.line(match goal {
                OperateGoal::Stop => {
                    "accepted; the daemon stops once its turns have ended".to_owned()
                }
                OperateGoal::Restart => {
                    format!("accepted; `abide restarts {generation}` tells how it goes")
                }
            })?;
        }
        return Ok(true);
    }
    let progress = RestartProgress::new();
    let end = watch(&client, generation, goal, &progress).await?;
    progress.clear();
    if args.json.json {
        out.json(&match &end {
            RestartEnd::Record(record) => json!(record),
            RestartEnd::Stopped(record) => json!(record),
        })?;
    }
    Ok(match end {
        RestartEnd::Stopped(_) => {
            hint("stopped; held messages are answered after the next `abide serve`");
            goal == OperateGoal::Stop
        }
        RestartEnd::Record(record) => {
            if !args.json.json {
                super::restarts::detail(&mut out, &record, UnixMillis::now())?;
            }
            match goal {
                OperateGoal::Stop => record.status == RestartStatus::Stopped,
                OperateGoal::Restart => record.status == RestartStatus::Completed,
            }
        }
    })
}

/// How it ended.
enum RestartEnd {
    /// With a verdict.
    Record(Box<RestartRecord>),
    /// Nobody answers any more; what was last known.
    Stopped(Option<Box<RestartRecord>>),
}

async fn watch(
    client: &Client,
    generation: u64,
    goal: OperateGoal,
    progress: &RestartProgress,
) -> Result<RestartEnd, CliError> {
    let mut known = None;
    loop {
        match fetch(client, generation).await {
            Ok((daemon, record)) => {
                match record.status {
                    RestartStatus::Running | RestartStatus::Probation => {
                        progress.update(&phase(&daemon, &record, UnixMillis::now()));
                    }
                    // The record says so just before the last worker goes.
                    RestartStatus::Stopped if daemon.generation < generation => {}
                    _ => return Ok(RestartEnd::Record(Box::new(record))),
                }
                known = Some(Box::new(record));
            }
            Err(ClientError::Unreachable { .. }) if goal == OperateGoal::Stop => {
                return Ok(RestartEnd::Stopped(known));
            }
            // The switch itself: the next look meets the successor.
            Err(error) if error.is_passing() => progress.update(match goal {
                OperateGoal::Stop => "stopping",
                OperateGoal::Restart => "handing over",
            }),
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn fetch(
    client: &Client,
    generation: u64,
) -> Result<(DaemonReport, RestartRecord), ClientError> {
    Ok((client.daemon().await?, client.restart(generation).await?))
}

/// What goes on, in a line without moving parts but for the drain's.
fn phase(daemon: &DaemonReport, record: &RestartRecord, now: UnixMillis) -> String {
    if record.status == RestartStatus::Probation {
        return format!("generation {} serves, on probation", record.generation);
    }
    match (&daemon.drain, daemon.state.as_str()) {
        (Some(drain), _) => {
            let mut text = format!(
                "draining: {} turns still run, {} messages held",
                drain.running, drain.held
            );
            if let Some(ends) = drain.ends_at {
                text.push_str(&format!(", at most {} more", duration(ends.since(now))));
            }
            text
        }
        (None, "standby") => "validated; the new worker prepares itself".to_owned(),
        (None, "serving") if daemon.generation >= record.generation.0 => {
            "serving again; sessions come back".to_owned()
        }
        (None, state) => state.to_owned(),
    }
}

/// A line that changes on a terminal; elsewhere one line for each new phase.
struct RestartProgress {
    bar: ProgressBar,
    last: std::cell::RefCell<String>,
}

impl RestartProgress {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(LOOK_EVERY);
        Self {
            bar,
            last: std::cell::RefCell::default(),
        }
    }

    fn update(&self, what: &str) {
        let kind = |text: &str| text.split(':').next().unwrap_or_default().to_owned();
        let is_new = kind(&self.last.borrow()) != kind(what);
        if self.bar.is_hidden() && is_new {
            hint(what);
        }
        self.bar.set_message(what.to_owned());
        what.clone_into(&mut self.last.borrow_mut());
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
