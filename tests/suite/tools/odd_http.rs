//! Tool servers over HTTP that answer oddly, or speak what this version does not.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use abide_tests::until;
use async_compression::tokio::bufread::GzipEncoder;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::stage::{Stage, acts};

/// What a server makes of the right answer to a request.
type Manner = fn(&Value, Value) -> HttpAnswer;

/// A server's answer.
struct HttpAnswer {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
    packed: bool,
}

fn answer(kind: &'static str, body: impl Into<Vec<u8>>) -> HttpAnswer {
    HttpAnswer {
        status: 200,
        headers: vec![("content-type", kind)],
        body: body.into(),
        packed: false,
    }
}

fn events(message: &Value) -> String {
    format!("event: message\ndata: {message}\n\n")
}

/// A server with one tool, `look`.
struct OddHttpServer {
    url: String,
    /// The headers of the last request.
    seen: Arc<Mutex<HeaderMap>>,
}

impl OddHttpServer {
    /// Starts a server. `manner` builds its answers; `listen` is what it sends to a caller that
    /// requests a stream.
    async fn start(manner: Manner, listen: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/mcp", listener.local_addr().expect("it is bound"));
        let seen = Arc::new(Mutex::new(HeaderMap::new()));
        let shown = seen.clone();
        let take = move |method: Method, headers: HeaderMap, body: Bytes| {
            *shown.lock().expect("no panic") = headers;
            async move {
                match (method, listen) {
                    (Method::GET, Some(text)) => held(text),
                    (Method::GET, None) => StatusCode::METHOD_NOT_ALLOWED.into_response(),
                    _ => give(manner, &body).await,
                }
            }
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(take)).await });
        Self { url, seen }
    }

    async fn stage(&self, keys: &str) -> Stage {
        let url = &self.url;
        Stage::start(|mut setup| {
            setup.rest[0] = format!("[mcp.t]\nurl = \"{url}\"\n{keys}");
            setup
        })
        .await
    }
}

/// Returns a stream that sends this text and stays open.
fn held(text: &'static str) -> Response {
    let text = stream::once(async move { Ok::<_, Infallible>(Bytes::from(text)) });
    let body = Body::from_stream(futures::StreamExt::chain(text, stream::pending()));
    ([("content-type", "text/event-stream")], body).into_response()
}

async fn give(manner: Manner, body: &[u8]) -> Response {
    let message: Value = serde_json::from_slice(body).unwrap_or_default();
    let result = match message["method"].as_str().unwrap_or_default() {
        "initialize" => json!({"protocolVersion": "2025-06-18", "capabilities": {},
            "serverInfo": {"name": "odd", "version": "1"}}),
        "tools/list" => json!({"tools": [{"name": "look", "inputSchema": {"type": "object"}}]}),
        "tools/call" => json!({"content": [{"type": "text", "text": "seen"}]}),
        _ => Value::Null,
    };
    let proper = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
    let mut given = manner(&message, proper);
    if given.packed {
        let mut packed = Vec::new();
        let mut encoder = GzipEncoder::new(given.body.as_slice());
        encoder
            .read_to_end(&mut packed)
            .await
            .expect("it is packed");
        given.body = packed;
        given.headers.push(("content-encoding", "gzip"));
    }
    let mut response = Response::new(Body::from(given.body));
    *response.status_mut() = StatusCode::from_u16(given.status).expect("a status");
    for (name, value) in given.headers {
        let value = value.parse().expect("a header");
        response.headers_mut().insert(name, value);
    }
    response
}

