//! A tool server over HTTP, in the test's own process: it records its executions, answers with JSON
//! or with streams, fails on request, and can go away and come back.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use abide_tests::{PATIENCE, free_port};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::broadcast;

/// How the server answers a request that it accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    Json,
    Events,
}

/// The server.
pub(crate) struct Web {
    pub(crate) port: u16,
    pub(crate) world: Arc<WebState>,
    /// The runtime of the server and all of its connections; `None` while it is away.
    runtime: Mutex<Option<Runtime>>,
}

/// The state of the server, which outlives its absence.
pub(crate) struct WebState {
    answers: Answers,
    /// The token that it requires.
    token: Option<String>,
    /// The executions of tools: each a token and the call's key.
    done: Mutex<Vec<(String, String)>>,
    sessions: Mutex<HashSet<String>>,
    /// Tools that were added, or removed.
    pub(crate) extra: Mutex<Vec<&'static str>>,
    pub(crate) gone: Mutex<Vec<&'static str>>,
    pub(crate) initialized: AtomicUsize,
    pub(crate) listed: AtomicUsize,
    pub(crate) goodbyes: AtomicUsize,
    /// Requests to the address that it redirects to.
    pub(crate) strayed: AtomicUsize,
    news: broadcast::Sender<Value>,
}

impl Web {
    pub(crate) fn start(answers: Answers, token: Option<&str>) -> Self {
        let web = Self::away(answers, token);
        web.come();
        web
    }

    /// Returns a server that is not up yet.
    pub(crate) fn away(answers: Answers, token: Option<&str>) -> Self {
        let world = WebState {
            answers,
            token: token.map(str::to_owned),
            done: Mutex::default(),
            sessions: Mutex::default(),
            extra: Mutex::default(),
            gone: Mutex::default(),
            initialized: AtomicUsize::default(),
            listed: AtomicUsize::default(),
            goodbyes: AtomicUsize::default(),
            strayed: AtomicUsize::default(),
            news: broadcast::channel(16).0,
        };
        Self {
            port: free_port(),
            world: Arc::new(world),
            runtime: Mutex::default(),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }

    /// Brings the server up; it knows none of the earlier sessions.
    pub(crate) fn come(&self) {
        self.world.forget();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = std::net::TcpListener::bind(("127.0.0.1", self.port)).expect("it is free");
        listener.set_nonblocking(true).expect("a socket");
        let world = self.world.clone();
        let answer =
            move |method: Method, uri: axum::http::Uri, headers: HeaderMap, body: Bytes| {
                let world = world.clone();
                async move { world.answer(&method, uri.path(), &headers, &body).await }
            };
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            axum::serve(listener, Router::new().fallback(answer)).await
        });
        *self.runtime.lock().expect("no panic") = Some(runtime);
    }

    /// Takes the server down, with all connections; the port is free again.
    pub(crate) fn go(&self) {
        if let Some(runtime) = self.runtime.lock().expect("no panic").take() {
            // On a thread of its own, because this one may belong to another runtime.
            let gone = std::thread::spawn(move || runtime.shutdown_timeout(PATIENCE));
            gone.join().expect("no panic");
        }
    }

    /// Returns the keys under which a token's tool ran, in order.
    pub(crate) fn executions(&self, token: &str) -> Vec<String> {
        let done = self.world.done.lock().expect("no panic");
        let of_token = done.iter().filter(|(of, _)| of == token);
        of_token.map(|(_, key)| key.clone()).collect()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.go();
    }
}

impl WebState {
    pub(crate) fn forget(&self) {
        self.sessions.lock().expect("no panic").clear();
    }

    /// Notifies listeners that the tools have changed. Returns whether there are any.
    pub(crate) fn tell_of_change(&self) -> bool {
        let news = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
        self.news.send(news).is_ok()
    }

    fn tools(&self) -> Vec<Value> {
        let gone = self.gone.lock().expect("no panic");
        let extra = self.extra.lock().expect("no panic");
        let names = [
            "record",
            "note",
            "fall",
            "stall",
            "burst",
            "chatter",
            "mangle",
            "misnumber",
            "cut",
            "overload",
            "refuse",
            "redirect",
            "page",
            "blurt",
        ];
        let names = names.iter().chain(extra.iter());
        names
            .filter(|name| !gone.contains(name))
            .map(|name| {
                let idempotent = *name == "note";
                json!({
                    "name": name,
                    "description": format!("Does {name}."),
                    "inputSchema": {"type": "object"},
                    "annotations": {"idempotentHint": idempotent},
                })
            })
            .collect()
    }

