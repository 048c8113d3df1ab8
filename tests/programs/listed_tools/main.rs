//! Checks tool servers for services and browsers, most of which can do little without a network.
//! Each server is started, its tools are listed to a model that enforces every rule of strict model
//! servers, and one of the tools is called and must answer, even if only that it cannot do its
//! work.
//!
//! The servers are installed from npm, once, into cargo's target directory.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use abide_tests::{
    Answer, AskedCall, Client, Daemon, FakeModel, Plugin, Rules, Setup, message_text, npm_install,
};
use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};

/// A tool server, and the call that is made to it.
struct ListedServer {
    name: &'static str,
    package: &'static str,
    version: &'static str,
    /// The path of its program in its package.
    script: &'static str,
    arguments: &'static [&'static str],
    /// An environment variable that it requires; it is set to an invalid key.
    key: Option<&'static str>,
    tool: &'static str,
    call: fn() -> Value,
}

const SERVERS: [ListedServer; 6] = [
    ListedServer {
        name: "playwright",
        package: "@playwright/mcp",
        version: "0.0.83",
        script: "cli.js",
        arguments: &["--headless"],
        key: None,
        tool: "browser_navigate",
        call: || json!({"url": "about:blank"}),
    },
    ListedServer {
        name: "devtools",
        package: "chrome-devtools-mcp",
        version: "1.11.0",
        script: "build/src/bin/chrome-devtools-mcp.js",
        arguments: &["--headless"],
        key: None,
        tool: "list_pages",
        call: || json!({}),
    },
    ListedServer {
        name: "notion",
        package: "@notionhq/notion-mcp-server",
        version: "2.5.2",
        script: "bin/cli.mjs",
        arguments: &[],
        key: Some("NOTION_TOKEN"),
        tool: "API-get-self",
        call: || json!({}),
    },
    ListedServer {
        name: "context7",
        package: "@upstash/context7-mcp",
        version: "4.1.1",
        script: "dist/index.js",
        arguments: &[],
        key: None,
        tool: "resolve-library-id",
        call: || json!({"libraryName": "abide", "query": "sessions"}),
    },
    ListedServer {
        name: "tavily",
        package: "tavily-mcp",
        version: "0.2.22",
        script: "build/index.js",
        arguments: &[],
        key: Some("TAVILY_API_KEY"),
        tool: "tavily_search",
        call: || json!({"query": "abide"}),
    },
    ListedServer {
        name: "gitlab",
        package: "@zereight/mcp-gitlab",
        version: "2.1.64",
        script: "build/index.js",
        arguments: &[],
        key: Some("GITLAB_PERSONAL_ACCESS_TOKEN"),
        tool: "list_projects",
        call: || json!({}),
    },
];

impl ListedServer {
    fn script(&self, folder: &Path) -> PathBuf {
        folder
            .join("node_modules")
            .join(self.package)
            .join(self.script)
    }

    fn section(&self, folder: &Path) -> String {
        let script = self.script(folder);
        let words = ["node".to_owned(), script.display().to_string()].into_iter();
        let words = words.chain(self.arguments.iter().map(|&word| word.to_owned()));
        let words: Vec<_> = words.map(|word| format!("{word:?}")).collect();
        let key = self.key.map_or(String::new(), |key| {
            format!("env = {{ {key} = \"{key}\" }}")
        });
        let command = words.join(", ");
        let name = self.name;
        format!("[mcp.{name}]\ncommand = [{command}]\nstart_timeout = \"60s\"\n{key}")
    }
}

/// The scripted model: it calls the tool of the server that the user names, once.
fn follow(messages: &[Value]) -> Answer {
    let texts = messages.iter().map(message_text);
    let mut named = texts.filter_map(|text| {
        let (_, name) = text.split_once("[session=")?;
        let name = name.split_once(']')?.0.to_owned();
        SERVERS.iter().find(|server| server.name == name)
    });
    let server = named.next_back();
    let answered = messages.iter().any(|line| line["role"] == "tool");
    match server.filter(|_| !answered) {
        Some(server) => Answer {
            text: String::new(),
            calls: vec![AskedCall {
                id: "call_0".to_owned(),
                name: format!("{}__{}", server.name, server.tool),
                arguments: (server.call)(),
            }],
        },
        None => Answer {
            text: "done".to_owned(),
            calls: Vec::new(),
        },
    }
}

