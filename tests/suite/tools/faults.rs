//! Tool servers that misbehave, in a daemon that serves other sessions meanwhile: each turn ends,
//! its guest receives what it must know, and nothing is done twice.

use abide_tests::{How, until};
use serde_json::{Value, json};

use crate::stage::{Stage, acts};
use crate::tools::web::{Answers, Web};

/// Longer than any test.
const LONG_MS: u64 = 3_600_000;

/// How a tool server is reached.
enum Reached {
    Pipes(Stage),
    Web(Box<Web>, Stage),
}

/// For faults that are a silence. Whatever comes, comes later on a busy machine.
const IMPATIENT: &str = "call_timeout = \"1s\"";
/// For faults that are an answer.
const PATIENT: &str = "call_timeout = \"30s\"";

impl Reached {
    async fn pipes(flag: &str, patience: &str) -> Self {
        let stage = Stage::start(|mut setup| {
            let quoted = format!("\", \"{flag}\"]");
            setup.rest[0] = setup.rest[0].replacen("\"]", &quoted, 1);
            setup.rest.push(patience.into());
            limited(setup)
        });
        Self::Pipes(stage.await)
    }

    async fn web(answers: Answers, patience: &str) -> Self {
        let web = Web::start(answers, None);
        let stage = stage_at(&web, patience).await;
        Self::Web(web.into(), stage)
    }

    fn stage(&self) -> &Stage {
        match self {
            Self::Pipes(stage) | Self::Web(_, stage) => stage,
        }
    }

    fn executions(&self, token: &str) -> Vec<String> {
        match self {
            Self::Pipes(stage) => stage.executions(token),
            Self::Web(web, _) => web.executions(token),
        }
    }
}

fn limited(mut setup: abide_tests::Setup) -> abide_tests::Setup {
    let scripted = setup.plugins.iter_mut().find(|p| p.name == "scripted");
    let scripted = scripted.expect("it is on the stage");
    scripted.limits.push("event = \"1MiB\"".into());
    setup
}

/// Starts a daemon whose tool server is this one. The proxy in its environment leads nowhere.
async fn stage_at(web: &Web, line: &str) -> Stage {
    let (url, line) = (web.url(), line.to_owned());
    Stage::start(|mut setup| {
        setup.rest = vec![format!("[mcp.t]\nurl = \"{url}\"\n{line}")];
        for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
            setup.env.push((name.into(), "http://127.0.0.1:1".into()));
        }
        limited(setup)
    })
    .await
}

/// Returns the error of each step of the last turn.
async fn reasons(stage: &Stage) -> Vec<String> {
    let turn = stage.client.get("/v1/sessions/s/turn").await;
    let turn = turn.expect("an answer").expect(200);
    let steps = turn["steps"].as_array().expect("steps").iter();
    let text = |step: &Value| step["parts"][0]["result"].as_str().map(str::to_owned);
    steps.map(|step| text(step).unwrap_or_default()).collect()
}

