//! The outcome of a message, derived from the session's events.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::domain::{
    Delta, Event, EventBody, MessageId, ModelUsage, Refusal, Role, TurnFailure, TurnStatus,
};

use super::hub::{StreamItem, Subscription};

/// The outcome of a message's turn.
#[derive(Clone, Debug, PartialEq)]
pub struct TurnOutcome {
    /// The turn; `None` if the message became a dead letter before it had one.
    pub turn: Option<u64>,
    /// `Completed` or `Failed`.
    pub status: TurnStatus,
    /// The reason if the turn failed.
    pub reason: Option<String>,
    /// The turn's assistant messages and custom events.
    pub output: Vec<Event>,
    /// The usage of the turn's model calls.
    pub usage: ModelUsage,
}

impl TurnOutcome {
    /// Returns how the message's turn ended, if these are the events of the commit that ended it.
    /// All output of a turn precedes its end event.
    pub(super) fn among(events: &[Event], message: &MessageId) -> Option<Self> {
        let (index, turn, end) = events.iter().enumerate().find_map(|(at, event)| {
            let end = end_of(event, message)?;
            Some((at, event.turn, end))
        })?;
        let output = events[..index].iter();
        let output = output.filter(|event| event.turn == turn && is_output(event));
        Some(Self {
            turn,
            status: end.status,
            reason: end.reason.clone(),
            output: output.cloned().collect(),
            usage: end.usage,
        })
    }

    /// Returns the outcome of a message that became a dead letter without a turn.
    pub(super) fn discarded(failure: TurnFailure) -> Self {
        Self {
            turn: None,
            status: TurnStatus::Failed,
            reason: Some(failure.text),
            output: Vec::new(),
            usage: ModelUsage::default(),
        }
    }
}

/// Returns whether the event is output for the client that waits for the turn.
fn is_output(event: &Event) -> bool {
    matches!(
        event.body,
        EventBody::Message {
            from: Role::Assistant,
            ..
        } | EventBody::Custom { .. }
    )
}

/// The end of a turn, taken from its event.
struct TurnEndEvent<'a> {
    status: TurnStatus,
    reason: &'a Option<String>,
    usage: ModelUsage,
}

/// Returns the end of the message's turn, if this event is that.
fn end_of<'a>(event: &'a Event, message: &MessageId) -> Option<TurnEndEvent<'a>> {
    match &event.body {
        EventBody::Turn {
            status,
            message: of,
            received,
            reason,
            usage,
        } if (of == message || received.contains(message)) && *status != TurnStatus::Started => {
            Some(TurnEndEvent {
                status: *status,
                reason,
                usage: *usage,
            })
        }
        _ => None,
    }
}

/// The number of deltas to buffer until the message's turn is known: a turn's beginning is
/// published only once it is synced, and a fast model answers before that. Beyond this, the oldest
/// are dropped; their text is still part of the turn's end.
const EARLY_DELTAS: usize = 256;

/// The progress of a message that is being handled.
pub enum MessageProgress {
    /// A piece of a model's answer to its turn.
    Delta(Arc<Delta>),
    /// Its turn has ended. This is the last item.
    Ended(TurnOutcome),
}

/// Follows a message until its turn has ended, through a subscription that begins at the message or
/// earlier.
pub struct Follower {
    events: Subscription,
    message: MessageId,
    /// Whether the message may have become a dead letter, which no event reports: check the store.
    suspect: bool,
    /// The message's turn, once it has begun.
    turn: Option<u64>,
    /// Deltas that arrived before that.
    early: VecDeque<Arc<Delta>>,
    output: Vec<Event>,
}

impl Follower {
    /// Creates a follower of `message`.
    pub fn new(events: Subscription, message: MessageId) -> Self {
        Self {
            events,
            message,
            suspect: true,
            turn: None,
            early: VecDeque::new(),
            output: Vec::new(),
        }
    }

    /// Returns the next progress. Must not be called again after [`MessageProgress::Ended`] or a
    /// refusal. Cancel safe.
    pub async fn next(&mut self) -> Result<MessageProgress, Refusal> {
        loop {
            if std::mem::take(&mut self.suspect)
                && let Some(failure) = self.events.discarded(&self.message)?
            {
                return Ok(MessageProgress::Ended(TurnOutcome::discarded(failure)));
            }
            if let Some(turn) = self.turn {
                // Drop deltas of other turns.
                self.early.retain(|delta| delta.turn == turn);
                if let Some(delta) = self.early.pop_front() {
                    return Ok(MessageProgress::Delta(delta));
                }
            }
            let Some(item) = self.events.next().await else {
                return Err(Refusal::Gone);
            };
            let event = match item? {
                StreamItem::Event(event) => event,
                StreamItem::Delta(delta) => {
                    if self.early.len() == EARLY_DELTAS {
                        self.early.pop_front();
                    }
                    self.early.push_back(delta);
                    continue;
                }
                StreamItem::Discarded(_) => {
                    self.suspect = true;
                    continue;
                }
                StreamItem::Restart { .. } => return Err(Refusal::Restarting),
            };
            if is_output(&event) {
                // Turns do not overlap, so the output of an earlier turn is obsolete.
                self.output.retain(|output| output.turn == event.turn);
                self.output.push(event);
            } else if begins(&event, &self.message) {
                self.turn = event.turn;
            } else if let Some(end) = end_of(&event, &self.message) {
                self.output.retain(|output| output.turn == event.turn);
                return Ok(MessageProgress::Ended(TurnOutcome {
                    turn: event.turn,
                    status: end.status,
                    reason: end.reason.clone(),
                    output: std::mem::take(&mut self.output),
                    usage: end.usage,
                }));
            }
        }
    }
}

/// Returns whether this event begins the message's turn.
fn begins(event: &Event, message: &MessageId) -> bool {
    matches!(
        &event.body,
        EventBody::Turn { status: TurnStatus::Started, message: of, .. } if of == message
    )
}

/// Follows a subscription that begins at the message until its turn has ended.
pub(super) async fn follow(
    events: Subscription,
    message: &MessageId,
) -> Result<TurnOutcome, Refusal> {
    let mut follower = Follower::new(events, message.clone());
    loop {
        if let MessageProgress::Ended(outcome) = follower.next().await? {
            return Ok(outcome);
        }
    }
}
