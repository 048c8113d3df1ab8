//! A session as the fold over its log: only [`Session::apply`] changes one.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{
    Approval, Begun, Digest, Fault, FaultCode, Generation, MadeCalls, MessageId, ModelUsage,
    Progressed, Record, Role, StoppedTurn, StoppedTurns, Timer, TimerOp, TurnEnd, TurnEnded,
    UnixMillis,
};

/// The position of a record in its session's log: after `cursor` events, as record number `seq`.
/// Both only grow, so positions order as records do, and the record that holds event `n` is the
/// last one whose `cursor` is below `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogPos {
    /// The number of events in the records before this one.
    pub cursor: u64,
    /// The number of records before this one.
    pub seq: u64,
}

/// The state of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// What rarely changes.
    pub identity: Identity,
    /// What every record changes.
    pub progress: SessionProgress,
    /// Messages that wait for their turn, without the open turn's own, oldest first. The store
    /// keeps each entry on its own, apart from the progress.
    pub queue: VecDeque<Queued>,
}

/// What the client specified when it created the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub plugin: String,
    /// The arguments, as one JSON value.
    pub args: String,
    /// The client's labels.
    pub labels: BTreeMap<String, String>,
    pub created_at: UnixMillis,
    /// The generation that created it.
    pub created_in: Generation,
}

/// How far a session has come, and what is open in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionProgress {
    /// The position of the next record: `next.cursor` is also the last event's cursor.
    pub next: LogPos,
    /// The number of completed turns.
    pub turns: u64,
    /// The number of the last turn that began.
    pub last_turn: u64,
    /// The newest generation that the guest knows of.
    pub seen: Generation,
    /// When a turn last committed.
    pub last_commit: Option<UnixMillis>,
    /// The turn that has begun and not ended.
    pub open: Option<OpenTurn>,
    /// Timers that are set.
    pub timers: Vec<Timer>,
    /// Why it cannot run, if it is faulted.
    pub fault: Option<Fault>,
    /// When it was closed, if it was.
    pub closed: Option<UnixMillis>,
    /// The number of dead letters.
    pub dead_letters: u64,
    /// The present snapshot.
    pub snapshot: SnapshotRef,
    /// The snapshot before it.
    pub previous: Option<SnapshotRef>,
    /// The turn that led from the previous snapshot to the present one.
    #[serde(default)]
    pub last: Option<LastTurn>,
    /// An interrupted turn that was resumed and ended before its guest was notified of the restart.
    #[serde(default)]
    pub untold: Option<Untold>,
    /// Whether a turn failed that had been notified of a restart, or had gone through one: the next
    /// turn must be notified again.
    #[serde(default)]
    pub owed: bool,
    /// Turns that were stopped after effects outside, and that no committed turn was notified of.
    #[serde(default, skip_serializing_if = "StoppedTurns::is_none")]
    pub stopped: StoppedTurns,
    /// The approvals of the last turn that ended: a late decision gets their status as its answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answered: Vec<Approval>,
    /// What its model calls have cost, including the open turn's.
    #[serde(default, skip_serializing_if = "ModelUsage::is_none")]
    pub usage: ModelUsage,
}

/// The last committed turn: with its journal it leads from the previous snapshot to the present
/// one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastTurn {
    pub turn: u64,
    /// The start of its journal: the `Begun` of the recorded attempt.
    pub from: LogPos,
    /// The position of its message.
    pub message: LogPos,
    /// The timers that were set when it began.
    pub timers: Vec<String>,
}

/// What the next recovery message must report about a turn that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untold {
    /// Whether it committed.
    pub completed: bool,
    /// Its steps with an unknown outcome.
    pub unknown: Vec<String>,
}

/// A reference to a snapshot, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRef {
    /// The position of the record that it is stored with.
    pub at: LogPos,
    /// The component that wrote it.
    pub component: Digest,
    /// The guest's schema of its data.
    pub schema: u32,
}

/// A turn that has begun and not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenTurn {
    /// Its message.
    pub queued: Queued,
    /// The `Begun` of its last attempt.
    pub begun: Begun,
    /// The position of its first `Begun`: messages that came later may steer the turn.
    #[serde(default)]
    pub since: LogPos,
    /// Whether its guest could not be restored yet, so that the next attempt may use another
    /// component.
    #[serde(default)]
    pub anew: bool,
    /// The start of its journal: the `Begun` of the recorded attempt.
    #[serde(default)]
    pub from: LogPos,
    /// The progress of its journal.
    #[serde(default)]
    pub journal: Progressed,
    /// The timers that were set when it began; they count towards a limit.
    #[serde(default)]
    pub timers: Vec<String>,
    /// The approvals that it asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
    /// What its model calls have cost, including earlier attempts.
    #[serde(default, skip_serializing_if = "ModelUsage::is_none")]
    pub usage: ModelUsage,
    /// The calls with which it has changed something outside, or may have, including earlier
    /// attempts.
    #[serde(default, skip_serializing_if = "MadeCalls::is_none")]
    pub calls: MadeCalls,
    /// The text of its message, shortened; known once it has made calls.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
}

