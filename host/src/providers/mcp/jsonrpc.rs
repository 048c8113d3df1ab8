//! What a server says, made fit for the SDK, which takes nothing but what is exactly right.
//!
//! An answer ends its call at once, whatever else is odd about it: who waits for a better one waits
//! for the time-out, and then nobody knows whether the call happened. The results of all requests but
//! the opening are sealed: the SDK carries them without a look inside, and they are read here, entry by
//! entry.

use rmcp::model::{
    CustomResult, ErrorCode, ErrorData, Implementation, InitializeResult, JsonRpcMessage,
    ProtocolVersion, RequestId, ServerCapabilities, ServerJsonRpcMessage, ServerResult,
};
use serde_json::{Map, Value, json};

use super::requests::Requests;
use crate::providers::lossy;

/// The code of the error that stands for an answer which was too long. Outside of what JSON-RPC
/// and MCP have given a meaning.
pub(super) const TOO_LONG: i32 = -32_098;
/// That of one that cannot be read.
pub(super) const UNREADABLE: i32 = -32_097;
/// What a sealed result is held by. No result of MCP has such a field.
const SEAL: &str = "abide/sealed";
/// As deep as batches within batches are looked into.
const BATCH_DEPTH: u32 = 2;

/// Reads what a server says on one connection.
pub(super) struct JsonRpcReader<'a> {
    pub(super) requests: &'a Requests,
    /// The request that everything here answers which names none.
    pub(super) posted: Option<i64>,
}

impl JsonRpcReader<'_> {
    /// The messages in a text. If it cannot be read, that is told to who waits for the request that
    /// it seems to answer.
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

    /// Stands for the answer to a request that has none that can be used.
    pub(super) fn failed(&self, id: i64, code: i32, why: String) -> Option<ServerJsonRpcMessage> {
        self.requests.forget(id)?;
        let error = ErrorData::new(ErrorCode(code), why, None);
        Some(JsonRpcMessage::error(error, Some(RequestId::Number(id))))
    }

    fn take(&self, value: Value, depth: u32, messages: &mut Vec<ServerJsonRpcMessage>) {
        match value {
            Value::Object(object) => messages.extend(self.message(object)),
            // Several at once, as one version of the protocol had it.
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
            // A line of a log, whose `id` may be that of anything.
            return None;
        }
        let result = object.remove("result");
        let error = object.remove("error").filter(is_error);
        let answered = match object.get("id") {
            // A sign of life answers nothing.
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
        // What could not be read has no id, and can only be what is waited for alone.
        if let Some(only) = self.requests.only().filter(|_| is_rpc) {
            return self.answer(only, None, Some(error));
        }
        // An opening that is refused needs no id to be understood.
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

    /// What the server asks or tells by itself. What the SDK does not take of it is left out.
    fn request(&self, mut object: Map<String, Value>) -> Option<ServerJsonRpcMessage> {
        let method = object.remove("method")?;
        let params = object.remove("params").filter(Value::is_object);
        if method == "notifications/progress" {
            let token = params
                .as_ref()
                .and_then(|params| params.get("progressToken"));
            // Told on as any other: a server that says too much is read slowly.
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

/// Whether an answer has such a field.
fn is_of_answers(key: &str) -> bool {
    matches!(key, "id" | "result" | "error" | "_meta")
}

/// What the SDK is to find as the answer to the opening. Nothing of it is needed but the version.
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

/// What a server answered, as it was.
pub(super) fn unseal(result: ServerResult) -> Value {
    match result {
        ServerResult::CustomResult(CustomResult(Value::Object(mut object))) => {
            object.remove(SEAL).unwrap_or(Value::Object(object))
        }
        // Nothing that came through here.
        other => serde_json::to_value(other).unwrap_or_default(),
    }
}

/// The error in a text that turns a request away, and the request that it names; none if it is no
/// error of MCP's.
pub(super) fn error_in(bytes: &[u8]) -> Option<(Option<i64>, ErrorData)> {
    let Ok(Value::Object(mut object)) = lossy::parse(bytes) else {
        return None;
    };
    let error = object.remove("error").filter(is_error)?;
    let id = object.get("id").and_then(number);
    let is_rpc = object.contains_key("jsonrpc") || object.contains_key("id");
    is_rpc.then(|| (id, error_data(error)))
}

/// Whether something went wrong at all.
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
    let message = fields.remove("message").filter(|said| !said.is_null());
    let message = message.map(text).unwrap_or_else(|| {
        // Whatever else it has to say.
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

/// A whole number, however it was written.
fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
            // Beyond this they are not exact, and no ids of ours.
            (float.abs() < 9e15).then_some(float as i64)
        }),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}
