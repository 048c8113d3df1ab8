//! What is done to a daemon while its agent works.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use abide_tests::{Daemon, How, Signal, signal, until, until_within};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::sync::watch;

/// How long the agent may take from one disturbance to the next.
const LONGEST_STRETCH: Duration = Duration::from_secs(300);

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// `kill -9` of the worker.
    KillWorker,
    /// `kill -9` of the supervisor; then somebody starts the daemon again.
    KillSupervisor,
    /// A change of the configuration that needs a restart.
    Restart,
}

/// Something that is done once the agent has come to a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disturbance {
    /// The step whose model call must have begun.
    pub(crate) step: usize,
    /// How long after that.
    pub(crate) after: Duration,
    pub(crate) what: What,
}

impl Display for Disturbance {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            What::KillWorker => "worker killed",
            What::KillSupervisor => "supervisor killed",
            What::Restart => "configuration changed",
        };
        let ms = self.after.as_millis();
        write!(f, "step {:2} + {ms:3} ms: {what}", self.step)
    }
}

/// So many kills and restarts at random points of so many steps. A model's answer takes `answer`.
pub(crate) fn plan(
    random: &mut StdRng,
    steps: usize,
    kills: usize,
    restarts: usize,
    answer: Duration,
) -> Vec<Disturbance> {
    let mut all: Vec<_> = (0..kills + restarts)
        .map(|n| {
            let what = match n {
                n if n >= kills => What::Restart,
                n if n % 4 == 3 => What::KillSupervisor,
                _ => What::KillWorker,
            };
            let after_ms = match random.random_range(0..3) {
                // While the model thinks; while the tools run that it asks for; while a tool
                // server starts, as it does at the first call of each life.
                0 => random.random_range(0..answer.as_millis() as u64),
                1 => answer.as_millis() as u64 + random.random_range(0..20),
                _ => answer.as_millis() as u64 + random.random_range(0..600),
            };
            Disturbance {
                step: random.random_range(0..steps),
                after: Duration::from_millis(after_ms),
                what,
            }
        })
        .collect();
    all.sort_by_key(|one| (one.step, one.after));
    all
}

impl Disturbance {
    /// Waits for its moment, and does it.
    pub(crate) async fn strike(self, daemon: &mut Daemon, step: &watch::Sender<usize>) {
        let mut reached = step.subscribe();
        let wait = reached.wait_for(|step| *step > self.step);
        tokio::time::timeout(LONGEST_STRETCH, wait)
            .await
            .unwrap_or_else(|_| panic!("the agent does not come to step {}", self.step))
            .expect("the sender is borrowed");
        tokio::time::sleep(self.after).await;
        match self.what {
            What::KillWorker => daemon.kill_worker().await,
            What::KillSupervisor => {
                signal(daemon.supervisor_pid(), Signal::KILL);
                daemon.ended().await;
                daemon.start_again().await;
            }
            What::Restart => {
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
    }
}

/// Waits for something that may take as long as the whole plan.
pub(crate) async fn until_at_last<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(LONGEST_STRETCH, what, look).await
}
