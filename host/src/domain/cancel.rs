//! Cancelling: what of a session's work is given up. Pure: the records that say so, and what they
//! come to for whoever asked.

use serde::{Deserialize, Serialize};

use super::{
    Discarded, FailureCode, MessageId, Record, Refusal, Resumed, Session, TurnFailure, UnixMillis,
};

/// What is to be given up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CancelScope {
    /// The open turn; what waits in the inbox comes next.
    #[default]
    Turn,
    /// The open turn and all that waits. Timers that are not due yet stay.
    Queue,
    /// One message, whether a turn works on it or it waits.
    Message(MessageId),
}

/// What was given up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Cancelled {
    /// The turn that was open; none if none was ended.
    pub turn: Option<u64>,
    /// The messages that are dead letters by this, that turn's own among them.
    pub messages: Vec<MessageId>,
}

impl Cancelled {
    /// What these records, of [`Session::cancel`], give up.
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
    /// Somebody gives work up; on a faulted session, to end its open turn ends the fault too.
    /// `taken` are the messages that the running turn has taken from the inbox, as far as that is
    /// not in the log yet.
    ///
    /// # Errors
    /// `NothingRuns` if the turn is to be cancelled and none is open. That there is nothing to give
    /// up of a queue or a message is none: it may just have been answered.
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
            // A message that the turn took while it ran is part of what it works on: it cannot be
            // taken out of it any more.
            CancelScope::Message(message) => open.is_some_and(|open| {
                open.queued.id == *message
                    || open.journal.received.contains(message)
                    || taken.contains(message)
            }),
        };
        let mut records = Vec::new();
        if ends_turn {
            let failure = cancelled("the turn was cancelled on request");
            let ended = self.fail(failure, at).ok_or(Refusal::NothingRuns)?;
            records.extend(self.withdraw(at));
            records.push(ended);
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
