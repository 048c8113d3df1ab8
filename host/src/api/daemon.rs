//! The daemon itself: what it is doing, its restarts, and how to ask for one.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Asked, Empty, GenerationInPath, JsonOrNothing};
use super::problem::{Kind, Problem};
use super::sessions::{Page, page_len};
use super::{Api, ControlRequest, DaemonStatus, Planned};
use crate::domain::{Generation, RestartRecord};

/// `GET /v1/daemon`
pub(super) async fn status(State(api): State<Api>) -> Answer<Arc<DaemonStatus>> {
    Answer(api.control.status())
}

/// Which restarts to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RestartsQuery {
    /// Behind this generation: a page's `next`. The newest come first.
    after: Option<u64>,
    /// Items of the page: 100 by default, at most 1000.
    limit: Option<usize>,
}

/// `GET /v1/daemon/restarts`
pub(super) async fn restarts(
    State(api): State<Api>,
    Asked(query): Asked<RestartsQuery>,
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

/// `GET /v1/daemon/restarts/{generation}`
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
        Problem::new(Kind::UNKNOWN_RESTART, detail)
    })
}

/// What a restart or a drain will be.
#[derive(Serialize, ToSchema)]
pub(super) struct PlannedBody {
    /// The restart to ask for: `GET /v1/daemon/restarts/{generation}`.
    #[schema(value_type = u64)]
    generation: Generation,
    /// What changes, and how.
    plan: Value,
}

type PlannedAnswer = Result<(StatusCode, Answer<PlannedBody>), Problem>;

/// `POST /v1/daemon/restart`
pub(super) async fn restart(
    State(api): State<Api>,
    JsonOrNothing(Empty {}): JsonOrNothing<Empty>,
) -> PlannedAnswer {
    let request = |reply| ControlRequest::Restart { reply };
    planned(api.control.ask(request).await?)
}

/// `POST /v1/daemon/drain`
pub(super) async fn drain(
    State(api): State<Api>,
    JsonOrNothing(Empty {}): JsonOrNothing<Empty>,
) -> PlannedAnswer {
    let request = |reply| ControlRequest::Drain { reply };
    planned(api.control.ask(request).await?)
}

fn planned(planned: Planned) -> PlannedAnswer {
    match planned {
        Planned::Accepted { generation, plan } => {
            let body = PlannedBody { generation, plan };
            Ok((StatusCode::ACCEPTED, Answer(body)))
        }
        Planned::Invalid { problems } => {
            let detail = format!(
                "nothing was drained; correct the configuration: {}",
                problems.join("; ")
            );
            Err(Problem::new(Kind::INVALID_CONFIG, detail).fact("problems", problems))
        }
        Planned::Stopping => {
            let detail = "the daemon is about to stop for good";
            Err(Problem::new(Kind::NOT_READY, detail))
        }
    }
}

/// `GET /healthz`: the worker is alive.
pub(super) async fn healthz() -> Answer<Value> {
    Answer(json!({ "status": "ok" }))
}

/// `GET /readyz`: clients may be sent here.
pub(super) async fn readyz(State(api): State<Api>) -> Result<Answer<Value>, Problem> {
    if api.control.is_ready() {
        return Ok(Answer(json!({ "status": "ready" })));
    }
    let detail = "the daemon is starting, or about to stop";
    Err(Problem::new(Kind::NOT_READY, detail).header(header::RETRY_AFTER, 1_u16))
}
