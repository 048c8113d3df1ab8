//! Runs clients of every kind over many restarts: what they lose, and how long they wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use abide_tests::{Account, Daemon, How, Prober, Sent, Setup, Signal, Subscriber, signal};
use anyhow::anyhow;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::crowd::{Crowd, Got};
use crate::lean::{self, Lean};
use crate::proc::Process;
use crate::raw::{Lost, Raw};
use crate::told::{chapter, line, load, median, mib};

/// Number of clients that keep their connection; as many again open one for each request.
const CLIENTS: usize = 3;
/// Pause between two messages of a client.
const REST: Duration = Duration::from_millis(20);
/// Connections that are idle during a restart: half of them have sent a request before, half have
/// not.
const IDLE: usize = 10;
/// The background load: its connections, and the sessions that they use.
const CROWD: usize = 32;
const CROWD_SESSIONS: usize = 256;
/// Warm-up restarts, after which the supervisor holds every resource that it ever allocates.
const WARMING: u32 = 5;
/// How much the supervisor's memory may grow: pages that an allocator touches late.
const SUPERVISOR_BYTES: u64 = 1 << 20;
/// Pause of a prober between two requests.
const PROBE_PAUSE: Duration = Duration::from_millis(5);
/// Pause before and after a restart.
const QUIET: Duration = Duration::from_millis(150);

/// Counts of failed requests by client and reason.
#[derive(Default)]
struct LossCounts(BTreeMap<String, u64>);

impl LossCounts {
    fn count(&mut self, who: &str, lost: &Lost) {
        *self.0.entry(format!("{who}: {lost:?}")).or_default() += 1;
    }
}

/// The acknowledged messages and the failures of a continuously sending client.
#[derive(Default)]
struct TalkReport {
    sent: Vec<Sent>,
    lost: Vec<Lost>,
}

pub(crate) async fn measure(count: u32) -> anyhow::Result<()> {
    // All events are checked at the end, so retain them all.
    let setup = Setup {
        rest: vec!["[retention]\nevents = 1000000".to_owned()],
        ..Setup::default()
    };
    let mut daemon = Daemon::start(setup).await;
    let mut wrong = Vec::new();
    for restart in 0..WARMING {
        one(&mut daemon, restart).await;
    }
    for loaded in [false, true] {
        let what = if loaded { "under load" } else { "idle" };
        chapter(&format!("{count} restarts, {what}"));
        load();
        wrong.extend(round(&mut daemon, count, loaded).await);
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(anyhow!("something was lost:\n  {}", wrong.join("\n  ")))
}

async fn round(daemon: &mut Daemon, count: u32, loaded: bool) -> Vec<String> {
    let port = daemon.setup.port;
    let client = daemon.client();
    let stop = Arc::new(AtomicBool::new(false));
    let mut talks = Vec::new();
    for n in 0..2 * CLIENTS {
        let id = format!("talk-{loaded}-{n}");
        client.open(&id, "echo").await;
        let subscriber = Subscriber::follow(&client, &id);
        let task: JoinHandle<TalkReport> =
            tokio::spawn(hammer(port, id.clone(), n < CLIENTS, stop.clone()));
        talks.push((id, subscriber, task));
    }
    let crowd = match loaded {
        true => Some(crowd(port).await),
        false => None,
    };
    let before = Process::of(daemon.supervisor_pid());
    let mut losses = LossCounts::default();
    let mut pauses = Vec::new();
    for restart in 0..count {
        let idle = idle(port, &mut losses).await;
        let probers = [Prober::on_one_connection, Prober::on_new_connections]
            .map(|start| start(port, "/healthz", PROBE_PAUSE));
        tokio::time::sleep(QUIET).await;
        one(daemon, restart).await;
        tokio::time::sleep(QUIET).await;
        let (mut longest, mut failed) = (Duration::ZERO, 0);
        for prober in probers {
            let report = prober.stop().await;
            longest = longest.max(report.longest);
            failed += report.failed.len();
        }
        if failed > 0 {
            losses.count("prober", &Lost::Other(format!("{failed} at once")));
        }
        pauses.push(longest.as_secs_f64() * 1e3);
        for mut raw in idle {
            match raw.ask("GET", "/healthz", "").await {
                Ok((200, _)) => {}
                Ok((status, _)) => losses.count("idle", &Lost::Other(status.to_string())),
                Err(lost) => losses.count("idle", &lost),
            }
        }
    }
    let after = Process::of(daemon.supervisor_pid());
    stop.store(true, Ordering::Relaxed);

    let mut wrong = Vec::new();
    let mut account = Account::default();
    if let Some(crowd) = crowd {
        wrong.extend(settle(port, crowd).await);
    }
    let (mut streams, mut broken) = (0, 0);
    for (id, subscriber, task) in talks {
        let seen = task.await.expect("a client does not panic");
        for lost in &seen.lost {
            losses.count(&id, lost);
        }
        account.take(&client, &id, &seen.sent).await;
        let stored = client.events(&id, 0).await;
        let followed = subscriber.wait_for("all events", |seen| seen.len() >= stored.len());
        if followed.await != stored {
            wrong.push(format!("{id}: its stream had other events than there are"));
        }
        wrong.extend(subscriber.troubles());
        streams += subscriber.connections();
        broken += subscriber.broken();
    }
    line(
        "messages on kept and on new connections",
        format!(
            "{}; answered once: {}",
            account.acknowledged, account.answered_once
        ),
    );
    line(
        "idle connections used after a restart",
        (IDLE as u32 * count).to_string(),
    );
    line(
        "streams; not resumed after a `restart` event",
        format!("{streams}; {broken}"),
    );
    let lost: u64 = losses.0.values().sum();
    line("refused, reset, cut off, slow", lost.to_string());
    let worst = pauses.iter().copied().fold(0.0, f64::max);
    line(
        "the longest wait of a client in a restart",
        format!("median {:.1} ms, worst {worst:.1} ms", median(pauses)),
    );
    line(
        "the supervisor's descriptors and memory",
        format!(
            "{} and {}, before: {} and {}",
            after.files,
            mib(after.rss_bytes),
            before.files,
            mib(before.rss_bytes)
        ),
    );
    wrong.append(&mut account.wrong);
    wrong.extend(
        losses
            .0
            .iter()
            .map(|(what, count)| format!("{what} ({count} times)")),
    );
    if broken > 0 {
        wrong.push(format!("{broken} streams were cut off"));
    }
    if after.files != before.files || after.rss_bytes > before.rss_bytes + SUPERVISOR_BYTES {
        wrong.push("the supervisor grows".to_owned());
    }
    wrong
}

/// Requests one restart, by the API, by an edit, or by an edit with SIGHUP, and waits until the
/// sessions are restored.
async fn one(daemon: &mut Daemon, n: u32) {
    let old = daemon.generation().await;
    match n % 4 {
        3 => {
            let reply = daemon.client().post("/v1/daemon/restart", &json!({})).await;
            reply.expect("the daemon serves").expect(202);
        }
        way => {
            daemon.edit(How::Rename, |setup| setup.spare += 1);
            if way == 1 {
                signal(daemon.supervisor_pid(), Signal::HUP);
            }
        }
    }
    let generation = daemon.after_generation(old).await;
    assert_eq!(generation, old + 1, "one restart for one wish");
    let is_back = |record: &Value| record["phases"]["relaunch_ms"].as_u64() > Some(0);
    daemon.restart_record_when(generation, is_back).await;
}

/// Opens connections that stay idle during the restart.
async fn idle(port: u16, losses: &mut LossCounts) -> Vec<Raw> {
    let mut idle = Vec::new();
    for n in 0..IDLE {
        let opened = async {
            let mut raw = Raw::connect(port).await?;
            if n % 2 == 0 {
                raw.ask("GET", "/healthz", "").await?;
            }
            Ok::<_, Lost>(raw)
        };
        match opened.await {
            Ok(raw) => idle.push(raw),
            Err(lost) => losses.count("opening", &lost),
        }
    }
    idle
}

/// Sends one message after the other, each exactly once and without retries.
async fn hammer(port: u16, id: String, keeps: bool, stop: Arc<AtomicBool>) -> TalkReport {
    let mut seen = TalkReport::default();
    let mut kept: Option<Raw> = None;
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let text = format!("line {n}");
        match say(port, &id, &text, &mut kept).await {
            Ok(message) => seen.sent.push(Sent { message, text }),
            Err(lost) => seen.lost.push(lost),
        }
        if !keeps || kept.as_ref().is_some_and(|raw| raw.closes) {
            kept = None;
        }
        tokio::time::sleep(REST).await;
    }
    seen
}

