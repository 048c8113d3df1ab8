//! Parses a server's refusal of a request, sent with an error status or within an answer that began
//! with status 200. Reads all the usual document formats, and decides nothing.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

/// How much of a server's text an error message repeats, in characters.
const REPEATED_MAX_CHARS: usize = 500;
/// Fields that repeat what a server was sent, or what its model generated.
const ECHOES: [&str; 4] = ["input", "body", "request", "failed_generation"];
/// How many nested errors are searched: gateways wrap the errors that they receive.
const DEPTH_MAX: usize = 4;

/// A server's refusal of a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ProviderRefusal {
    pub(super) status: StatusCode,
    /// The error document, or its text as a string if it is not JSON.
    pub(super) document: Value,
    /// How long the server asks to wait before a retry.
    pub(super) after: Option<Duration>,
}

impl ProviderRefusal {
    /// Returns the message for humans.
    pub(super) fn text(&self) -> String {
        message(&self.document)
    }

    /// Returns the parts for programs, as they are: codes, types and reasons.
    pub(super) fn codes(&self) -> Vec<&str> {
        let mut found = Vec::new();
        for level in levels(&self.document) {
            let named = ["code", "type", "status", "reason", "error_code"];
            found.extend(named.iter().filter_map(|key| level.get(key)?.as_str()));
        }
        found
    }

    /// Returns all its texts, in lower case.
    pub(super) fn words(&self) -> String {
        words(&self.document)
    }
}

/// Returns all texts of a document in lower case, including errors that a gateway passes on as a
/// string.
pub(super) fn words(document: &Value) -> String {
    let mut words = String::new();
    collect(document, &mut words, 0);
    words.make_ascii_lowercase();
    words
}

/// Returns whether a value carries no information: null, false, zero or empty, at any depth.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(bool) => !bool,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.iter().all(is_nothing),
        Value::Object(fields) => fields.values().all(is_nothing),
    }
}

/// Returns whether the value of an `error` field reports an error. Some servers add one that
/// reports success to every answer.
fn is_error(error: &Value) -> bool {
    let code = error.get("code").and_then(Value::as_u64);
    let is_success = matches!(code, Some(0 | 200))
        && ["message", "msg"].iter().all(|key| {
            let text = error.get(key).and_then(Value::as_str).unwrap_or_default();
            ["", "ok", "success", "succeeded"].contains(&text.to_ascii_lowercase().as_str())
        });
    !is_nothing(error) && !is_success
}

/// Returns the error in a document that arrived in place of an answer, or of a part of one.
pub(super) fn in_answer(document: &Value) -> Option<Value> {
    let has = |value: &Value, key: &str| value.get(key).is_some_and(|error| !is_nothing(error));
    if document.get("error").is_some_and(is_error) || has(document, "err") {
        return Some(document.clone());
    }
    let choices = document.get("choices").and_then(Value::as_array);
    let deltas = choices
        .into_iter()
        .flatten()
        .filter_map(|choice| choice.get("delta"));
    let choices = choices.into_iter().flatten().chain(deltas);
    // Groq puts the error beside the choices.
    let mut places = choices.chain(document.get("x_groq"));
    if let Some(place) = places.find(|place| place.get("error").is_some_and(is_error)) {
        return Some(place.clone());
    }
    // MiniMax's format.
    let base = document.get("base_resp");
    if base.is_some_and(|base| has(base, "status_code")) {
        return base.cloned();
    }
    // Tencent's format.
    let inner = document.get("Response");
    if inner.is_some_and(|inner| has(inner, "Error")) {
        return Some(document.clone());
    }
    let is_named = ["object", "type", "status"].iter().any(|key| {
        let name = document.get(key).and_then(Value::as_str);
        name.is_some_and(|name| {
            let is_status = *key == "status" && name.eq_ignore_ascii_case("failed");
            is_status || name.eq_ignore_ascii_case("error")
        })
    });
    let choices = document.get("choices").and_then(Value::as_array);
    if !is_named && choices.is_some_and(|choices| !choices.is_empty()) {
        return None;
    }
    let is_flat = ["message", "detail", "msg", "Message", "errorMessage"]
        .iter()
        .any(|key| has(document, key));
    // A progress report, like `{"status": "queued", "message": "…"}`, is not an error.
    let is_progress = [
        "status", "state", "type", "event", "progress", "object", "choices",
    ]
    .iter()
    .any(|key| document.get(key).is_some());
    let is_flat = is_flat && (!is_progress || status(document).is_some());
    let is_listed = ["errors", "error_msg", "error_message", "fault"]
        .iter()
        .any(|key| has(document, key));
    (is_named || is_flat || is_listed).then(|| document.clone())
}

