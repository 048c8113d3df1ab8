//! The watchdog: once a second it collects an observation, and `domain::watchdog` judges whether it
//! shows a condition that should never exist. Each finding is logged when it appears and when it is
//! gone, counted in metrics, and shown in the status for as long as it lasts. The watchdog also
//! measures the free disk space: nothing new is accepted while the disk is nearly full. And it looks
//! whether the machine's clock was set.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::documents::FINDINGS_MAX;
use crate::domain::{
    CLOCK_STEP_LEAST, CLOCK_STEP_SHOWN, Changes, ClockHistory, Finding, FindingKind, Findings,
    MemoryKills, Observation, SessionId, UnixMillis, judge,
};
use crate::session::Signs;
use crate::store::{KeptAside, Store, StoreError};

use super::census::LastCensus;
use super::{clock_file, logging};

/// The interval between observations.
const EVERY: Duration = Duration::from_secs(1);
/// The interval between searches for sessions with work and without a driver; a search reads the
/// store.
const OWNERLESS_EVERY: Duration = Duration::from_secs(30);
/// How many findings of one observation are logged individually; of the rest the number is logged.
const LOGGED_MAX: usize = 50;
/// The exit code of a worker whose store has lost its writer.
const EXIT_NO_WRITER: i32 = 1;

/// The daemon's handle of the watchdog task.
pub(super) struct Watchdog {
    found: watch::Receiver<Arc<[Finding]>>,
    shared: Arc<WatchdogInput>,
}

/// The values that the daemon passes to the watchdog task. They are independent of each other and
/// of other memory, so relaxed ordering suffices.
struct WatchdogInput {
    reserve_bytes: AtomicU64,
    relaunched: AtomicBool,
}

impl Watchdog {
    /// Starts the watchdog. It has looked once when this returns: what a start finds is in the first status
    /// that a client can see.
    pub(super) fn start(
        signs: Signs,
        census: LastCensus,
        store: &Store,
        folder: PathBuf,
        reserve_bytes: u64,
        memory_kills: MemoryKills<UnixMillis>,
    ) -> Self {
        let shared = Arc::new(WatchdogInput {
            reserve_bytes: AtomicU64::new(reserve_bytes),
            relaunched: AtomicBool::new(false),
        });
        check_disk(&signs, &folder, reserve_bytes);
        let (sender, found) = watch::channel(Arc::default());
        // By the steady clock from here on: the other one may be set.
        let memory_kills = memory_kills.map(|at| {
            let ago = Duration::from_millis(UnixMillis::now().since(at));
            Instant::now().checked_sub(ago)
        });
        let mut looks = Looks {
            signs,
            census,
            store: store.clone(),
            folder,
            memory_kills,
            clock_kept: None,
            clock_keeping: tokio::spawn(async {}),
            shared: shared.clone(),
            findings: Findings::default(),
            closed_at: Instant::now(),
            ownerless: Vec::new(),
            ownerless_at: Instant::now(),
            search: None,
            told: sender,
        };
        let seen = looks.observe(Vec::new());
        looks.report(judge(&seen));
        tokio::spawn(looks.run());
        Self { found, shared }
    }

    /// Returns the current findings.
    pub(super) fn found(&self) -> Arc<[Finding]> {
        self.found.borrow().clone()
    }

    /// Sets how many bytes must be free on the disk, from the next check on.
    pub(super) fn hold_back(&self, reserve_bytes: u64) {
        self.shared
            .reserve_bytes
            .store(reserve_bytes, Ordering::Relaxed);
    }

    /// Notifies the watchdog that the relaunch is over: from now on every session with work must
    /// have a driver.
    pub(super) fn relaunched(&self) {
        self.shared.relaunched.store(true, Ordering::Relaxed);
    }
}

/// Counts the sessions that were restored with less state than they had. That is detected once per
/// worker, and the count does not change afterwards.
pub(super) fn count_regressed(count: usize) {
    let kind = FindingKind::SessionLesser.as_str();
    metrics::counter!("abide_watchdog_findings_total", "kind" => kind).increment(count as u64);
    metrics::gauge!("abide_watchdog_findings", "kind" => kind).set(count as f64);
}

/// Returns the folder of a damaged store that is kept aside, and what was lost with it.
fn kept_aside(kept: &KeptAside) -> (String, String) {
    let lost = match &kept.report {
        Some(report) => report.summary(),
        None => "what was lost is not known any more".to_owned(),
    };
    (kept.folder.display().to_string(), lost)
}

/// Measures the disk space that is free for the daemon's user.
fn check_disk(signs: &Signs, folder: &PathBuf, reserve_bytes: u64) {
    match rustix::fs::statvfs(folder) {
        Ok(disk) => {
            let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
            metrics::gauge!("abide_disk_free_bytes").set(free_bytes as f64);
            signs.disk_seen(free_bytes, reserve_bytes);
        }
        Err(error) => {
            // The last measurement stays in effect.
            tracing::warn!(%error, "the disk of {} does not say what is free", folder.display());
        }
    }
}

struct Looks {
    signs: Signs,
    census: LastCensus,
    store: Store,
    folder: PathBuf,
    /// When workers were last killed for want of memory.
    memory_kills: MemoryKills<Instant>,
    /// The clock's history as it was last given to `clock_keeping`, which writes it.
    clock_kept: Option<ClockHistory>,
    clock_keeping: JoinHandle<()>,
    shared: Arc<WatchdogInput>,
    findings: Findings,
    /// When the gate was last seen closed to new turns.
    closed_at: Instant,
    /// The sessions with work and without a driver that the last search found for the first time.
    ownerless: Vec<SessionId>,
    ownerless_at: Instant,
    /// The search that is under way.
    search: Option<JoinHandle<Result<Vec<SessionId>, StoreError>>>,
    told: watch::Sender<Arc<[Finding]>>,
}

