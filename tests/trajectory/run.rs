//! One agent that carries out the plan under a daemon of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use abide_tests::{Client, Daemon, Event, FakeModel, Setup};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::disturb::{Disturbance, until_at_last};
use crate::npm::Servers;
use crate::plan::plan;
use crate::script::follow;
use crate::transcript::Transcript;

const SESSION: &str = "agent";
/// How long the model takes to answer: there must be something to disturb.
pub(crate) const ANSWER: Duration = Duration::from_millis(40);

/// What came of it.
pub(crate) struct Outcome {
    /// Files by path, with their content; a folder's is none.
    pub(crate) files: BTreeMap<String, Option<String>>,
    pub(crate) transcript: Transcript,
    /// How the turn ended.
    pub(crate) status: String,
    /// What it said.
    pub(crate) said: Vec<String>,
    pub(crate) model_calls: usize,
    pub(crate) took: Duration,
    /// The daemon's log.
    pub(crate) log: String,
}

/// Carries out the plan.
pub(crate) async fn run(servers: &Servers, disturbances: &[Disturbance]) -> Outcome {
    let folder = tempfile::tempdir().expect("the machine has a folder for temporary files");
    let path = folder.path().canonicalize().expect("it is there");
    let files = path.join("files");
    fs::create_dir(&files).expect("the folder is ours");

    let step = Arc::new(watch::Sender::new(0));
    let (reached, steps) = (step.clone(), plan());
    let model = FakeModel::scripted(move |messages| {
        let (step, answer) = follow(&steps, messages);
        // Counted from 1: nothing has begun yet at 0.
        reached.send_if_modified(|reached| {
            let further = step + 1 > *reached;
            *reached = (*reached).max(step + 1);
            further
        });
        answer
    })
    .await;
    let mut setup = Setup::default().assistant(&model).grace("2s");
    for plugin in setup
        .plugins
        .iter_mut()
        .filter(|plugin| plugin.name == "assistant")
    {
        let tools = r#"tools = ["files", "everything"]"#;
        plugin.capabilities.push(tools.to_owned());
    }
    setup.rest.extend(servers.sections(&files));

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
    for disturbance in disturbances {
        println!("  {disturbance}");
        disturbance.strike(&mut daemon, &step).await;
    }
    let events = until_at_last("the turn's end", async || ended(&client, &message).await).await;
    let took = started.elapsed();

    let calls = model.calls();
    let last = calls
        .last()
        .map_or(Value::Null, |call| call.request["messages"].clone());
    let last = last.as_array().cloned().unwrap_or_default();
    let mut transcript = Transcript::read(&last, &files.display().to_string());
    let end = events.iter().find(|event| event.ends(&message));
    let said: Vec<_> = events
        .iter()
        .filter(|event| event.is_from("assistant"))
        .map(|event| event.said().to_owned())
        .collect();
    transcript.said.extend(said.iter().cloned());
    Outcome {
        files: tree(&files),
        transcript,
        status: end.and_then(|end| end.status.clone()).unwrap_or_default(),
        said,
        model_calls: calls.len(),
        took,
        log: daemon.log(),
    }
}

/// All events, once the turn over that message has ended. The daemon may be away meanwhile.
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

/// All that is below a folder.
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
