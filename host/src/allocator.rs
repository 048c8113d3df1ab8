//! Gives memory that is free back to the system.
//!
//! The allocator keeps what a thread has freed until that thread allocates again, and what others
//! have freed of it until it looks. After a burst (a hundred thousand sessions that leave memory) the
//! threads sleep, and hundreds of megabytes stay with them. So from time to time, while nothing
//! runs, each is asked to look.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often all threads were asked.
static ASKED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static DONE: Cell<u64> = const { Cell::new(0) };
}

/// Asks all threads of this runtime, and this one at once. Some milliseconds each.
pub(crate) fn purge_all_threads() {
    ASKED.fetch_add(1, Ordering::Relaxed);
    purge_if_requested();
    let workers = tokio::runtime::Handle::current().metrics().num_workers();
    // Each takes a moment on the worker that runs it, so that the others take the rest. One that
    // comes away empty-handed is asked again next time.
    for _ in 0..workers {
        tokio::spawn(async { purge_if_requested() });
    }
}

/// For a thread that is about to sleep, and whoever else comes by: does what was asked for, once.
pub(crate) fn purge_if_requested() {
    let asked = ASKED.load(Ordering::Relaxed);
    if DONE.replace(asked) != asked {
        purge();
    }
}

/// For a thread of no runtime that has nothing to do just now.
pub(crate) fn purge_now() {
    purge();
}

#[allow(
    unsafe_code,
    reason = "the allocator's own function, which has no safe name"
)]
fn purge() {
    // SAFETY: it may be called by any thread at any time; this thread's free pages are released.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
