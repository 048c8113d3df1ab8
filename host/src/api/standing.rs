//! Standing approvals: list and revoke what a human has approved for good.

use axum::Json as Answered;
use axum::extract::State;

use super::Api;
use super::auth::Caller;
use super::extract::ApprovalInPath;
use super::problem::Problem;
use crate::documents::Page;
use crate::domain::{ApprovalId, StandingApproval};

/// Lists the standing approvals, by session. There are at most 1000 of them, on one page.
#[utoipa::path(
    get,
    path = "/v1/standing-approvals",
    operation_id = "list_standing_approvals",
    tag = "approvals",
    responses(
        (status = 200, description = "All of them", body = Page<StandingApproval, ApprovalId>),
    ),
)]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
) -> Answered<Page<StandingApproval, ApprovalId>> {
    let ids = &caller.0.principal.rights.sessions;
    Answered(Page {
        items: api.sessions.standing_approvals(ids),
        next: None,
    })
}

/// Revokes a standing approval: calls like it are asked about again.
#[utoipa::path(
    delete,
    path = "/v1/standing-approvals/{id}",
    operation_id = "revoke_standing_approval",
    tag = "approvals",
    params(("id" = ApprovalId, Path, description = "The id of the approval that it was given with, percent-encoded")),
    responses(
        (status = 200, description = "What was revoked", body = StandingApproval),
    ),
)]
pub(super) async fn revoke(
    State(api): State<Api>,
    ApprovalInPath(id): ApprovalInPath,
) -> Result<Answered<StandingApproval>, Problem> {
    Ok(Answered(api.sessions.revoke_standing(&id).await?))
}
