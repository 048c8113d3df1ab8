//! The memory and table limits of an instance, enforced as they grow.

use wasmtime::ResourceLimiter;

use super::guest_memory::{MemoryReservation, Outgrown};

/// The size of a guest's call stack, in bytes. Not configurable, because compiled code depends on
/// it.
pub(super) const STACK_MAX_BYTES: usize = 1 << 20;
/// The maximum number of elements of one table. Compilers emit one element for each function whose
/// address is taken.
pub(super) const TABLE_ELEMENTS_MAX: usize = 200_000;

/// The memory budget of one instance, over all its memories.
pub(super) struct Budget {
    memory_max_bytes: u64,
    memory_bytes: u64,
    memory_refused: bool,
    /// The instance's part of what all guests together may hold.
    reservation: MemoryReservation,
}

impl Budget {
    pub(super) fn new(memory_max_bytes: u64, reservation: MemoryReservation) -> Self {
        Self {
            memory_max_bytes,
            memory_bytes: 0,
            memory_refused: false,
            reservation,
        }
    }

    /// Returns whether the guest was ever refused memory: a later failure is attributed to that.
    pub(super) fn memory_was_refused(&self) -> bool {
        self.memory_refused
    }
}

impl ResourceLimiter for Budget {
    /// A growth that is allowed here and fails all the same stays counted: it is not known which
    /// growth a failure is about, and a guest could make failures up to lower the count.
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // It fails by the module's own maximum, so it needs no room.
            return Ok(true);
        }
        let growth = desired.saturating_sub(current) as u64;
        let total = self.memory_bytes.saturating_add(growth);
        if total > self.memory_max_bytes {
            self.memory_refused = true;
            return Ok(false);
        }
        // An error ends the call, where `false` would be an answer that a replay might not get.
        if let Err(Outgrown { reserve_bytes }) = self.reservation.use_up_to(total) {
            let reserve_bytes = reserve_bytes.min(self.memory_max_bytes);
            return Err(wasmtime::Error::new(Outgrown { reserve_bytes }));
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::guest_memory::GuestMemory;
    use super::*;

    /// The budget of a guest that has reserved nothing.
    async fn budget(memory_max_bytes: u64, memory: &GuestMemory) -> Budget {
        Budget::new(memory_max_bytes, memory.reserve(0).await)
    }

    #[tokio::test]
    async fn all_memories_count_together() {
        let mut budget = budget(100, &GuestMemory::new(u64::MAX)).await;
        assert!(budget.memory_growing(0, 60, None).unwrap());
        assert!(budget.memory_growing(0, 40, None).unwrap());
        assert!(!budget.memory_was_refused());
        assert!(!budget.memory_growing(40, 41, None).unwrap());
        assert!(budget.memory_was_refused());
    }

    #[tokio::test]
    async fn a_growth_that_must_fail_neither_counts_nor_lowers_the_count() {
        let mut budget = budget(100, &GuestMemory::new(u64::MAX)).await;
        assert!(budget.memory_growing(0, 60, Some(80)).unwrap());
        assert!(budget.memory_growing(60, 90, Some(80)).unwrap());
        // As wasmtime reports a growth beyond what the memory's type can express.
        budget
            .memory_grow_failed(wasmtime::Error::msg("no"))
            .unwrap();
        assert!(budget.memory_growing(60, 80, Some(80)).unwrap());
        assert!(!budget.memory_growing(0, 21, None).unwrap());
    }

    #[tokio::test]
    async fn a_growth_for_which_no_room_is_left_ends_the_call_and_is_not_refused() {
        let memory = GuestMemory::new(3200);
        let _beside = memory.reserve(2000).await;
        let mut budget = budget(1000, &memory).await;
        assert!(budget.memory_growing(0, 700, None).unwrap());
        let error = budget.memory_growing(700, 900, None).unwrap_err();
        let outgrown = Outgrown {
            reserve_bytes: 1000,
        };
        assert_eq!(error.downcast_ref(), Some(&outgrown));
        assert!(!budget.memory_growing(700, 1001, None).unwrap());
    }
}