/// Checks a call that fails in the middle of a turn.
async fn misbehaves(at: &Reached, tool: &str, expected: &str, part: &str) {
    let stage = at.stage();
    let script = json!([
        {"act": "call", "tool": tool, "token": tool},
        {"act": "say", "text": "I go on"},
    ]);
    let message = stage.send(tool, script).await;
    until("the call to be made", async || {
        (!at.executions(tool).is_empty()).then_some(())
    })
    .await;
    // Other sessions are served as usual.
    let other = format!("beside {tool}");
    stage.client.open(&other, "echo").await;
    stage.client.chat(&other, "hello").await;
    let events = stage.end_of(&message).await;
    let results = acts(&events);
    assert_eq!(
        results,
        [format!("call {tool} {expected}"), "say  ok".into()]
    );
    assert_eq!(at.executions(tool).len(), 1, "{tool}");
    let reason = &reasons(stage).await[0];
    assert!(reason.contains(part), "{tool}: {part} in {reason}");
    // The server serves again, perhaps not at once.
    let again = format!("after {tool}");
    until("the next call", async || {
        let next = json!([{"act": "call", "tool": "record", "token": again}]);
        let events = stage.perform(&again, next).await;
        (acts(&events) == [format!("call {again} ok")]).then_some(())
    })
    .await;
    assert_eq!(at.executions(tool).len(), 1, "{tool}");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_misbehave_end_no_turn_but_their_calls() {
    let at = Reached::pipes("--faulty", IMPATIENT).await;
    for (tool, part) in [
        ("stall", "nothing within 1s; see `mcp.t.call_timeout`"),
        ("chatter", "nothing within 1s"),
        ("garbage", "nothing within 1s"),
        ("misnumber", "nothing within 1s"),
    ] {
        misbehaves(&at, tool, "unknown", part).await;
    }
    let at = Reached::pipes("--faulty", PATIENT).await;
    for (tool, expected, part) in [
        ("burst", "error:too-large", "tool `t__burst` ran"),
        ("mangle", "unknown", "what it answered is no JSON"),
        (
            "fall",
            "unknown",
            "it exited with status 3; its last words: falling",
        ),
    ] {
        misbehaves(&at, tool, expected, part).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_over_http_that_misbehave_end_no_turn_but_their_calls() {
    for answers in [Answers::Json, Answers::Events] {
        let at = Reached::web(answers, IMPATIENT).await;
        for (tool, part) in [
            ("stall", "nothing within 1s; see `mcp.t.call_timeout`"),
            ("chatter", "nothing within 1s"),
        ] {
            misbehaves(&at, tool, "unknown", part).await;
        }
        let at = Reached::web(answers, PATIENT).await;
        for (tool, expected, part) in [
            ("burst", "error:too-large", "tool `t__burst` ran"),
            ("mangle", "unknown", "may or may not have happened"),
            ("misnumber", "unknown", "may or may not have happened"),
            ("overload", "unknown", "it failed (503)"),
            ("fall", "unknown", "broke off"),
        ] {
            misbehaves(&at, tool, expected, part).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_is_gone_when_it_is_called_is_told_as_that() {
    let at = Reached::pipes("--fickle", PATIENT).await;
    let stage = at.stage();
    let events = stage
        .perform(
            "m",
            json!([
                {"act": "call", "tool": "record", "token": "a"},
                {"act": "call", "tool": "note", "token": "b"},
                {"act": "list"},
            ]),
        )
        .await;
    assert_eq!(
        acts(&events),
        ["call a ok", "call b error:invalid", "list  ok"]
    );
    let reason = &reasons(stage).await[1];
    assert!(reason.contains("there is no tool note"), "{reason}");
    assert_eq!(at.executions("b"), [""; 0]);
    let list = events.iter().filter_map(|event| event.data.as_ref());
    let list = list.filter(|data| data["kind"] == "list");
    let names: Vec<_> = list.map(|data| data["value"].clone()).collect();
    assert!(!names[0].to_string().contains("t__note"), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_over_http_that_a_death_cuts_is_never_made_twice() {
    for (token, sleep, executions) in [("before", "sleep_ms", 0), ("after", "sleep_after_ms", 1)] {
        let web = Web::start(Answers::Json, None);
        let stage = stage_at(&web, "").await;
        let script = json!([
            {"act": "call", "tool": "record", "token": token, sleep: LONG_MS},
            {"act": "call", "tool": "record", "token": "next"},
        ]);
        let message = stage.send("m", script).await;
        stage.tools("started", 1).await;
        if executions > 0 {
            until("the effect", async || {
                (!web.executions(token).is_empty()).then_some(())
            })
            .await;
        }
        stage.daemon.kill_worker().await;
        let events = stage.end_of(&message).await;
        assert_eq!(
            acts(&events),
            [format!("call {token} unknown"), "call next ok".into()]
        );
        assert_eq!(web.executions(token).len(), executions, "{token}");
        assert_eq!(web.executions("next").len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_repeated_over_http_is_repeated_under_its_key() {
    let web = Web::start(Answers::Events, None);
    let stage = stage_at(&web, "").await;
    let script = json!([{"act": "call", "tool": "note", "token": "a", "sleep_after_ms": 1500}]);
    let message = stage.send("m", script).await;
    until("the effect", async || {
        (!web.executions("a").is_empty()).then_some(())
    })
    .await;
    stage.daemon.kill_worker().await;
    let events = stage.end_of(&message).await;
    assert_eq!(acts(&events), ["call a ok"]);
    let keys = web.executions("a");
    assert_eq!(
        keys,
        [keys[0].as_str(), keys[0].as_str()],
        "twice, under one key"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_url_is_taken_over_at_once_and_a_call_under_way_goes_on() {
    let (first, second) = (
        Web::start(Answers::Json, None),
        Web::start(Answers::Events, None),
    );
    let mut stage = stage_at(&first, "").await;
    let generation = stage.daemon.generation().await;
    let call = json!([{"act": "call", "tool": "record", "token": "a", "sleep_after_ms": 2000}]);
    let message = stage.send("m", call).await;
    until("the effect", async || {
        (!first.executions("a").is_empty()).then_some(())
    })
    .await;
    let url = second.url();
    stage.daemon.edit(How::Rename, |setup| {
        setup.rest = vec![format!("[mcp.t]\nurl = \"{url}\"")];
    });
    stage.client.open("t2", "scripted").await;
    until("the change", async || {
        let next = json!([{"act": "call", "tool": "record", "token": "b"}]);
        let script = json!({"id": "b", "acts": next}).to_string();
        stage.client.chat("t2", &script).await;
        (!second.executions("b").is_empty()).then_some(())
    })
    .await;
    assert_eq!(acts(&stage.end_of(&message).await), ["call a ok"]);
    assert_eq!(first.executions("a").len(), 1);
    assert_eq!(stage.daemon.generation().await, generation);
}
