//! The daemon's status and its restarts, and the requests to plan, restart or drain it.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::extract::{Empty, GenerationInPath, JsonOrNothing, LongJson, QueryOf, limit, number};
use super::problem::{Problem, ProblemKind};
use super::sessions::page_len;
use super::{Acceptance, Api, ControlRequest};
use crate::documents::{DaemonStatus, Page, RestartAccepted};
use crate::domain::{Generation, PlanReport, PlanRequest, RestartRecord};

/// Shows the daemon's status.
#[utoipa::path(
    get,
    path = "/v1/daemon",
    operation_id = "show_daemon",
    tag = "daemon",
    responses(
        (status = 200, description = "What it is doing", body = DaemonStatus),
    ),
)]
pub(super) async fn status(State(api): State<Api>) -> Answer<Arc<DaemonStatus>> {
    Answer(api.control.status())
}

/// Which restarts to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RestartsQuery {
    /// Only restarts before this generation: the `next` of a page. The newest come first.
    #[serde(default, deserialize_with = "number")]
    after: Option<u64>,
    /// The maximum number of items of the page: 100 by default, at most 1000.
    #[serde(default, deserialize_with = "limit")]
    limit: Option<usize>,
}

/// Lists restarts.
#[utoipa::path(
    get,
    path = "/v1/daemon/restarts",
    operation_id = "list_restarts",
    tag = "daemon",
    params(RestartsQuery),
    responses(
        (status = 200, description = "A page of restarts, the newest first", body = Page<RestartRecord, Generation>),
    ),
)]
pub(super) async fn restarts(
    State(api): State<Api>,
    QueryOf(query): QueryOf<RestartsQuery>,
) -> Result<Answer<Page<RestartRecord, Generation>>, Problem> {
    let limit = page_len(query.limit);
    let before = query.after.map(Generation);
    let items = api
        .control
        .ask(|reply| ControlRequest::Restarts {
            before,
            limit,
            reply,
        })
        .await??;
    let full = items.len() == limit;
    let last = items.last().map(|record| record.generation);
    Ok(Answer(Page {
        items,
        next: last.filter(|_| full),
    }))
}

/// Shows one restart.
#[utoipa::path(
    get,
    path = "/v1/daemon/restarts/{generation}",
    operation_id = "show_restart",
    tag = "daemon",
    params(("generation" = u64, Path, description = "The restart's number")),
    responses(
        (status = 200, description = "The restart and its verdict", body = RestartRecord),
    ),
)]
pub(super) async fn restart_record(
    State(api): State<Api>,
    GenerationInPath(generation): GenerationInPath,
) -> Result<Answer<RestartRecord>, Problem> {
    let generation = Generation(generation);
    let record = api
        .control
        .ask(|reply| ControlRequest::RestartRecord { generation, reply })
        .await??;
    record.map(Answer).ok_or_else(|| {
        let detail =
            format!("there is no restart {generation}; GET /v1/daemon/restarts lists them");
        Problem::new(ProblemKind::UNKNOWN_RESTART, detail)
    })
}

type PlannedAnswer = Result<(StatusCode, Answer<RestartAccepted>), Problem>;

/// Restarts with the present content of the configuration file.
#[utoipa::path(
    post,
    path = "/v1/daemon/restart",
    operation_id = "restart_daemon",
    tag = "daemon",
    responses(
        (status = 202, description = "It will happen", body = RestartAccepted),
        (status = 422, description = "The configuration is invalid; nothing was drained. `problems` lists why"),
    ),
)]
pub(super) async fn restart(
    State(api): State<Api>,
    caller: Caller,
    JsonOrNothing(Empty {}): JsonOrNothing<Empty>,
) -> PlannedAnswer {
    let by = caller.sender();
    let request = |reply| ControlRequest::Restart { by, reply };
    planned(api.control.ask(request).await?)
}

