//! The HTTP side: Abide's own server with one route.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use abide::api::server::{BoundListener, CONNECTIONS_MAX, PreparedServer};
use axum::Router;
use axum::extract::{Json, Path as InPath, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::Deserialize;

use super::store::Store;

#[derive(Deserialize)]
struct SayBody {
    text: String,
}

/// Serves the chat until it is killed.
pub(crate) fn run(address: SocketAddr, folder: &Path) -> Result<(), String> {
    let text = |error: std::io::Error| format!("{address}: {error}");
    // Configured like the runtime of the daemon's worker.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(text)?;
    let socket = TcpListener::bind(address).map_err(text)?;
    let store = Arc::new(Store::open(folder)?);
    runtime.block_on(async {
        let router = Router::new()
            .route("/v1/sessions/{id}/messages", post(say))
            .with_state(store);
        let listener = BoundListener {
            socket: socket.into(),
            label: address.to_string(),
        };
        let prepared = PreparedServer::of(vec![listener], router, CONNECTIONS_MAX);
        let _server = prepared.map_err(text)?.start();
        std::future::pending().await
    })
}

/// Answers with as many bytes as Abide does.
async fn say(
    State(store): State<Arc<Store>>,
    InPath(id): InPath<String>,
    Json(SayBody { text }): Json<SayBody>,
) -> Response {
    match store.say(&id, text).await {
        Ok((turn, kept)) => {
            let cursor = 3 * turn;
            let body = format!(
                "{{\"message\":\"m{cursor}\",\"cursor\":{cursor},\"duplicate\":false,\"turn\":{turn},\
                 \"outcome\":\"completed\",\"output\":[{{\"cursor\":{cursor},\"kind\":\"message\",\
                 \"turn\":{turn},\"at\":\"2026-01-01T00:00:00.000Z\",\"from\":\"assistant\",\
                 \"text\":\"{{\\\"turn\\\":{turn},\\\"kept\\\":{kept}}}\"}}]}}"
            );
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error).into_response(),
    }
}
