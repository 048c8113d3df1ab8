//! A new worker that cannot take over, because of a failure before or after the hand-over, while
//! clients send requests without a pause. Measured: how long the clients wait, which worker and
//! configuration run afterwards, and what the daemon reports.
//!
//! ```text
//!   edit -> preflight -> standby starts -> ready -> hand-over: opens the store -> serves -> proven
//!           ^bad plugin  ^dies, hangs               ^dies, hangs,                 ^dies,
//!           ^port taken                              store does not open            hangs
//! ```
//!
//! A bad plugin or a taken port cannot appear after the hand-over: components are compiled and
//! sockets bound before it. Only the store is opened after it, because it has one owner.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinHandle;

use crate::process::{children, signal};
use crate::{Account, Client, Daemon, How, Refused, Sent, Setup, Signal, guest, until_within};

/// Number of clients, each with a session of its own.
const CLIENTS: usize = 4;
/// Pause of a client between two messages.
const REST: Duration = Duration::from_millis(5);
/// Longer than the supervisor's slowest timeout among these failures.
const PATIENCE: Duration = Duration::from_secs(180);
/// Polling interval for states that last only milliseconds.
const BLINK: Duration = Duration::from_micros(200);

/// What goes wrong, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootFailure {
    /// A plugin's file is not a component.
    BadPlugin,
    /// Another process listens on an address that is new in the configuration.
    PortTaken,
    /// The standby aborts, as after a panic.
    DiesBeforeReady,
    /// The standby stops making progress.
    HangsBeforeReady,
    /// The new worker aborts while it opens the store.
    DiesBeforeServing,
    /// The new worker stops making progress while it opens the store.
    HangsBeforeServing,
    /// RocksDB cannot open its directory until somebody repairs it. Clients are refused meanwhile.
    StoreDoesNotOpen,
    /// The new worker aborts during its probation.
    DiesOnTrial,
    /// The new worker stops making progress during its probation.
    HangsOnTrial,
}

impl BootFailure {
    /// All failures, in the order of a restart.
    pub const ALL: [Self; 9] = [
        Self::BadPlugin,
        Self::PortTaken,
        Self::DiesBeforeReady,
        Self::HangsBeforeReady,
        Self::DiesBeforeServing,
        Self::HangsBeforeServing,
        Self::StoreDoesNotOpen,
        Self::DiesOnTrial,
        Self::HangsOnTrial,
    ];

    /// Returns whether the configuration is to blame, so that the daemon does not apply it again by
    /// itself.
    pub fn blames_config(self) -> bool {
        self != Self::StoreDoesNotOpen
    }

    /// Returns whether the old worker has released the store before the failure.
    pub fn is_behind_the_hand_over(self) -> bool {
        !matches!(
            self,
            Self::BadPlugin | Self::PortTaken | Self::DiesBeforeReady | Self::HangsBeforeReady
        )
    }
}

impl Display for BootFailure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadPlugin => "plugin that does not compile",
            Self::PortTaken => "port taken",
            Self::DiesBeforeReady => "abort before ready",
            Self::HangsBeforeReady => "hang before ready",
            Self::DiesBeforeServing => "abort while it opens the store",
            Self::HangsBeforeServing => "hang while it opens the store",
            Self::StoreDoesNotOpen => "store that does not open",
            Self::DiesOnTrial => "abort in probation",
            Self::HangsOnTrial => "hang in probation",
        })
    }
}

/// The consequences of a [`BootFailure`].
#[derive(Debug)]
pub struct Aftermath {
    /// The longest time from the first sending of a message to the end of its turn.
    pub longest: Duration,
    /// The time from the repair of a store that did not open until a turn ended.
    pub since_mended: Option<Duration>,
    /// Whether the previous configuration runs, again or still. A store that does not open is no
    /// fault of the new configuration, which is then applied afterwards.
    pub runs_old_config: bool,
    /// The status of the restart's record; `None` if the restart was refused before it had a
    /// number.
    pub record: Option<String>,
    /// The text of `config.last_error`, or of the record of the crash.
    pub told: String,
    /// Connections that were refused.
    pub refused: u64,
    /// Anything else that was lost, duplicated or reordered.
    pub wrong: Vec<String>,
}

