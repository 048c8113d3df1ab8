//! What never happens, and is told if it does: from what was observed to what is wrong. Pure;
//! `daemon::watchdog` looks, and tells.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Regression, SessionId, UnixMillis};

/// How long a session may have work, and turns may begin, and none of it runs.
pub const STUCK_AFTER: Duration = Duration::from_secs(30);
/// How far a turn may be beyond `limits.turn_timeout`: it ends there by itself, and is then written
/// down.
pub const TURN_MARGIN: Duration = Duration::from_secs(10);
/// How far a step may be beyond `limits.step_timeout`: a tool server may have to be started first.
pub const STEP_MARGIN: Duration = Duration::from_secs(30);
/// How long the writer may have work and sync nothing.
pub const WRITER_STALLED_AFTER: Duration = Duration::from_secs(10);

/// Something that should not be, while it lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Finding {
    /// What kind.
    pub kind: FindingKind,
    /// What it is about: a session's id; of the disk and the store, the data folder.
    pub subject: String,
    /// Since when, about.
    pub since: UnixMillis,
    /// What is wrong.
    pub reason: String,
    /// What ends it.
    pub remedy: String,
}

/// The kinds of findings, the gravest first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// The writer has work and syncs nothing.
    WriterStalled,
    /// The store took no write when it last was to.
    StoreFailing,
    /// Less is free than is held back: nothing new is accepted.
    DiskNearlyFull,
    /// A session came back with less than was recorded of it.
    SessionLesser,
    /// A session neither runs nor has a reason.
    SessionStuck,
    /// A turn is past its time.
    TurnOverdue,
    /// A step is past its time.
    StepOverdue,
}

impl FindingKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::WriterStalled,
        Self::StoreFailing,
        Self::DiskNearlyFull,
        Self::SessionLesser,
        Self::SessionStuck,
        Self::TurnOverdue,
        Self::StepOverdue,
    ];

    /// Its name in the API and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WriterStalled => "writer_stalled",
            Self::StoreFailing => "store_failing",
            Self::DiskNearlyFull => "disk_nearly_full",
            Self::SessionLesser => "session_lesser",
            Self::SessionStuck => "session_stuck",
            Self::TurnOverdue => "turn_overdue",
            Self::StepOverdue => "step_overdue",
        }
    }
}

/// How things are, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// When.
    pub now: UnixMillis,
    /// How long turns have been free to begin; none while a drain keeps them from it.
    pub open_for: Option<Duration>,
    /// Whether a turn finds room to run in.
    pub roomy: bool,
    /// The longest that any turn may take: so long a session's owner may wait for its guest.
    pub longest_turn: Duration,
    /// Sessions that do something, or should.
    pub sessions: Vec<SessionSigns>,
    /// Sessions that have work, and that nobody in this worker looks after.
    pub ownerless: Vec<SessionId>,
    /// The data folder.
    pub folder: String,
    /// The store's writer.
    pub writer: WriterSigns,
    /// The disk, where it could be asked.
    pub disk: Option<DiskSigns>,
}

/// What a session in memory shows of itself.
#[derive(Clone, Debug)]
pub struct SessionSigns {
    /// Which.
    pub id: SessionId,
    /// How long its owner has been at one thing.
    pub busy_for: Option<Duration>,
    /// How long it has had work while no turn of it ran.
    pub waits_for: Option<Duration>,
    /// What its owner says keeps it from it.
    pub obstacle: Option<String>,
    /// The turn that has begun.
    pub turn: Option<TurnSigns>,
}

/// What a turn shows of itself.
#[derive(Clone, Copy, Debug)]
pub struct TurnSigns {
    /// Its number.
    pub turn: u64,
    /// How long ago it began.
    pub begun_for: Duration,
    /// How long its guest has been running, and may; none while it waits for room.
    pub runs: Option<Timed>,
    /// The step that it waits for: its number, how long it has taken, and may.
    pub step: Option<(u32, Timed)>,
}

/// Something that takes time.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    /// How much it has taken.
    pub taken: Duration,
    /// How much it may take.
    pub limit: Duration,
}

impl Timed {
    fn is_beyond(self, margin: Duration) -> bool {
        self.taken > self.limit.saturating_add(margin)
    }
}

