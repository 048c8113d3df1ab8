//! The checker's result: counts and violations.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use serde::Serialize;

/// A way in which a promise can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ViolationKind {
    /// An acknowledged message has no event, or no completed turn.
    Lost,
    /// A turn failed, or a message became a dead letter, although no program causes that.
    Failed,
    /// A message was consumed by two turns, a script was done twice, or a turn was committed twice.
    DoubledTurn,
    /// Turn numbers repeat or are skipped, or turns overlap.
    TurnNumbers,
    /// The guest's own turn count does not match: snapshot and events were not committed together.
    Counter,
    /// A turn's output is not what its scripts request.
    Output,
    /// A call that cannot be repeated was executed twice.
    ExecutedTwice,
    /// A call whose result is `ok` was not executed.
    NotExecuted,
    /// A call was executed, and its guest received a failure.
    ToldFailed,
    /// A call's executions carry different keys, or two calls carry the same one.
    Keys,
    /// An outcome was reported as unknown although it can be known.
    ToldUnknown,
    /// An event is missing: a gap in the cursors, or a subscriber that did not see it.
    EventMissing,
    /// An event occurred twice.
    EventDoubled,
    /// An event that was read has changed.
    EventChanged,
    /// A guest received no notice of a restart.
    NoticeMissing,
    /// A guest received the notice of a restart twice.
    NoticeDoubled,
    /// A guest received a notice without a restart, or in the wrong place.
    NoticeWrong,
    /// What was done outside and then undone, or was cancelled, was not told to the guest.
    Untold,
    /// A rewind that was acknowledged left no event, one that nobody asked for did, or it led to a state
    /// that never was.
    Rewind,
    /// A copy is not what its source was, or is not told apart from it.
    Copy,
    /// A timer was set and neither delivered nor dropped.
    TimerLost,
    /// A timer was delivered twice, or was delivered without having been set.
    TimerDoubled,
    /// A timer was delivered before it was due.
    TimerEarly,
    /// A restart made the service worse.
    Service,
}

/// One violation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The broken promise.
    pub kind: ViolationKind,
    /// The observation.
    pub text: String,
}

impl Display for Violation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}

/// How much was checked, and how many violations there are, by name.
pub type Counts = BTreeMap<&'static str, u64>;

/// The checker's result.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// By name; see [`COUNTED`](crate::checker::COUNTED).
    pub counts: Counts,
    /// All violations.
    pub violations: Vec<Violation>,
}

impl Verdict {
    pub fn count(&mut self, name: &'static str, many: usize) {
        *self.counts.entry(name).or_default() += many as u64;
    }

    /// Records a violation.
    pub fn wrong(&mut self, kind: ViolationKind, text: String) {
        self.violations.push(Violation { kind, text });
    }

    /// Returns how many violations of a kind were found.
    pub fn found(&self, kind: ViolationKind) -> u64 {
        self.violations
            .iter()
            .filter(|violation| violation.kind == kind)
            .count() as u64
    }

    /// Adds the counts and violations of another verdict.
    pub fn merge(&mut self, other: Self) {
        for (name, many) in other.counts {
            *self.counts.entry(name).or_default() += many;
        }
        self.violations.extend(other.violations);
    }
}
