//! Dead letters: of a session, and of all.

use axum::Json as Answer;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Api;
use super::auth::Caller;
use super::extract::{InPath, QueryOf, limit};
use super::problem::{Problem, ProblemKind};
use super::sessions::page_len;
use crate::documents::{Page, SessionDeadLetter};
use crate::domain::{DeadFilter, DeadLetter, DeadPlace, MessageId, Refusal, SessionId, UnixMillis};

/// Which dead letters to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeadQuery {
    /// Only dead letters after this message: the `next` of a page.
    #[param(value_type = Option<MessageId>)]
    after: Option<String>,
    /// The maximum number of items of the page: 100 by default, at most 1000.
    #[serde(default, deserialize_with = "limit")]
    limit: Option<usize>,
}

/// Lists the messages that no turn consumed, with the reasons.
#[utoipa::path(
    get,
    path = "/v1/sessions/{id}/dead",
    operation_id = "list_dead_letters",
    tag = "messages",
    params(("id" = SessionId, Path, description = "The session's id, percent-encoded; it may hold `/` as `%2F`"), DeadQuery),
    responses(
        (status = 200, description = "A page of dead letters", body = Page<DeadLetter, MessageId>),
    ),
)]
pub(super) async fn of_session(
    State(api): State<Api>,
    InPath(id): InPath,
    QueryOf(query): QueryOf<DeadQuery>,
) -> Result<Answer<Page<DeadLetter, MessageId>>, Problem> {
    let after = query.after.map(MessageId::from_client);
    if let Some(after) = after.as_ref().filter(|after| after.cursor().is_none()) {
        let detail = format!("`after` is no message's id: `{after}`; send the `next` of a page");
        return Err(Problem::new(ProblemKind::BAD_REQUEST, detail));
    }
    let limit = page_len(query.limit);
    let items = api.sessions.dead(&id, after.as_ref(), limit).await?;
    let full = items.len() == limit;
    let last = items.last().map(|letter| letter.message.id.clone());
    Ok(Answer(Page {
        items,
        next: last.filter(|_| full),
    }))
}

/// Which dead letters of all sessions to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AllDeadQuery {
    /// Only those of this plugin's sessions.
    plugin: Option<String>,
    /// Only those that died at this time or later.
    since: Option<UnixMillis>,
    /// Only those after this one: the `next` of a page, which is a message's id, `/`, and its session's id.
    #[param(
        max_length = 284,
        pattern = r"^([a-hjkmnp-tv-z][a-hjkmnp-tv-z0-9]{7}\.)?m[0-9]{1,18}/([^\x00-\x1f\x7f-\x9f]*[^.\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*|\.{3,})$"
    )]
    after: Option<String>,
    /// The maximum number of items of the page: 100 by default, at most 1000. A page may have fewer, and
    /// not be the last.
    #[serde(default, deserialize_with = "limit")]
    limit: Option<usize>,
}

/// Lists the messages that no turn consumed, of all sessions.
#[utoipa::path(
    get,
    path = "/v1/dead",
    operation_id = "list_all_dead_letters",
    tag = "messages",
    params(AllDeadQuery),
    responses(
        (status = 200, description = "A page of dead letters, by session", body = Page<SessionDeadLetter, String>),
    ),
)]
pub(super) async fn of_all(
    State(api): State<Api>,
    caller: Caller,
    QueryOf(query): QueryOf<AllDeadQuery>,
) -> Result<Answer<Page<SessionDeadLetter, String>>, Problem> {
    let after = query.after.as_deref().map(place).transpose()?;
    let filter = DeadFilter {
        ids: &caller.0.principal.rights.sessions,
        plugin: query.plugin.as_deref(),
        since: query.since,
    };
    let limit = page_len(query.limit);
    let page = api
        .sessions
        .all_dead(after.as_ref(), limit, &filter)
        .await?;
    let items = page.items.into_iter();
    Ok(Answer(Page {
        items: items
            .map(|(session, letter)| SessionDeadLetter { session, letter })
            .collect(),
        next: page
            .next
            .map(|(session, message)| format!("{message}/{session}")),
    }))
}

/// Parses the `next` of a page. A message's id holds no `/`.
fn place(text: &str) -> Result<DeadPlace, Problem> {
    let parts = text.split_once('/');
    let message = parts.map(|(message, _)| MessageId::from_client(message));
    match (message, parts) {
        (Some(message), Some((_, session))) if message.cursor().is_some() => {
            let session = SessionId::new(session).map_err(Refusal::from)?;
            Ok((session, message))
        }
        _ => {
            let detail =
                format!("`after` is no place in the list: `{text}`; send the `next` of a page");
            Err(Problem::new(ProblemKind::BAD_REQUEST, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_message_and_its_session() {
        let (session, message) = place("m7/a/b").expect("a place");
        assert_eq!((session.as_str(), message.as_str()), ("a/b", "m7"));
        for bad in ["", "m7", "m7/", "a/b", "/m7", "mx/a"] {
            assert_eq!(place(bad).expect_err(bad).status(), 400, "{bad}");
        }
    }
}
