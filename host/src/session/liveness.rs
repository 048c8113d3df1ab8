//! Liveness of the sessions in memory, for the watchdog: how long a driver has been busy with one
//! thing, how long there has been work that does not run, and how long a turn and its step have
//! run. Each driver updates a state of its own, so its lock is rarely contended and costs next to
//! nothing; the watchdog reads them once a second.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::{SessionId, SessionSigns, Timed, TurnSigns};

/// The liveness of all sessions in memory.
#[derive(Default)]
pub(super) struct LivenessTable {
    pulses: Mutex<HashMap<u64, Arc<Liveness>>>,
    next: AtomicU64,
}

/// A session's entry in the table, for as long as the session has a driver.
pub(super) struct LivenessGuard {
    table: Arc<LivenessTable>,
    number: u64,
    pulse: Arc<Liveness>,
}

/// The liveness of one session.
pub(super) struct Liveness {
    id: SessionId,
    shown: Mutex<LivenessState>,
}

#[derive(Default)]
struct LivenessState {
    busy: Option<Instant>,
    waits: Option<Instant>,
    obstacle: Option<String>,
    turn: Option<TurnClock>,
}

struct TurnClock {
    number: u64,
    begun: Instant,
    /// How much memory the turn waits for, and since when.
    memory: Option<(Instant, u64)>,
    runs: Option<TimeLimit>,
    step: Option<(u32, TimeLimit)>,
}

/// A start time and the longest time allowed since then.
struct TimeLimit(Instant, Duration);

impl TimeLimit {
    fn new(limit: Duration) -> Self {
        Self(Instant::now(), limit)
    }

    fn timed(&self) -> Timed {
        Timed {
            taken: self.0.elapsed(),
            limit: self.1,
        }
    }
}

impl LivenessGuard {
    pub(super) fn new(id: SessionId, table: Arc<LivenessTable>) -> Self {
        let pulse = Arc::new(Liveness {
            id,
            shown: Mutex::default(),
        });
        let number = table.next.fetch_add(1, Ordering::Relaxed);
        table.lock().insert(number, pulse.clone());
        Self {
            table,
            number,
            pulse,
        }
    }

    pub(super) fn pulse(&self) -> &Arc<Liveness> {
        &self.pulse
    }
}

impl Drop for LivenessGuard {
    fn drop(&mut self) {
        self.table.lock().remove(&self.number);
    }
}