/// Returns what the daemon would do with the present content of its configuration file. Changes
/// nothing. If that brings new components, it compiles them and tries them on copies of sessions first, for
/// as long as the file's `compile_timeout` and `trial_budget` say.
#[utoipa::path(
    get,
    path = "/v1/daemon/plan",
    operation_id = "plan_file",
    tag = "daemon",
    responses(
        (status = 200, description = "What would be done, also if the file would be refused", body = PlanReport),
    ),
)]
pub(super) async fn plan(State(api): State<Api>) -> Result<Answer<PlanReport>, Problem> {
    dry_run(&api, None).await
}

/// Returns what the daemon would do if its configuration file had this content. Changes nothing. New
/// components are tried as for the file.
#[utoipa::path(
    post,
    path = "/v1/daemon/plan",
    operation_id = "plan_text",
    tag = "daemon",
    request_body = PlanRequest,
    responses(
        (status = 200, description = "What would be done, also if the file would be refused", body = PlanReport),
    ),
)]
pub(super) async fn plan_of(
    State(api): State<Api>,
    LongJson(request): LongJson<PlanRequest>,
) -> Result<Answer<PlanReport>, Problem> {
    dry_run(&api, Some(request.config.into_bytes())).await
}

async fn dry_run(api: &Api, config: Option<Vec<u8>>) -> Result<Answer<PlanReport>, Problem> {
    let request = |reply| ControlRequest::Plan { config, reply };
    Ok(Answer(api.control.ask(request).await?))
}

fn invalid(problems: Vec<String>) -> Problem {
    let detail = format!(
        "nothing was drained; put right what is named: {}",
        problems.join("; ")
    );
    Problem::new(ProblemKind::INVALID_CONFIG, detail).fact("problems", problems)
}

/// Drains the daemon, then stops it.
#[utoipa::path(
    post,
    path = "/v1/daemon/drain",
    operation_id = "drain_daemon",
    tag = "daemon",
    responses(
        (status = 202, description = "It will happen", body = RestartAccepted),
    ),
)]
pub(super) async fn drain(
    State(api): State<Api>,
    caller: Caller,
    JsonOrNothing(Empty {}): JsonOrNothing<Empty>,
) -> PlannedAnswer {
    let by = caller.sender();
    let request = |reply| ControlRequest::Drain { by, reply };
    planned(api.control.ask(request).await?)
}

fn planned(planned: Acceptance) -> PlannedAnswer {
    match planned {
        Acceptance::Accepted { generation, plan } => {
            let body = RestartAccepted { generation, plan };
            Ok((StatusCode::ACCEPTED, Answer(body)))
        }
        Acceptance::Invalid { problems } => Err(invalid(problems)),
        Acceptance::Stopping => {
            let detail = "the daemon is about to stop for good";
            Err(Problem::new(ProblemKind::NOT_READY, detail))
        }
    }
}

/// What a probe is answered with.
#[derive(Serialize, ToSchema)]
pub(super) struct ProbeAnswer {
    /// `ok` or `ready`.
    status: &'static str,
}

/// Reports whether the worker is alive.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "healthz",
    tag = "probes",
    responses(
        (status = 200, description = "The worker is alive", body = ProbeAnswer),
    ),
)]
pub(super) async fn healthz() -> Answer<ProbeAnswer> {
    Answer(ProbeAnswer { status: "ok" })
}

/// Reports whether clients may be sent here.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "probes",
    responses(
        (status = 200, description = "Clients may be sent here; also during a drain for a restart", body = ProbeAnswer),
    ),
)]
pub(super) async fn readyz(State(api): State<Api>) -> Result<Answer<ProbeAnswer>, Problem> {
    if api.control.is_ready() {
        return Ok(Answer(ProbeAnswer { status: "ready" }));
    }
    let detail = "the daemon is starting, or about to stop";
    Err(Problem::new(ProblemKind::NOT_READY, detail).header(header::RETRY_AFTER, 1_u16))
}
