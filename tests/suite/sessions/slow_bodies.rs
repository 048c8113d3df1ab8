//! Bodies that arrive slowly, never, or with more structure than text: they pay for what they take, and
//! nobody else does.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use abide_tests::{Daemon, Plugin, Setup};
use serde_json::json;

/// The number of uploads that stall.
const STALLED: usize = 90;
/// What each of them says that it will send: together more than the sessions' memory.
const BYTES: usize = 1 << 20;

async fn daemon() -> Daemon {
    let big = Plugin {
        name: "big".to_owned(),
        ..Plugin::new("echo")
            .limit("message = \"2MiB\"")
            .limit("event = \"3MiB\"")
    };
    let setup = Setup {
        daemon: vec!["session_memory = \"16MiB\"".to_owned()],
        ..Setup::default().plugin(big)
    };
    let daemon = Daemon::start(setup).await;
    daemon.client().open("s", "big").await;
    daemon
}

/// Begins an upload of a message.
fn begin(daemon: &Daemon) -> TcpStream {
    let mut connection = daemon.connect();
    let head = format!(
        "POST /v1/sessions/s/messages HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {BYTES}\r\n\r\n{{\"text\":\""
    );
    connection
        .write_all(head.as_bytes())
        .expect("the daemon reads");
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_stall_take_no_room_from_others() {
    let mut daemon = daemon().await;
    let mut stalled: Vec<TcpStream> = (0..STALLED).map(|_| begin(&daemon)).collect();
    let client = daemon.client();
    let large = "x".repeat(1 << 20);
    let posted = client.chat("s", &large).await;
    assert_eq!(posted.outcome.as_deref(), Some("completed"));
    // One of them goes on after all.
    let mut last = stalled.pop().expect("there are some");
    let rest = "y".repeat(BYTES - "{\"text\":\"\"}".len()) + "\"}";
    last.write_all(rest.as_bytes()).expect("the daemon reads");
    let mut answer = String::new();
    last.read_to_string(&mut answer)
        .expect("the daemon answers");
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    daemon.restart_by_edit().await;
    let posted = client.chat("s", "after").await;
    assert_eq!(posted.outcome.as_deref(), Some("completed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_all_structure_is_refused_by_what_it_would_take() {
    let daemon = daemon().await;
    let client = daemon.client();
    // Four million elements, in a field that has no meaning for the session.
    let elements = format!("[0{}]", ",0".repeat(4 << 20));
    let body = format!("{{\"plugin\":\"big\",\"args\":{elements}}}");
    let request = client
        .request(reqwest::Method::PUT, "/v1/sessions/t")
        .header("content-type", "application/json")
        .body(body);
    let reply = client.send(request).await.expect("an answer");
    let text = reply.problem(413);
    assert!(text.contains("of memory"), "{text}");
    client.chat("s", "hello").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openai_fields_without_meaning_are_ignored_whatever_they_are() {
    let daemon = daemon().await;
    let client = daemon.client();
    let nested = json!({"a": [1, 2, {"b": "c".repeat(1000)}]});
    let body = json!({
        "model": "big", "user": "o", "metadata": nested, "seed": 7, "tools": [],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "hello"}]},
        ],
    });
    let reply = client.post("/v1/chat/completions", &body).await;
    let body = reply.expect("an answer").expect(200);
    assert_eq!(body["choices"][0]["message"]["content"], "#1 user: hello");
}
