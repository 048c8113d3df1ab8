//! A daemon in which there is something of everything that the API shows.

use abide_tests::{Daemon, Plugin, Setup, tool_server, until};
use serde_json::{Value, json};

/// The token that the configuration names.
const CONFIGURED: &str = "the-token-of-the-configuration";
/// How many sessions of each kind there are. Some are closed on the way, which is for ever.
const SESSIONS: usize = 24;

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Anybody, where no token is configured.
    Anybody,
    /// The holder of the configuration's token, who may do everything.
    Configured,
    /// The holder of an access token of that role.
    Client,
    Viewer,
}

impl Caller {
    pub(crate) const ALL: [Self; 4] = [Self::Anybody, Self::Configured, Self::Client, Self::Viewer];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Anybody => "anybody",
            Self::Configured => "config",
            Self::Client => "client",
            Self::Viewer => "viewer",
        }
    }
}

/// A daemon with data.
pub(crate) struct World {
    pub(crate) daemon: Daemon,
    /// The token of the caller; none if the daemon asks for none.
    pub(crate) token: Option<String>,
    /// Names that requests are given, so that they find something: by the name of their list.
    pub(crate) names: Vec<(&'static str, Vec<String>)>,
}

impl World {
    pub(crate) async fn build(caller: Caller) -> Self {
        let token = (caller != Caller::Anybody).then(|| CONFIGURED.to_owned());
        let server = tool_server();
        let setup = Setup {
            token: token.clone(),
            daemon: vec!["probation = \"100ms\"".to_owned()],
            rest: vec![format!(
                "[mcp.t]\ncommand = [{server:?}]\nask = [\"record\"]"
            )],
            ..Setup::default()
        };
        let setup = setup
            .grace("1s")
            .plugin(Plugin::new("scripted").with_tools());
        let daemon = Daemon::start(setup).await;
        // Tokens can be made, and restarts have ended, once it is past its probation.
        until("the end of the probation", async || {
            (daemon.status().await["format"] == 2).then_some(())
        })
        .await;
        let sessions = fill(&daemon).await;
        let token = match caller {
            Caller::Anybody | Caller::Configured => token,
            Caller::Client | Caller::Viewer => Some(secret(&daemon, caller.name()).await),
        };
        let approvals = (0..SESSIONS).map(|n| format!("asked-{n}:1.1.0")).collect();
        let numbers = (1..5).map(|n| format!("m{n}")).collect();
        let names = vec![
            ("sessions", sessions),
            ("approvals", approvals),
            ("messages", numbers),
            ("cursors", (0..3).map(|n| n.to_string()).collect()),
            ("plugins", vec!["echo".to_owned(), "scripted".to_owned()]),
            ("tokens", (0..4).map(|n| format!("spare-{n}")).collect()),
        ];
        if caller == Caller::Configured {
            for n in 0..4 {
                secret_of(&daemon, &format!("spare-{n}"), "viewer").await;
            }
        }
        Self {
            daemon,
            token,
            names,
        }
    }
}

/// Makes sessions of every kind. Returns their ids.
async fn fill(daemon: &Daemon) -> Vec<String> {
    let client = daemon.client();
    let mut ids = Vec::new();
    for n in 0..SESSIONS {
        let echo = format!("echo-{n}");
        client.open(&echo, "echo").await;
        client.chat(&echo, "hello").await;
        // A dead letter, a timer, a turn with a step, and a call that waits for a human.
        let acts = [
            (
                "failed",
                json!([{"act": "fail", "reason": "as it was told to"}]),
            ),
            (
                "stepped",
                json!([
                    {"act": "call", "tool": "note", "token": "x"},
                    {"act": "timer", "name": "later", "after_ms": 3_600_000, "script": {"id": "t"}},
                ]),
            ),
            (
                "asked",
                json!([{"act": "call", "tool": "record", "token": "y"}]),
            ),
        ];
        ids.push(echo);
        for (kind, acts) in acts {
            let id = format!("{kind}-{n}");
            client.open(&id, "scripted").await;
            let script = json!({"id": id, "acts": acts}).to_string();
            client.say(&id, &script, None).await.expect("accepted");
            ids.push(id);
        }
    }
    until("all calls that wait for a human", async || {
        let waiting = client.get("/v1/approvals").await.ok()?.expect(200);
        (waiting["items"].as_array()?.len() == SESSIONS).then_some(())
    })
    .await;
    ids
}

/// Makes a token of that role and name.
async fn secret(daemon: &Daemon, role: &str) -> String {
    secret_of(daemon, role, role).await
}

async fn secret_of(daemon: &Daemon, name: &str, role: &str) -> String {
    let request = json!({"name": name, "role": role});
    let made = daemon.client().post("/v1/tokens", &request).await;
    let made: Value = made.expect("an answer").expect(201);
    made["secret"].as_str().expect("a secret").to_owned()
}
