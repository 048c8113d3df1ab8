//! The rules of strict servers: a sound request passes all of them, and each rule catches what it
//! is meant to catch and nothing else.

use abide_tests::{RULES, Rule, Rules, prefix_kept};
use serde_json::{Value, json};

fn call(id: &str, name: &str, arguments: &str) -> Value {
    let function = json!({"name": name, "arguments": arguments});
    json!({"id": id, "type": "function", "function": function})
}

fn tool(name: &str, parameters: Value) -> Value {
    let function = json!({"name": name, "description": "Looks.", "parameters": parameters});
    json!({"type": "function", "function": function})
}

/// Returns a request that contains everything which is allowed.
fn sound() -> Value {
    let nested = json!({"type": "object", "properties": {
        "list": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/n"}]}},
        "maybe": {"type": ["array", "null"], "items": {}},
    }, "required": ["list"], "additionalProperties": false, "$defs": {"n": {"type": "integer"}}});
    json!({
        "model": "fake",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "look twice"},
            {"role": "assistant", "content": null,
             "tool_calls": [call("aaaaaaaa1", "t__look", "{}"), call("aaaaaaaa2", "t__look", "{}")]},
            {"role": "tool", "tool_call_id": "aaaaaaaa2", "content": "two"},
            {"role": "tool", "tool_call_id": "aaaaaaaa1", "content": "one"},
            {"role": "assistant", "content": "Done."},
            {"role": "user", "content": [{"type": "text", "text": "again"}]},
            {"role": "assistant", "content": "Once more.",
             "tool_calls": [call("aaaaaaaa3", "t__look", "{\"a\": 1}")]},
            {"role": "tool", "tool_call_id": "aaaaaaaa3", "content": "three"},
        ],
        "tools": [
            tool("t__look", json!({"type": "object", "properties": {}})),
            tool("t__nested", nested),
        ],
        "stream": true,
    })
}

/// Returns the sound request with another value at a place.
fn with(pointer: &str, value: Value) -> Value {
    let mut request = sound();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer has a key");
    let parent = request.pointer_mut(parent).expect("there is such a place");
    match parent {
        Value::Array(list) => list[key.parse::<usize>().expect("an index")] = value,
        parent => parent[key] = value,
    }
    request
}

/// Returns the sound request with a message inserted.
fn inserted(at: usize, line: Value) -> Value {
    let mut request = sound();
    let lines = request["messages"].as_array_mut().expect("a list");
    lines.insert(at, line);
    request
}

/// Returns the sound request without these of its messages.
fn without(gone: &[usize]) -> Value {
    let mut request = sound();
    let lines = request["messages"].as_array_mut().expect("a list");
    let mut at = 0..;
    lines.retain(|_| !gone.contains(&at.next().expect("numbers go on")));
    request
}

fn broken(request: &Value) -> Vec<Rule> {
    let broken = RULES.iter().copied();
    broken
        .filter(|rule| rule.check(request).is_some())
        .collect()
}

/// The rules that a sound request breaks, because it streams and has a system message.
const UNLESS_ASKED: [Rule; 2] = [Rule::NoStream, Rule::NoSystem];

#[test]
fn a_sound_request_breaks_no_rule() {
    assert_eq!(broken(&sound()), UNLESS_ASKED);
    assert_eq!(Rules::all().violations(&sound()), []);
    let plain = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}]});
    assert_eq!(broken(&plain), []);
}

