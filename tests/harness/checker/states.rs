//! The states that a session has been in, as its events tell of them: each is named by a cursor, and a
//! rewind brings one back.

use std::collections::BTreeMap;

use crate::Event;

/// What is known of each state of a session.
pub(crate) struct States<T> {
    present: T,
    /// Those that the session can go back to, by the cursor that names them.
    at: BTreeMap<u64, T>,
}

impl<T: Clone> States<T> {
    /// Begins with the state of a session that was just created.
    pub(crate) fn new(first: T) -> Self {
        Self {
            at: BTreeMap::from([(0, first.clone())]),
            present: first,
        }
    }

    pub(crate) fn present(&self) -> &T {
        &self.present
    }

    /// Changes what is known of the present state, which has no name: nobody can go back to it so.
    pub(crate) fn present_mut(&mut self) -> &mut T {
        &mut self.present
    }

    /// A new state begins, named by this cursor.
    pub(crate) fn commit(&mut self, cursor: u64, state: T) {
        self.present = state.clone();
        self.at.insert(cursor, state);
    }

    /// Replaces the state as an event of a rewind or of a copy's beginning tells. Returns false if there
    /// was no such state; the present one then stays.
    pub(crate) fn replace(&mut self, event: &Event) -> bool {
        let named = match event.kind.as_str() {
            "rewound" => event.to_cursor,
            // A copied history ends with the point that was copied.
            _ => event.cursor.checked_sub(1),
        };
        let state = named.and_then(|named| self.at.get(&named).cloned());
        if event.kind == "origin" {
            // A copy does not go back to before its beginning.
            self.at.clear();
        }
        let is_known = state.is_some();
        let state = state.unwrap_or_else(|| self.present.clone());
        self.commit(event.cursor, state);
        is_known
    }
}

/// Returns whether an event tells that the session's state was replaced.
pub(crate) fn replaces(event: &Event) -> bool {
    matches!(event.kind.as_str(), "rewound" | "origin")
}

/// Returns the events that are a session's own: all, or of a copy those from its beginning on.
pub(crate) fn own(events: &[Event]) -> &[Event] {
    let origin = events.iter().rposition(|event| event.kind == "origin");
    &events[origin.unwrap_or_default()..]
}
