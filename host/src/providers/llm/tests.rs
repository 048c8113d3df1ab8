use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use futures::StreamExt as _;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use super::*;
use crate::domain::{ChatMessage, ChatRole, FinishReason, ModelToolCall, ToolDefinition, Usage};
use crate::providers::Hidden;

#[path = "tests_reading.rs"]
mod reading;
#[path = "tests_refusals.rs"]
mod refusals;

/// A time limit that no call should reach.
const LONG: Duration = Duration::from_secs(60);

type Seen = Arc<Mutex<Vec<(HeaderMap, Value)>>>;

/// Starts a server that answers each request with the next of `answers`. Returns its base URL, and
/// the requests that it has received.
async fn serve(answers: Vec<Response>) -> (String, Seen) {
    let seen = Seen::default();
    let answers = Arc::new(Mutex::new(answers.into_iter()));
    let state = (seen.clone(), answers);
    type Shared = (Seen, Arc<Mutex<std::vec::IntoIter<Response>>>);
    let answer = async |State((seen, answers)): State<Shared>, headers: HeaderMap, body: String| {
        let body = serde_json::from_str(&body).expect("JSON");
        seen.lock().expect("no panic").push((headers, body));
        let next = answers.lock().expect("no panic").next();
        next.expect("no further request")
    };
    let router = Router::new()
        .route("/v1/chat/completions", post(answer))
        .with_state(state);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("binds");
    let address = listener.local_addr().expect("is bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}/v1"), seen)
}

fn stream(events: &[Value]) -> Response {
    body(events, "data: [DONE]\n\n")
}

/// A stream that ends without `[DONE]`.
fn unfinished(events: &[Value]) -> Response {
    body(events, "")
}

fn body(events: &[Value], end: &str) -> Response {
    let events: String = events.iter().map(|e| format!("data: {e}\n\n")).collect();
    ([("content-type", "text/event-stream")], events + end).into_response()
}

fn text(text: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
}

