//! Data folders with everything in them, and what their daemon's clients know of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use abide_tests::{
    Client, Daemon, Event, Plugin, Refused, Setup, Signal, gone, kill_all, signal, tool_server,
    until,
};
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

/// How the daemon has died before a file is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Death {
    Stop,
    Worker,
    Everything,
}

impl Death {
    pub(crate) const ALL: [Self; 3] = [Self::Stop, Self::Worker, Self::Everything];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stop => "clean stop",
            Self::Worker => "kill of the worker",
            Self::Everything => "kill of everything",
        }
    }
}

/// What clients know of a session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// Whether it was closed.
    pub(crate) is_closed: bool,
    pub(crate) plugin: String,
    pub(crate) turns: u64,
    pub(crate) events: Vec<Event>,
    /// Messages that were acknowledged and whose turn had not ended.
    pub(crate) open: Vec<String>,
}

/// All sessions, by their id.
pub(crate) type KnownSessions = BTreeMap<String, Known>;

/// A folder with a data folder in it, whose daemon is dead, and what is known of it.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) known: KnownSessions,
}

const ECHOES: usize = 16;
const SCRIPTED: usize = 8;
const ROUNDS: usize = 12;
/// The length of a message's text, in bytes.
const TEXT_BYTES: usize = 6000;

/// The configuration of all daemons. A small log makes many tables.
pub(crate) fn setup(folder: &Path) -> Setup {
    Setup {
        rest: vec!["[store]\nwal = \"1MiB\"".to_owned()],
        ..Setup::default()
    }
    .grace("1s")
    .plugin(Plugin::new("scripted").with_tools())
    .recording_tools(&tool_server(), &folder.join("effects"))
}

/// A text that compresses badly, so that tables are as large as what is in them.
pub(crate) fn text(seed: u64, bytes: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let letters = (0..bytes).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'a' + (state % 26) as u8)
    });
    letters.collect()
}

/// The text of a message to that session.
pub(crate) fn message(plugin: &str, seed: u64) -> String {
    match plugin {
        "scripted" => json!({"id": format!("m{seed}"), "acts": [
            {"act": "call", "tool": "record", "token": format!("t{seed}")},
            {"act": "say", "text": text(seed, TEXT_BYTES)},
        ]})
        .to_string(),
        _ => text(seed, TEXT_BYTES),
    }
}

impl World {
    /// Builds a data folder, and stops its daemon.
    pub(crate) async fn build() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let setup = setup(folder.path());
        let mut daemon = Daemon::start_in(folder, setup).await;
        let client = daemon.client();
        let mut known = KnownSessions::new();
        for (plugin, many) in [("echo", ECHOES), ("scripted", SCRIPTED)] {
            for n in 0..many {
                let id = format!("{plugin}-{n}");
                client.open(&id, plugin).await;
                let plugin = plugin.to_owned();
                known.insert(
                    id,
                    Known {
                        plugin,
                        ..Known::default()
                    },
                );
            }
        }
        for n in 0..ROUNDS {
            turn_in_all(&client, &known, n as u64 * 1000).await;
        }
        for n in 0..SCRIPTED {
            let id = format!("scripted-{n}");
            let acts = json!([
                {"act": "hold", "bytes": 16_384},
                {"act": "timer", "name": "far", "after_ms": 86_400_000_u64, "script": {"id": "far"}},
            ]);
            client
                .chat(&id, &json!({"id": "hold", "acts": acts}).to_string())
                .await;
            // It fails, and leaves a dead letter.
            let acts = json!([{"act": "fail", "reason": "as it was told"}]);
            let fail = json!({"id": "fail", "acts": acts}).to_string();
            client
                .ask(&id, &fail, Some("fail"))
                .await
                .map_err(|why| anyhow::anyhow!("{why:?}"))?;
        }
        for id in ["echo-0", "scripted-0"] {
            let path = format!("/v1/sessions/{id}");
            let reply = client.send(client.request(Method::DELETE, &path)).await;
            anyhow::ensure!(
                reply.is_ok_and(|reply| reply.status < 300),
                "{id} is not closed"
            );
            if let Some(session) = known.get_mut(id) {
                session.is_closed = true;
            }
        }
        observe(&client, &mut known).await?;
        daemon.stop().await;
        Ok(Self {
            folder: daemon.into_folder(),
            known,
        })
    }

    /// Starts a daemon on a copy, runs some turns, and kills everything while a turn waits for a tool.
    pub(crate) async fn killed(&self) -> anyhow::Result<Self> {
        let mut daemon = spawn(self.copied()?);
        let mut known = self.known.clone();
        disturb(&daemon, &mut known).await?;
        kill_all(daemon.supervisor_pid());
        daemon.ended().await;
        Ok(Self {
            folder: daemon.into_folder(),
            known,
        })
    }

    /// Copies the data folder into a new folder.
    pub(crate) fn copied(&self) -> anyhow::Result<TempDir> {
        let folder = tempfile::tempdir()?;
        copy(
            &self.folder.path().join("data"),
            &folder.path().join("data"),
        )?;
        Ok(folder)
    }
}

