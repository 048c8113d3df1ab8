//! Joins a session: finds or creates it, and shows its last messages.

use serde_json::Value;

use super::super::client::Client;
use super::super::error::CliError;
use super::super::out::Tone;
use super::super::text::duration;
use super::view::{ChatItem, ChatView, ShownPiece, aside};
use crate::domain::{EventBody, EventId, SessionId, SessionState, SessionView, UnixMillis};

/// The last messages that are shown on joining.
const HISTORY_MESSAGES: usize = 10;
/// The last events that are read to find them.
const HISTORY_EVENTS: u32 = 60;

/// Returns the session; creates it if it does not exist and a plugin is named.
pub(crate) async fn join(
    client: &Client,
    id: &SessionId,
    plugin: Option<&str>,
    args: Option<&Value>,
) -> Result<SessionView, CliError> {
    match (client.session(id).await, plugin) {
        // With arguments, the request goes to the daemon, which checks whether they are the
        // session's.
        (Ok(view), plugin) if args.is_none() && plugin.is_none_or(|name| name == view.plugin) => {
            Ok(view)
        }
        (Ok(_), Some(plugin)) => Ok(client.create(id, plugin, args).await?),
        (Ok(view), None) => Ok(view),
        (Err(error), plugin) if error.status() == Some(404) => match plugin {
            Some(plugin) => Ok(client.create(id, plugin, args).await?),
            None => Err(no_session(client, id).await),
        },
        (Err(error), _) => Err(error.into()),
    }
}

/// Returns the error that the session does not exist, which says how to create it.
pub(crate) async fn no_session(client: &Client, id: &SessionId) -> CliError {
    CliError::Failed(format!(
        "there is no session `{id}`; name its plugin to create it: --plugin {}",
        known_plugins(client).await
    ))
}

/// Returns the plugins' names to choose from, for an error message.
async fn known_plugins(client: &Client) -> String {
    // By the endpoint that whoever may converse may use.
    let models = client.get::<Value>("/v1/models").await.unwrap_or_default();
    let models = models["data"].as_array().into_iter().flatten();
    let names: Vec<&str> = models.filter_map(|model| model["id"].as_str()).collect();
    if names.is_empty() {
        "NAME".to_owned()
    } else {
        names.join(" | ")
    }
}

/// Returns the view of a session that is joined, and what is shown first.
pub(crate) async fn history(
    client: &Client,
    session: &SessionView,
) -> Result<(ChatView, Vec<ShownPiece>), CliError> {
    let id = &session.id;
    // All of the session's history is on its present timeline, whenever it was recorded.
    let mut after = EventId {
        cursor: session.cursor.saturating_sub(u64::from(HISTORY_EVENTS)),
        timeline: session.timeline.clone(),
    };
    let page = loop {
        match client.events(id, &after, HISTORY_EVENTS).await {
            Ok(page) => break page,
            Err(super::super::client::ClientError::Problem(problem))
                if problem.oldest().is_some_and(|oldest| oldest > after.cursor) =>
            {
                after.cursor = problem.oldest().unwrap_or(after.cursor);
            }
            Err(error) => return Err(error.into()),
        }
    };
    let mut view = ChatView::new(id.as_str(), after.cursor);
    let mut messages = Vec::new();
    for event in page.items {
        let is_message = matches!(event.body, EventBody::Message { .. });
        let pieces = view.apply(&ChatItem::Event(event));
        if is_message {
            messages.push(pieces);
        }
    }
    let skipped = messages.len().saturating_sub(HISTORY_MESSAGES);
    let mut pieces: Vec<ShownPiece> = messages.into_iter().skip(skipped).flatten().collect();
    pieces.push(aside(&format!(
        "{id}: {} turns with {}; /help lists commands",
        session.turns, session.plugin
    )));
    pieces.extend(trouble(session));
    Ok((view, pieces))
}

/// Returns a line that says why the session does not run, if it should.
pub(crate) fn trouble(session: &SessionView) -> Option<ShownPiece> {
    let reason = session.reason.as_ref()?;
    let text = format!(
        "— the session is {}: {}; {} —",
        session.state.as_str(),
        reason.text,
        reason.action
    );
    Some(ShownPiece::Line(Tone::Bad, text))
}

/// Returns a line that says what the session is doing.
pub(crate) fn summary(session: &SessionView) -> ShownPiece {
    let mut text = format!("{} turns, {}", session.turns, session.state.as_str());
    if let (SessionState::Running, Some(turn)) = (session.state, &session.running) {
        let since = UnixMillis::now().since(turn.since);
        text.push_str(&format!(
            " (turn {}, attempt {}, for {})",
            turn.turn,
            turn.attempt,
            duration(since)
        ));
    }
    text.push_str(&format!(
        ", {} queued, {} dead letters",
        session.queued, session.dead
    ));
    aside(&text)
}