/// Uses one server; returns the number of its tools, and the beginning of the answer.
async fn use_one(
    client: &Client,
    model: &FakeModel,
    server: &ListedServer,
) -> anyhow::Result<(usize, String)> {
    let name = server.name;
    client.open(name, "assistant").await;
    let reply = client.chat(name, &format!("go [session={name}]")).await;
    if reply.said() != ["done"] {
        return Err(anyhow!("the turn says {:?}", reply.said()));
    }
    let last = model
        .calls()
        .pop()
        .context("the model was not asked")?
        .request;
    let prefix = format!("{name}__");
    let tools = last["tools"].as_array().into_iter().flatten();
    let tools = tools.filter_map(|tool| tool["function"]["name"].as_str());
    let tools = tools.filter(|tool| tool.starts_with(&prefix)).count();
    let lines = last["messages"].as_array().into_iter().flatten();
    let result = lines.into_iter().rfind(|line| line["role"] == "tool");
    let result = result.map(message_text).context("no tool was called")?;
    for no_answer in [
        "unknown-outcome",
        "Nothing was called",
        "The tool cannot be reached",
        "The tool took too long",
    ] {
        if result.starts_with(no_answer) {
            return Err(anyhow!(result));
        }
    }
    let brief: String = result.chars().take(70).collect();
    Ok((tools, brief.replace('\n', " ")))
}

#[tokio::main]
async fn main() -> ExitCode {
    let executable = std::env::current_exe().expect("a process knows its executable");
    let folder = executable.ancestors().nth(2);
    let folder = folder
        .expect("cargo builds into a folder")
        .join("listed-tools");
    let packages = SERVERS.map(|server| format!("{}@{}", server.package, server.version));
    let packages: Vec<_> = packages.iter().map(String::as_str).collect();
    let scripts = SERVERS.map(|server| server.script(&folder));
    let scripts: Vec<_> = scripts.iter().map(PathBuf::as_path).collect();
    if let Err(error) = npm_install(&folder, &packages, &scripts) {
        eprintln!("abide-listed-tools: {error}");
        return ExitCode::FAILURE;
    }
    let mut wrong = 0;
    for server in &SERVERS {
        // One server at a time: together they have more tools than a request may offer.
        let model = FakeModel::strict_scripted(Rules::all(), follow).await;
        let keys = server.key.map(|key| (key.to_owned(), "no-key".to_owned()));
        let setup = Setup {
            plugins: vec![Plugin {
                capabilities: vec![
                    "llm = [\"local\"]".to_owned(),
                    format!("tools = [{:?}]", server.name),
                ],
                ..Plugin::new("assistant")
            }],
            model: Some(model.base_url()),
            rest: vec![server.section(&folder)],
            env: keys.into_iter().collect(),
            ..Setup::default()
        };
        let daemon = Daemon::start(setup).await;
        let found = use_one(&daemon.client(), &model, server).await;
        let refused = model.violations();
        let package = server.package;
        match found {
            Ok((tools, answer)) if refused.is_empty() => {
                println!("{package:32} {tools:3} tools; {}: {answer}", server.tool);
            }
            Ok(_) => {
                wrong += 1;
                println!("{package:32} WRONG: refused: {}", refused[0].body);
            }
            Err(error) => {
                wrong += 1;
                println!("{package:32} WRONG: {error}");
            }
        }
    }
    match wrong {
        0 => {
            println!("\nverdict: all of them are listed, and answer");
            ExitCode::SUCCESS
        }
        _ => {
            println!("\nverdict: WRONG, {wrong} servers");
            ExitCode::FAILURE
        }
    }
}
