//! The API of a daemon that does not open its store, since that would lose what was acknowledged: it
//! says so, and nothing else.

use std::sync::Arc;

use axum::extract::State;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use http::header;
use metrics_exporter_prometheus::PrometheusHandle;

use super::problem::{Problem, ProblemKind};
use super::{Access, auth, daemon, metrics};
use crate::documents::DaemonStatus;

/// What a daemon without a store answers with.
#[derive(Clone)]
pub struct RefusedApi {
    pub status: Arc<DaemonStatus>,
    /// Why the store is not opened, and what an operator can do.
    pub reason: Arc<str>,
    pub access: Arc<Access>,
    pub metrics: PrometheusHandle,
}

/// Returns the router of a daemon without a store: its status, the probes, the metrics, and a 503 with
/// the reason for everything else.
pub fn refused_router(api: RefusedApi) -> Router {
    let access = api.access.clone();
    Router::new()
        .route("/v1/daemon", get(status))
        .route("/healthz", get(daemon::healthz))
        .route("/metrics", get(render))
        .fallback(refuse)
        .method_not_allowed_fallback(refuse)
        .layer(from_fn_with_state(access, auth::check))
        .layer(from_fn(metrics::count))
        .with_state(api)
}

async fn status(State(api): State<RefusedApi>) -> Json<Arc<DaemonStatus>> {
    Json(api.status)
}

async fn render(State(api): State<RefusedApi>) -> impl IntoResponse {
    metrics::page(&api.metrics)
}

async fn refuse(State(api): State<RefusedApi>) -> Problem {
    // A human has to act first, which takes longer than a restart.
    Problem::new(ProblemKind::STORE_REFUSED, &*api.reason).header(header::RETRY_AFTER, 60_u16)
}
