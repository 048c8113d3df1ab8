use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;
use serde_json::Value;

use super::body::body;
use super::names;
use crate::domain::{ChatMessage, ChatRequest, ChatRole, ModelToolCall, ToolDefinition};
use crate::providers::llm::LlmProvider;
use crate::providers::llm::dialect::{Dialect, Mend};

pub(super) fn request(messages: Vec<ChatMessage>) -> ChatRequest {
    ChatRequest {
        provider: None,
        model: None,
        messages,
        tools: Vec::new(),
        max_tokens: None,
        temperature: None,
    }
}

pub(super) fn says(role: ChatRole, content: &str) -> ChatMessage {
    ChatMessage {
        role,
        content: content.to_owned(),
        tool_calls: Vec::new(),
        tool_call_id: None,
    }
}

pub(super) fn calls(content: &str, calls: &[(&str, &str, &str)]) -> ChatMessage {
    let calls = calls.iter().map(|(id, name, arguments)| ModelToolCall {
        id: (*id).to_owned(),
        name: (*name).to_owned(),
        arguments: (*arguments).to_owned(),
    });
    ChatMessage {
        tool_calls: calls.collect(),
        ..says(ChatRole::Assistant, content)
    }
}

pub(super) fn result(id: &str, content: &str) -> ChatMessage {
    ChatMessage {
        tool_call_id: Some(id.to_owned()),
        ..says(ChatRole::Tool, content)
    }
}

fn rendered(request: &ChatRequest, dialect: &Dialect) -> Value {
    let sent = body(request, "m", &LlmProvider::example(), dialect).expect("it can be asked");
    Value::Object(sent.body)
}

/// Renders the conversation as `role: text` lines, with calls as `NAME(ARGUMENTS)`.
fn shown(messages: Vec<ChatMessage>) -> Vec<String> {
    shown_in(&rendered(&request(messages), &Dialect::default()))
}

fn shown_in(body: &Value) -> Vec<String> {
    let messages = body["messages"].as_array().expect("a list");
    let lines = messages.iter().map(|message| {
        let role = message["role"].as_str().expect("a role");
        let text = match &message["content"] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            parts => parts.to_string(),
        };
        let calls = message["tool_calls"].as_array().into_iter().flatten();
        let calls = calls.map(|call| {
            let function = &call["function"];
            let (name, arguments) = (&function["name"], &function["arguments"]);
            let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
            format!(" {}({})", text(name), text(arguments))
        });
        format!("{role}: {text}{}", calls.collect::<String>())
    });
    lines.collect()
}

use ChatRole::{Assistant, System, User};

#[test]
fn notices_and_notes_stand_in_front_of_what_the_user_says_next() {
    let lines = shown(vec![
        says(System, "Be brief."),
        says(System, "You are Ada's."),
        says(User, "hello"),
        says(Assistant, "hi"),
        says(System, "[system] The daemon restarted."),
        says(User, "go on"),
    ]);
    assert_eq!(
        lines,
        [
            "system: Be brief.\n\nYou are Ada's.",
            "user: hello",
            "assistant: hi",
            "user: [system] The daemon restarted.\n\ngo on",
        ]
    );
    // A notice is not an instruction either if the guest gives none.
    let lines = shown(vec![
        says(System, "[system] The daemon restarted."),
        says(User, "hello"),
    ]);
    assert_eq!(lines, ["user: [system] The daemon restarted.\n\nhello"]);
}

#[test]
fn what_the_user_says_while_tools_run_stands_behind_their_results() {
    let lines = shown(vec![
        says(User, "order"),
        calls("", &[("a", "shop__order", "{}"), ("b", "shop__pay", "")]),
        says(User, "two, please"),
        result("b", "paid"),
        result("a", ""),
    ]);
    assert_eq!(
        lines,
        [
            "user: order",
            "assistant:  shop__order({}) shop__pay({})",
            "tool: (no output)",
            "tool: paid",
            "assistant: (Noted.)",
            "user: two, please",
        ]
    );
}

#[test]
fn nothing_is_half_a_call() {
    let lines = shown(vec![
        result("lost", "an old result"),
        calls("", &[("a", "t", "not json")]),
        says(Assistant, ""),
    ]);
    assert_eq!(
        lines,
        [
            "user: [a tool's result] an old result",
            "assistant:  t({\"malformed\":\"not json\"})",
            "tool: (no result is known: it is unknown whether the call was made)",
            "assistant: (no answer)",
            "user: (Go on.)",
        ]
    );
}

