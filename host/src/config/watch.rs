//! Detects new content of the configuration file and of the files it names.
//!
//! The directories of the files are watched, not the files: editors rename over them, Kubernetes
//! swaps a link, files go and come back. Only content decides: events merely trigger a scan, and
//! every few seconds a scan runs without one, since network file systems send no events and events
//! get lost. No decision depends on the wall clock, which may be set.
//!
//! ```text
//! wait (event, poll) -> scan -> as reported? wait again
//!                        |no
//!                        +-> debounce -> scan again -> differs? debounce again; same? report
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::digest_cache::Sight;
use super::file_snapshot::{self, Observed};
use super::notifier::Notifier;
use super::regular_file;

/// The intervals of a watch.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long content must stay the same before it is reported.
    pub debounce: Duration,
    /// The interval at which the files are scanned without an event.
    pub poll: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(500),
            poll: Duration::from_secs(3),
        }
    }
}

/// Events are gathered for `debounce / BURST` before a scan.
pub(super) const BURST: u32 = 10;

/// A running watch. It ends only when it is dropped.
#[derive(Debug)]
pub struct ConfigWatch {
    shared: Arc<WatchOrders>,
    wake: SyncSender<()>,
    reports: watch::Receiver<Option<Observed>>,
}

/// The orders from the holder of a [`ConfigWatch`] to its thread.
#[derive(Debug, Default)]
struct WatchOrders {
    orders: Mutex<Orders>,
}

#[derive(Debug, Default)]
struct Orders {
    stop: bool,
    /// The files to watch from now on, with their known content.
    rearm: Option<Observed>,
    /// Files that the last scan could not read.
    missing: BTreeSet<PathBuf>,
}

impl WatchOrders {
    fn orders(&self) -> std::sync::MutexGuard<'_, Orders> {
        // Safe to ignore poisoning: a panic elsewhere leaves plain, valid values behind.
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConfigWatch {
    /// Watches `file` and the other files of `running`, and reports content that differs from it.
    /// `running` is what the worker runs on, so that a change between its reading and this call is
    /// not lost.
    ///
    /// # Errors
    /// If no thread can be started. Unavailable system notifications are no error: that is logged,
    /// and the watch goes on by polling alone.
    pub fn start(file: PathBuf, running: Observed, timing: Timing) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let notifier = Notifier::new(wake.clone());
        Self::begin(file, running, timing, notifier, (wake, woken))
    }

    /// Starts a watch without system notifications, as on a network file system.
    #[cfg(test)]
    pub(super) fn start_deaf(
        file: PathBuf,
        running: Observed,
        timing: Timing,
    ) -> std::io::Result<Self> {
        Self::begin(file, running, timing, Notifier::none(), sync_channel(1))
    }

    fn begin(
        file: PathBuf,
        running: Observed,
        timing: Timing,
        notifier: Notifier,
        (wake, woken): (SyncSender<()>, Receiver<()>),
    ) -> std::io::Result<Self> {
        let (report, reports) = watch::channel(None);
        let shared = Arc::new(WatchOrders::default());
        let worker = WatchThread {
            notifier,
            sight: Sight::default(),
            file,
            reported: running,
            shared: Arc::clone(&shared),
            woken,
            timing,
        };
        std::thread::Builder::new()
            .name("config-watch".to_owned())
            .spawn(move || worker.run(&report))?;
        Ok(Self {
            shared,
            wake,
            reports,
        })
    }

    /// Waits for content that differs from what was last reported. If there were several changes
    /// since, returns the latest. Cancel safe: it can be dropped and called again without losing a
    /// change.
    pub async fn recv(&mut self) -> Observed {
        loop {
            if self.reports.changed().await.is_err() {
                // The thread ends only after this is dropped, so it has panicked. There will be no
                // reports.
                tracing::error!("the configuration is no longer watched; restart the daemon");
                std::future::pending::<()>().await;
            }
            let report = self.reports.borrow_and_update().clone();
            if let Some(observed) = report {
                return observed;
            }
        }
    }

