//! The memory budget of all guests together: a guest reserves memory before it is instantiated, and
//! waits only then. While it runs it may outgrow its reservation where there is room. Where there is
//! none, the call is interrupted, to be run again with a larger reservation: `memory.grow` is never
//! refused for the budget's sake, because a guest that saw the refusal might do something else than
//! in its replay.
//!
//! What counts is the size of linear memories, not which of their pages are in use: the one is a
//! function of what the guest does, the other is not.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::memory_room::{HeldMemory, MemoryRoom, Ticket};
use crate::domain::GuestMemoryStatus;

/// What is reserved for a guest of which nothing is known: more than a guest in Rust needs that does
/// little, which is 1.1 MiB. One that needs more extends it, or is run again.
pub const UNKNOWN_PEAK_BYTES: u64 = 2 << 20;

/// The budget. Cheap to clone.
#[derive(Clone)]
pub(super) struct GuestMemory(Arc<Mutex<Reservations>>);

struct Reservations {
    room: MemoryRoom,
    waiting: HashMap<Ticket, oneshot::Sender<MemoryReservation>>,
}

/// Memory that is reserved for one guest, released when this value is dropped.
pub struct MemoryReservation {
    memory: GuestMemory,
    held: HeldMemory,
    peak: PeakMemory,
}

/// The most that a guest has used so far, in bytes. Cheap to clone.
#[derive(Clone, Default)]
pub struct PeakMemory(Arc<AtomicU64>);

/// A guest wanted more than its reservation, and there was no room. Its call must be run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the guest outgrew what is left of the guests' memory")]
pub(super) struct Outgrown {
    /// What to reserve then.
    pub(super) reserve_bytes: u64,
}

/// A request that waits. If it is dropped, it leaves the queue.
struct WaitingForMemory<'a> {
    memory: &'a GuestMemory,
    ticket: Ticket,
    admitted: oneshot::Receiver<MemoryReservation>,
}

impl GuestMemory {
    pub(super) fn new(budget_bytes: u64) -> Self {
        Self(Arc::new(Mutex::new(Reservations {
            room: MemoryRoom::new(budget_bytes),
            waiting: HashMap::new(),
        })))
    }

    pub(super) fn set_budget(&self, budget_bytes: u64) {
        self.change(|reservations| reservations.room.set_budget(budget_bytes));
    }

    pub(super) fn status(&self) -> GuestMemoryStatus {
        self.change(|Reservations { room, .. }| GuestMemoryStatus {
            budget_bytes: room.budget(),
            reserved_bytes: room.reserved(),
            waiting: room.waiting() as u64,
        })
    }

    /// Reserves memory; waits until there is room. Cancel safe.
    pub(super) async fn reserve(&self, bytes: u64) -> MemoryReservation {
        // The common case, without a channel.
        if let Some(held) = self.lock().room.admit_at_once(bytes) {
            return self.reservation(held);
        }
        let mut has_waited = false;
        loop {
            let mut waiting = self.ask(bytes);
            if !has_waited && waiting.admitted.is_empty() {
                metrics::counter!("abide_guest_memory_waits_total").increment(1);
                has_waited = true;
            }
            // An error would mean that the request was lost, which never happens.
            if let Ok(reservation) = (&mut waiting.admitted).await {
                return reservation;
            }
        }
    }