async fn say(port: u16, id: &str, text: &str, kept: &mut Option<Raw>) -> Result<String, Lost> {
    let mut raw = match kept.take() {
        Some(raw) => raw,
        None => Raw::connect(port).await?,
    };
    let path = format!("/v1/sessions/{id}/messages");
    let (status, body) = raw
        .ask("POST", &path, &json!({"text": text}).to_string())
        .await?;
    *kept = Some(raw);
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    match (status, body["message"].as_str()) {
        (202, Some(message)) => Ok(message.to_owned()),
        _ => Err(Lost::Other(format!("{status} {body}"))),
    }
}

async fn crowd(port: u16) -> Crowd {
    let mut lean = Lean::new(port);
    for n in 0..CROWD_SESSIONS {
        let opened = lean.open(&lean::session(n), "echo").await;
        opened.expect("the daemon serves");
    }
    Crowd::start(port, CROWD, CROWD_SESSIONS)
}

/// Returns what the background load lost: every message must have been answered and have made
/// exactly one turn.
async fn settle(port: u16, crowd: Crowd) -> Vec<String> {
    let asked = crowd.stop().await;
    let mut wrong = Vec::new();
    let troubles = asked
        .iter()
        .filter(|asked| asked.got == Got::Trouble)
        .count();
    if troubles > 0 {
        wrong.push(format!("{troubles} of the crowd's requests failed"));
    }
    line(
        "turns of the load beside them",
        (asked.len() - troubles).to_string(),
    );
    let mut turns = vec![0_u64; CROWD_SESSIONS];
    for asked in asked.iter().filter(|asked| asked.got != Got::Trouble) {
        turns[asked.session] += 1;
    }
    let client = abide_tests::Client::new(port);
    for (n, expected) in turns.into_iter().enumerate() {
        let id = lean::session(n);
        let found = client.until_idle(&id).await["turns"].as_u64();
        if found != Some(expected) {
            wrong.push(format!("{id} has {found:?} turns of {expected} messages"));
        }
    }
    wrong
}
