//! The disturbances of a daemon while its agent works.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::time::{Duration, Instant};

use abide_tests::{Daemon, How, Signal, gone, signal, until, until_within};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::sync::watch;

use crate::relay::{self, Line, Passed};

/// How long the agent may take from one disturbance to the next.
const LONGEST_STRETCH: Duration = Duration::from_secs(120);
/// How long to wait for the next tool call: an agent with tool calls left makes one within this
/// time, even if the tool servers start first.
const LONGEST_LULL: Duration = Duration::from_secs(5);
/// The longest time, on an idle machine, in which a tool server starts and receives its first call.
const LONGEST_START: Duration = Duration::from_millis(600);
/// Interval between two reads of the relays' log.
const GLANCE: Duration = Duration::from_millis(1);

/// The kind of a disturbance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DisturbanceKind {
    /// `kill -9` of the worker.
    KillWorker,
    /// `kill -9` of the supervisor, after which the daemon is started again.
    KillSupervisor,
    /// A change of the configuration that needs a restart.
    Restart,
}

/// The event that a disturbance waits for once the agent has reached its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// The model call of the step has begun.
    Model,
    /// The next call of a tool has reached its relay.
    Tool,
    /// The next call that must not be repeated has reached its relay.
    Once,
}

/// A disturbance that is due once the agent has reached a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SoakDisturbance {
    /// The step whose model call must have begun.
    pub(crate) step: usize,
    pub(crate) moment: Moment,
    /// The delay after that moment.
    pub(crate) after: Duration,
    pub(crate) what: DisturbanceKind,
}

impl Display for SoakDisturbance {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            DisturbanceKind::KillWorker => "worker killed",
            DisturbanceKind::KillSupervisor => "supervisor killed",
            DisturbanceKind::Restart => "configuration changed",
        };
        let moment = match self.moment {
            Moment::Model => "the model",
            Moment::Tool => "a tool",
            Moment::Once => "an effect",
        };
        let ms = self.after.as_millis();
        write!(f, "step {:2}, {moment:9} + {ms:3} ms: {what}", self.step)
    }
}

/// Returns `kills` kills and `restarts` restarts at random points of `steps` steps. A model's
/// answer takes `answer`.
pub(crate) fn plan(
    random: &mut StdRng,
    steps: usize,
    kills: usize,
    restarts: usize,
    answer: Duration,
) -> Vec<SoakDisturbance> {
    let mut all: Vec<_> = (0..kills + restarts)
        .map(|n| {
            let what = match n {
                n if n >= kills => DisturbanceKind::Restart,
                n if n % 4 == 3 => DisturbanceKind::KillSupervisor,
                _ => DisturbanceKind::KillWorker,
            };
            let below = |longest: Duration| 0..longest.as_millis() as u64;
            let (moment, after) = match random.random_range(0..4) {
                // While the model answers; at any time, above all while a tool server starts, as it
                // does at the first call after each start of the worker; before, while and after a
                // tool runs.
                0 => (Moment::Model, below(answer)),
                1 => (Moment::Model, below(LONGEST_START)),
                2 => (Moment::Once, below(relay::PAUSE * 5 / 2)),
                _ => (Moment::Tool, below(relay::PAUSE * 5 / 2)),
            };
            SoakDisturbance {
                step: random.random_range(0..steps),
                moment,
                after: Duration::from_millis(random.random_range(after)),
                what,
            }
        })
        .collect();
    all.sort_by_key(|one| (one.step, one.moment, one.after));
    all
}

/// The agent's state when a disturbance happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// No tool call was in progress.
    NoCall,
    /// A call was on its way to the tool server, or executing there.
    Call,
    /// A call had been executed, and its result was on its way back.
    Result,
}

impl SoakDisturbance {
    /// Waits until the agent has reached the disturbance's step.
    pub(crate) async fn until_due(self, step: &watch::Sender<usize>) {
        let mut reached = step.subscribe();
        let wait = reached.wait_for(|step| *step > self.step);
        tokio::time::timeout(LONGEST_STRETCH, wait)
            .await
            .unwrap_or_else(|_| panic!("the agent does not come to step {}", self.step))
            .expect("the sender is borrowed");
    }

    /// Waits for the disturbance's moment in that step, executes it, and returns the agent's state
    /// at that time. The first `seen` lines of the relays' log are older than the previous
    /// disturbance.
    pub(crate) async fn strike(self, daemon: &mut Daemon, log: &Path, seen: usize) -> Met {
        if self.moment != Moment::Model {
            let any = self.moment == Moment::Tool;
            let awaited = |line: &Line| line.passed == Passed::Came && (any || line.once());
            let came = |lines: &[Line]| lines.iter().any(awaited);
            let (before, since) = (relay::read(log).len(), Instant::now());
            // No such call may be left, if earlier disturbances have waited for all of them.
            while !came(&relay::read(log)[before..]) && since.elapsed() < LONGEST_LULL {
                tokio::time::sleep(GLANCE).await;
            }
        }
        tokio::time::sleep(self.after).await;
        let met = met(&relay::read(log)[seen..]);
        match self.what {
            DisturbanceKind::KillWorker => daemon.kill_worker().await,
            DisturbanceKind::KillSupervisor => {
                let worker = daemon.worker_pid().await;
                signal(daemon.supervisor_pid(), Signal::KILL);
                daemon.ended().await;
                // The worker's address stays in use until the worker has noticed its supervisor's
                // death and exited.
                until("the worker's end", async || gone(worker).then_some(())).await;
                daemon.start_again().await;
            }
            DisturbanceKind::Restart => {
                let old = daemon.generation().await;
                daemon.edit(How::Rename, |setup| setup.spare += 1);
                until("the change to be seen", async || {
                    (daemon.generation().await > old
                        || daemon.restart_record(old + 1).await.is_some())
                    .then_some(())
                })
                .await;
            }
        }
        met
    }
}

/// Returns the agent's state now, derived from the relays' lines since the previous disturbance.
fn met(lines: &[Line]) -> Met {
    let now_ms = relay::now_ms();
    let last: BTreeMap<_, _> = lines.iter().map(|line| (&line.key, line)).collect();
    let is = |wanted: fn(&Line, u64) -> bool| last.values().any(|line| wanted(line, now_ms));
    if is(|line, _| line.passed != Passed::Answered) {
        Met::Call
    } else if is(|line, now_ms| now_ms < line.at_ms + relay::PAUSE.as_millis() as u64) {
        Met::Result
    } else {
        Met::NoCall
    }
}

/// Waits for an event that may take [`LONGEST_STRETCH`].
pub(crate) async fn until_at_last<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(LONGEST_STRETCH, what, look).await
}
