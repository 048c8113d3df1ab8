//! A daemon with strict model servers: with the assistant, the scripted guest, and a tool server
//! that offers the tools which a test defines.

use std::fs;

use abide_tests::{
    Answer, AskedCall, Client, Daemon, FakeModel, Plugin, Setup, message_text, tool_server,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stage::acts;

/// The assistant's session.
pub(crate) const ASSISTANT: &str = "s";
/// The scripted guest's session.
pub(crate) const SCRIPTED: &str = "scripted";

pub(crate) struct StrictStage {
    pub(crate) daemon: Daemon,
    pub(crate) client: Client,
    _world: TempDir,
}

/// The settings of the stage besides its providers.
#[derive(Default)]
pub(crate) struct Props {
    /// Arguments of the assistant's session.
    pub(crate) args: Value,
    /// Tools that the tool server offers besides its own.
    pub(crate) tools: Vec<Value>,
    /// Further lines of the first provider's section.
    pub(crate) lines: &'static str,
    /// Whether to grant none of the tool server's tools.
    pub(crate) no_tools: bool,
}

impl StrictStage {
    /// Starts a daemon whose providers are these models, by name; the first is the one that is
    /// used.
    pub(crate) async fn start(models: &[(&str, &FakeModel)], props: Props) -> Self {
        let world = tempfile::tempdir().expect("the machine has a folder for temporary files");
        let list = world.path().join("tools.json");
        fs::write(&list, Value::from(props.tools).to_string()).expect("the folder is ours");
        let names: Vec<_> = models.iter().map(|(name, _)| format!("{name:?}")).collect();
        let mut capabilities = vec![format!("llm = [{}]", names.join(", "))];
        if !props.no_tools {
            capabilities.push("tools = [\"t\"]".to_owned());
        }
        let mut setup = Setup::default();
        setup
            .plugins
            .extend(["assistant", "scripted"].map(|guest| Plugin {
                capabilities: capabilities.clone(),
                ..Plugin::new(guest)
            }));
        setup.rest = vec![tool_section()];
        setup
            .rest
            .extend(models.iter().enumerate().map(|(n, (name, model))| {
                let url = model.base_url();
                let lines = if n == 0 { props.lines } else { "" };
                format!(
                    "[llm.{name}]\nbase_url = \"{url}\"\nmodel = \"fake\"\nretries = 0\n{lines}"
                )
            }));
        let list = list.to_str().expect("temporary folders have plain names");
        setup.env.push(("ABIDE_TOOLS_LIST".into(), list.into()));
        let daemon = Daemon::start(setup).await;
        let client = daemon.client();
        let args = match props.args {
            Value::Null => json!({}),
            args => args,
        };
        open(&client, ASSISTANT, args).await;
        client.open(SCRIPTED, "scripted").await;
        Self {
            daemon,
            client,
            _world: world,
        }
    }

    /// Sends a message to the assistant. Returns its answer.
    pub(crate) async fn chat(&self, text: &str) -> String {
        chat(&self.client, ASSISTANT, text).await
    }

    /// Asserts that the assistant still answers normally.
    pub(crate) async fn hello(&self) {
        let answer = self.chat("hello").await;
        assert!(
            answer.starts_with("re: ") && answer.ends_with("hello"),
            "{answer}"
        );
    }

    /// Makes the scripted guest send a request of its own to the model. Returns the result.
    pub(crate) async fn request(&self, request: &Value) -> String {
        let script = json!({"id": "m", "acts": [{"act": "chat", "request": request}]}).to_string();
        let posted = self.client.chat(SCRIPTED, &script).await;
        acts(&posted.output).concat()
    }
}

pub(crate) fn tool_section() -> String {
    format!(
        "[mcp.t]\ncommand = [{:?}]\nenv = {{ ABIDE_TOOLS_LIST = \"ABIDE_TOOLS_LIST\" }}",
        tool_server()
    )
}

/// Opens a session of the assistant.
pub(crate) async fn open(client: &Client, id: &str, args: Value) {
    let reply = client
        .put(id, &json!({"plugin": "assistant", "args": args}))
        .await;
    reply.expect("the daemon answers").expect(201);
}

/// Sends a message. Returns the answer.
pub(crate) async fn chat(client: &Client, id: &str, text: &str) -> String {
    let posted = client.chat(id, text).await;
    posted.said().concat()
}

/// Returns a model that calls the tool `NAME` if the user says `use NAME`, without any text, under
/// the id that `id` returns for the number of calls so far; it repeats any other message.
pub(crate) fn caller(
    id: impl Fn(usize) -> String + Send + Sync + 'static,
) -> impl Fn(&[Value]) -> Answer + Send + Sync + 'static {
    move |messages| {
        let is = |line: &Value, role: &str| line["role"] == role;
        let asked = messages.iter().rfind(|line| is(line, "user"));
        let asked = asked.map(message_text).unwrap_or_default();
        let asks = messages.last().is_some_and(|line| is(line, "user"));
        let tool = asked.rsplit_once("use ").filter(|_| asks);
        let Some((_, tool)) = tool else {
            return Answer {
                text: format!("re: {asked}"),
                calls: Vec::new(),
            };
        };
        let made = messages.iter().filter(|line| is(line, "tool")).count();
        let (name, slow) = match tool.split_once(" slowly") {
            Some((name, _)) => (name, 400),
            None => (tool, 0),
        };
        Answer {
            text: String::new(),
            calls: vec![AskedCall {
                id: id(made),
                name: name.trim().to_owned(),
                arguments: json!({"token": "x", "sleep_ms": slow}),
            }],
        }
    }
}
