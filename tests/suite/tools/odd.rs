//! Tool servers that answer oddly, as real ones do: no odd answer costs its server, another tool, a
//! turn, or a text that came with it.

use std::time::{Duration, Instant};

use abide_tests::{Answer, AskedCall, FakeModel, Setup, guest, tool_server, until};
use serde_json::{Value, json};

use crate::stage::{Stage, acts};

/// A daemon whose tool server answers with the content of a file, and that file.
pub(crate) struct OddTools {
    pub(crate) stage: Stage,
    folder: tempfile::TempDir,
}

impl OddTools {
    /// Starts a stage; `keys` are further lines of `[mcp.t]`.
    pub(crate) async fn start(script: &Value, keys: &str) -> Self {
        Self::with(script, keys, |setup| setup).await
    }

    pub(crate) async fn with(
        script: &Value,
        keys: &str,
        change: impl FnOnce(Setup) -> Setup,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("script.json");
        std::fs::write(&file, script.to_string()).expect("the folder is ours");
        let stage = Stage::start(|mut setup| {
            let server = tool_server();
            setup.rest[0] = format!(
                "[mcp.t]\ncommand = [{server:?}, \"--raw\", {file:?}]\n\
                 env = {{ ABIDE_TOOLS_LOG = \"ABIDE_TOOLS_LOG\" }}\n{keys}"
            );
            change(setup)
        });
        let stage = stage.await;
        Self { stage, folder }
    }

    /// Replaces the answer.
    pub(crate) fn answer(&self, script: &Value) {
        let (file, next) = (
            self.folder.path().join("script.json"),
            self.folder.path().join("next"),
        );
        std::fs::write(&next, script.to_string()).expect("the folder is ours");
        std::fs::rename(next, file).expect("the folder is ours");
    }

    /// Calls a tool in a turn of its own, then checks that the same session answers hello. Returns
    /// the outcome of the act and its result.
    pub(crate) async fn call(&self, id: &str, tool: &str) -> (String, String) {
        self.stage.call(id, tool, tool).await
    }

    /// Waits until the server is in this state. Returns its entry in the status.
    pub(crate) async fn status(&self, state: &str) -> Value {
        self.stage.tool_server("t", state).await
    }
}

/// Returns a correct line with this result.
fn line(result: &Value) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{result}}}")
}

fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_tool_costs_no_other_and_is_named() {
    let good = json!({"name": "good", "inputSchema": {"type": "object"}});
    let tools = json!([
        good,
        {"name": "bare"},
        {"name": "nothing", "inputSchema": null},
        {"name": "hints", "inputSchema": {"type": "object"}, "outputSchema": true,
            "annotations": {"readOnlyHint": "yes", "title": 5}, "title": [], "icons": 7},
        {"name": 7, "inputSchema": {}},
        {"name": "", "inputSchema": {}},
        {"name": "good", "inputSchema": {}},
        {"name": "words", "inputSchema": "{}"},
        {"name": "task", "inputSchema": {"type": "object"}, "execution": {"taskSupport": "required"}},
        "a text",
    ]);
    for opening in [
        json!({}),
        json!({"protocolVersion": "2025-06-18"}),
        json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": true}, "serverInfo": {}}),
        json!({"capabilities": {"experimental": {"x": true}}, "serverInfo": {"name": "x"}}),
        json!({"protocolVersion": 7, "capabilities": null, "serverInfo": "x", "instructions": 7}),
    ] {
        let script = json!({
            "initialize": line(&opening),
            "tools/list": line(&json!({"tools": tools})),
        });
        let odd = OddTools::start(&script, "").await;
        let events = odd.stage.perform("l", json!([{"act": "list"}])).await;
        let listed = events.iter().filter_map(|event| event.data.as_ref());
        let listed: Vec<_> = listed.filter(|data| data["kind"] == "list").collect();
        let names = json!(["t__bare", "t__good", "t__hints", "t__nothing"]);
        assert_eq!(listed[0]["value"], names, "{opening}");
        for tool in ["good", "bare", "nothing", "hints"] {
            let (outcome, result) = odd.call(tool, tool).await;
            assert_eq!((&*outcome, &*result), ("ok", "done"), "{tool}");
        }
        let status = odd.status("up").await;
        assert_eq!(status["tools"], 4);
        let left_out: Vec<_> = status["left_out"]
            .as_array()
            .into_iter()
            .flatten()
            .collect();
        let named: Vec<_> = left_out.iter().map(|out| out["tool"].as_str()).collect();
        let expected = ["7", "tool 6", "words", "task", "tool 10", "good"];
        assert_eq!(named, expected.map(Some), "{status}");
        for part in [
            "its name is empty",
            "its `inputSchema` is a text, and no object",
            "it runs only as a task",
            "another one has the same name",
        ] {
            assert!(status.to_string().contains(part), "{part} in {status}");
            odd.stage.daemon.logged(part).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_ends_its_call_whatever_else_is_odd() {
    let done = text("done").to_string();
    let cases = [
        ("error null", format!(r#"{{"jsonrpc":"2.0","id":$ID,"error":null,"result":{done}}}"#), "ok", "done"),
        ("no jsonrpc", format!(r#"{{"id":$ID,"result":{done}}}"#), "ok", "done"),
        ("id as text", format!(r#"{{"jsonrpc":"2.0","id":"$ID","result":{done}}}"#), "ok", "done"),
        ("several lines", format!("{{\n  \"jsonrpc\": \"2.0\",\n  \"id\": $ID,\n  \"result\": {done}\n}}"), "ok", "done"),
        ("noise", format!("starting {{\n[1,\n{{\"id\":$ID,\"result\":{done}}}"), "ok", "done"),
        ("half a character", line(&text("x")).replace("\"x\"", "\"a \\ud83d\""), "ok", "a \u{FFFD}"),
        ("half a pair", line(&text("x")).replace("\"x\"", "\"\\ude00 b\""), "ok", "\u{FFFD} b"),
        ("a bad byte", line(&text("caf$E9")), "ok", "caf\u{FFFD}"),
        ("null", line(&Value::Null), "ok", ""),
        ("null content", line(&json!({"content": null, "structuredContent": null})), "ok", ""),
        ("null beside text", line(&json!({"content": [{"type": "text", "text": "a"}], "structuredContent": null})), "ok", "a"),
        ("old", line(&json!({"toolResult": "as in 2024"})), "ok", "as in 2024"),
        ("unknown part", line(&json!({"content": [{"type": "hologram"}, {"type": "text", "text": "a"}]})), "ok", "{\"type\":\"hologram\"} a"),
        ("result null", r#"{"jsonrpc":"2.0","id":$ID,"result":null,"error":{"code":-32000,"message":"no"}}"#.into(), "error:failed", "answered with error -32000: no"),
        ("code as text", r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":"-32000","message":"no"}}"#.into(), "error:failed", "error -32000: no"),
        ("no message", r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32000}}"#.into(), "error:failed", "error -32000: (it does not say why)"),
        ("error in words", r#"{"jsonrpc":"2.0","id":$ID,"error":"out of tea"}"#.into(), "error:failed", "out of tea"),
        ("data", r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32000,"message":"no","data":{"hint":"use b"}}}"#.into(), "error:failed", "no ({\"hint\":\"use b\"})"),
        ("nothing", r#"{"jsonrpc":"2.0","id":$ID}"#.into(), "unknown", "neither a result nor an error"),
        ("nonsense", r#"{"jsonrpc":"2.0","id":$ID, nonsense"#.into(), "unknown", "what it answered is no JSON"),
    ];
    let calls: serde_json::Map<_, _> = cases
        .iter()
        .enumerate()
        .map(|(n, (_, line, _, _))| (format!("c{n}"), json!(line)))
        .collect();
    let odd = OddTools::start(&json!({"call": calls}), "call_timeout = \"20s\"").await;
    for (n, (what, _, expected, part)) in cases.iter().enumerate() {
        let begun = Instant::now();
        let (outcome, result) = odd.call(what, &format!("c{n}")).await;
        assert_eq!(outcome, *expected, "{what}: {result}");
        let fits = match *expected {
            "ok" => result == *part,
            _ => result.contains(part),
        };
        assert!(fits, "{what}: {result}");
        assert!(begun.elapsed() < Duration::from_secs(15), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_arrives_whatever_comes_with_it() {
    let long = "QUJD".repeat(100_000);
    let image = json!({"type": "image", "mimeType": "image/png", "data": long});
    let say = json!({"type": "text", "text": "what it shows"});
    let small = "iVBORw0KGgo=";
    let cases = [
        (
            "too large",
            json!({"content": [image, say]}),
            "[300000 bytes of image/png, over ",
        ),
        (
            "twice",
            json!({"content": [say, {"type": "image", "mimeType": "image/png", "data": small}],
            "structuredContent": {"content": [{"type": "image", "mimeType": "image/png", "data": small}]}}),
            "what it shows [8 bytes of image/png]",
        ),
        (
            "url",
            json!({"content": [say, {"type": "image", "mimeType": "image/png",
            "data": format!("data:image/png;base64,{small}")}]}),
            "what it shows [8 bytes of image/png]",
        ),
        (
            "no base64",
            json!({"content": [say, {"type": "audio", "mimeType": "audio/wav", "data": "?"}]}),
            "what it shows [audio/wav, sent in a form that is no base64]",
        ),
    ];
    let calls: serde_json::Map<_, _> = cases
        .iter()
        .enumerate()
        .map(|(n, (_, result, _))| (format!("c{n}"), json!(line(result))))
        .collect();
    let odd = OddTools::start(&json!({"call": calls}), "").await;
    for (n, (what, _, part)) in cases.iter().enumerate() {
        let (outcome, result) = odd.call(what, &format!("c{n}")).await;
        assert_eq!(outcome, "ok", "{what}: {result}");
        assert!(
            result.starts_with(part) && result.contains("what it shows"),
            "{what}: {result}"
        );
        assert!(
            !result.contains("QUJD") && !result.contains(small),
            "{what}: {result}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_extends_a_call_up_to_the_time_of_a_step() {
    let progress = "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\
        \"params\":{\"progressToken\":$TOKEN,\"progress\":1}}";
    let mut steady = vec![json!({"log": "steady"})];
    for _ in 0..8 {
        steady.extend([json!({"ms": 400}), json!(progress)]);
    }
    steady.push(json!(line(&text("at last"))));
    let mut endless = vec![json!({"log": "endless"})];
    endless.extend((0..40).flat_map(|_| [json!({"ms": 400}), json!(progress)]));
    // The progress of another request keeps nothing alive.
    let other = progress.replace("$TOKEN", "4711");
    let mut foreign = vec![json!({"log": "foreign"})];
    foreign.extend((0..10).flat_map(|_| [json!({"ms": 400}), json!(other)]));
    let script = json!({"call": {"steady": steady, "endless": endless, "foreign": foreign}});
    let odd = OddTools::with(&script, "call_timeout = \"2s\"", |mut setup| {
        let scripted = setup
            .plugins
            .iter_mut()
            .find(|plugin| plugin.name == "scripted");
        let scripted = scripted.expect("it is on the stage");
        scripted.limits.push("step_timeout = \"6s\"".to_owned());
        setup
    })
    .await;
    let (outcome, result) = odd.call("steady", "steady").await;
    assert_eq!((&*outcome, &*result), ("ok", "at last"));
    let (outcome, result) = odd.call("endless", "endless").await;
    assert_eq!(outcome, "unknown", "{result}");
    assert!(
        result.contains("nothing within 6s; see `limits.step_timeout`"),
        "{result}"
    );
    let (outcome, result) = odd.call("foreign", "foreign").await;
    assert_eq!(outcome, "unknown", "{result}");
    assert!(
        result.contains("nothing within 2s; see `mcp.t.call_timeout`"),
        "{result}"
    );
    for token in ["steady", "endless", "foreign"] {
        assert_eq!(odd.stage.executions(token).len(), 1, "{token}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_start_goes_on_in_the_background() {
    let stage = Stage::start(|mut setup| {
        let server = tool_server();
        setup.rest[0] = format!(
            "[mcp.t]\ncommand = [{server:?}, \"--slow\", \"3000\"]\nstart_timeout = \"500ms\"\n\
             env = {{ ABIDE_TOOLS_LOG = \"ABIDE_TOOLS_LOG\" }}"
        );
        setup
    })
    .await;
    let call = |token: &str| json!([{"act": "call", "tool": "record", "token": token}]);
    let events = stage.perform("a", call("a")).await;
    assert_eq!(acts(&events), ["call a error:unavailable"]);
    // Else it would have been made: nobody waits for all of the start.
    let turn = stage.client.get("/v1/sessions/s/turn").await;
    let turn = turn.expect("an answer").expect(200).to_string();
    for part in [
        "it is starting",
        "in the background for up to 5s",
        "`mcp.t.start_timeout`",
    ] {
        assert!(turn.contains(part), "{part} in {turn}");
    }
    stage.tool_server("t", "starting").await;
    let mut turns = 0;
    until("the server", async || {
        turns += 1;
        let token = format!("b{turns}");
        let events = stage.perform(&token, call(&token)).await;
        (acts(&events) == [format!("call {token} ok")]).then_some(())
    })
    .await;
    stage.tool_server("t", "up").await;
    let log = stage.daemon.logged("tool server started").await;
    assert_eq!(
        log.matches("tool server started").count(),
        1,
        "it was begun once"
    );
    assert!(!log.contains("did not start"), "and never given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_reason_is_told_and_repeated() {
    let refusal = r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32603,"message":"no licence"}}"#;
    let exits = json!([refusal, {"exit": 0}]);
    let later =
        r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32601,"message":"Method not found"}}"#;
    let list = r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32603,"message":"no database"}}"#;
    for (script, part) in [
        (
            json!({"initialize": refusal}),
            "it refused to initialize: no licence",
        ),
        (
            json!({"initialize": exits}),
            "it refused to initialize: no licence",
        ),
        (
            json!({"initialize": later}),
            "it speaks MCP 2026-07-28 or another without `initialize`",
        ),
        (
            json!({"tools/list": list}),
            "it did not list its tools: no database",
        ),
        (
            json!({"initialize": [{"exit": 0}]}),
            "it exited with status 0 before it was ready",
        ),
    ] {
        let odd = OddTools::start(&script, "").await;
        for id in ["a", "b"] {
            let (outcome, result) = odd.call(id, "x").await;
            assert_eq!(outcome, "error:unavailable", "{part}");
            assert!(result.contains(part), "{part} in {result}");
        }
        let status = odd.status("down").await;
        let reason = status["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(part), "{part} in {status}");
        // With a correct answer the server works again.
        odd.answer(&json!({"call": {"x": line(&text("back"))}}));
        let mut tries = 0;
        until("its return", async || {
            tries += 1;
            let (outcome, _) = odd.call(&format!("again {tries}"), "x").await;
            (outcome == "ok").then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_that_come_within_a_turn_are_there_in_it() {
    // The assistant's model uses the tools that it is offered: first the one, then the one that
    // appears.
    let model = FakeModel::scripted(|messages| {
        let results = messages
            .iter()
            .filter(|line| line["role"] == "tool")
            .count();
        let call = |name: &str| AskedCall {
            id: format!("c{results}"),
            name: name.to_owned(),
            arguments: json!({"token": format!("c{results}")}),
        };
        Answer {
            text: "one moment".to_owned(),
            calls: match results {
                0 | 1 => vec![call("t__look")],
                2 => vec![call("t__extra")],
                _ => Vec::new(),
            },
        }
    })
    .await;
    let url = model.base_url();
    let stage = Stage::start(|mut setup: Setup| {
        setup.rest[0] = setup.rest[0].replacen("\"]", "\", \"--changes\"]", 1);
        setup.plugins[1].path = guest("assistant");
        Setup {
            model: Some(url),
            ..setup
        }
    })
    .await;
    stage.client.chat("s", "go").await;
    let calls = model.calls();
    let offered = |call: usize| {
        let tools = calls[call].request["tools"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        tools
            .iter()
            .any(|tool| tool["function"]["name"] == "t__extra")
    };
    assert!(!offered(0), "it is not there yet");
    assert!(offered(2), "it is offered in the same turn");
    let last = calls[3].request["messages"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let extra = last.iter().rfind(|line| line["role"] == "tool");
    assert_eq!(extra.map(|line| &line["content"]), Some(&json!("extra")));
}

#[tokio::test(flavor = "multi_thread")]
async fn images_reach_the_guest_by_a_key_and_within_bounds() {
    let small = "iVBORw0KGgo=";
    let image =
        |data: &str| json!({"content": [{"type": "image", "mimeType": "image/png", "data": data}]});
    let large = format!("iVBORw0KGgo{}", "A".repeat(4001));
    let script = json!({"call": {"small": line(&image(small)), "large": line(&image(&large))}});
    for (keys, expected) in [
        ("", "[8 bytes of image/png]"),
        (
            "images = \"1KiB\"",
            "![image/png](data:image/png;base64,iVBORw0KGgo=)",
        ),
    ] {
        let odd = OddTools::start(&script, keys).await;
        let (outcome, result) = odd.call("small", "small").await;
        assert_eq!((&*outcome, &*result), ("ok", expected));
        let (outcome, result) = odd.call("large", "large").await;
        assert_eq!((&*outcome, &*result), ("ok", "[3009 bytes of image/png]"));
    }
}
