//! Sizing of the instance pool: one share for each turn that may run concurrently. A component that
//! needs more memories or tables than a share has takes several shares, and waits for them, so the
//! pool is never exhausted while a turn runs.

use std::num::NonZeroUsize;

use rustix::process::{Resource, getrlimit};
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    RegallocAlgorithm,
};

use super::budget::{STACK_MAX_BYTES, TABLE_ELEMENTS_MAX};
use super::error::EngineError;

/// The number of linear memories in a share. A Rust guest has one.
pub(super) const MEMORIES_PER_TURN: u32 = 1;
/// The number of tables in a share. A Rust guest has two: its own and its adapters'.
pub(super) const TABLES_PER_TURN: u32 = 3;
/// The measured number of mapped regions per running turn: its stack and guard, and its memory's
/// image, heap and guard.
const MAPS_PER_TURN: u64 = 7;
/// The number of mapped regions reserved for the rest of the process.
const MAPS_SPARE: u64 = 4_000;
/// The address space reserved for a memory: the whole 32-bit range, so that accesses need no bounds
/// check.
const MEMORY_RESERVED_BYTES: u64 = 4 << 30;
/// The address space of a turn: its memory, with the guard behind it (32 MiB, wasmtime's default), its
/// stack and its tables.
const TURN_ADDRESS_BYTES: u64 = MEMORY_RESERVED_BYTES + (64 << 20);
/// The address space of the rest of the process: code, threads' stacks, the allocator, the store.
const ADDRESSES_SPARE_BYTES: u64 = 4 << 30;
/// The maximum metadata of one core instance. A large Python module needs more than wasmtime's
/// default of 1 MiB.
const INSTANCE_MAX_BYTES: usize = 16 << 20;
/// How much of a memory and of a table is zeroed rather than returned to the kernel when an
/// instance is dropped: returning pages and faulting them in again interrupts all CPUs. Of a
/// memory, only written pages count if the kernel can report them (since Linux 6.7).
const KEEP_RESIDENT_BYTES: usize = 256 << 10;
/// The maximum number of frames in a trap's backtrace.
const BACKTRACE_FRAMES_MAX: usize = 16;

/// Returns the number of shares that an instance with these memories and tables takes.
pub(super) fn shares(memories: u32, tables: u32) -> u32 {
    let for_memories = memories.div_ceil(MEMORIES_PER_TURN);
    for_memories.max(tables.div_ceil(TABLES_PER_TURN)).max(1)
}

/// Returns the wasmtime configuration for `turns_max` concurrent turns.
pub(super) fn config(turns_max: u32) -> Result<Config, EngineError> {
    check_maps(turns_max)?;
    check_address_space(turns_max, getrlimit(Resource::As).current)?;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(turns_max)
        // Only counted, not preallocated; a Python guest has dozens.
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
    let mut config = compiler_config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Ok(config)
}

/// Returns the wasmtime configuration for an engine that only compiles: all that compiled code depends on,
/// and no pool.
pub(super) fn compiler_config() -> Config {
    let mut config = Config::new();
    config
        .memory_reservation(MEMORY_RESERVED_BYTES)
        .max_wasm_stack(STACK_MAX_BYTES)
        // 1 MiB more, because host functions run on the same stack.
        .async_stack_size(STACK_MAX_BYTES + (1 << 20))
        .epoch_interruption(true)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES_MAX))
        .native_unwind_info(false)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_regalloc_algorithm(RegallocAlgorithm::Backtracking)
        // A turn must be a deterministic function of its input.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .concurrency_support(false)
        .wasm_component_model(true);
    config
}

/// Opens this process's page map, by which the memory of an instance is put back to what it was without
/// writing all of it, for as long as the process lives. To be called before the process is kept from being
/// read: then its page map cannot be opened any more, except by root. Without it, or on a kernel that lacks
/// `PAGEMAP_SCAN` (before 6.7), more is written.
pub fn open_page_map() {
    // What was opened stays open; whether it was is the pool's affair (`Enabled::Auto`).
    let _is_there = PoolingAllocationConfig::is_pagemap_scan_available();
}

/// Checks that the process may reserve the address space that `turns_max` turns need; `allowed` is its
/// limit, if it has one.
fn check_address_space(turns_max: u32, allowed: Option<u64>) -> Result<(), EngineError> {
    let Some(allowed) = allowed else {
        return Ok(());
    };
    let needed = ADDRESSES_SPARE_BYTES + u64::from(turns_max) * TURN_ADDRESS_BYTES;
    if needed <= allowed {
        return Ok(());
    }
    let room = allowed.saturating_sub(ADDRESSES_SPARE_BYTES);
    Err(EngineError::AddressSpace {
        turns_max,
        needed,
        allowed,
        fits: u32::try_from(room / TURN_ADDRESS_BYTES).unwrap_or(u32::MAX),
    })
}

/// Checks that the kernel allows the mapped regions that `turns_max` turns need.
fn check_maps(turns_max: u32) -> Result<(), EngineError> {
    let Ok(allowed) = std::fs::read_to_string("/proc/sys/vm/max_map_count") else {
        // The limit is not readable here; if it is too small, creating the pool fails.
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
    fn a_limit_of_address_space_is_refused_with_what_fits() {
        assert!(check_address_space(u32::MAX, None).is_ok());
        assert!(check_address_space(1000, Some(8 << 40)).is_ok());
        let refused = |turns, allowed| check_address_space(turns, Some(allowed)).unwrap_err();
        let text = refused(1000, 64 << 30).to_string();
        assert!(text.contains("`daemon.turns_max` to 14"), "{text}");
        assert!(check_address_space(14, Some(64 << 30)).is_ok());
        let text = refused(1, 2 << 30).to_string();
        assert!(!text.contains("turns_max"), "{text}");
    }

    #[test]
    fn more_turns_than_the_kernel_allows_are_refused_with_the_numbers() {
        assert!(matches!(
            config(u32::MAX / 8),
            Err(EngineError::Maps { needed, allowed, .. }) if needed > allowed
        ));
    }
}
