//! Runs the validator and Schemathesis against a daemon, and starts the daemon again when it was drained.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::process::Command;

use crate::world::World;

/// How often it is looked whether the daemon has ended.
const TICK: Duration = Duration::from_millis(20);

/// How to run Schemathesis.
pub(crate) struct Fuzzer {
    pub(crate) venv: PathBuf,
    /// The folder of `hooks.py`.
    pub(crate) hooks: PathBuf,
    /// How long it may repeat itself, for each caller.
    pub(crate) seconds: u64,
}

/// The numbers of requests, by `PHASE STATUS`.
pub(crate) struct Counts(BTreeMap<String, u64>);

impl Counts {
    pub(crate) fn of_phase(&self, phase: &str) -> u64 {
        self.sum(|name, _| name == phase)
    }

    /// Counts those with a status that begins with this digit.
    pub(crate) fn of_class(&self, class: char) -> u64 {
        self.sum(|_, status| status.starts_with(class))
    }

    fn sum(&self, counts: impl Fn(&str, &str) -> bool) -> u64 {
        let all = self.0.iter();
        let fitting = all.filter(|(key, _)| {
            key.split_once(' ')
                .is_some_and(|(phase, status)| counts(phase, status))
        });
        fitting.map(|(_, count)| count).sum()
    }
}

impl Fuzzer {
    /// Returns whether nothing was found, and what was sent.
    pub(crate) async fn run(&self, world: &mut World) -> anyhow::Result<(bool, Counts)> {
        let folder = tempfile::tempdir()?;
        let document = folder.path().join("openapi.json");
        let client = world.daemon.client();
        let served = client.get("/openapi.json").await;
        let served = served.expect("an answer").expect(200);
        fs::write(&document, served.to_string())?;
        let validator = self.venv.join("bin/openapi-spec-validator");
        let valid = Command::new(validator).arg(&document).status().await?;
        fs::write(folder.path().join("schemathesis.toml"), config(world)?)?;
        fs::create_dir(folder.path().join("backups"))?;
        let mut schemathesis = self.command(folder.path(), world).spawn()?;
        let status = loop {
            tokio::select! {
                status = schemathesis.wait() => break status?,
                () = tokio::time::sleep(TICK) => {}
            }
            if let Some(status) = world.daemon.exited() {
                if !status.success() {
                    bail!("the daemon ended with {status}:\n{}", world.daemon.log());
                }
                world.daemon.spawn_again();
            }
        };
        let counts = fs::read(folder.path().join("counts.json")).context("nothing was sent")?;
        let counts = Counts(serde_json::from_slice(&counts)?);
        Ok((valid.success() && status.success(), counts))
    }

    fn command(&self, folder: &Path, world: &World) -> Command {
        let port = world.daemon.setup.port;
        let mut command = Command::new(self.venv.join("bin/schemathesis"));
        command
            .args(["--config-file", "schemathesis.toml", "run", "openapi.json"])
            .args(["--url", &format!("http://127.0.0.1:{port}")])
            .args([
                "--checks",
                "all",
                "--phases",
                "examples,coverage,fuzzing,stateful",
            ])
            .args([
                "--max-time",
                &self.seconds.to_string(),
                "--max-examples",
                "50",
            ])
            .args(["--generation-database", "none", "--no-color"])
            .current_dir(folder)
            .env("PYTHONPATH", &self.hooks)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("SCHEMATHESIS_HOOKS", "hooks")
            .env("ABIDE_API_FUZZ_PORT", port.to_string())
            .env("ABIDE_API_FUZZ_BACKUPS", folder.join("backups"))
            .env("ABIDE_API_FUZZ_COUNTS", folder.join("counts.json"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if let Some(token) = &world.token {
            command.args(["--header", &format!("Authorization: Bearer {token}")]);
        }
        command
    }
}

/// The configuration of Schemathesis: what it may find, and which names there are.
fn config(world: &World) -> anyhow::Result<String> {
    // A stream never ends by itself.
    let mut text = String::from(
        r#"workers = 1
request-timeout = 30
max-stream-events = 3
continue-on-failure = true

# Beyond what is refused by its form: what is closed, what has another state, what is too large.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 401, 403, 404, 409, 410, 413, 429]
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 429]

[parameters]
"body.plugin" = { dictionary = "plugins", probability = 0.8 }
"body.model" = { dictionary = "plugins", probability = 0.8 }
"body.message" = { dictionary = "messages", probability = 0.3 }

[[operations]]
include-operation-id = "follow_events"

[operations.parameters]
"path.id" = { dictionary = "sessions", probability = 0.8 }
"query.after" = { dictionary = "cursors", probability = 0.8 }
"header.Last-Event-ID" = { dictionary = "cursors", probability = 0.8 }

[[operations]]
include-path-regex = "^/v1/sessions/"
exclude-operation-id = "follow_events"
parameters = { "path.id" = { dictionary = "sessions", probability = 0.7 } }

[[operations]]
include-path-regex = "^/v1/approvals/"
parameters = { "path.id" = { dictionary = "approvals", probability = 0.7 } }

[[operations]]
include-path-regex = "^/v1/models/"
parameters = { "path.id" = { dictionary = "plugins", probability = 0.5 } }

[[operations]]
include-path-regex = "^/v1/tokens/"
parameters = { "path.name" = { dictionary = "tokens", probability = 0.3 } }

# Each takes a second.
[[operations]]
include-operation-id = "drain_daemon"
generation = { max-examples = 4 }

[dictionaries]
"#,
    );
    for (list, names) in &world.names {
        let values = serde_json::to_string(names)?;
        writeln!(text, "{list} = {{ values = {values} }}")?;
    }
    Ok(text)
}
