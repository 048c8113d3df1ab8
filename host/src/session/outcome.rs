//! What became of a message, read from the session's events.

use crate::domain::{Event, EventBody, MessageId, Refusal, Role, TurnStatus};

use super::hub::{StreamItem, Subscription};

/// How the turn of a message ended.
#[derive(Clone, Debug, PartialEq)]
pub struct TurnOutcome {
    /// The turn.
    pub turn: u64,
    /// Completed or failed.
    pub status: TurnStatus,
    /// Why it failed.
    pub reason: Option<String>,
    /// Its assistant messages and custom events.
    pub output: Vec<Event>,
}

impl TurnOutcome {
    /// How the message's turn ended, if these are the events of the commit that ended it: all that
    /// a turn says stands in front of its end.
    pub(super) fn among(events: &[Event], message: &MessageId) -> Option<Self> {
        let (end, turn, status, reason) = events.iter().enumerate().find_map(|(at, event)| {
            let (status, reason) = end_of(event, message)?;
            Some((at, event.turn, status, reason))
        })?;
        let output = events[..end].iter();
        let output = output.filter(|said| said.turn == turn && is_output(said));
        Some(Self {
            turn: turn.unwrap_or_default(),
            status,
            reason: reason.clone(),
            output: output.cloned().collect(),
        })
    }
}

/// Whether a turn says this to who waits for it.
fn is_output(event: &Event) -> bool {
    matches!(
        event.body,
        EventBody::Message {
            from: Role::Assistant,
            ..
        } | EventBody::Custom { .. }
    )
}

/// How this event ends the message's turn, if it does.
fn end_of<'a>(event: &'a Event, message: &MessageId) -> Option<(TurnStatus, &'a Option<String>)> {
    match &event.body {
        EventBody::Turn {
            status,
            message: of,
            received,
            reason,
        } if (of == message || received.contains(message)) && *status != TurnStatus::Started => {
            Some((*status, reason))
        }
        _ => None,
    }
}

/// Follows a subscription that begins at the message until its turn has ended.
pub(super) async fn follow(
    mut events: Subscription,
    message: &MessageId,
) -> Result<TurnOutcome, Refusal> {
    let mut output: Vec<Event> = Vec::new();
    while let Some(item) = events.next().await {
        let event = match item? {
            StreamItem::Event(event) => event,
            StreamItem::Delta(_) => continue,
            StreamItem::Restart { .. } => return Err(Refusal::Restarting),
        };
        if is_output(&event) {
            // Turns do not overlap: what another one said is not wanted any more.
            output.retain(|said| said.turn == event.turn);
            output.push(event);
        } else if let Some((status, reason)) = end_of(&event, message) {
            output.retain(|said| said.turn == event.turn);
            return Ok(TurnOutcome {
                turn: event.turn.unwrap_or_default(),
                status,
                reason: reason.clone(),
                output,
            });
        }
    }
    Err(Refusal::Gone)
}