    async fn answer(
        self: Arc<Self>,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Response {
        if path != "/mcp" {
            self.strayed.fetch_add(1, Ordering::SeqCst);
            return StatusCode::OK.into_response();
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let shown = text("authorization").unwrap_or_default();
        if let Some(token) = &self.token
            && shown != format!("Bearer {token}")
        {
            return (StatusCode::UNAUTHORIZED, format!("not with {shown}")).into_response();
        }
        let message: Value = serde_json::from_slice(body).unwrap_or_default();
        let begins = message["method"] == "initialize";
        let session = text("mcp-session-id").unwrap_or_default();
        if !begins && !self.sessions.lock().expect("no panic").contains(session) {
            return StatusCode::NOT_FOUND.into_response();
        }
        match *method {
            Method::GET if self.answers == Answers::Events => self.listen(),
            Method::GET => StatusCode::METHOD_NOT_ALLOWED.into_response(),
            Method::DELETE => {
                self.goodbyes.fetch_add(1, Ordering::SeqCst);
                StatusCode::NO_CONTENT.into_response()
            }
            _ => self.take(&message, shown).await,
        }
    }

    async fn take(self: Arc<Self>, message: &Value, shown: &str) -> Response {
        let (id, params) = (&message["id"], &message["params"]);
        match message["method"].as_str().unwrap_or_default() {
            "initialize" => {
                let count = self.initialized.fetch_add(1, Ordering::SeqCst);
                let session = format!("session-{count}");
                self.sessions
                    .lock()
                    .expect("no panic")
                    .insert(session.clone());
                let mut answer = self.give(
                    id,
                    json!({
                        "protocolVersion": params["protocolVersion"],
                        "capabilities": {"tools": {"listChanged": true}},
                        "serverInfo": {"name": "web", "version": "1"},
                    }),
                );
                let session = session.parse().expect("a header");
                answer.headers_mut().insert("mcp-session-id", session);
                answer
            }
            "tools/list" => {
                self.listed.fetch_add(1, Ordering::SeqCst);
                self.give(id, json!({"tools": self.tools()}))
            }
            "tools/call" => self.call(id, params, shown).await,
            _ => StatusCode::ACCEPTED.into_response(),
        }
    }

    async fn call(self: Arc<Self>, id: &Value, params: &Value, shown: &str) -> Response {
        let name = params["name"].as_str().unwrap_or_default();
        let arguments = &params["arguments"];
        let sleep = async |key: &str| {
            let ms = arguments[key].as_u64().unwrap_or_default();
            tokio::time::sleep(Duration::from_millis(ms)).await;
        };
        let turns_away = matches!(name, "refuse" | "redirect");
        let known = self.tools().iter().any(|tool| tool["name"] == name);
        if known && !turns_away {
            sleep("sleep_ms").await;
            let token = arguments["token"].as_str().unwrap_or_default().to_owned();
            let key = params["_meta"]["abide/key"]
                .as_str()
                .unwrap_or("-")
                .to_owned();
            self.done.lock().expect("no panic").push((token, key));
            sleep("sleep_after_ms").await;
        }
        let json = |body: String| ([(header::CONTENT_TYPE, "application/json")], body);
        let result = json!({"content": [{"type": "text", "text": "done"}]});
        match name {
            _ if !known => self.fail(id, -32602, format!("there is no tool {name}")),
            // The connection ends in the middle of the answer.
            "fall" => {
                let pieces = [
                    Ok(Bytes::from_static(b"{\"jsonrpc\"")),
                    Err(std::io::Error::other("it fell")),
                ];
                let kind = [(header::CONTENT_TYPE, "application/json")];
                (kind, Body::from_stream(stream::iter(pieces))).into_response()
            }
            "stall" => std::future::pending().await,
            "burst" => {
                let text = "x".repeat(9 << 20);
                self.give(id, json!({"content": [{"type": "text", "text": text}]}))
            }
            "chatter" => {
                let news = json!({"jsonrpc": "2.0", "method": "notifications/message",
                    "params": {"level": "info", "data": "x".repeat(100)}});
                let event = Bytes::from(format!("data: {news}\n\n"));
                events(Body::from_stream(stream::repeat_with(move || {
                    Ok::<_, Infallible>(event.clone())
                })))
            }
            "mangle" if self.answers == Answers::Events => {
                events(Body::from("data: {\"jsonrpc\": nonsense\n\n"))
            }
            "mangle" => json("{\"jsonrpc\": nonsense".to_owned()).into_response(),
            "misnumber" => self.give(&json!(4711), result),
            // A stream that ends, or an empty answer.
            "cut" if self.answers == Answers::Events => events(Body::from(": nothing\n\n")),
            "cut" => json(String::new()).into_response(),
            "overload" => (StatusCode::SERVICE_UNAVAILABLE, "too much").into_response(),
            "refuse" => (StatusCode::BAD_REQUEST, "not like this").into_response(),
            "redirect" => {
                let to = [(header::LOCATION, "/elsewhere")];
                (StatusCode::TEMPORARY_REDIRECT, to).into_response()
            }
            "page" => axum::response::Html("<h1>hello</h1>").into_response(),
            "blurt" => self.fail(id, -32000, format!("you showed {shown}")),
            _ => self.give(id, result),
        }
    }

    fn fail(&self, id: &Value, code: i64, message: String) -> Response {
        let error = json!({"code": code, "message": message});
        self.say(&json!({"jsonrpc": "2.0", "id": id, "error": error}))
    }

    fn give(&self, id: &Value, result: Value) -> Response {
        self.say(&json!({"jsonrpc": "2.0", "id": id, "result": result}))
    }

    fn say(&self, message: &Value) -> Response {
        match self.answers {
            Answers::Json => axum::Json(message).into_response(),
            Answers::Events => events(Body::from(format!("data: {message}\n\n"))),
        }
    }

    /// Streams the server's own notifications.
    fn listen(&self) -> Response {
        let news = stream::unfold(self.news.subscribe(), async |mut news| {
            let message = news.recv().await.ok()?;
            let event = Bytes::from(format!("data: {message}\n\n"));
            Some((Ok::<_, Infallible>(event), news))
        });
        events(Body::from_stream(news))
    }
}

fn events(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}
