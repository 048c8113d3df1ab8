//! A daemon on a data folder of its own or on a golden one, with a model, and with tools that log their
//! effects outside of that folder.

use std::fs;
use std::path::PathBuf;

use abide_tests::{Daemon, Event, FakeModel, Plugin, Setup, Signal, signal, tool_server, until};
use reqwest::{Method, header};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The name under which the model holds the answer of the open turn.
pub(super) const HELD: &str = "golden";

pub(super) struct GoldenStage {
    pub(super) daemon: Daemon,
    pub(super) model: FakeModel,
    effects: TempDir,
}

impl GoldenStage {
    /// Starts a daemon, of that binary, whose probation does not end.
    pub(super) async fn start(folder: TempDir, binary: Option<PathBuf>) -> Self {
        let model = FakeModel::start().await;
        let effects = tempfile::tempdir().expect("the machine has a folder for temporary files");
        let setup = Setup {
            model: Some(model.base_url()),
            plugins: vec![Plugin::new("scripted").with_model_and_tools()],
            grace: "500ms".to_owned(),
            daemon: vec!["probation = \"10m\"".to_owned()],
            binary,
            ..Setup::default()
        };
        let mut setup = setup.recording_tools(&tool_server(), &effects.path().join("effects"));
        let tools = setup.rest.last_mut().expect("the tools are there");
        // The approval in a golden folder waits for as long as the folder is kept.
        tools.push_str("\nask = [\"note\"]\nask_timeout = \"3650days\"\n");
        Self {
            daemon: Daemon::start_in(folder, setup).await,
            model,
            effects,
        }
    }

    /// Sends a script to a session. Returns its message's id.
    pub(super) async fn send(&self, session: &str, id: &str, acts: Value) -> String {
        let script = json!({"id": id, "acts": acts}).to_string();
        let posted = self.daemon.client().say(session, &script, None).await;
        posted.expect("it is acknowledged").message
    }

    /// Sends a script to a session, and waits for its turn. Returns the turn's events.
    pub(super) async fn perform(&self, session: &str, id: &str, acts: Value) -> Vec<Event> {
        let message = self.send(session, id, acts).await;
        self.turn_of(session, &message).await
    }

    /// Waits for the turn of a message. Returns its events.
    pub(super) async fn turn_of(&self, session: &str, message: &str) -> Vec<Event> {
        let client = self.daemon.client();
        let events = client.events_once_ended(session, message).await;
        let end = events.iter().find(|event| event.ends(message));
        let turn = end.expect("it was waited for").turn;
        events.into_iter().filter(|e| e.turn == turn).collect()
    }

    /// Waits until an approval is asked for. Returns its id.
    pub(super) async fn approval(&self) -> String {
        until("an approval", async || {
            let page = self.daemon.client().get("/v1/approvals").await.ok()?;
            Some(page.body["items"][0]["id"].as_str()?.to_owned())
        })
        .await
    }

    /// Returns how often a token's tool ran since this daemon's start.
    pub(super) fn executions(&self, token: &str) -> usize {
        let log = fs::read_to_string(self.effects.path().join("effects")).unwrap_or_default();
        let tokens = log.lines().filter_map(|line| line.split_once('\t'));
        tokens.filter(|(of, _)| *of == token).count()
    }

    /// Returns the whole answer to `GET path`.
    pub(super) async fn get(&self, path: &str) -> Value {
        let client = self.daemon.client();
        let request = client.request(Method::GET, path);
        let request = request.header(header::ACCEPT, "application/json");
        client.send(request).await.expect("an answer").expect(200)
    }

    /// Returns all events of a session, as they are sent.
    pub(super) async fn events(&self, session: &str) -> Value {
        let path = format!("/v1/sessions/{session}/events?limit=1000");
        self.get(&path).await["items"].clone()
    }

    /// Returns the content of the file `FORMAT`.
    pub(super) fn format(&self) -> String {
        let file = self.daemon.folder().join("data/FORMAT");
        fs::read_to_string(file).expect("a store has a format")
    }

    /// Kills all processes at once.
    pub(super) async fn kill(&mut self) {
        let worker = self.daemon.worker_pid().await;
        signal(self.daemon.supervisor_pid(), Signal::KILL);
        signal(worker, Signal::KILL);
        self.daemon.ended().await;
    }
}