fn end(reason: &str) -> Value {
    json!({"model": "m-1", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

fn provider() -> LlmProvider {
    LlmProvider {
        api_key: Some(Hidden::new("sk-secret")),
        ..LlmProvider::example()
    }
}

fn providers(base_url: &str) -> LlmProviders {
    let provider = LlmProvider {
        base_url: base_url.to_owned(),
        ..provider()
    };
    LlmProviders::new([("local".to_owned(), provider)].into()).expect("a good provider")
}

impl LlmProviders {
    fn change(&mut self, change: impl Fn(&mut LlmProvider)) {
        self.0
            .values_mut()
            .for_each(|ready| change(&mut ready.provider));
    }
}

fn request() -> ChatRequest {
    let line = |role, content: &str| ChatMessage {
        role,
        content: content.to_owned(),
        tool_calls: Vec::new(),
        tool_call_id: None,
    };
    let call = ModelToolCall {
        id: "c1".to_owned(),
        name: "add".to_owned(),
        arguments: "{}".to_owned(),
    };
    ChatRequest {
        provider: Some("local".to_owned()),
        model: None,
        messages: vec![
            line(ChatRole::User, "hi"),
            ChatMessage {
                tool_calls: vec![call],
                ..line(ChatRole::Assistant, "")
            },
            ChatMessage {
                tool_call_id: Some("c1".to_owned()),
                ..line(ChatRole::Tool, "3")
            },
        ],
        tools: vec![ToolDefinition {
            name: "add".to_owned(),
            description: "adds".to_owned(),
            parameters: "{\"type\":\"object\"}".to_owned(),
        }],
        max_tokens: Some(7),
        temperature: None,
    }
}

async fn ask(answers: Vec<Response>) -> Result<Completion, StepError> {
    let retries = answers.len() as u32 - 1;
    let (url, _) = serve(answers).await;
    let mut providers = providers(&url);
    providers.change(|provider| provider.retries = retries);
    providers.chat(&request(), 1000, LONG, |_, _| {}).await
}

#[tokio::test]
async fn an_answer_streams_and_is_complete() {
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}});
    let (url, seen) = serve(vec![stream(&[text("Hel"), text("lo"), end("stop"), usage])]).await;
    let mut deltas = Vec::new();
    let answer = providers(&url)
        .chat(&request(), 1000, LONG, |_, delta| {
            deltas.push(delta.to_owned())
        })
        .await
        .expect("an answer");
    assert_eq!(deltas, ["Hel", "lo"]);
    let expected = Completion {
        content: "Hello".to_owned(),
        tool_calls: Vec::new(),
        finish: FinishReason::Stop,
        usage: Some(Usage {
            input_tokens: 5,
            output_tokens: 2,
        }),
        model: "m-1".to_owned(),
    };
    assert_eq!(answer, expected);
    let (headers, body) = seen.lock().expect("no panic").remove(0);
    assert_eq!(headers["authorization"], "Bearer sk-secret");
    // The guest's own id would not be accepted by every server, so another one is sent.
    let id = &body["messages"][1]["tool_calls"][0]["id"];
    let expected = json!({
        "model": "default",
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": id, "type": "function", "function": {"name": "add", "arguments": "{}"}}
            ]},
            {"role": "tool", "content": "3", "tool_call_id": id},
        ],
        "tools": [{"type": "function", "function":
            {"name": "add", "description": "adds", "parameters": {"type": "object", "properties": {}}}}],
        "max_tokens": 7,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn tool_calls_come_in_fragments() {
    let fragment = |call: Value| json!({"choices": [{"delta": {"tool_calls": [call]}}]});
    let answer = ask(vec![stream(&[
        fragment(json!({"index": 0, "id": "a", "function": {"name": "add", "arguments": ""}})),
        fragment(json!({"index": 0, "function": {"arguments": "{\"x\":"}})),
        fragment(json!({"index": 1, "function": {"name": "now", "arguments": "{}"}})),
        fragment(json!({"index": 0, "function": {"arguments": "1}"}})),
        end("tool_calls"),
    ])])
    .await
    .expect("an answer");
    let call = |id: &str, name: &str, arguments: &str| ModelToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    };
    let ids: Vec<&str> = answer
        .tool_calls
        .iter()
        .map(|call| call.id.as_str())
        .collect();
    assert!(ids.iter().all(|id| id.len() == 9 && *id != "c1"), "{ids:?}");
    assert_eq!(
        answer.tool_calls,
        [call(ids[0], "add", "{\"x\":1}"), call(ids[1], "now", "{}")]
    );
    assert_eq!(answer.finish, FinishReason::ToolCalls);
    assert_eq!(answer.usage, None);
}

