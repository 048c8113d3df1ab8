//! One cell of the table: a change that is saved in one way, and its outcome.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use abide_tests::{Account, Client, Daemon, Sent, Setup, Subscriber, guest};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::ways::{Place, Way};

/// Timeout of every wait.
const PATIENCE: Duration = Duration::from_secs(30);
const GLANCE: Duration = Duration::from_millis(10);
/// How long to watch for further effects of a change: longer than the debounce.
const AFTERMATH: Duration = Duration::from_millis(700);
/// Pause between two messages of the live session.
const TALK_EVERY: Duration = Duration::from_millis(25);

/// The kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Hot,
    Restart,
    Syntax,
    Semantics,
    Fixed,
}

impl ChangeKind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Hot,
        Self::Restart,
        Self::Syntax,
        Self::Semantics,
        Self::Fixed,
    ];
}

/// The file that is saved.
pub(crate) enum Target {
    /// `abide.toml`.
    Config,
    /// The component of a plugin that the configuration names.
    Plugin(PathBuf),
}

/// The new content, and a part of the expected reason if the change is to be refused.
struct ConfigChange {
    bytes: Vec<u8>,
    reason: Option<&'static str>,
}

impl Target {
    /// Returns the change of that kind; `None` if this file has no such change.
    fn change(&self, kind: ChangeKind, setup: &mut Setup, number: u64) -> Option<ConfigChange> {
        let (bytes, reason) = match self {
            Self::Config => {
                let (text, reason) = config(kind, setup, number);
                (text.into_bytes(), reason)
            }
            Self::Plugin(_) => {
                let bytes = match kind {
                    ChangeKind::Restart => {
                        let mut bytes = fs::read(guest("echo")).expect("it is built");
                        // A custom section: its id, its length, its name and its content.
                        bytes.extend([0, 10, 1, b'n']);
                        bytes.extend(number.to_le_bytes());
                        bytes
                    }
                    ChangeKind::Syntax => b"plain text, and no component".to_vec(),
                    // A component's header, followed by garbage.
                    ChangeKind::Semantics => [&b"\0asm\x0d\0\x01\0"[..], &[0xff; 16]].concat(),
                    ChangeKind::Hot | ChangeKind::Fixed => return None,
                };
                (
                    bytes,
                    (kind != ChangeKind::Restart).then_some("plugins.spare"),
                )
            }
        };
        Some(ConfigChange { bytes, reason })
    }
}

fn config(kind: ChangeKind, setup: &mut Setup, number: u64) -> (String, Option<&'static str>) {
    match kind {
        ChangeKind::Hot => setup.grace = format!("{}s", 10 + number / 10 % 40),
        ChangeKind::Restart => setup.spare = 1000 + (number % 9000) as u32,
        ChangeKind::Syntax => {
            let broken = setup.toml().replacen("data_dir = ", "data_dir ", 1);
            return (broken, Some("abide.toml:4:"));
        }
        ChangeKind::Semantics => {
            let (key, wrong) = ("\nshutdown_grace_period = \"", "5 parsecs ");
            let wrong = setup.toml().replacen(key, &format!("{key}{wrong}"), 1);
            return (wrong, Some("shutdown_grace_period"));
        }
        ChangeKind::Fixed => {
            let moved = setup.toml().replacen("\"data\"", "\"atad\"", 1);
            return (moved, Some("data_dir"));
        }
    }
    (setup.toml(), None)
}

/// The outcome of a cell.
pub(crate) struct CellOutcome {
    /// The time from the save until it took effect.
    pub(crate) took: Duration,
    pub(crate) wrong: Vec<String>,
}

fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Saves a change of that kind in that way, and checks its effects; returns `None` if there is no
/// such change.
pub(crate) async fn run(
    daemon: &mut Daemon,
    way: &Way,
    target: &Target,
    kind: ChangeKind,
    number: u64,
) -> Option<CellOutcome> {
    let file = match target {
        Target::Config => daemon.folder().join("abide.toml"),
        Target::Plugin(file) => file.clone(),
    };
    let old_bytes = fs::read(&file).expect("the file is there");
    let ConfigChange { bytes, reason } = target.change(kind, &mut daemon.setup, number)?;
    let mut wrong = Vec::new();
    let live = Live::begin(daemon, &format!("live {number}")).await;
    let before = daemon.status().await;
    let wanted = digest(&bytes);
    let saved = save(daemon, way, &file, bytes, number).await;
    let has_effect = |status: &Value| match (reason, target) {
        (Some(reason), _) => {
            let error = status["config"]["last_error"].as_str();
            error.is_some_and(|error| error.contains(reason))
        }
        (None, Target::Config) => status["config"]["digest"] == wanted.as_str(),
        (None, Target::Plugin(_)) => status["generation"] != before["generation"],
    };
    let took = when(daemon, saved, has_effect).await;
    if took.is_none() {
        let config = &daemon.status().await["config"];
        wrong.push(format!("nothing came of it: {config}"));
    }
    tokio::time::sleep(AFTERMATH).await;
    let steps = u64::from(kind == ChangeKind::Restart);
    check(daemon, &before, steps, &mut wrong).await;
    if reason.is_some() {
        let expected = &before["config"]["digest"];
        if daemon.status().await["config"]["digest"] != *expected {
            wrong.push("it does not run on the old configuration".to_owned());
        }
        // Restore the old content, saved in the same way.
        let saved = save(daemon, way, &file, old_bytes, number + 1).await;
        let is_well = |status: &Value| status["config"]["last_error"].is_null();
        if when(daemon, saved, is_well).await.is_none() {
            wrong.push("the error stays after the file was put back".to_owned());
        }
        tokio::time::sleep(AFTERMATH).await;
        check(daemon, &before, 0, &mut wrong).await;
    }
    live.end(daemon, &mut wrong).await;
    Some(CellOutcome {
        took: took.unwrap_or(PATIENCE),
        wrong,
    })
}