/// Causes the failure in a daemon of its own.
pub async fn provoke(failure: BootFailure) -> Aftermath {
    let mut daemon = proven().await;
    let good = daemon.status().await["config"]["digest"].clone();
    let old = (daemon.worker_pid().await, daemon.generation().await);
    let stop = Arc::new(AtomicBool::new(false));
    let client = daemon.client();
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        let id = format!("s{n}");
        client.open(&id, "echo").await;
        let task = tokio::spawn(hammer(daemon.client(), id.clone(), stop.clone()));
        clients.push((id, task));
    }
    let mended = inject(&mut daemon, failure, old.0).await;

    let reported = until_within(PATIENCE, "the failure to be told", async || {
        let status = client.get("/v1/daemon").await.ok()?.body;
        match mended {
            None => Some(status["config"]["last_error"].as_str()?.to_owned()),
            // No configuration was to blame, so the new one is applied once the old one serves.
            Some(_) if status["config"]["digest"] == good => None,
            Some(_) => {
                let crash = daemon.restart_record(old.1 + 2).await?;
                Some(crash["trigger"].as_str()?.to_owned())
            }
        }
    })
    .await;
    let since_mended = mended.map(|mended| mended.elapsed());
    let record = daemon.restart_record(old.1 + 1).await;
    stop.store(true, Ordering::Relaxed);
    let (longest, refused, wrong) = settle(&client, clients).await;
    Aftermath {
        longest,
        since_mended,
        runs_old_config: daemon.status().await["config"]["digest"] == good,
        record: record.and_then(|record: Value| record["status"].as_str().map(str::to_owned)),
        told: reported,
        refused,
        wrong,
    }
}

/// Starts a daemon whose configuration has completed its probation.
async fn proven() -> Daemon {
    let setup = Setup {
        daemon: vec!["probation = \"100ms\"".to_owned()],
        // Keep all events: the end of the test checks every one of them.
        rest: vec!["[retention]\nevents = 1000000".to_owned()],
        ..Setup::default()
    };
    let daemon = Daemon::start(setup).await;
    daemon
        .restart_record_when(1, |record| record["status"] == "completed")
        .await;
    daemon
}

/// Causes the failure. Returns when a store that did not open was repaired.
async fn inject(daemon: &mut Daemon, failure: BootFailure, old: i32) -> Option<Instant> {
    match failure {
        BootFailure::BadPlugin => {
            let path = daemon.folder().join("bad.wasm");
            fs::write(&path, b"\0asm\x0d\0\x01\0 no component").expect("the folder is ours");
            change(daemon, Some(&path));
        }
        BootFailure::PortTaken => {
            let taken = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
            let taken_at = taken.local_addr().expect("it is bound");
            daemon.listen_also_at(taken_at);
            wait_for_error(daemon).await;
        }
        BootFailure::DiesBeforeReady => hinder_standby(daemon, old, Signal::ABORT).await,
        BootFailure::HangsBeforeReady => hinder_standby(daemon, old, Signal::STOP).await,
        BootFailure::DiesBeforeServing => hinder_successor(daemon, old, Signal::ABORT).await,
        BootFailure::HangsBeforeServing => hinder_successor(daemon, old, Signal::STOP).await,
        BootFailure::StoreDoesNotOpen => return Some(damage_store(daemon, old).await),
        BootFailure::DiesOnTrial => hinder_on_trial(daemon, Signal::ABORT).await,
        BootFailure::HangsOnTrial => hinder_on_trial(daemon, Signal::STOP).await,
    }
    None
}

/// Makes a change that needs a restart and whose probation is long; the new plugin is the given
/// file.
fn change(daemon: &mut Daemon, plugin: Option<&Path>) {
    let plugin = plugin.map(Path::to_path_buf);
    daemon.edit(How::Rename, |setup| {
        setup.daemon.retain(|line| !line.starts_with("probation"));
        setup.daemon.push("probation = \"10m\"".to_owned());
        setup.spare += 1;
        setup.spare_path = plugin;
    });
}

async fn wait_for_error(daemon: &Daemon) {
    until_within(PATIENCE, "the error to be told", async || {
        let status = daemon.status().await;
        status["config"]["last_error"].is_string().then_some(())
    })
    .await;
}

/// Returns the pid of the worker that runs beside the old one or replaces it.
async fn newcomer(daemon: &Daemon, old: i32) -> i32 {
    let began = Instant::now();
    loop {
        let pids = children(daemon.supervisor_pid());
        if let Some(pid) = pids.into_iter().find(|pid| *pid != old) {
            return pid;
        }
        assert!(began.elapsed() < PATIENCE, "no standby came");
        tokio::time::sleep(BLINK).await;
    }
}

