//! Returns free memory to the operating system.
//!
//! The allocator keeps memory that a thread has freed until that thread allocates again, and memory
//! of that thread that other threads have freed until the thread collects it. After a burst (a
//! hundred thousand sessions that leave memory) the threads sleep and keep hundreds of megabytes.
//! So from time to time, while nothing runs, each thread is asked to purge its free memory.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of purge requests to all threads so far.
static ASKED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The last purge request that this thread has carried out.
    static DONE: Cell<u64> = const { Cell::new(0) };
}

/// Requests a purge from all threads of this runtime, and purges the current thread immediately.
/// Takes some milliseconds per thread.
pub(crate) fn purge_all_threads() {
    ASKED.fetch_add(1, Ordering::Relaxed);
    purge_if_requested();
    let workers = tokio::runtime::Handle::current().metrics().num_workers();
    // Each task occupies its worker for a moment, so that other workers take the other tasks. A
    // worker that gets none purges before it sleeps, or at the next request.
    for _ in 0..workers {
        tokio::spawn(async { purge_if_requested() });
    }
}

/// Purges the current thread's free memory once per request; called by a thread that is about to
/// sleep, among others.
pub(crate) fn purge_if_requested() {
    let asked = ASKED.load(Ordering::Relaxed);
    if DONE.replace(asked) != asked {
        purge();
    }
}

/// Purges the current thread's free memory; for an idle thread outside any runtime.
pub(crate) fn purge_now() {
    purge();
}

#[allow(
    unsafe_code,
    reason = "the allocator's own function, which has no safe name"
)]
fn purge() {
    // SAFETY: any thread may call it at any time; it releases the free pages of this thread.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
