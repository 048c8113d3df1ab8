//! `abide drain` and `abide restart`: request it, then follow it until it is over.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::args::Operate;
use super::client::{Client, ClientError};
use super::error::CliError;
use super::global::Global;
use super::out::{Out, hint};
use super::target;
use super::text::duration;
use crate::documents::{DaemonState, DaemonStatus};
use crate::domain::{RestartRecord, RestartStatus, UnixMillis};

/// The interval of polling a restart in progress.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The command that is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OperateGoal {
    /// Drain, then stop.
    Stop,
    /// Drain, then serve again.
    Restart,
}

/// Runs the command. Returns `false` if the restart or stop ended in another way than requested.
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
    let generation = planned.generation.0;
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

/// The end of a restart or stop.
enum RestartEnd {
    /// The final record of the restart.
    Record(Box<RestartRecord>),
    /// The daemon does not answer any more; with the last known record.
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
                    // The record becomes `stopped` just before the last worker exits.
                    RestartStatus::Stopped if daemon.generation.0 < generation => {}
                    _ => return Ok(RestartEnd::Record(Box::new(record))),
                }
                known = Some(Box::new(record));
            }
            Err(ClientError::Unreachable { .. }) if goal == OperateGoal::Stop => {
                return Ok(RestartEnd::Stopped(known));
            }
            // The hand-over itself: the next poll reaches the successor.
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
) -> Result<(DaemonStatus, RestartRecord), ClientError> {
    Ok((client.daemon().await?, client.restart(generation).await?))
}

/// Describes the current phase in one line, of which only the drain's numbers change.
fn phase(daemon: &DaemonStatus, record: &RestartRecord, now: UnixMillis) -> String {
    if record.status == RestartStatus::Probation {
        return format!("generation {} serves, on probation", record.generation);
    }
    match (&daemon.drain, daemon.state) {
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
        (None, DaemonState::Serving) if daemon.generation >= record.generation => {
            "serving again; sessions come back".to_owned()
        }
        (None, state) => state.as_str().to_owned(),
    }
}

/// The progress line: on a terminal it changes in place, elsewhere each new phase is a new line.
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
