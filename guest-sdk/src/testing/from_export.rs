//! A harness that goes on with an exported session.

use super::export::SessionExport;
use super::harness::{Harness, SNAPSHOT_MAX, TICK_MS};
use crate::{Context, Plugin, RestoreError};

impl<P: Plugin> Harness<P> {
    /// Creates a session from an export: with its state, which
    /// [`migrate`](crate::Plugin::migrate) converts if an older schema wrote it, and with its id,
    /// arguments and timers. The times of its messages go on from when the state was saved.
    ///
    /// It is the session itself that goes on here, as if nothing had happened. A daemon that
    /// imports the export makes a copy instead: it sets no timers, and tells the next turn so, by a
    /// recovery message with the cause [`Operator`](crate::Cause::Operator).
    ///
    /// # Errors
    /// The error with which the plugin rejects the state.
    pub fn from_export(export: &SessionExport) -> Result<Self, RestoreError> {
        let mut harness = Self::from_snapshot(export.state.clone())?;
        harness.context = Context {
            session: export.session.clone(),
            plugin: export.plugin.clone(),
            args: export.args.clone(),
        };
        let timers = export.timers.iter().cloned();
        harness.timers = timers.map(|timer| (timer.name.clone(), timer)).collect();
        // A state may have times in it, before which no message may come.
        harness.messages = export.taken_at_ms / TICK_MS;
        Ok(harness)
    }

    /// Whether a snapshot may be over the default limit. If the last one is, it is of a session
    /// whose limit is higher, and nothing says how high.
    pub(super) fn has_higher_limit(&self) -> bool {
        let last = self.snapshot.as_ref();
        last.is_some_and(|state| state.data.len() > SNAPSHOT_MAX)
    }
}
