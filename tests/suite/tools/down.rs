//! Guests and operators notice that a tool server is down, and that it is up again.

use std::fs;

use abide::domain::{StepError, ToolServerState};
use abide_tests::{HungMount, copy_program, tool_server, until};
use serde_json::json;

use crate::stage::{Stage, acts};
use crate::tools::bench::{self, ToolBench, program};
use crate::tools::web::{Answers, Web};

/// Returns the tools that a turn found.
async fn listed(stage: &Stage, id: &str) -> Vec<String> {
    let events = stage.perform(id, json!([{"act": "list"}])).await;
    let reports = events.iter().filter_map(|event| event.data.as_ref());
    let names = reports.filter(|data| data["kind"] == "list");
    let names = names.filter_map(|data| data["value"].as_array());
    names
        .flatten()
        .map(|name| name.as_str().unwrap_or_default().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_down_are_told_to_guests_and_operators() {
    let web = Web::away(Answers::Json, None);
    let url = web.url();
    let stage = Stage::start(|mut setup| {
        let server = tool_server();
        setup.rest = vec![
            format!("[mcp.t]\nurl = \"{url}\"\n"),
            format!("[mcp.broken]\ncommand = [{server:?}, \"--broken\"]\n"),
            format!("[mcp.deaf]\ncommand = [{server:?}, \"--deaf\"]\nstart_timeout = \"300ms\"\n"),
            "[mcp.missing]\ncommand = [\"./no-such-program\"]\n".to_owned(),
            format!("[mcp.good]\ncommand = [{server:?}]\n"),
            format!("[mcp.unseen]\ncommand = [{server:?}]\n"),
        ];
        for plugin in &mut setup.plugins {
            if plugin.name == "scripted" {
                let tools =
                    "tools = [\"t\", \"broken__x*\", \"deaf\", \"missing\", \"good__look\"]";
                plugin.capabilities[1] = tools.to_owned();
            }
        }
        setup
    })
    .await;
    let idle = stage.tool_server("t", "idle").await;
    assert_eq!(idle["kind"], "url", "{idle}");

    let names = listed(&stage, "l1").await;
    let expected = [
        "broken__unavailable",
        "deaf__unavailable",
        "good__look",
        "missing__unavailable",
        "t__unavailable",
    ];
    assert_eq!(names, expected);
    let call = json!([{"act": "call", "tool": "unavailable", "token": "a"}]);
    let events = stage.perform("c1", call).await;
    assert_eq!(acts(&events), ["call a error:unavailable"]);

    for (name, part) in [
        ("t", "cannot be reached"),
        (
            "broken",
            "it exited with status 7 before it was ready; check `mcp.broken.command`",
        ),
        (
            "deaf",
            "it was not ready within 3s (10 times `mcp.deaf.start_timeout`)",
        ),
        ("missing", "check `mcp.missing.command`"),
    ] {
        let server = stage.tool_server(name, "down").await;
        let reason = server["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(part), "{part} in {server}");
        assert!(
            server["since"].is_string() && server["next_try_at"].is_string(),
            "{server}"
        );
    }
    let good = stage.tool_server("good", "up").await;
    assert_eq!(
        (&good["tools"], &good["kind"]),
        (&json!(8), &json!("command"))
    );
    stage.tool_server("unseen", "idle").await;

    let shown = stage.daemon.abide_says(&["status"]);
    for part in [
        "tool servers",
        "check `mcp.broken.command`",
        "8 tools",
        "idle",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let metrics = stage.client.get("/metrics").await.expect("an answer");
    for line in [
        "abide_tool_server_state{server=\"t\",state=\"down\"} 1",
        "abide_tool_server_state{server=\"t\",state=\"up\"} 0",
        "abide_tool_server_state{server=\"good\",state=\"up\"} 1",
        "abide_tool_server_tools{server=\"good\"} 8",
    ] {
        let text = metrics.body.as_str().unwrap_or_default();
        assert!(text.contains(line), "{line} in {text}");
    }

    // The server comes up, and the next turns find its tools.
    web.come();
    let mut turn = 1;
    until("its tools", async || {
        turn += 1;
        let names = listed(&stage, &format!("l{turn}")).await;
        names.iter().any(|name| name == "t__record").then_some(())
    })
    .await;
    let call = json!([{"act": "call", "tool": "record", "token": "b"}]);
    let events = stage.perform("c2", call).await;
    assert_eq!(acts(&events), ["call b ok"]);
    stage.tool_server("t", "up").await;

    // The server goes down: its tools are still listed, and cannot be called.
    web.go();
    until("its absence", async || {
        turn += 1;
        let token = format!("gone{turn}");
        let call = json!([{"act": "call", "tool": "record", "token": token}]);
        let events = stage.perform(&token, call).await;
        (acts(&events) == [format!("call {token} error:unavailable")]).then_some(())
    })
    .await;
    stage.tool_server("t", "down").await;
    let names = listed(&stage, "l-last").await;
    assert!(names.iter().any(|name| name == "t__record"), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_goes_away_is_missed_and_found_again() {
    let mut bench = ToolBench::new(&[], |_| {});
    let file = bench.folder.path().join("server");
    let mut server = bench::server(bench.folder.path(), &[]);
    program(&mut server).program = "./server".to_owned();
    bench = ToolBench::with(bench.folder, server);
    let place = || copy_program(&tool_server(), &file);
    place();
    assert_eq!(bench.tools(&["t__look"]).await[0].name, "t__look");

    fs::remove_file(&file).expect("it is there");
    let lost = bench.call("crash", json!({})).await;
    assert!(
        matches!(lost, Err(StepError::UnknownOutcome(_))),
        "{lost:?}"
    );
    // First it crashed, then it cannot be started again.
    for part in ["it exited with status 3", "`./server` cannot be started"] {
        bench::until(part, async || {
            let tools = bench.tools(&["t__look"]).await;
            let text = &tools[0].description;
            assert!(text.starts_with("[unavailable now: "), "{text}");
            text.contains(part)
        })
        .await;
        let status = bench.status();
        assert_eq!(
            (status.state, status.tools),
            (ToolServerState::Down, Some(8))
        );
    }
    place();
    bench::until("its return", async || {
        bench.call("look", json!({"token": "a"})).await.is_ok()
    })
    .await;
    let tools = bench.tools(&["t__look"]).await;
    assert!(tools[0].description.starts_with("Looks"), "{tools:?}");
    bench.servers.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_told_and_not_shown_and_the_right_one_is_taken_at_once() {
    let web = Web::start(Answers::Json, Some("hunter2-right"));
    let url = web.url();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("token");
    fs::write(&file, "hunter2-wrong\n").expect("the folder is ours");
    let stage = Stage::start(|mut setup| {
        setup.rest = vec![format!("[mcp.t]\nurl = \"{url}\"\ntoken_file = {file:?}")];
        setup
    })
    .await;
    let generation = stage.daemon.generation().await;
    let call = |token: &str| json!([{"act": "call", "tool": "record", "token": token}]);
    let events = stage.perform("a", call("a")).await;
    assert_eq!(acts(&events), ["call a error:unavailable"]);
    let down = stage.tool_server("t", "down").await.to_string();
    let turn = stage.client.get("/v1/sessions/s/turn").await;
    let turn = turn.expect("an answer").expect(200).to_string();
    let log = stage.daemon.logged("`mcp.t.token_file`").await;
    for text in [&down, &turn, &log] {
        assert!(text.contains("`mcp.t.token_file`"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }

    fs::write(&file, "hunter2-right\n").expect("the folder is ours");
    until("the right token", async || {
        let events = stage.perform("b", call("b")).await;
        (acts(&events) == ["call b ok"]).then_some(())
    })
    .await;
    assert_eq!(web.executions("b").len(), 1);
    assert_eq!(stage.daemon.generation().await, generation);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_program_does_not_answer_holds_nothing_up() {
    // Not in the daemon's folder, which is removed.
    let programs = tempfile::tempdir().expect("a temporary folder");
    let Some(_mount) = HungMount::over_or_skip(programs.path()) else {
        return;
    };
    let names = ["a", "b", "c", "d"];
    let stage = Stage::start(|mut setup| {
        setup.rest.extend(names.map(|name| {
            let program = programs.path().join(name);
            format!("[mcp.{name}]\ncommand = [{program:?}]\nstart_timeout = \"300ms\"\n")
        }));
        for plugin in &mut setup.plugins {
            if plugin.name == "scripted" {
                plugin.capabilities[1] = format!("tools = {names:?}");
            }
        }
        setup
    })
    .await;
    assert_eq!(
        listed(&stage, "l1").await,
        names.map(|name| format!("{name}__unavailable"))
    );
    for name in names {
        let server = stage.tool_server(name, "down").await;
        let reason = server["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("does not answer within 3 s"), "{server}");
    }
}
