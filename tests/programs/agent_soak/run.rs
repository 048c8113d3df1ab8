//! Runs one agent that carries out the plan under a daemon of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use abide_tests::{Client, Daemon, Event, FakeModel, ModelFault, Rule, Rules, Setup};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::disturb::{Met, SoakDisturbance, until_at_last};
use crate::npm::Servers;
use crate::plan::plan;
use crate::relay::{self, Line};
use crate::script::{follow, own};
use crate::transcript::Transcript;

const SESSION: &str = "agent";
/// The environment variable that keeps the daemons' directories for inspection.
const KEEP: &str = "ABIDE_KEEP";
/// How long the model takes to answer: long enough to be disturbed.
pub(crate) const ANSWER: Duration = Duration::from_millis(40);

/// The outcome of a run.
pub(crate) struct RunOutcome {
    /// Files by path, with their content; `None` for a directory.
    pub(crate) files: BTreeMap<String, Option<String>>,
    pub(crate) transcript: Transcript,
    /// The turn's final status.
    pub(crate) status: String,
    /// The texts of the agent.
    pub(crate) said: Vec<String>,
    pub(crate) model_calls: usize,
    /// The log of the relays in front of the tool servers.
    pub(crate) relayed: Vec<Line>,
    /// The agent's state at each disturbance.
    pub(crate) met: Vec<Met>,
    /// Number of generations that a changed configuration started. A kill in the middle of a change
    /// may leave it to the daemon's next start, or get it refused.
    pub(crate) changes: usize,
    /// Descriptions of what is wrong with the session's events.
    pub(crate) wrong_events: Vec<String>,
    /// The turn, as the daemon's API shows it.
    pub(crate) turn: Value,
    /// The result of replaying the turn offline.
    pub(crate) replay: Value,
    pub(crate) took: Duration,
    pub(crate) log: String,
}

/// Carries out the plan under these disturbances.
pub(crate) async fn run(servers: &Servers, disturbances: &[SoakDisturbance]) -> RunOutcome {
    let mut folder = tempfile::tempdir().expect("the machine has a folder for temporary files");
    if std::env::var_os(KEEP).is_some() {
        folder.disable_cleanup(true);
        eprintln!("kept: {}", folder.path().display());
    }
    let path = folder.path().canonicalize().expect("it is there");
    let files = path.join("files");
    fs::create_dir(&files).expect("the folder is ours");

    let step = Arc::new(watch::Sender::new(0));
    // Both refuse everything that real servers refuse, each in its own way.
    let model = model(&step, Rules::all().but(Rule::IdsOfNine)).await;
    let fallback = self::model(&step, Rules::all().and(Rule::NoStreamOptions)).await;
    let mut setup = Setup::default().assistant(&model).grace("2s");
    for plugin in setup
        .plugins
        .iter_mut()
        .filter(|plugin| plugin.name == "assistant")
    {
        let tools = r#"tools = ["files", "everything"]"#;
        plugin.capabilities.push(tools.to_owned());
    }
    let url = fallback.base_url();
    setup.rest = vec![
        "retries = 0\nfallback = \"other\"".to_owned(),
        format!("[llm.other]\nbase_url = \"{url}\"\nmodel = \"fake\""),
    ];
    let log = path.join("relayed.jsonl");
    setup.rest.extend(servers.sections(&files, &log));

    let mut daemon = Daemon::start_in(folder, setup).await;
    let client = daemon.client();
    let args = json!({"max_rounds": 500, "history_bytes": 512 << 10});
    let body = json!({"plugin": "assistant", "args": args});
    let reply = client.put(SESSION, &body).await;
    reply.expect("the daemon answers").expect(201);
    let started = Instant::now();
    let task = format!("Carry out the plan. [delay={}]", ANSWER.as_millis());
    let posted = client.say(SESSION, &task, Some("task")).await;
    let message = posted.expect("the task is accepted").message;
    let mut met = Vec::new();
    let end =
        async || until_at_last("the turn's end", async || ended(&client, &message).await).await;
    for disturbance in disturbances {
        let seen = relay::read(&log).len();
        // Make the first model server fail now and then.
        model.fail([ModelFault::status(500)]);
        tokio::select! {
            biased;
            () = disturbance.until_due(&step) => {}
            // The turn ended early: nothing is left to disturb.
            _ = end() => break,
        }
        met.push(disturbance.strike(&mut daemon, &log, seen).await);
    }
    let events = end().await;
    let took = started.elapsed();

    let calls = [model.calls(), fallback.calls()].concat();
    let last = calls.iter().max_by_key(|call| call.at);
    let last = last.map_or(Value::Null, |call| call.request["messages"].clone());
    let last = own(&plan(), last.as_array().map_or(&[][..], Vec::as_slice));
    let mut transcript = Transcript::read(&last, &files.display().to_string());
    let refused = [model.violations(), fallback.violations()].concat();
    // A refusal of `stream_options` by the fallback is legitimate: the daemon repeats the request
    // without the parameter.
    let refused = refused
        .iter()
        .filter(|one| one.rule != Some(Rule::NoStreamOptions));
    let refused = refused.map(|one| format!("refused by a model's server: {}", one.body));
    transcript.wrong.extend(refused);
    let end = events.iter().find(|event| event.ends(&message));
    let texts: Vec<_> = events
        .iter()
        .filter(|event| event.is_from("assistant"))
        .map(|event| event.said().to_owned())
        .collect();
    transcript.said.extend(texts.iter().cloned());
    let wrong_events = wrong(&events, transcript.recoveries);
    let restarts = client.get("/v1/daemon/restarts?limit=100").await;
    let restarts = restarts.map_or(Value::Null, |reply| reply.body);
    let restarts = restarts["items"].as_array().cloned().unwrap_or_default();
    let served = |record: &&Value| {
        let status = record["status"].as_str().unwrap_or_default();
        record["cause"] == "config" && ["completed", "probation"].contains(&status)
    };
    let changes = restarts.iter().filter(served).count();
    let path = |what| format!("/v1/sessions/{SESSION}/{what}");
    let turn = client.get(&path("turn")).await;
    let turn = turn.map_or(Value::Null, |reply| reply.body);
    let replay = client.post(&path("replay"), &json!({})).await;
    let replay = replay.map_or(Value::Null, |reply| reply.body);
    RunOutcome {
        files: tree(&files),
        transcript,
        status: end.and_then(|end| end.status.clone()).unwrap_or_default(),
        said: texts,
        model_calls: calls.len(),
        relayed: relay::read(&log),
        met,
        changes,
        wrong_events,
        turn,
        replay,
        took,
        log: daemon.log(),
    }
}

