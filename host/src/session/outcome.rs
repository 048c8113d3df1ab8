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
        match &event.body {
            EventBody::Message {
                from: Role::Assistant,
                ..
            }
            | EventBody::Custom { .. } => {
                // Turns do not overlap: what another one said is not wanted any more.
                output.retain(|said| said.turn == event.turn);
                output.push(event);
            }
            EventBody::Turn {
                status,
                message: of,
                received,
                reason,
            } if (of == message || received.contains(message))
                && *status != TurnStatus::Started =>
            {
                output.retain(|said| said.turn == event.turn);
                return Ok(TurnOutcome {
                    turn: event.turn.unwrap_or_default(),
                    status: *status,
                    reason: reason.clone(),
                    output,
                });
            }
            _ => {}
        }
    }
    Err(Refusal::Gone)
}
