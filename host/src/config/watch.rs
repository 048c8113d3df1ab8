//! Notices that the configuration file, or a file that it names, has new content.
//!
//! The folders of the files are watched, not the files: editors rename over them, Kubernetes swaps
//! a link, files go and come back. What counts is content: events only say when to look, and every
//! few seconds somebody looks without one, since network file systems send none.
//!
//! ```text
//! wait (event, poll) -> look -> as reported? wait again
//!                        |no
//!                        +-> let it settle -> look again -> other? settle again; same? report
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;

use super::observed::Observed;
use crate::domain::Digest;

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
pub struct Watch {
    shared: Arc<Shared>,
    wake: SyncSender<()>,
    reports: watch::Receiver<Option<Observed>>,
}

/// What the holder of a [`Watch`] tells its thread.
#[derive(Debug, Default)]
struct Shared {
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

impl Shared {
    fn orders(&self) -> std::sync::MutexGuard<'_, Orders> {
        // A panic elsewhere leaves plain values behind, all of them valid.
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Watches `file` and the other files of `running`, reporting what differs from it: what the
    /// worker runs on, so that a change between its reading and this call is not lost.
    ///
    /// # Errors
    /// Where no thread can be started. That the system's notifications cannot be had is no error:
    /// it is logged, and polling alone goes on.
    pub fn start(file: PathBuf, running: Observed, timing: Timing) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let (report, reports) = watch::channel(None);
        let shared = Arc::new(Shared::default());
        let worker = Worker {
            notifier: Notifier::new(wake.clone()),
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

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.orders().stop = true;
        self.wake();
    }
}

/// The thread behind a watch.
struct Worker {
    file: PathBuf,
    /// What was last reported, or is known otherwise.
    reported: Observed,
    sight: Sight,
    notifier: Notifier,
    shared: Arc<Shared>,
    woken: Receiver<()>,
    timing: Timing,
}

impl Worker {
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
            }
            match self.woken.recv_timeout(self.timing.poll) {
                // Something else in the folder may be written all the time, a log perhaps: what
                // comes in a burst is one look.
                Ok(()) => std::thread::sleep(self.timing.debounce / BURST),
                Err(RecvTimeoutError::Timeout) => {}
                // The holder is gone, and with it the last sender but the notifier's.
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// New content, once it stays the same; nothing where it is, or comes back to, what was
    /// reported.
    fn settled(&mut self) -> Option<Observed> {
        let mut seen = self.look()?;
        while !self.is_interrupted() {
            std::thread::sleep(self.timing.debounce);
            let again = self.look()?;
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
    fn look(&mut self) -> Option<Observed> {
        let mut missing = BTreeSet::new();
        let bytes = std::fs::read(&self.file);
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

/// Reads digests, and saves itself from reading large files again that have not been touched.
#[derive(Default)]
struct Sight {
    known: BTreeMap<PathBuf, (Stamp, Digest)>,
}

/// What the system tells of a file without reading it: device, inode, size, times.
type Stamp = (u64, u64, u64, i64, i64, i64, i64);

/// Files below this size are read at every look.
const LARGE_BYTES: u64 = 1 << 20;
/// A file written this recently may be written again without another time stamp.
const RACY: Duration = Duration::from_secs(2);

impl Sight {
    fn digest(&mut self, file: &Path) -> Option<Digest> {
        let meta = std::fs::metadata(file).ok()?;
        let stamp = (
            meta.dev(),
            meta.ino(),
            meta.size(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        );
        if let Some((known, digest)) = self.known.get(file)
            && *known == stamp
        {
            return Some(*digest);
        }
        let digest = Digest::of(&std::fs::read(file).ok()?);
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(meta.ctime().unsigned_abs());
        let is_old = changed.elapsed().is_ok_and(|age| age > RACY);
        if meta.size() >= LARGE_BYTES && is_old {
            self.known.insert(file.to_owned(), (stamp, digest));
        } else {
            self.known.remove(file);
        }
        Some(digest)
    }
}

/// The system's notifications for the folders of the files.
struct Notifier {
    watcher: Option<RecommendedWatcher>,
    /// Watched folders, by path, with device and inode: a folder made anew needs a new watch.
    folders: BTreeMap<PathBuf, (u64, u64)>,
    /// When the last warning was given.
    warned: Option<Instant>,
}

/// How often it is repeated that a folder cannot be watched.
const WARN_AGAIN: Duration = Duration::from_secs(3600);

impl Notifier {
    fn new(wake: SyncSender<()>) -> Self {
        let mut notifier = Self {
            watcher: None,
            folders: BTreeMap::new(),
            warned: None,
        };
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading is not changing, and our own reads must not wake us. Errors and lost events
            // are reasons to look.
            let is_read = event.is_ok_and(|event| {
                matches!(event.kind, EventKind::Access(kind)
                    if kind != AccessKind::Close(AccessMode::Write))
            });
            if !is_read {
                let _ = wake.try_send(());
            }
        });
        match watcher {
            Ok(watcher) => notifier.watcher = Some(watcher),
            Err(error) => notifier.warn(&error),
        }
        notifier
    }

    /// Watches the folders of `files`, of what they link to, and no others.
    fn cover<'a>(&mut self, files: impl Iterator<Item = &'a PathBuf>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let mut wanted = BTreeMap::new();
        for file in files {
            let target = file.canonicalize().ok();
            for path in std::iter::once(file).chain(target.as_ref()) {
                if let Some(folder) = path.parent()
                    && let Ok(meta) = std::fs::metadata(folder)
                {
                    wanted.insert(folder.to_owned(), (meta.dev(), meta.ino()));
                }
            }
        }
        self.folders.retain(|folder, id| {
            let stays = wanted.get(folder) == Some(id);
            if !stays {
                // A folder that is gone took its watch with it; then this fails, and may.
                let _ = watcher.unwatch(folder);
            }
            stays
        });
        let mut failed = None;
        for (folder, id) in wanted {
            if self.folders.contains_key(&folder) {
                continue;
            }
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.folders.insert(folder, id);
                }
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            self.warn(&error);
        }
    }

    fn warn(&mut self, error: &notify::Error) {
        if self.warned.is_none_or(|at| at.elapsed() > WARN_AGAIN) {
            self.warned = Some(Instant::now());
            tracing::warn!(
                %error,
                "the system does not tell of changes of the configuration's files; they are looked \
                 at every few seconds instead (if watches ran out, raise fs.inotify.max_user_watches)"
            );
        }
    }
}
