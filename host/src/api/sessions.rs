//! Sessions: create, list, show, cancel, resume and close them.

use std::collections::BTreeMap;

use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::{Object, ObjectBuilder};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::auth::Caller;
use super::extract::{Empty, InPath, Json, JsonOrNothing, QueryOf, limit};
use super::problem::{Problem, ProblemKind};
use crate::documents::Page;
use crate::domain::{
    CancelScope, Cancelled, MessageId, NAME_MAX_BYTES, SessionId, SessionState, SessionView,
};
use crate::session::{Adoption, ListFilter, NewSession};

/// The default number of items of a page, and the most that a client may ask for.
pub(super) const PAGE: usize = 100;
pub(super) const PAGE_MAX: usize = 1000;
/// The maximum number of labels of a session, and the longest value of one, in bytes.
const LABELS_MAX: usize = 64;
const LABEL_MAX_BYTES: usize = 1024;

/// Returns the number of items that a page may have.
pub(super) fn page_len(limit: Option<usize>) -> usize {
    limit.unwrap_or(PAGE).clamp(1, PAGE_MAX)
}

/// A session to create, or to find if it exists.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSessionBody {
    /// The plugin that holds the session's logic.
    plugin: String,
    /// The arguments with which the plugin opens the session; any JSON.
    #[serde(default)]
    args: Value,
    /// Labels, for people and programs; if left out, those of an existing session stay. At most 64,
    /// with names of 1 to 128 bytes, and values of at most 1024.
    #[serde(default)]
    #[schema(schema_with = labels_schema)]
    labels: Option<BTreeMap<String, String>>,
}

fn labels_schema() -> Object {
    let name = ObjectBuilder::new()
        .min_length(Some(1))
        .max_length(Some(NAME_MAX_BYTES));
    let value = ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(Some(LABEL_MAX_BYTES));
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .description(Some(
            "Labels, for people and programs; if left out, those of an existing session stay",
        ))
        .property_names(Some(name.schema_type(Type::String)))
        .additional_properties(Some(value))
        .max_properties(Some(LABELS_MAX))
        .build()
}

/// Which sessions to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only sessions of this plugin.
    plugin: Option<String>,
    /// Only sessions in this state; closed sessions are listed only under `closed`.
    #[param(inline)]
    state: Option<SessionState>,
    /// Only sessions that stay on an older component, since their plugin's cannot carry them on.
    #[serde(default)]
    pinned: bool,
    /// Only sessions after this id: the `next` of a page.
    #[param(value_type = Option<SessionId>)]
    after: Option<String>,
    /// The maximum number of items of the page: 100 by default, at most 1000.
    #[serde(default, deserialize_with = "limit")]
    limit: Option<usize>,
}

/// Creates a session, or returns it if it exists.
#[utoipa::path(
    put,
    path = "/v1/sessions/{id}",
    operation_id = "create_session",
    tag = "sessions",
    params(("id" = SessionId, Path, description = "The session's id, percent-encoded; it may hold `/` as `%2F`")),
    request_body = NewSessionBody,
    responses(
        (status = 201, description = "A new session", body = SessionView),
        (status = 200, description = "The same session again, its labels updated", body = SessionView),
    ),
)]
pub(super) async fn create(
    State(api): State<Api>,
    InPath(id): InPath,
    Json(body): Json<NewSessionBody>,
) -> Result<(StatusCode, Answer<SessionView>), Problem> {
    check_labels(body.labels.as_ref())?;
    let new = NewSession {
        plugin: body.plugin,
        args: body.args,
        labels: body.labels,
    };
    let (view, created) = api.sessions.create(&id, new).await?;
    let status = if created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Answer(view)))
}

