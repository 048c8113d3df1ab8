//! Rewinding a session to an earlier point. This code is pure: it returns the records, and what they mean
//! for the caller. The log only grows: what is undone stays in it, and in the events that clients have
//! seen.

use serde::{Deserialize, Serialize};

use super::owed::ToldTurns;
use super::{
    Digest, FailureCode, HistoryCut, Moved, Owed, Point, Record, Refusal, Resumed, Rewound,
    Session, StoppedTurn, StoppedTurns, Timer, TurnFailure, UnixMillis,
};

/// Why a turn that had committed counts as stopped.
const UNDONE: &str = "it was undone, as the session was rewound to before it";

/// A point to rewind to, and what is needed to decide what that means.
#[derive(Clone, Debug)]
pub struct Rewinding<'a> {
    pub point: &'a Point,
    /// The points that were taken after it.
    pub later: &'a [Point],
    /// The timers that are known to have fired since.
    pub fired: &'a [Timer],
    /// The component of the session's plugin.
    pub configured: Digest,
    /// Who asks for it: an access token's name, `config` or `@local`.
    pub by: Option<String>,
    pub at: UnixMillis,
}

/// What a rewind has done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RewoundTo {
    /// The cursor of the point.
    pub cursor: u64,
    /// The turn after which the session was so; 0 before its first one.
    pub turn: u64,
    /// The turn that was open, and was ended as by a cancel; none if none was.
    pub cancelled: Option<u64>,
    /// The timers that were set since, and are not any more.
    pub dropped_timers: Vec<Timer>,
    /// The timers of that time that were cancelled since, and are set again.
    pub returned_timers: Vec<Timer>,
    /// The timers of that time that have fired since, or were cancelled and would be due by now: they do
    /// not fire again.
    pub fired_timers: Vec<Timer>,
    /// How many of the undone turns, at least, have changed something outside, or may have: the next turn
    /// is told of them.
    pub turns_with_effects: u64,
}

impl RewoundTo {
    /// Returns what these records, of [`Session::rewind`], have done.
    pub fn by(records: &[Record]) -> Self {
        let mut done = Self::default();
        for record in records {
            match record {
                Record::Ended(ended) => done.cancelled = Some(ended.turn),
                Record::Rewound(rewound) => {
                    let rewound = rewound.clone();
                    done.cursor = rewound.cursor;
                    done.turn = rewound.turn;
                    done.dropped_timers = rewound.dropped;
                    done.returned_timers = rewound.returned;
                    done.fired_timers = rewound.fired;
                    done.turns_with_effects = rewound.turns_with_effects;
                }
                _ => {}
            }
        }
        done
    }
}

impl Session {
    /// Returns the restore point of the present state, right after the record that its snapshot is stored
    /// with was applied. `turn` is the turn after which the session was so; `since` is what that turn did
    /// outside and was told.
    pub fn point(&self, turn: u64, bytes: usize, since: Owed, taken_at: UnixMillis) -> Point {
        let progress = &self.progress;
        Point {
            at: progress.snapshot.at,
            cursor: progress.next.cursor,
            turn,
            turns: progress.turns,
            last_turn: progress.last_turn,
            component: progress.snapshot.component,
            schema: progress.snapshot.schema,
            bytes: bytes as u64,
            taken_at,
            timers: progress.timers.clone(),
            owed: self.owed(),
            since,
            before_change: false,
            before_act: None,
        }
    }

    /// Returns what its guest has yet to be told, beside restarts.
    fn owed(&self) -> Owed {
        let progress = &self.progress;
        Owed {
            effects: progress.stopped.clone(),
            replaced: progress.replaced.clone(),
            cut: progress
                .cut
                .clone()
                .map(|cut| HistoryCut { held: false, ..cut }),
        }
    }

