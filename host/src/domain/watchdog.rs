//! The watchdog's rules: from an observation of the daemon to findings of what is wrong and should
//! never happen. This code is pure; `daemon::watchdog` observes, and reports the findings.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::memory_kills::MemoryKills;
use super::{
    Census, ClockStep, Finding, FindingKind, GuestMemoryStatus, Regression, Rollout, SessionId,
    UnixMillis,
};

/// How long a session may have work that does not run although turns may begin.
pub const STUCK_AFTER: Duration = Duration::from_secs(30);
/// How far a turn may exceed `limits.turn_timeout`. It is ended at the timeout; recording that
/// takes some time more.
pub const TURN_MARGIN: Duration = Duration::from_secs(10);
/// How far a step may exceed `limits.step_timeout`: a tool server may have to be started first.
pub const STEP_MARGIN: Duration = Duration::from_secs(30);
/// How long a turn may wait for memory for its guest.
pub const MEMORY_AFTER: Duration = Duration::from_secs(60);
/// How long the writer may have work without syncing anything.
pub const WRITER_STALLED_AFTER: Duration = Duration::from_secs(10);
/// How long a death for want of memory is reported.
pub const OUT_OF_MEMORY_SHOWN: Duration = Duration::from_secs(3600);

/// What an operator can do where memory runs out.
const MORE_MEMORY: &str = "give the daemon more memory (the limit of its control group, systemd's \
    MemoryMax), or lower daemon.guest_memory, which all guests together may hold, limits.memory of \
    its plugins, or daemon.turns_max";
/// How long a step of the machine's clock is reported.
pub const CLOCK_STEP_SHOWN: Duration = Duration::from_secs(3600);
/// The smallest step of the clock that is reported.
pub const CLOCK_STEP_LEAST: Duration = Duration::from_secs(60);

/// The state of the daemon at one moment, as far as the rules need it.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// The moment.
    pub now: UnixMillis,
    /// How long turns have been allowed to begin; none while a drain prevents it.
    pub open_for: Option<Duration>,
    /// Whether there is room for a further turn to run.
    pub roomy: bool,
    /// How much of the guests' memory is reserved.
    pub guest_memory: GuestMemoryStatus,
    /// The longest time that any turn may take: a session's owner may wait that long for its guest.
    pub longest_turn: Duration,
    /// Sessions that are doing something, or should be.
    pub sessions: Vec<SessionSigns>,
    /// Sessions that have work, but no owner in this worker.
    pub ownerless: Vec<SessionId>,
    /// The path of the data folder.
    pub folder: String,
    /// The state of the store's writer.
    pub writer: WriterSigns,
    /// A damaged table of the store, as it was met.
    pub damage: Option<String>,
    /// Damaged stores that are kept aside: the folder, and what was lost.
    pub kept_aside: Vec<(String, String)>,
    /// The state of the disk, if it could be read.
    pub disk: Option<DiskSigns>,
    /// How long ago workers were last killed for want of memory.
    pub memory_kills: MemoryKills<Duration>,
    /// The steps of the machine's clock that are to be reported.
    pub clock_steps: Vec<ClockStep>,
    /// The last census of sessions.
    pub census: Arc<Census>,
    /// The roll-outs of components.
    pub rollouts: Vec<Rollout>,
}

/// The state of a session that is in memory.
#[derive(Clone, Debug)]
pub struct SessionSigns {
    pub id: SessionId,
    /// How long its owner has been busy with one operation.
    pub busy_for: Option<Duration>,
    /// How long it has had work while no turn of it ran.
    pub waits_for: Option<Duration>,
    /// What prevents a turn, as its owner reports it.
    pub obstacle: Option<String>,
    /// The turn that has begun, if any.
    pub turn: Option<TurnSigns>,
}

/// The state of an open turn.
#[derive(Clone, Copy, Debug)]
pub struct TurnSigns {
    pub turn: u64,
    /// How long ago it began.
    pub begun_for: Duration,
    /// How long it has waited for memory, and for how many bytes; none once it has them.
    pub memory: Option<(Duration, u64)>,
    /// How long its guest has been running, and its limit; none while it waits for room to run.
    pub runs: Option<Timed>,
    /// The step that it waits for: its number, its time so far and its limit.
    pub step: Option<(u32, Timed)>,
}

/// A time so far, and its limit.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    pub taken: Duration,
    pub limit: Duration,
}

