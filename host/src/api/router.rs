//! The routes of the API.

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post, put};

use super::problem::{Problem, ProblemKind};
use super::{
    Api, approvals, audit, auth, backups, daemon, dead, events, messages, metrics, openai, openapi,
    plugin_trial, sessions, standing, tokens, turns, way_back,
};

/// Returns the router of the whole API.
pub fn router(api: Api) -> Router {
    let stored = (api.tokens.clone(), api.audit.clone());
    let gate = auth::Gate::new(api.access.clone(), Some(stored));
    Router::new()
        .route("/v1/sessions", get(sessions::list))
        .route(
            "/v1/sessions/{id}",
            put(sessions::create)
                .get(sessions::show)
                .delete(sessions::close),
        )
        .route("/v1/sessions/{id}/messages", post(messages::send))
        .route("/v1/sessions/{id}/events", get(events::follow))
        .route("/v1/sessions/{id}/cancel", post(sessions::cancel))
        .route("/v1/sessions/{id}/resume", post(sessions::resume))
        .route("/v1/sessions/{id}/adopt", post(sessions::adopt))
        .route("/v1/sessions/{id}/points", get(way_back::points))
        .route("/v1/sessions/{id}/rewind", post(way_back::rewind))
        .route("/v1/sessions/{id}/fork", post(way_back::fork))
        .route("/v1/sessions/{id}/export", get(way_back::export))
        .route("/v1/sessions/{id}/import", post(way_back::import))
        .route("/v1/sessions/{id}/turn", get(turns::show))
        .route("/v1/sessions/{id}/replay", post(turns::replay))
        .route("/v1/sessions/{id}/retry", post(messages::retry))
        .route("/v1/sessions/{id}/dead", get(dead::of_session))
        .route("/v1/dead", get(dead::of_all))
        .route("/v1/approvals", get(approvals::list))
        .route(
            "/v1/approvals/{id}",
            get(approvals::show).post(approvals::decide),
        )
        .route("/v1/standing-approvals", get(standing::list))
        .route("/v1/standing-approvals/{id}", delete(standing::revoke))
        .route("/v1/chat/completions", post(openai::complete))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{id}", get(openai::model))
        .route("/v1/daemon", get(daemon::status))
        .route("/v1/daemon/restarts", get(daemon::restarts))
        .route(
            "/v1/daemon/restarts/{generation}",
            get(daemon::restart_record),
        )
        .route("/v1/daemon/restart", post(daemon::restart))
        .route("/v1/daemon/plan", get(daemon::plan).post(daemon::plan_of))
        .route(
            "/v1/plugins/{name}/trial",
            post(plugin_trial::try_component),
        )
        .route("/v1/daemon/drain", post(daemon::drain))
        .route("/v1/backups", post(backups::take))
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/{name}", delete(tokens::revoke))
        .route("/v1/audit", get(audit::list))
        .route("/healthz", get(daemon::healthz))
        .route("/readyz", get(daemon::readyz))
        .route("/metrics", get(metrics::render))
        .route("/openapi.json", get(openapi::serve))
        .fallback(nothing_here)
        .layer(from_fn_with_state(gate, auth::enter))
        .with_state(api)
}

async fn nothing_here(request: Request) -> Problem {
    let path = request.uri().path();
    let detail = format!("there is no `{path}`; GET /openapi.json tells what there is");
    Problem::new(ProblemKind::NOT_FOUND, detail)
}
