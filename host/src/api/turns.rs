//! A session's open turn, or its last committed one: its steps, and its offline replay.

use axum::Json as Answer;
use axum::extract::State;

use super::Api;
use super::extract::{Empty, InPath, JsonOrNothing};
use super::problem::Problem;
use crate::domain::{ReplayReport, SessionId, TurnReport};

/// Shows the steps of the open turn, or of the last one that committed.
#[utoipa::path(
    get,
    path = "/v1/sessions/{id}/turn",
    operation_id = "show_turn",
    tag = "sessions",
    params(("id" = SessionId, Path, description = "The session's id, percent-encoded; it may hold `/` as `%2F`")),
    responses(
        (status = 200, description = "The turn", body = TurnReport),
    ),
)]
pub(super) async fn show(
    State(api): State<Api>,
    InPath(id): InPath,
) -> Result<Answer<TurnReport>, Problem> {
    Ok(Answer(api.sessions.turn(&id).await?))
}

/// Replays that turn offline: nothing outside is reached, and nothing changes. Returns whether the
/// turn did the same.
#[utoipa::path(
    post,
    path = "/v1/sessions/{id}/replay",
    operation_id = "replay_turn",
    tag = "sessions",
    params(("id" = SessionId, Path, description = "The session's id, percent-encoded; it may hold `/` as `%2F`")),
    responses(
        (status = 200, description = "What came of it", body = ReplayReport),
    ),
)]
pub(super) async fn replay(
    State(api): State<Api>,
    InPath(id): InPath,
    JsonOrNothing(Empty {}): JsonOrNothing<Empty>,
) -> Result<Answer<ReplayReport>, Problem> {
    Ok(Answer(api.sessions.replay(&id).await?))
}
