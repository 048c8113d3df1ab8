//! Restarts and kills the daemon while turns are sent.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep, sleep_until};

use crate::cli::client::{Client, ClientError};
use crate::cli::out::hint;
use crate::domain::RestartStatus;
use crate::loadgen::LoadProbe;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A disturbance of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Restart,
    Kill,
}

/// The name of a kill in the report's disturbances.
pub(super) const KILL: &str = "kill";
const RESTART: &str = "restart";

/// The times of the disturbances.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    /// Each disturbance with its interval and its next time.
    due: Vec<(What, Duration, Duration)>,
    end: Duration,
}

impl Schedule {
    pub(super) fn new(
        restart_every: Option<Duration>,
        kill_every: Option<Duration>,
        end: Duration,
    ) -> Self {
        let due = [(What::Restart, restart_every), (What::Kill, kill_every)];
        Self {
            due: due
                .into_iter()
                .filter_map(|(what, every)| Some((what, every?, every?)))
                .collect(),
            end,
        }
    }

    /// Returns the next disturbance and when it is due, counted from the start; `now` is the time
    /// elapsed so far. Returns `None` once less than half of its interval would be left to observe
    /// its effect.
    fn next(&mut self, now: Duration) -> Option<(What, Duration)> {
        let (what, every, at) = self.due.iter_mut().min_by_key(|(_, _, at)| *at)?;
        // A disturbance that took too long delays the next one; missed ones are not made up for.
        let next = (*at).max(now);
        *at = next + *every;
        let enough_left = next + *every / 2 <= self.end;
        enough_left.then_some((*what, next))
    }
}

/// Executes the schedule until nothing is left in it.
pub(super) async fn disturb(mut schedule: Schedule, client: &Client, watch: &LoadProbe) {
    let began = Instant::now();
    while let Some((what, at)) = schedule.next(began.elapsed()) {
        sleep_until(began + at).await;
        let done = match what {
            What::Restart => restart(client, watch).await,
            What::Kill => kill(client, watch).await,
        };
        if let Err(error) = done {
            hint(format!("a disturbance failed: {error}"));
        }
    }
}

/// Restarts the daemon and waits until the new generation serves, or the restart is over without
/// one.
async fn restart(client: &Client, watch: &LoadProbe) -> Result<(), ClientError> {
    watch.disturb(RESTART);
    let generation = client.operate("restart").await?.generation.0;
    loop {
        match client.restart(generation).await {
            Ok(record) => match record.status {
                RestartStatus::Running => {}
                RestartStatus::Probation | RestartStatus::Completed => return Ok(()),
                RestartStatus::RolledBack | RestartStatus::Refused | RestartStatus::Stopped => {
                    let reason = record.reason.as_deref().unwrap_or("no reason given");
                    let status = record.status.as_str();
                    hint(format!("restart {generation} is {status}: {reason}"));
                    return Ok(());
                }
            },
            Err(error) if error.is_passing() => {}
            Err(error) => return Err(error),
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Kills the worker with SIGKILL and waits until another one serves.
async fn kill(client: &Client, watch: &LoadProbe) -> Result<(), ClientError> {
    let worker = async || -> Result<Option<Pid>, ClientError> {
        let pid = client.daemon().await?.pid;
        Ok(pid
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw))
    };
    let Some(old) = worker().await? else {
        hint("the daemon does not tell its worker's process id: nothing is killed");
        return Ok(());
    };
    watch.disturb(KILL);
    // This can fail only if the worker has just exited by itself.
    let _ = kill_process(old, Signal::KILL);
    loop {
        match worker().await {
            Ok(Some(new)) if new != old => return Ok(()),
            Ok(_) => {}
            Err(error) if error.is_passing() => {}
            Err(error) => return Err(error),
        }
        sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn each_comes_in_its_time_while_enough_is_left() {
        let mut schedule = Schedule::new(Some(secs(4)), Some(secs(3)), secs(10));
        let mut now = Duration::ZERO;
        let mut done = Vec::new();
        while let Some((what, at)) = schedule.next(now) {
            done.push((what, at.as_secs()));
            now = at;
        }
        use What::{Kill, Restart};
        assert_eq!(done, [(Kill, 3), (Restart, 4), (Kill, 6), (Restart, 8)]);
        assert!(Schedule::new(None, None, secs(10)).next(secs(0)).is_none());
    }

    #[test]
    fn what_is_late_is_not_made_up_for() {
        let mut schedule = Schedule::new(Some(secs(1)), None, secs(100));
        assert_eq!(schedule.next(secs(0)), Some((What::Restart, secs(1))));
        assert_eq!(schedule.next(secs(7)), Some((What::Restart, secs(7))));
        assert_eq!(schedule.next(secs(7)), Some((What::Restart, secs(8))));
    }
}