#[test]
fn each_rule_catches_its_own_and_nothing_else() {
    let system = |text: &str| json!({"role": "system", "content": text});
    let user = |text: &str| json!({"role": "user", "content": text});
    let assistant = |text: &str| json!({"role": "assistant", "content": text});
    let tools = |count: usize| {
        let tools = (0..count).map(|n| {
            let name = if n == 0 {
                "t__look".to_owned()
            } else {
                format!("t{n}")
            };
            tool(&name, json!({"type": "object", "properties": {}}))
        });
        tools.collect::<Value>()
    };
    let system_late = [
        Rule::SystemFirst,
        Rule::SystemFirstJinja,
        Rule::SystemNotBehind,
    ];
    let cases: Vec<(&str, Value, &[Rule])> = vec![
        (
            "a second system message",
            inserted(1, system("x")),
            &[Rule::SystemFirst, Rule::SystemFirstJinja],
        ),
        (
            "a late system message",
            inserted(6, system("x")),
            &system_late,
        ),
        (
            "two user messages",
            inserted(1, user("x")),
            &[Rule::Alternation, Rule::AlternationWithResults],
        ),
        (
            "two assistant messages",
            inserted(5, assistant("x")),
            &[Rule::Alternation, Rule::AlternationWithResults],
        ),
        (
            "user behind tool",
            without(&[5]),
            &[
                Rule::NoUserBehindTool,
                Rule::Alternation,
                Rule::AlternationWithResults,
            ],
        ),
        (
            "the assistant first",
            inserted(1, assistant("x")),
            &[Rule::UserFirst, Rule::Alternation],
        ),
        (
            "the assistant last",
            inserted(9, assistant("x")),
            &[Rule::UserOrToolLast],
        ),
        (
            "empty content",
            with("/messages/5/content", json!("")),
            &[Rule::NoBlankContent],
        ),
        (
            "blank content",
            with("/messages/3/content", json!(" \n\t")),
            &[Rule::NoBlankContent],
        ),
        (
            "empty beside calls",
            with("/messages/2/content", json!("")),
            &[Rule::NoBlankContent],
        ),
        (
            "a blank part",
            with("/messages/6/content/0/text", json!(" ")),
            &[Rule::NoBlankContent],
        ),
        (
            "no parts",
            with("/messages/6/content", json!([])),
            &[Rule::NoBlankContent],
        ),
        (
            "null without calls",
            with("/messages/5/content", Value::Null),
            &[Rule::ContentBesideCalls],
        ),
        ("a result is missing", without(&[3]), &[Rule::CallsAnswered]),
        (
            "the last results are missing",
            without(&[8]),
            &[Rule::UserOrToolLast, Rule::CallsAnswered],
        ),
        (
            "a result twice",
            inserted(
                4,
                json!({"role": "tool", "tool_call_id": "aaaaaaaa2", "content": "x"}),
            ),
            &[Rule::CallsAnswered],
        ),
        (
            "a result of nothing",
            inserted(
                6,
                json!({"role": "tool", "tool_call_id": "aaaaaaaa1", "content": "x"}),
            ),
            &[
                Rule::CallsAnswered,
                Rule::NoUserBehindTool,
                Rule::AlternationWithResults,
            ],
        ),
        (
            "an id again",
            {
                let mut request = with("/messages/7/tool_calls/0/id", json!("aaaaaaaa1"));
                request["messages"][8]["tool_call_id"] = json!("aaaaaaaa1");
                request
            },
            &[Rule::UniqueIds],
        ),
        (
            "an id of OpenAI's",
            {
                let mut request = with("/messages/7/tool_calls/0/id", json!("call_abcdefghi"));
                request["messages"][8]["tool_call_id"] = json!("call_abcdefghi");
                request
            },
            &[Rule::IdsOfNine],
        ),
        (
            "a called name with junk",
            {
                let name = json!("t__look<|channel|>commentary");
                with("/messages/7/tool_calls/0/function/name", name)
            },
            &[Rule::CalledNames, Rule::CalledAreDefined],
        ),
        (
            "a called name that is empty",
            with("/messages/7/tool_calls/0/function/name", json!("")),
            &[Rule::CalledNames, Rule::CalledAreDefined],
        ),
        (
            "a called name that is not defined",
            with("/messages/7/tool_calls/0/function/name", json!("t__gone")),
            &[Rule::CalledAreDefined],
        ),
        (
            "arguments that are none",
            with("/messages/7/tool_calls/0/function/arguments", json!("")),
            &[Rule::ObjectArguments],
        ),
        (
            "arguments that are a list",
            with("/messages/7/tool_calls/0/function/arguments", json!("[]")),
            &[Rule::ObjectArguments],
        ),
        (
            "arguments that are no string",
            with("/messages/7/tool_calls/0/function/arguments", json!({})),
            &[Rule::ObjectArguments],
        ),
        (
            "no tools",
            with("/tools", Value::Null),
            &[Rule::ToolsWithCalls, Rule::CalledAreDefined],
        ),
        (
            "an empty list of tools",
            with("/tools", json!([])),
            &[Rule::ToolsMax, Rule::ToolsWithCalls, Rule::CalledAreDefined],
        ),
        ("129 tools", with("/tools", tools(129)), &[Rule::ToolsMax]),
        ("128 tools", with("/tools", tools(128)), &[]),
        (
            "a long name",
            with("/tools/1/function/name", json!("x".repeat(65))),
            &[Rule::ToolNames],
        ),
        (
            "a name with a dot",
            with("/tools/1/function/name", json!("a.b")),
            &[Rule::ToolNames],
        ),
        (
            "a name twice",
            with("/tools/1/function/name", json!("t__look")),
            &[Rule::ToolNames],
        ),
        (
            "a field of the body",
            with("/reasoning", json!({})),
            &[Rule::KnownFields],
        ),
        (
            "a field of a message",
            with("/messages/5/reasoning", json!("")),
            &[Rule::KnownFields],
        ),
        (
            "a field of a call",
            with("/messages/7/tool_calls/0/index", json!(0)),
            &[Rule::KnownFields],
        ),
        (
            "calls of a user",
            with("/messages/6/tool_calls", json!([])),
            &[Rule::KnownFields],
        ),
        (
            "stream options",
            with("/stream_options", json!({"include_usage": true})),
            &[Rule::NoStreamOptions],
        ),
        (
            "max_tokens",
            with("/max_tokens", json!(7)),
            &[Rule::NoMaxTokens],
        ),
        (
            "max_completion_tokens",
            with("/max_completion_tokens", json!(7)),
            &[Rule::NoMaxCompletionTokens],
        ),
        (
            "a temperature",
            with("/temperature", json!(0.5)),
            &[Rule::NoTemperature],
        ),
        (
            "the temperature of 1",
            with("/temperature", json!(1.0)),
            &[],
        ),
        (
            "an image",
            {
                let image = json!({"type": "image_url", "image_url": {"url": "data:,"}});
                with(
                    "/messages/6/content",
                    json!([image, {"type": "text", "text": "see"}]),
                )
            },
            &[Rule::NoImages],
        ),
    ];
    for (name, request, expected) in cases {
        let found = broken(&request).into_iter();
        let mut found: Vec<_> = found.filter(|rule| !UNLESS_ASKED.contains(rule)).collect();
        found.sort();
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(found, expected, "{name}: {request}");
        for rule in expected {
            let violation = rule.check(&request).expect("it was found");
            assert_eq!(violation.rule, Some(rule), "{name}");
            assert!(
                violation.status >= 400 && violation.body.is_object(),
                "{violation:?}"
            );
            assert_eq!(
                Rules::only([rule]).violations(&request),
                [violation],
                "{name}"
            );
        }
    }
}

