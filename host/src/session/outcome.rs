//! What became of a message, read from the session's events.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::domain::{
    Delta, Event, EventBody, MessageId, ModelUsage, Refusal, Role, TurnFailure, TurnStatus,
};

use super::hub::{StreamItem, Subscription};

/// How the turn of a message ended.
#[derive(Clone, Debug, PartialEq)]
pub struct TurnOutcome {
    /// The turn; none if the message became a dead letter before it had one.
    pub turn: Option<u64>,
    /// Completed or failed.
    pub status: TurnStatus,
    /// Why it failed.
    pub reason: Option<String>,
    /// Its assistant messages and custom events.
    pub output: Vec<Event>,
    /// What its model calls cost.
    pub usage: ModelUsage,
}

impl TurnOutcome {
    /// How the message's turn ended, if these are the events of the commit that ended it: all that
    /// a turn says stands in front of its end.
    pub(super) fn among(events: &[Event], message: &MessageId) -> Option<Self> {
        let (end, turn, told) = events.iter().enumerate().find_map(|(at, event)| {
            let end = end_of(event, message)?;
            Some((at, event.turn, end))
        })?;
        let output = events[..end].iter();
        let output = output.filter(|said| said.turn == turn && is_output(said));
        Some(Self {
            turn,
            status: told.status,
            reason: told.reason.clone(),
            output: output.cloned().collect(),
            usage: told.usage,
        })
    }

    /// The message became a dead letter, and has had no turn.
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

/// How a turn ended, as its event tells it.
struct TurnEndEvent<'a> {
    status: TurnStatus,
    reason: &'a Option<String>,
    usage: ModelUsage,
}

/// How this event ends the message's turn, if it does.
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

/// Deltas that are kept until it is known whose turn they belong to: a turn's beginning is told once
/// it is synced, and a fast model speaks before. Beyond, the oldest go, and the end tells them.
const EARLY_DELTAS: usize = 256;

/// What there is to tell of a message on its way.
pub enum MessageProgress {
    /// A piece of an answer that its turn is being given.
    Delta(Arc<Delta>),
    /// Its turn has ended. The last thing.
    Ended(TurnOutcome),
}

/// Follows a message until its turn has ended, by a subscription that begins at it or before.
pub struct Follower {
    events: Subscription,
    message: MessageId,
    /// It may have become a dead letter meanwhile, of which no event tells.
    suspect: bool,
    /// The message's turn, once it has begun.
    turn: Option<u64>,
    /// What was said before that.
    early: VecDeque<Arc<Delta>>,
    output: Vec<Event>,
}

impl Follower {
    /// Follows this message.
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

    /// What comes next; not to be asked again after [`Progress::Ended`] or a refusal. Dropping the
    /// future loses nothing.
    pub async fn next(&mut self) -> Result<MessageProgress, Refusal> {
        loop {
            if std::mem::take(&mut self.suspect)
                && let Some(failure) = self.events.discarded(&self.message)?
            {
                return Ok(MessageProgress::Ended(TurnOutcome::discarded(failure)));
            }
            if let Some(turn) = self.turn {
                // What another turn's model says is for others.
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
                // Turns do not overlap: what another one said is not wanted any more.
                self.output.retain(|said| said.turn == event.turn);
                self.output.push(event);
            } else if begins(&event, &self.message) {
                self.turn = event.turn;
            } else if let Some(end) = end_of(&event, &self.message) {
                self.output.retain(|said| said.turn == event.turn);
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

/// Whether this event begins the message's turn.
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
