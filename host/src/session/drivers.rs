//! The drivers that are running: one per session in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::domain::SessionId;

use super::mailbox::DriverCommand;

/// The capacity of a session's mailbox: how many requests queue for its driver before senders feel
/// backpressure.
const MAILBOX: usize = 256;

/// The mailboxes of the sessions that are in memory.
#[derive(Clone, Default)]
pub(super) struct Drivers(Arc<Mutex<HashMap<SessionId, mpsc::Sender<DriverCommand>>>>);

impl Drivers {
    /// Returns the session's mailbox; has `start` start a driver on it if the session has none.
    pub(super) fn mailbox(
        &self,
        id: &SessionId,
        start: impl FnOnce(mpsc::Receiver<DriverCommand>),
    ) -> mpsc::Sender<DriverCommand> {
        let mut drivers = self.lock();
        // A closed mailbox belongs to a driver that panicked: replace it.
        if let Some(mailbox) = drivers.get(id).filter(|mailbox| !mailbox.is_closed()) {
            return mailbox.clone();
        }
        let (mailbox, commands) = mpsc::channel(MAILBOX);
        drivers.insert(id.clone(), mailbox.clone());
        start(commands);
        mailbox
    }

    /// Removes an idle driver, unless (`false`) anybody else holds its mailbox: a message may be on
    /// its way. Mailboxes are cloned only under this lock, so the count cannot grow meanwhile.
    pub(super) fn retire(&self, id: &SessionId, commands: &mpsc::Receiver<DriverCommand>) -> bool {
        let mut drivers = self.lock();
        let unused = commands.is_empty() && commands.sender_strong_count() == 1;
        if unused {
            drivers.remove(id);
        }
        unused
    }

    /// Removes a driver whose mailbox is closed because the worker shuts down.
    pub(super) fn remove(&self, id: &SessionId, commands: &mpsc::Receiver<DriverCommand>) {
        if commands.is_closed() {
            self.lock().remove(id);
        }
    }

    /// Returns whether the session has a live driver.
    pub(super) fn has(&self, id: &SessionId) -> bool {
        self.lock()
            .get(id)
            .is_some_and(|mailbox| !mailbox.is_closed())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, mpsc::Sender<DriverCommand>>> {
        // Poisoning is harmless: every change is one call, so the map is never half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
