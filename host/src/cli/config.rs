//! `abide config`: what a start, or a change under a running daemon, would make of the
//! configuration file.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::args::{Check, ConfigCommand as Command};
use super::client::{Client, ClientError};
use super::config_history;
use super::error::CliError;
use super::global::Global;
use super::out::{Out, Tone, hint};
use super::plugin_trial;
use super::table::{Cell, table};
use super::target;
use crate::config::{Config, ConfigError, config_bytes, json_schema, process_env, reference};
use crate::domain::{PlanReport, PlanRequest, PlanVerdict, PlannedChange};
use crate::plain_text::inline;

const PLAN: &str = "/v1/daemon/plan";

/// Runs the commands that need no daemon; returns the arguments of the one that does.
pub(super) fn offline(global: &Global, command: Command) -> Result<Option<Check>, CliError> {
    let mut out = Out::new(global.no_color);
    match command {
        Command::Check(args) => check(global, &mut out, args).map(|()| None),
        Command::Plan(args) => Ok(Some(args)),
        Command::History(args) => config_history::history(global, &args).map(|()| None),
        Command::Rollback(args) => config_history::rollback(global, &args).map(|()| None),
        Command::Schema => Ok(out.json(json_schema()).map(|()| None)?),
        Command::Reference => Ok(out.text(&reference()).map(|()| None)?),
    }
}

/// `abide config check`: all checks of a start, except those of the store.
fn check(global: &Global, out: &mut Out, args: Check) -> Result<(), CliError> {
    let file = &global.config;
    let read = config_bytes(file).map_err(CliError::file("read", file))?;
    match Config::validate(&read, file, &process_env()) {
        Ok(config) => {
            let digest = config.digest;
            if args.json.json {
                return Ok(out.json(&json!({ "valid": true, "digest": digest, "problems": [] }))?);
            }
            let plugins: Vec<&str> = config.plugins.keys().map(String::as_str).collect();
            let listen: Vec<String> = config
                .daemon
                .listen
                .iter()
                .map(ToString::to_string)
                .collect();
            out.line(format!(
                "{} is valid: listens on {}, plugins: {}",
                file.display(),
                listen.join(", "),
                if plugins.is_empty() {
                    "none".to_owned()
                } else {
                    plugins.join(", ")
                }
            ))?;
            Ok(())
        }
        Err(error) => {
            if args.json.json {
                out.json(&json!({ "valid": false, "problems": problems(&error) }))?;
            }
            Err(CliError::Failed(error.to_string()))
        }
    }
}

/// Returns the problems as JSON.
fn problems(error: &ConfigError) -> Vec<Value> {
    if error.problems().is_empty() {
        return vec![json!({ "key": "", "reason": error.to_string() })];
    }
    let problems = error.problems().iter();
    problems
        .map(|problem| {
            json!({
                "key": problem.key,
                "reason": problem.reason,
                "remedy": problem.remedy,
                "text": problem.to_string(),
            })
        })
        .collect()
}

/// `abide config plan`: what saving the file would do. Queries the daemon, because only it knows
/// the running configuration; if none answers, shows what a start would do.
pub(super) async fn plan(global: &Global, args: Check) -> Result<(), CliError> {
    let mut out = Out::new(global.no_color);
    let client = Client::new(target::find(global)?)?;
    let report = match config_bytes(&global.config) {
        Ok(bytes) => {
            let patience = patience(&bytes, &global.config);
            // A file that is not UTF-8 has no plan: the check reports where.
            let Ok(config) = String::from_utf8(bytes) else {
                return check(global, &mut out, args);
            };
            let request = PlanRequest { config };
            let request = client.request(Method::POST, PLAN).json(&request);
            client.json_within::<PlanReport>(request, patience).await
        }
        // A daemon on another machine has its own file.
        Err(error) if error.kind() == ErrorKind::NotFound && target::is_named(global) => {
            let request = client.request(Method::GET, PLAN);
            client
                .json_within::<PlanReport>(request, plugin_trial::PATIENCE)
                .await
        }
        Err(source) => {
            return Err(CliError::File {
                doing: "read",
                path: global.config.clone(),
                source,
            });
        }
    };
    let report = match report {
        Ok(report) => report,
        Err(ClientError::Unreachable { url, .. }) if !target::is_named(global) => {
            hint(format!(
                "no daemon answers at {url}: this is what a start would make of the file"
            ));
            return check(global, &mut out, args);
        }
        Err(error) => return Err(error.into()),
    };
    if args.json.json {
        out.json(&report)?;
    } else {
        show(&mut out, &report)?;
    }
    match report.verdict {
        PlanVerdict::Refused => Err(CliError::Failed(
            "the daemon would refuse the file".to_owned(),
        )),
        _ => Ok(()),
    }
}

/// Returns how long the daemon may take to compile and try what a file brings.
fn patience(config: &[u8], file: &Path) -> Duration {
    // Of a file with mistakes nothing is tried.
    let config = Config::parse(config, file, &process_env());
    let budget = config.map_or(Duration::ZERO, |config| config.daemon.trial_budget);
    plugin_trial::PATIENCE.saturating_add(budget)
}

fn show(out: &mut Out, report: &PlanReport) -> Result<(), CliError> {
    let rows: Vec<Vec<Cell>> = report.changes.iter().map(row).collect();
    if !rows.is_empty() {
        out.text(&table(out, 0, &["key", "takes", "from", "to"], &rows))?;
    }
    out.line(verdict(report.verdict))?;
    if report.verdict == PlanVerdict::Restart && report.running_turns > 0 {
        let wait = humantime::format_duration(Duration::from_millis(report.wait_at_most_ms));
        out.line(format!(
            "turns that run now: {}; the restart waits for what they have in flight, at most {wait}",
            report.running_turns
        ))?;
    }
    for found in &report.trial {
        plugin_trial::show(out, found)?;
    }
    for problem in &report.problems {
        hint(inline(&problem.text));
    }
    Ok(())
}

fn row(change: &PlannedChange) -> Vec<Cell> {
    let shown = |value: &Option<String>| inline(value.as_deref().unwrap_or("-")).into_owned();
    let tone = if change.class == "fixed" {
        Tone::Bad
    } else {
        Tone::Plain
    };
    vec![
        change.key.clone().into(),
        Cell::toned(&change.class, tone),
        shown(&change.from).into(),
        shown(&change.to).into(),
    ]
}

/// Describes the plan's verdict in a sentence.
fn verdict(verdict: PlanVerdict) -> &'static str {
    match verdict {
        PlanVerdict::Nothing => "no change: the file means what runs",
        PlanVerdict::Hot => "applied at once, without a restart; turns that run are not touched",
        PlanVerdict::Restart => "the daemon restarts; sessions go on where they are",
        PlanVerdict::Ignored => {
            "nothing happens by itself (on_config_change = \"ignore\"); `abide restart` takes it over"
        }
        PlanVerdict::Refused => "refused; what runs goes on",
        PlanVerdict::Deferred => {
            "a restart is under way; the file is looked at once that is over (`abide status`)"
        }
        PlanVerdict::Stopping => "the daemon stops; its next start reads the file",
    }
}
