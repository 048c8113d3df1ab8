//! `abide config`: what a start, or a change under a running daemon, would make of the file.

use std::io::Write as _;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::args::{Check, Config as Command, Global};
use super::client::Client;
use super::error::CliError;
use super::out::{Out, Tone, note};
use super::target;
use super::text::{Cell, clean, table};
use crate::config::{Config, ConfigError, json_schema, process_env, reference};

/// Runs the commands that need no daemon; gives back those that do.
pub(super) fn offline(global: &Global, command: Command) -> Result<Option<Check>, CliError> {
    let mut out = Out::new(global.no_color);
    match command {
        Command::Check(args) => check(global, &mut out, args).map(|()| None),
        Command::Plan(args) => Ok(Some(args)),
        Command::Schema => Ok(out.json(json_schema()).map(|()| None)?),
        Command::Reference => Ok(out.write_all(reference().as_bytes()).map(|()| None)?),
    }
}

/// `abide config check`: all that a start would check, but for the store.
fn check(global: &Global, out: &mut Out, args: Check) -> Result<(), CliError> {
    let file = &global.config;
    let read = std::fs::read(file).map_err(|source| CliError::File {
        doing: "read",
        path: file.clone(),
        source,
    })?;
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

/// Problems for programs.
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

/// What the daemon would do about its file as it is now.
#[derive(Debug, Deserialize)]
struct Plan {
    changes: Vec<Change>,
    verdict: Value,
    #[serde(default)]
    on_config_change: Option<String>,
    #[serde(default)]
    running_turns: u64,
    #[serde(default)]
    wait_at_most_ms: u64,
}

#[derive(Debug, Deserialize)]
struct Change {
    key: String,
    class: String,
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    to: Option<String>,
}

/// `abide config plan`: asks the daemon, which alone knows what runs.
pub(super) async fn plan(global: &Global, args: Check) -> Result<(), CliError> {
    let client = Client::new(target::find(global)?)?;
    let mut out = Out::new(global.no_color);
    let answer: Value = client.get("/v1/daemon/plan").await?;
    if args.json.json {
        return Ok(out.json(&answer)?);
    }
    let plan: Plan = serde_json::from_value(answer).map_err(|error| client.foreign(error))?;
    let rows: Vec<Vec<Cell>> = plan.changes.iter().map(row).collect();
    out.write_all(table(&out, 0, &["key", "takes", "from", "to"], &rows).as_bytes())?;
    out.line(verdict(&plan))?;
    if plan.verdict == "restart" && plan.running_turns > 0 {
        let wait = humantime::format_duration(Duration::from_millis(plan.wait_at_most_ms));
        out.line(format!(
            "turns that run now: {}; the restart waits for what they have in flight, at most {wait}",
            plan.running_turns
        ))?;
    }
    if let Some(refusals) = plan.verdict.get("refused").and_then(Value::as_array) {
        for refusal in refusals {
            let of = |key| refusal.get(key).and_then(Value::as_str).unwrap_or_default();
            note(format!("{}: {}; {}", of("key"), of("reason"), of("remedy")));
        }
        return Err(CliError::Failed(
            "the daemon would refuse the file".to_owned(),
        ));
    }
    Ok(())
}

fn row(change: &Change) -> Vec<Cell> {
    let shown = |value: &Option<String>| clean(value.as_deref().unwrap_or("-")).into_owned();
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

/// The plan in a sentence.
fn verdict(plan: &Plan) -> &'static str {
    match (plan.verdict.as_str(), plan.on_config_change.as_deref()) {
        (Some("nothing"), _) => "no change: the file means what runs",
        (Some(_), Some("ignore")) => {
            "nothing happens by itself (on_config_change = \"ignore\"); `abide restart` takes it over"
        }
        (Some("hot"), Some("restart")) | (Some("restart"), _) => {
            "the daemon restarts; sessions go on where they are"
        }
        (Some("hot"), _) => "applied at once, without a restart; turns that run are not touched",
        _ => "refused; what runs goes on",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(verdict: Value, on_config_change: Option<&str>) -> Plan {
        Plan {
            changes: Vec::new(),
            verdict,
            on_config_change: on_config_change.map(str::to_owned),
            running_turns: 0,
            wait_at_most_ms: 0,
        }
    }

    #[test]
    fn the_running_rule_governs() {
        for (named, rule, says) in [
            (json!("nothing"), "ignore", "no change"),
            (json!("restart"), "auto", "restarts"),
            (json!("hot"), "auto", "at once"),
            (json!("hot"), "restart", "restarts"),
            (json!("restart"), "ignore", "by itself"),
            (json!({ "refused": [] }), "auto", "refused"),
        ] {
            let text = super::verdict(&plan(named.clone(), Some(rule)));
            assert!(text.contains(says), "{named} under {rule}: {text}");
        }
    }
}
