//! A session as the fold over its log: `apply` is the only thing that changes one.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{
    Approval, Begun, Digest, Fault, FaultCode, Generation, MadeCalls, MessageId, ModelUsage,
    Progressed, Record, Role, StoppedTurn, StoppedTurns, Timer, TimerOp, TurnEnd, TurnEnded,
    UnixMillis,
};

/// Where a record stands in its session's log: behind `cursor` events, as number `seq`. Both only
/// grow, so positions order as records do, and the record that tells event `n` is the last one
/// whose `cursor` is below `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogPos {
    /// Events told by the records before this one.
    pub cursor: u64,
    /// Records before this one.
    pub seq: u64,
}

/// What a session is and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// What hardly ever changes.
    pub identity: Identity,
    /// What every record changes.
    pub progress: SessionProgress,
    /// Messages that wait for their turn, the open turn's own excluded, oldest first. Kept by the
    /// store entry by entry, not with the progress.
    pub queue: VecDeque<Queued>,
}

/// What the client said when it created the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The plugin's name.
    pub plugin: String,
    /// One JSON value.
    pub args: String,
    /// The client's labels.
    pub labels: BTreeMap<String, String>,
    /// When.
    pub created_at: UnixMillis,
    /// The generation that created it.
    pub created_in: Generation,
}

/// Where a session stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionProgress {
    /// The position of the next record: `next.cursor` is also the last event's cursor.
    pub next: LogPos,
    /// Completed turns.
    pub turns: u64,
    /// The number of the last turn that began.
    pub last_turn: u64,
    /// The last generation whose coming the guest knows of.
    pub seen: Generation,
    /// When a turn last committed.
    pub last_commit: Option<UnixMillis>,
    /// The turn that has begun and not ended.
    pub open: Option<OpenTurn>,
    /// Timers that are set.
    pub timers: Vec<Timer>,
    /// Why it cannot run.
    pub fault: Option<Fault>,
    /// When it was closed.
    pub closed: Option<UnixMillis>,
    /// Dead letters there are.
    pub dead_letters: u64,
    /// The record that the present snapshot stands with.
    pub snapshot: SnapshotRef,
    /// The one before it.
    pub previous: Option<SnapshotRef>,
    /// The turn that made the present snapshot of the previous one.
    #[serde(default)]
    pub last: Option<LastTurn>,
    /// An interrupted turn that went on and ended before its guest could be told of it.
    #[serde(default)]
    pub untold: Option<Untold>,
    /// A turn that had been told of a restart, or had lived through one, has failed: the next one
    /// is to be told again.
    #[serde(default)]
    pub owed: bool,
    /// Turns that were stopped after they had done something, of which no turn that stands has been
    /// told.
    #[serde(default, skip_serializing_if = "StoppedTurns::is_none")]
    pub stopped: StoppedTurns,
    /// The approvals of the last turn that ended with some: a late answer is told what became of
    /// them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answered: Vec<Approval>,
    /// What its model calls have cost, those of the open turn too.
    #[serde(default, skip_serializing_if = "ModelUsage::is_none")]
    pub usage: ModelUsage,
}

/// The last committed turn: with the previous snapshot and its journal it gives the present one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastTurn {
    /// Its number.
    pub turn: u64,
    /// Where its journal begins, with the `Begun` of the attempt that is recorded.
    pub from: LogPos,
    /// Where its message stands.
    pub message: LogPos,
    /// The timers that were set when it began.
    pub timers: Vec<String>,
}

/// What the next recovery message must say of a turn that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untold {
    /// It committed.
    pub completed: bool,
    /// What of it nobody knows the outcome of.
    pub unknown: Vec<String>,
}

/// Which snapshot, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRef {
    /// The position of the record that it stands with.
    pub at: LogPos,
    /// The component that wrote it.
    pub component: Digest,
    /// The guest's schema.
    pub schema: u32,
}

/// A turn that has begun and not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenTurn {
    /// Its message.
    pub queued: Queued,
    /// How its last attempt began.
    pub begun: Begun,
    /// Where its first attempt's record stands: what came since may steer it.
    #[serde(default)]
    pub since: LogPos,
    /// Its guest could never be restored: the next attempt may use another component.
    #[serde(default)]
    pub anew: bool,
    /// Where its journal begins: with the `Begun` of the attempt that is recorded.
    #[serde(default)]
    pub from: LogPos,
    /// What of it is in the journal.
    #[serde(default)]
    pub journal: Progressed,
    /// The timers that were set when it began, for they count towards a limit.
    #[serde(default)]
    pub timers: Vec<String>,
    /// What it asked, or asks, a human.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
    /// What its model calls have cost, those of older attempts too.
    #[serde(default, skip_serializing_if = "ModelUsage::is_none")]
    pub usage: ModelUsage,
    /// What it has done outside, or may have, older attempts too.
    #[serde(default, skip_serializing_if = "MadeCalls::is_none")]
    pub calls: MadeCalls,
    /// What its message says, shortened; known once it has calls.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
}

/// A message in the inbox; its text stays in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// The message's id.
    pub id: MessageId,
    /// Who sent it.
    pub from: Role,
    /// When it was accepted.
    pub at: UnixMillis,
    /// The record that holds it.
    pub pos: LogPos,
}

impl Session {
    /// The session that its first record makes; none if that is not a `Created`.
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

    /// Takes in the next record, and says where it stands. Records come from the decisions of
    /// `lifecycle`, or from a log that those wrote: what does not fit is ignored, not guessed at.
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
                    // What the host answers itself is no progress: every attempt asks it anew.
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
                    // What is bound to its journal is bound to the component that it was made with.
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
                let told = notices.map(|notice| notice.generation).max();
                progress.seen = progress.seen.max(*generation).max(told.unwrap_or_default());
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
                // Its state, which had been told, is not what goes on.
                progress.owed |= open.is_some_and(|open| open.was_told() || untold.is_some());
                let before = progress.untold.take();
                progress.untold = match (before, untold) {
                    (Some(before), Some(untold)) => Some(before.and(untold)),
                    (before, untold) => untold.or(before),
                };
            }
        }
    }

    /// Whether a turn of it should run: nobody has to act before.
    pub fn has_work(&self) -> bool {
        let progress = &self.progress;
        progress.closed.is_none()
            && progress.fault.is_none()
            && !progress.is_parked()
            && (progress.open.is_some() || !self.queue.is_empty())
    }

    /// How far it has come.
    pub fn extent(&self) -> super::Extent {
        super::Extent {
            turns: self.progress.turns,
            seq: self.progress.next.seq,
            cursor: self.progress.next.cursor,
        }
    }

    /// The cursor of the last event.
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

    /// Whether the next attempt goes on from the journal instead of from the snapshot alone.
    pub fn resumes(&self) -> bool {
        // What a human was shown must be what is done.
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

/// What a restart was, as far as sessions care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastRestart {
    /// The generation that it brought up.
    pub generation: Generation,
    /// Why.
    pub cause: super::Cause,
    /// When it was decided (a crash: when it was noticed).
    pub at: UnixMillis,
}
