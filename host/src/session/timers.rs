//! The clockwork: wakes the sessions whose timers are due.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::domain::{SessionId, UnixMillis};

use super::mailbox::Command;
use super::registry::Registry;
use super::shared::{Gate, Shared};

/// Sessions that are woken in one round.
const ROUND: usize = 256;
/// The longest sleep: the wall clock may be set forward meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub(super) async fn run(registry: &Registry) {
    let shared = &registry.shared;
    let mut gate = shared.gate.subscribe();
    loop {
        if gate.wait_for(|gate| *gate == Gate::Open).await.is_err() {
            return;
        }
        let set = shared.timers_set.notified();
        let wait = match shared.store.next_timer() {
            Ok(Some(due)) => Duration::from_millis(due.since(UnixMillis::now())),
            Ok(None) => LOOK_AGAIN,
            Err(error) => {
                tracing::warn!(%error, "timers cannot be read from the store");
                LOOK_AGAIN
            }
        };
        if wait.is_zero() {
            match fire(registry).await {
                Round::Stuck => tokio::time::sleep(LOOK_AGAIN).await,
                Round::Full => breathe(shared).await,
                Round::Last => {}
            }
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(wait.min(LOOK_AGAIN)) => {}
            () = set => {}
        }
    }
}

/// How a round of due timers went.
enum Round {
    /// Fewer were due than a round takes.
    Last,
    /// More may be due.
    Full,
    /// Somebody could not take its timer: a full disk, perhaps. Not in a tight loop.
    Stuck,
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

/// Delivers one round of due timers.
async fn fire(registry: &Registry) -> Round {
    let store = &registry.shared.store;
    let Ok(due) = store.timers_due(UnixMillis::now(), ROUND) else {
        return Round::Stuck;
    };
    let full = due.len() == ROUND;
    let first = due.first().cloned();
    let mut sessions: Vec<SessionId> = due.into_iter().map(|(id, _)| id).collect();
    sessions.sort();
    sessions.dedup();
    let wakings = sessions.into_iter().map(|id| async move {
        let (done, fired) = oneshot::channel();
        if registry.tell(&id, Command::FireTimers(done)).await.is_ok() {
            // An error means that the driver went; the next round finds the timer again.
            let _ = fired.await;
        }
    });
    // One session that is slow to wake holds up nobody else's timers: the next round asks again.
    let wakings = wakings.map(|waking| tokio::time::timeout(LOOK_AGAIN, waking));
    futures::future::join_all(wakings).await;
    let left = store.timers_due(UnixMillis::now(), 1);
    match left {
        Ok(left) if left.first() != first.as_ref() || first.is_none() => match full {
            true => Round::Full,
            false => Round::Last,
        },
        _ => Round::Stuck,
    }
}