impl Looks {
    async fn run(mut self) {
        let mut disk = tokio::spawn(async {});
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            // At most one check at a time: a hung disk must not pile up blocked threads.
            if disk.is_finished() {
                disk = self.ask_disk();
            }
            self.observe_clock();
            let lost = self.lost().await;
            let seen = self.observe(lost);
            self.signs.writer_seen(seen.writer.is_stalled());
            if seen.writer.gone && self.signs.is_open() {
                // Nothing can be written any more, not even the end of this worker. Its successor
                // finds everything that was acknowledged.
                tracing::error!(
                    "the store's writer has panicked; the worker ends, and begins anew"
                );
                logging::flush();
                std::process::exit(EXIT_NO_WRITER);
            }
            self.report(judge(&seen));
        }
    }

    fn ask_disk(&self) -> JoinHandle<()> {
        let (signs, folder) = (self.signs.clone(), self.folder.clone());
        let reserve_bytes = self.shared.reserve_bytes.load(Ordering::Relaxed);
        tokio::task::spawn_blocking(move || check_disk(&signs, &folder, reserve_bytes))
    }

    /// Notes whether the machine's clock was set, and keeps the history for the next worker. At most
    /// one write at a time, for the same reason as above.
    fn observe_clock(&mut self) {
        let clock = self.store.clock();
        clock.observe();
        let history = Some(clock.history());
        if history == self.clock_kept || !self.clock_keeping.is_finished() {
            return;
        }
        self.clock_kept.clone_from(&history);
        let folder = self.folder.clone();
        self.clock_keeping = tokio::task::spawn_blocking(move || {
            let kept = history.map(|history| clock_file::keep(&folder, &history));
            if let Some(Err(error)) = kept {
                tracing::warn!(%error, "the clock's history is not kept for the next worker");
            }
        });
    }

    fn observe(&mut self, ownerless: Vec<SessionId>) -> Observation {
        let is_open = self.signs.is_open();
        if !is_open {
            self.closed_at = Instant::now();
        }
        Observation {
            now: UnixMillis::now(),
            clock_steps: self.store.clock().steps(CLOCK_STEP_SHOWN, CLOCK_STEP_LEAST),
            open_for: is_open.then(|| self.closed_at.elapsed()),
            roomy: self.signs.is_roomy(),
            guest_memory: self.signs.guest_memory(),
            longest_turn: self.signs.longest_turn(),
            sessions: self.signs.all(),
            ownerless,
            folder: self.folder.display().to_string(),
            writer: self.store.writer_signs(),
            damage: self.store.damage().map(str::to_owned),
            kept_aside: self.store.kept_aside().iter().map(kept_aside).collect(),
            disk: self.signs.disk_signs(),
            memory_kills: self.memory_kills.map(|at| Some(at.elapsed())),
            census: self.census.borrow().clone().unwrap_or_default(),
            rollouts: self.signs.rollouts(),
        }
    }

    /// Returns the sessions that had work and no driver in two searches in a row, and wakes them.
    /// The result is empty between searches, of which there is at most one at a time: a disk that
    /// does not answer has findings of its own.
    async fn lost(&mut self) -> Vec<SessionId> {
        let is_time = self.ownerless_at.elapsed() >= OWNERLESS_EVERY;
        let is_open = self.signs.is_open() && self.shared.relaunched.load(Ordering::Relaxed);
        if self.search.is_none() && is_time && is_open {
            self.ownerless_at = Instant::now();
            let signs = self.signs.clone();
            self.search = Some(tokio::task::spawn_blocking(move || signs.ownerless()));
        }
        let Some(search) = self.search.take_if(|search| search.is_finished()) else {
            return Vec::new();
        };
        let (Ok(Ok(seen)), true) = (search.await, is_open) else {
            return Vec::new();
        };
        let before = std::mem::take(&mut self.ownerless);
        let (lost, new): (Vec<_>, Vec<_>) = seen.into_iter().partition(|id| before.contains(id));
        self.ownerless = new;
        for id in &lost {
            let (signs, id) = (self.signs.clone(), id.clone());
            tokio::spawn(async move { signs.wake(&id).await });
        }
        lost
    }

    fn report(&mut self, found: Vec<Finding>) {
        let changes = self.findings.update(found);
        for finding in changes.appeared.iter().take(LOGGED_MAX) {
            let Finding {
                kind,
                subject,
                reason,
                remedy,
                ..
            } = finding;
            tracing::error!(kind = kind.as_str(), %subject, %reason, %remedy, "watchdog");
        }
        for finding in changes.gone.iter().take(LOGGED_MAX) {
            let Finding { kind, subject, .. } = finding;
            tracing::info!(kind = kind.as_str(), %subject, "watchdog: it is well again");
        }
        let more = changes.appeared.len().saturating_sub(LOGGED_MAX);
        if more > 0 {
            tracing::error!(more, "watchdog: and more of the same; metrics count them");
        }
        for finding in &changes.appeared {
            let kind = finding.kind.as_str();
            metrics::counter!("abide_watchdog_findings_total", "kind" => kind).increment(1);
        }
        let standing = |kind: &FindingKind| *kind != FindingKind::SessionLesser;
        for kind in FindingKind::ALL.into_iter().filter(standing) {
            let count = self.findings.count(kind) as f64;
            metrics::gauge!("abide_watchdog_findings", "kind" => kind.as_str()).set(count);
        }
        if changes != Changes::default() {
            let named = self.findings.all().take(FINDINGS_MAX).cloned().collect();
            self.told.send_replace(named);
        }
    }
}
