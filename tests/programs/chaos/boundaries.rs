//! Every boundary of one representative turn: traced once, then killed at, one after the other.

use std::fs;

use abide_tests::checker::program::{Arm, Who};
use abide_tests::checker::{Act, Facts, Script, ScriptedCall, Tool, check_history};
use anyhow::anyhow;
use tokio::task::JoinSet;

use crate::clients::say;
use crate::scene::Scene;
use crate::stage::{ChaosParts, ChaosStage, StageSettings};

const SESSION: &str = "s0";
/// The turn under test: the first one is the probe that opens the scene.
const TURN: u64 = 2;
/// Long enough for anything that the turn does.
const GRACE_MS: u64 = 2000;

/// Which processes die in a pass, and whether unsynced data is lost too.
const PASSES: &[(&str, Who, bool)] = &[
    ("the worker is killed", Who::Worker, false),
    ("worker and supervisor are killed", Who::Both, false),
    ("both are killed, and the power is cut", Who::Both, true),
];

/// The calls of the turn, by token, in the order of the table's columns.
const TOKENS: &[&str] = &["record", "note", "all-record", "all-note"];

/// The outcome of the turn.
struct BoundaryRow {
    n: u64,
    /// The failpoint that fired; `None` if the crossing was not reached.
    point: Option<String>,
    /// Whether the client had received its acknowledgement before the kill.
    acknowledged: bool,
    /// The last attempt that a delta reported.
    attempts: u64,
    /// The number of executions of each call.
    executions: Vec<usize>,
    unknown: u64,
    /// The turns in which the session was notified of a generation.
    notices: Vec<String>,
    wrong: Vec<String>,
}

/// Runs all passes. Returns whether nothing is wrong.
pub(crate) async fn run(means: &ChaosParts, jobs: usize) -> anyhow::Result<bool> {
    let points = trace(means).await?;
    println!("the turn crosses {} boundaries", points.len());
    let mut well = true;
    for (what, who, power) in PASSES {
        println!("\n{what}, at each crossing:");
        println!(
            "{:>4} {:<22} {:>5} {:>8}  {:<31} {:>7}  {:<14} verdict",
            "n",
            "point",
            "acked",
            "attempts",
            TOKENS.join(" "),
            "unknown",
            "told"
        );
        let mut rows = Vec::new();
        let mut running = JoinSet::new();
        let mut next = 1..=points.len() as u64;
        loop {
            while running.len() < jobs {
                let Some(n) = next.next() else { break };
                let arm = Arm {
                    pattern: "*".to_owned(),
                    n,
                    who: *who,
                };
                running.spawn(kill_at(means.clone(), arm, *power));
            }
            let Some(row) = running.join_next().await else {
                break;
            };
            // The message of the panic identifies the crossing.
            rows.push(row?);
        }
        rows.sort_by_key(|row| row.n);
        for row in &rows {
            well &= row.wrong.is_empty();
            row.print(&points[row.n as usize - 1]);
        }
    }
    Ok(well)
}

/// Returns the script of the turn: a step of each kind, and everything that is buffered.
fn script(means: &ChaosParts) -> Script {
    let mut acts = Vec::new();
    if means.tools.is_some() {
        acts.push(Act::Call(ScriptedCall::new(Tool::Record, TOKENS[0])));
        acts.push(Act::Call(ScriptedCall::new(Tool::Note, TOKENS[1])));
    }
    acts.push(Act::Llm {
        text: "what now?".to_owned(),
    });
    if means.tools.is_some() {
        acts.push(Act::CallAll {
            calls: vec![
                ScriptedCall::new(Tool::Record, TOKENS[2]),
                ScriptedCall::new(Tool::Note, TOKENS[3]),
            ],
        });
    }
    acts.push(Act::Timer {
        name: "t".to_owned(),
        after_ms: 50,
        script: Script {
            id: "timed".to_owned(),
            acts: vec![Act::Say {
                text: "ring".to_owned(),
            }],
        },
    });
    acts.push(Act::Say {
        text: "that is all".to_owned(),
    });
    Script {
        id: "turn".to_owned(),
        acts,
    }
}

