//! How a daemon starts on a damaged folder, and the way on if it does not.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use serde_json::Value;

use crate::{Daemon, How, abide_binary};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(2);
const GLANCE: Duration = Duration::from_millis(20);
/// How many lines of the log are quoted.
const LINES: usize = 6;

/// What has become of a start on a damaged folder.
pub enum DamagedStart {
    Serves,
    /// The store is not opened, for this reason; or the daemon has ended, with these last lines of its log.
    Refuses(String),
    Neither(String),
}

/// Waits until a daemon that was started serves, refuses or ends.
pub async fn damaged_start(daemon: &mut Daemon, patience: Duration) -> DamagedStart {
    let client = daemon.client();
    let begun = Instant::now();
    let mut last = String::new();
    while begun.elapsed() < patience {
        if let Some(status) = daemon.exited() {
            let lines = last_lines(&daemon.log_since_start());
            return DamagedStart::Refuses(format!("{status}: {lines}"));
        }
        let asked = tokio::time::timeout(ANSWER, client.get("/v1/daemon")).await;
        if let Ok(Ok(reply)) = asked {
            match reply.body["state"].as_str() {
                Some("refused") => {
                    return DamagedStart::Refuses(reply.body["watchdog"].to_string());
                }
                Some("serving") => return DamagedStart::Serves,
                _ => last = reply.body.to_string(),
            }
        }
        tokio::time::sleep(GLANCE).await;
    }
    DamagedStart::Neither(format!(
        "it neither serves nor refuses after {patience:?}: {last} {}",
        last_lines(&daemon.log_since_start())
    ))
}

/// Puts the file `FORMAT` back, if that is what a refusal advises. Its number may be damaged so that it is
/// another one, and only the operator knows that no later version was there.
fn put_format_back(daemon: &Daemon, refusal: &str) -> anyhow::Result<bool> {
    let line = refusal
        .split_once("by the line `")
        .and_then(|(_, rest)| rest.split_once('`'));
    let Some((line, _)) = line else {
        return Ok(false);
    };
    let file = daemon.folder().join(&daemon.setup.data_dir).join("FORMAT");
    fs::write(file, format!("{line}\n"))?;
    Ok(true)
}

/// Does for a stopped daemon what its refusal advises. Returns the report of `abide store salvage` if that
/// was it: the daemon's data folder is then the folder `new` beside the old one.
pub fn repair(daemon: &mut Daemon, refusal: &str, new: &str) -> anyhow::Result<Value> {
    if put_format_back(daemon, refusal)? {
        return Ok(Value::Null);
    }
    let ran = Command::new(abide_binary())
        .arg("--config")
        .arg(daemon.folder().join("abide.toml"))
        .args(["store", "salvage"])
        .arg(daemon.folder().join(new))
        .arg("--json")
        .envs(daemon.setup.env.iter().cloned())
        .env_remove("LD_PRELOAD")
        .stdin(Stdio::null())
        .output()?;
    if !ran.status.success() {
        let words = String::from_utf8_lossy(&ran.stderr);
        let lines = last_lines(&words);
        return Err(anyhow!("salvage ended with {}: {lines}", ran.status));
    }
    daemon.setup.data_dir = new.to_owned();
    let toml = daemon.setup.toml();
    daemon.write_config(&toml, How::Rename);
    Ok(serde_json::from_slice(&ran.stdout)?)
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(LINES).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
