//! A proxy between the daemon and the model's server that counts the requests that the server
//! refuses.

use std::ops::Sub;
use std::sync::{Arc, Mutex, MutexGuard};

use abide_tests::{LocalServer, http_client};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;

/// The numbers of requests and of refusals.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RelayCounts {
    pub(crate) requests: usize,
    pub(crate) refused: usize,
}

impl Sub for RelayCounts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            requests: self.requests - before.requests,
            refused: self.refused - before.refused,
        }
    }
}

struct RelayState {
    server: String,
    http: reqwest::Client,
    requests: Mutex<usize>,
    refused: Mutex<Vec<String>>,
}

/// A running relay, which is stopped when dropped.
pub(crate) struct Relay {
    shared: Arc<RelayState>,
    local: LocalServer,
}

impl Relay {
    pub(crate) async fn start(server: String) -> Self {
        let shared = Arc::new(RelayState {
            server,
            http: http_client(None),
            requests: Mutex::default(),
            refused: Mutex::default(),
        });
        let router = Router::new()
            .route("/v1/chat/completions", post(pass))
            .with_state(shared.clone());
        let local = LocalServer::start(0, router).await;
        Self { shared, local }
    }

    pub(crate) fn base_url(&self) -> String {
        format!("{}/v1", self.local.url())
    }

    pub(crate) fn seen(&self) -> RelayCounts {
        RelayCounts {
            requests: *held(&self.shared.requests),
            refused: held(&self.shared.refused).len(),
        }
    }

    /// Returns the refusals, each with the refused request.
    pub(crate) fn refused(&self) -> Vec<String> {
        held(&self.shared.refused).clone()
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}

async fn pass(State(shared): State<Arc<RelayState>>, request: Bytes) -> Response {
    *held(&shared.requests) += 1;
    let answer = shared
        .http
        .post(format!("{}/chat/completions", shared.server))
        .header("content-type", "application/json")
        .body(request.clone())
        .send()
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    };
    let status = answer.status();
    let kind = answer.headers().get("content-type").cloned();
    let mut response = if status.is_success() {
        Response::new(Body::from_stream(answer.bytes_stream()))
    } else {
        let text = answer.text().await.unwrap_or_default();
        // A 503 means that the server is still loading; it is not a refusal.
        if status != StatusCode::SERVICE_UNAVAILABLE {
            let request = String::from_utf8_lossy(&request);
            held(&shared.refused).push(format!("{status}: {text} to {request}"));
        }
        Response::new(Body::from(text))
    };
    *response.status_mut() = status;
    if let Some(kind) = kind {
        response.headers_mut().insert("content-type", kind);
    }
    response
}
