//! The metrics of the API, and the endpoint that serves all metrics.

use std::cell::RefCell;
use std::time::Instant;

use ::metrics::{Counter, Histogram};
use axum::extract::{MatchedPath, Request, State};
use axum::response::IntoResponse;
use http::{Method, StatusCode, header};
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

/// A request that is being answered.
pub(super) struct Counted {
    since: Instant,
    method: &'static str,
    route: Option<MatchedPath>,
}

impl Counted {
    pub(super) fn begin(request: &Request) -> Self {
        // Never use a value that clients choose: each label value is a time series.
        let method = match *request.method() {
            Method::GET => "GET",
            Method::PUT => "PUT",
            Method::POST => "POST",
            Method::DELETE => "DELETE",
            _ => "other",
        };
        Self {
            since: Instant::now(),
            method,
            route: request.extensions().get().cloned(),
        }
    }

    /// Counts the request by its route, and the time to the head of its response.
    pub(super) fn end(self, status: StatusCode) {
        let route = self.route.as_ref().map_or("none", MatchedPath::as_str);
        KNOWN.with_borrow_mut(|known| {
            let series = known.of(route, self.method, status);
            series.requests.increment(1);
            series.seconds.record(self.since.elapsed());
        });
    }
}

thread_local! {
    /// The time series that this thread has counted in before: to find them in the registry takes many
    /// times longer than to count.
    static KNOWN: RefCell<KnownSeries> = RefCell::default();
}

/// One for each combination of labels that has occurred, which are not many.
#[derive(Default)]
struct KnownSeries(Vec<Series>);

/// The time series of one combination of labels.
struct Series {
    status: StatusCode,
    method: &'static str,
    route: Box<str>,
    requests: Counter,
    seconds: Histogram,
}

impl KnownSeries {
    fn of(&mut self, route: &str, method: &'static str, status: StatusCode) -> &Series {
        let is_wanted = |known: &Series| {
            known.status == status && known.method == method && *known.route == *route
        };
        let known = self.0.iter().position(is_wanted);
        let place = known.unwrap_or_else(|| {
            self.0.push(Series::register(route, method, status));
            self.0.len() - 1
        });
        &self.0[place]
    }
}

impl Series {
    fn register(route: &str, method: &'static str, status: StatusCode) -> Self {
        let labels = [
            ("method", method.to_owned()),
            ("route", route.to_owned()),
            ("status", status.as_u16().to_string()),
        ];
        Self {
            status,
            method,
            route: route.into(),
            requests: ::metrics::counter!("abide_http_requests_total", &labels),
            seconds: ::metrics::histogram!("abide_http_request_seconds", &labels[..2]),
        }
    }
}
