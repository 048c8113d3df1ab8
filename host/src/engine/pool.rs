//! How much is set aside for instances: one share for each turn that may run at once. A component
//! that needs more memories or tables than a share holds takes several, and waits for them, so the
//! pool never runs out under a turn.

use std::num::NonZeroUsize;

use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    RegallocAlgorithm,
};

use super::budget::TABLE_ELEMENTS_MAX;
use super::runtime::{EngineError, STACK_MAX_BYTES};

/// Linear memories in a share. A Rust guest has one.
pub(super) const MEMORIES_PER_TURN: u32 = 1;
/// Tables in a share. A Rust guest has two: its own and its adapters'.
pub(super) const TABLES_PER_TURN: u32 = 3;
/// Mapped regions that a running turn takes, measured: its stack and guard, and its memory's image,
/// heap and guard.
const MAPS_PER_TURN: u64 = 7;
/// Mapped regions left to the rest of the process.
const MAPS_SPARE: u64 = 4_000;
/// A memory's place in the address space: all that 32 bits can name, so that no access needs a
/// check.
const MEMORY_RESERVED_BYTES: u64 = 4 << 30;
/// Metadata of one core instance. A large Python module needs more than wasmtime's default of 1 MiB.
const INSTANCE_MAX_BYTES: usize = 16 << 20;
/// Of a memory and of a table, what is cleared rather than given back to the kernel when an
/// instance goes: giving pages back, and faulting them in again, interrupts all processors. Of a
/// memory, only the pages that were written count, where the kernel can tell (since 6.7).
const KEEP_RESIDENT_BYTES: usize = 256 << 10;
/// Frames that a trap keeps.
const BACKTRACE_FRAMES_MAX: usize = 16;

/// Shares that an instance with so many memories and tables takes.
pub(super) fn shares(memories: u32, tables: u32) -> u32 {
    let for_memories = memories.div_ceil(MEMORIES_PER_TURN);
    for_memories.max(tables.div_ceil(TABLES_PER_TURN)).max(1)
}

/// The settings of the engine for `turns_max` turns at once.
pub(super) fn config(turns_max: u32) -> Result<Config, EngineError> {
    check_maps(turns_max)?;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(turns_max)
        // Counted, not set aside; a Python guest has dozens.
        .total_core_instances(u32::MAX)
        .max_core_instances_per_component(u32::MAX)
        .max_core_instance_size(INSTANCE_MAX_BYTES)
        .max_component_instance_size(INSTANCE_MAX_BYTES)
        .total_stacks(turns_max)
        .total_memories(turns_max * MEMORIES_PER_TURN)
        .max_memories_per_component(u32::MAX)
        .max_memories_per_module(MEMORIES_PER_TURN)
        .max_memory_size(MEMORY_RESERVED_BYTES as usize)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .total_tables(turns_max * TABLES_PER_TURN)
        .max_tables_per_component(u32::MAX)
        .max_tables_per_module(TABLES_PER_TURN)
        .table_elements(TABLE_ELEMENTS_MAX)
        .table_keep_resident(KEEP_RESIDENT_BYTES)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .memory_reservation(MEMORY_RESERVED_BYTES)
        .max_wasm_stack(STACK_MAX_BYTES)
        // Host functions run on the same stack.
        .async_stack_size(STACK_MAX_BYTES + (1 << 20))
        .epoch_interruption(true)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES_MAX))
        .native_unwind_info(false)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_regalloc_algorithm(RegallocAlgorithm::Backtracking)
        // A turn is a deterministic function of its input.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .concurrency_support(false)
        .wasm_component_model(true);
    Ok(config)
}

/// Whether the kernel allows as many mapped regions as so many turns take.
fn check_maps(turns_max: u32) -> Result<(), EngineError> {
    let Ok(allowed) = std::fs::read_to_string("/proc/sys/vm/max_map_count") else {
        // Not to be seen here; if it is too small, making the pool says so.
        return Ok(());
    };
    let needed = u64::from(turns_max) * MAPS_PER_TURN + MAPS_SPARE;
    match allowed.trim().parse::<u64>() {
        Ok(allowed) if allowed < needed => Err(EngineError::Maps {
            turns_max,
            needed,
            allowed,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_what_a_rust_guest_needs() {
        assert_eq!(shares(0, 0), 1);
        assert_eq!(shares(1, 2), 1);
        assert_eq!(shares(1, 4), 2);
        assert_eq!(shares(3, 1), 3);
    }

    #[test]
    fn more_turns_than_the_kernel_allows_are_refused_with_the_numbers() {
        assert!(matches!(
            config(u32::MAX / 8),
            Err(EngineError::Maps { needed, allowed, .. }) if needed > allowed
        ));
    }
}