#[tokio::test]
async fn each_failure_says_what_it_is_and_never_the_key() {
    let refused = |status: u16, body: Value| {
        (
            StatusCode::from_u16(status).expect("a status"),
            body.to_string(),
        )
            .into_response()
    };
    let html = || ([("content-type", "text/html")], "<html>").into_response();
    type Case = (Vec<Response>, fn(&StepError) -> bool, &'static str);
    let cases: Vec<Case> = vec![
        (
            vec![refused(
                400,
                json!({"error": {"code": 400, "message": "bad sk-secret"}}),
            )],
            |e| matches!(e, StepError::Invalid(_)),
            "bad [API key]",
        ),
        (
            vec![refused(401, json!({"error": {"message": "key sk-secret"}}))],
            |e| matches!(e, StepError::Failed(_)),
            "api_key_env",
        ),
        (
            vec![refused(404, json!({"error": "model not found"}))],
            |e| matches!(e, StepError::Invalid(_)),
            "model not found",
        ),
        (
            vec![
                refused(503, json!("busy")),
                refused(503, json!("still busy")),
            ],
            |e| matches!(e, StepError::Unavailable(_)),
            "still busy",
        ),
        (
            vec![html()],
            |e| matches!(e, StepError::Failed(_)),
            "base_url",
        ),
        (
            vec![unfinished(&[text("cut")])],
            |e| matches!(e, StepError::Failed(_)),
            "before it was complete",
        ),
        (
            vec![stream(&[json!({"error": {"message": "out of memory"}})])],
            |e| matches!(e, StepError::Failed(_)),
            "out of memory",
        ),
        (
            vec![stream(&[json!([1])])],
            |e| matches!(e, StepError::Failed(_)),
            "malformed",
        ),
        (
            vec![stream(&[text(&"x".repeat(1001)), end("stop")])],
            |e| matches!(e, StepError::TooLarge(_)),
            "1000 bytes",
        ),
    ];
    for (answers, kind, part) in cases {
        let error = ask(answers).await.expect_err("a failure");
        assert!(kind(&error), "{error:?}");
        assert!(error.to_string().contains(part), "{error}");
        assert!(!format!("{error:?}").contains("sk-secret"), "{error:?}");
    }
}

#[tokio::test]
async fn a_request_over_the_window_is_too_large_whoever_says_so() {
    for error in [
        json!({"message": "no", "code": "context_length_exceeded"}),
        json!({"message": "no", "type": "exceed_context_size_error", "n_ctx": 256}),
        json!({"message": "This model's maximum context length is 8192 tokens."}),
        json!({"message": "prompt is too long: 201 tokens > 200 maximum"}),
    ] {
        let body = json!({ "error": error }).to_string();
        let refused = (StatusCode::BAD_REQUEST, body).into_response();
        let error = ask(vec![refused]).await.expect_err("a refusal");
        assert!(matches!(error, StepError::TooLarge(_)), "{error:?}");
    }
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 500, "completion_tokens": 2}});
    let (url, seen) = serve(vec![stream(&[text("ok"), end("stop"), usage])]).await;
    let mut providers = providers(&url);
    providers.change(|provider| provider.context_tokens = Some(400));
    let mut long = request();
    long.messages[0].content = "x".repeat(1000);
    let first = providers.chat(&long, 1000, LONG, |_, _| {}).await;
    assert_eq!(first.expect("by rule of thumb it fits").content, "ok");
    let error = providers.chat(&long, 1000, LONG, |_, _| {}).await;
    let error = error.expect_err("it has been counted");
    let part = "tokens, and model `default` takes 393 beside its answer";
    assert!(
        matches!(&error, StepError::TooLarge(text) if text.contains(part)),
        "{error}"
    );
    assert_eq!(seen.lock().expect("no panic").len(), 1);
}

#[tokio::test]
async fn text_of_an_answer_that_broke_off_is_told_from_what_follows() {
    let (url, _) = serve(vec![
        unfinished(&[text("so")]),
        stream(&[text("ok"), end("stop")]),
    ])
    .await;
    let mut deltas = Vec::new();
    let show = |request, delta: &str| deltas.push((request, delta.to_owned()));
    let answer = providers(&url).chat(&request(), 1000, LONG, show).await;
    assert_eq!(answer.expect("an answer").content, "ok");
    assert_eq!(deltas, [(1, "so".to_owned()), (2, "ok".to_owned())]);
}

#[tokio::test]
async fn an_answer_in_one_piece_is_one_too() {
    let whole = |body: String| ([("content-type", "application/json")], body).into_response();
    let call =
        |name: &str| json!({"type": "function", "function": {"name": name, "arguments": "{}"}});
    let message = json!({
        "role": "assistant", "content": "ok", "tool_calls": [call("add"), call("now")],
    });
    let body = json!({
        "model": "m-1",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2},
    });
    // The first answer is cut off.
    let broken = whole("{\"choices\": [".to_owned());
    let answer = ask(vec![broken, whole(body.to_string())]).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.content, "ok");
    let calls = answer.tool_calls.iter().map(|call| call.name.as_str());
    assert_eq!(calls.collect::<Vec<_>>(), ["add", "now"]);
    assert_eq!(answer.usage.map(|usage| usage.input_tokens), Some(5));
    let error = ask(vec![whole("[1, 2".to_owned())])
        .await
        .expect_err("none");
    assert!(error.to_string().contains("malformed answer"), "{error}");
    let error = ask(vec![whole("{\"ok\": true}".to_owned())]).await;
    let error = error.expect_err("none");
    assert!(
        error.to_string().contains("before it was complete"),
        "{error}"
    );
}

