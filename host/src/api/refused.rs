//! The API of a daemon whose store is not open, because it lacks what was acknowledged or cannot be
//! opened: it says so, and nothing else.

use std::sync::Arc;

use axum::extract::State;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use http::header;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

use super::problem::{Problem, ProblemKind};
use super::{Access, auth, daemon, metrics};
use crate::documents::DaemonStatus;

/// What a daemon without a store answers with.
#[derive(Clone)]
pub struct RefusedApi {
    /// The latest refusal; each try to open the store may change it.
    pub refusal: watch::Receiver<StoreRefusal>,
    pub access: Arc<Access>,
    pub metrics: PrometheusHandle,
}

/// Why the store is not open.
#[derive(Clone, Debug)]
pub struct StoreRefusal {
    pub status: Arc<DaemonStatus>,
    /// The reason, and what an operator can do.
    pub reason: Arc<str>,
    /// The seconds until the store is tried again.
    pub retry_after: u16,
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
    let status = api.refusal.borrow().status.clone();
    Json(status)
}

async fn render(State(api): State<RefusedApi>) -> impl IntoResponse {
    metrics::page(&api.metrics)
}

async fn refuse(State(api): State<RefusedApi>) -> Problem {
    let StoreRefusal {
        reason,
        retry_after,
        ..
    } = api.refusal.borrow().clone();
    Problem::new(ProblemKind::STORE_REFUSED, &*reason).header(header::RETRY_AFTER, retry_after)
}
