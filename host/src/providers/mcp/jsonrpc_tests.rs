//! Tests of reading messages in all the variants that servers send.

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientCapabilities, ClientJsonRpcMessage,
    ClientRequest, ErrorData, Implementation, InitializeRequest, InitializeRequestParams,
    JsonRpcMessage, RequestId, ServerJsonRpcMessage,
    ServerNotification::ToolListChangedNotification, ServerResult,
};
use serde_json::{Value, json};

use super::jsonrpc::{JsonRpcReader, UNREADABLE, seal, unseal};
use super::requests::Requests;

/// Returns two pending requests: 0, `initialize`, and 5, a call.
pub(super) fn requests() -> Requests {
    let requests = Requests::default();
    let client = Implementation::new("abide", "");
    let params = InitializeRequestParams::new(ClientCapabilities::default(), client);
    let opening = ClientRequest::InitializeRequest(InitializeRequest::new(params));
    let call = CallToolRequest::new(CallToolRequestParams::new("t"));
    for (id, request) in [(0, opening), (5, ClientRequest::CallToolRequest(call))] {
        let id = RequestId::Number(id);
        requests.sent(&ClientJsonRpcMessage::request(request, id));
    }
    requests
}

fn read(text: &str, posted: Option<i64>) -> Vec<ServerJsonRpcMessage> {
    let reader = JsonRpcReader {
        requests: &requests(),
        posted,
    };
    reader.read(text.as_bytes(), || None)
}

