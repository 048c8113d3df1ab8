//! Cancelling a session's work. This code is pure: it returns the records that cancel the work, and
//! what they mean for the caller.

use serde::{Deserialize, Serialize};

use super::{
    Discarded, FailureCode, MessageId, Record, Refusal, Resumed, Session, TurnFailure, UnixMillis,
};

/// What a caller cancels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CancelScope {
    /// The open turn; the inbox stays, and its first message is next.
    #[default]
    Turn,
    /// The open turn and all messages in the inbox. Timers that are not due yet stay.
    Queue,
    /// One message, whether a turn works on it or it waits in the inbox.
    Message(MessageId),
}

/// What was cancelled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Cancelled {
    /// The turn that was open; none if no turn was ended.
    pub turn: Option<u64>,
    /// The messages that became dead letters, the turn's own included.
    pub messages: Vec<MessageId>,
}

impl Cancelled {
    /// Returns what these records, of [`Session::cancel`], have cancelled.
    pub fn by(records: &[Record]) -> Self {
        let mut cancelled = Self::default();
        for record in records {
            match record {
                Record::Ended(ended) => {
                    cancelled.turn = Some(ended.turn);
                    cancelled.messages.push(ended.message.clone());
                }
                Record::Discarded(discarded) => {
                    cancelled.messages.push(discarded.message.clone());
                }
                _ => {}
            }
        }
        cancelled
    }
}

impl Session {
    /// Returns the records that cancel work. On a faulted session, ending the open turn also ends
    /// the fault. `taken` are the messages that the running turn has received from the inbox, as
    /// far as the log does not have them yet.
    ///
    /// # Errors
    /// `NothingRuns` if the turn is to be cancelled and none is open. An empty queue or a missing
    /// message is no error: it may just have been answered.
    pub fn cancel(
        &self,
        scope: &CancelScope,
        taken: &[MessageId],
        at: UnixMillis,
    ) -> Result<Vec<Record>, Refusal> {
        self.alive()?;
        let open = self.progress.open.as_ref();
        let ends_turn = match scope {
            CancelScope::Turn => true,
            CancelScope::Queue => open.is_some(),
            // A message that the running turn has received cannot be taken from it any more:
            // cancelling the message cancels the turn.
            CancelScope::Message(message) => open.is_some_and(|open| {
                open.queued.id == *message
                    || open.journal.received.contains(message)
                    || taken.contains(message)
            }),
        };
        let mut records = Vec::new();
        if ends_turn {
            let failure = cancelled("the turn was cancelled on request");
            records = self.end_open(failure, at);
            if records.is_empty() {
                return Err(Refusal::NothingRuns);
            }
        }
        let waiting = self.queue.iter().filter(|queued| match scope {
            CancelScope::Turn => false,
            CancelScope::Queue => true,
            CancelScope::Message(message) => queued.id == *message,
        });
        records.extend(waiting.map(|queued| {
            Record::Discarded(Discarded {
                message: queued.id.clone(),
                failure: cancelled("the message was cancelled on request, before it had a turn"),
                at,
            })
        }));
        if ends_turn && self.progress.fault.is_some() {
            records.push(Record::Resumed(Resumed { at }));
        }
        Ok(records)
    }
}

fn cancelled(text: &str) -> TurnFailure {
    TurnFailure {
        code: FailureCode::Cancelled,
        text: text.to_owned(),
    }
}