    fn ask(&self, bytes: u64) -> WaitingForMemory<'_> {
        let (sender, admitted) = oneshot::channel();
        let ticket = self.change(|Reservations { room, waiting }| {
            let ticket = room.ask(bytes);
            waiting.insert(ticket, sender);
            ticket
        });
        WaitingForMemory {
            memory: self,
            ticket,
            admitted,
        }
    }

    /// Changes the reservations, then admits all that may begin.
    fn change<T>(&self, change: impl FnOnce(&mut Reservations) -> T) -> T {
        let mut admitted = Vec::new();
        let result = {
            let mut reservations = self.lock();
            let result = change(&mut reservations);
            while let Some((ticket, held)) = reservations.room.admit_next() {
                match reservations.waiting.remove(&ticket) {
                    Some(sender) => admitted.push((sender, held)),
                    None => reservations.room.release(held),
                }
            }
            result
        };
        for (sender, held) in admitted {
            // Outside the lock: if nobody waits any more, the reservation is dropped here.
            drop(sender.send(self.reservation(held)));
        }
        result
    }

    fn reservation(&self, held: HeldMemory) -> MemoryReservation {
        MemoryReservation {
            memory: self.clone(),
            held,
            peak: PeakMemory::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Reservations> {
        // Poisoning is harmless: nothing that panics runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WaitingForMemory<'_> {
    fn drop(&mut self) {
        self.memory.change(|Reservations { room, waiting }| {
            if waiting.remove(&self.ticket).is_some() {
                room.leave(self.ticket);
            }
        });
    }
}

impl MemoryReservation {
    /// Counts that the guest uses `bytes` in all, and extends the reservation to that if it is
    /// smaller.
    ///
    /// # Errors
    /// There is no room. The next reservation is at least twice as large, so that the call is not
    /// run again many times.
    pub(super) fn use_up_to(&mut self, bytes: u64) -> Result<(), Outgrown> {
        let held = &mut self.held;
        let fits = bytes <= held.bytes()
            || self
                .memory
                .change(|Reservations { room, .. }| room.grow(held, bytes));
        if fits {
            self.peak.0.fetch_max(bytes, Ordering::Relaxed);
            return Ok(());
        }
        metrics::counter!("abide_guest_memory_reruns_total").increment(1);
        Err(Outgrown {
            reserve_bytes: bytes.max(held.bytes().saturating_mul(2)),
        })
    }

    /// Returns where the guest's peak can be read, also after its end.
    pub fn peak(&self) -> PeakMemory {
        self.peak.clone()
    }
}

impl Drop for MemoryReservation {
    fn drop(&mut self) {
        let held = self.held;
        self.memory
            .change(|reservations| reservations.room.release(held));
    }
}

impl PeakMemory {
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Poll;

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn a_request_waits_until_there_is_room_and_may_be_given_up() {
        let memory = GuestMemory::new(3200);
        let first = memory.reserve(2000).await;
        let mut given_up = Box::pin(memory.reserve(1000));
        assert!(poll!(&mut given_up).is_pending());
        let mut waits = pin!(memory.reserve(1000));
        assert!(poll!(&mut waits).is_pending());
        assert_eq!(memory.status().waiting, 2);
        drop(given_up);
        assert_eq!(memory.status().waiting, 1);
        drop(first);
        let Poll::Ready(second) = poll!(&mut waits) else {
            panic!("there is room");
        };
        assert_eq!(memory.status().reserved_bytes, 1000);
        drop(second);
        assert_eq!(memory.status().reserved_bytes, 0);
    }

    #[tokio::test]
    async fn what_was_admitted_and_never_taken_is_given_back() {
        let memory = GuestMemory::new(3200);
        let first = memory.reserve(2000).await;
        let mut waits = Box::pin(memory.reserve(1000));
        assert!(poll!(&mut waits).is_pending());
        drop(first);
        assert_eq!(memory.status().reserved_bytes, 1000);
        drop(waits);
        assert_eq!(memory.status().reserved_bytes, 0);
    }

    #[tokio::test]
    async fn what_outgrows_the_room_is_told_what_to_reserve_next() {
        let memory = GuestMemory::new(3200);
        let mut guest = memory.reserve(1000).await;
        let peak = guest.peak();
        let beside = memory.reserve(1500).await;
        assert_eq!(guest.use_up_to(900), Ok(()));
        assert_eq!(guest.use_up_to(1300), Ok(()));
        for (bytes, reserve_bytes) in [(1400, 2600), (9000, 9000)] {
            assert_eq!(guest.use_up_to(bytes), Err(Outgrown { reserve_bytes }));
        }
        assert_eq!(peak.bytes(), 1300);
        drop(beside);
        assert_eq!(guest.use_up_to(9000), Ok(()));
        drop(guest);
        assert_eq!((peak.bytes(), memory.status().reserved_bytes), (9000, 0));
    }
}
