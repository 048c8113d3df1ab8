//! The metrics of the API, and the endpoint that serves all metrics.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{Method, header};
use metrics_exporter_prometheus::PrometheusHandle;

use super::Api;

/// Returns all metrics, in the text format of Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "show_metrics",
    tag = "probes",
    responses(
        (status = 200, description = "Prometheus text", body = String),
    ),
)]
pub(super) async fn render(State(api): State<Api>) -> impl IntoResponse {
    page(&api.metrics)
}

/// Returns the page of all metrics.
pub(super) fn page(metrics: &PrometheusHandle) -> impl IntoResponse + use<> {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics.render())
}

/// Counts requests by route, and measures the time to the head of their response.
pub(super) async fn count(request: Request, next: Next) -> Response {
    let since = Instant::now();
    // Never use a value that clients choose: each label value is a time series.
    let method = match *request.method() {
        Method::GET => "GET",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        _ => "other",
    };
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    let labels = [
        ("method", method.to_owned()),
        ("route", route),
        ("status", status),
    ];
    ::metrics::counter!("abide_http_requests_total", &labels).increment(1);
    ::metrics::histogram!("abide_http_request_seconds", &labels[..2]).record(since.elapsed());
    response
}
