//! The handling of workers' deaths, and of the request to stop.

use super::event::{Action, ExitStatus, Millis, SupervisorMessage, WorkerId};
use super::limits::{
    BACKOFF_FIRST_MS, BACKOFF_MAX_MS, DEFAULT_STOP_BUDGET_MS, EXIT_DEADLINE_MS, OUTSIDE_FREE,
    OUTSIDE_MAX_MS, OUTSIDE_REMEDY, SETTLED_MS, STOP_MARGIN_MS, UNACCOUNTED_FIRST_MS,
    UNACCOUNTED_FREE, UNACCOUNTED_MAX_MS, UNACCOUNTED_SETTLED_MS,
};
use super::step::{Machine, Standby, SupervisorPhase};
use crate::supervisor::message::StartCause;

const BACK: &str = "rolling back to the configuration and binary that last proved themselves";
const AGAIN: &str = "starting it anew on the running configuration";
const UNACCOUNTED_REMEDY: &str = "; if memory has run out, give the daemon more, or lower daemon.guest_memory or daemon.turns_max";
pub(super) const RELEASED_TOO_SLOW: &str = "had released the store and did not exit";
pub(super) const STOP_TOO_SLOW: &str = "did not stop in time";

impl<C: Clone + PartialEq> Machine<C> {
    pub(super) fn gone(
        &mut self,
        now: Millis,
        id: WorkerId,
        death: &ExitStatus,
        out: &mut Vec<Action<C>>,
    ) {
        let Some(worker) = self.workers.remove(id) else {
            return;
        };
        let (own_doing, detail) = worker.describe(death);
        let unaccounted = *death == ExitStatus::Unaccounted && !own_doing;
        match &mut self.phase {
            SupervisorPhase::Starting { worker: of, config } if *of == id => {
                let config = config.clone();
                if self.good.is_none() {
                    if !worker.has_failed() {
                        let log = format!("{detail} before it served; giving up");
                        out.push(Action::Log(Some(id), log));
                    }
                    self.phase = SupervisorPhase::Stopping {
                        worker: None,
                        asked: false,
                        done: true,
                        code: worker.first_boot_code(death),
                    };
                    return;
                }
                let detail = format!("{detail} before it served");
                let next = self.after(config.as_ref(), own_doing, &detail);
                let pause = self.backoff(None, own_doing, unaccounted);
                self.start_anew(now, id, next, pause, out);
            }
            SupervisorPhase::Serving {
                worker: of,
                since,
                standby,
            } if *of == id => {
                let served = now.saturating_sub(*since);
                if let Standby::Ready {
                    id: next, config, ..
                } = &*standby
                {
                    let log = format!("{detail} while it drained; the new one takes over");
                    out.push(Action::Log(Some(id), log));
                    let next = (*next, config.clone());
                    self.go(now, next, StartCause::Crash { own_doing, detail }, out);
                    out.push(Action::Sweep(None));
                } else {
                    let config = self.good.as_ref().map(|good| good.config.clone());
                    let next = self.after(config.as_ref(), own_doing, &detail);
                    let pause = self.backoff(Some(served), own_doing, unaccounted);
                    self.start_anew(now, id, next, pause, out);
                }
            }
            SupervisorPhase::Serving { .. } => {
                let reason = format!("the new worker {detail} before it took over");
                self.drop_standby(id, reason, out);
            }
            SupervisorPhase::Stopping {
                worker: of,
                done,
                code,
                ..
            } if *of == Some(id) => {
                *of = None;
                if !*done && *death != ExitStatus::Exited(0) {
                    *code = 1;
                    let log = format!("{detail} before it had stopped in order");
                    out.push(Action::Log(Some(id), log));
                }
            }
            _ => {}
        }
    }

    pub(super) fn terminate(&mut self, now: Millis, out: &mut Vec<Action<C>>) {
        let (worker, keep_others) = match &mut self.phase {
            SupervisorPhase::Stopping { asked: true, .. } => {
                for id in self.workers.others(&[]) {
                    self.workers.kill(id, "asked twice to stop", out);
                }
                self.phase = SupervisorPhase::Over;
                out.push(Action::Sweep(None));
                out.push(Action::Exit(1));
                return;
            }
            SupervisorPhase::Stopping { asked, .. } => {
                *asked = true;
                return;
            }
            SupervisorPhase::Clearing { .. } | SupervisorPhase::Over => (None, false),
            SupervisorPhase::Serving { worker, .. } => (Some(*worker), false),
            // The worker that has released the store may finish its last responses.
            SupervisorPhase::Starting { worker, .. } => (Some(*worker), true),
        };
        let kept: Vec<WorkerId> = worker.into_iter().collect();
        for other in self.workers.others(&kept) {
            if keep_others {
                self.workers
                    .due(other, now + EXIT_DEADLINE_MS, RELEASED_TOO_SLOW);
            } else {
                self.workers.kill(other, "the daemon stops", out);
            }
        }
        if let Some(id) = worker {
            let budget = self
                .good
                .as_ref()
                .map_or(DEFAULT_STOP_BUDGET_MS, |good| good.stop_budget);
            out.push(Action::Send(id, SupervisorMessage::Stop));
            self.workers.not_due(id);
            self.workers
                .due(id, now + budget + STOP_MARGIN_MS, STOP_TOO_SLOW);
        }
        self.phase = SupervisorPhase::Stopping {
            worker,
            asked: true,
            done: false,
            code: 0,
        };
    }

