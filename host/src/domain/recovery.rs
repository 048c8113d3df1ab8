//! The recovery message and the notices about stopped turns, a cut history and a replaced state: which
//! session is owed one, and what it contains. Both are derived from the fold, never stored.

use super::{
    CutNotice, Generation, Interruption, Notice, OpenTurn, PastRestart, ReplacedNotice, Session,
    StoppedNotice, Untold,
};

impl Session {
    /// Returns the notice in front of the input of a turn that begins now, in this generation:
    /// about a restart, about stopped turns, about a cut of its history, about its state that was
    /// replaced, or about several of these.
    pub fn owed_notice(
        &self,
        generation: Generation,
        restarts: &[PastRestart],
        window_ms: u64,
    ) -> Option<Notice> {
        let restart = self.owed_restart(restarts, window_ms);
        let restarted = restart.is_some();
        let (stopped, cut) = (&self.progress.stopped, &self.progress.cut);
        let replaced = &self.progress.replaced;
        if stopped.is_none() && cut.is_none() && replaced.is_empty() {
            return restart;
        }
        let turns = (!stopped.is_none()).then(|| stopped.clone());
        Some(Notice {
            stopped: turns.map(|turns| Box::new(StoppedNotice { turns, restarted })),
            cut: cut
                .clone()
                .map(|cut| Box::new(CutNotice { cut, restarted })),
            replaced: (!replaced.is_empty()).then(|| {
                let replaced = replaced.clone();
                Box::new(ReplacedNotice {
                    replaced,
                    restarted,
                })
            }),
            timeline: self.progress.timeline.name().cloned(),
            ..restart.unwrap_or_else(|| Notice::without_restart(generation))
        })
    }

    /// Returns the recovery message in front of the input of a turn that begins now, or of the open
    /// turn that begins anew, in the last of `restarts` (oldest first). The guest is owed one if it
    /// has not seen that generation and, at the first restart since the generation it has seen, it
    /// had work open or had committed a turn within `window_ms` before.
    fn owed_restart(&self, restarts: &[PastRestart], window_ms: u64) -> Option<Notice> {
        let progress = &self.progress;
        let (first, last) = unseen(restarts, progress.seen)?;
        let open = progress.open.as_ref();
        let interrupted = open.is_some_and(|open| open.begun.runs_in() < last.generation);
        let mut waiting = self.queue.iter().chain(open.map(|open| &open.queued));
        let had_work = progress.owed
            || progress.untold.is_some()
            || interrupted
            || waiting.any(|queued| queued.at < first.at);
        let recent = progress
            .last_commit
            .is_some_and(|at| first.at.since(at) <= window_ms.saturating_add(first.ahead_ms));
        if !had_work && !recent {
            return None;
        }
        let (interruption, unknown_steps) = match &progress.untold {
            untold if interrupted => {
                let unknown = untold.as_ref().map(|untold| untold.unknown.clone());
                (Interruption::Rerun, unknown.unwrap_or_default())
            }
            Some(untold) => {
                let became = match untold.completed {
                    true => Interruption::Completed,
                    false => Interruption::Failed,
                };
                (became, untold.unknown.clone())
            }
            None => (Interruption::None, Vec::new()),
        };
        Some(Notice {
            cause: last.cause,
            generation: last.generation,
            interruption,
            unknown_steps,
            stopped: None,
            cut: None,
            replaced: None,
            timeline: progress.timeline.name().cloned(),
        })
    }

    /// Returns the recovery message that the open turn receives from its inbox, if it continues
    /// from its journal in a generation that it does not know of yet.
    pub fn owed_meanwhile(&self, restarts: &[PastRestart]) -> Option<Notice> {
        let open = self.progress.open.as_ref()?;
        let known = self.progress.seen.max(open.known());
        let (_, last) = unseen(restarts, known)?;
        Some(Notice {
            cause: last.cause,
            generation: last.generation,
            interruption: Interruption::Resumed,
            unknown_steps: open.journal.unknown.clone(),
            stopped: None,
            cut: None,
            replaced: None,
            timeline: self.progress.timeline.name().cloned(),
        })
    }
}

/// Returns the first restart after a generation, and the last one.
fn unseen(restarts: &[PastRestart], known: Generation) -> Option<(PastRestart, PastRestart)> {
    let first = restarts.iter().find(|r| r.generation > known)?;
    Some((*first, *restarts.last()?))
}

impl OpenTurn {
    /// Returns what the next recovery message must report about this turn, which now ends: it was
    /// resumed in a generation that the remaining state does not know of.
    pub(super) fn untold(&self, completed: bool) -> Option<Untold> {
        let resumed_in = self.begun.resumed_in?;
        let unaware = match completed {
            true => self.known() < resumed_in,
            false => self.begun.generation < resumed_in,
        };
        unaware.then(|| {
            let mut journal = self.journal.clone();
            if !completed {
                // The turn may have been cancelled in the middle of a step.
                journal.interrupt();
            }
            // The state that remains after a failed turn lacks what that turn was notified of.
            let reported = match completed {
                true => Vec::new(),
                false => journal.notified_unknown,
            };
            Untold {
                completed,
                unknown: [reported, journal.unknown].concat(),
            }
        })
    }

    pub(super) fn was_told(&self) -> bool {
        let notice = self.begun.notice.as_ref();
        notice.is_some_and(Notice::is_of_restart) || self.journal.notified.is_some()
    }

    /// Returns the last generation that its guest was notified of or began in.
    fn known(&self) -> Generation {
        let notified = self.begun.notice.as_ref().map(|notice| notice.generation);
        self.begun
            .generation
            .max(notified.max(self.journal.notified).unwrap_or_default())
    }
}

impl Untold {
    /// Combines the reports of two turns: the fate of the later one, and the unknown steps of both.
    pub(super) fn and(self, later: Self) -> Self {
        Self {
            completed: later.completed,
            unknown: [self.unknown, later.unknown].concat(),
        }
    }
}
