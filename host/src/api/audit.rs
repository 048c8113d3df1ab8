//! The audit log: what operators did.

use axum::Json as Answer;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Api;
use super::extract::{QueryOf, limit, number};
use super::problem::Problem;
use super::sessions::page_len;
use crate::access::TokenRefusal;
use crate::documents::Page;
use crate::domain::{AuditEntry, AuditId};

/// Which acts to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// Only acts before this one: the `next` of a page. The newest come first.
    #[serde(default, deserialize_with = "number")]
    after: Option<u64>,
    /// The maximum number of items of the page: 100 by default, at most 1000.
    #[serde(default, deserialize_with = "limit")]
    limit: Option<usize>,
}

/// Lists what operators did: decisions, repairs, restarts, drains, backups, tokens. The last 100,000 acts
/// are kept.
#[utoipa::path(
    get,
    path = "/v1/audit",
    operation_id = "list_audit",
    tag = "access",
    params(AuditQuery),
    responses(
        (status = 200, description = "A page of acts, the newest first", body = Page<AuditEntry, AuditId>),
    ),
)]
pub(super) async fn list(
    State(api): State<Api>,
    QueryOf(query): QueryOf<AuditQuery>,
) -> Result<Answer<Page<AuditEntry, AuditId>>, Problem> {
    let limit = page_len(query.limit);
    let items = api.audit.entries(query.after.map(AuditId), limit);
    let items = items.map_err(TokenRefusal::from)?;
    let full = items.len() == limit;
    let last = items.last().map(|entry| entry.id);
    Ok(Answer(Page {
        items,
        next: last.filter(|_| full),
    }))
}