#[test]
fn openai_refuses_these_schemas() {
    let object = |properties: Value| json!({"type": "object", "properties": properties});
    let refused = [
        Value::Null,
        json!(true),
        json!({}),
        json!({"type": "object"}),
        json!({"properties": {}}),
        json!({"type": ["object", "null"], "properties": {}}),
        json!({"type": "object", "properties": null}),
        json!({"type": "object", "properties": []}),
        json!({"type": "object", "properties": {}, "required": null}),
        json!({"type": "object", "properties": {}, "required": true}),
        json!({"type": "object", "properties": {}, "required": [1]}),
        json!({"type": "object", "properties": {}, "anyOf": [{"required": ["a"]}]}),
        json!({"type": "object", "properties": {}, "oneOf": []}),
        json!({"type": "object", "properties": {}, "allOf": [{}]}),
        json!({"type": "object", "properties": {}, "not": {}}),
        json!({"type": "object", "properties": {}, "enum": [{}]}),
        json!({"type": "object", "properties": {}, "$ref": "#/$defs/a", "$defs": {"a": {}}}),
        json!({"type": "object", "properties": {}, "$defs": {"a": {"type": "array"}}}),
        object(json!({"a": {"type": "array"}})),
        object(json!({"a": {"type": ["array", "null"]}})),
        object(json!({"a": {"type": "object", "properties": {"b": {"type": "array"}}}})),
        object(json!({"a": {"anyOf": [{"type": "string"}, {"type": "array"}]}})),
        object(json!({"a": {"type": "array", "items": {"type": "array"}}})),
        object(json!({"a": {"type": "array", "items": [{"type": "string"}]}})),
        object(json!({"a": {"type": "object", "additionalProperties": {"type": "array"}}})),
        object(json!({"a": {"type": "object", "properties": {}, "required": null}})),
        object(json!({"a": {"type": "object", "properties": null}})),
        object(json!({"a": {"type": "float"}})),
        object(json!({"a": {"type": null}})),
        object(json!({"a": null})),
        object(json!({"a": "string"})),
        object(json!({"a": {"enum": []}})),
        object(json!({"a": {"$ref": "#/$defs/gone"}})),
        object(json!({"a": {"$ref": "https://abide.example/schema"}})),
    ];
    for parameters in refused {
        let request = with("/tools/1/function/parameters", parameters.clone());
        assert!(Rule::Schemas.check(&request).is_some(), "{parameters}");
    }
    let taken = [
        object(json!({"enum": {"type": "string"}, "required": {"type": "boolean"}})),
        object(json!({"a": true, "b": {}, "c": {"type": ["string", "null"]}})),
        object(json!({"a": {"anyOf": [{"type": "null"}, {"type": "array", "items": {}}]}})),
        object(json!({"a": {"const": 1}, "b": {"enum": [null, "x"]}})),
        object(json!({"a": {"$ref": "#"}})),
        json!({"type": "object", "properties": {}, "required": [], "$schema": "x"}),
    ];
    for parameters in taken {
        let request = with("/tools/1/function/parameters", parameters.clone());
        assert_eq!(Rule::Schemas.check(&request), None, "{parameters}");
    }
}