async fn save(daemon: &Daemon, way: &Way, file: &Path, bytes: Vec<u8>, number: u64) -> Instant {
    let folder = file.parent().expect("a file lies in a folder").to_owned();
    let place = Place {
        folder,
        file: file.to_owned(),
        worker: daemon.worker_pid().await,
        number,
    };
    let save = way.save;
    let saved = tokio::task::spawn_blocking(move || save(&place, &bytes));
    saved.await.expect("a save does not panic")
}

/// Waits until the daemon's status satisfies a condition; returns the time since `since`, or `None`
/// after [`PATIENCE`].
async fn when(
    daemon: &Daemon,
    since: Instant,
    condition: impl Fn(&Value) -> bool,
) -> Option<Duration> {
    while since.elapsed() < PATIENCE {
        if condition(&daemon.status().await) {
            return Some(since.elapsed());
        }
        tokio::time::sleep(GLANCE).await;
    }
    None
}

/// Checks that there were exactly `steps` restarts since `before`, each with a record, and that the
/// daemon serves.
async fn check(daemon: &Daemon, before: &Value, steps: u64, wrong: &mut Vec<String>) {
    let now = daemon.status().await;
    let old = before["generation"].as_u64().unwrap_or_default();
    let generation = now["generation"].as_u64().unwrap_or_default();
    if (generation > old) != (steps > 0) {
        wrong.push(format!("generation {old} became {generation}"));
    }
    if now["state"] != "serving" || !now["drain"].is_null() {
        wrong.push(format!("it does not serve: {now}"));
    }
    let list = daemon.client().get("/v1/daemon/restarts").await;
    let list = list.map(|reply| reply.body).unwrap_or_default();
    let items = list["items"].as_array().cloned().unwrap_or_default();
    // A change that only a standby can refuse consumes a generation number too.
    let later = items
        .iter()
        .filter(|item| item["generation"].as_u64() > Some(old) && item["status"] != "refused");
    let later: Vec<_> = later.map(|item| item["status"].to_string()).collect();
    if later.len() as u64 != steps {
        wrong.push(format!("{steps} restarts expected, not {later:?}"));
    }
}

/// A session with a client that sends continuously, and a subscriber.
struct Live {
    id: String,
    client: Client,
    subscriber: Subscriber,
    stop: Arc<AtomicBool>,
    talk: tokio::task::JoinHandle<(Vec<Sent>, Vec<String>)>,
}

impl Live {
    async fn begin(daemon: &Daemon, id: &str) -> Self {
        let client = daemon.client();
        client.open(id, "echo").await;
        let subscriber = Subscriber::follow(&client, id);
        let stop = Arc::<AtomicBool>::default();
        let talk = tokio::spawn(talk(client.clone(), id.to_owned(), stop.clone()));
        Self {
            id: id.to_owned(),
            client,
            subscriber,
            stop,
            talk,
        }
    }

    async fn end(self, daemon: &Daemon, wrong: &mut Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let (sent, refused) = self.talk.await.expect("a talk does not panic");
        wrong.extend(refused);
        let mut account = Account::default();
        account.take(&self.client, &self.id, &sent).await;
        wrong.append(&mut account.wrong);
        if sent.is_empty() {
            wrong.push("nothing was said".to_owned());
        }
        let stored = self.client.events(&self.id, 0).await;
        let seen = self
            .subscriber
            .wait_for("all events", |seen| seen.len() >= stored.len());
        if seen.await != stored {
            wrong.push("the subscriber saw other events than there are".to_owned());
        }
        wrong.extend(self.subscriber.troubles());
        if self.client.tally.troubles() > 0 || self.subscriber.broken() > 0 {
            wrong.push(format!(
                "{}; {} streams cut",
                self.client.tally,
                self.subscriber.broken()
            ));
        }
        let long = daemon.client().ask("long", "still there?", None).await;
        if !long.is_ok_and(|posted| posted.outcome.as_deref() == Some("completed")) {
            wrong.push("the old session does not go on".to_owned());
        }
    }
}

async fn talk(client: Client, id: String, stop: Arc<AtomicBool>) -> (Vec<Sent>, Vec<String>) {
    let (mut sent, mut wrong) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let text = format!("line {}", sent.len());
        match client.say(&id, &text, None).await {
            Ok(posted) => sent.push(Sent {
                message: posted.message,
                text,
            }),
            Err(refused) => wrong.push(format!("{text}: {refused:?}")),
        }
        tokio::time::sleep(TALK_EVERY).await;
    }
    (sent, wrong)
}
