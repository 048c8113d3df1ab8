//! Approvals: list those that wait for a human, and decide them.

use axum::extract::State;
use axum::{Extension, Json as Answered};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::auth::{AuditSubject, Caller};
use super::extract::{ApprovalInPath, Json, QueryOf, limit};
use super::problem::Problem;
use super::sessions::page_len;
use crate::documents::Page;
use crate::domain::{Answer, Approval, ApprovalId, Refusal, SessionId};

/// Which approvals to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ApprovalQuery {
    /// Only approvals of sessions after this one: the `next` of a page.
    #[param(value_type = Option<SessionId>)]
    after: Option<String>,
    /// The maximum number of sessions of the page: 100 by default, at most 1000.
    #[serde(default, deserialize_with = "limit")]
    limit: Option<usize>,
}

/// A human's decision about a call.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DecisionBody {
    /// Whether the call may be made.
    decision: ApprovalDecision,
    /// Why; the model reads it. At most 2 KiB.
    #[serde(default)]
    #[schema(max_length = 2048)]
    reason: Option<String>,
}

/// A decision about a call.
#[derive(Clone, Copy, Deserialize, PartialEq, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ApprovalDecision {
    /// The call is made.
    Approve,
    /// The call is made, and, until that is revoked, each later one of this tool with these very arguments
    /// in this session without asking.
    ApproveAlways,
    /// The call is not made.
    Deny,
}

/// Lists the approvals that wait, by session.
#[utoipa::path(
    get,
    path = "/v1/approvals",
    operation_id = "list_approvals",
    tag = "approvals",
    params(ApprovalQuery),
    responses(
        (status = 200, description = "A page of them", body = Page<Approval, SessionId>),
    ),
)]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    QueryOf(query): QueryOf<ApprovalQuery>,
) -> Result<Answered<Page<Approval, SessionId>>, Problem> {
    let after = query.after.map(SessionId::new).transpose();
    let after = after.map_err(Refusal::from)?;
    let limit = page_len(query.limit);
    let ids = &caller.0.principal.rights.sessions;
    let (items, next) = api.sessions.approvals(after.as_ref(), limit, ids).await?;
    Ok(Answered(Page { items, next }))
}

/// Returns an approval with the whole call: what a human reads before a decision. One that is decided is
/// known until a later turn has ended.
#[utoipa::path(
    get,
    path = "/v1/approvals/{id}",
    operation_id = "show_approval",
    tag = "approvals",
    params(("id" = ApprovalId, Path, description = "The approval's id, percent-encoded")),
    responses(
        (status = 200, description = "The approval", body = Approval),
    ),
)]
pub(super) async fn show(
    State(api): State<Api>,
    ApprovalInPath(id): ApprovalInPath,
) -> Result<Answered<Approval>, Problem> {
    Ok(Answered(api.sessions.approval(&id)?))
}

/// Decides an approval. The same decision again returns 200 with the outcome of the first; a
/// different one returns 409.
#[utoipa::path(
    post,
    path = "/v1/approvals/{id}",
    operation_id = "decide_approval",
    tag = "approvals",
    params(("id" = ApprovalId, Path, description = "The approval's id, percent-encoded")),
    request_body = DecisionBody,
    responses(
        (status = 200, description = "The approval as it stands", body = Approval),
    ),
)]
pub(super) async fn decide(
    State(api): State<Api>,
    caller: Caller,
    ApprovalInPath(id): ApprovalInPath,
    Json(body): Json<DecisionBody>,
) -> Result<(Option<Extension<AuditSubject>>, Answered<Approval>), Problem> {
    let answer = Answer {
        approve: body.decision != ApprovalDecision::Deny,
        by: Some(caller.0.name().to_string()),
        reason: body.reason.filter(|reason| !reason.trim().is_empty()),
    };
    if body.decision != ApprovalDecision::ApproveAlways {
        return Ok((None, Answered(api.sessions.decide(id, answer).await?)));
    }
    let subject = AuditSubject(format!("{id}, always"));
    let decided = api.sessions.approve_always(id, answer).await?;
    Ok((Some(Extension(subject)), Answered(decided)))
}
