//! The memory and table limits of an instance, enforced as they grow.

use wasmtime::ResourceLimiter;

/// The size of a guest's call stack, in bytes. Not configurable, because compiled code depends on
/// it.
pub(super) const STACK_MAX_BYTES: usize = 1 << 20;
/// The maximum number of elements of one table. Compilers emit one element for each function whose
/// address is taken.
pub(super) const TABLE_ELEMENTS_MAX: usize = 200_000;

/// The memory budget of one instance, over all its memories.
pub(super) struct Budget {
    memory_max_bytes: usize,
    memory_bytes: usize,
    last_growth_bytes: usize,
    memory_refused: bool,
}

impl Budget {
    pub(super) fn new(memory_max_bytes: u64) -> Self {
        Self {
            memory_max_bytes: usize::try_from(memory_max_bytes).unwrap_or(usize::MAX),
            memory_bytes: 0,
            last_growth_bytes: 0,
            memory_refused: false,
        }
    }

    /// Returns whether the guest was ever refused memory: a later failure is attributed to that.
    pub(super) fn memory_was_refused(&self) -> bool {
        self.memory_refused
    }
}

impl ResourceLimiter for Budget {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let total = self.memory_bytes.saturating_add(growth);
        let fits = total <= self.memory_max_bytes;
        if fits {
            self.memory_bytes = total;
            self.last_growth_bytes = growth;
        } else {
            self.memory_refused = true;
        }
        Ok(fits)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        // The growth was allowed and counted, but failed.
        self.memory_bytes -= std::mem::take(&mut self.last_growth_bytes);
        Ok(())
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
    use super::*;

    #[test]
    fn all_memories_count_together() {
        let mut budget = Budget::new(100);
        assert!(budget.memory_growing(0, 60, None).unwrap());
        assert!(budget.memory_growing(0, 40, None).unwrap());
        assert!(!budget.memory_was_refused());
        assert!(!budget.memory_growing(40, 41, None).unwrap());
        assert!(budget.memory_was_refused());
    }

    #[test]
    fn a_growth_that_did_not_happen_is_not_counted() {
        let mut budget = Budget::new(100);
        assert!(budget.memory_growing(0, 100, None).unwrap());
        budget
            .memory_grow_failed(wasmtime::Error::msg("no"))
            .unwrap();
        assert!(budget.memory_growing(0, 100, None).unwrap());
    }
}
