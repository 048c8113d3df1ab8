//! What the watchdog finds: conditions that should never hold.

use serde::{Deserialize, Serialize};

use super::UnixMillis;

/// A problem, for as long as it lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Finding {
    pub kind: FindingKind,
    /// What the problem concerns: a session's id, the data folder for problems of the disk and the
    /// store, or the configuration file.
    pub subject: String,
    /// Approximately since when.
    pub since: UnixMillis,
    /// What is wrong.
    pub reason: String,
    /// How it can be ended.
    pub remedy: String,
}

/// The kinds of findings, the most severe first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// The store is not opened: it lacks what was acknowledged, or is damaged.
    StoreRefused,
    /// A plugin, or what else sessions run with, does not load: the daemon does not serve.
    NotPrepared,
    /// The writer has work and does not sync.
    WriterStalled,
    /// The store failed its last write.
    StoreFailing,
    /// A table of the store is damaged; a restart writes the store anew.
    StoreDamaged,
    /// The store was damaged, and was written anew; the damaged one is kept aside.
    StoreMended,
    /// The free space is below the reserve: nothing new is accepted.
    DiskNearlyFull,
    /// The kernel killed the worker because memory had run out.
    OutOfMemory,
    /// Workers in a row were killed, and the system does not tell by whom.
    KilledRepeatedly,
    /// The machine's clock was set forward or back.
    ClockStepped,
    /// A session came back with less than was recorded of it.
    SessionLesser,
    /// A session has work, and neither runs nor has a reason for it.
    SessionStuck,
    /// A turn has exceeded its time limit.
    TurnOverdue,
    /// A step has exceeded its time limit.
    StepOverdue,
    /// A turn has waited long for memory for its guest.
    GuestMemoryShort,
    /// A plugin's component failed where the one before it did not, and was rolled back.
    ComponentRolledBack,
    /// Sessions have stayed on an older component of their plugin for long.
    ComponentOld,
    /// A kind that a newer daemon has; never sent.
    #[serde(other, skip_serializing)]
    Unknown,
}

impl FindingKind {
    /// Those that this daemon may have.
    pub const ALL: [Self; 17] = [
        Self::StoreRefused,
        Self::NotPrepared,
        Self::WriterStalled,
        Self::StoreFailing,
        Self::StoreDamaged,
        Self::StoreMended,
        Self::DiskNearlyFull,
        Self::OutOfMemory,
        Self::KilledRepeatedly,
        Self::ClockStepped,
        Self::SessionLesser,
        Self::SessionStuck,
        Self::TurnOverdue,
        Self::StepOverdue,
        Self::GuestMemoryShort,
        Self::ComponentRolledBack,
        Self::ComponentOld,
    ];

    /// The name of the kind in the API and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StoreRefused => "store_refused",
            Self::NotPrepared => "not_prepared",
            Self::WriterStalled => "writer_stalled",
            Self::StoreFailing => "store_failing",
            Self::StoreDamaged => "store_damaged",
            Self::StoreMended => "store_mended",
            Self::DiskNearlyFull => "disk_nearly_full",
            Self::OutOfMemory => "out_of_memory",
            Self::KilledRepeatedly => "killed_repeatedly",
            Self::ClockStepped => "clock_stepped",
            Self::SessionLesser => "session_lesser",
            Self::SessionStuck => "session_stuck",
            Self::TurnOverdue => "turn_overdue",
            Self::StepOverdue => "step_overdue",
            Self::GuestMemoryShort => "guest_memory_short",
            Self::ComponentRolledBack => "component_rolled_back",
            Self::ComponentOld => "component_old",
            Self::Unknown => "unknown",
        }
    }
}