#[tokio::test]
async fn a_fallback_is_asked_for_its_own_model() {
    let refused = (StatusCode::UNAUTHORIZED, "{}").into_response();
    let (first, _) = serve(vec![refused]).await;
    let (second, seen) = serve(vec![stream(&[text("ok"), end("stop")])]).await;
    let named = |name: &str, url: &str, model: &str, fallback: &str| {
        let provider = LlmProvider {
            base_url: url.to_owned(),
            model: model.to_owned(),
            fallback: Some(fallback.to_owned()),
            ..provider()
        };
        (name.to_owned(), provider)
    };
    // Circular fallbacks are harmless.
    let first = named("local", &first, "m", "spare");
    let second = named("spare", &second, "other", "local");
    let providers = LlmProviders::new([first, second].into()).expect("good providers");
    let wish = ChatRequest {
        model: Some("special".to_owned()),
        ..request()
    };
    let answer = providers.chat(&wish, 1000, LONG, |_, _| {}).await;
    assert_eq!(answer.expect("an answer").content, "ok");
    assert_eq!(seen.lock().expect("no panic")[0].1["model"], "other");
}

#[tokio::test]
async fn what_is_overloaded_is_asked_again() {
    let busy = (
        StatusCode::TOO_MANY_REQUESTS,
        "{\"error\":{\"message\":\"slow down\"}}",
    );
    let answer = ask(vec![
        busy.into_response(),
        stream(&[text("ok"), end("stop")]),
    ])
    .await;
    assert_eq!(answer.expect("an answer").content, "ok");
}

#[tokio::test]
async fn nobody_there_is_unavailable_and_unknown_is_denied() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("is bound");
    drop(listener);
    let mut providers = providers(&format!("http://{address}/v1"));
    providers.change(|provider| provider.retries = 0);
    let error = providers.chat(&request(), 1000, LONG, |_, _| {}).await;
    assert!(matches!(error, Err(StepError::Unavailable(_))), "{error:?}");
    let unknown = ChatRequest {
        provider: Some("other".to_owned()),
        ..request()
    };
    let error = providers.chat(&unknown, 1000, LONG, |_, _| {}).await;
    assert!(matches!(error, Err(StepError::Denied(_))), "{error:?}");
}

/// A response whose body never ends, and that notifies `dropped` when it is dropped.
fn endless(first: Value, dropped: Arc<Notify>) -> Response {
    struct Told(Arc<Notify>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let guard = Told(dropped);
    let first = futures::stream::iter([Ok::<_, std::io::Error>(format!("data: {first}\n\n"))]);
    let rest = futures::stream::once(async move {
        let _guard = guard;
        std::future::pending().await
    });
    let body = Body::from_stream(first.chain(rest));
    ([("content-type", "text/event-stream")], body).into_response()
}

#[tokio::test]
async fn dropping_the_call_ends_it_on_the_wire() {
    let dropped = Arc::new(Notify::new());
    let (url, _) = serve(vec![endless(text("so"), dropped.clone())]).await;
    let (sink, mut deltas) = mpsc::unbounded_channel();
    let call = tokio::spawn(async move {
        let providers = providers(&url);
        let show = |_, delta: &str| sink.send(delta.to_owned()).expect("somebody listens");
        providers.chat(&request(), 1000, LONG, show).await
    });
    assert_eq!(deltas.recv().await.as_deref(), Some("so"));
    call.abort();
    dropped.notified().await;
}

#[tokio::test]
async fn a_silent_server_times_out() {
    let (url, _) = serve(vec![endless(text("so"), Arc::new(Notify::new()))]).await;
    let mut providers = providers(&url);
    providers.change(|provider| {
        provider.idle_timeout = Duration::from_millis(50);
        provider.retries = 0;
    });
    let error = providers.chat(&request(), 1000, LONG, |_, _| {}).await;
    assert!(matches!(error, Err(StepError::Timeout(_))), "{error:?}");
}

#[test]
fn bad_providers_are_named_and_keys_are_not_shown() {
    let provider = LlmProvider {
        base_url: "ftp://x".to_owned(),
        ..provider()
    };
    assert!(!format!("{provider:?}").contains("sk-secret"));
    let error = LlmProviders::new([("bad".to_owned(), provider)].into());
    let error = error.err().expect("not HTTP").to_string();
    assert!(
        error.contains("llm.bad") && error.contains("http://"),
        "{error}"
    );
}
