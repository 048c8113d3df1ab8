//! Normalizes a server's messages for the SDK, which accepts only strictly valid ones.
//!
//! An answer ends its call at once, however malformed it is otherwise: waiting for a better one
//! would end in a timeout, and then it is unknown whether the call happened. The results of all
//! requests except `initialize` are sealed: the SDK passes them through without parsing, and they
//! are parsed here, entry by entry.

use rmcp::model::{
    CustomResult, ErrorCode, ErrorData, Implementation, InitializeResult, JsonRpcMessage,
    ProtocolVersion, RequestId, ServerCapabilities, ServerJsonRpcMessage, ServerResult,
};
use serde_json::{Map, Value, json};

use super::requests::Requests;
use crate::providers::lossy;

/// The error code of a placeholder for an answer that was too long. Outside the ranges to which
/// JSON-RPC and MCP assign a meaning.
pub(super) const TOO_LONG: i32 = -32_098;
/// The error code of a placeholder for an answer that cannot be parsed.
pub(super) const UNREADABLE: i32 = -32_097;
/// The field that holds a sealed result. No result of MCP has such a field.
const SEAL: &str = "abide/sealed";
/// The maximum nesting depth of batches that are read.
const BATCH_DEPTH: u32 = 2;

/// Parses a server's messages on one connection.
pub(super) struct JsonRpcReader<'a> {
    pub(super) requests: &'a Requests,
    /// The request that answers without an id belong to: the one whose HTTP response is being read.
    pub(super) posted: Option<i64>,
}

impl JsonRpcReader<'_> {
    /// Parses the messages in a text. If it cannot be parsed, the request that it seems to answer,
    /// as `answers` returns it, gets an error.
    pub(super) fn read(
        &self,
        bytes: &[u8],
        answers: impl FnOnce() -> Option<i64>,
    ) -> Vec<ServerJsonRpcMessage> {
        let mut messages = Vec::new();
        match lossy::parse(bytes) {
            Ok(value) => self.take(value, BATCH_DEPTH, &mut messages),
            Err(error) => {
                let unreadable = answers().and_then(|id| {
                    let why = format!("what it answered is no JSON ({error})");
                    self.failed(id, UNREADABLE, why)
                });
                messages.extend(unreadable);
            }
        }
        messages
    }

    /// Returns an error in place of the unusable or missing answer to a request, if one waits.
    pub(super) fn failed(&self, id: i64, code: i32, why: String) -> Option<ServerJsonRpcMessage> {
        self.requests.forget(id)?;
        let error = ErrorData::new(ErrorCode(code), why, None);
        Some(JsonRpcMessage::error(error, Some(RequestId::Number(id))))
    }

    fn take(&self, value: Value, depth: u32, messages: &mut Vec<ServerJsonRpcMessage>) {
        match value {
            Value::Object(object) => messages.extend(self.message(object)),
            // A batch, which one version of the protocol allows.
            Value::Array(values) if depth > 0 => {
                for value in values {
                    self.take(value, depth - 1, messages);
                }
            }
            _ => {}
        }
    }

    fn message(&self, mut object: Map<String, Value>) -> Option<ServerJsonRpcMessage> {
        let is_rpc = object.contains_key("jsonrpc");
        let is_answer = object.contains_key("result") || object.contains_key("error");
        if !is_rpc
            && self.posted.is_none()
            && is_answer
            && !object.keys().all(|key| is_of_answers(key))
        {
            // A structured log line, whose `id` may refer to anything.
            return None;
        }
        let result = object.remove("result");
        let error = object.remove("error").filter(is_error);
        let answered = match object.get("id") {
            // A keep-alive without a result or error answers nothing.
            None | Some(Value::Null) => self
                .posted
                .filter(|_| !object.contains_key("method") && is_answer),
            Some(_) if !is_rpc && !is_answer => None,
            Some(id) => number(id),
        };
        let answered = answered.filter(|id| self.requests.wait_for(*id));
        if let Some(id) = answered
            && (!object.contains_key("method") || result.is_some() || error.is_some())
        {
            return self.answer(id, result, error);
        }
        if object.contains_key("method") {
            return self.request(object);
        }
        let error = error.filter(|_| object.get("id").is_none_or(Value::is_null))?;
        // An error reply to an unparsable request has no id; it can only be matched if exactly one
        // request waits.
        if let Some(only) = self.requests.only().filter(|_| is_rpc) {
            return self.answer(only, None, Some(error));
        }
        // The SDK accepts a refusal of `initialize` without an id.
        let error = error_data(error);
        tracing::warn!(error = %error.message, "a tool server tells of an error that belongs to no request");
        Some(JsonRpcMessage::error(error, None))
    }

    fn answer(
        &self,
        id: i64,
        result: Option<Value>,
        error: Option<Value>,
    ) -> Option<ServerJsonRpcMessage> {
        if error.is_none() && result.is_none() {
            let why = "what it answered has neither a result nor an error".to_owned();
            return self.failed(id, UNREADABLE, why);
        }
        let request = self.requests.forget(id)?;
        let id = RequestId::Number(id);
        Some(match (error, result) {
            (Some(error), _) => JsonRpcMessage::error(error_data(error), Some(id)),
            (None, result) => {
                let result = result.unwrap_or_default();
                let result = match request.opens {
                    true => opening(&result),
                    false => seal(result),
                };
                JsonRpcMessage::response(result, id)
            }
        })
    }

    /// Parses a request or notification of the server. Parameters that the SDK does not accept are
    /// left out.
    fn request(&self, mut object: Map<String, Value>) -> Option<ServerJsonRpcMessage> {
        let method = object.remove("method")?;
        let params = object.remove("params").filter(Value::is_object);
        if method == "notifications/progress" {
            let token = params
                .as_ref()
                .and_then(|params| params.get("progressToken"));
            // Still passed on like any other notification, so that the throttle counts it.
            self.requests.progressed(token.unwrap_or(&Value::Null));
        }
        let id = object.remove("id").filter(|id| !id.is_null());
        let mut message = json!({"jsonrpc": "2.0", "method": method});
        if let Some(id) = id {
            message["id"] = id;
        }
        let bare = message.clone();
        if let Some(params) = params {
            message["params"] = params;
        }
        let parse = |message| serde_json::from_value(message).ok();
        parse(message).or_else(|| parse(bare))
    }
}

