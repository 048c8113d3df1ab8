//! The ways back of a session: its restore points, rewinding it, and copies of it.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json as Answer};
use futures::stream;
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Deserializer};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::auth::{AuditSubject, Caller};
use super::body;
use super::extract::{InPath, Json, QueryOf};
use super::problem::{Problem, ProblemKind};
use super::sessions::check_labels;
use crate::documents::{CopiedSession, Page, PointBody, RewoundSession};
use crate::domain::{
    Act, EXPORT_MAX_BYTES, EventId, Refusal, Replacement, SessionCopy, SessionExport, SessionId,
    SessionView, UnixMillis,
};
use crate::session::{SessionPoints, Share};

/// The media type of an export.
const EXPORT_TYPE: &str = "application/octet-stream";
/// In pieces of how many bytes one is sent.
const CHUNK_BYTES: usize = 64 << 10;

/// Reads a point's name: a cursor, `T.N` on a later timeline.
fn point<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EventId, D::Error> {
    let text = String::deserialize(deserializer)?;
    EventId::parse(&text).ok_or_else(|| {
        let detail = format!("`{text}` is not the cursor of a restore point");
        serde::de::Error::custom(detail)
    })
}

fn point_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<EventId>, D::Error> {
    point(deserializer).map(Some)
}

/// Lists the states that a session can be rewound to or copied from, the present one first.
#[utoipa::path(
    get,
    path = "/v1/sessions/{id}/points",
    operation_id = "list_points",
    tag = "sessions",
    params(("id" = SessionId, Path, description = "The session's id, percent-encoded; it may hold `/` as `%2F`")),
    responses(
        (status = 200, description = "All of them: each can be read as long as it is listed", body = Page<PointBody, String>),
    ),
)]
pub(super) async fn points(
    State(api): State<Api>,
    InPath(id): InPath,
) -> Result<Answer<Page<PointBody, String>>, Problem> {
    let SessionPoints { points, timeline } = api.sessions.points(&id).await?;
    let newest_first = points.into_iter().rev().enumerate();
    let items = newest_first.map(|(age, point)| {
        let of = timeline.of(point.cursor).cloned();
        PointBody::of(point, of, age == 0)
    });
    Ok(Answer(Page {
        items: items.collect(),
        next: None,
    }))
}

/// Which state to bring back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RewindBody {
    /// The cursor of the restore point; on a later timeline `T.N`.
    #[serde(deserialize_with = "point")]
    #[schema(value_type = String, pattern = "^([a-hjkmnp-tv-z][a-hjkmnp-tv-z0-9]{7}\\.)?[0-9]{1,19}$")]
    to: EventId,
}

/// Rewinds a session: its state is that of an earlier point again. Its log, its events, its turn numbers and
/// its cursors only grow. An open turn ends as by a cancel, messages in the inbox stay, timers that were set
/// since are dropped. The next turn is told of it, and of what the undone turns did outside.
#[utoipa::path(
    post,
    path = "/v1/sessions/{id}/rewind",
    operation_id = "rewind_session",
    tag = "sessions",
    params(("id" = SessionId, Path, description = "The session's id, percent-encoded; it may hold `/` as `%2F`")),
    request_body = RewindBody,
    responses(
        (status = 200, description = "The session goes on from that state", body = RewoundSession),
    ),
)]
pub(super) async fn rewind(
    State(api): State<Api>,
    caller: Caller,
    InPath(id): InPath,
    Json(RewindBody { to }): Json<RewindBody>,
) -> Result<Answer<RewoundSession>, Problem> {
    let by = caller.sender();
    let (session, rewound) = api.sessions.rewind(&id, to, by).await?;
    Ok(Answer(RewoundSession { session, rewound }))
}

/// The copy to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ForkBody {
    /// The id of the new session.
    id: SessionId,
    /// The cursor of the restore point to copy; if left out, the session is copied as it is.
    #[serde(default, deserialize_with = "point_or_none")]
    #[schema(value_type = String, required = false, pattern = "^([a-hjkmnp-tv-z][a-hjkmnp-tv-z0-9]{7}\\.)?[0-9]{1,19}$")]
    at: Option<EventId>,
}

/// Forks a session: a new one begins with its state, history, labels and arguments. An open turn, the inbox,
/// timers, approvals and idempotency keys stay behind; the answer lists them, and the copy's next turn is told.
#[utoipa::path(
    post,
    path = "/v1/sessions/{id}/fork",
    operation_id = "fork_session",
    tag = "sessions",
    params(("id" = SessionId, Path, description = "The session's id, percent-encoded; it may hold `/` as `%2F`")),
    request_body = ForkBody,
    responses(
        (status = 201, description = "The new session", body = CopiedSession),
    ),
)]
pub(super) async fn fork(
    State(api): State<Api>,
    caller: Caller,
    InPath(id): InPath,
    Json(body): Json<ForkBody>,
) -> Result<(StatusCode, Extension<AuditSubject>, Answer<CopiedSession>), Problem> {
    let new = body.id;
    // Both sessions are the caller's affair, or neither is.
    caller.allow(Act::Repair, Some(&new))?;
    let (copy, _room) = api.sessions.copy(&id, body.at).await?;
    let subject = AuditSubject(format!("{id} as {new}"));
    let made = begin(&api, &caller, &new, copy, Replacement::Forked).await?;
    Ok((StatusCode::CREATED, Extension(subject), Answer(made)))
}

