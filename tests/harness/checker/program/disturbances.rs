//! The ways in which a daemon can be disturbed.

use rand::Rng;
use rand::rngs::StdRng;

use crate::damage::Harm;

/// The failpoints at which programs can make the daemon die. `*` is any failpoint, including those
/// that are missing here.
pub const POINTS: &[&str] = &[
    "inbox.append",
    "inbox.synced",
    "begun.append",
    "begun.synced",
    "planned.append",
    "planned.synced",
    "effect.before",
    "effect.after",
    "done.append",
    "done.synced",
    "ended.append",
    "ended.synced",
    "published",
    "acknowledged",
    // The records that are none of these: of a session that is rewound or copied.
    "other.append",
    "other.synced",
    "store.write.before",
    "store.write.after",
];

/// Those that a process passes once or seldom: at its start, when it has told the supervisor that it serves
/// and when its restart is recorded; at a change of the configuration that needs no restart; when a session
/// is moved to another component; when a roll-out has ended, and when that is written.
const PASSED_ONCE: &[&str] = &[
    "announced",
    "life.begun",
    "reload.announced",
    "moved.append",
    "moved.synced",
    "rollout.ended",
    "rollout.written",
];

/// Those that are passed while a damaged store is written anew: when the new database is complete, when the
/// damaged one is kept aside, and when the new one has its name.
const MENDING: &[&str] = &["mend.complete", "mend.aside", "mend.named"];

/// One disturbance of the daemon.
#[derive(Clone, Debug, PartialEq)]
pub enum Disturbance {
    /// Kills the worker with SIGKILL.
    KillWorker,
    /// Kills the supervisor with SIGKILL; then the daemon is started again.
    KillSupervisor,
    /// Kills both at once.
    KillBoth,
    /// Arms a failpoint: the process that reaches it dies.
    Fault {
        arm: Arm,
        /// Whether unsynced data is lost too, if both processes die.
        power: bool,
    },
    /// Kills both processes, and discards unsynced data.
    PowerCut,
    /// Edits the configuration in a way that needs a restart.
    Edit(Save),
    /// Edits the configuration twice in such a way.
    EditTwice {
        /// The time between the two edits, in milliseconds.
        gap_ms: u64,
    },
    /// Edits the configuration so that the plugin has another component.
    Component(Variant),
    /// Makes the configuration invalid, then valid again.
    InvalidEdit(Invalid),
    /// Requests a restart.
    Restart,
    /// Stops the daemon gracefully, and starts it again.
    Stop,
    /// Kills both processes, and damages a file of the data folder: which one and where depends on the
    /// seed.
    Damage {
        harm: Harm,
        seed: u64,
        /// Where the daemon dies once more, if it mends its store.
        mending: Option<Arm>,
    },
}

/// How an editor saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Save {
    /// Writes a new file and renames it over the old one.
    Rename,
    /// Empties the old file and writes it again.
    Truncate,
}

/// A component of the plugin, see `guests/scripted/src/component.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Plain,
    /// It takes over what `Plain` has written, and the other way round.
    Added,
    /// What it writes, it alone takes over.
    Schema2,
    /// It takes over nothing of the others.
    Retyped,
    /// It would take the others over, and lose a part of what they have.
    Renamed,
    /// It takes over what `Plain` has written, and fails in some turns.
    Flaky,
    /// It takes over nothing at all.
    Trap,
}

impl Variant {
    /// Returns the name that the guest knows it by.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Added => "added",
            Self::Schema2 => "schema2",
            Self::Retyped => "retyped",
            Self::Renamed => "renamed",
            Self::Flaky => "flaky",
            Self::Trap => "trap",
        }
    }
}

/// In which way a configuration is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// It is not TOML.
    Syntax,
    /// It has an unknown key.
    UnknownKey,
    /// A plugin's file is missing.
    NoPlugin,
    /// A plugin's file is not a component.
    NoComponent,
    /// It names another `data_dir`.
    DataDir,
    /// It names an address that another process holds: this fails in the standby.
    AddressInUse,
}

/// An armed failpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arm {
    /// The failpoint's name, or `*`.
    pub pattern: String,
    /// The crossing at which it fires, from 1.
    pub n: u64,
    /// Which processes die.
    pub who: Who,
}

/// Which processes die at a failpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Worker,
    /// The supervisor, then the worker.
    Both,
    Supervisor,
}

impl Who {
    /// Returns the name that the arming file uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Both => "both",
            Self::Supervisor => "supervisor",
        }
    }
}

impl Arm {
    /// Returns the line of the arming file.
    pub fn line(&self) -> String {
        format!("{} {} {}\n", self.pattern, self.n, self.who.as_str())
    }
}

impl Disturbance {
    pub(super) fn any(rng: &mut StdRng) -> Self {
        match rng.random_range(0..100) {
            0..22 => Self::KillWorker,
            22..30 => Self::KillSupervisor,
            30..37 => Self::KillBoth,
            37..63 => {
                let arm = arm(rng);
                let power = arm.who == Who::Both && rng.random_bool(0.7);
                Self::Fault { arm, power }
            }
            63..72 => Self::PowerCut,
            72..76 => Self::Edit(match rng.random_bool(0.5) {
                true => Save::Rename,
                false => Save::Truncate,
            }),
            76..80 => Self::Component(match rng.random_range(0..8) {
                0 => Variant::Plain,
                1 => Variant::Added,
                2 => Variant::Schema2,
                3 => Variant::Retyped,
                4 => Variant::Renamed,
                5 => Variant::Trap,
                _ => Variant::Flaky,
            }),
            80..84 => Self::EditTwice {
                gap_ms: rng.random_range(0..400),
            },
            84..91 => Self::InvalidEdit(match rng.random_range(0..6) {
                0 => Invalid::Syntax,
                1 => Invalid::UnknownKey,
                2 => Invalid::NoPlugin,
                3 => Invalid::NoComponent,
                4 => Invalid::DataDir,
                _ => Invalid::AddressInUse,
            }),
            91..96 => Self::Restart,
            _ => Self::Stop,
        }
    }

    pub(super) fn damage(rng: &mut StdRng) -> Self {
        Self::Damage {
            harm: Harm::ALL[rng.random_range(0..Harm::ALL.len())],
            seed: rng.random(),
            mending: rng.random_bool(0.5).then(|| Arm {
                pattern: MENDING[rng.random_range(0..MENDING.len())].to_owned(),
                n: 1,
                who: who(rng),
            }),
        }
    }

    /// Returns whether the disturbance kills, or may kill.
    pub fn kills(&self) -> bool {
        matches!(
            self,
            Self::KillWorker
                | Self::KillSupervisor
                | Self::KillBoth
                | Self::Fault { .. }
                | Self::PowerCut
                | Self::Damage { .. }
        )
    }
}

fn arm(rng: &mut StdRng) -> Arm {
    let (pattern, n) = match rng.random_bool(0.4) {
        true => ("*", rng.random_range(1..=40)),
        false => {
            let at = rng.random_range(0..POINTS.len() + PASSED_ONCE.len());
            match POINTS.get(at) {
                Some(&point) => (point, rng.random_range(1..=5)),
                None => (PASSED_ONCE[at - POINTS.len()], 1),
            }
        }
    };
    Arm {
        pattern: pattern.to_owned(),
        n,
        who: who(rng),
    }
}

fn who(rng: &mut StdRng) -> Who {
    match rng.random_range(0..10) {
        0..5 => Who::Worker,
        5..9 => Who::Both,
        _ => Who::Supervisor,
    }
}
