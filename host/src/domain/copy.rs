//! Copies of a session: a fork within the daemon, or an import of what was exported elsewhere. A copy takes
//! state, history, labels and arguments; what was open or waiting stays behind. This code is pure.

use serde::{Deserialize, Serialize};

use super::{
    ApprovalId, Digest, FailureCode, Generation, Identity, LogPos, MessageId, Origin, Owed, Point,
    Record, Replacement, Session, SessionId, SessionTimeline, StateReplaced, StoppedTurn,
    TimelineName, Timer, TurnFailure, UnixMillis,
};

/// Why a turn of the copied session that the copy does not have counts as stopped.
const LATER: &str = "it came after the state that this session begins with";
/// The same, of the turn that was open.
const OPEN: &str = "it was open in the session that this one was copied from";

/// A session as it was at one of its points, with all that a copy takes along.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionCopy {
    /// The session.
    pub session: SessionId,
    pub identity: Identity,
    pub point: Point,
    /// The timelines of its history.
    pub timeline: SessionTimeline,
    /// The snapshot of the point, as it is stored.
    pub snapshot: Vec<u8>,
    /// The records up to the point, that of the point included, each as it is stored; the oldest may be
    /// missing.
    pub history: Vec<(LogPos, Vec<u8>)>,
    /// What the guest of the copy must be told, beside the copy.
    pub owed: Owed,
    pub left: LeftBehind,
}

/// What a copy does not take along. Idempotency keys stay behind as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LeftBehind {
    /// The turn that was open; none if none was.
    pub turn: Option<u64>,
    /// The messages that were queued.
    pub messages: Vec<MessageId>,
    /// The timers that were set in that state.
    pub timers: Vec<Timer>,
    /// The approvals that waited for a human.
    pub approvals: Vec<ApprovalId>,
}

/// How a copy begins.
#[derive(Clone, Debug)]
pub struct NewCopy {
    pub how: Replacement,
    /// The generation that makes it.
    pub generation: Generation,
    /// The timeline that it begins, for an import.
    pub timeline: Option<TimelineName>,
    /// The component of its plugin.
    pub configured: Digest,
    /// Who asks for it: an access token's name, `config` or `@local`.
    pub by: Option<String>,
    pub at: UnixMillis,
}

impl Session {
    /// Returns what a copy of the session as it was at `point` leaves behind, and what its guest must be
    /// told; `later` are the points after it.
    pub fn not_copied(&self, point: &Point, later: &[Point]) -> (LeftBehind, Owed) {
        let progress = &self.progress;
        let (mut owed, _) = self.owed_after(point, later, LATER);
        let open = progress.open.as_ref();
        let stopped = open.and_then(|open| {
            let failure = TurnFailure {
                code: FailureCode::Cancelled,
                text: OPEN.to_owned(),
            };
            StoppedTurn::of(open.begun.turn, &open.about, &open.calls, &failure)
        });
        if let Some(stopped) = stopped {
            owed.effects.add(stopped);
        }
        let left = LeftBehind {
            turn: open.map(|open| open.begun.turn),
            messages: self.queue.iter().map(|queued| queued.id.clone()).collect(),
            timers: match point.at == progress.snapshot.at {
                true => progress.timers.clone(),
                false => point.timers.clone(),
            },
            approvals: progress.waiting().map(|asked| asked.id.clone()).collect(),
        };
        (left, owed)
    }
}

impl SessionCopy {
    /// Returns the size of its large parts, in bytes.
    pub fn bytes(&self) -> u64 {
        let history = self.history.iter().map(|(_, record)| record.len());
        (self.snapshot.len() + history.sum::<usize>()) as u64
    }

    /// Returns the position behind the copied history.
    pub fn end(&self) -> LogPos {
        LogPos {
            cursor: self.point.cursor,
            seq: self.point.at.seq + 1,
        }
    }

    /// Returns the session that begins with this copy, and the records that it begins with, behind the
    /// copied ones: a snapshot must be stored with the first of them.
    pub fn begin(&self, with: &NewCopy) -> (Session, Vec<(LogPos, Record)>) {
        let Self {
            identity, point, ..
        } = self;
        let origin = Record::Origin(Origin {
            how: with.how,
            session: self.session.clone(),
            timeline: with.timeline.clone(),
            previous: self.timeline.name().cloned(),
            plugin: identity.plugin.clone(),
            args: identity.args.clone(),
            labels: identity.labels.clone(),
            generation: with.generation,
            turn: point.turn,
            turns: point.turns,
            last_turn: point.last_turn,
            component: point.component,
            schema: point.schema,
            timers: StateReplaced::timers(&self.left.timers),
            owed: self.owed.clone(),
            by: with.by.clone(),
            at: with.at,
        });
        let mut session = Session::before_copy(identity.clone(), self.end(), self.timeline.clone());
        let mut records = vec![(session.apply(&origin), origin)];
        if let Some(moved) = session.stay_on(point.component, with.configured, with.at) {
            records.push((session.apply(&moved), moved));
        }
        (session, records)
    }
}
