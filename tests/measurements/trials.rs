//! Measures the trial of a plugin's new component on many stored sessions: its time, the worker's memory,
//! what clients of another plugin feel meanwhile, and the pause of the restart beside that of one that
//! brings no component.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use abide_tests::{Daemon, Plugin, Setup, variant};
use anyhow::anyhow;
use serde_json::{Value, json};

use crate::lean::{self, Lean};
use crate::parallel;
use crate::proc::memory;
use crate::told::{chapter, line, load, median, mib, quantile, time};

/// Clients of the other plugin, each with a session of its own.
const NEIGHBOURS: usize = 8;
/// The pause between two messages of a neighbour.
const REST: Duration = Duration::from_millis(20);
/// How many sessions are made at once.
const MAKERS: usize = 64;
/// The state of each session, in bytes.
const STATE_BYTES: usize = 512;
/// How long the neighbours are measured before a trial.
const QUIET: Duration = Duration::from_secs(10);

/// A message that was answered: when it was sent, and how long that took.
type Answered = (Instant, Duration);

/// Measures `rounds` restarts with and as many without a new component, which is tried on `sessions`
/// sessions.
pub(crate) async fn measure(sessions: usize, rounds: u32) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let component = folder.path().join("scripted.wasm");
    fs::write(&component, variant("plain"))?;
    let setup = Setup {
        plugins: vec![
            Plugin::new("scripted").at(component.clone()),
            Plugin::new("echo"),
        ],
        // All are tried before the restart, and all move.
        daemon: ["trial_budget = \"1h\"", "canary = \"off\""]
            .map(str::to_owned)
            .to_vec(),
        ..Setup::default()
    };
    let mut daemon = Daemon::start(setup).await;
    let port = daemon.setup.port;
    chapter(&format!("a trial of {sessions} stored sessions"));
    load();
    fill(port, sessions).await;
    let neighbours = Neighbours::start(port);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        neighbours.take();
        tokio::time::sleep(QUIET).await;
        let quiet = neighbours.take();
        let peak = PeakMemory::of(daemon.worker_pid().await);
        let before = daemon.generation().await;
        let began = Instant::now();
        replace(&component, &format!("round{round}"))?;
        let record = restarted(&daemon, before).await;
        let trial = Duration::from_millis(record["phases"]["trial_ms"].as_u64().unwrap_or(0));
        let tried = &record["trial"][0]["passed"];
        if tried.as_u64() != Some(sessions as u64) {
            return Err(anyhow!("not all sessions were tried: {}", record["trial"]));
        }
        let mut beside = neighbours.take();
        // What is behind the trial is the restart's.
        beside.retain(|(sent, _)| sent.duration_since(began) < trial);
        let (standing, most) = peak.stop().await;
        line(
            "the trial",
            format!(
                "{} ({:.0} sessions/s)",
                time(trial),
                sessions as f64 / trial.as_secs_f64()
            ),
        );
        line(
            "the worker's memory before it, and at most",
            format!("{}, {}", mib(standing), mib(most)),
        );
        tell("neighbours' turns before it", &quiet);
        tell("neighbours' turns beside it", &beside);
        with.push(pause(&record));
        // As much is written before this restart as before the other one.
        tokio::time::sleep(QUIET + trial).await;
        let before = daemon.generation().await;
        daemon.restart_by_edit().await;
        without.push(pause(&restarted(&daemon, before).await));
    }
    neighbours.stop().await;
    line(
        "the restart's pause, with and without a new component",
        format!("{:.0} ms, {:.0} ms", median(with), median(without)),
    );
    load();
    daemon.stop().await;
    Ok(())
}

