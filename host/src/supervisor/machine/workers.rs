//! The workers that are started and not reaped yet, and the deadlines at which they are killed.

use std::collections::BTreeMap;

use super::event::{Action, ExitStatus, Millis, WorkerId};

/// How a worker died, if the kernel killed it because memory had run out. Workers recognise the
/// words in the detail of a [`StartCause`](crate::supervisor::StartCause) and in the records of
/// earlier starts, so they never change.
pub const KILLED_FOR_MEMORY: &str = "was killed by the kernel for want of memory";

/// How a worker died of a SIGKILL of which nobody knows who sent it. Never changes, as above.
pub const KILLED_BY_UNKNOWN: &str =
    "died of SIGKILL, and this system does not tell whether for want of memory";

/// The workers that are started and not reaped yet.
#[derive(Default)]
pub(super) struct Workers(BTreeMap<WorkerId, WorkerRecord>);

/// The state of one worker.
#[derive(Default)]
pub(super) struct WorkerRecord {
    /// When it will be killed, and why.
    due: Option<(Millis, String)>,
    /// When it counts as hung unless it sends `Alive` before.
    alive_by: Option<Millis>,
    /// Why it was killed, if it was.
    killed: Option<String>,
    /// The failure that it reported, and the exit code to use for it.
    failed: Option<(String, u8)>,
}

impl Workers {
    pub(super) fn insert(&mut self, id: WorkerId) {
        self.0.insert(id, WorkerRecord::default());
    }

    pub(super) fn remove(&mut self, id: WorkerId) -> Option<WorkerRecord> {
        self.0.remove(&id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn only_one(&self) -> bool {
        self.0.len() == 1
    }

    /// Returns all workers except `kept`.
    pub(super) fn others(&self, kept: &[WorkerId]) -> Vec<WorkerId> {
        let all = self.0.keys().copied();
        all.filter(|id| !kept.contains(id)).collect()
    }

    /// Returns whether a worker's messages still count: not after it was killed.
    pub(super) fn is_trusted(&self, id: WorkerId) -> bool {
        self.0
            .get(&id)
            .is_some_and(|worker| worker.killed.is_none())
    }

    /// Sets the deadline at which a worker is killed, unless it has an earlier one.
    pub(super) fn due(&mut self, id: WorkerId, at: Millis, why: &str) {
        if let Some(worker) = self.0.get_mut(&id)
            && worker.due.as_ref().is_none_or(|due| at < due.0)
        {
            worker.due = Some((at, why.to_owned()));
        }
    }

    /// Puts off the deadline at which a worker is killed, if it has one.
    pub(super) fn put_off(&mut self, id: WorkerId, at: Millis) {
        if let Some(worker) = self.0.get_mut(&id)
            && let Some(due) = &mut worker.due
        {
            due.0 = due.0.max(at);
        }
    }

    /// Removes the deadline at which a worker is killed.
    pub(super) fn not_due(&mut self, id: WorkerId) {
        if let Some(worker) = self.0.get_mut(&id) {
            worker.due = None;
        }
    }

    /// Records a heartbeat. The next one must arrive before `by`.
    pub(super) fn alive(&mut self, id: WorkerId, by: Millis) {
        if let Some(worker) = self.0.get_mut(&id) {
            worker.alive_by = Some(by);
        }
    }

    /// Stops expecting heartbeats of a worker, which has announced its exit.
    pub(super) fn need_not_be_alive(&mut self, id: WorkerId) {
        if let Some(worker) = self.0.get_mut(&id) {
            worker.alive_by = None;
        }
    }

    /// Records the failure that a worker reports.
    pub(super) fn failed(&mut self, id: WorkerId, reason: String, code: u8) {
        if let Some(worker) = self.0.get_mut(&id) {
            worker.failed = Some((reason, code));
        }
    }

    /// Kills a worker, unless it was killed already.
    pub(super) fn kill<C>(&mut self, id: WorkerId, why: &str, out: &mut Vec<Action<C>>) {
        if let Some(worker) = self.0.get_mut(&id)
            && worker.killed.is_none()
        {
            worker.killed = Some(why.to_owned());
            out.push(Action::Kill(id));
        }
    }

    /// Kills the workers whose deadline has passed, and those that are hung.
    pub(super) fn expire<C>(&mut self, now: Millis, out: &mut Vec<Action<C>>) {
        let late: Vec<(WorkerId, String)> = self
            .0
            .iter()
            .filter(|(_, worker)| worker.killed.is_none())
            .filter_map(|(id, worker)| match (&worker.due, worker.alive_by) {
                (Some((at, why)), _) if *at <= now => Some((*id, why.clone())),
                (_, Some(at)) if at <= now => Some((*id, "gave no sign of life".to_owned())),
                _ => None,
            })
            .collect();
        for (id, why) in late {
            out.push(Action::Log(Some(id), format!("{why}; ending it")));
            self.kill(id, &why, out);
        }
    }

    /// Returns all times at which a worker may have to be killed.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Millis> {
        self.0
            .values()
            .filter(|worker| worker.killed.is_none())
            .flat_map(|worker| [worker.due.as_ref().map(|due| due.0), worker.alive_by])
            .flatten()
    }
}

impl WorkerRecord {
    pub(super) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Returns whether it died by its own doing, and how it died, for humans.
    pub(super) fn describe(&self, death: &ExitStatus) -> (bool, String) {
        let (own_doing, detail) = match (death, &self.killed) {
            (ExitStatus::Signal { fault: false, .. } | ExitStatus::Unaccounted, Some(why)) => {
                (true, format!("{why} and was ended"))
            }
            // If it was being ended just then, the kernel was faster.
            (ExitStatus::OutOfMemory, _) => (true, KILLED_FOR_MEMORY.to_owned()),
            (ExitStatus::Unaccounted, None) => (false, KILLED_BY_UNKNOWN.to_owned()),
            (ExitStatus::Signal { fault, name, .. }, _) => (*fault, format!("died of {name}")),
            (ExitStatus::Exited(code), _) => (true, format!("exited with code {code}")),
            (ExitStatus::NotStarted(reason), _) => {
                (true, format!("could not be started: {reason}"))
            }
        };
        match &self.failed {
            Some((reason, _)) => (own_doing, format!("{detail}: {reason}")),
            None => (own_doing, detail),
        }
    }

    /// Returns the exit code of a failed first boot, by the conventions of a shell.
    pub(super) fn first_boot_code(&self, death: &ExitStatus) -> u8 {
        match (&self.failed, death) {
            (Some((_, code)), _) | (None, ExitStatus::Exited(code)) => *code,
            (None, ExitStatus::Signal { number, .. }) => number.saturating_add(128),
            // The convention for SIGKILL.
            (None, ExitStatus::OutOfMemory | ExitStatus::Unaccounted) => 137,
            (None, ExitStatus::NotStarted(_)) => 1,
        }
    }
}