/// Starts a daemon on the data folder in `folder`.
pub(crate) fn spawn(folder: TempDir) -> Daemon {
    let setup = setup(folder.path());
    Daemon::spawn_in(folder, setup)
}

/// The sessions whose turns wait for a tool.
const LONG: [&str; 2] = ["scripted-1", "scripted-2"];

/// Runs turns in all sessions, and begins one in two of them that waits for a tool.
pub(crate) async fn disturb(daemon: &Daemon, known: &mut KnownSessions) -> anyhow::Result<()> {
    let client = daemon.client();
    until("the daemon to be ready", async || {
        let reply = client.get("/readyz").await.ok()?;
        (reply.status == 200).then_some(())
    })
    .await;
    turn_in_all(&client, known, 900_000).await;
    observe(&client, known).await?;
    for id in LONG {
        let acts = json!([
            {"act": "call", "tool": "record", "token": format!("long {id}"), "sleep_after_ms": 60_000},
        ]);
        let long = json!({"id": "long", "acts": acts}).to_string();
        let queued =
            json!({"id": "queued", "acts": [{"act": "say", "text": "queued"}]}).to_string();
        for (text, key) in [(long, "long"), (queued, "queued")] {
            let sent = client
                .say(id, &text, Some(key))
                .await
                .map_err(|why| anyhow::anyhow!("{why:?}"))?;
            if let Some(session) = known.get_mut(id) {
                session.open.push(sent.message);
            }
        }
    }
    // In flight at the death that follows, or the next worker would begin them, and take their time.
    until("the long calls to be in flight", async || {
        let effects = fs::read_to_string(daemon.folder().join("effects")).ok()?;
        let begun = |id: &&str| effects.contains(&format!("long {id}"));
        LONG.iter().all(begun).then_some(())
    })
    .await;
    Ok(())
}

/// Kills the worker under a supervisor that is stopped meanwhile. The supervisor has to be continued.
pub(crate) async fn kill_worker_under_stopped_supervisor(daemon: &Daemon) {
    let worker = daemon.worker_pid().await;
    signal(daemon.supervisor_pid(), Signal::STOP);
    signal(worker, Signal::KILL);
    until("the worker's end", async || gone(worker).then_some(())).await;
}

/// Runs a turn in each session that is not closed.
pub(crate) async fn turn_in_all(client: &Client, known: &KnownSessions, seed: u64) {
    let mut turns = Vec::new();
    let open = known.iter().filter(|(_, session)| !session.is_closed);
    for ((id, session), seed) in open.zip(seed..) {
        let text = message(&session.plugin, seed);
        let (client, id) = (client.clone(), id.clone());
        turns.push(async move { client.chat(&id, &text).await });
    }
    futures::future::join_all(turns).await;
}

/// Reads what is known of each session.
async fn observe(client: &Client, known: &mut KnownSessions) -> anyhow::Result<()> {
    for (id, session) in known.iter_mut().filter(|(_, session)| !session.is_closed) {
        session.turns = client.session(id).await["turns"]
            .as_u64()
            .unwrap_or_default();
        session.events = client.events(id, 0).await;
    }
    Ok(())
}

/// Sends a message until it is acknowledged or refused for good; waits for its turn.
pub(crate) async fn ask(
    client: &Client,
    id: &str,
    text: &str,
    key: &str,
    patience: Duration,
) -> Result<String, String> {
    let started = std::time::Instant::now();
    loop {
        let asked = tokio::time::timeout(patience, client.ask(id, text, Some(key))).await;
        let why = match asked {
            Ok(Ok(posted)) => return Ok(posted.outcome.unwrap_or_else(|| "accepted".to_owned())),
            Ok(Err(Refused::Status(reply))) if reply.status != 503 && reply.status != 429 => {
                return Err(format!("{} {}", reply.status, reply.body));
            }
            Ok(Err(why)) => format!("{why:?}"),
            Err(_) => "no answer".to_owned(),
        };
        if started.elapsed() > patience {
            return Err(why);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            false => drop(fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}
