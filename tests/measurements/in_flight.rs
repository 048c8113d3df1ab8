//! Measures very many concurrent turns, each waiting for a slow model, and a restart in the middle
//! of them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use abide_tests::{
    CallState, Client, Daemon, FakeModel, How, ProbeReport, Prober, Setup, until_within,
};
use anyhow::anyhow;
use serde_json::{Value, json};

use crate::proc::{Process, allow_files};
use crate::told::{chapter, line, load, mib, time};
use crate::{parallel, scripted};

/// The upper limit of `daemon.turns_max`.
const TURNS_MAX: usize = 10_000;
/// Concurrent requests of this program.
const AT_ONCE: usize = 64;
/// File descriptors that the daemon, or this program, needs besides the model's connections.
const FURTHER_FILES: usize = 1_000;
const GRACE: &str = "2s";
/// Pause of a prober between two requests.
const PROBE_PAUSE: Duration = Duration::from_millis(5);
/// Timeout of one phase.
const PATIENCE: Duration = Duration::from_secs(300);
/// The marker that all questions contain; the model holds its answers until it is released.
const QUESTION: &str = "[hold=all]";

struct TurnsInFlight {
    turns: usize,
    daemon: Daemon,
    client: Client,
    model: FakeModel,
}

/// Measures with `turns` concurrent turns.
pub(crate) async fn measure(turns: usize) -> anyhow::Result<()> {
    if turns > TURNS_MAX {
        return Err(anyhow!("`daemon.turns_max` is at most {TURNS_MAX}"));
    }
    // This process holds the model's side of each connection; the daemon inherits the limit.
    allow_files((turns + FURTHER_FILES) as u64)?;
    let model = FakeModel::start().await;
    let mut setup = Setup {
        model: Some(model.base_url()),
        ..scripted(&["llm = [\"local\"]"])
    }
    .grace(GRACE);
    // A slow machine may need a while to begin all turns.
    setup.plugins[0].limits.extend([
        "turn_timeout = \"1h\"".into(),
        "step_timeout = \"1h\"".into(),
    ]);
    setup.rest.push("idle_timeout = \"1h\"".into());
    let room = (turns + 16).min(TURNS_MAX);
    setup.daemon.push(format!("turns_max = {room}"));
    setup.daemon.push("resident_idle = \"1h\"".into());
    let daemon = start(setup).await?;
    let client = daemon.client();
    chapter(&format!("{turns} turns in flight, turns_max = {room}"));
    load();
    let mut crowd = TurnsInFlight {
        turns,
        daemon,
        client,
        model,
    };
    crowd.begin().await;
    crowd.restart().await;
    crowd.finish().await
}

/// Starts a daemon, or returns an error that names the kernel setting to raise.
async fn start(setup: Setup) -> anyhow::Result<Daemon> {
    let started = tokio::spawn(Daemon::start(setup)).await;
    started.map_err(|error| {
        let panic = error.try_into_panic();
        let text = panic.ok().and_then(|panic| panic.downcast::<String>().ok());
        let text = text.map_or_else(String::new, |text| *text);
        let needed = text
            .split_once("turns at once take ")
            .and_then(|(_, rest)| rest.split_whitespace().next());
        match needed {
            Some(needed) => anyhow!(
                "the kernel allows too few mapped regions: `sysctl -w vm.max_map_count={needed}`, \
                 or fewer --turns"
            ),
            None => anyhow!("the daemon does not start: {text}"),
        }
    })
}

fn session(n: usize) -> String {
    format!("m{n}")
}

/// Returns the question that a session asks the model. No question is a prefix of another's.
fn question(n: usize) -> String {
    format!("question <{n}> {QUESTION}")
}

impl TurnsInFlight {
    async fn look(&self) -> Process {
        Process::of(self.daemon.worker_pid().await)
    }

    /// Prints the memory growth since an earlier reading, in total and for each turn.
    fn grown(&self, what: &str, before: &Process, after: &Process) {
        let grown = after.rss_bytes.saturating_sub(before.rss_bytes);
        let each = grown as f64 / self.turns as f64 / 1024.0;
        let anon = after.anon_bytes.saturating_sub(before.anon_bytes);
        let each_anon = anon as f64 / self.turns as f64 / 1024.0;
        line(
            what,
            format!(
                "{} (+{}: {each:.1} KiB each, {each_anon:.1} KiB anonymous)",
                mib(after.rss_bytes),
                mib(grown)
            ),
        );
    }

