//! The clockwork: wakes the sessions whose timers are due.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::domain::{SessionId, Timer, UnixMillis};

use super::mailbox::DriverCommand;
use super::registry::Registry;
use super::shared::{Gate, Shared};

/// Sessions that are woken in one round.
const ROUND: usize = 256;
/// The longest sleep: the wall clock may be set forward meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub(super) async fn run(registry: &Registry) {
    let shared = &registry.shared;
    let mut gate = shared.gate.subscribe();
    // Sessions that could not take a timer (their inbox is full, perhaps, or the disk): passed over
    // for a while, or they would stand in front of all others for ever.
    let (mut stuck, mut since) = (HashSet::new(), Instant::now());
    loop {
        if gate.wait_for(|gate| *gate == Gate::Open).await.is_err() {
            return;
        }
        if since.elapsed() >= LOOK_AGAIN {
            stuck.clear();
            since = Instant::now();
        }
        let set = shared.timers_set.notified();
        let now = UnixMillis::now();
        match shared.store.timers_due(now, ROUND, &stuck) {
            Ok(due) if due.is_empty() => {
                let next = shared.store.next_timer().ok().flatten();
                let wait = next.map_or(0, |due| due.since(now));
                let wait = match wait {
                    0 => LOOK_AGAIN,
                    wait => Duration::from_millis(wait).min(LOOK_AGAIN),
                };
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = set => {}
                }
            }
            Ok(due) => {
                deliver(registry, &due).await;
                let full = due.len() == ROUND;
                let left = shared.store.timers_due(now, ROUND, &stuck);
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

/// After a long downtime many timers are late at once. They come in rounds, each when most turns of
/// the one before are through, so that no client's message waits behind all of them; but a round
/// at least every [`LOOK_AGAIN`], whatever turns take.
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
    // An error means that these turns take long.
    let _ = tokio::time::timeout(LOOK_AGAIN, calm).await;
}

/// Wakes the sessions whose timers these are.
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
            // An error means that the driver went; the next round finds the timer again.
            let _ = fired.await;
        }
    });
    // One session that is slow to wake holds up nobody else's timers: the next round asks again.
    let wakings = wakings.map(|waking| tokio::time::timeout(LOOK_AGAIN, waking));
    futures::future::join_all(wakings).await;
}
