//! Programs: what the clients of a seed send, and what happens to its daemon meanwhile.
//!
//! A program is a function of its seed alone. It cannot fix how far the daemon is when a
//! disturbance comes; kills at failpoints are exact, all others come after a delay.

mod disturbances;
mod scripts;
mod ways_back;

pub use disturbances::{Arm, Disturbance, Invalid, POINTS, Save, Variant, Who};
pub use ways_back::{WayBack, WayBackAct};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::checker::Script;
use scripts::Writer;

/// The share of programs that end with damage.
const DAMAGED: f64 = 0.4;
/// The share of programs whose workers are on probation for as long as by default: with so many kills, the
/// first probation hardly ends, and sessions have no way back before that.
const LONG_PROBATION: f64 = 0.15;
/// How many copies of sessions are talked to like the program's own.
const COPIES: usize = 3;

/// The clients' messages and the disturbances of a seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    pub seed: u64,
    /// The ids of its sessions.
    pub sessions: Vec<String>,
    /// `shutdown_grace_period`, in milliseconds.
    pub grace_ms: u64,
    /// `probation`, in milliseconds; `None`: its default.
    pub probation_ms: Option<u64>,
    /// The rounds, one after the other; between two of them the daemon becomes idle.
    pub rounds: Vec<Round>,
}

/// The messages and disturbances of the same period.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// Each client's messages, in order.
    pub clients: Vec<Vec<Post>>,
    /// The disturbances of the daemon, in order.
    pub moments: Vec<TimedDisturbance>,
    /// The ways back that sessions are taken meanwhile, in order.
    pub ways_back: Vec<WayBack>,
}

/// One message that a client sends.
#[derive(Clone, Debug, PartialEq)]
pub struct Post {
    /// Index of its session; beyond the program's own, of a copy that was made by then. Beyond all that
    /// there are, the indices begin again.
    pub session: usize,
    pub script: Script,
    /// How long the client waits before it sends the message.
    pub after_ms: u64,
    /// Whether the client waits for the answer.
    pub wait: bool,
}

/// One disturbance and its time.
#[derive(Clone, Debug, PartialEq)]
pub struct TimedDisturbance {
    /// The delay after the previous one.
    pub after_ms: u64,
    pub what: Disturbance,
}

/// What a program may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Means {
    /// Whether there is a tool server.
    pub tools: bool,
}

impl Program {
    /// Returns the program of a seed.
    pub fn new(seed: u64, means: Means) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let sessions: Vec<_> = (0..rng.random_range(3..=6))
            .map(|n| format!("s{n}"))
            .collect();
        let grace_ms = [100, 400, 2000][rng.random_range(0..3)];
        let probation_ms = (!rng.random_bool(LONG_PROBATION)).then_some(100);
        let mut writer = Writer::new(means);
        let mut rounds: Vec<_> = (0..rng.random_range(3..=5))
            .map(|_| Round::new(&mut rng, &mut writer, sessions.len()))
            .collect();
        let is_damaged = rng.random_bool(DAMAGED);
        if is_damaged {
            rounds.push(Round::damaged(&mut rng, &mut writer, sessions.len()));
        }
        if is_damaged || probation_ms.is_none() {
            // A component counts as proven where nothing is known of it: its turns may fail then.
            let moments = rounds.iter_mut().flat_map(|round| &mut round.moments);
            for moment in moments {
                if moment.what == Disturbance::Component(Variant::Flaky) {
                    moment.what = Disturbance::Component(Variant::Added);
                }
            }
        }
        Self {
            seed,
            sessions,
            grace_ms,
            probation_ms,
            rounds,
        }
    }

    /// Returns whether the program cuts the power.
    pub fn cuts_power(&self) -> bool {
        let mut moments = self.rounds.iter().flat_map(|round| &round.moments);
        moments.any(|moment| {
            matches!(
                moment.what,
                Disturbance::PowerCut | Disturbance::Fault { power: true, .. }
            )
        })
    }

    /// Returns all messages.
    pub fn posts(&self) -> impl Iterator<Item = &Post> {
        self.rounds
            .iter()
            .flat_map(|round| round.clients.iter().flatten())
    }
}

impl Round {
    fn new(rng: &mut StdRng, writer: &mut Writer, sessions: usize) -> Self {
        let clients = (0..rng.random_range(2..=5))
            .map(|_| {
                let posts = 0..rng.random_range(1..=4);
                posts
                    .map(|_| Post {
                        session: rng.random_range(0..sessions + COPIES),
                        script: writer.script(rng),
                        after_ms: rng.random_range(0..120),
                        wait: rng.random_bool(0.5),
                    })
                    .collect()
            })
            .collect();
        let moments = (0..rng.random_range(2..=4))
            .map(|_| TimedDisturbance {
                after_ms: rng.random_range(0..400),
                what: Disturbance::any(rng),
            })
            .collect();
        let ways_back = (0..rng.random_range(0..=3))
            .map(|_| WayBack::any(rng, sessions + COPIES))
            .collect();
        Self {
            clients,
            moments,
            ways_back,
        }
    }

    /// A last round, with damage and nothing else. A session that it touches may wait for an operator, so
    /// no client waits for an answer.
    fn damaged(rng: &mut StdRng, writer: &mut Writer, sessions: usize) -> Self {
        let mut round = Self::new(rng, writer, sessions);
        for post in round.clients.iter_mut().flatten() {
            post.wait = false;
        }
        round.moments = vec![TimedDisturbance {
            after_ms: rng.random_range(0..400),
            what: Disturbance::damage(rng),
        }];
        round.ways_back.clear();
        round
    }
}
