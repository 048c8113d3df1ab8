//! HTTP requests of guests, end to end: granted ones are sent, others are refused whichever way
//! they are tried, and those that a kill leaves open are repeated or reported as unknown.

use std::sync::{Arc, Mutex};

use abide_tests::until;
use axum::Router;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::stage::{Stage, acts};

/// A server that records its requests.
#[derive(Clone)]
struct RecordingServer {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl RecordingServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let world = Self {
            port: listener.local_addr().expect("it is bound").port(),
            asked: Arc::default(),
        };
        let seen = world.clone();
        let answer = move |method: Method, uri: Uri, headers: HeaderMap, body: String| {
            let world = seen.clone();
            async move {
                let agent = headers.get(header::USER_AGENT).cloned();
                assert!(agent.is_some_and(|agent| agent.as_bytes().starts_with(b"abide/")));
                let asked = format!("{method} {} {body}", uri.path());
                world.asked.lock().expect("no panic").push(asked);
                world.answer(uri.path()).await
            }
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        world
    }

    async fn answer(&self, path: &str) -> Response {
        match path {
            "/away" => {
                let to = format!("http://127.0.0.1:{}/secret", self.port);
                (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
            }
            "/large" => "x".repeat(2 << 20).into_response(),
            // Only the first time; the second time it answers.
            "/hang" if self.count("/hang") == 1 => std::future::pending().await,
            "/slow" => std::future::pending().await,
            _ => "hello".into_response(),
        }
    }

    fn count(&self, path: &str) -> usize {
        let asked = self.asked.lock().expect("no panic");
        asked
            .iter()
            .filter(|line| line.split(' ').nth(1) == Some(path))
            .count()
    }

    fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.port)
    }

    async fn stage(&self, http: &str) -> Stage {
        let http = http.replace("PORT", &self.port.to_string());
        let stage = Stage::start(|mut setup| {
            let scripted = &mut setup.plugins.iter_mut().find(|p| p.name == "scripted");
            let scripted = scripted.as_mut().expect("it is on the stage");
            scripted.capabilities.push(http);
            scripted.limits.push("event = \"1MiB\"".into());
            scripted.limits.push("step_timeout = \"4s\"".into());
            setup
        });
        stage.await
    }
}

fn get(url: &str) -> Value {
    json!({"act": "http", "method": "GET", "url": url})
}

/// Returns the guest's result for each of its requests.
fn given(events: &[abide_tests::Event]) -> Vec<Value> {
    let acts = events.iter().filter(|e| e.name.as_deref() == Some("act"));
    acts.filter_map(|event| Some(event.data.as_ref()?["value"].clone()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_where_it_is_granted_and_nowhere_else() {
    let world = RecordingServer::start().await;
    let stage = world.stage("http = [\"http://localhost:PORT\"]").await;
    let script = json!([
        get(&world.url("localhost", "/a")),
        {"act": "http", "method": "POST", "url": world.url("localhost", "/b"), "body": "b"},
        get(&world.url("localhost", "/away")),
        get(&world.url("localhost", "/large")),
        get(&world.url("127.0.0.1", "/secret")),
        get(&world.url("[::ffff:127.0.0.1]", "/secret")),
        get("http://169.254.169.254/latest/meta-data"),
        get("https://elsewhere.example/"),
        get("file:///etc/passwd"),
    ]);
    let events = stage.perform("m", script).await;
    let results = acts(&events);
    let expected = [
        "ok",
        "ok",
        "ok",
        "error:too-large",
        "error:denied",
        "error:denied",
        "error:denied",
        "error:denied",
        "error:invalid",
    ];
    assert_eq!(results, expected.map(|result| format!("http  {result}")));
    let given = given(&events);
    assert_eq!(given[0], json!({"status": 200, "body": "hello"}));
    assert_eq!(given[2]["status"], 302, "a redirect is an answer");
    let denied = given[7].as_str().unwrap_or_default();
    let remedy = "add elsewhere.example to plugins.scripted.capabilities.http";
    assert!(denied.contains(remedy), "{denied}");
    let asked = world.asked.lock().expect("no panic").clone();
    assert_eq!(asked, ["GET /a ", "POST /b b", "GET /away ", "GET /large "]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_resolves_to_this_machine_takes_a_grant_of_its_own() {
    let world = RecordingServer::start().await;
    let script = json!([get(&world.url("localhost", "/a"))]);
    let stage = world.stage("http = [\"http://*:*\"]").await;
    let events = stage.perform("m", script.clone()).await;
    assert_eq!(acts(&events), ["http  error:denied"]);
    let denied = given(&events)[0].to_string();
    assert!(
        denied.contains("`localhost` resolves to a loopback address"),
        "{denied}"
    );
    assert_eq!(world.count("/a"), 0);
    let stage = world
        .stage("http = [\"http://*:*\"]\nhttp_private = [\"localhost\"]")
        .await;
    assert_eq!(acts(&stage.perform("m", script).await), ["http  ok"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_come_is_told_by_what_may_have_happened() {
    let world = RecordingServer::start().await;
    let stage = world.stage("http = [\"http://localhost:PORT\"]").await;
    let slow = world.url("localhost", "/slow");
    let script = json!([
        get(&slow),
        {"act": "http", "method": "POST", "url": slow, "body": "b"},
    ]);
    let events = stage.perform("m", script).await;
    assert_eq!(acts(&events), ["http  error:timeout", "http  unknown"]);
    assert_eq!(world.count("/slow"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_death_a_get_is_sent_again_and_a_post_is_unknown() {
    for (method, result, sent) in [("GET", "ok", 2), ("POST", "unknown", 1)] {
        let world = RecordingServer::start().await;
        let stage = world.stage("http = [\"http://localhost:PORT\"]").await;
        let script = json!([
            {"act": "http", "method": method, "url": world.url("localhost", "/hang")},
            get(&world.url("localhost", "/next")),
        ]);
        let message = stage.send("m", script).await;
        until("the request to arrive", async || {
            (world.count("/hang") == 1).then_some(())
        })
        .await;
        stage.daemon.kill_worker().await;
        let events = stage.end_of(&message).await;
        assert_eq!(
            acts(&events),
            [format!("http  {result}"), "http  ok".into()],
            "{method}"
        );
        assert_eq!(world.count("/hang"), sent, "{method}");
        assert_eq!(world.count("/next"), 1);
    }
}