/// Returns the HTTP status that an error within an answer names, if it does.
pub(super) fn status(document: &Value) -> Option<StatusCode> {
    let levels = levels(document);
    let numbers = [
        "code",
        "status",
        "status_code",
        "http_status",
        "http_code",
        "error_code",
        "statusCode",
        "httpStatus",
        "httpCode",
    ];
    let number = levels.iter().find_map(|level| {
        numbers.iter().find_map(|key| {
            let code = match level.get(key)? {
                Value::String(text) => {
                    // `400 Bad Request`
                    let text = text.trim();
                    let end = text.find(|char: char| !char.is_ascii_digit());
                    text[..end.unwrap_or(text.len())].parse().ok()?
                }
                code => {
                    let float = code.as_f64().filter(|float| float.fract() == 0.0)?;
                    // Any other number is not a status.
                    (0.0..1000.0).contains(&float).then_some(float as u16)?
                }
            };
            let status = StatusCode::from_u16(code).ok()?;
            (status.is_client_error() || status.is_server_error()).then_some(status)
        })
    });
    number.or_else(|| {
        levels.iter().find_map(|level| {
            let names = ["code", "status", "type", "reason"];
            names
                .iter()
                .find_map(|key| named(level.get(key)?.as_str()?))
        })
    })
}

/// Returns the HTTP status that a common error name stands for: Google's, OpenAI's, Anthropic's,
/// Amazon's. The names are written with and without `_`, and with the suffix `error` or
/// `exception`.
fn named(name: &str) -> Option<StatusCode> {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let name = name.to_ascii_lowercase();
    let bare = name.strip_suffix("exception").unwrap_or(&name);
    let bare = bare.strip_suffix("error").unwrap_or(bare);
    let status = match bare {
        "invalidargument"
        | "failedprecondition"
        | "outofrange"
        | "invalidrequest"
        | "badrequest"
        | "validation"
        | "unprocessableentity"
        | "contextlengthexceeded" => StatusCode::BAD_REQUEST,
        "unauthenticated" | "authentication" | "invalidapikey" | "unauthorized" => {
            StatusCode::UNAUTHORIZED
        }
        "permissiondenied" | "permission" | "forbidden" | "accessdenied" => StatusCode::FORBIDDEN,
        "notfound" | "modelnotfound" | "resourcenotfound" => StatusCode::NOT_FOUND,
        "requesttoolarge" => StatusCode::PAYLOAD_TOO_LARGE,
        "resourceexhausted" | "ratelimit" | "ratelimitexceeded" | "ratelimited"
        | "toomanyrequests" | "throttling" | "insufficientquota" => StatusCode::TOO_MANY_REQUESTS,
        "internal" | "internalserver" | "server" | "api" => StatusCode::INTERNAL_SERVER_ERROR,
        "unavailable" | "overloaded" | "serviceunavailable" | "modelnotready" => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        "deadlineexceeded" | "timeout" | "modeltimeout" => StatusCode::GATEWAY_TIMEOUT,
        _ => return None,
    };
    Some(status)
}

/// Returns the document and the errors nested in it, from the outside in, except that the first
/// nested error comes before the document itself.
fn levels(document: &Value) -> Vec<&Value> {
    let mut levels = Vec::new();
    let mut next = Some(document);
    while let Some(level) = next.filter(|_| levels.len() < DEPTH_MAX) {
        let level = match level {
            Value::Array(items) => items.first().unwrap_or(level),
            level => level,
        };
        levels.push(level);
        let inner = [
            "error", "errors", "metadata", "detail", "fault", "Error", "Response",
        ]
        .iter();
        let mut inner = inner.filter_map(|key| level.get(key));
        next = inner.find(|inner| inner.is_object() || inner.is_array());
    }
    // The fields next to the error's message describe it best.
    if levels.len() > 1 {
        levels.swap(0, 1);
    }
    levels
}

