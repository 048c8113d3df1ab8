//! Refusals in the words of real servers, and the mend that follows each.

use http::StatusCode;
use serde_json::{Value, json};

use super::dialect::{Dialect, Mend};
use super::mend::{answer_bound, is_about_one_image, mends};
use super::provider::LlmProvider;
use super::render::{self, Sent};
use crate::domain::{ChatMessage, ChatRequest, ChatRole, ModelToolCall, ToolDefinition};

/// Renders a request that contains everything that may be refused.
fn sent(dialect: &Dialect) -> Sent {
    let line = |role, content: &str| ChatMessage {
        role,
        content: content.to_owned(),
        tool_calls: Vec::new(),
        tool_call_id: None,
    };
    let call = |id: &str| ModelToolCall {
        id: id.to_owned(),
        name: "t__record".to_owned(),
        arguments: "{}".to_owned(),
    };
    let result = |id: &str, content: &str| ChatMessage {
        tool_call_id: Some(id.to_owned()),
        ..line(ChatRole::Tool, content)
    };
    let tool = |name: &str| ToolDefinition {
        name: name.to_owned(),
        description: "It does.".to_owned(),
        parameters: "{}".to_owned(),
    };
    let request = ChatRequest {
        provider: None,
        model: None,
        messages: vec![
            line(ChatRole::System, "Be brief."),
            line(ChatRole::User, "go"),
            ChatMessage {
                tool_calls: vec![call("a"), call("b")],
                ..line(ChatRole::Assistant, "")
            },
            result("a", "![x](data:image/png;base64,AAAA)"),
            result("b", "done"),
            line(ChatRole::User, "on"),
        ],
        tools: ["t__read", "t__record", "t__write", "t__pay"]
            .map(tool)
            .into(),
        max_tokens: Some(10_000),
        temperature: Some(0.5),
    };
    render::body(&request, "m", &LlmProvider::example(), dialect).expect("it can be asked")
}

fn first(status: u16, document: &Value) -> Option<Mend> {
    let dialect = Dialect::default();
    let status = StatusCode::from_u16(status).expect("a status");
    let sent = sent(&dialect);
    let bound = answer_bound(status, document, &sent);
    bound.or_else(|| mends(status, document, &sent, &dialect).into_iter().next())
}

fn error_body(text: &str) -> Value {
    json!({"error": {"message": text, "type": "invalid_request_error"}})
}

#[test]
fn what_a_server_names_is_what_it_is_asked_without() {
    let cases = [
        (
            400,
            error_body(
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            ),
            Mend::CompletionTokens,
        ),
        (
            400,
            error_body(
                "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) value is supported.",
            ),
            Mend::Temperature,
        ),
        (
            422,
            json!({"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted", "input": {"include_usage": true}}]}),
            Mend::StreamOptions,
        ),
        (
            400,
            json!({"error": {"message": "Your organization must be verified to stream this model.", "param": "stream", "code": "unsupported_value"}}),
            Mend::Stream,
        ),
        (400, error_body("System role not supported"), Mend::System),
        (
            500,
            error_body("Jinja Exception: System role not supported"),
            Mend::System,
        ),
        (
            400,
            error_body(
                "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
            ),
            Mend::System,
        ),
        (
            500,
            error_body(
                "Jinja Exception: Conversation roles must alternate user/assistant/user/assistant/...",
            ),
            Mend::ToolLines,
        ),
        (
            500,
            error_body("Jinja Exception: This model only supports single tool-calls at once!"),
            Mend::ParallelCalls,
        ),
        (
            400,
            error_body("can only concatenate str (not \"NoneType\") to str"),
            Mend::NullContent,
        ),
        (
            400,
            error_body("messages[2].content: Input should be a valid string"),
            Mend::Images,
        ),
        (
            500,
            error_body(
                "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
            ),
            Mend::Images,
        ),
        (
            400,
            error_body(
                "Invalid 'tools': array too long. Expected an array with maximum length 3, but got an array with length 4 instead.",
            ),
            Mend::ToolsOver(3),
        ),
        (
            400,
            error_body("Too many tools: 4 (max 2)"),
            Mend::ToolsOver(2),
        ),
        (
            422,
            json!({"detail": [{"type": "too_long", "loc": ["body", "tools"], "msg": "List should have at most 2 items", "input": [{"function": {"name": "t__pay"}}]}]}),
            Mend::ToolsOver(2),
        ),
        (
            400,
            error_body(
                "Invalid 'tools[1].function.description': string too long. Expected a string with maximum length 1024, but got 2000.",
            ),
            Mend::DescriptionsOver(1024),
        ),
        (
            400,
            error_body(
                "max_tokens is too large: 10000. This model supports at most 4096 completion tokens, whereas you provided 10000.",
            ),
            Mend::MaxTokensOver(4096),
        ),
        (
            400,
            error_body(
                "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less than the `context_window` for this model",
            ),
            Mend::MaxTokensOver(8192),
        ),
        (
            400,
            error_body(
                "max_tokens: 10000 > 4096, which is the maximum allowed number of output tokens",
            ),
            Mend::MaxTokensOver(4096),
        ),
        (
            400,
            error_body("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"),
            Mend::MaxTokensOver(8192),
        ),
        (
            400,
            error_body(
                "This model's maximum context length is 8192 tokens. However, you requested 10020 tokens (20 in the messages, 10000 in the completion). Please reduce the length of the messages or max_tokens.",
            ),
            Mend::MaxTokensOver(4096),
        ),
        (
            400,
            error_body("Function call is missing a thought_signature in functionCall parts."),
            Mend::ToolLines,
        ),
    ];
    for (status, document, expected) in cases {
        assert_eq!(first(status, &document), Some(expected), "{document}");
    }
}