/// What to export.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ExportQuery {
    /// The cursor of the restore point to export; if left out, the session is exported as it is.
    #[serde(default, deserialize_with = "point_or_none")]
    #[param(value_type = Option<String>, pattern = "^([a-hjkmnp-tv-z][a-hjkmnp-tv-z0-9]{7}\\.)?[0-9]{1,19}$")]
    at: Option<EventId>,
    /// Whether the component that wrote the state comes along: a daemon without it can then run the session.
    #[serde(default)]
    component: bool,
}

/// Exports a session: the file can be imported by this daemon or another one.
#[utoipa::path(
    get,
    path = "/v1/sessions/{id}/export",
    operation_id = "export_session",
    tag = "sessions",
    params(("id" = SessionId, Path, description = "The session's id, percent-encoded; it may hold `/` as `%2F`"), ExportQuery),
    responses(
        (status = 200, description = "The export, see `host/docs/export-format.md`", body = Vec<u8>, content_type = "application/octet-stream"),
    ),
)]
pub(super) async fn export(
    State(api): State<Api>,
    InPath(id): InPath,
    QueryOf(query): QueryOf<ExportQuery>,
) -> Result<Response, Problem> {
    let (copy, mut room) = api.sessions.copy(&id, query.at).await?;
    let component = match query.component {
        true => Some(api.sessions.component_bytes(copy.point.component).await?),
        false => None,
    };
    // The parts, and the file that is made of them.
    let component_bytes = component.as_ref().map_or(0, Vec::len) as u64;
    let more = room.grow(copy.bytes() + 2 * component_bytes);
    more.map_err(|_| Refusal::CopiesBusy)?;
    let export = SessionExport {
        copy,
        component,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        exported_at: UnixMillis::now(),
    };
    let encoded = blocking(move || export.encode()).await?;
    let encoded = encoded.map_err(|error| Refusal::CannotReturn {
        reason: error.to_string(),
    })?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(EXPORT_TYPE)),
        (header::CONTENT_LENGTH, HeaderValue::from(encoded.len())),
    ];
    // It is in memory until the client has read it, however slowly.
    let body = stream::iter(chunks(encoded.into(), room));
    Ok((headers, Body::from_stream(body)).into_response())
}

/// Splits a file for sending; the share is given back when all of it was sent, or the client is gone.
fn chunks(mut file: Bytes, room: Share) -> impl Iterator<Item = Result<Bytes, Infallible>> {
    std::iter::from_fn(move || {
        let _held = &room;
        let length = file.len().min(CHUNK_BYTES);
        (length > 0).then(|| Ok(file.split_to(length)))
    })
}

/// The bytes of a file that is sent, and their share of the memory.
pub(super) struct LargeBody(pub(super) Bytes, pub(super) Share);

impl FromRequest<Api> for LargeBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Api) -> Result<Self, Problem> {
        let mut room = state.sessions.copy_room(0)?;
        let body: Body = request.into_body();
        // What is read from them takes as much again.
        let grow = |bytes: u64| room.grow(2 * bytes).map_err(|_| Refusal::CopiesBusy);
        let bytes = body::read(body, EXPORT_MAX_BYTES, body::PATIENCE, grow).await?;
        Ok(Self(bytes, room))
    }
}

/// Creates a session from an export. A component that wrote its state and that its plugin never had here takes
/// an admin, whether it is kept for another plugin or comes with the export: it is code that runs with the
/// plugin's grants.
#[utoipa::path(
    post,
    path = "/v1/sessions/{id}/import",
    operation_id = "import_session",
    tag = "sessions",
    params(("id" = SessionId, Path, description = "The new session's id, percent-encoded; it may hold `/` as `%2F`")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "The new session", body = CopiedSession),
    ),
)]
pub(super) async fn import(
    State(api): State<Api>,
    caller: Caller,
    InPath(id): InPath,
    LargeBody(bytes, _room): LargeBody,
) -> Result<(StatusCode, Answer<CopiedSession>), Problem> {
    let sessions = api.sessions.clone();
    let read = blocking(move || {
        let export = SessionExport::decode(&bytes).map_err(|bad| Refusal::BadExport {
            reason: bad.to_string(),
        })?;
        sessions.check_copy(&export.copy)?;
        Ok::<_, Refusal>(export)
    });
    let SessionExport {
        copy, component, ..
    } = read.await??;
    check_labels(Some(&copy.identity.labels))?;
    let may_bring = caller.allow(Act::Administer, None);
    let provided = api.sessions.provide_component(
        &copy.identity.plugin,
        copy.point.component,
        component,
        may_bring.is_ok(),
    );
    match (provided.await, may_bring) {
        (Err(Refusal::ComponentMissing { .. }), Err(denial)) => return Err(denial),
        (provided, _) => provided?,
    }
    let made = begin(&api, &caller, &id, copy, Replacement::Imported).await?;
    Ok((StatusCode::CREATED, Answer(made)))
}

async fn begin(
    api: &Api,
    caller: &Caller,
    id: &SessionId,
    copy: SessionCopy,
    how: Replacement,
) -> Result<CopiedSession, Problem> {
    let by = caller.sender();
    let left = copy.left.clone();
    let end = copy.end();
    let oldest = copy.history.first().map_or(end, |(at, _)| *at);
    let session: SessionView = api.sessions.begin_copy(id, copy, how, by).await?;
    Ok(CopiedSession {
        session,
        left,
        oldest: oldest.cursor + 1,
    })
}

/// Runs what computes for a while.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| {
        let detail = format!("the request failed within the daemon ({error}); please report it");
        Problem::new(ProblemKind::STORE_FAILED, detail)
    })
}