impl LivenessTable {
    /// Returns the signs of the sessions in memory that have work.
    pub(super) fn signs(&self) -> Vec<SessionSigns> {
        let all = self.lock();
        all.values().filter_map(|one| one.signs()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Liveness>>> {
        // Poisoning is harmless: nothing that panics runs under the lock.
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Liveness {
    /// Marks the driver as busy from now on.
    pub(super) fn works(&self) {
        self.lock().busy = Some(Instant::now());
    }

    /// Marks the driver as no longer busy. `waits` says whether there is work that does not run,
    /// and `obstacle` why.
    pub(super) fn rests(&self, waits: bool, obstacle: impl FnOnce() -> Option<String>) {
        let mut shown = self.lock();
        shown.busy = None;
        if waits {
            shown.waits.get_or_insert_with(Instant::now);
            shown.obstacle = obstacle();
        } else {
            (shown.waits, shown.obstacle) = (None, None);
        }
    }

    /// Records that a turn begins; its guest still waits for a place to run in.
    pub(super) fn turn_begins(&self, number: u64) {
        self.lock().turn = Some(TurnClock {
            number,
            begun: Instant::now(),
            memory: None,
            runs: None,
            step: None,
        });
    }

    /// Records that the turn waits for memory for its guest.
    pub(super) fn waits_for_memory(&self, bytes: u64) {
        if let Some(turn) = &mut self.lock().turn {
            turn.memory = Some((Instant::now(), bytes));
        }
    }

    /// Records that the turn has the memory that it waited for.
    pub(super) fn has_memory(&self) {
        if let Some(turn) = &mut self.lock().turn {
            turn.memory = None;
        }
    }

    /// Records that the turn's guest runs.
    pub(super) fn turn_runs(&self, limit: Duration) {
        if let Some(turn) = &mut self.lock().turn {
            turn.runs = Some(TimeLimit::new(limit));
        }
    }

    /// Records that the guest waits for a step.
    pub(super) fn step_begins(&self, step: u32, limit: Duration) {
        if let Some(turn) = &mut self.lock().turn {
            turn.step = Some((step, TimeLimit::new(limit)));
        }
    }

    /// Records that the step has a result.
    pub(super) fn step_ends(&self) {
        if let Some(turn) = &mut self.lock().turn {
            turn.step = None;
        }
    }

    /// Records that the turn has ended, on disk too, or was aborted.
    pub(super) fn turn_ends(&self) {
        self.lock().turn = None;
    }

    /// Returns the session's signs; `None` if it neither works nor waits.
    fn signs(&self) -> Option<SessionSigns> {
        let shown = self.lock();
        if shown.busy.is_none() && shown.waits.is_none() && shown.turn.is_none() {
            return None;
        }
        Some(SessionSigns {
            id: self.id.clone(),
            busy_for: shown.busy.map(|since| since.elapsed()),
            waits_for: shown.waits.map(|since| since.elapsed()),
            obstacle: shown.obstacle.clone(),
            turn: shown.turn.as_ref().map(|turn| TurnSigns {
                turn: turn.number,
                begun_for: turn.begun.elapsed(),
                memory: turn.memory.map(|(since, bytes)| (since.elapsed(), bytes)),
                runs: turn.runs.as_ref().map(TimeLimit::timed),
                step: turn
                    .step
                    .as_ref()
                    .map(|(step, clock)| (*step, clock.timed())),
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, LivenessState> {
        // Poisoning is harmless, as above.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse() -> Liveness {
        Liveness {
            id: SessionId::new("s").expect("it is a plain name"),
            shown: Mutex::default(),
        }
    }

    #[test]
    fn an_owner_shows_what_it_is_at() {
        let pulse = pulse();
        assert!(pulse.signs().is_none());
        pulse.works();
        assert!(pulse.signs().is_some_and(|signs| signs.busy_for.is_some()));
        pulse.rests(true, || Some("the store".to_owned()));
        let signs = pulse.signs().expect("it waits");
        assert!(signs.busy_for.is_none() && signs.waits_for.is_some());
        assert_eq!(signs.obstacle.as_deref(), Some("the store"));
        pulse.rests(false, || None);
        assert!(pulse.signs().is_none());
    }

    #[test]
    fn a_turn_shows_how_far_it_is() {
        let pulse = pulse();
        let turn = || pulse.signs().and_then(|signs| signs.turn);
        pulse.turn_begins(4);
        assert!(turn().is_some_and(|turn| turn.turn == 4 && turn.runs.is_none()));
        pulse.waits_for_memory(7);
        let memory = turn().and_then(|turn| turn.memory);
        assert!(memory.is_some_and(|(_, bytes)| bytes == 7));
        pulse.has_memory();
        assert!(turn().is_some_and(|turn| turn.memory.is_none()));
        pulse.turn_runs(Duration::from_secs(9));
        pulse.step_begins(2, Duration::from_secs(5));
        let seen = turn().expect("it runs");
        assert_eq!(
            seen.runs.map(|runs| runs.limit),
            Some(Duration::from_secs(9))
        );
        let step = seen.step.map(|(step, timed)| (step, timed.limit));
        assert_eq!(step, Some((2, Duration::from_secs(5))));
        pulse.step_ends();
        assert!(turn().is_some_and(|turn| turn.step.is_none()));
        pulse.turn_ends();
        assert!(pulse.signs().is_none());
    }
}
