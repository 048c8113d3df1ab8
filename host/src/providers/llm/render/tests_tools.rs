//! Tests of the tools that are sent: their names, schemas and number.

use serde_json::{Value, json};

use super::body::body;
use super::tests::{calls, request, result, says, tool};
use super::{names, schema};
use crate::domain::ChatRole::User;
use crate::providers::llm::LlmProvider;
use crate::providers::llm::dialect::Dialect;

#[test]
fn tools_are_named_and_described_as_any_server_takes_them() {
    let long = format!("files__{}", "x".repeat(70));
    let mut request = request(vec![
        says(User, "go"),
        calls("", &[("a", "gone__tool", "{}")]),
        result("a", "done"),
    ]);
    request.tools = vec![
        tool("files__read", "{}"),
        tool(&long, r#"{"type": "object"}"#),
        tool("pay.now!", "null"),
        tool("files__read", "{}"),
        tool("text", r#"{"type": "string"}"#),
        tool("broken", "{"),
    ];
    let sent =
        body(&request, "m", &LlmProvider::example(), &Dialect::default()).expect("it can be asked");
    let sent_names: Vec<&str> = sent.body["tools"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|tool| tool["function"]["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(sent_names.len(), 4);
    assert!(
        sent_names.iter().all(|name| names::is_sound(name)),
        "{sent_names:?}"
    );
    let back = sent.names.back();
    let own: Vec<&str> = sent_names.iter().map(|name| back[name]).collect();
    assert_eq!(own, ["files__read", &long, "pay.now!", "gone__tool"]);
    let left_out: Vec<&str> = sent.left_out.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(left_out, ["files__read", "text", "broken"]);
}

#[test]
fn of_too_many_tools_those_that_the_conversation_names_stay() {
    let mut request = request(vec![
        says(User, "go"),
        calls("", &[("a", "t9", "{}"), ("b", "gone", "{}")]),
        result("a", "done"),
        result("b", "done"),
    ]);
    request.tools = (0..10).map(|n| tool(&format!("t{n}"), "{}")).collect();
    let few = LlmProvider {
        tools_max: 4,
        ..LlmProvider::example()
    };
    let sent = body(&request, "m", &few, &Dialect::default()).expect("it can be asked");
    let names: Vec<&Value> = sent.body["tools"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|tool| &tool["function"]["name"])
        .collect();
    assert_eq!(names, ["t0", "t1", "t9", "gone"]);
    assert_eq!(sent.left_out.len(), 7);
}

#[test]
fn schemas_are_what_every_server_takes() {
    let object = json!({"type": "object", "properties": {}});
    let cases = [
        ("{}", object.clone()),
        ("null", object.clone()),
        ("true", object.clone()),
        (r#"{"type":"object"}"#, object.clone()),
        (r#"{"type":["object","null"]}"#, object.clone()),
        (r#"{"properties":null,"required":null}"#, object.clone()),
        (r#"{"type":"object","required":["x"]}"#, object.clone()),
        (r#"{"$schema":"http://s","type":"object","not":{}}"#, object),
        (
            r#"{"properties":{"a":{"type":"array"},"b":true,"c":{"type":["array","null"],"items":[{}]},
                "d":{"properties":null,"required":true,"description":null},"e":null}}"#,
            json!({"type": "object", "properties": {
                "a": {"type": "array", "items": {}}, "b": {},
                "c": {"type": "array", "nullable": true, "items": {}}, "d": {}, "e": {}
            }}),
        ),
        (
            r#"{"anyOf":[{"properties":{"a":{"type":"string"}},"required":["a","z"]},
                {"properties":{"b":{}, "z":{}},"required":["b","z"]}]}"#,
            json!({"type": "object",
                "properties": {"a": {"type": "string"}, "b": {}, "z": {}},
                "required": ["z"],
                "description": "Give one of these: a and z, or b and z."}),
        ),
        (
            r##"{"$ref":"#/$defs/A","$defs":{"A":{"type":"object","properties":{"x":{"$ref":"#/$defs/B"},
                "y":{"$ref":"http://elsewhere"}},"required":["x"]},"B":{"type":"integer"}}}"##,
            json!({"type": "object",
                "properties": {"x": {"$ref": "#/$defs/B"}, "y": {}},
                "required": ["x"],
                "$defs": {
                    "A": {"type": "object", "properties": {"x": {"$ref": "#/$defs/B"}, "y": {}},
                        "required": ["x"]},
                    "B": {"type": "integer"}}}),
        ),
        (
            r#"{"allOf":[{"properties":{"a":{}},"required":["a"]},{"properties":{"b":{}},"required":["b"]}]}"#,
            json!({"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a", "b"]}),
        ),
    ];
    for (given, expected) in cases {
        assert_eq!(schema::of_arguments(given), Ok(expected), "{given}");
    }
    for given in [
        "{",
        "7",
        "false",
        "[]",
        r#"{"type":"string"}"#,
        r#"{"type":[]}"#,
    ] {
        assert!(schema::of_arguments(given).is_err(), "{given}");
    }
}

#[test]
fn schemas_that_go_round_in_circles_end() {
    for given in [
        r##"{"$ref":"#"}"##,
        r##"{"allOf":[{"$ref":"#"},{"$ref":"#"}]}"##,
        r##"{"$ref":"#/$defs/A","$defs":{"A":{"allOf":[{"$ref":"#/$defs/A"},{"$ref":"#/$defs/A"}]}}}"##,
        r##"{"oneOf":[{"$ref":"#/$defs/A"}],"$defs":{"A":{"$ref":"#/$defs/A"}}}"##,
    ] {
        assert_eq!(schema::of_arguments(given).map(|_| ()), Ok(()), "{given}");
    }
}

#[test]
fn what_single_servers_refuse_in_a_schema_is_put_otherwise() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "string", "anyOf": [{"enum": ["x"]}, {"type": "integer"}]},
        "b": {"not": {}, "type": "string", "pattern": "ab+"},
        "c": {"type": "string", "pattern": "^ab+$"},
    }});
    let cleaned = super::schema::of_arguments(&schema.to_string()).expect("an object");
    let properties = &cleaned["properties"];
    assert_eq!(
        properties["a"],
        json!({"anyOf": [{"enum": ["x"], "type": "string"}, {"type": "integer"}]})
    );
    assert_eq!(properties["b"], json!({"type": "string"}));
    assert_eq!(
        properties["c"],
        json!({"type": "string", "pattern": "^ab+$"})
    );
}

#[test]
fn names_begin_with_a_letter() {
    let mut names = super::names::ToolNames::default();
    for own in ["21st__search", "_private", "-x"] {
        let sent = names.send(own);
        assert!(sent.starts_with('t'), "{sent}");
        assert_eq!(names.back()[sent.as_str()], own);
    }
    assert_eq!(names.send("web__search"), "web__search");
}