impl Timed {
    fn is_beyond(self, margin: Duration) -> bool {
        self.taken > self.limit.saturating_add(margin)
    }
}

/// The state of the store's writer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriterSigns {
    /// How long it has had work without completing a write.
    pub stalled_for: Option<Duration>,
    /// Why its last write failed; none if it did not.
    pub failing: Option<String>,
    /// It has exited although the store is not closed: nothing is written any more.
    pub gone: bool,
}

impl WriterSigns {
    /// Whether it has had work for too long without completing a write.
    pub fn is_stalled(&self) -> bool {
        self.stalled_for
            .is_some_and(|lasts| lasts > WRITER_STALLED_AFTER)
    }
}

/// The state of the data folder's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSigns {
    /// The space that is free for the daemon's user, in bytes.
    pub free_bytes: u64,
    /// `daemon.disk_reserve`, in bytes.
    pub reserve_bytes: u64,
    /// Whether new sessions and messages are refused.
    pub is_low: bool,
}

impl DiskSigns {
    /// Whether new sessions and messages must be refused. Once they are, the free space must exceed
    /// the reserve by an eighth to end it: without this hysteresis every small file that comes and
    /// goes would toggle the state.
    pub fn is_low(was_low: bool, free_bytes: u64, reserve_bytes: u64) -> bool {
        let needed = match was_low {
            true => reserve_bytes.saturating_add(reserve_bytes / 8),
            false => reserve_bytes,
        };
        free_bytes < needed
    }
}

