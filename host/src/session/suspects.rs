//! Turns that may be what takes the worker down begin one at a time.
//!
//! When a worker dies by its own doing, each turn that was open in it may be the cause, and the log
//! counts the death against all of them. Were they always begun together, the one that kills the
//! worker would take the others with it until all of their sessions are faulted. So a turn whose
//! next death would be its last begins only while no other such turn does. Turns that were open in
//! fewer deaths, or in none, begin beside it: where those are too much together, an innocent one may
//! still be faulted.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::domain::DEATHS_MAX;

/// How long a suspect runs alone at most: as long as a worker must have served for its death not to
/// count as a failed start. Were there no limit, a turn that waits for a model for minutes would
/// keep all others waiting.
const ALONE: Duration = Duration::from_secs(10);
/// How long a suspect that may not begin yet waits before it asks again.
pub(super) const SUSPECT_PAUSE: Duration = Duration::from_millis(50);
/// What the watchdog is told of a suspect that may not begin yet.
pub(super) const SUSPECT_WAITS: &str = "the worker died while this turn was running, as often as is allowed; such turns begin one \
     after the other";

/// Lets one suspect begin at a time.
pub(super) struct Suspects {
    permit: Arc<Semaphore>,
    /// See [`ALONE`].
    alone: Duration,
}

/// Whether a turn may begin.
pub(super) enum SuspectAdmission {
    Unsuspected,
    Alone(RunsAlone),
    /// Another suspect runs.
    Wait,
}

/// No other suspect begins while this value lives, up to [`ALONE`].
pub(super) struct RunsAlone {
    _over: oneshot::Sender<()>,
}

impl Suspects {
    pub(super) fn new() -> Self {
        Self {
            permit: Arc::new(Semaphore::new(1)),
            alone: ALONE,
        }
    }

    /// Admits a turn that was open in `deaths` deaths of a worker, if it may begin.
    pub(super) fn admit(&self, deaths: u32) -> SuspectAdmission {
        if !is_suspect(deaths) {
            return SuspectAdmission::Unsuspected;
        }
        // An error means that another one holds the permit: the semaphore is never closed.
        match self.permit.clone().try_acquire_owned() {
            Ok(permit) => SuspectAdmission::Alone(RunsAlone::holding(permit, self.alone)),
            Err(_) => SuspectAdmission::Wait,
        }
    }
}

/// Returns whether the next death would be one too many.
fn is_suspect(deaths: u32) -> bool {
    deaths + 1 >= DEATHS_MAX
}

impl RunsAlone {
    fn holding(permit: OwnedSemaphorePermit, alone: Duration) -> Self {
        let (over, ended) = oneshot::channel();
        tokio::spawn(async move {
            // Either way it ends: the time is up, or the sender was dropped.
            let _ = tokio::time::timeout(alone, ended).await;
            drop(permit);
        });
        Self { _over: over }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Admits a suspect, if it may begin.
    fn admit(suspects: &Suspects) -> Option<RunsAlone> {
        match suspects.admit(DEATHS_MAX - 1) {
            SuspectAdmission::Alone(alone) => Some(alone),
            SuspectAdmission::Wait => None,
            SuspectAdmission::Unsuspected => panic!("its next death is its last"),
        }
    }

    async fn admitted(suspects: &Suspects) -> RunsAlone {
        loop {
            match admit(suspects) {
                Some(alone) => return alone,
                None => tokio::task::yield_now().await,
            }
        }
    }

    #[tokio::test]
    async fn suspects_begin_one_after_the_other_and_others_at_once() {
        let suspects = Suspects::new();
        let first = admitted(&suspects).await;
        assert!(admit(&suspects).is_none());
        for deaths in 0..DEATHS_MAX - 1 {
            assert!(matches!(
                suspects.admit(deaths),
                SuspectAdmission::Unsuspected
            ));
        }
        drop(first);
        admitted(&suspects).await;
    }

    #[tokio::test]
    async fn a_suspect_that_has_survived_for_long_enough_runs_on_beside_the_next() {
        let suspects = Suspects {
            alone: Duration::from_millis(1),
            ..Suspects::new()
        };
        let first = admitted(&suspects).await;
        let second = admitted(&suspects).await;
        drop((first, second));
    }
}