/// Returns the message of a server's error document.
pub(super) fn message(document: &Value) -> String {
    let texts = [
        "message",
        "detail",
        "title",
        "error_msg",
        "status_msg",
        "msg",
        "Message",
        "errorMessage",
        "error_message",
        "faultstring",
    ];
    let text = levels(document).into_iter().find_map(|level| match level {
        Value::String(text) => Some(text.as_str()),
        level => {
            let error = level.get("error").and_then(Value::as_str);
            let mut texts = texts.iter().filter_map(|key| level.get(key)?.as_str());
            texts.find(|text| !text.is_empty()).or(error)
        }
    });
    let text = text.map_or_else(
        || document.get("error").unwrap_or(document).to_string(),
        str::to_owned,
    );
    // Gateways report that an error occurred, and put the upstream's error into `raw`.
    let raw = levels(document)
        .into_iter()
        .find_map(|level| level.get("raw")?.as_str());
    match raw.filter(|raw| !text.contains(raw)) {
        Some(raw) => brief(&format!("{text}: {raw}")),
        None => brief(&text),
    }
}

/// Returns whether a field repeats what the server was sent. A `body` or `request` that is a string
/// does not count: a gateway's `body` may be the answer that it received.
pub(super) fn is_echo(name: &str, value: &Value) -> bool {
    let may_be_text = matches!(name, "body" | "request");
    ECHOES.contains(&name) && !(may_be_text && value.is_string())
}

fn collect(value: &Value, words: &mut String, depth: usize) {
    match value {
        Value::String(text) => {
            words.push_str(text);
            words.push('\n');
        }
        Value::Array(items) if depth < 2 * DEPTH_MAX => {
            items
                .iter()
                .for_each(|item| collect(item, words, depth + 1));
        }
        Value::Object(fields) if depth < 2 * DEPTH_MAX => {
            // An echo of the request is not part of the refusal.
            let fields = fields.iter();
            let own = fields.filter(|(name, value)| !is_echo(name, value));
            own.for_each(|(_, value)| collect(value, words, depth + 1));
        }
        _ => {}
    }
}

