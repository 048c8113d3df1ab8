//! The fields of a request and of its parts.

use serde_json::{Value, json};

use super::{BrokenRule, Rule, calls_of, role};

const BODY: [&str; 10] = [
    "model",
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "stream",
    "stream_options",
];

/// Checks the rules about fields.
pub(super) fn check(rule: Rule, request: &Value) -> Option<BrokenRule> {
    let has = |field: &str| request.get(field).is_some();
    let unsupported = |message: String, param: &str| {
        let error = json!({"message": message, "param": param, "code": "unsupported_parameter"});
        Some(BrokenRule::with(rule, 400, error))
    };
    match rule {
        Rule::NoStreamOptions if has("stream_options") => {
            // The form of FastAPI, as Mistral sent it.
            let detail = json!([{
                "type": "extra_forbidden",
                "loc": ["body", "stream_options"],
                "msg": "Extra inputs are not permitted",
                "input": request["stream_options"],
            }]);
            Some(BrokenRule {
                rule: Some(rule),
                status: 422,
                body: json!({ "detail": detail }),
            })
        }
        Rule::NoMaxTokens if has("max_tokens") => unsupported(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use \
             'max_completion_tokens' instead."
                .to_owned(),
            "max_tokens",
        ),
        Rule::NoMaxCompletionTokens if has("max_completion_tokens") => {
            let text = "Unrecognized request argument supplied: max_completion_tokens";
            Some(BrokenRule::new(rule, 400, text))
        }
        Rule::NoTemperature if has("temperature") && request["temperature"] != 1.0 => {
            let error = json!({
                "message": "Unsupported value: 'temperature' does not support the given value with \
                            this model. Only the default (1) value is supported.",
                "param": "temperature",
                "code": "unsupported_value",
            });
            Some(BrokenRule::with(rule, 400, error))
        }
        Rule::NoStream if request["stream"] == true => {
            let error = json!({
                "message": "Your organization must be verified to stream this model.",
                "param": "stream",
                "code": "unsupported_value",
            });
            Some(BrokenRule::with(rule, 400, error))
        }
        Rule::KnownFields => unknown(request).map(|field| {
            let text = format!("Unrecognized request argument supplied: {field}");
            BrokenRule::new(rule, 400, text)
        }),
        _ => None,
    }
}

/// Returns a field that OpenAI does not know, or that is in a wrong place.
fn unknown(request: &Value) -> Option<String> {
    let body = foreign("", request, &BODY);
    body.or_else(|| {
        let lines = request["messages"].as_array().into_iter().flatten();
        lines.enumerate().find_map(|(at, line)| {
            let known: &[&str] = match role(line) {
                "assistant" => &["role", "content", "tool_calls"],
                "tool" => &["role", "content", "tool_call_id"],
                _ => &["role", "content"],
            };
            let place = format!("messages[{at}].");
            foreign(&place, line, known).or_else(|| {
                calls_of(line).find_map(|call| {
                    let function = &call["function"];
                    foreign(&place, call, &["id", "type", "function"])
                        .or_else(|| foreign(&place, function, &["name", "arguments"]))
                })
            })
        })
    })
    .or_else(|| {
        let tools = request["tools"].as_array().into_iter().flatten();
        tools.enumerate().find_map(|(at, tool)| {
            let place = format!("tools[{at}].");
            let known = ["name", "description", "parameters", "strict"];
            foreign(&place, tool, &["type", "function"])
                .or_else(|| foreign(&place, &tool["function"], &known))
        })
    })
}

fn foreign(place: &str, object: &Value, known: &[&str]) -> Option<String> {
    let mut keys = object.as_object()?.keys();
    let found = keys.find(|key| !known.contains(&key.as_str()))?;
    Some(format!("{place}{found}"))
}