    /// Returns the cause and the config of the worker that follows a dead one, which ran on
    /// `config`:
    ///
    /// | the worker died | `config` is what last passed probation | the next one runs on |
    /// |---|---|---|
    /// | by its own doing | no | what last passed probation: a rollback |
    /// | by its own doing | yes | the same, after a pause |
    /// | of a signal from outside | either | what last served |
    fn after(
        &mut self,
        config: Option<&C>,
        own_doing: bool,
        detail: &str,
    ) -> (StartCause, Option<C>) {
        let detail = detail.to_owned();
        let running = self.good.as_ref().map(|good| good.config.clone());
        let safe = self.proven.clone().or_else(|| running.clone());
        if own_doing && safe.is_some() && safe.as_ref() != config {
            if let (Some(good), Some(safe)) = (&mut self.good, &safe) {
                good.config = safe.clone();
            }
            return (StartCause::Rollback { detail }, safe);
        }
        (StartCause::Crash { own_doing, detail }, running)
    }

    /// Schedules the start of a new worker once all others are gone, and logs it.
    fn start_anew(
        &mut self,
        now: Millis,
        dead: WorkerId,
        (cause, config): (StartCause, Option<C>),
        pause: RespawnPause,
        out: &mut Vec<Action<C>>,
    ) {
        let (delay, log) = match &cause {
            StartCause::Rollback { detail } => {
                // The config that is rolled back to has passed probation, so the backoff restarts.
                self.respawns = 0;
                (0, format!("{detail}; {BACK}"))
            }
            StartCause::Crash { detail, .. } => {
                let RespawnPause {
                    delay,
                    deaths,
                    remedy,
                } = pause;
                let log = match delay {
                    0 => format!("{detail}; {AGAIN}"),
                    delay => format!(
                        "{detail}; it is death {deaths} in a row; {AGAIN} in {delay} ms{remedy}"
                    ),
                };
                (delay, log)
            }
            StartCause::First | StartCause::Planned => (0, AGAIN.to_owned()),
        };
        out.push(Action::Log(Some(dead), log));
        self.clear(now, (cause, config), delay, &[], out);
    }

    /// Counts the death of a worker that had served for `served`, and returns the pause before the
    /// next one is started.
    fn backoff(
        &mut self,
        served: Option<Millis>,
        own_doing: bool,
        unaccounted: bool,
    ) -> RespawnPause {
        let has_served = |long| served.is_some_and(|served| served >= long);
        if has_served(SETTLED_MS) {
            self.respawns = 0;
        }
        if own_doing || has_served(SETTLED_MS) {
            self.outside = 0;
        }
        self.outside += u32::from(!own_doing);
        let growth = self.outside.saturating_sub(OUTSIDE_FREE);
        if !unaccounted || has_served(UNACCOUNTED_SETTLED_MS) {
            self.unaccounted = 0;
        }
        self.unaccounted += u32::from(unaccounted);
        let delay = match self.respawns {
            0 => 0,
            // A kill from outside is not the worker's fault: keep the pause, during which clients
            // wait, just long enough that a machine that is out of memory does not spin. Whoever goes on
            // and on means it.
            _ if !own_doing => (BACKOFF_FIRST_MS << growth.min(16)).min(OUTSIDE_MAX_MS),
            n => (BACKOFF_FIRST_MS << (n - 1).min(16)).min(BACKOFF_MAX_MS),
        };
        if own_doing || self.respawns == 0 {
            self.respawns += 1;
        }
        // It may be the kernel, which kills each worker anew that takes its work up again.
        if let Some(beyond) = self.unaccounted.checked_sub(UNACCOUNTED_FREE + 1) {
            return RespawnPause {
                delay: (UNACCOUNTED_FIRST_MS << beyond.min(16)).min(UNACCOUNTED_MAX_MS),
                deaths: self.unaccounted,
                remedy: UNACCOUNTED_REMEDY,
            };
        }
        RespawnPause {
            delay,
            deaths: self.respawns.max(self.outside),
            remedy: if growth > 0 { OUTSIDE_REMEDY } else { "" },
        }
    }
}

/// The pause before a worker is started.
struct RespawnPause {
    delay: Millis,
    /// The number of deaths in a row.
    deaths: u32,
    /// What the log says besides.
    remedy: &'static str,
}
