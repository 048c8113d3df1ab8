//! The timer loop: wakes sessions whose timers are due.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::domain::{ClockReading, SessionId, Timer};
use crate::store::StoreError;

use super::drain::Gate;
use super::mailbox::DriverCommand;
use super::registry::Registry;
use super::shared::Shared;

/// The maximum number of due timers that are delivered in one round.
const ROUND: usize = 256;
/// The longest sleep. Bounded because the wall clock may be set forward meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A search that passes over more timers, which were set before the clock was set forward and are not
/// due yet, is followed by a rest of [`REST_FACTOR`] times as long.
const PASSED_OVER_MAX: usize = 1000;
/// See [`PASSED_OVER_MAX`].
const REST_FACTOR: u32 = 10;

pub(super) async fn run(registry: &Registry) {
    let shared = &registry.shared;
    let mut gate = shared.turns.gate.subscribe();
    // Sessions that could not take a timer, perhaps because their inbox or the disk is full. They
    // are skipped for a while, or they would block all others forever.
    let (mut stuck, mut since) = (HashSet::new(), Instant::now());
    loop {
        if gate.wait_for(|gate| *gate == Gate::Open).await.is_err() {
            return;
        }
        if since.elapsed() >= LOOK_AGAIN {
            stuck.clear();
            since = Instant::now();
        }
        // Registered before the timers are read, so that no notification is missed.
        let set = shared.timers_set.notified();
        let now = ClockReading::now();
        let began = Instant::now();
        match timers_due(shared, now, &stuck) {
            Ok(DueTimers {
                due,
                next,
                passed_over,
            }) if due.is_empty() => {
                if passed_over > PASSED_OVER_MAX {
                    let rest = began.elapsed() * REST_FACTOR;
                    tokio::time::sleep(rest.min(LOOK_AGAIN)).await;
                    continue;
                }
                tokio::select! {
                    () = tokio::time::sleep(next) => {}
                    () = set => {}
                }
            }
            Ok(DueTimers { due, .. }) => {
                deliver(registry, &due).await;
                let full = due.len() == ROUND;
                let left = timers_due(shared, now, &stuck).map(|found| found.due);
                let left = left.unwrap_or_default().into_iter();
                stuck.extend(left.filter(|timer| due.contains(timer)).map(|(id, _)| id));
                if full {
                    breathe(shared).await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "timers cannot be read from the store");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }
}

/// The outcome of a search for due timers.
struct DueTimers {
    /// At most [`ROUND`].
    due: Vec<(SessionId, Timer)>,
    /// How long it is until another one may be due, at most [`LOOK_AGAIN`].
    next: Duration,
    /// How many are not due although their stored time has come.
    passed_over: usize,
}

/// Searches for timers that are due, without those of the sessions in `stuck`.
fn timers_due(
    shared: &Shared,
    now: ClockReading,
    stuck: &HashSet<SessionId>,
) -> Result<DueTimers, StoreError> {
    let (mut next, mut passed_over) = (LOOK_AGAIN, 0);
    let latest = shared.deadlines.latest_due(now);
    let due = shared.store.timers_due(latest, ROUND, |id, timer| {
        let left = shared.deadlines.left(id, timer, now);
        if !left.is_zero() {
            next = next.min(left);
            passed_over += 1;
        }
        left.is_zero() && !stuck.contains(id)
    })?;
    if let Some(later) = shared.store.next_timer(latest)? {
        next = next.min(Duration::from_millis(later.since(now.wall)));
    }
    Ok(DueTimers {
        due,
        next,
        passed_over,
    })
}

/// Waits between two rounds. After a long downtime many timers are due at once. They are delivered
/// in rounds, each when most turns of the previous round have ended, so that no client's message
/// waits behind all of them; but at least one round every [`LOOK_AGAIN`], however long turns take.
async fn breathe(shared: &Shared) {
    let turns = &shared.turns;
    let calm = async {
        loop {
            let ended = turns.ended.notified();
            let busy = turns.running.load(Ordering::SeqCst) + turns.queued.load(Ordering::SeqCst);
            if busy <= ROUND as u64 / 2 {
                return;
            }
            ended.await;
        }
    };
    // An error means that the turns take longer than that.
    let _ = tokio::time::timeout(LOOK_AGAIN, calm).await;
}

/// Wakes the sessions of these timers.
async fn deliver(registry: &Registry, due: &[(SessionId, Timer)]) {
    let mut sessions: Vec<&SessionId> = due.iter().map(|(id, _)| id).collect();
    sessions.sort();
    sessions.dedup();
    let wakings = sessions.into_iter().map(|id| async move {
        let (done, fired) = oneshot::channel();
        if registry
            .tell(id, DriverCommand::FireTimers(done))
            .await
            .is_ok()
        {
            // An error means that the driver exited; the next round finds the timer again.
            let _ = fired.await;
        }
    });
    // A timeout, so that one slow session does not delay the timers of others: the next round tries
    // it again.
    let wakings = wakings.map(|waking| tokio::time::timeout(LOOK_AGAIN, waking));
    futures::future::join_all(wakings).await;
}