const JSON: &str = "application/json";
const STREAM: &str = "text/event-stream";

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_taken_however_it_is_named_packed_and_written() {
    let manners: [(&str, Manner); 14] = [
        ("no type", |_, message| HttpAnswer {
            headers: Vec::new(),
            ..answer(JSON, message.to_string())
        }),
        ("plain", |_, message| {
            answer("text/plain", message.to_string())
        }),
        ("plain events", |_, message| {
            answer("text/plain", events(&message))
        }),
        ("JSON named events", |_, message| {
            answer(STREAM, message.to_string())
        }),
        ("events named JSON", |_, message| {
            answer(JSON, events(&message))
        }),
        ("packed", |_, message| HttpAnswer {
            packed: true,
            ..answer(JSON, message.to_string())
        }),
        ("packed events", |_, message| HttpAnswer {
            packed: true,
            ..answer(STREAM, events(&message))
        }),
        ("refuses notifications", |asked, message| HttpAnswer {
            status: if asked["id"].is_null() { 400 } else { 200 },
            ..answer(JSON, message.to_string())
        }),
        ("fails at notifications", |asked, message| HttpAnswer {
            status: if asked["id"].is_null() { 500 } else { 200 },
            ..answer(JSON, message.to_string())
        }),
        ("error null", |_, mut message| {
            message["error"] = Value::Null;
            message["id"] = json!(message["id"].to_string());
            answer(JSON, message.to_string())
        }),
        ("error null in events", |_, mut message| {
            message["error"] = Value::Null;
            answer(STREAM, format!("data: ping\n\n{}", events(&message)))
        }),
        ("no version", |_, mut message| {
            message
                .as_object_mut()
                .expect("an object")
                .remove("jsonrpc");
            answer(JSON, format!("\u{feff}{message:#}"))
        }),
        ("no id", |_, message| {
            answer(JSON, json!({"result": message["result"]}).to_string())
        }),
        ("a batch", |_, message| {
            answer(JSON, json!([message]).to_string())
        }),
    ];
    for (what, manner) in manners {
        let odd = OddHttpServer::start(manner, None).await;
        let stage = odd.stage("call_timeout = \"5s\"").await;
        let outcome = stage.call("a", "look", "a").await;
        assert_eq!(outcome, ("ok".to_owned(), "seen".to_owned()), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_no_unicode_arrives() {
    fn broken(asked: &Value, message: &Value) -> Vec<u8> {
        let text = message.to_string();
        if asked["method"] != "tools/call" {
            return text.into_bytes();
        }
        let text = text.replace("seen", "a \\ud83d b \u{1}");
        let (before, behind) = text.split_once('\u{1}').expect("it is there");
        [before.as_bytes(), b"\xE9", behind.as_bytes()].concat()
    }
    let manners: [Manner; 2] = [
        |asked, message| answer(JSON, broken(asked, &message)),
        |asked, message| {
            let event = [b"data: ", &broken(asked, &message)[..], b"\n\n"].concat();
            answer(STREAM, event)
        },
    ];
    for manner in manners {
        let odd = OddHttpServer::start(manner, None).await;
        let stage = odd.stage("call_timeout = \"5s\"").await;
        let (outcome, result) = stage.call("a", "look", "a").await;
        assert_eq!((&*outcome, &*result), ("ok", "a \u{FFFD} b \u{FFFD}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_something_else_is_named_as_that() {
    let refuses: Manner = |_, _| HttpAnswer {
        status: 405,
        ..answer("text/plain", "no")
    };
    let not_found: Manner = |_, _| HttpAnswer {
        status: 404,
        ..answer("text/html", "<h1>no</h1>")
    };
    let bad: Manner = |_, _| HttpAnswer {
        status: 400,
        ..answer(JSON, json!({"error": "session_id is required"}).to_string())
    };
    let endpoint = Some("event: endpoint\ndata: /messages?session_id=1\n\n");
    let later: Manner = |asked, _| {
        let error = json!({"code": -32601, "message": "Method not found"});
        answer(
            JSON,
            json!({"jsonrpc": "2.0", "id": asked["id"], "error": error}).to_string(),
        )
    };
    let later_versions: Manner = |asked, _| {
        let data = json!({"supported": ["2026-07-28"]});
        let error = json!({"code": -32022, "message": "no", "data": data});
        HttpAnswer {
            status: 400,
            ..answer(
                JSON,
                json!({"jsonrpc": "2.0", "id": asked["id"], "error": error}).to_string(),
            )
        }
    };
    let login: Manner = |_, _| HttpAnswer {
        status: 401,
        headers: vec![(
            "www-authenticate",
            "Bearer resource_metadata=\"https://x/.well-known/oauth-protected-resource\"",
        )],
        ..answer(JSON, "{}")
    };
    let old = "it speaks MCP over HTTP+SSE as of 2024-11-05, which Abide does not";
    for (manner, listen, parts) in [
        (refuses, endpoint, [old, "mcp-remote"]),
        (not_found, endpoint, [old, "sse-only"]),
        (bad, endpoint, [old, "`mcp.t.url`"]),
        (
            refuses,
            None,
            ["there is no MCP server at its URL (405)", "`mcp.t.url`"],
        ),
        (
            later,
            None,
            ["it speaks MCP 2026-07-28 or another", "proxy"],
        ),
        (
            later_versions,
            None,
            ["it speaks MCP 2026-07-28 only", "up to 2025-11-25"],
        ),
        (login, None, ["it wants OAuth", "`mcp.t.token_env`"]),
    ] {
        let odd = OddHttpServer::start(manner, listen).await;
        let stage = odd.stage("").await;
        for id in ["a", "b"] {
            let (came, result) = stage.call(id, "look", "a").await;
            assert_eq!(came, "error:unavailable", "{parts:?}");
            for part in parts {
                assert!(result.contains(part), "{part} in {result}");
            }
        }
        let status = stage.tool_server("t", "down").await;
        assert!(
            status["reason"]
                .as_str()
                .is_some_and(|why| why.contains(parts[0])),
            "{status}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_in_a_stream_extends_a_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/mcp", listener.local_addr().expect("it is bound"));
    let take = |body: Bytes| async move {
        let message: Value = serde_json::from_slice(&body).unwrap_or_default();
        if message["method"] != "tools/call" {
            return give(|_, message| answer(JSON, message.to_string()), &body).await;
        }
        let token = message["params"]["_meta"]["progressToken"].clone();
        let steps = stream::unfold(0, move |n| {
            let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress",
                "params": {"progressToken": token, "progress": n}});
            let done = json!({"jsonrpc": "2.0", "id": message["id"],
                "result": {"content": [{"type": "text", "text": "seen"}]}});
            async move {
                tokio::time::sleep(Duration::from_millis(400)).await;
                let event = match n {
                    ..8 => events(&progress),
                    8 => events(&done),
                    _ => return None,
                };
                Some((Ok::<_, Infallible>(Bytes::from(event)), n + 1))
            }
        });
        ([("content-type", STREAM)], Body::from_stream(steps)).into_response()
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(take)).await });
    let stage = Stage::start(|mut setup| {
        setup.rest[0] = format!("[mcp.t]\nurl = \"{url}\"\ncall_timeout = \"2s\"");
        setup
    })
    .await;
    let outcome = stage.call("a", "look", "a").await;
    assert_eq!(outcome, ("ok".to_owned(), "seen".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_sent_and_shown_to_nobody() {
    const VALUE: &str = "hunter2-tenant";
    const FROM_FILE: &str = "hunter2-file";
    let manner: Manner = |asked, message| match asked["method"] == "tools/call" {
        // It repeats the secrets that it received.
        true => {
            let text = format!("you said {VALUE} and {FROM_FILE}");
            let error = json!({"code": -32000, "message": text});
            let error = json!({"jsonrpc": "2.0", "id": asked["id"], "error": error});
            answer(JSON, error.to_string())
        }
        false => answer(JSON, message.to_string()),
    };
    let odd = OddHttpServer::start(manner, None).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{FROM_FILE}\n")).expect("the folder is ours");
    let keys =
        format!("headers = {{ X-Tenant = \"{VALUE}\", Authorization = {{ file = {file:?} }} }}");
    let stage = odd.stage(&keys).await;
    let (came, result) = stage.call("a", "look", "a").await;
    assert_eq!(came, "error:failed");
    assert!(
        result.contains("[X-Tenant]") && result.contains("[Authorization]"),
        "{result}"
    );
    let seen = odd.seen.lock().expect("no panic").clone();
    let of = |name: &str| seen.get(name).and_then(|value| value.to_str().ok());
    assert_eq!(of("x-tenant"), Some(VALUE));
    assert_eq!(of("authorization"), Some(FROM_FILE));
    let status = stage.daemon.status().await.to_string();
    for text in [&result, &status, &stage.daemon.log()] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    // A new value takes effect at once.
    std::fs::write(&file, "another-key\n").expect("the folder is ours");
    until("the new value", async || {
        stage.call("again", "look", "a").await;
        let seen = odd.seen.lock().expect("no panic").clone();
        let shown = seen
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        (shown == Some("another-key")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_may_be_given_by_value_and_by_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("tools.log");
    let file = folder.path().join("path");
    std::fs::write(&file, format!("{}\n", log.display())).expect("the folder is ours");
    let server = abide_tests::tool_server();
    for (n, given) in [
        format!("{{ value = {log:?} }}"),
        format!("{{ file = {file:?} }}"),
    ]
    .iter()
    .enumerate()
    {
        let stage = Stage::start(|mut setup| {
            setup.rest[0] =
                format!("[mcp.t]\ncommand = [{server:?}]\nenv = {{ ABIDE_TOOLS_LOG = {given} }}");
            setup
        })
        .await;
        let token = format!("t{n}");
        let call = json!([{"act": "call", "tool": "record", "token": token}]);
        let events = stage.perform("a", call).await;
        assert_eq!(acts(&events), [format!("call {token} ok")], "{given}");
        let written = std::fs::read_to_string(&log).expect("it was written");
        assert!(written.contains(&token), "{given}: {written}");
    }
}