    async fn asked(&self, state: CallState, count: usize) {
        let what = format!("{count} model calls {state:?}");
        until_within(PATIENCE, &what, async || {
            (self.model.count(QUESTION, state) >= count).then_some(())
        })
        .await;
    }

    /// Creates all sessions, then begins all turns.
    async fn begin(&self) {
        let empty = self.look().await;
        line("the worker, without sessions", mib(empty.rss_bytes));
        let began = Instant::now();
        parallel::for_each(self.turns, AT_ONCE, |n| {
            let client = self.client.clone();
            async move { client.open(&session(n), "scripted").await }
        })
        .await;
        line("sessions created in", self.rate(began));
        let idle = self.look().await;
        self.grown("with the sessions, idle, held in memory", &empty, &idle);
        let began = Instant::now();
        parallel::for_each(self.turns, AT_ONCE, |n| {
            let client = self.client.clone();
            async move {
                let acts = json!([{"act": "llm", "text": question(n)}]);
                let script = json!({"id": session(n), "acts": acts}).to_string();
                let reply = client.say(&session(n), &script, None).await;
                reply.unwrap_or_else(|refused| panic!("message {n}: {refused:?}"));
            }
        })
        .await;
        line("messages acknowledged in", self.rate(began));
        self.asked(CallState::Running, self.turns).await;
        line("all turns wait for the model, after", self.rate(began));
        let flying = self.look().await;
        self.grown("with all turns in flight", &idle, &flying);
        let each =
            |after: u64, before: u64| after.saturating_sub(before) as f64 / self.turns as f64;
        line(
            "page tables, which are not part of that",
            format!(
                "{} ({:.1} KiB a turn)",
                mib(flying.tables_bytes),
                each(flying.tables_bytes, empty.tables_bytes) / 1024.0
            ),
        );
        line(
            "mapped regions; open files",
            format!(
                "{} ({:.2} a turn); {}",
                flying.maps,
                each(flying.maps, empty.maps),
                flying.files
            ),
        );
    }

    fn rate(&self, began: Instant) -> String {
        let took = began.elapsed();
        let rate = self.turns as f64 / took.as_secs_f64();
        format!("{} ({rate:.0}/s)", time(took))
    }

    /// Changes the configuration while all turns wait for the model.
    async fn restart(&mut self) {
        chapter(&format!("a configuration change, grace period {GRACE}"));
        let old = self.daemon.generation().await;
        let port = self.daemon.setup.port;
        let [keeps, opens] = [Prober::on_one_connection, Prober::on_new_connections]
            .map(|start| start(port, "/v1/sessions/m0", PROBE_PAUSE));
        let began = Instant::now();
        self.daemon.edit(How::Rename, |setup| setup.spare += 1);
        let generation = until_within(PATIENCE, "the new worker", async || {
            let generation = self.daemon.generation().await;
            (generation > old).then_some(generation)
        })
        .await;
        let serves = began.elapsed();
        self.asked(CallState::Cancelled, self.turns).await;
        self.asked(CallState::Running, self.turns).await;
        let again = began.elapsed();
        let record = until_within(PATIENCE, "the relaunch", async || {
            let record = self.daemon.restart_record(generation).await?;
            (record["relaunch"]["restored"].as_u64() > Some(0)).then_some(record)
        })
        .await;
        let (keeps, opens) = (keeps.stop().await, opens.stop().await);
        let flying = self.look().await;
        report(&record);
        line(
            "from the edit to the new worker's first answer",
            time(serves),
        );
        line(
            "from there until all turns wait for the model again",
            time(again.saturating_sub(serves)),
        );
        for (what, report) in [("a kept connection", keeps), ("new connections", opens)] {
            let ProbeReport {
                asked,
                longest,
                failed,
                ..
            } = report;
            let failed = failed.len();
            line(
                &format!("longest wait of a client on {what}"),
                format!("{} ({asked} requests, {failed} failed)", time(longest)),
            );
        }
        line(
            "model calls cut on the wire, made again",
            format!(
                "{}, {}",
                self.model.count(QUESTION, CallState::Cancelled),
                self.model.count(QUESTION, CallState::Running)
            ),
        );
        line(
            "the new worker, with all turns in flight",
            mib(flying.rss_bytes),
        );
    }