/// Returns whether the key is one of the fields of an answer.
fn is_of_answers(key: &str) -> bool {
    matches!(key, "id" | "result" | "error" | "_meta")
}

/// Builds the answer to `initialize` for the SDK. Only the protocol version of the real answer is
/// needed.
fn opening(result: &Value) -> ServerResult {
    let version = result["protocolVersion"].as_str();
    let version = version.and_then(|version| serde_json::from_value(version.into()).ok());
    let result = InitializeResult::new(ServerCapabilities::default())
        .with_server_info(Implementation::new("server", ""))
        .with_protocol_version(version.unwrap_or(ProtocolVersion::LATEST_WITH_INITIALIZE));
    ServerResult::InitializeResult(result)
}

pub(super) fn seal(result: Value) -> ServerResult {
    ServerResult::CustomResult(CustomResult(json!({SEAL: result})))
}

/// Returns a server's result as it was before it was sealed.
pub(super) fn unseal(result: ServerResult) -> Value {
    match result {
        ServerResult::CustomResult(CustomResult(Value::Object(mut object))) => {
            object.remove(SEAL).unwrap_or(Value::Object(object))
        }
        // Not sealed, so it did not pass through this module.
        other => serde_json::to_value(other).unwrap_or_default(),
    }
}

/// Parses a text that rejects a request: returns the request id that it names, if any, and the
/// error; `None` if it is not a JSON-RPC error.
pub(super) fn error_in(bytes: &[u8]) -> Option<(Option<i64>, ErrorData)> {
    let Ok(Value::Object(mut object)) = lossy::parse(bytes) else {
        return None;
    };
    let error = object.remove("error").filter(is_error)?;
    let id = object.get("id").and_then(number);
    let is_rpc = object.contains_key("jsonrpc") || object.contains_key("id");
    is_rpc.then(|| (id, error_data(error)))
}

/// Returns whether the value of an `error` field means an error at all; some servers send an empty
/// one with every success.
fn is_error(error: &Value) -> bool {
    match error {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

fn error_data(error: Value) -> ErrorData {
    let Value::Object(mut fields) = error else {
        return ErrorData::new(ErrorCode::INTERNAL_ERROR, text(error), None);
    };
    let code = fields.remove("code");
    let code = code.as_ref().and_then(number);
    let code = code.and_then(|code| i32::try_from(code).ok());
    let code = code.map_or(ErrorCode::INTERNAL_ERROR, ErrorCode);
    let data = fields.remove("data").filter(|data| !data.is_null());
    let message = fields.remove("message").filter(|text| !text.is_null());
    let message = message.map(text).unwrap_or_else(|| {
        // Without a message, show the remaining fields.
        let rest = Value::Object(fields);
        match rest.as_object().is_some_and(Map::is_empty) {
            true => String::new(),
            false => rest.to_string(),
        }
    });
    ErrorData::new(code, message, data)
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Parses an integer, also from a float or a string.
fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
            // Larger floats are not exact, and are no ids of ours.
            (float.abs() < 9e15).then_some(float as i64)
        }),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}
