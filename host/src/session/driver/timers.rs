//! The session's timers: their deadlines, and the messages of those that are due.

use super::Driver;
use super::batch::CommitBatch;
use crate::domain::{ClockReading, LogPos, Record, TimerOp, TurnEnd, TurnEnded, UnixMillis};
use crate::store::EXPIRY_TIMER;

/// Returns the changes of timers that a record makes.
fn changes(record: &Record) -> &[TimerOp] {
    match record {
        Record::Created(created) => &created.timers,
        Record::Ended(TurnEnded {
            end: TurnEnd::Completed { timers, .. },
            ..
        }) => timers,
        _ => &[],
    }
}

impl Driver {
    /// Stages a record that changes timers, and keeps the deadlines of those that it sets. `read` is
    /// from when the guest's clock began to run.
    pub(super) fn stage_timers(
        &mut self,
        batch: &mut CommitBatch,
        record: Record,
        read: ClockReading,
    ) -> LogPos {
        let changes = changes(&record);
        for change in changes {
            let name = match change {
                TimerOp::Set(timer) => &timer.name,
                TimerOp::Cancel { name } => name,
            };
            self.forget_deadlines(|known| known == name);
        }
        for change in changes {
            if let TimerOp::Set(timer) = change {
                let deadlines = &self.shared.deadlines;
                deadlines.set(&self.id, &timer.name, timer.due, read);
            }
        }
        self.stage(batch, record)
    }

    /// Forgets the deadlines that a record makes useless, and keeps those of timers that return.
    pub(super) fn forget_ended(&self, record: &Record) {
        match record {
            Record::Closed(_) => self.forget_deadlines(|_| true),
            Record::Rewound(rewound) => {
                let dropped = |name: &str| rewound.dropped.iter().any(|timer| timer.name == name);
                self.forget_deadlines(dropped);
                let (deadlines, read) = (&self.shared.deadlines, ClockReading::now());
                for timer in &rewound.returned {
                    deadlines.set(&self.id, &timer.name, timer.due, read);
                }
            }
            Record::Decided(decided) => {
                let waiting = || {
                    let session = self.session.as_ref().into_iter();
                    session.flat_map(|session| session.progress.waiting())
                };
                let Some(asked) = waiting().find(|asked| asked.id == decided.id) else {
                    return;
                };
                // Approvals that are asked for at once may share their deadline.
                let due = asked.expires_at;
                if waiting().filter(|asked| asked.expires_at == due).count() == 1 {
                    self.shared.deadlines.forget(&self.id, EXPIRY_TIMER, due);
                }
            }
            _ => {}
        }
    }

    /// Forgets the deadlines of the session's timers whose name is meant.
    fn forget_deadlines(&self, is_meant: impl Fn(&str) -> bool) {
        let session = self.session.as_ref();
        let timers = session.map_or(&[][..], |session| &session.progress.timers);
        for timer in timers.iter().filter(|timer| is_meant(&timer.name)) {
            let deadlines = &self.shared.deadlines;
            deadlines.forget(&self.id, &timer.name, timer.due);
        }
    }

    /// Returns the present time by the setting of the clock by which the approvals that wait were
    /// asked for. A step asks for all of its approvals at once, so they have one.
    pub(super) fn approval_time(&self, now: ClockReading) -> UnixMillis {
        let waiting = self.session.as_ref().and_then(|session| {
            let mut waiting = session.progress.waiting();
            waiting.next().map(|approval| approval.expires_at)
        });
        waiting.map_or(now.wall, |expires_at| {
            let deadlines = &self.shared.deadlines;
            deadlines.time_of(&self.id, EXPIRY_TIMER, expires_at, now)
        })
    }

    pub(super) fn fire_timers(&mut self, batch: &mut CommitBatch) {
        let now = ClockReading::now();
        let limits = self.limits();
        let room = self.session.as_ref().map_or(0, |session| {
            let most = limits.inbox as usize + limits.timers as usize;
            most.saturating_sub(session.queue.len())
        });
        let shared = self.shared.clone();
        let deadlines = &shared.deadlines;
        let mut due = self.session.as_ref().map_or_else(Vec::new, |session| {
            let timers = session.progress.timers.iter();
            timers
                .filter(|timer| deadlines.left(&self.id, timer, now).is_zero())
                .cloned()
                .collect()
        });
        due.sort_by_key(|timer| timer.due);
        // The rest stays due: a guest that sets timers faster than it handles them delays only
        // itself.
        due.truncate(room);
        for timer in due {
            let session = self.session.as_ref();
            if let Some(record) = session.and_then(|s| s.fire_timer(&timer, now.wall)) {
                deadlines.forget(&self.id, &timer.name, timer.due);
                self.stage(batch, record);
            }
        }
    }
}