/// What the store's writer shows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriterSigns {
    /// How long it has had something to write and has ended no write.
    pub stalled_for: Option<Duration>,
    /// Why it took no write when it last was to.
    pub failing: Option<String>,
    /// It has ended, though the store is not closed: it writes nothing any more.
    pub gone: bool,
}

/// What the disk of the data folder shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSigns {
    /// What is free for the daemon's user, in bytes.
    pub free_bytes: u64,
    /// `daemon.disk_reserve`, in bytes.
    pub reserve_bytes: u64,
    /// Whether nothing new is accepted.
    pub is_low: bool,
}

impl DiskSigns {
    /// Whether nothing new is to be accepted. Once it is so, some more must be free than would have
    /// done before, or each small file that comes and goes would turn it.
    pub fn is_low(was_low: bool, free_bytes: u64, reserve_bytes: u64) -> bool {
        let needed = match was_low {
            true => reserve_bytes.saturating_add(reserve_bytes / 8),
            false => reserve_bytes,
        };
        free_bytes < needed
    }
}

/// What is wrong, by kind and then the longest first.
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
    let stalled = seen.writer.stalled_for;
    let stalled = stalled.filter(|lasts| *lasts > WRITER_STALLED_AFTER);
    if let Some(lasts) = stalled {
        tell(
            FindingKind::WriterStalled,
            folder,
            lasts,
            "the store has something to write, and no write has ended: nothing is acknowledged"
                .to_owned(),
            "see whether the disk answers; it goes on by itself when it does".to_owned(),
        );
    }
    if let Some(reason) = &seen.writer.failing {
        tell(
            FindingKind::StoreFailing,
            folder,
            Duration::ZERO,
            format!("nothing is acknowledged: {reason}"),
            "mend the disk, or free some of it; it goes on by itself".to_owned(),
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
    // What has its reason above needs none of its own.
    let store_answers = stalled.is_none() && seen.writer.failing.is_none();
    for session in &seen.sessions {
        let id = session.id.as_str();
        if let Some((lasts, reason)) = stuck(session, seen, store_answers) {
            let remedy = "abide restart brings it back; please report it".to_owned();
            tell(FindingKind::SessionStuck, id, lasts, reason, remedy);
        }
        let Some(turn) = session.turn else { continue };
        let number = turn.turn;
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
    found.sort_by_key(|finding| (finding.kind, finding.since));
    found
}

/// Whether a session neither runs nor has a reason: for how long, and what there is to say.
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
    // A drain keeps all from beginning, and says so.
    let open_for = seen.open_for?;
    let waits = |lasts: Duration| Some(lasts.min(open_for)).filter(|lasts| *lasts > STUCK_AFTER);
    if let Some(lasts) = session.waits_for.and_then(waits) {
        let reason = match &session.obstacle {
            Some(obstacle) => format!("it has work, and no turn begins: {obstacle}"),
            None => "it has work, nothing keeps it from it, and no turn begins".to_owned(),
        };
        return Some((lasts, reason));
    }
    let turn = session.turn.filter(|turn| turn.runs.is_none())?;
    let lasts = waits(turn.begun_for).filter(|_| seen.roomy)?;
    let reason = format!(
        "turn {} waits for room to run in, and there is room",
        turn.turn
    );
    Some((lasts, reason))
}

impl Regression {
    /// The finding that stands as long as the worker in which the session came back.
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

/// What a look has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Findings that were not there before.
    pub appeared: Vec<Finding>,
    /// Those that are not there any more.
    pub gone: Vec<Finding>,
}

/// What is found, from one look to the next.
#[derive(Clone, Debug, Default)]
pub struct Findings(BTreeMap<(FindingKind, String), Finding>);

impl Findings {
    /// Takes in what a look has found. What lasts keeps the moment since when it is known.
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

    /// All of them, by kind.
    pub fn all(&self) -> impl Iterator<Item = &Finding> {
        self.0.values()
    }

    /// How many of a kind there are.
    pub fn count(&self, kind: FindingKind) -> usize {
        self.0.keys().filter(|(of, _)| *of == kind).count()
    }
}

/// In whole seconds, from one second on.
fn time(duration: Duration) -> impl fmt::Display {
    let whole = Duration::from_secs(duration.as_secs());
    humantime::format_duration(if whole.is_zero() { duration } else { whole })
}

fn size(bytes: u64) -> impl fmt::Display {
    bytesize::ByteSize::b(bytes).display().iec()
}
