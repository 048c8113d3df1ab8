//! A session as the fold over its log: `apply` is the only thing that changes one.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{
    Begun, Digest, Fault, FaultCode, Generation, MessageId, Notice, Record, Role, Timer, TimerOp,
    TurnEnd, UnixMillis,
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
    pub progress: Progress,
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
pub struct Progress {
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
            progress: Progress {
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
            Record::Begun(begun) => {
                let (queued, since) = match progress.open.take() {
                    Some(open) => (Some(open.queued), open.since),
                    None => (self.take_queued(&begun.message), at),
                };
                let progress = &mut self.progress;
                progress.last_turn = progress.last_turn.max(begun.turn);
                progress.open = queued.map(|queued| OpenTurn {
                    queued,
                    begun: begun.clone(),
                    since,
                    anew: false,
                });
            }
            Record::Ended(ended) => {
                progress.open = None;
                match &ended.end {
                    TurnEnd::Completed {
                        component,
                        schema,
                        timers,
                        generation,
                        notice,
                        received,
                        ..
                    } => {
                        progress.turns += 1;
                        progress.last_commit = Some(ended.at);
                        progress.seen = progress
                            .seen
                            .max(*generation)
                            .max(notice.as_ref().map_or(Generation(0), |n| n.generation));
                        progress.previous = Some(progress.snapshot);
                        progress.snapshot = SnapshotRef {
                            at,
                            component: *component,
                            schema: *schema,
                        };
                        progress.apply_timers(timers);
                        for message in received {
                            self.take_queued(message);
                        }
                    }
                    TurnEnd::Failed(_) => progress.dead_letters += 1,
                }
            }
            Record::Relabelled(relabelled) => self.identity.labels = relabelled.labels.clone(),
            Record::Faulted(faulted) => progress.fault = Some(faulted.fault.clone()),
            Record::Resumed(_) => {
                let fault = progress.fault.take().map(|fault| fault.code);
                let never_ran = matches!(fault, Some(FaultCode::Restore | FaultCode::Plugin));
                if let Some(open) = &mut progress.open {
                    open.begun.deaths = 0;
                    open.anew |= never_ran;
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
            Record::Closed(closed) => {
                progress.closed = Some(closed.at);
                progress.timers.clear();
            }
        }
        at
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

impl Progress {
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

impl Session {
    /// The recovery message for a turn that begins now in the last of `restarts` (oldest first),
    /// if the guest is owed one: it has not seen that generation, and at the first restart since
    /// what it has seen it had work open, or had committed a turn within `window_ms` before.
    pub fn owed_notice(&self, restarts: &[PastRestart], window_ms: u64) -> Option<Notice> {
        let unseen = restarts
            .iter()
            .position(|r| r.generation > self.progress.seen)?;
        let (first, last) = (restarts[unseen], restarts.last()?);
        let open = self
            .progress
            .open
            .as_ref()
            .filter(|o| o.begun.generation < last.generation);
        let waiting = self
            .queue
            .iter()
            .chain(self.progress.open.as_ref().map(|o| &o.queued));
        let had_work = open.is_some() || waiting.into_iter().any(|queued| queued.at < first.at);
        let recent = self
            .progress
            .last_commit
            .is_some_and(|at| first.at.since(at) <= window_ms);
        (had_work || recent).then(|| Notice {
            cause: last.cause,
            generation: last.generation,
            interruption: match open {
                Some(_) => super::Interruption::Rerun,
                None => super::Interruption::None,
            },
            unknown_steps: Vec::new(),
        })
    }
}
