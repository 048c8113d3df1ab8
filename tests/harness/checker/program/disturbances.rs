//! What can happen to a daemon.

use rand::Rng;
use rand::rngs::StdRng;

/// Where the daemon can be made to die, as far as programs name it; `*` is any of them, and those
/// that they do not know.
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
    "store.write.before",
    "store.write.after",
];

/// One thing that happens to the daemon.
#[derive(Clone, Debug, PartialEq)]
pub enum Disturbance {
    /// The worker is killed with -9.
    KillWorker,
    /// The supervisor is; then the daemon is started again.
    KillSupervisor,
    /// Both are, at once.
    KillBoth,
    /// A fault point is armed: who dies as it is crossed.
    Fault {
        /// Which.
        arm: Arm,
        /// Whether what was not synced is lost too, where both die.
        power: bool,
    },
    /// Both are killed, and what was not synced is lost.
    PowerCut,
    /// The configuration is edited in a way that needs a restart.
    Edit(Save),
    /// And again, so many milliseconds later.
    EditTwice {
        /// How long after the first.
        gap_ms: u64,
    },
    /// The configuration is made invalid, and valid again.
    InvalidEdit(Invalid),
    /// A restart is asked for.
    Restart,
    /// The daemon is asked to stop, and started again.
    Stop,
}

/// How an editor saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Save {
    /// A new file, renamed over the old one.
    Rename,
    /// The old one, emptied and written again.
    Truncate,
}

/// In which way a configuration is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// No TOML.
    Syntax,
    /// A key that there is not.
    UnknownKey,
    /// A plugin's file is not there.
    NoPlugin,
    /// A plugin's file is no component.
    NoComponent,
    /// Another `data_dir`.
    DataDir,
    /// An address that somebody else holds: fails in the standby.
    AddressInUse,
}

/// A fault point that is armed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arm {
    /// Its name, or `*`.
    pub pattern: String,
    /// At which crossing, from 1.
    pub n: u64,
    /// Who dies.
    pub who: Who,
}

/// Who dies at a fault point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The worker.
    Worker,
    /// The supervisor, then the worker.
    Both,
    /// The supervisor.
    Supervisor,
}

impl Who {
    /// As it is written in the file that arms.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Both => "both",
            Self::Supervisor => "supervisor",
        }
    }
}

impl Arm {
    /// The line that arms.
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
            72..80 => Self::Edit(match rng.random_bool(0.5) {
                true => Save::Rename,
                false => Save::Truncate,
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

    /// Whether it kills, or may.
    pub fn kills(&self) -> bool {
        matches!(
            self,
            Self::KillWorker
                | Self::KillSupervisor
                | Self::KillBoth
                | Self::Fault { .. }
                | Self::PowerCut
        )
    }
}

fn arm(rng: &mut StdRng) -> Arm {
    let (pattern, n) = match rng.random_bool(0.4) {
        true => ("*", rng.random_range(1..=40)),
        false => {
            let point = POINTS[rng.random_range(0..POINTS.len())];
            (point, rng.random_range(1..=5))
        }
    };
    let who = match rng.random_range(0..10) {
        0..5 => Who::Worker,
        5..9 => Who::Both,
        _ => Who::Supervisor,
    };
    Arm {
        pattern: pattern.to_owned(),
        n,
        who,
    }
}