    /// Watches other files from now on, and compares them with `known`. Include all files that the
    /// running and the last rejected configuration name: a plugin that was missing may appear.
    pub fn rearm(&self, known: Observed) {
        // Before the wake-up, or the thread could go back to sleep without seeing the order.
        self.shared.orders().rearm = Some(known);
        self.wake();
    }

    /// Returns the files that the last scan could not read. They do not count as changed until they
    /// can be read.
    pub fn missing(&self) -> BTreeSet<PathBuf> {
        self.shared.orders().missing.clone()
    }

    fn wake(&self) {
        // Full: a scan is due anyway. Closed: the thread has ended.
        let _ = self.wake.try_send(());
    }
}

impl Drop for ConfigWatch {
    fn drop(&mut self) {
        self.shared.orders().stop = true;
        self.wake();
    }
}

/// The thread behind a watch.
struct WatchThread {
    file: PathBuf,
    /// The content last reported, or known from [`ConfigWatch::rearm`].
    reported: Observed,
    sight: Sight,
    notifier: Notifier,
    shared: Arc<WatchOrders>,
    woken: Receiver<()>,
    timing: Timing,
}

impl WatchThread {
    fn run(mut self, report: &watch::Sender<Option<Observed>>) {
        loop {
            {
                let mut orders = self.shared.orders();
                if orders.stop {
                    return;
                }
                if let Some(known) = orders.rearm.take() {
                    self.reported = known;
                }
            }
            // Before the scan: a change that the scan just misses then triggers the next one. Where a file
            // does not answer, its folder would not either.
            let files = std::iter::once(&self.file).chain(self.reported.others.keys());
            let answer = files.filter(|file| {
                let asked = regular_file::metadata(file);
                !asked.is_err_and(|error| error.kind() == ErrorKind::TimedOut)
            });
            self.notifier.cover(answer);
            if let Some(settled) = self.settled() {
                self.reported = settled.clone();
                report.send_replace(Some(settled));
                // Links may have changed their targets, so the notifier must cover the paths anew.
                continue;
            }
            match self.woken.recv_timeout(self.timing.poll) {
                // One scan handles a burst of events.
                Ok(()) => std::thread::sleep(self.timing.debounce / BURST),
                Err(RecvTimeoutError::Timeout) => {}
                // The holder is gone.
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Returns new content once it has stopped changing, or `None` if it equals, or returns to,
    /// what was reported.
    fn settled(&mut self) -> Option<Observed> {
        let mut seen = self.scan()?;
        while !self.is_interrupted() {
            std::thread::sleep(self.timing.debounce);
            let again = self.scan()?;
            if again == seen {
                return Some(seen);
            }
            seen = again;
        }
        None
    }

    fn is_interrupted(&self) -> bool {
        let orders = self.shared.orders();
        orders.stop || orders.rearm.is_some()
    }

    /// Returns the current content if it differs from what was reported. A file that cannot be read
    /// at the moment counts as unchanged, unless something else has changed.
    fn scan(&mut self) -> Option<Observed> {
        let mut missing = BTreeSet::new();
        let bytes = file_snapshot::config_bytes(&self.file);
        if bytes.is_err() {
            missing.insert(self.file.clone());
        }
        let mut others = BTreeMap::new();
        for file in self.reported.others.keys() {
            let digest = self.sight.digest(file);
            if digest.is_none() {
                missing.insert(file.clone());
            }
            others.insert(file.clone(), digest);
        }
        self.shared.orders().missing = missing;
        let seen = Observed::with(bytes.ok()?, others);
        let is_news = seen.config != self.reported.config
            || seen
                .others
                .iter()
                .any(|(file, now)| now.is_some() && self.reported.others.get(file) != Some(now));
        is_news.then_some(seen)
    }
}