/// Creates the sessions, each with a state and one turn.
async fn fill(port: u16, sessions: usize) {
    let began = Instant::now();
    let acts = json!([{"act": "hold", "bytes": STATE_BYTES}, {"act": "say", "text": "held"}]);
    let message = lean::script(&acts);
    parallel::for_each(MAKERS, MAKERS, move |maker| {
        let message = message.clone();
        async move {
            let mut client = Lean::new(port);
            for n in (maker..sessions).step_by(MAKERS) {
                let session = lean::session(n);
                let opened = client.open(&session, "scripted").await;
                opened.expect("a session can be opened");
                let answer = client.say(&session, message.clone()).await;
                answer
                    .and_then(|answer| answer.expect_completed())
                    .expect("the turn ends");
            }
        }
    })
    .await;
    line("the sessions are made, after", time(began.elapsed()));
}

/// Puts another variant of the component into the plugin's file, at once.
fn replace(component: &Path, name: &str) -> anyhow::Result<()> {
    let new = component.with_extension("new");
    fs::write(&new, variant(name))?;
    Ok(fs::rename(&new, component)?)
}

/// Waits for the end of the restart after the generation `before`. Returns its record.
async fn restarted(daemon: &Daemon, before: u64) -> Value {
    let is_after = |generation: &u64| *generation > before;
    let patience = Duration::from_secs(3600);
    let generation = abide_tests::until_within(patience, "the restart", async || {
        let generation = daemon.status().await["generation"].as_u64();
        generation.filter(is_after)
    })
    .await;
    let has_served = |record: &Value| !record["phases"]["pause_ms"].is_null();
    daemon.restart_record_when(generation, has_served).await
}

fn pause(record: &Value) -> f64 {
    record["phases"]["pause_ms"].as_f64().unwrap_or(f64::NAN)
}

fn tell(what: &str, answered: &[Answered]) {
    let mut times: Vec<_> = answered.iter().map(|(_, took)| *took).collect();
    times.sort_unstable();
    let [p50, p99] = [0.5, 0.99].map(|part| quantile(&times, part));
    let count = times.len();
    line(what, format!("{count}; p50 {p50:.1} ms, p99 {p99:.1} ms"));
}

/// Clients that send one message after the other.
struct Neighbours {
    answered: Arc<Mutex<Vec<Answered>>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Neighbours {
    fn start(port: u16) -> Self {
        let (answered, stop) = (Arc::default(), Arc::default());
        let tasks = (0..NEIGHBOURS).map(|n| {
            let (answered, stop) = (Arc::clone(&answered), Arc::clone(&stop));
            tokio::spawn(talk(port, format!("neighbour-{n}"), answered, stop))
        });
        Self {
            tasks: tasks.collect(),
            answered,
            stop,
        }
    }

    /// Returns what was answered since the last time.
    fn take(&self) -> Vec<Answered> {
        std::mem::take(&mut *self.answered.lock().expect("no client panics"))
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no client panics");
        }
    }
}

async fn talk(
    port: u16,
    session: String,
    answered: Arc<Mutex<Vec<Answered>>>,
    stop: Arc<AtomicBool>,
) {
    let mut client = Lean::new(port);
    let opened = client.open(&session, "echo").await;
    opened.expect("a session can be opened");
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        let said = client.say(&session, lean::message()).await;
        // A connection that a restart ends is opened anew.
        if said.and_then(|answer| answer.expect_completed()).is_ok() {
            let took = (sent, sent.elapsed());
            answered.lock().expect("no client panics").push(took);
        }
        tokio::time::sleep(REST).await;
    }
}

/// Looks at a process's memory until it is stopped, or the process ends.
struct PeakMemory {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<(u64, u64)>,
}

impl PeakMemory {
    fn of(pid: i32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let standing = memory(pid).map_or(0, |(_, anon)| anon);
            let mut most = standing;
            while !stopped.load(Ordering::Relaxed)
                && let Some((_, anon)) = memory(pid)
            {
                most = most.max(anon);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            (standing, most)
        });
        Self { stop, task }
    }

    /// Returns the anonymous memory as it was at first, and the most of it.
    async fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("it does not panic")
    }
}