    /// Returns what would have to be told if the open turn were undone after its commit: what it did
    /// outside, and what it was told.
    pub fn told_by_commit(&self) -> Owed {
        let Some(open) = &self.progress.open else {
            return Owed::default();
        };
        let notice = open.begun.notice.as_ref();
        let told = notice.and_then(|notice| notice.stopped.as_ref());
        let mut effects = told.map_or_else(StoppedTurns::default, |told| told.turns.clone());
        let turn = StoppedTurn::committed(open.begun.turn, &open.about, &open.calls);
        turn.into_iter().for_each(|turn| effects.add(turn));
        Owed {
            effects,
            // What was told of a state that was replaced goes with the point of that state.
            replaced: Vec::new(),
            cut: notice.and_then(|notice| notice.cut.as_ref().map(|told| told.cut.clone())),
        }
    }

    /// Returns the records that rewind the session: the open turn ends as by a cancel, a fault ends, the
    /// session stays on the component of the point if its plugin has another one, and its state is that of
    /// the point. A snapshot must be stored with the last of them. Messages in the inbox stay.
    pub fn rewind(&self, with: &Rewinding<'_>) -> Result<Vec<Record>, Refusal> {
        self.alive()?;
        let Rewinding { point, at, .. } = *with;
        if point.at == self.progress.snapshot.at && self.progress.open.is_none() {
            return Err(Refusal::NothingToUndo);
        }
        let failure = TurnFailure {
            code: FailureCode::Cancelled,
            text: "the turn was cancelled, as the session was rewound".to_owned(),
        };
        let mut records = self.end_open(failure, at);
        if self.progress.fault.is_some() {
            records.push(Record::Resumed(Resumed { at }));
        }
        records.extend(self.stay_on(point.component, with.configured, at));
        let mut after = self.clone();
        for record in &records {
            after.apply(record);
        }
        let present = &after.progress.timers;
        let missing = || point.timers.iter().filter(|timer| !present.contains(timer));
        // The log may be trimmed, so that not all that have fired are known; the clock may have been set
        // back, so that one that has fired would be due later.
        let has_fired = |timer: &Timer| with.fired.contains(timer) || timer.due <= at;
        let split = |fired: bool| -> Vec<Timer> {
            let wanted = missing().filter(|timer| has_fired(timer) == fired);
            wanted.cloned().collect()
        };
        let (owed, turns_with_effects) = after.owed_after(point, with.later, UNDONE);
        let dropped = present.iter().filter(|timer| !point.timers.contains(timer));
        records.push(Record::Rewound(Rewound {
            to: point.at,
            cursor: point.cursor,
            turn: point.turn,
            component: point.component,
            schema: point.schema,
            dropped: dropped.cloned().collect(),
            returned: split(false),
            fired: split(true),
            owed,
            turns_with_effects,
            by: with.by.clone(),
            at,
        }));
        Ok(records)
    }

    /// Returns the move by which a session that gets a state of the component `of` runs on it, where its
    /// plugin has `configured`; none if it does anyway.
    pub(super) fn stay_on(&self, of: Digest, configured: Digest, at: UnixMillis) -> Option<Record> {
        let is_pinned = self.progress.pin.is_some();
        let refused = (of != configured).then_some(configured);
        let reason = match refused {
            Some(_) => "its state is that of this component, and goes on there until it is moved",
            None => "",
        };
        (is_pinned || refused.is_some()).then(|| {
            Record::Moved(Moved {
                component: of,
                refused,
                reason: reason.to_owned(),
                takes_over: None,
                at,
            })
        })
    }

    /// Returns what a guest must be told that gets the state of the point: what that had yet to be told, and
    /// what came after it; and how many turns of the latter did something outside.
    pub(super) fn owed_after(&self, point: &Point, later: &[Point], why: &str) -> (Owed, u64) {
        let mut told = ToldTurns::default();
        let present = self.owed();
        let came_after = |stopped: &StoppedTurn| stopped.turn > point.turn;
        told.add(&point.owed.effects, why, |_| true);
        let before = told.count();
        for point in later {
            told.add(&point.since.effects, why, came_after);
        }
        told.add(&present.effects, why, came_after);
        let after = told.count() - before;
        let cuts = later.iter().rev().map(|point| &point.since.cut);
        let mut cuts = std::iter::once(&present.cut)
            .chain(cuts)
            .chain([&point.owed.cut]);
        let owed = Owed {
            effects: told.effects,
            replaced: point.owed.replaced.clone(),
            cut: cuts.find_map(Clone::clone),
        };
        (owed, after)
    }
}