/// The answer to request 5: a result, or an error's code, text and data.
fn answer(text: &str) -> Result<Value, (i32, String, Option<Value>)> {
    let mut messages = read(text, None);
    assert_eq!(messages.len(), 1, "{text}: {messages:?}");
    match messages.remove(0) {
        JsonRpcMessage::Response(answer) => {
            assert_eq!(answer.id, RequestId::Number(5));
            Ok(unseal(answer.result))
        }
        JsonRpcMessage::Error(answer) => {
            assert_eq!(answer.id, Some(RequestId::Number(5)));
            let ErrorData {
                code,
                message,
                data,
            } = answer.error;
            Err((code.0, message.into_owned(), data))
        }
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn an_answer_ends_its_call_whatever_else_is_odd() {
    for text in [
        r#"{"jsonrpc":"2.0","id":5,"result":{"a":1}}"#,
        r#"{"id":5,"result":{"a":1}}"#,
        r#"{"jsonrpc":2,"id":"5","result":{"a":1}}"#,
        r#"{"jsonrpc":"2.0","id":5.0,"result":{"a":1},"error":null}"#,
        r#"{"jsonrpc":"2.0","id":5,"result":{"a":1},"error":{}}"#,
        r#"{"jsonrpc":"2.0","id":5,"result":{"a":1},"error":"","method":"tools/call"}"#,
        r#"[{"jsonrpc":"2.0","id":5,"result":{"a":1}}]"#,
        "{\n  \"id\": 5,\n  \"result\": {\n    \"a\": 1\n  }\n}",
    ] {
        assert_eq!(answer(text), Ok(json!({"a": 1})), "{text}");
    }
    assert_eq!(answer(r#"{"id":5,"result":null}"#), Ok(Value::Null));
    let half = r#"{"id":5,"result":"a\ud83d"}"#;
    assert_eq!(answer(half), Ok(json!("a\u{FFFD}")));
    for empty in [r#"{"jsonrpc":"2.0","id":5}"#, r#"{"id":5,"error":null}"#] {
        let (code, why, _) = answer(empty).expect_err("it says nothing");
        assert_eq!(code, UNREADABLE);
        assert!(why.contains("neither a result nor an error"), "{why}");
    }
}

#[test]
fn an_error_is_told_however_it_is_written() {
    let internal = -32603;
    for (error, code, message, data) in [
        (json!({"code": -1, "message": "no"}), -1, "no", None),
        (json!({"code": "-1", "message": "no"}), -1, "no", None),
        (
            json!({"code": -1.0, "message": "no", "data": null}),
            -1,
            "no",
            None,
        ),
        (
            json!({"code": "E_NO", "message": "no"}),
            internal,
            "no",
            None,
        ),
        (
            json!({"code": 1e300, "message": "no"}),
            internal,
            "no",
            None,
        ),
        (
            json!({"message": "no", "data": [1]}),
            internal,
            "no",
            Some(json!([1])),
        ),
        (json!({"code": -1}), -1, "", None),
        (json!({"code": -1, "message": ["no"]}), -1, "[\"no\"]", None),
        (
            json!({"code": -1, "reason": "no"}),
            -1,
            "{\"reason\":\"no\"}",
            None,
        ),
        (json!("no"), internal, "no", None),
        (json!(["no"]), internal, "[\"no\"]", None),
        (json!(7), internal, "7", None),
    ] {
        for rest in [json!({}), json!({"result": null}), json!({"result": {}})] {
            let mut answered = json!({"id": 5, "error": error});
            if let Some(result) = rest.get("result") {
                answered["result"] = result.clone();
            }
            let expected = Err((code, message.to_owned(), data.clone()));
            assert_eq!(answer(&answered.to_string()), expected, "{answered}");
        }
    }
}

#[test]
fn what_answers_nobody_is_passed_over() {
    for text in [
        r#"{"id":6,"result":{}}"#,
        r#"{"id":"x","result":{}}"#,
        r#"{"id":null,"result":{}}"#,
        r#"{"result":{}}"#,
        r#"{"id":5.5,"result":{}}"#,
        "7",
        "null",
        "\"text\"",
        "[]",
        "[[[[{\"id\":5,\"result\":{}}]]]]",
        "{}",
        "{\"id\":5",
        "{",
        r#"{"method":7}"#,
    ] {
        assert!(read(text, None).is_empty(), "{text}");
    }
    // In the response to a posted request, an answer without an id belongs to that request.
    for text in [r#"{"id":null,"result":{}}"#, r#"{"error":{"code":1}}"#] {
        assert_eq!(read(text, Some(5)).len(), 1, "{text}");
    }
    // But only once.
    let reader = JsonRpcReader {
        requests: &requests(),
        posted: None,
    };
    let text = br#"{"id":5,"result":{}}"#;
    assert_eq!(reader.read(text, || None).len(), 1);
    assert!(reader.read(text, || None).is_empty());
    // An answer that cannot be parsed ends its call as well.
    assert_eq!(reader.read(b"{\"id\":0, nonsense", || Some(0)).len(), 1);
}

#[test]
fn what_the_server_says_by_itself_comes_through_without_what_is_odd() {
    let ping = read(
        r#"{"id":"a","method":"ping","params":null,"extra":1}"#,
        None,
    );
    assert!(
        matches!(&ping[..], [JsonRpcMessage::Request(_)]),
        "{ping:?}"
    );
    let asked = read(r#"{"jsonrpc":"2.0","id":5,"method":"roots/list"}"#, None);
    assert!(
        matches!(&asked[..], [JsonRpcMessage::Request(_)]),
        "{asked:?}"
    );
    for params in ["null", "[]", "{\"a\":7}", "7"] {
        let text = format!(
            r#"{{"method":"notifications/tools/list_changed","id":null,"params":{params}}}"#
        );
        let messages = read(&text, None);
        let [JsonRpcMessage::Notification(notice)] = &messages[..] else {
            panic!("{params}: {messages:?}");
        };
        let is_it = matches!(notice.notification, ToolListChangedNotification(_));
        assert!(is_it, "{params}: {notice:?}");
    }
}

#[test]
fn an_opening_needs_nothing_but_an_answer() {
    for (result, version) in [
        (json!({}), "2025-11-25"),
        (json!(null), "2025-11-25"),
        (json!("ok"), "2025-11-25"),
        (json!({"protocolVersion": 7}), "2025-11-25"),
        (
            json!({"protocolVersion": "2024-11-05", "capabilities": {"tools": true}}),
            "2024-11-05",
        ),
        (
            json!({"protocolVersion": "1.0", "capabilities": {"experimental": {"x": true}},
                "serverInfo": {"name": 7}, "instructions": []}),
            "1.0",
        ),
    ] {
        let text = json!({"id": 0, "result": result}).to_string();
        let messages = read(&text, None);
        let [JsonRpcMessage::Response(answer)] = &messages[..] else {
            panic!("{messages:?}");
        };
        let ServerResult::InitializeResult(opened) = &answer.result else {
            panic!("{answer:?}");
        };
        assert_eq!(opened.protocol_version.as_str(), version, "{text}");
    }
}

#[test]
fn a_sealed_result_passes_through_the_sdk_as_it_was() {
    for result in [
        json!(null),
        json!({}),
        json!({"tools": [7]}),
        json!({"content": "x", "task": 1}),
        json!({"protocolVersion": 1}),
        json!({"_meta": {}}),
        json!([1]),
    ] {
        let sealed = seal(result.clone());
        let message: ServerJsonRpcMessage = JsonRpcMessage::response(sealed, RequestId::Number(1));
        let text = serde_json::to_string(&message).expect("JSON");
        let message: ServerJsonRpcMessage = serde_json::from_str(&text).expect("a message");
        let JsonRpcMessage::Response(answer) = message else {
            panic!("{text}");
        };
        assert_eq!(unseal(answer.result), result);
    }
}

#[test]
fn what_is_no_answer_of_the_protocols_answers_nothing() {
    // Structured log lines, whose `id` refers to something else.
    for log in [
        r#"{"level":"info","time":123,"id":5,"msg":"started"}"#,
        r#"{"level":30,"id":5,"error":"first try failed, retrying","msg":"retry"}"#,
        r#"{"level":"info","method":"tools/call","id":5,"result":"pending"}"#,
    ] {
        assert!(read(log, None).is_empty(), "{log}");
    }
    // Keep-alive messages in the stream of an answer.
    for beat in [
        "{}",
        r#"{"type":"heartbeat","ts":1}"#,
        r#"{"jsonrpc":"2.0"}"#,
    ] {
        assert!(read(beat, Some(5)).is_empty(), "{beat}");
    }
    assert_eq!(read(r#"{"result":{},"took":3}"#, Some(5)).len(), 1);
}

#[test]
fn an_error_without_an_id_is_of_what_is_waited_for_alone() {
    let text = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"db locked"}}"#;
    let requests = requests();
    let read = |text: &str| {
        let reader = JsonRpcReader {
            requests: &requests,
            posted: None,
        };
        reader.read(text.as_bytes(), || None).remove(0)
    };
    // Two requests wait, so the error may belong to either.
    let JsonRpcMessage::Error(of_none) = read(text) else {
        panic!("an error");
    };
    assert_eq!(of_none.id, None);
    requests.forget(0);
    let JsonRpcMessage::Error(of_call) = read(text) else {
        panic!("an error");
    };
    assert_eq!(of_call.id, Some(RequestId::Number(5)));
    assert_eq!(of_call.error.message, "db locked");
}
