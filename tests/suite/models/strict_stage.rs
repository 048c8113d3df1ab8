//! A daemon before strict model servers: with the assistant, the scripted guest, and a tool server
//! that offers what a test says.

use std::fs;

use abide_tests::{
    Answer, AskedCall, Client, Daemon, FakeModel, Plugin, Setup, message_text, tool_server,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stage::acts;

/// The assistant's session.
pub(crate) const ASSISTANT: &str = "s";
/// The scripted guest's.
pub(crate) const SCRIPTED: &str = "scripted";

pub(crate) struct StrictStage {
    pub(crate) daemon: Daemon,
    pub(crate) client: Client,
    _world: TempDir,
}

/// What a daemon before strict servers has besides its providers.
#[derive(Default)]
pub(crate) struct Props {
    /// Arguments of the assistant's session.
    pub(crate) args: Value,
    /// Tools that the tool server offers besides its own.
    pub(crate) tools: Vec<Value>,
    /// Further lines of the first provider's section.
    pub(crate) lines: &'static str,
    /// None of the tool server's tools are granted.
    pub(crate) no_tools: bool,
}

impl StrictStage {
    /// Starts one whose providers are these models, by name; the first is the one that is asked.
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

    /// Says something to the assistant; what it answers.
    pub(crate) async fn chat(&self, text: &str) -> String {
        chat(&self.client, ASSISTANT, text).await
    }

    /// The assistant answers as if nothing had been.
    pub(crate) async fn hello(&self) {
        let said = self.chat("hello").await;
        assert!(
            said.starts_with("re: ") && said.ends_with("hello"),
            "{said}"
        );
    }

    /// The scripted guest asks the model with a request of its own; what came of it.
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

/// Says something; what is answered.
pub(crate) async fn chat(client: &Client, id: &str, text: &str) -> String {
    let posted = client.chat(id, text).await;
    posted.said().concat()
}

/// A model that calls the tool `NAME` where the user says `use NAME`, under the id that `id` gives
/// for the number of calls so far, with nothing said beside it; and repeats what else is said.
pub(crate) fn caller(
    id: impl Fn(usize) -> String + Send + Sync + 'static,
) -> impl Fn(&[Value]) -> Answer + Send + Sync + 'static {
    move |messages| {
        let is = |line: &Value, role: &str| line["role"] == role;
        let said = messages.iter().rfind(|line| is(line, "user"));
        let said = said.map(message_text).unwrap_or_default();
        let asks = messages.last().is_some_and(|line| is(line, "user"));
        let tool = said.rsplit_once("use ").filter(|_| asks);
        let Some((_, tool)) = tool else {
            return Answer {
                text: format!("re: {said}"),
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
