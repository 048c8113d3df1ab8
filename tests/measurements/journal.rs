//! Measures what the journal costs: the same turns with and without steps, alternating.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use abide_tests::{Client, Daemon, tool_server};
use serde_json::{Value, json};

use crate::disk::{self, Syncs};
use crate::told::{chapter, line, load, median};
use crate::{parallel, proc, scripted, tool};

/// Numbers of sessions that take turns concurrently.
const SESSIONS: &[usize] = &[1, 16];
/// How many rounds each kind of turn is measured in; figures are medians.
const ROUNDS: usize = 5;

/// A kind of turn.
struct TurnKind {
    name: &'static str,
    acts: fn() -> Value,
    steps: u32,
}

fn times(count: usize, act: &Value) -> Value {
    vec![act.clone(); count].into()
}

fn call(tool: &str) -> Value {
    json!({"act": "call", "tool": tool, "token": "x"})
}

/// The first kind is the baseline of the others. Each act of the guest emits one event, so acts
/// that are not steps show what an event alone costs.
const KINDS: &[TurnKind] = &[
    TurnKind {
        name: "no step",
        acts: || json!([]),
        steps: 0,
    },
    TurnKind {
        name: "no step, 5 events",
        acts: || times(5, &json!({"act": "clock"})),
        steps: 0,
    },
    TurnKind {
        name: "1 receive",
        acts: || times(1, &json!({"act": "receive"})),
        steps: 1,
    },
    TurnKind {
        name: "5 receives",
        acts: || times(5, &json!({"act": "receive"})),
        steps: 5,
    },
    TurnKind {
        name: "1 tool call, repeatable",
        acts: || times(1, &call("look")),
        steps: 1,
    },
    TurnKind {
        name: "1 tool call, not repeatable",
        acts: || times(1, &call("record")),
        steps: 1,
    },
    TurnKind {
        name: "5 tool calls, repeatable",
        acts: || times(5, &call("look")),
        steps: 5,
    },
    TurnKind {
        name: "5 tool calls, not repeatable",
        acts: || times(5, &call("record")),
        steps: 5,
    },
];

/// The result of one round of one kind: figures per second or per turn.
#[derive(Clone, Copy)]
struct Go {
    turns_per_s: f64,
    syncs: f64,
    cpu_us: f64,
    written_bytes: f64,
}

struct JournalBench {
    daemon: Daemon,
    client: Client,
    syncs: Syncs,
    worker: i32,
}

/// Measures all kinds; each round of a kind takes `seconds`.
pub(crate) async fn measure(seconds: u64) -> anyhow::Result<()> {
    let time = Duration::from_secs(seconds);
    let syncs = Syncs::new()?;
    let mut setup = scripted(&["tools = [\"t\"]"]);
    // Without a log to write, the tool does nothing: only the daemon is measured.
    let server = tool_server();
    setup.rest.push(format!("[mcp.t]\ncommand = [{server:?}]"));
    setup.env.extend(syncs.env());
    let daemon = Daemon::start(setup).await;
    let client = daemon.client();
    let worker = daemon.worker_pid().await;
    let bench = JournalBench {
        daemon,
        client,
        syncs,
        worker,
    };
    let cost = disk::sync_cost();
    chapter("the journal's cost");
    load();
    line(
        "appending 512 bytes and syncing them takes",
        format!("{} us", cost.as_micros()),
    );
    let most = SESSIONS.iter().copied().max().unwrap_or(1);
    parallel::for_each(most, most, |n| {
        let client = bench.client.clone();
        async move {
            client.open(&format!("s{n}"), "scripted").await;
            // Warm up: compile the guest, start the tool server and connect to it.
            for kind in KINDS {
                take(&client, n, kind).await;
            }
        }
    })
    .await;
    for &sessions in SESSIONS {
        bench.table(sessions, time).await;
    }
    drop(bench.daemon);
    Ok(())
}

/// Takes one turn of a kind, and checks that every act succeeded.
async fn take(client: &Client, n: usize, kind: &TurnKind) {
    let script = json!({"id": "j", "acts": (kind.acts)()}).to_string();
    let done = client.chat(&format!("s{n}"), &script).await;
    let ok = done.output.iter().filter_map(|event| event.data.as_ref());
    let ok = ok.filter(|data| data["result"] == "ok").count();
    let acts = (kind.acts)().as_array().map_or(0, Vec::len);
    assert_eq!(ok, acts, "{}: {:?}", kind.name, done.output);
}

impl JournalBench {
    async fn table(&self, sessions: usize, time: Duration) {
        let plural = if sessions == 1 { "" } else { "s" };
        chapter(&format!(
            "{sessions} session{plural} at once, medians of {ROUNDS} goes of {} s",
            time.as_secs()
        ));
        let mut goes: Vec<Vec<Go>> = KINDS.iter().map(|_| Vec::new()).collect();
        let mut direct = Vec::new();
        for _ in 0..ROUNDS {
            for (kind, goes) in KINDS.iter().zip(&mut goes) {
                goes.push(self.go(kind, sessions, time).await);
            }
            direct.push(tool::rate(sessions, time).await);
        }
        println!(
            "  {:<30} {:>8} {:>6} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "a turn with", "turns/s", "ratio", "us more", "us a step", "syncs", "CPU us", "KiB"
        );
        let of = |goes: &[Go], figure: fn(&Go) -> f64| median(goes.iter().map(figure).collect());
        // The time of one session's turn, in microseconds.
        let wait = |rate: f64| sessions as f64 / rate * 1e6;
        let base = of(&goes[0], |go| go.turns_per_s);
        for (kind, goes) in KINDS.iter().zip(&goes) {
            let rate = of(goes, |go| go.turns_per_s);
            let more = wait(rate) - wait(base);
            let a_step = match kind.steps {
                0 => "-".to_owned(),
                steps => format!("{:.0}", more / f64::from(steps)),
            };
            println!(
                "  {:<30} {rate:>8.0} {:>6.2} {more:>9.0} {a_step:>9} {:>9.2} {:>9.0} {:>9.1}",
                kind.name,
                rate / base,
                of(goes, |go| go.syncs),
                of(goes, |go| go.cpu_us),
                of(goes, |go| go.written_bytes) / 1024.0,
            );
        }
        let direct = median(direct);
        line(
            "the same tool, called without a daemon",
            format!("{direct:.0} calls/s ({:.0} us each)", wait(direct)),
        );
    }

    async fn go(&self, kind: &'static TurnKind, sessions: usize, time: Duration) -> Go {
        let turns = Arc::new(AtomicU64::new(0));
        let syncs = self.syncs.count();
        let cpu = proc::cpu(self.worker);
        let written = proc::written_bytes(self.worker);
        let began = Instant::now();
        parallel::for_each(sessions, sessions, |n| {
            let (client, turns) = (self.client.clone(), turns.clone());
            async move {
                while began.elapsed() < time {
                    take(&client, n, kind).await;
                    turns.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
        .await;
        let took = began.elapsed();
        let turns = turns.load(Ordering::Relaxed) as f64;
        let written = proc::written_bytes(self.worker) - written;
        Go {
            turns_per_s: turns / took.as_secs_f64(),
            syncs: (self.syncs.count() - syncs) as f64 / turns,
            cpu_us: (proc::cpu(self.worker) - cpu).as_micros() as f64 / turns,
            written_bytes: written as f64 / turns,
        }
    }
}
