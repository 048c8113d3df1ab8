//! The ways back that an operator takes while clients talk and the daemon dies.

use rand::Rng;
use rand::rngs::StdRng;

/// How far into a session's restore points a choice reaches; beyond the last, it begins again at the first.
const POINTS: usize = 16;

/// One act of an operator on a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WayBack {
    /// The index of the session; beyond the program's own, of a copy.
    pub session: usize,
    pub act: WayBackAct,
    /// How long the operator waits before it.
    pub after_ms: u64,
}

/// What an operator does. A point is an index into those that are listed: the present state, the one before
/// it, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayBackAct {
    /// Rewinds it.
    Rewind { point: usize },
    /// Forks it, at a point or as it is by then.
    Fork { point: Option<usize> },
    /// Exports it, and imports that under a new id.
    Export {
        point: Option<usize>,
        /// Whether the component comes along.
        component: bool,
    },
}

impl WayBack {
    pub(super) fn any(rng: &mut StdRng, sessions: usize) -> Self {
        let session = rng.random_range(0..sessions);
        let point = rng.random_range(0..POINTS);
        let of_copy = Some(point).filter(|_| rng.random_bool(0.5));
        let act = match rng.random_range(0..100) {
            0..56 => WayBackAct::Rewind { point },
            56..80 => WayBackAct::Fork { point: of_copy },
            _ => WayBackAct::Export {
                point: of_copy,
                component: rng.random_bool(0.5),
            },
        };
        Self {
            session,
            act,
            after_ms: rng.random_range(0..400),
        }
    }
}