/// Signals the standby while it compiles a plugin that is in no cache yet.
async fn hinder_standby(daemon: &mut Daemon, old: i32, what: Signal) {
    let path = daemon.folder().join("new.wasm");
    let mut component = fs::read(guest("echo")).expect("the guests are built");
    // A custom section of the name `x`, which makes it another component.
    component.extend(b"\0\x02\x01x");
    fs::write(&path, component).expect("the folder is ours");
    change(daemon, Some(&path));
    let pid = newcomer(daemon, old).await;
    signal(pid, what);
}

/// Signals the new worker as soon as it holds the store's lock, whose file names the owner.
async fn hinder_successor(daemon: &mut Daemon, old: i32, what: Signal) {
    change(daemon, None);
    let pid = newcomer(daemon, old).await;
    let lock = daemon.folder().join(&daemon.setup.data_dir).join("LOCK");
    let began = Instant::now();
    loop {
        let owner = fs::read_to_string(&lock).unwrap_or_default();
        if owner.trim().parse() == Ok(pid) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the store was not handed over");
        tokio::time::sleep(BLINK).await;
    }
    signal(pid, what);
}

/// Damages the store's entry point, which a running daemon does not read, until the worker that was rolled
/// back to refuses clients for it. Returns when it was mended.
async fn damage_store(daemon: &mut Daemon, old: i32) -> Instant {
    let db = daemon.folder().join(&daemon.setup.data_dir).join("db");
    let current = db.join("CURRENT");
    let whole = fs::read(&current).expect("the store is there");
    fs::write(&current, "damaged").expect("the folder is ours");
    change(daemon, None);
    let standby = newcomer(daemon, old).await;
    until_within(PATIENCE, "a refusal", async || {
        let reply = daemon.client().get("/v1/daemon").await.ok()?;
        let finding = &reply.body["watchdog"][0];
        (finding["kind"] == "store_refused").then_some(())
    })
    .await;
    assert_ne!(daemon.worker_pid().await, standby, "it may be to blame");
    fs::write(&current, whole).expect("the folder is ours");
    Instant::now()
}

/// Signals the new worker once it serves.
async fn hinder_on_trial(daemon: &mut Daemon, what: Signal) {
    let before = daemon.generation().await;
    change(daemon, None);
    daemon.after_generation(before).await;
    signal(daemon.worker_pid().await, what);
}

/// What a client has sent, and the longest time that it waited.
struct ClientReport {
    sent: Vec<Sent>,
    longest: Duration,
    refused: u64,
}

/// Sends one message after the other, each under a key of its own, and resends it until its turn
/// has ended, also after a 503.
async fn hammer(client: Client, id: String, stop: Arc<AtomicBool>) -> ClientReport {
    let (mut sent, mut longest, mut n) = (Vec::new(), Duration::ZERO, 0);
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let (text, key) = (format!("line {n}"), format!("key {n}"));
        let began = Instant::now();
        let message = loop {
            match client.ask(&id, &text, Some(&key)).await {
                Ok(posted) if posted.status == 200 => break posted.message,
                Ok(_) | Err(Refused::Trouble(_)) => {}
                Err(Refused::Status(reply)) if reply.status == 503 => {
                    tokio::time::sleep(REST).await;
                }
                Err(Refused::Status(reply)) => panic!("{id}: {text} was refused: {reply:?}"),
            }
        };
        longest = longest.max(began.elapsed());
        sent.push(Sent { message, text });
        tokio::time::sleep(REST).await;
    }
    let refused = client.tally.refused.load(Ordering::Relaxed);
    ClientReport {
        sent,
        longest,
        refused,
    }
}

async fn settle(
    client: &Client,
    clients: Vec<(String, JoinHandle<ClientReport>)>,
) -> (Duration, u64, Vec<String>) {
    let (mut longest, mut refused) = (Duration::ZERO, 0);
    let mut account = Account::default();
    for (id, task) in clients {
        let seen = task.await.expect("a client is not refused");
        longest = longest.max(seen.longest);
        refused += seen.refused;
        account.take(client, &id, &seen.sent).await;
    }
    (longest, refused, account.wrong)
}
