//! A daemon with the scripted guest, a tool server that records its executions, and a model.

use std::fs;
use std::path::PathBuf;

use abide_tests::{Client, Daemon, Event, FakeModel, Plugin, Setup, tool_server, until};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) struct Stage {
    pub(crate) daemon: Daemon,
    pub(crate) client: Client,
    pub(crate) model: FakeModel,
    /// Outside of the daemon's folder: the daemon cannot lose the record of what the tools did.
    world: TempDir,
}

impl Stage {
    /// Starts a stage, with a session `s` of the scripted guest.
    pub(crate) async fn start(change: impl FnOnce(Setup) -> Setup) -> Self {
        let world = tempfile::tempdir().expect("the machine has a folder for temporary files");
        let model = FakeModel::start().await;
        let mut setup = Setup {
            model: Some(model.base_url()),
            ..Setup::default()
        };
        for guest in ["scripted", "hostile"] {
            setup
                .plugins
                .push(Plugin::new(guest).with_model_and_tools());
        }
        let log = world.path().join("tools.log");
        let setup = setup.recording_tools(&tool_server(), &log);
        let daemon = Daemon::start(change(setup)).await;
        let client = daemon.client();
        client.open("s", "scripted").await;
        Self {
            daemon,
            client,
            model,
            world,
        }
    }

    /// Starts a stage whose model is this one, with a session `a` of the assistant that has these
    /// further lines of limits.
    pub(crate) async fn with_assistant(model: &FakeModel, limits: &[&str]) -> Self {
        let mut assistant = Plugin::new("assistant").with_model_and_tools();
        assistant.limits = limits.iter().map(|&line| line.to_owned()).collect();
        let url = model.base_url();
        let stage = Self::start(|mut setup| {
            setup.model = Some(url);
            setup.plugin(assistant)
        })
        .await;
        stage.client.open("a", "assistant").await;
        stage
    }

    /// Sends a script to `s`. Returns its message's id.
    pub(crate) async fn send(&self, id: &str, acts: Value) -> String {
        let script = json!({"id": id, "acts": acts}).to_string();
        let posted = self.client.say("s", &script, None).await;
        posted.expect("it is acknowledged").message
    }

    /// Sends a script to `s` and waits for its turn. Returns the turn's events.
    pub(crate) async fn perform(&self, id: &str, acts: Value) -> Vec<Event> {
        let message = self.send(id, acts).await;
        self.end_of(&message).await
    }

    /// Calls a tool in a turn of `s`, then checks that the session answers hello. Returns the
    /// result that the guest reports, and the tool's result.
    pub(crate) async fn call(&self, id: &str, tool: &str, token: &str) -> (String, String) {
        let script = json!([{"act": "call", "tool": tool, "token": token}]);
        let report = acts(&self.perform(id, script).await).remove(0);
        let turn = self.client.get("/v1/sessions/s/turn").await;
        let turn = turn.expect("an answer").expect(200);
        let result = turn["steps"][0]["parts"][0]["result"].as_str();
        let result = result.unwrap_or_default().to_owned();
        let hello = json!([{"act": "say", "text": "hello"}]);
        let greeted = self.perform(&format!("{id}, hello"), hello).await;
        assert_eq!(acts(&greeted), ["say  ok"], "after {id}");
        let outcome = report.strip_prefix(&format!("call {token} "));
        (outcome.expect("a call").to_owned(), result)
    }

    /// Waits until the daemon's status reports this state of a tool server. Returns the server's
    /// entry.
    pub(crate) async fn tool_server(&self, name: &str, state: &str) -> Value {
        until(&format!("{name} to be {state}"), async || {
            let status = self.daemon.status().await;
            let mut servers = status["tool_servers"].as_array()?.iter();
            let server = servers.find(|server| server["name"] == name)?.clone();
            (server["state"] == state).then_some(server)
        })
        .await
    }

    /// Waits for the end of a message's turn. Returns that turn's events.
    pub(crate) async fn end_of(&self, message: &str) -> Vec<Event> {
        let events = self
            .events_when(message, |events| events.iter().any(|e| e.ends(message)))
            .await;
        let end = events.iter().find(|event| event.ends(message));
        let turn = end.expect("it was waited for").turn;
        events.into_iter().filter(|e| e.turn == turn).collect()
    }

    /// Waits until the session's events satisfy a condition. Returns all of them.
    pub(crate) async fn events_when(
        &self,
        what: &str,
        condition: impl Fn(&[Event]) -> bool,
    ) -> Vec<Event> {
        until(what, async || {
            let events = self.client.events("s", 0).await;
            condition(&events).then_some(events)
        })
        .await
    }

    /// Waits until `count` tool events have this status.
    pub(crate) async fn tools(&self, status: &str, count: usize) {
        self.events_when(&format!("{count} tools {status}"), |events| {
            let of_status = events
                .iter()
                .filter(|event| event.kind == "tool" && event.status.as_deref() == Some(status));
            of_status.count() >= count
        })
        .await;
    }

    /// Returns the keys under which a token's tool ran, in order.
    pub(crate) fn executions(&self, token: &str) -> Vec<String> {
        let path: PathBuf = self.world.path().join("tools.log");
        let log = fs::read_to_string(path).unwrap_or_default();
        log.lines()
            .filter_map(|line| line.split_once('\t'))
            .filter(|(of, _)| *of == token)
            .map(|(_, key)| key.to_owned())
            .collect()
    }

    /// Waits until a token's tool has run.
    pub(crate) async fn executed(&self, token: &str) {
        until(&format!("{token} to be executed"), async || {
            (!self.executions(token).is_empty()).then_some(())
        })
        .await;
    }
}

/// Returns the result of each act in a turn's events: `kind token result`.
pub(crate) fn acts(events: &[Event]) -> Vec<String> {
    let acts = events.iter().filter(|e| e.name.as_deref() == Some("act"));
    acts.filter_map(|event| event.data.as_ref())
        .map(|data| {
            let text = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
            [text("kind"), text("token"), text("result")].join(" ")
        })
        .collect()
}

/// Returns the `notice` events in which the guest itself reported the notices that it received.
pub(crate) fn notices(events: &[Event]) -> Vec<Value> {
    let notices = events
        .iter()
        .filter(|e| e.kind == "custom" && e.name.as_deref() == Some("notice"));
    notices.filter_map(|event| event.data.clone()).collect()
}
