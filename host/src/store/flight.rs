//! What has been handed to the writer and is not written yet, per session: the next append of a
//! session stands on it, not on what a reader would find.

use std::collections::HashMap;

use crate::domain::{LogPos, Message, SessionId};

use super::codec::Kept;

/// All sessions that have appends in flight.
#[derive(Default)]
pub(super) struct Flights {
    sessions: HashMap<SessionId, Flight>,
}

/// The appends of one session that are in flight.
struct Flight {
    /// How many.
    appends: usize,
    /// What the last of them leaves behind.
    kept: Kept,
    /// The messages that they bring, where they stand.
    messages: Vec<(LogPos, Message)>,
}

impl Flights {
    /// What the last append in flight leaves behind.
    pub(super) fn kept(&self, id: &SessionId) -> Option<Kept> {
        self.sessions.get(id).map(|flight| flight.kept.clone())
    }

    /// A message in flight.
    pub(super) fn message(
        &self,
        id: &SessionId,
        is_it: impl Fn(LogPos, &Message) -> bool,
    ) -> Option<Message> {
        let flight = self.sessions.get(id)?;
        let found = flight
            .messages
            .iter()
            .rfind(|(at, message)| is_it(*at, message));
        found.map(|(_, message)| message.clone())
    }

    /// An append sets out.
    pub(super) fn depart(&mut self, id: &SessionId, kept: Kept, messages: Vec<(LogPos, Message)>) {
        match self.sessions.get_mut(id) {
            Some(flight) => {
                flight.appends += 1;
                flight.kept = kept;
                flight.messages.extend(messages);
            }
            None => {
                let flight = Flight {
                    appends: 1,
                    kept,
                    messages,
                };
                self.sessions.insert(id.clone(), flight);
            }
        }
    }

    /// The oldest append of a session, which brought what stands before `bound`, has been
    /// written or has failed.
    pub(super) fn arrive(&mut self, id: &SessionId, bound: LogPos) {
        if let Some(flight) = self.sessions.get_mut(id) {
            flight.appends -= 1;
            if flight.appends == 0 {
                self.sessions.remove(id);
            } else {
                flight.messages.retain(|(at, _)| *at >= bound);
            }
        }
    }
}