pub(super) fn check_labels(labels: Option<&BTreeMap<String, String>>) -> Result<(), Problem> {
    let Some(labels) = labels else { return Ok(()) };
    if labels.len() > LABELS_MAX {
        let detail = format!(
            "{} labels are too many; at most {LABELS_MAX} are allowed",
            labels.len()
        );
        return Err(Problem::new(ProblemKind::INVALID, detail));
    }
    for (name, value) in labels {
        if name.is_empty() || name.len() > NAME_MAX_BYTES || value.len() > LABEL_MAX_BYTES {
            let name: String = name.chars().take(NAME_MAX_BYTES).collect();
            let detail = format!(
                "the label `{name}` is too long or has no name; names have 1 to {NAME_MAX_BYTES} bytes, values up to {LABEL_MAX_BYTES}"
            );
            return Err(Problem::new(ProblemKind::INVALID, detail));
        }
    }
    Ok(())
}

/// Lists sessions.
#[utoipa::path(
    get,
    path = "/v1/sessions",
    operation_id = "list_sessions",
    tag = "sessions",
    params(ListQuery),
    responses(
        (status = 200, description = "A page of sessions, by id", body = Page<SessionView, SessionId>),
    ),
)]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    QueryOf(query): QueryOf<ListQuery>,
) -> Result<Answer<Page<SessionView, SessionId>>, Problem> {
    let after = query.after.map(SessionId::new).transpose();
    let filter = ListFilter {
        plugin: query.plugin,
        state: query.state,
        pinned: query.pinned,
        ids: caller.0.principal.rights.sessions.clone(),
        after: after.map_err(crate::domain::Refusal::from)?,
        limit: page_len(query.limit),
    };
    let page = api.sessions.list(&filter).await?;
    Ok(Answer(Page {
        items: page.items,
        next: page.next,
    }))
}

/// Shows a session.
#[utoipa::path(
    get,
    path = "/v1/sessions/{id}",
    operation_id = "show_session",
    tag = "sessions",
    params(("id" = SessionId, Path, description = "The session's id, percent-encoded; it may hold `/` as `%2F`")),
    responses(
        (status = 200, description = "The session", body = SessionView),
    ),
)]
pub(super) async fn show(
    State(api): State<Api>,
    InPath(id): InPath,
) -> Result<Answer<SessionView>, Problem> {
    Ok(Answer(api.sessions.view(&id).await?))
}

/// Closes a session for good: a running turn is aborted, queued messages become dead letters.
#[utoipa::path(
    delete,
    path = "/v1/sessions/{id}",
    operation_id = "close_session",
    tag = "sessions",
    params(("id" = SessionId, Path, description = "The session's id, percent-encoded; it may hold `/` as `%2F`")),
    responses(
        (status = 200, description = "It is closed, for ever", body = SessionView),
    ),
)]
pub(super) async fn close(
    State(api): State<Api>,
    InPath(id): InPath,
) -> Result<Answer<SessionView>, Problem> {
    Ok(Answer(api.sessions.close(&id).await?))
}

/// What to cancel.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ScopeName {
    /// The open turn. Messages in the inbox stay, and the first of them is next.
    Turn,
    /// The open turn and all waiting messages, including those of timers that have fired. Timers
    /// that are not due yet stay.
    Queue,
    /// The message that `message` names, whether a turn works on it or it waits.
    Message,
}

/// How much to cancel.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CancelQuery {
    /// `turn` by default; `message` if a message is named.
    #[param(inline)]
    scope: Option<ScopeName>,
    /// A message's id, for the scope `message`.
    message: Option<String>,
}

impl CancelQuery {
    fn scope(self) -> Result<CancelScope, Problem> {
        let invalid = |detail: &str| Err(Problem::new(ProblemKind::BAD_REQUEST, detail));
        match (self.scope, self.message) {
            (None | Some(ScopeName::Message), Some(message)) => {
                Ok(CancelScope::Message(MessageId::from_client(message)))
            }
            (Some(ScopeName::Message), None) => {
                invalid("`scope=message` does not say which; add `message=ID`")
            }
            (Some(ScopeName::Turn | ScopeName::Queue), Some(_)) => {
                invalid("`message` goes with `scope=message` alone; leave one of the two out")
            }
            (None | Some(ScopeName::Turn), None) => Ok(CancelScope::Turn),
            (Some(ScopeName::Queue), None) => Ok(CancelScope::Queue),
        }
    }
}