#[test]
fn a_window_counts_the_whole_request() {
    let tokens = sound().to_string().len() / 4;
    assert_eq!(Rules::default().window(tokens).violations(&sound()), []);
    let over = Rules::default().window(tokens - 1).violations(&sound());
    assert_eq!(over[0].body["error"]["code"], "context_length_exceeded");
}

#[test]
fn a_prefix_is_kept_or_it_is_told_what_changed() {
    let lines = |request: Value| request["messages"].as_array().cloned().expect("a list");
    let earlier = lines(sound());
    let kept = |later: &[Value]| prefix_kept(&earlier, later);
    assert_eq!(kept(&earlier), Ok(()));
    assert_eq!(prefix_kept(&[], &earlier), Ok(()));
    let mut longer = earlier.clone();
    longer.push(json!({"role": "assistant", "content": "more"}));
    longer.push(json!({"role": "user", "content": "go on"}));
    assert_eq!(kept(&longer), Ok(()));
    // An abandoned turn is missing, and another one takes its place.
    let mut given_up = earlier[..6].to_vec();
    given_up.push(json!({"role": "user", "content": "something else"}));
    assert_eq!(kept(&given_up), Ok(()));
    assert_eq!(kept(&earlier[..2]), Ok(()));
    // A shortened conversation starts a new prefix.
    let mut shortened = longer.clone();
    shortened[3]["content"] = "[dropped to save room]".into();
    assert_eq!(kept(&shortened), Ok(()));
    for (pointer, value) in [
        ("/messages/0/content", json!("Be long.")),
        ("/messages/1/content", json!("look thrice")),
        ("/messages/2/tool_calls/0/id", json!("bbbbbbbb1")),
        ("/messages/3/content", json!("three")),
        ("/messages/5/content", json!("Not done.")),
        ("/messages/6/content", json!("again")),
    ] {
        assert!(kept(&lines(with(pointer, value))).is_err(), "{pointer}");
    }
    let removed = lines(without(&[0]));
    assert!(kept(&removed).is_err());
    // A user message without a reply may still change, because the next one is joined to it.
    let open = lines(without(&[7, 8]));
    let mut joined = open.clone();
    joined[6]["content"] = "again, and more".into();
    assert_eq!(prefix_kept(&open, &joined), Ok(()));
}
