//! The trial of a component on the sessions of a plugin.

use std::time::Duration;

use axum::Json as Answer;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Api;
use super::extract::{NameInPath, QueryOf};
use super::problem::Problem;
use super::way_back::LargeBody;
use crate::domain::PluginTrial;

/// How long sessions are tried by default, and at most, in milliseconds.
const BUDGET_MS: u32 = 60_000;
const BUDGET_MAX_MS: u32 = 600_000;

/// How long to try.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TrialQuery {
    /// How long sessions are tried, in milliseconds: 60,000 by default, at most 600,000. Those that were not
    /// tried by then are counted as `untried`.
    #[param(value_type = Option<u32>, maximum = 600_000)]
    budget_ms: Option<u32>,
}

/// Tries a component on copies of all sessions of a plugin, as a restart that brings it would: active ones
/// first. Nothing changes, and the component is not kept. One trial at a time: others wait, those of plans, too.
#[utoipa::path(
    post,
    path = "/v1/plugins/{name}/trial",
    operation_id = "try_component",
    tag = "daemon",
    params(("name" = String, Path, description = "The plugin's name in the configuration"), TrialQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "What would become of the sessions", body = PluginTrial),
    ),
)]
pub(super) async fn try_component(
    State(api): State<Api>,
    NameInPath(name): NameInPath,
    QueryOf(query): QueryOf<TrialQuery>,
    LargeBody(bytes, _room): LargeBody,
) -> Result<Answer<PluginTrial>, Problem> {
    let budget = query.budget_ms.unwrap_or(BUDGET_MS).min(BUDGET_MAX_MS);
    let budget = Duration::from_millis(budget.into());
    let found = api
        .sessions
        .try_component(&name, bytes.into(), budget)
        .await?;
    Ok(Answer(found))
}
