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
            setup.plugins.push(Plugin {
                capabilities: vec!["llm = [\"local\"]".into(), "tools = [\"t\"]".into()],
                ..Plugin::new(guest)
            });
        }
        setup.rest.push(format!(
            "[mcp.t]\ncommand = [{:?}]\nenv = {{ ABIDE_TOOLS_LOG = \"ABIDE_TOOLS_LOG\" }}",
            tool_server()
        ));
        let log = world.path().join("tools.log");
        let log = log.to_str().expect("temporary folders have plain names");
        setup.env.push(("ABIDE_TOOLS_LOG".into(), log.into()));
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
