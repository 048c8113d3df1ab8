//! Real tool servers: a scripted model, which enforces all rules of strict servers, calls every
//! tool of each through the daemon and the assistant.

mod plans;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use abide_tests::{
    Answer, AskedCall, Daemon, FakeModel, Plugin, RealTools, Rules, Setup, message_text,
};
use serde_json::Value;

use super::sandbox::may_hide;
use plans::{ServerPlan, plans};

/// The variable that a server may take from the test's environment.
const MEMORY: &str = "MEMORY_FILE_PATH";

/// The scripted model: it follows the plan of the server that the user names, one call per answer.
fn follow(plans: &BTreeMap<&str, ServerPlan>, messages: &[Value]) -> Answer {
    let texts = messages.iter().map(message_text);
    let mut plan = texts.filter_map(|text| {
        let (_, name) = text.split_once("[session=")?;
        plans.get(name.split_once(']')?.0)
    });
    let plan = plan.next_back().map_or(&[][..], Vec::as_slice);
    let made = messages
        .iter()
        .filter(|line| line["role"] == "tool")
        .count();
    match plan.get(made) {
        Some(call) => Answer {
            text: String::new(),
            calls: vec![AskedCall {
                id: format!("call_{made}"),
                name: call.name.clone(),
                arguments: call.arguments.clone(),
            }],
        },
        None => Answer {
            text: "done".to_owned(),
            calls: Vec::new(),
        },
    }
}

/// Creates a repository with one commit and a file that is not in it.
fn repository(folder: &Path) {
    fs::create_dir(folder).expect("the folder is ours");
    for arguments in [
        &["init", "-q", "-b", "main"][..],
        &["config", "user.name", "Ada"],
        &["config", "user.email", "ada@abide.example"],
        &["commit", "-q", "--allow-empty", "-m", "first"],
    ] {
        let git = Command::new("git")
            .current_dir(folder)
            .args(arguments)
            .output();
        let git = git.expect("git is there");
        assert!(git.status.success(), "{git:?}");
    }
    fs::write(folder.join("new.txt"), "new\n").expect("the folder is ours");
}

fn section(name: &str, command: &[String], rest: &str) -> String {
    let command: Vec<_> = command.iter().map(|word| format!("{word:?}")).collect();
    format!(
        "[mcp.{name}]\ncommand = [{}]\nstart_timeout = \"60s\"\n{rest}",
        command.join(", ")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tool_of_real_servers_is_called_and_its_result_is_told() {
    all_tools_work("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_servers_work_in_a_sandbox() {
    if may_hide() {
        all_tools_work("\nsandbox = true").await;
    }
}

/// Calls all tools of servers that have these further lines in their tables.
async fn all_tools_work(lines: &str) {
    let Some(tools) = RealTools::find() else {
        return;
    };
    let world = tempfile::tempdir().expect("the machine has a folder for temporary files");
    let path = |name: &str| world.path().join(name).display().to_string();
    fs::create_dir(path("files")).expect("the folder is ours");
    fs::write(path("files/dot.png"), plans::PNG).expect("the folder is ours");
    repository(Path::new(&path("repo")));
    let with = |mut command: Vec<String>, more: &[&str]| {
        command.extend(more.iter().map(|&word| word.to_owned()));
        command
    };
    let (files, repo, db) = (path("files"), path("repo"), path("x.db"));
    let memory = format!("env = {{ {MEMORY} = \"{MEMORY}\" }}");
    let npm = |package: &str, more: &[&str]| with(tools.npm(package), more);
    let python = |server: &str, more: &[&str]| with(tools.python(server), more);
    let mut sections = [
        section("everything", &npm("server-everything", &["stdio"]), ""),
        section("files", &npm("server-filesystem", &[&files]), ""),
        section("memory", &npm("server-memory", &[]), &memory),
        section("thinking", &npm("server-sequential-thinking", &[]), ""),
        section(
            "time",
            &python("mcp-server-time", &["--local-timezone", "Etc/UTC"]),
            "",
        ),
        section(
            "git",
            &python("mcp-server-git", &["--repository", &repo]),
            "",
        ),
        section(
            "sqlite",
            &python("mcp-server-sqlite", &["--db-path", &db]),
            "",
        ),
        section("fetch", &python("mcp-server-fetch", &[]), ""),
    ];
    for section in &mut sections {
        section.push_str(lines);
    }
    let plans = Arc::new(plans(&repo));
    let asked = plans.clone();
    let rules = Rules::all();
    let model = FakeModel::strict_scripted(rules, move |lines| follow(&asked, lines)).await;
    let names: Vec<_> = plans.keys().map(|name| format!("{name:?}")).collect();
    let setup = Setup {
        plugins: vec![Plugin {
            capabilities: vec![
                "llm = [\"local\"]".to_owned(),
                format!("tools = [{}]", names.join(", ")),
            ],
            ..Plugin::new("assistant")
        }],
        model: Some(model.base_url()),
        rest: sections.to_vec(),
        env: vec![(MEMORY.to_owned(), path("memory.jsonl"))],
        ..Setup::default()
    };
    let daemon = Daemon::start(setup).await;
    let client = daemon.client();
    let mut called = BTreeSet::new();
    for (server, plan) in plans.iter() {
        client.open(server, "assistant").await;
        let answer = client.chat(server, &format!("go [session={server}]")).await;
        assert_eq!(answer.said().concat(), "done", "{server}");
        let last = model.calls().pop().expect("it was asked").request;
        let lines = last["messages"].as_array().cloned().unwrap_or_default();
        let results = lines.iter().filter(|line| line["role"] == "tool");
        let results: Vec<_> = results.map(message_text).collect();
        assert_eq!(results.len(), plan.len(), "{server}: {results:#?}");
        for (call, result) in plan.iter().zip(results) {
            let plans::CheckedCall { name, shows, .. } = call;
            assert!(
                result.contains(shows),
                "{name} should show {shows:?}: {result}"
            );
            called.insert(name.clone());
        }
    }
    // All tools are offered, except the one that cannot be called without tasks.
    let last = model.calls().pop().expect("it was asked").request;
    let offered = last["tools"].as_array().cloned().unwrap_or_default();
    let offered = offered
        .iter()
        .filter_map(|tool| tool["function"]["name"].as_str());
    let offered: BTreeSet<_> = offered.map(str::to_owned).collect();
    assert_eq!(offered, called);
    assert_eq!(model.violations(), []);
    let answer = client.chat("time", "hello").await;
    assert_eq!(answer.said(), ["done"]);
}