/// A message in the inbox; its text is only in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    pub id: MessageId,
    pub from: Role,
    /// When it was accepted.
    pub at: UnixMillis,
    /// The position of the record that holds it.
    pub pos: LogPos,
}

impl Session {
    /// Creates the session from its first record; none if that is not a `Created`.
    pub fn create(record: &Record) -> Option<Self> {
        let Record::Created(created) = record else {
            return None;
        };
        let at = LogPos::default();
        let mut session = Self {
            identity: Identity {
                plugin: created.plugin.clone(),
                args: created.args.clone(),
                labels: created.labels.clone(),
                created_at: created.at,
                created_in: created.generation,
            },
            progress: SessionProgress {
                next: LogPos {
                    cursor: record.event_count(),
                    seq: 1,
                },
                turns: 0,
                last_turn: 0,
                seen: created.generation,
                last_commit: None,
                open: None,
                timers: Vec::new(),
                fault: None,
                closed: None,
                dead_letters: 0,
                snapshot: SnapshotRef {
                    at,
                    component: created.component,
                    schema: created.schema,
                },
                previous: None,
                last: None,
                untold: None,
                owed: false,
                stopped: StoppedTurns::default(),
                answered: Vec::new(),
                usage: ModelUsage::default(),
            },
            queue: VecDeque::new(),
        };
        session.progress.apply_timers(&created.timers);
        Some(session)
    }

    /// Applies the next record, and returns its position. Records come from the decisions of
    /// `lifecycle`, or from a log that those wrote: one that does not fit is ignored.
    pub fn apply(&mut self, record: &Record) -> LogPos {
        let at = self.progress.next;
        let progress = &mut self.progress;
        progress.next = LogPos {
            cursor: at.cursor + record.event_count(),
            seq: at.seq + 1,
        };
        match record {
            Record::Created(_) => {}
            Record::Received(received) => {
                let message = &received.message;
                if message.from == Role::Timer {
                    progress.timers.retain(|timer| {
                        message.name.as_ref() != Some(&timer.name) || message.due != Some(timer.due)
                    });
                }
                self.queue.push_back(Queued {
                    id: message.id.clone(),
                    from: message.from,
                    at: message.at,
                    pos: at,
                });
            }
            Record::Begun(begun) => self.begun(at, begun),
            Record::Planned(planned) => {
                if let Some(open) = progress.open.as_mut().filter(|o| o.is(planned.turn)) {
                    open.journal.plan(planned);
                    open.calls.plan(planned);
                    if !planned.about.is_empty() {
                        open.about.clone_from(&planned.about);
                    }
                }
            }
            Record::Done(done) => {
                if let Some(open) = progress.open.as_mut().filter(|o| o.is(done.turn)) {
                    open.usage.count(done);
                    progress.usage.count(done);
                    open.calls.done(done);
                    // What the host answers itself is no progress: every attempt asks for it again.
                    if open.journal.done(done) {
                        open.begun.deaths = 0;
                    }
                }
            }
            Record::Ended(ended) => self.ended(at, ended),
            Record::Relabelled(relabelled) => self.identity.labels = relabelled.labels.clone(),
            Record::Faulted(faulted) => progress.fault = Some(faulted.fault.clone()),
            Record::Resumed(_) => {
                let fault = progress.fault.take().map(|fault| fault.code);
                let never_ran = matches!(fault, Some(FaultCode::Restore | FaultCode::Plugin));
                if let Some(open) = &mut progress.open {
                    open.begun.deaths = 0;
                    // A turn that is bound to its journal is also bound to the component that wrote
                    // the journal.
                    open.anew |= never_ran && !open.resumes();
                }
            }
            Record::Discarded(discarded) => {
                if self.take_queued(&discarded.message).is_some() {
                    self.progress.dead_letters += 1;
                }
            }
            Record::Requeued(requeued) => {
                let message = &requeued.message;
                progress.dead_letters = progress.dead_letters.saturating_sub(1);
                self.queue.push_back(Queued {
                    id: message.id.clone(),
                    from: message.from,
                    at: requeued.at,
                    pos: at,
                });
            }
            Record::Asked(asked) => {
                if let Some(open) = progress.open.as_mut().filter(|o| o.is(asked.turn)) {
                    open.approvals.push(Approval::of(asked));
                }
            }
            Record::Decided(decided) => {
                let open = progress.open.iter_mut();
                let mut known = open.flat_map(|open| &mut open.approvals);
                if let Some(approval) = known.find(|known| known.id == decided.id) {
                    approval.decide(decided);
                }
            }
            Record::Closed(closed) => {
                progress.closed = Some(closed.at);
                progress.timers.clear();
            }
        }
        at
    }

