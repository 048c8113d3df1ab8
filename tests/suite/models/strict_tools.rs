//! Tools, calls and unusual requests with servers that refuse what real ones refuse.

use std::collections::BTreeSet;

use abide_tests::{FakeModel, Rule, Rules};
use serde_json::{Value, json};

use crate::models::strict_stage::{Props, StrictStage, caller};

async fn model(rules: Rules) -> FakeModel {
    FakeModel::strict_scripted(rules, caller(|n| format!("call_{n}"))).await
}

fn tool(name: &str, schema: Value) -> Value {
    json!({"name": name, "description": "Odd.", "inputSchema": schema})
}

/// Returns the names of the tools that the last request offers.
fn offered(model: &FakeModel) -> Vec<String> {
    let last = model.calls().pop().expect("it was asked").request;
    let tools = last["tools"].as_array().cloned().unwrap_or_default();
    let names = tools
        .iter()
        .filter_map(|tool| tool["function"]["name"].as_str());
    names.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_with_odd_schemas_are_offered_and_can_be_called() {
    let object = |properties: Value| json!({"type": "object", "properties": properties});
    let schemas = [
        json!({"type": "object"}),
        json!({"type": "object", "properties": null}),
        json!({"type": "object", "properties": {}, "required": null}),
        json!({"type": "object", "properties": {"a": {"type": "string"}},
               "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}),
        json!({"type": "object", "oneOf": [object(json!({"a": {}})), object(json!({"b": {}}))]}),
        json!({"type": "object", "allOf": [{"$ref": "#/$defs/a"}],
               "$defs": {"a": object(json!({"a": {"type": "array"}}))}}),
        json!({"type": "object", "$ref": "#/definitions/a",
               "definitions": {"a": object(json!({"a": {"type": "number"}}))}}),
        object(json!({"a": {"type": "array"}})),
        object(json!({"a": {"type": "array", "items": {"type": "array"}}})),
        object(json!({"a": {"type": ["array", "null"]}})),
        object(json!({"a": {"type": "object", "properties": {"b": {"type": "array"}}}})),
        object(json!({"a": {"anyOf": [{"type": "array"}, {"type": "null"}]}})),
        object(json!({"a": {"type": "object", "additionalProperties": {"type": "array"}}})),
        object(json!({"a": {"type": "array", "items": [{"type": "string"}]}})),
        object(json!({"a": {"type": "object", "required": null}})),
        object(json!({"a": {"enum": []}, "b": {"type": "float"}, "c": {"description": null}})),
        object(json!({"a": {"$ref": "#/$defs/gone"}})),
        json!({"type": "object", "properties": {}, "not": {"required": ["a"]}}),
        json!({"type": "object", "properties": {}, "if": {}, "then": {"type": "array"}}),
    ];
    let tools = schemas.iter().enumerate();
    let tools: Vec<_> = tools
        .map(|(n, schema)| tool(&format!("odd{n}"), schema.clone()))
        .collect();
    let strict = model(Rules::all()).await;
    let props = Props {
        tools,
        ..Props::default()
    };
    let stage = StrictStage::start(&[("a", &strict)], props).await;
    stage.hello().await;
    let names = offered(&strict);
    for (n, schema) in schemas.iter().enumerate() {
        let name = format!("t__odd{n}");
        assert!(names.contains(&name), "{schema} is not in {names:?}");
    }
    stage.chat("use t__odd3").await;
    stage.hello().await;
    assert_eq!(strict.violations(), []);
}

/// Includes definitions that the protocol's own parser rejects.
#[tokio::test(flavor = "multi_thread")]
async fn definitions_of_a_guest_are_made_acceptable_or_left_out_by_name() {
    let strict = model(Rules::all()).await;
    let stage = StrictStage::start(&[("a", &strict)], Props::default()).await;
    let parameters = [
        "{}",
        "null",
        "true",
        r#"{"type":"object","properties":[]}"#,
        r#"{"properties":{"a":{"type":"array"}}}"#,
        r#"{"type":["object","null"],"properties":{}}"#,
        r#"{"type":"object","required":["a",1,"a"],"properties":{"a":{}}}"#,
        r#"{"$schema":"x","type":"object","enum":[{}],"properties":{}}"#,
    ];
    let mut tools: Vec<_> = parameters
        .iter()
        .enumerate()
        .map(|(n, text)| json!({"name": format!("n{n}"), "description": "", "parameters": text}))
        .collect();
    let sound = r#"{"type":"object","properties":{}}"#;
    // Names that are too long, empty, duplicated, or equal once they are truncated.
    let long = "x".repeat(80);
    let names = [
        "",
        "a.b",
        "a/b",
        "a b",
        "n0",
        &long,
        &format!("{long}y"),
        "ä",
    ];
    tools.extend(names.map(|name| json!({"name": name, "description": "", "parameters": sound})));
    // These cannot be repaired.
    for text in ["nonsense", "[]", r#"{"type":"array","items":{}}"#, "7"] {
        tools.push(json!({"name": format!("bad{text}"), "description": "", "parameters": text}));
    }
    let line = json!({"role": "User", "content": "hello"});
    let done = stage
        .request(&json!({"messages": [line], "tools": tools}))
        .await;
    assert_eq!(done, "chat  ok");
    assert_eq!(strict.violations(), []);
    let offered: BTreeSet<_> = offered(&strict).into_iter().collect();
    for (n, text) in parameters.iter().enumerate() {
        assert!(offered.contains(&format!("n{n}")), "{text} in {offered:?}");
    }
    assert!(
        !offered.iter().any(|name| name.contains("bad")),
        "{offered:?}"
    );
    // The log names what was left out.
    stage.daemon.logged("bad").await;
    stage.hello().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_whose_name_is_too_long_is_offered_under_another_and_called_by_its_own() {
    let strict = model(Rules::all()).await;
    let long = "l".repeat(63);
    let props = Props {
        tools: ["x", "y"]
            .map(|end| tool(&format!("{long}{end}"), json!({"type": "object"})))
            .to_vec(),
        ..Props::default()
    };
    let stage = StrictStage::start(&[("a", &strict)], props).await;
    stage.hello().await;
    let names = offered(&strict).into_iter();
    let names: Vec<_> = names.filter(|name| name.contains("llll")).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let mut called = BTreeSet::new();
    for name in names {
        stage.chat(&format!("use {name}")).await;
        let last = strict.calls().pop().expect("it was asked").request;
        let lines = last["messages"].as_array().cloned().unwrap_or_default();
        let result = lines.iter().rfind(|line| line["role"] == "tool");
        let result = result.expect("it was called")["content"].to_string();
        assert!(result.contains("called l"), "{result}");
        called.insert(result);
    }
    assert_eq!(called.len(), 2, "{called:?}");
    stage.hello().await;
    assert_eq!(strict.violations(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_tools_are_offered_than_a_server_takes() {
    let tools =
        |count: usize| (0..count).map(|n| tool(&format!("n{n}"), json!({"type": "object"})));
    for (lines, most) in [("", 128), ("tools_max = 20", 20)] {
        let strict = model(Rules::only([Rule::ToolsMax])).await;
        let props = Props {
            tools: tools(200).collect(),
            lines,
            ..Props::default()
        };
        let stage = StrictStage::start(&[("a", &strict)], props).await;
        stage.hello().await;
        assert_eq!(offered(&strict).len(), most);
        stage.hello().await;
        assert_eq!(strict.violations(), []);
        stage.daemon.logged("left out").await;
    }
}

/// Conversations that no model writes but a guest may: each is sent to the model, and none ends the
/// session.
#[tokio::test(flavor = "multi_thread")]
async fn odd_conversations_of_a_guest_are_taken() {
    let strict = model(Rules::all()).await;
    let stage = StrictStage::start(&[("a", &strict)], Props::default()).await;
    let line = |role: &str, content: &str| json!({"role": role, "content": content});
    let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "name": name, "arguments": arguments});
    let asks = |content: &str, calls: Value| json!({"role": "Assistant", "content": content, "tool_calls": calls});
    let result =
        |id: &str, content: &str| json!({"role": "Tool", "content": content, "tool_call_id": id});
    let cases: Vec<(&str, Vec<Value>)> = vec![
        (
            "several system messages",
            vec![
                line("System", "a"),
                line("System", "b"),
                line("User", "x"),
                line("System", "c"),
            ],
        ),
        ("only a system message", vec![line("System", "a")]),
        (
            "a system message last",
            vec![line("User", "x"), line("System", "a")],
        ),
        (
            "empty ones",
            vec![
                line("System", ""),
                line("User", " "),
                line("Assistant", ""),
                line("User", "\n"),
            ],
        ),
        (
            "the assistant first",
            vec![line("Assistant", "hi"), line("User", "x")],
        ),
        (
            "the assistant last",
            vec![line("User", "x"), line("Assistant", "hi")],
        ),
        (
            "users in a row",
            vec![line("User", "x"), line("User", "y"), line("User", "z")],
        ),
        (
            "assistants in a row",
            vec![
                line("User", "x"),
                line("Assistant", "a"),
                line("Assistant", "b"),
                line("User", "y"),
            ],
        ),
        (
            "an orphaned result",
            vec![line("User", "x"), result("c", "r"), line("User", "y")],
        ),
        (
            "a result without an id",
            vec![
                line("User", "x"),
                asks("", json!([call("c", "f", "{}")])),
                line("Tool", "r"),
            ],
        ),
        (
            "a missing result",
            vec![
                line("User", "x"),
                asks("", json!([call("c", "f", "{}"), call("d", "f", "{}")])),
                result("c", "r"),
                line("User", "y"),
            ],
        ),
        (
            "no result at all",
            vec![line("User", "x"), asks("a", json!([call("c", "f", "{}")]))],
        ),
        (
            "a result twice",
            vec![
                line("User", "x"),
                asks("", json!([call("c", "f", "{}")])),
                result("c", "r"),
                result("c", "s"),
            ],
        ),
        (
            "a late result",
            vec![
                line("User", "x"),
                asks("", json!([call("c", "f", "{}")])),
                line("User", "y"),
                result("c", "r"),
                line("Assistant", "z"),
                line("User", "w"),
            ],
        ),
        (
            "duplicate ids",
            vec![
                line("User", "x"),
                asks(
                    "",
                    json!([
                        call("c", "f", "{}"),
                        call("c", "g", "{}"),
                        call("", "f", "{}")
                    ]),
                ),
                result("c", "r"),
                result("c", "s"),
                result("", "t"),
                asks("", json!([call("c", "f", "{}")])),
                result("c", "u"),
            ],
        ),
        (
            "odd names",
            vec![
                line("User", "x"),
                asks(
                    "",
                    json!([
                        call("a", "", "{}"),
                        call("b", "t__f<|channel|>commentary", "{}"),
                        call("c", &"n".repeat(100), "{}"),
                        call("d", "é.f", "{}"),
                    ]),
                ),
                result("a", "r"),
                result("b", "r"),
                result("c", "r"),
                result("d", "r"),
            ],
        ),
        (
            "odd arguments",
            vec![
                line("User", "x"),
                asks(
                    "",
                    json!([
                        call("a", "f", ""),
                        call("b", "f", "null"),
                        call("c", "f", "[1]"),
                        call("d", "f", "{\"a\":"),
                        call("e", "f", "\"x\""),
                    ]),
                ),
                result("a", ""),
                result("b", " "),
                result("c", "r"),
                result("d", "r"),
                result("e", "r"),
            ],
        ),
        (
            "calls between others",
            vec![
                line("User", "x"),
                line("Assistant", "a"),
                asks("b", json!([call("c", "f", "{}")])),
                result("c", "r"),
                line("System", "n"),
                asks("", json!([call("d", "f", "{}")])),
                result("d", "s"),
                line("User", "y"),
                line("System", "m"),
            ],
        ),
    ];
    for (name, messages) in cases {
        let before = strict.violations().len();
        // Another first message makes each a conversation of its own.
        let mark = json!({"role": "System", "content": format!("[session={name}]")});
        let messages: Vec<_> = [mark].into_iter().chain(messages).collect();
        let done = stage
            .request(&json!({"messages": messages, "tools": []}))
            .await;
        let refused = &strict.violations()[before..];
        assert_eq!((done.as_str(), refused), ("chat  ok", &[][..]), "{name}");
    }
    stage.hello().await;
}
