//! What the checker found: counts, and what is wrong.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use serde::Serialize;

/// A way in which a promise can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An acknowledged message has no event, or no completed turn.
    Lost,
    /// A turn failed, or a message became a dead letter: nothing here asks for that.
    Failed,
    /// A message was consumed by two turns, a script done twice, a turn committed twice.
    DoubledTurn,
    /// Turn numbers repeat, are skipped, or turns overlap.
    TurnNumbers,
    /// The guest's own count of its turns does not match: snapshot and events were not committed
    /// together.
    Counter,
    /// A turn does not say what its scripts ask for.
    Output,
    /// A call that cannot be repeated was executed twice.
    ExecutedTwice,
    /// A call whose result is `ok` was not executed.
    NotExecuted,
    /// A call was executed, and its guest was told that it failed.
    ToldFailed,
    /// A call's executions carry different keys, or two calls carry the same one.
    Keys,
    /// An outcome was called unknown that can be known.
    ToldUnknown,
    /// An event is missing: a gap in the cursors, or a subscriber that did not see it.
    EventMissing,
    /// An event came up twice.
    EventDoubled,
    /// An event that was seen is not what it was.
    EventChanged,
    /// A guest was not told of a restart.
    NoticeMissing,
    /// A guest was told of a restart twice.
    NoticeDoubled,
    /// A guest was told of a restart that was none, or in the wrong place.
    NoticeWrong,
    /// A timer was set and not delivered.
    TimerLost,
    /// A timer was delivered twice, or never set.
    TimerDoubled,
    /// A timer was delivered before it was due.
    TimerEarly,
    /// A restart made things worse.
    Service,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which promise.
    pub kind: Kind,
    /// What was seen.
    pub text: String,
}

impl Display for Violation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}

/// How much was looked at, and how much of it is wrong.
pub type Counts = BTreeMap<&'static str, u64>;

/// What the checker says.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// By name; see [`COUNTED`](crate::checker::COUNTED).
    pub counts: Counts,
    /// Everything that is wrong.
    pub violations: Vec<Violation>,
}

impl Verdict {
    /// Adds to a count.
    pub fn count(&mut self, name: &'static str, many: usize) {
        *self.counts.entry(name).or_default() += many as u64;
    }

    /// Notes that something is wrong.
    pub fn wrong(&mut self, kind: Kind, text: String) {
        self.violations.push(Violation { kind, text });
    }

    /// How often a kind of wrong was found.
    pub fn found(&self, kind: Kind) -> u64 {
        self.violations
            .iter()
            .filter(|violation| violation.kind == kind)
            .count() as u64
    }

    /// Takes another one's counts and violations in.
    pub fn merge(&mut self, other: Self) {
        for (name, many) in other.counts {
            *self.counts.entry(name).or_default() += many;
        }
        self.violations.extend(other.violations);
    }
}
