//! What the guest of a session has yet to be told, beside restarts: it goes with a state, so that a session
//! that goes back, or a copy of it, is told all that its state does not know.

use serde::{Deserialize, Serialize};

use super::{HistoryCut, StateReplaced, StoppedTurn, StoppedTurns};

/// What a guest has yet to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// What turns have done outside that its state knows nothing of.
    #[serde(default, skip_serializing_if = "StoppedTurns::is_none")]
    pub effects: StoppedTurns,
    /// That its state was replaced, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<StateReplaced>,
    /// That its history was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<HistoryCut>,
}

impl Owed {
    /// Whether there is nothing.
    pub fn is_none(&self) -> bool {
        self.effects.is_none() && self.replaced.is_empty() && self.cut.is_none()
    }

    /// Adds what came before. Of two cuts the later one is told.
    pub(super) fn add_earlier(&mut self, earlier: Self) {
        let later = std::mem::replace(&mut self.effects, earlier.effects);
        self.effects.add_all(later);
        self.cut = self.cut.take().or(earlier.cut);
    }
}

/// The turns whose effects are to be told, each once.
#[derive(Default)]
pub(super) struct ToldTurns {
    pub(super) effects: StoppedTurns,
    /// By number and calls: a copy begins with turns of another session, whose numbers its own ones have
    /// again.
    known: Vec<(u64, u32)>,
}

impl ToldTurns {
    /// Adds turns, those alone that `is_meant`; `why` tells of such as had committed. Calls that are counted
    /// alone may be counted twice: rather that than not at all.
    pub(super) fn add(
        &mut self,
        turns: &StoppedTurns,
        why: &str,
        is_meant: impl Fn(&StoppedTurn) -> bool,
    ) {
        let effects = &mut self.effects;
        effects.earlier_calls = effects.earlier_calls.saturating_add(turns.earlier_calls);
        for stopped in turns.turns.iter().filter(|stopped| is_meant(stopped)) {
            let it = (stopped.turn, stopped.calls.count());
            if self.known.contains(&it) {
                continue;
            }
            self.known.push(it);
            let mut stopped = stopped.clone();
            if stopped.reason.is_empty() {
                why.clone_into(&mut stopped.reason);
            }
            effects.add(stopped);
        }
    }

    /// How many turns were added.
    pub(super) fn count(&self) -> u64 {
        self.known.len() as u64
    }
}