    fn begun(&mut self, at: LogPos, begun: &Begun) {
        let timers = || self.progress.timers.iter().map(|timer| timer.name.clone());
        let open = match self.progress.open.take() {
            Some(mut open) if begun.resumed_in.is_some() => {
                open.journal.interrupt();
                OpenTurn {
                    begun: begun.clone(),
                    anew: false,
                    ..open
                }
            }
            open => {
                let timers = timers().collect();
                let usage = open.as_ref().map_or_else(ModelUsage::default, |o| o.usage);
                let (queued, since, mut calls, about) = match open {
                    Some(open) => (Some(open.queued), open.since, open.calls, open.about),
                    None => {
                        let queued = self.take_queued(&begun.message);
                        (queued, at, MadeCalls::default(), String::new())
                    }
                };
                calls.give_up();
                let Some(queued) = queued else { return };
                OpenTurn {
                    queued,
                    begun: begun.clone(),
                    since,
                    anew: false,
                    from: at,
                    journal: Progressed::default(),
                    timers,
                    approvals: Vec::new(),
                    usage,
                    calls,
                    about,
                }
            }
        };
        self.progress.last_turn = self.progress.last_turn.max(begun.turn);
        self.progress.open = Some(open);
    }

    fn ended(&mut self, at: LogPos, ended: &TurnEnded) {
        let progress = &mut self.progress;
        let open = progress.open.take();
        progress.answered = open.as_ref().map_or_else(Vec::new, |o| o.approvals.clone());
        let untold = open
            .as_ref()
            .and_then(|open| open.untold(matches!(ended.end, TurnEnd::Completed { .. })));
        match &ended.end {
            TurnEnd::Completed {
                component,
                schema,
                timers,
                generation,
                notice,
                further_notices,
                received,
                ..
            } => {
                progress.turns += 1;
                progress.last_commit = Some(ended.at);
                let notices = notice.iter().chain(further_notices);
                let notified = notices.map(|notice| notice.generation).max();
                progress.seen = progress
                    .seen
                    .max(*generation)
                    .max(notified.unwrap_or_default());
                progress.untold = untold;
                progress.owed = false;
                if notice.iter().any(|notice| notice.stopped.is_some()) {
                    progress.stopped = StoppedTurns::default();
                }
                progress.previous = Some(progress.snapshot);
                progress.snapshot = SnapshotRef {
                    at,
                    component: *component,
                    schema: *schema,
                };
                progress.last = open.map(|open| LastTurn {
                    turn: ended.turn,
                    from: open.from,
                    message: open.queued.pos,
                    timers: open.timers,
                });
                progress.apply_timers(timers);
                for message in received {
                    self.take_queued(message);
                }
            }
            TurnEnd::Failed(failure) => {
                progress.dead_letters += 1;
                let stopped = open.as_ref().and_then(|o| StoppedTurn::of(o, failure));
                if let Some(stopped) = stopped {
                    progress.stopped.add(stopped);
                }
                // The state that had been notified is lost with the failed turn.
                progress.owed |= open.is_some_and(|open| open.was_told() || untold.is_some());
                let before = progress.untold.take();
                progress.untold = match (before, untold) {
                    (Some(before), Some(untold)) => Some(before.and(untold)),
                    (before, untold) => untold.or(before),
                };
            }
        }
    }

    /// Whether a turn of it should run now, without anybody having to act first.
    pub fn has_work(&self) -> bool {
        let progress = &self.progress;
        progress.closed.is_none()
            && progress.fault.is_none()
            && !progress.is_parked()
            && (progress.open.is_some() || !self.queue.is_empty())
    }

    pub fn extent(&self) -> super::Extent {
        super::Extent {
            turns: self.progress.turns,
            seq: self.progress.next.seq,
            cursor: self.progress.next.cursor,
        }
    }

    pub fn cursor(&self) -> u64 {
        self.progress.next.cursor
    }

    fn take_queued(&mut self, id: &MessageId) -> Option<Queued> {
        let at = self.queue.iter().position(|queued| queued.id == *id)?;
        self.queue.remove(at)
    }
}

impl OpenTurn {
    fn is(&self, turn: u64) -> bool {
        self.begun.turn == turn
    }

    /// Whether the next attempt resumes from the journal instead of from the snapshot alone.
    pub fn resumes(&self) -> bool {
        // What is executed must be exactly what a human was shown.
        self.journal.binds() || !self.approvals.is_empty()
    }
}

impl SessionProgress {
    fn apply_timers(&mut self, ops: &[TimerOp]) {
        for op in ops {
            let name = match op {
                TimerOp::Set(timer) => &timer.name,
                TimerOp::Cancel { name } => name,
            };
            self.timers.retain(|timer| timer.name != *name);
            if let TimerOp::Set(timer) = op {
                self.timers.push(timer.clone());
            }
        }
    }
}

/// A restart, as far as sessions need to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastRestart {
    /// The generation that it brought up.
    pub generation: Generation,
    pub cause: super::Cause,
    /// When it was decided, or for a crash, noticed.
    pub at: UnixMillis,
}