/// Truncates a server's text to what an error message repeats.
pub(super) fn brief(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(REPEATED_MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None if text.is_empty() => "(it does not say why)".to_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_says_nothing_is_no_error() {
        for error in [
            json!(null),
            json!(false),
            json!(""),
            json!({}),
            json!([]),
            json!(0),
            json!({"code": null, "message": ""}),
            json!({"code": 0}),
        ] {
            let chunk = json!({"choices": [{"delta": {"content": "x"}}], "error": error});
            assert_eq!(in_answer(&chunk), None, "{error}");
        }
        for document in [
            json!({}),
            json!({"ok": true}),
            json!({"type": "ping"}),
            json!({"choices": []}),
            json!({"choices": [{}], "message": "hi"}),
            json!({"base_resp": {"status_code": 0, "status_msg": ""}}),
        ] {
            assert_eq!(in_answer(&document), None, "{document}");
        }
    }

    #[test]
    fn an_error_in_an_answer_has_the_status_that_it_names() {
        for (document, expected) in [
            (json!({"error": {"code": 400, "message": "m"}}), Some(400)),
            (
                json!({"choices": [], "error": {"code": "429", "message": "m"}}),
                Some(429),
            ),
            (
                json!({"error": {"message": "m", "code": null, "status": 503}}),
                Some(503),
            ),
            (
                json!({"error": {"message": "m", "error": {"code": 401}}}),
                Some(401),
            ),
            (
                json!({"error": {"message": "m", "metadata": {"status_code": 502}}}),
                Some(502),
            ),
            (
                json!({"error": {"code": 403, "status": "UNKNOWN", "message": "m"}, "code": 200}),
                Some(403),
            ),
            (json!({"error": "m", "code": 422}), Some(422)),
            (
                json!({"error": true, "status_code": 500, "message": "m"}),
                Some(500),
            ),
            (
                json!({"object": "error", "code": 400, "message": "m"}),
                Some(400),
            ),
            (
                json!({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}),
                Some(503),
            ),
            (
                json!({"error": {"status": "RESOURCE_EXHAUSTED", "message": "m"}}),
                Some(429),
            ),
            (
                json!({"choices": [{"error": {"code": 502, "message": "m"}, "finish_reason": "error"}]}),
                Some(502),
            ),
            (json!({"statusCode": 401, "message": "m"}), Some(401)),
            (json!({"detail": "m"}), None),
            (json!({"message": "m"}), None),
            (json!({"error": {"message": "m"}}), None),
            (json!({"error": {"message": "m", "code": 200}}), None),
            (json!({"error": {"message": "m", "code": -1}}), None),
            (
                json!({"base_resp": {"status_code": 1004, "status_msg": "m"}}),
                None,
            ),
        ] {
            let error = in_answer(&document).expect("an error");
            let status = status(&error);
            assert_eq!(status.map(|status| status.as_u16()), expected, "{document}");
            assert_eq!(message(&error), "m", "{document}");
        }
    }

    #[test]
    fn what_a_server_says_is_found_in_every_form() {
        for document in [
            json!("m"),
            json!({"error": "m"}),
            json!({"error": {"message": "m"}}),
            json!({"detail": "m"}),
            json!({"message": "m", "code": 3230}),
            json!({"detail": [{"msg": "m", "loc": ["body"]}]}),
            json!([{"error": {"message": "m", "code": 400}}]),
            json!({"errors": [{"message": "m"}]}),
            json!({"error": {"error": {"message": "m"}}}),
            json!({"error_code": 17, "error_msg": "m"}),
        ] {
            assert_eq!(message(&document), "m", "{document}");
        }
        let passed_on = json!({"error": {"message": "Provider returned error", "code": 400,
            "metadata": {"raw": "{\"error\": \"too long\"}"}}});
        assert_eq!(
            message(&passed_on),
            "Provider returned error: {\"error\": \"too long\"}"
        );
        assert_eq!(message(&json!({"error": {"a": 1}})), "{\"a\":1}");
        assert_eq!(message(&json!("")), "(it does not say why)");
    }

    #[test]
    fn an_error_in_a_gateways_own_form_is_one() {
        for (document, code, text) in [
            (
                json!({"code": 401, "msg": "token expired or incorrect", "success": false}),
                Some(401),
                "token expired or incorrect",
            ),
            (
                json!({"Response": {"Error": {"Code": "AuthFailure", "Message": "no such key"}}}),
                None,
                "no such key",
            ),
            (
                json!({"fault": {"faultstring": "Quota violation", "code": 429}}),
                Some(429),
                "Quota violation",
            ),
        ] {
            let error = in_answer(&document).expect("an error");
            assert_eq!(
                status(&error).map(|status| status.as_u16()),
                code,
                "{document}"
            );
            assert_eq!(message(&error), text);
        }
        let answer = json!({"msg": "ok", "choices": [{"delta": {"content": "x"}}]});
        assert_eq!(in_answer(&answer), None);
    }

    #[test]
    fn names_of_errors_are_read_in_every_spelling() {
        for (name, code) in [
            ("AuthenticationError", 401),
            ("authentication_error", 401),
            ("AccessDeniedException", 403),
            ("ValidationException", 400),
            ("UnprocessableEntityError", 400),
            ("ThrottlingException", 429),
            ("INTERNAL", 500),
        ] {
            let found = status(&json!({"error": {"type": name, "message": "m"}}));
            assert_eq!(found.map(|status| status.as_u16()), Some(code), "{name}");
        }
        for code in [json!("400 Bad Request"), json!(400.0), json!("400")] {
            let found = status(&json!({"error": {"code": code, "message": "m"}}));
            assert_eq!(found, Some(StatusCode::BAD_REQUEST), "{code}");
        }
    }
}