#[test]
fn bounds_are_found_in_other_servers_words() {
    for (text, expected) in [
        (
            "The maximum tokens you requested exceeds the model limit of 4096. Try again with a lower value.",
            4096,
        ),
        (
            "This model's maximum context length is 8192 tokens. However, you requested 10020 tokens (20 in the messages, 10000 in the completion). Please reduce the length of the messages or completion.",
            4096,
        ),
        (
            "This endpoint's maximum context length is 8192 tokens. However, you requested about 10020 tokens (20 of text input, 10000 in the output).",
            4096,
        ),
        (
            "`inputs` tokens + `max_new_tokens` must be <= 8192. Given: 20 `inputs` tokens and 10000 `max_new_tokens`",
            4096,
        ),
        (
            "max_tokens=10000 cannot be greater than max_model_len=8192",
            4096,
        ),
        // Conversation and answer share the window.
        (
            "This model's maximum context length is 10240 tokens. However, you requested 10600 tokens (600 in the messages, 10000 in the completion).",
            2560,
        ),
        (
            "Unable to submit request because it has a maxOutputTokens value of 10000 but the supported range is from 1 (inclusive) to 8193 (exclusive).",
            8192,
        ),
        (
            "max_completion_tokens: 10000 is greater than the maximum of 8000",
            8000,
        ),
    ] {
        assert_eq!(
            first(400, &error_body(text)),
            Some(Mend::MaxTokensOver(expected)),
            "{text}"
        );
    }
    // Too little of the window is left for the answer: the guest must shorten the conversation.
    let full = "This model's maximum context length is 10240 tokens. However, you requested 19000 tokens (9000 in the messages, 10000 in the completion).";
    assert_eq!(first(400, &error_body(full)), None);
    for (text, expected) in [
        ("'tools' : maximum number of items is 2", 2),
        ("You may not include more than 3 tools", 3),
        ("4 tools have been provided but the maximum is 3", 3),
    ] {
        assert_eq!(
            first(400, &error_body(text)),
            Some(Mend::ToolsOver(expected)),
            "{text}"
        );
    }
    let gemma = "Developer instruction is not enabled for models/gemma-3-27b-it";
    assert_eq!(first(400, &error_body(gemma)), Some(Mend::System));
}

#[test]
fn a_tool_that_a_server_refuses_is_found_by_its_place_or_name() {
    for document in [
        error_body(
            "Invalid schema for function 't__pay': in context=(), object schema missing properties",
        ),
        json!({"error": {"message": "Invalid value", "param": "tools[3].function.parameters"}}),
        json!({"detail": [{"loc": ["body", "tools", 3, "function", "parameters"], "msg": "Invalid"}]}),
        error_body(
            "Unknown name \"type\" at 'tools[0].function_declarations[3].parameters.properties[1].value': Proto field is not repeating",
        ),
    ] {
        let Some(Mend::Tool(tool)) = first(400, &document) else {
            panic!("{document}: {:?}", first(400, &document));
        };
        assert_eq!(tool.name, "t__pay", "{document}");
    }
}

#[test]
fn what_passes_or_is_the_models_fault_is_not_mended() {
    for (status, document) in [
        (
            500,
            error_body("Error while streaming the response: unknown upstream error"),
        ),
        (500, error_body("The system had an unexpected error")),
        (
            500,
            error_body("java.io.IOException: unexpected end of stream on https://upstream"),
        ),
        (
            500,
            error_body("Internal exception while parsing the output of tool t__record: x"),
        ),
        (
            500,
            error_body("Failed to parse input at pos 12: <tool_call>{\"name\":\"t__record\""),
        ),
        (
            400,
            json!({"error": {"message": "Failed to call a function. See 'failed_generation'.",
            "code": "tool_use_failed", "failed_generation": "<function=t__record>{}</function>"}}),
        ),
        (400, error_body("This is not a valid model.")),
        (
            429,
            error_body("Rate limit: max_tokens too large, use max_completion_tokens"),
        ),
        (
            401,
            error_body("Incorrect API key provided for this system"),
        ),
    ] {
        assert_eq!(first(status, &document), None, "{document}");
    }
}

#[test]
fn each_mend_is_proposed_once() {
    let document = error_body("Unsupported parameter: 'temperature'");
    let dialect = Dialect::default().without(Mend::Temperature).expect("news");
    let again = mends(
        StatusCode::BAD_REQUEST,
        &document,
        &sent(&dialect),
        &dialect,
    );
    assert_eq!(again, []);
}

#[test]
fn one_bad_image_is_not_all_images() {
    assert!(is_about_one_image(&error_body(
        "You uploaded an unsupported image. Please make sure your image is valid."
    )));
    assert!(is_about_one_image(&error_body(
        "image exceeds 5 MB maximum"
    )));
    assert!(!is_about_one_image(&error_body(
        "image input is not supported"
    )));
    assert!(!is_about_one_image(&error_body(
        "This model does not support image_url"
    )));
}