/// Returns what is wrong, sorted by kind, the longest lasting first.
pub fn judge(seen: &Observation) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut tell = |kind, subject: &str, lasts: Duration, reason: String, remedy: String| {
        let lasts_ms = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
        found.push(Finding {
            kind,
            subject: subject.to_owned(),
            since: UnixMillis(seen.now.0.saturating_sub(lasts_ms)),
            reason,
            remedy,
        });
    };
    let folder = &seen.folder;
    let stalled = seen.writer.is_stalled().then_some(seen.writer.stalled_for);
    let stalled = stalled.flatten();
    if let Some(lasts) = stalled {
        tell(
            FindingKind::WriterStalled,
            folder,
            lasts,
            "the store has something to write, and no write has ended: nothing is acknowledged, \
             requests that need a write get 503 (store-stalled)"
                .to_owned(),
            "see whether the disk answers (dmesg, iostat -x; of a network file system, its server); \
             it goes on by itself when it does, and a stop does not wait for it"
                .to_owned(),
        );
    }
    if let Some(reason) = &seen.writer.failing {
        tell(
            FindingKind::StoreFailing,
            folder,
            Duration::ZERO,
            format!("nothing is acknowledged: {reason}"),
            "unless that says otherwise, mend the disk, or free some of it; it goes on by itself"
                .to_owned(),
        );
    }
    if let Some(reason) = &seen.damage {
        tell(
            FindingKind::StoreDamaged,
            folder,
            Duration::ZERO,
            format!(
                "a table is damaged ({reason}): what is in the damaged part cannot be read, all else \
                 goes on; tables are not merged any more"
            ),
            "the daemon restarts once by itself, which writes anew what can be read (1 to 5 seconds \
             for each 100 MB) and names what is lost; see whether the disk is sound (dmesg, smartctl), \
             and `abide restart` if this stays"
                .to_owned(),
        );
    }
    for (kept, lost) in &seen.kept_aside {
        tell(
            FindingKind::StoreMended,
            kept,
            Duration::ZERO,
            format!("the store was damaged, and was written anew: {lost}"),
            "look at those sessions (`abide sessions show ID`, `abide resume ID`); report.json in the \
             folder has all of it. Remove the folder once it is not needed; the next start ends this"
                .to_owned(),
        );
    }
    if let Some(disk) = seen.disk.filter(|disk| disk.is_low) {
        tell(
            FindingKind::DiskNearlyFull,
            folder,
            Duration::ZERO,
            format!(
                "{} are free, {} are held back: new sessions and messages are refused, what was \
                 accepted goes on",
                size(disk.free_bytes),
                size(disk.reserve_bytes)
            ),
            "free some space, or lower daemon.disk_reserve; it goes on by itself".to_owned(),
        );
    }
    if let Some(lasts) = shown(seen.memory_kills.by_kernel) {
        tell(
            FindingKind::OutOfMemory,
            "the worker",
            lasts,
            "the kernel killed the worker because memory had run out; the turns that were running \
             begin again, and a session whose turn is running at the third such death is faulted"
                .to_owned(),
            MORE_MEMORY.to_owned(),
        );
    }
    if let Some(lasts) = shown(seen.memory_kills.by_unknown) {
        tell(
            FindingKind::KilledRepeatedly,
            "the worker",
            lasts,
            "several workers in a row died of SIGKILL, and nothing tells whether memory had run out; the \
             next ones start after pauses of up to 30s"
                .to_owned(),
            format!(
                "see who kills them: systemd-oomd or earlyoom, which want it to take less, or a script; if \
                 nobody does, {MORE_MEMORY}"
            ),
        );
    }
    if let Some(lasts) = shown(seen.memory_kills.by_others) {
        tell(
            FindingKind::KilledRepeatedly,
            "the worker",
            lasts,
            "many workers in a row were ended by SIGKILL, and not by the kernel; the next ones start \
             after pauses of up to 5s"
                .to_owned(),
            "see who kills them: systemd-oomd or earlyoom, which want it to take less, or a script"
                .to_owned(),
        );
    }
    for step in &seen.clock_steps {
        let direction = if step.by_ms > 0 { "forward" } else { "back" };
        let by = Duration::from_millis(step.by_ms.unsigned_abs());
        tell(
            FindingKind::ClockStepped,
            &format!("the machine's clock at {}", step.to),
            step.ago,
            format!(
                "it was set {direction} by {}: timers and approvals of this worker keep their \
                 distance, those of earlier ones go by the new time; idempotency keys live on for \
                 at least `retention.keys`",
                time(by)
            ),
            "see what sets the clock (timedatectl, chronyc tracking): NTP should slew it; if the \
             new time is wrong, correct it before the next restart, after which all timers go by it"
                .to_owned(),
        );
    }
    // While the store is failing, the findings above explain why sessions do not run.
    let store_answers = stalled.is_none() && seen.writer.failing.is_none();
    for session in &seen.sessions {
        let id = session.id.as_str();
        if let Some((lasts, reason)) = stuck(session, seen, store_answers) {
            let remedy = "abide restart brings it back; please report it".to_owned();
            tell(FindingKind::SessionStuck, id, lasts, reason, remedy);
        }
        // The end of a turn, or of a step, waits for the disk like all else.
        let Some(turn) = session.turn.filter(|_| stalled.is_none()) else {
            continue;
        };
        let number = turn.turn;
        if let Some((lasts, bytes)) = waits_for_memory(turn, seen) {
            let memory = seen.guest_memory;
            tell(
                FindingKind::GuestMemoryShort,
                id,
                lasts,
                format!(
                    "turn {number} waits for {} of memory for its guest; {} of the {} that \
                     daemon.guest_memory allows are reserved by turns that run",
                    size(bytes),
                    size(memory.reserved_bytes),
                    size(memory.budget_bytes)
                ),
                "it begins by itself when others end; raise daemon.guest_memory, which takes no \
                 restart, or end a turn that holds much (abide sessions list --state running, \
                 abide sessions cancel)"
                    .to_owned(),
            );
        }
        if let Some(runs) = turn.runs.filter(|runs| runs.is_beyond(TURN_MARGIN)) {
            tell(
                FindingKind::TurnOverdue,
                id,
                runs.taken,
                format!(
                    "turn {number} should have ended after {} (limits.turn_timeout)",
                    time(runs.limit)
                ),
                format!("abide sessions cancel {id}"),
            );
        }
        if let Some((step, runs)) = turn.step.filter(|(_, runs)| runs.is_beyond(STEP_MARGIN)) {
            tell(
                FindingKind::StepOverdue,
                id,
                runs.taken,
                format!(
                    "step {step} of turn {number} should have ended after {} (limits.step_timeout)",
                    time(runs.limit)
                ),
                format!("abide sessions steps {id} shows it, abide sessions cancel {id} ends it"),
            );
        }
    }
    for id in &seen.ownerless {
        tell(
            FindingKind::SessionStuck,
            id.as_str(),
            Duration::ZERO,
            "it has work, and nobody looked after it".to_owned(),
            "it was woken by this; if it stays, abide restart; please report it".to_owned(),
        );
    }
    found.extend(seen.census.findings(seen.now));
    found.extend(seen.rollouts.iter().filter_map(Rollout::finding));
    found.sort_by_key(|finding| (finding.kind, finding.since));
    found
}

