//! Notices that the configuration file, or a file that it names, has new content.
//!
//! The folders of the files are watched, not the files: editors rename over them, Kubernetes swaps
//! a link, files go and come back. What counts is content: events only say when to look, and every
//! few seconds somebody looks without one, since network file systems send none, and events get
//! lost. No decision asks the wall clock, which may be set.
//!
//! ```text
//! wait (event, poll) -> look -> as reported? wait again
//!                        |no
//!                        +-> let it settle -> look again -> other? settle again; same? report
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::digest_cache::Sight;
use super::file_snapshot::{self, Observed};
use super::notifier::Notifier;

/// How long a watch waits.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long content must stay the same before it is reported.
    pub debounce: Duration,
    /// How often the files are looked at without an event.
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

/// The part of the debounce for which events gather before a look.
const BURST: u32 = 10;

/// A running watch; it ends when it is dropped, and never by itself.
#[derive(Debug)]
pub struct ConfigWatch {
    shared: Arc<WatchOrders>,
    wake: SyncSender<()>,
    reports: watch::Receiver<Option<Observed>>,
}

/// What the holder of a [`Watch`] tells its thread.
#[derive(Debug, Default)]
struct WatchOrders {
    orders: Mutex<Orders>,
}

#[derive(Debug, Default)]
struct Orders {
    stop: bool,
    /// Files to watch from now on, and what is known of them.
    rearm: Option<Observed>,
    /// Files that could not be read when last looked at.
    missing: BTreeSet<PathBuf>,
}

impl WatchOrders {
    fn orders(&self) -> std::sync::MutexGuard<'_, Orders> {
        // A panic elsewhere leaves plain values behind, all of them valid.
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConfigWatch {
    /// Watches `file` and the other files of `running`, reporting what differs from it: what the
    /// worker runs on, so that a change between its reading and this call is not lost.
    ///
    /// # Errors
    /// Where no thread can be started. That the system's notifications cannot be had is no error:
    /// it is logged, and polling alone goes on.
    pub fn start(file: PathBuf, running: Observed, timing: Timing) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let notifier = Notifier::new(wake.clone());
        Self::begin(file, running, timing, notifier, (wake, woken))
    }

    /// The same where the system tells nothing, as on a network file system.
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

    /// Waits for content that differs from what was last reported. Where several changes came
    /// since, gives the latest. Can be dropped and called again without losing one.
    pub async fn recv(&mut self) -> Observed {
        loop {
            if self.reports.changed().await.is_err() {
                // The thread ends only after this is dropped; without it there is nothing to tell.
                tracing::error!("the configuration is no longer watched; restart the daemon");
                std::future::pending::<()>().await;
            }
            let report = self.reports.borrow_and_update().clone();
            if let Some(observed) = report {
                return observed;
            }
        }
    }

    /// Watches other files from now on, and compares with `known`. Name all that the running and
    /// the last refused configuration name: a plugin that was missing may come.
    pub fn rearm(&self, known: Observed) {
        self.shared.orders().rearm = Some(known);
        self.wake();
    }

    /// Files that could not be read when last looked at. They are not changes until they can be.
    pub fn missing(&self) -> BTreeSet<PathBuf> {
        self.shared.orders().missing.clone()
    }

    fn wake(&self) {
        // Full: a look is due anyway. Closed: there is nobody to wake.
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
    /// What was last reported, or is known otherwise.
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
            self.notifier
                .cover(std::iter::once(&self.file).chain(self.reported.others.keys()));
            if let Some(settled) = self.settled() {
                self.reported = settled.clone();
                report.send_replace(Some(settled));
                // Links may lead elsewhere by now.
                continue;
            }
            match self.woken.recv_timeout(self.timing.poll) {
                // What comes in a burst is one look.
                Ok(()) => std::thread::sleep(self.timing.debounce / BURST),
                Err(RecvTimeoutError::Timeout) => {}
                // The holder is gone.
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// New content, once it stays the same; nothing where it is, or comes back to, what was
    /// reported.
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

    /// What is there now, if it differs from what was reported. What cannot be read at the moment
    /// counts as unchanged, unless something else has changed.
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