#[test]
fn calls_with_the_same_id_keep_their_results() {
    let messages = vec![
        says(User, "go"),
        calls("", &[("call_0", "a", "{}"), ("call_0", "b", "{}")]),
        result("call_0", "of a"),
        result("call_0", "of b"),
        calls("", &[("call_0", "c", "{}")]),
        result("call_0", "of c"),
    ];
    let body = rendered(&request(messages), &Dialect::default());
    let messages = body["messages"].as_array().expect("a list");
    let asked: Vec<&Value> = messages
        .iter()
        .flat_map(|message| message["tool_calls"].as_array().into_iter().flatten())
        .map(|call| &call["id"])
        .collect();
    let answered: Vec<&Value> = messages
        .iter()
        .filter(|message| message["role"] == "tool")
        .map(|message| &message["tool_call_id"])
        .collect();
    assert_eq!(asked, answered);
    let texts: Vec<&Value> = messages
        .iter()
        .filter(|message| message["role"] == "tool")
        .map(|message| &message["content"])
        .collect();
    assert_eq!(texts, ["of a", "of b", "of c"]);
    assert_eq!(asked.iter().collect::<HashSet<_>>().len(), 3);
}

#[test]
fn an_id_that_any_server_takes_is_kept() {
    let messages = vec![
        says(User, "go"),
        calls("", &[("abcDEF123", "a", "{}")]),
        result("abcDEF123", "done"),
    ];
    let body = rendered(&request(messages), &Dialect::default());
    assert_eq!(body["messages"][1]["tool_calls"][0]["id"], "abcDEF123");
}

#[test]
fn images_of_results_come_from_the_user() {
    let image = "before ![shot](data:image/png;base64,AAAA) behind";
    let messages = vec![
        says(User, "look"),
        calls("", &[("a", "shoot", "{}")]),
        result("a", image),
    ];
    let body = rendered(&request(messages.clone()), &Dialect::default());
    let noted = "before [3 bytes of image/png] [shown below] behind";
    assert_eq!(body["messages"][2]["content"], noted);
    assert_eq!(body["messages"][3]["role"], "assistant");
    let parts = &body["messages"][4]["content"];
    assert_eq!(parts[0]["text"], "(Images of the tool results above:)");
    assert_eq!(parts[1]["image_url"]["url"], "data:image/png;base64,AAAA");
    let blind = Dialect::default().without(Mend::Images).expect("news");
    let body = rendered(&request(messages), &blind);
    let noted = "before [3 bytes of image/png] behind";
    assert_eq!(body["messages"][2]["content"], noted);
    assert_eq!(body["messages"].as_array().map(Vec::len), Some(3));
}

#[test]
fn a_provider_that_knows_no_system_and_no_tools_is_told_as_text() {
    let messages = vec![
        says(System, "Be brief."),
        says(User, "go"),
        calls("well", &[("a", "t", "{\"x\":1}")]),
        result("a", "done"),
        says(User, "and?"),
    ];
    let dialect = Dialect::default().without(Mend::System).expect("news");
    let dialect = dialect.without(Mend::ToolLines).expect("news");
    let body = rendered(&request(messages), &dialect);
    assert_eq!(
        shown_in(&body),
        [
            "user: Be brief.\n\ngo",
            "assistant: well\n[I call t with {\"x\":1}]",
            "user: [the result of t] done",
            "assistant: (Noted.)",
            "user: and?",
        ]
    );
    assert!(body.get("tools").is_none(), "{body}");
}

pub(super) fn tool(name: &str, parameters: &str) -> ToolDefinition {
    ToolDefinition {
        name: name.to_owned(),
        description: "What it does.".to_owned(),
        parameters: parameters.to_owned(),
    }
}

/// Returns what the strictest server would refuse in a request, if anything.
fn complaint(body: &Value) -> Option<String> {
    let messages = body["messages"].as_array().expect("a list");
    let defined: BTreeSet<&str> = body["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tool| tool["function"]["name"].as_str())
        .collect();
    let (mut ids, mut open) = (BTreeSet::new(), Vec::new());
    let mut before = "system";
    for (n, message) in messages.iter().enumerate() {
        let role = message["role"].as_str().expect("a role");
        let calls = message["tool_calls"].as_array();
        let follows = match role {
            "system" => n == 0,
            "user" => matches!(before, "system" | "assistant"),
            "assistant" => matches!(before, "user" | "tool"),
            "tool" => matches!(before, "asked" | "tool"),
            _ => false,
        };
        if !follows {
            return Some(format!("{role} behind {before} at {n}"));
        }
        if role == "tool" {
            if open.is_empty() || message["tool_call_id"] != open.remove(0) {
                return Some(format!("no call for the result at {n}"));
            }
        } else if !open.is_empty() {
            return Some(format!("calls without results at {n}"));
        }
        let blank = match &message["content"] {
            Value::Null => calls.is_none(),
            Value::String(text) => text.trim().is_empty(),
            parts => parts.as_array().is_none_or(Vec::is_empty),
        };
        if blank {
            return Some(format!("nothing in {role} at {n}"));
        }
        for call in calls.into_iter().flatten() {
            let id = call["id"].as_str().expect("an id");
            let function = &call["function"];
            let name = function["name"].as_str().expect("a name");
            let arguments = function["arguments"].as_str().expect("a text");
            if id.len() != 9 || !id.bytes().all(|b| b.is_ascii_alphanumeric()) || !ids.insert(id) {
                return Some(format!("id {id} at {n}"));
            }
            if !names::is_sound(name) || !defined.contains(name) {
                return Some(format!("name {name} at {n}"));
            }
            if serde_json::from_str::<serde_json::Map<String, Value>>(arguments).is_err() {
                return Some(format!("arguments {arguments} at {n}"));
            }
            open.push(call["id"].clone());
        }
        before = match role {
            "assistant" if calls.is_some() => "asked",
            role => role,
        };
    }
    if !open.is_empty() || !matches!(before, "user" | "tool") {
        return Some(format!("it ends with {before}"));
    }
    None
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-c ]{0,4}",
        1 => Just("[system] The daemon restarted.".to_owned()),
        1 => Just("![x](data:image/png;base64,AAAA)".to_owned()),
    ]
}