/// Returns how long ago a worker was killed for want of memory, if that is still to be reported.
fn shown(ago: Option<Duration>) -> Option<Duration> {
    ago.filter(|ago| *ago < OUT_OF_MEMORY_SHOWN)
}

/// Returns how long a turn has waited for memory, if that is too long, and for how many bytes. Frozen
/// by a drain, it does not wait for memory.
fn waits_for_memory(turn: TurnSigns, seen: &Observation) -> Option<(Duration, u64)> {
    let (lasts, bytes) = turn.memory?;
    let lasts = lasts.min(seen.open_for?);
    (lasts > MEMORY_AFTER).then_some((lasts, bytes))
}

/// Returns for how long, and why, a session neither runs nor has a reason for it; none if it is
/// well.
fn stuck(
    session: &SessionSigns,
    seen: &Observation,
    store_answers: bool,
) -> Option<(Duration, String)> {
    if !store_answers {
        return None;
    }
    let patience = seen.longest_turn.saturating_add(STUCK_AFTER);
    if let Some(lasts) = session.busy_for.filter(|busy| *busy > patience) {
        let reason = "its owner is at one thing and does not come back from it";
        return Some((lasts, reason.to_owned()));
    }
    // A drain prevents all turns from beginning, and reports this itself.
    let open_for = seen.open_for?;
    let waits = |lasts: Duration| Some(lasts.min(open_for)).filter(|lasts| *lasts > STUCK_AFTER);
    if let Some(lasts) = session.waits_for.and_then(waits) {
        let reason = match &session.obstacle {
            Some(obstacle) => format!("it has work, and no turn begins: {obstacle}"),
            None => "it has work, nothing keeps it from it, and no turn begins".to_owned(),
        };
        return Some((lasts, reason));
    }
    let for_a_place = |turn: &TurnSigns| turn.runs.is_none() && turn.memory.is_none();
    let turn = session.turn.filter(for_a_place)?;
    let lasts = waits(turn.begun_for).filter(|_| seen.roomy)?;
    let reason = format!(
        "turn {} waits for room to run in, and there is room",
        turn.turn
    );
    Some((lasts, reason))
}

impl Regression {
    /// Returns the finding, which lasts as long as the worker in which the session came back.
    pub fn finding(&self, since: UnixMillis) -> Finding {
        let id = &self.id;
        Finding {
            kind: FindingKind::SessionLesser,
            subject: id.to_string(),
            since,
            reason: self.to_string(),
            remedy: format!(
                "look at it (abide sessions show {id}); its state is kept as it was found. If it \
                 is not what it should be, the data folder must come from a backup"
            ),
        }
    }
}

/// The difference between two observations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Findings that are new.
    pub appeared: Vec<Finding>,
    /// Findings that have ended.
    pub gone: Vec<Finding>,
}

/// The current findings, kept from one observation to the next.
#[derive(Clone, Debug, Default)]
pub struct Findings(BTreeMap<(FindingKind, String), Finding>);

impl Findings {
    /// Replaces the findings by those of a new observation. A finding that continues keeps its
    /// first `since`.
    pub fn update(&mut self, found: Vec<Finding>) -> Changes {
        let before = std::mem::take(&mut self.0);
        let mut changes = Changes::default();
        for mut finding in found {
            let key = (finding.kind, finding.subject.clone());
            match before.get(&key) {
                Some(known) => finding.since = known.since,
                None => changes.appeared.push(finding.clone()),
            }
            self.0.insert(key, finding);
        }
        let gone = before.into_iter();
        let gone = gone.filter(|(key, _)| !self.0.contains_key(key));
        changes.gone = gone.map(|(_, finding)| finding).collect();
        changes
    }

    /// Returns all findings, sorted by kind.
    pub fn all(&self) -> impl Iterator<Item = &Finding> {
        self.0.values()
    }

    pub fn count(&self, kind: FindingKind) -> usize {
        self.0.keys().filter(|(of, _)| *of == kind).count()
    }
}

/// Formats a duration, from half a second on rounded to whole seconds.
fn time(duration: Duration) -> impl fmt::Display {
    let whole = Duration::from_secs(
        duration
            .saturating_add(Duration::from_millis(500))
            .as_secs(),
    );
    humantime::format_duration(if whole.is_zero() { duration } else { whole })
}

fn size(bytes: u64) -> impl fmt::Display {
    bytesize::ByteSize::b(bytes).display().iec()
}