/// The session, and what was cancelled of it.
#[derive(Serialize, ToSchema)]
pub(super) struct CancelledBody {
    #[serde(flatten)]
    session: SessionView,
    #[serde(flatten)]
    cancelled: Cancelled,
}

/// Cancels the open turn, or waiting messages. The session's next turn receives a notice about what
/// a cancelled turn did outside.
#[utoipa::path(
    post,
    path = "/v1/sessions/{id}/cancel",
    operation_id = "cancel_turns",
    tag = "sessions",
    params(("id" = SessionId, Path, description = "The session's id, percent-encoded; it may hold `/` as `%2F`"), CancelQuery),
    responses(
        (status = 200, description = "It is given up, for good: the turn that was ended (`turn`, else null) and the messages that are dead letters by it (`messages`, empty where there was nothing to give up; they can be retried)", body = CancelledBody),
    ),
)]
pub(super) async fn cancel(
    State(api): State<Api>,
    InPath(id): InPath,
    QueryOf(query): QueryOf<CancelQuery>,
    JsonOrNothing(Empty {}): JsonOrNothing<Empty>,
) -> Result<Answer<CancelledBody>, Problem> {
    let (session, cancelled) = api.sessions.cancel(&id, query.scope()?).await?;
    Ok(Answer(CancelledBody { session, cancelled }))
}

/// Lets a session run again that is faulted, or parked after its history was cut. One that is both
/// is parked then, and waits for a second request. A session whose guest could not be restored is tried
/// first, and stays faulted if it cannot run yet.
#[utoipa::path(
    post,
    path = "/v1/sessions/{id}/resume",
    operation_id = "resume_session",
    tag = "sessions",
    params(("id" = SessionId, Path, description = "The session's id, percent-encoded; it may hold `/` as `%2F`")),
    responses(
        (status = 200, description = "The session runs again", body = SessionView),
    ),
)]
pub(super) async fn resume(
    State(api): State<Api>,
    InPath(id): InPath,
    JsonOrNothing(Empty {}): JsonOrNothing<Empty>,
) -> Result<Answer<SessionView>, Problem> {
    Ok(Answer(api.sessions.resume(&id).await?))
}

/// How a session adopts its plugin's component.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AdoptBody {
    /// Also if the component does not carry it on as a whole: it loses a part of its state, or its last turn
    /// fails now. If its guest cannot be restored at all it is faulted, until its plugin has a component that
    /// can.
    #[serde(default)]
    force: bool,
    /// It is faulted if the component does not carry it on as a whole. Goes before `force`.
    #[serde(default)]
    or_fault: bool,
}

/// Has a session that stays on an older component run on its plugin's again. That is tried first: if it does
/// not carry the session on as a whole, the session stays where it is.
#[utoipa::path(
    post,
    path = "/v1/sessions/{id}/adopt",
    operation_id = "adopt_component",
    tag = "sessions",
    params(("id" = SessionId, Path, description = "The session's id, percent-encoded; it may hold `/` as `%2F`")),
    request_body = Option<AdoptBody>,
    responses(
        (status = 200, description = "The session runs on its plugin's component from its next turn on; with `force` or `or_fault` it may be faulted", body = SessionView),
    ),
)]
pub(super) async fn adopt(
    State(api): State<Api>,
    InPath(id): InPath,
    JsonOrNothing(AdoptBody { force, or_fault }): JsonOrNothing<AdoptBody>,
) -> Result<Answer<SessionView>, Problem> {
    let adoption = match (force, or_fault) {
        (_, true) => Adoption::OrFault,
        (true, false) => Adoption::ByForce,
        (false, false) => Adoption::Whole,
    };
    Ok(Answer(api.sessions.adopt(&id, adoption).await?))
}