fn any_message() -> impl Strategy<Value = ChatMessage> {
    let id = prop_oneof![Just("call_0"), Just(""), Just("abcDEF123"), Just("x")];
    let name = prop_oneof![Just("t__a"), Just(""), Just("b!"), Just("t__c")];
    let arguments = prop_oneof![Just("{}"), Just(""), Just("nonsense"), Just("[1]")];
    let call = (id.clone(), name, arguments).prop_map(|(id, name, arguments)| ModelToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    });
    let role = prop_oneof![
        Just(ChatRole::System),
        Just(ChatRole::User),
        Just(ChatRole::Assistant),
        Just(ChatRole::Tool),
    ];
    let answers = prop::option::of(id.prop_map(str::to_owned));
    let calls = prop::collection::vec(call, 0..3);
    (role, any_text(), calls, answers).prop_map(|(role, content, calls, answers)| ChatMessage {
        role,
        content,
        tool_calls: calls,
        tool_call_id: answers,
    })
}

proptest! {
    #[test]
    fn any_conversation_is_one_that_the_strictest_server_takes(
        messages in prop::collection::vec(any_message(), 1..14),
        images in any::<bool>(),
    ) {
        let mut request = request(messages);
        request.tools = vec![tool("t__a", "{}"), tool("unused", "{}")];
        let mut dialect = Dialect { no_images: !images, ..Dialect::default() };
        let body = rendered(&request, &dialect);
        prop_assert_eq!(complaint(&body), None, "{}", body);
        // Rendering again yields the same, and dialects that leave more out are accepted too.
        prop_assert_eq!(&rendered(&request, &dialect), &body);
        for mend in [Mend::System, Mend::ToolLines] {
            dialect = dialect.without(mend).expect("news");
            let body = rendered(&request, &dialect);
            prop_assert_eq!(complaint(&body), None, "{}", body);
        }
    }

    #[test]
    fn what_was_answered_stands_the_same_in_each_later_request(
        messages in prop::collection::vec(any_message(), 1..14),
    ) {
        let whole = rendered(&request(messages.clone()), &Dialect::default());
        let whole = whole["messages"].as_array().expect("a list");
        for (n, next) in messages.iter().enumerate().skip(1) {
            if next.role != ChatRole::Assistant {
                continue;
            }
            let earlier = rendered(&request(messages[..n].to_vec()), &Dialect::default());
            let earlier = earlier["messages"].as_array().expect("a list").clone();
            prop_assert!(whole.len() > earlier.len());
            prop_assert_eq!(&whole[..earlier.len()], earlier.as_slice());
        }
    }

    #[test]
    fn nothing_that_anybody_said_is_lost(messages in prop::collection::vec(any_message(), 1..14)) {
        let body = rendered(&request(messages.clone()), &Dialect::default()).to_string();
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for message in &messages {
            let text = message.content.trim();
            if !text.is_empty() && !text.contains(['!', '[']) {
                *seen.entry(text).or_default() += 1;
            }
        }
        for (text, times) in seen {
            prop_assert!(body.matches(text).count() >= times, "{text:?}: {body}");
        }
    }

    #[test]
    fn any_name_is_one_that_servers_take_and_the_guest_knows(names in prop::collection::hash_set(".{0,80}", 0..20)) {
        let mut sent = names::ToolNames::default();
        let as_sent: Vec<String> = names.iter().map(|name| sent.send(name)).collect();
        let back = sent.back();
        for (name, sent) in names.iter().zip(&as_sent) {
            prop_assert!(names::is_sound(sent), "{sent}");
            prop_assert_eq!(back[sent.as_str()], name);
        }
    }
}
