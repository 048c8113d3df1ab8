//! The fold over a session's log: how each record changes the session.

use std::collections::VecDeque;

use super::{
    Approval, Begun, Cut, Digest, FaultCode, Generation, HistoryCut, Identity, LastTurn, LogPos,
    MadeCalls, MessageId, ModelUsage, OpenTurn, Origin, Progressed, Queued, Record, Rewound, Role,
    Session, SessionProgress, SessionTimeline, SnapshotRef, StoppedTurn, StoppedTurns, Timer,
    TimerOp, TurnEnd, TurnEnded,
};

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
                ..SessionProgress::new(
                    created.generation,
                    SnapshotRef {
                        at,
                        component: created.component,
                        schema: created.schema,
                    },
                )
            },
            queue: VecDeque::new(),
        };
        session.progress.apply_timers(&created.timers);
        Some(session)
    }

    /// Returns a session of which nothing is known but the history that a copy has: an `Origin` follows.
    pub(super) fn before_copy(identity: Identity, next: LogPos, timeline: SessionTimeline) -> Self {
        // The `Origin` says which it is.
        let snapshot = SnapshotRef {
            at: next,
            component: Digest::from_bytes([0; 32]),
            schema: 0,
        };
        Self {
            identity,
            progress: SessionProgress {
                next,
                timeline,
                ..SessionProgress::new(Generation::default(), snapshot)
            },
            queue: VecDeque::new(),
        }
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
                    open.usage.count(&done.result);
                    progress.usage.count(&done.result);
                    open.calls.done(done);
                    // What the host answers itself is no progress: every attempt asks for it again.
                    if open.journal.done(done) {
                        open.begun.deaths = 0;
                    }
                }
            }
            Record::Ended(ended) => self.ended(at, ended),
            Record::Relabelled(relabelled) => self.identity.labels = relabelled.labels.clone(),
            Record::Faulted(faulted) => {
                progress.fault = Some(faulted.fault.clone());
                // Whoever ends the fault has not said that a state may be lost.
                progress.adopted = None;
            }
            // One thing at a time: whoever ends a fault, an operator or a new component, may not know
            // of the cut.
            Record::Resumed(_) if progress.fault.is_none() => {
                if let Some(cut) = &mut progress.cut {
                    cut.held = false;
                }
            }
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
            Record::Cut(cut) => progress.cut(at, cut),
            Record::Moved(moved) => progress.move_to(moved),
            Record::Rewound(rewound) => progress.rewind(at, rewound),
            Record::Origin(origin) => self.begin_as_copy(at, origin),
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
                let notices = notice.as_deref().into_iter().chain(further_notices);
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
                if notice.iter().any(|notice| notice.cut.is_some()) {
                    progress.cut = None;
                }
                if notice.iter().any(|notice| notice.replaced.is_some()) {
                    progress.replaced.clear();
                }
                progress.adopted.take_if(|adopted| adopted == component);
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
                progress.failed_after_all(ended.turn, failure.code);
                let stopped = open.as_ref().and_then(|open| {
                    StoppedTurn::of(open.begun.turn, &open.about, &open.calls, failure)
                });
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

    /// The copied history ends: nothing that was open in it goes on.
    fn begin_as_copy(&mut self, at: LogPos, origin: &Origin) {
        self.identity = Identity {
            plugin: origin.plugin.clone(),
            args: origin.args.clone(),
            labels: origin.labels.clone(),
            created_at: origin.at,
            created_in: origin.generation,
        };
        self.queue.clear();
        let mut timeline = std::mem::take(&mut self.progress.timeline);
        if let Some(name) = &origin.timeline {
            timeline.begin(name.clone(), at.cursor);
        }
        let snapshot = SnapshotRef {
            at,
            component: origin.component,
            schema: origin.schema,
        };
        let mut replaced = origin.owed.replaced.clone();
        origin.replacement().add_to(&mut replaced);
        self.progress = SessionProgress {
            next: self.progress.next,
            turns: origin.turns,
            last_turn: origin.last_turn,
            last_commit: (origin.turns > 0).then_some(origin.at),
            stopped: origin.owed.effects.clone(),
            timeline,
            cut: origin.owed.cut.clone(),
            replaced,
            ..SessionProgress::new(origin.generation, snapshot)
        };
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
}

impl SessionProgress {
    /// Returns the progress of a session in which nothing has happened yet.
    fn new(seen: Generation, snapshot: SnapshotRef) -> Self {
        Self {
            next: LogPos::default(),
            turns: 0,
            last_turn: 0,
            seen,
            last_commit: None,
            open: None,
            timers: Vec::new(),
            fault: None,
            closed: None,
            dead_letters: 0,
            snapshot,
            previous: None,
            last: None,
            untold: None,
            owed: false,
            stopped: StoppedTurns::default(),
            answered: Vec::new(),
            usage: ModelUsage::default(),
            timeline: SessionTimeline::default(),
            cut: None,
            replaced: Vec::new(),
            pin: None,
            adopted: None,
        }
    }

    fn cut(&mut self, at: LogPos, cut: &Cut) {
        self.timeline.begin(cut.timeline.clone(), at.cursor);
        let before = self.cut.take();
        let cuts = before.as_ref().map_or(0, |before| before.cuts);
        let turn = self.open.as_ref().map(|open| open.begun.turn);
        self.cut = Some(HistoryCut {
            cause: cut.cause,
            detail: cut.detail.clone(),
            at: cut.at,
            turn: turn.or(before.and_then(|before| before.turn)),
            cuts: cuts.saturating_add(1),
            held: true,
        });
    }

    fn rewind(&mut self, at: LogPos, rewound: &Rewound) {
        self.adopted = None;
        self.previous = Some(self.snapshot);
        // No turn leads from one to the other.
        self.last = None;
        self.snapshot = SnapshotRef {
            at,
            component: rewound.component,
            schema: rewound.schema,
        };
        let gone = |timer: &Timer| rewound.dropped.contains(timer);
        self.timers.retain(|timer| !gone(timer));
        self.timers.extend(rewound.returned.iter().cloned());
        let owed = rewound.owed.clone();
        self.stopped = owed.effects;
        self.replaced = owed.replaced;
        rewound.replacement().add_to(&mut self.replaced);
        self.cut = self.cut.take().or(owed.cut);
    }

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
