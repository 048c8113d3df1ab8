//! The API of a daemon that cannot serve, because its store is not open or what sessions run with cannot
//! be prepared: it says so, and nothing else.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

use super::openai::{self, OpenAiError};
use super::problem::{Problem, ProblemKind};
use super::{Access, auth, daemon, metrics};
use crate::documents::DaemonStatus;

/// What a daemon that cannot serve answers with.
#[derive(Clone)]
pub struct RefusedApi {
    /// The latest refusal; each try may change it.
    pub refusal: watch::Receiver<ServiceRefusal>,
    pub access: Arc<Access>,
    pub metrics: PrometheusHandle,
}

/// Why a daemon cannot serve.
#[derive(Clone, Debug)]
pub struct ServiceRefusal {
    pub kind: RefusalKind,
    pub status: Arc<DaemonStatus>,
    /// The reason, and what an operator can do.
    pub reason: Arc<str>,
    /// The seconds until it is tried again.
    pub retry_after: u16,
}

/// What a daemon that cannot serve lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// Its store.
    Store,
    /// What sessions run with: a plugin, a provider, the folders of components.
    Preparation,
}

/// Returns the router of a daemon that cannot serve: its status, the probes, the metrics, and a 503 with
/// the reason for everything else.
pub fn refused_router(api: RefusedApi) -> Router {
    let gate = auth::Gate::new(api.access.clone(), None);
    Router::new()
        .route("/v1/daemon", get(status))
        .route("/healthz", get(daemon::healthz))
        .route("/metrics", get(render))
        .fallback(refuse)
        .method_not_allowed_fallback(refuse)
        .layer(from_fn_with_state(gate, auth::enter))
        .with_state(api)
}

async fn status(State(api): State<RefusedApi>) -> Json<Arc<DaemonStatus>> {
    let status = api.refusal.borrow().status.clone();
    Json(status)
}

async fn render(State(api): State<RefusedApi>) -> impl IntoResponse {
    metrics::page(&api.metrics)
}

async fn refuse(State(api): State<RefusedApi>, request: Request) -> Response {
    let ServiceRefusal {
        kind,
        reason,
        retry_after,
        ..
    } = api.refusal.borrow().clone();
    let kind = match kind {
        RefusalKind::Store => ProblemKind::STORE_REFUSED,
        RefusalKind::Preparation => ProblemKind::NOT_PREPARED,
    };
    let problem = Problem::new(kind, &*reason).header(header::RETRY_AFTER, retry_after);
    match openai::is_path(request.uri().path()) {
        true => OpenAiError::from(problem).into_response(),
        false => problem.into_response(),
    }
}
