//! The workers that are started and not reaped, and when each is to be killed.

use std::collections::BTreeMap;

use super::event::{Action, ExitStatus, Millis, WorkerId};

/// The workers that are started and not reaped.
#[derive(Default)]
pub(super) struct Workers(BTreeMap<WorkerId, WorkerRecord>);

/// What is known of one.
#[derive(Default)]
pub(super) struct WorkerRecord {
    /// When it is killed, and why.
    due: Option<(Millis, String)>,
    /// When its silence becomes a hang.
    alive_by: Option<Millis>,
    /// Why it was killed.
    killed: Option<String>,
    /// What it said of its own failure, and with what code to exit for it.
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

    /// All but `kept`.
    pub(super) fn others(&self, kept: &[WorkerId]) -> Vec<WorkerId> {
        let all = self.0.keys().copied();
        all.filter(|id| !kept.contains(id)).collect()
    }

    /// Whether what a worker says still counts: not once it was killed.
    pub(super) fn is_trusted(&self, id: WorkerId) -> bool {
        self.0
            .get(&id)
            .is_some_and(|worker| worker.killed.is_none())
    }

    /// Sets a time to be killed at, unless there is an earlier one.
    pub(super) fn due(&mut self, id: WorkerId, at: Millis, why: &str) {
        if let Some(worker) = self.0.get_mut(&id)
            && worker.due.as_ref().is_none_or(|due| at < due.0)
        {
            worker.due = Some((at, why.to_owned()));
        }
    }

    /// Takes the time to be killed at back.
    pub(super) fn not_due(&mut self, id: WorkerId) {
        if let Some(worker) = self.0.get_mut(&id) {
            worker.due = None;
        }
    }

    /// Notes a sign of life; the next one must come until `by`.
    pub(super) fn alive(&mut self, id: WorkerId, by: Millis) {
        if let Some(worker) = self.0.get_mut(&id) {
            worker.alive_by = Some(by);
        }
    }

    /// A worker that has said its goodbye gives no signs of life any more.
    pub(super) fn need_not_be_alive(&mut self, id: WorkerId) {
        if let Some(worker) = self.0.get_mut(&id) {
            worker.alive_by = None;
        }
    }

    /// Notes what a worker says of its own failure.
    pub(super) fn failed(&mut self, id: WorkerId, reason: String, code: u8) {
        if let Some(worker) = self.0.get_mut(&id) {
            worker.failed = Some((reason, code));
        }
    }

    /// Kills one, once.
    pub(super) fn kill<C>(&mut self, id: WorkerId, why: &str, out: &mut Vec<Action<C>>) {
        if let Some(worker) = self.0.get_mut(&id)
            && worker.killed.is_none()
        {
            worker.killed = Some(why.to_owned());
            out.push(Action::Kill(id));
        }
    }

    /// Kills those whose time has come.
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

    /// The times at which one is to be killed.
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

    /// Whether it died by its own doing, and how it did, for people.
    pub(super) fn describe(&self, death: &ExitStatus) -> (bool, String) {
        let (own_doing, detail) = match (death, &self.killed) {
            (ExitStatus::Signal { fault: false, .. }, Some(why)) => {
                (true, format!("{why} and was ended"))
            }
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

    /// The exit code of a first boot that failed, as a shell would give it.
    pub(super) fn first_boot_code(&self, death: &ExitStatus) -> u8 {
        match (&self.failed, death) {
            (Some((_, code)), _) | (None, ExitStatus::Exited(code)) => *code,
            (None, ExitStatus::Signal { number, .. }) => number.saturating_add(128),
            (None, ExitStatus::NotStarted(_)) => 1,
        }
    }
}
