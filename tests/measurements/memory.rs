//! Measures the memory of all of a daemon's processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use abide_tests::{Daemon, descendants};
use tokio::task::JoinHandle;

use crate::proc;
use crate::told::mib;

/// Interval between two samples of the peak.
const GLANCE: Duration = Duration::from_millis(50);

/// Resident memory: the total, and the anonymous part.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Memory {
    pub(crate) rss_bytes: u64,
    pub(crate) anon_bytes: u64,
}

impl Memory {
    pub(crate) fn of(daemon: &Daemon) -> Self {
        Self::below(daemon.supervisor_pid())
    }

    /// Sums the memory of a supervisor and all its descendants.
    fn below(supervisor: i32) -> Self {
        let pids = descendants(supervisor).into_iter().chain([supervisor]);
        let mut sum = Self::default();
        for (rss_bytes, anon_bytes) in pids.filter_map(proc::memory) {
            sum.rss_bytes += rss_bytes;
            sum.anon_bytes += anon_bytes;
        }
        sum
    }

    pub(crate) fn told(&self) -> String {
        format!("{} ({})", mib(self.rss_bytes), mib(self.anon_bytes))
    }

    /// Returns the growth since `before`, as text.
    pub(crate) fn more(&self, before: &Self) -> String {
        let more = |now: u64, before: u64| {
            let mib = (now as f64 - before as f64) / f64::from(1 << 20);
            format!("{mib:+.1} MiB")
        };
        format!(
            "{} ({})",
            more(self.rss_bytes, before.rss_bytes),
            more(self.anon_bytes, before.anon_bytes)
        )
    }
}

/// Samples a daemon's memory in the background to find its peak.
pub(crate) struct Peak {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Memory>,
}

impl Peak {
    pub(crate) fn watch(daemon: &Daemon) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let supervisor = daemon.supervisor_pid();
        let task = tokio::spawn({
            let stop = stop.clone();
            async move {
                let mut most = Memory::default();
                while !stop.load(Ordering::Relaxed) {
                    most = most.max(Memory::below(supervisor));
                    tokio::time::sleep(GLANCE).await;
                }
                most
            }
        });
        Self { stop, task }
    }

    pub(crate) async fn stop(self) -> Memory {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap_or_default()
    }
}