    /// Releases the model's answers; every turn must end exactly once.
    async fn finish(self) -> anyhow::Result<()> {
        chapter("the model answers");
        let began = Instant::now();
        self.model.release("all");
        until_within(PATIENCE, "the end of all turns", async || {
            let status = self.daemon.status().await;
            (status["sessions"]["idle"] == self.turns).then_some(())
        })
        .await;
        line("all turns ended, after", self.rate(began));
        let after = self.look().await;
        line("the worker, idle again", mib(after.rss_bytes));
        let wrong = self.check().await;
        line(
            "turns that completed exactly once, with one answer",
            format!("{} of {}", self.turns - wrong.len(), self.turns),
        );
        if wrong.is_empty() {
            return Ok(());
        }
        wrong
            .iter()
            .take(10)
            .for_each(|wrong| println!("  WRONG: {wrong}"));
        let log = self.daemon.log();
        let lines: Vec<_> = log.lines().collect();
        let from = lines.len().saturating_sub(40);
        Err(anyhow!(
            "{} turns went wrong; the daemon's last words:\n{}",
            wrong.len(),
            lines[from..].join("\n")
        ))
    }

    /// Returns a description of each session that does not show exactly one completed turn, one
    /// restart notice and one answer of the model.
    async fn check(&self) -> Vec<String> {
        let mut answers: HashMap<String, [u64; 2]> = HashMap::new();
        for call in self.model.calls() {
            let counts = answers.entry(call.last().to_owned()).or_default();
            match call.state {
                CallState::Answered => counts[0] += 1,
                CallState::Running | CallState::Cancelled => counts[1] += 1,
            }
        }
        let mut wrong = Vec::new();
        for n in 0..self.turns {
            let id = session(n);
            let events = self.client.events(&id, 0).await;
            let done = events.iter().filter(|event| event.is_turn("completed"));
            let failed = events.iter().filter(|event| event.is_turn("failed"));
            let texts = events.iter().filter(|event| event.is_from("assistant"));
            let texts: Vec<_> = texts.map(|event| event.said()).collect();
            let notices = events.iter().filter(|event| event.kind == "notice");
            let acts = events.iter().filter(|e| e.name.as_deref() == Some("act"));
            let acts = acts.filter_map(|event| event.data.as_ref());
            let values: Vec<_> = acts.map(|data| data["value"].clone()).collect();
            let model = answers.get(&format!("user: {}", question(n)));
            let counts = [done.count(), failed.count(), notices.count()];
            let seen = (counts, &texts[..], &values[..], model);
            let end = format!("done {id} #1");
            let answer = Value::String(format!("re: {}", question(n)));
            if seen != ([1, 0, 1], &[end.as_str()], &[answer], Some(&[1, 1])) {
                wrong.push(format!("{id}: {seen:?}"));
            }
        }
        wrong
    }
}

fn report(record: &Value) {
    let (drain, phases) = (&record["drain"], &record["phases"]);
    let relaunch = &record["relaunch"];
    line("sessions active", record["active"].to_string());
    line("standby ready", format!("{} ms", phases["standby_ms"]));
    line(
        "drain",
        format!(
            "{} ms: {} waited for, {} frozen, {} cut, {} idle",
            phases["drain_ms"], drain["waited_for"], drain["frozen"], drain["cut"], drain["idle"]
        ),
    );
    line(
        "hand-over; pause",
        format!("{} ms; {} ms", phases["handover_ms"], phases["pause_ms"]),
    );
    line(
        "relaunch",
        format!(
            "{} ms: {} restored, {} turns run again, {} faulted, {} lesser",
            phases["relaunch_ms"],
            relaunch["restored"],
            relaunch["resumed_turns"],
            relaunch["faulted"],
            relaunch["lesser"].as_array().map_or(0, Vec::len)
        ),
    );
}