/// Starts a server whose model follows the plan, and reports the step that it has reached: counted
/// from 1, because 0 means that nothing has begun.
async fn model(reached: &Arc<watch::Sender<usize>>, rules: Rules) -> FakeModel {
    let (reached, steps) = (reached.clone(), plan());
    let script = move |messages: &[Value]| {
        let (step, answer) = follow(&steps, messages);
        reached.send_if_modified(|reached| {
            let further = step + 1 > *reached;
            *reached = (*reached).max(step + 1);
            further
        });
        answer
    };
    FakeModel::strict_scripted(rules, script).await
}

/// Returns all events, once the turn for that message has ended. The daemon may be down meanwhile.
async fn ended(client: &Client, message: &str) -> Option<Vec<Event>> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let after = events.last().map_or(0, |event| event.cursor);
        let path = format!("/v1/sessions/{SESSION}/events?after={after}");
        let request = client
            .request(reqwest::Method::GET, &path)
            .header("accept", "application/json");
        let reply = client.send(request).await.ok()?;
        let page: Vec<Event> = serde_json::from_value(reply.body["items"].clone()).ok()?;
        if page.is_empty() {
            break;
        }
        events.extend(page);
    }
    let over = events.iter().any(|event| event.ends(message));
    over.then_some(events)
}

/// Returns what is wrong with the events of a session whose agent received `recoveries` recovery
/// messages.
fn wrong(events: &[Event], recoveries: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    let cursors = events.iter().map(|event| event.cursor);
    if !cursors.eq(1..=events.len() as u64) {
        wrong.push("the events' cursors have gaps".to_owned());
    }
    let notices = events.iter().filter(|event| event.kind == "notice").count();
    for (what, found, expected) in [
        ("turns started", count(events, "started"), 1),
        ("turns completed", count(events, "completed"), 1),
        ("recovery messages in the events", notices, recoveries),
    ] {
        if found != expected {
            wrong.push(format!("{what}: {found} instead of {expected}"));
        }
    }
    wrong
}

fn count(events: &[Event], status: &str) -> usize {
    events.iter().filter(|event| event.is_turn(status)).count()
}

/// Returns all files and directories below a directory.
fn tree(root: &Path) -> BTreeMap<String, Option<String>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is ours").flatten() {
            let path = entry.path();
            let name = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .display()
                .to_string();
            if path.is_dir() {
                found.insert(name, None);
                folders.push(path);
            } else {
                let text = fs::read(&path).expect("the file is ours");
                let text = String::from_utf8_lossy(&text).into_owned();
                found.insert(name, Some(text));
            }
        }
    }
    found
}