async fn open(name: &str, cuts: bool, means: &ChaosParts) -> Scene {
    let settings = StageSettings {
        grace_ms: GRACE_MS,
        probation_ms: None,
        cuts,
    };
    let stage = ChaosStage::new(name, settings, means).await;
    Scene::open(stage, &[SESSION.to_owned()]).await
}

/// Returns the names of the failpoints that the turn crosses, including its timer's, in order.
async fn trace(means: &ChaosParts) -> anyhow::Result<Vec<String>> {
    let mut scene = open("trace", false, means).await;
    let path = scene.stage.folder.join("faults/trace");
    fs::write(&path, "")?;
    let result = say(&scene.stage.client, SESSION, script(means), false).await;
    scene.said(vec![(0, result)]);
    scene.finish().await;
    let points = fs::read_to_string(&path)?;
    let points: Vec<_> = points.lines().map(str::to_owned).collect();
    fs::remove_file(&path)?;
    let (stage, facts) = scene.end().await;
    let verdict = check_history(&facts);
    if let Some(wrong) = verdict.violations.first() {
        return Err(anyhow!("already undisturbed something is wrong: {wrong}"));
    }
    stage.clean();
    if points.is_empty() {
        return Err(anyhow!(
            "no point was crossed: build the daemon with `--features abide/faults`"
        ));
    }
    Ok(points)
}

async fn kill_at(means: ChaosParts, arm: Arm, power: bool) -> BoundaryRow {
    let n = arm.n;
    let mut scene = open(&format!("boundary-{n}"), power, &means).await;
    scene.stage.arm(arm, power);
    // The first request may be followed by retries: no error means that it was acknowledged before
    // the kill.
    let client = scene.stage.daemon.client();
    let posting = tokio::spawn({
        let script = script(&means);
        async move {
            let result = say(&client, SESSION, script, false).await;
            (result, client.tally.troubles() == 0)
        }
    });
    while !posting.is_finished() {
        scene.stage.tend(5).await;
    }
    let (result, acknowledged) = posting.await.expect("a client does not panic");
    scene.said(vec![(0, result)]);
    scene.finish().await;
    let (_, point) = scene.stage.fired();
    scene.stage.disarm();
    if scene.finish().await {
        scene.probe().await;
    }
    let attempts = scene.subscribers[0].attempts(TURN);
    let (stage, facts) = scene.end().await;
    let verdict = check_history(&facts);
    let row = BoundaryRow {
        n,
        point,
        acknowledged,
        attempts,
        executions: executions(&facts),
        unknown: verdict.counts["unknown told"],
        notices: notices(&facts),
        wrong: verdict.violations.iter().map(ToString::to_string).collect(),
    };
    match row.wrong.is_empty() {
        true => stage.clean(),
        false => println!("kept: {}", stage.folder.display()),
    }
    row
}

fn executions(facts: &Facts) -> Vec<usize> {
    let of = |token: &&str| {
        let all = facts.executions.iter();
        all.filter(|execution| execution.token == **token).count()
    };
    TOKENS.iter().map(of).collect()
}

/// Returns the turns that were notified of a restart, as `turn N`.
fn notices(facts: &Facts) -> Vec<String> {
    let events = facts.sessions.iter().flat_map(|session| &session.events);
    let notices = events.filter(|event| event.kind == "notice");
    notices
        .map(|event| format!("turn {}", event.turn.unwrap_or_default()))
        .collect()
}

impl BoundaryRow {
    fn print(&self, traced: &str) {
        let point = match &self.point {
            // The failpoint that really fired: it may differ from the trace where syncs are shared.
            Some(fired) => fired.split(' ').next().unwrap_or(fired).to_owned(),
            None => format!("({traced})"),
        };
        let executions: String = TOKENS
            .iter()
            .zip(&self.executions)
            .map(|(token, times)| format!("{times:<width$}", width = token.len() + 1))
            .collect();
        let verdict = match (&self.point, self.wrong.is_empty()) {
            (_, false) => format!("WRONG: {}", self.wrong.join("; ")),
            (None, true) => "not reached".to_owned(),
            (Some(_), true) => "well".to_owned(),
        };
        println!(
            "{:>4} {point:<22} {:>5} {:>8}  {executions:<31} {:>7}  {:<14} {verdict}",
            self.n,
            if self.acknowledged { "yes" } else { "no" },
            self.attempts,
            self.unknown,
            self.notices.join(", "),
        );
    }
}
