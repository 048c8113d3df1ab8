//! Deaths of workers, and the end of the whole.

use super::event::{Action, Death, Millis, Tell, WorkerId};
use super::limits::{
    BACKOFF_FIRST_MS, BACKOFF_MAX_MS, DEFAULT_STOP_BUDGET_MS, EXIT_DEADLINE_MS, SETTLED_MS,
    STOP_MARGIN_MS,
};
use super::step::{Machine, Phase, Standby};
use crate::supervisor::message::StartCause;

const AGAIN: &str = "starting it anew on the running configuration";
pub(super) const RELEASED_TOO_SLOW: &str = "had released the store and did not exit";
pub(super) const STOP_TOO_SLOW: &str = "did not stop in time";

impl<C: Clone> Machine<C> {
    pub(super) fn gone(
        &mut self,
        now: Millis,
        id: WorkerId,
        death: &Death,
        out: &mut Vec<Action<C>>,
    ) {
        let Some(worker) = self.workers.remove(id) else {
            return;
        };
        let (own_doing, detail) = worker.tell(death);
        let crash = StartCause::Crash {
            own_doing,
            detail: detail.clone(),
        };
        match &mut self.phase {
            Phase::Starting { worker: of } if *of == id => {
                if self.good.is_none() {
                    if !worker.has_failed() {
                        let log = format!("{detail} before it served; giving up");
                        out.push(Action::Log(Some(id), log));
                    }
                    self.phase = Phase::Stopping {
                        worker: None,
                        asked: false,
                        done: true,
                        code: worker.first_boot_code(death),
                    };
                    return;
                }
                out.push(Action::Log(
                    Some(id),
                    format!("{detail} before it served; {AGAIN}"),
                ));
                let delay = self.backoff(None, own_doing);
                self.clear(now, crash, delay, &[], out);
            }
            Phase::Serving {
                worker: of,
                since,
                standby,
            } if *of == id => {
                let served = now.saturating_sub(*since);
                if let Standby::Ready { id: next, .. } = *standby {
                    let log = format!("{detail} while it drained; the new one takes over");
                    out.push(Action::Log(Some(id), log));
                    self.go(now, next, crash, out);
                    out.push(Action::Sweep(None));
                } else {
                    out.push(Action::Log(Some(id), format!("{detail}; {AGAIN}")));
                    let delay = self.backoff(Some(served), own_doing);
                    self.clear(now, crash, delay, &[], out);
                }
            }
            Phase::Serving { .. } => self.drop_standby(id, detail, out),
            Phase::Stopping {
                worker: of,
                done,
                code,
                ..
            } if *of == Some(id) => {
                *of = None;
                if !*done && *death != Death::Exited(0) {
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
            Phase::Stopping { asked: true, .. } => {
                for id in self.workers.others(&[]) {
                    self.workers.kill(id, "asked twice to stop", out);
                }
                self.phase = Phase::Over;
                out.push(Action::Sweep(None));
                out.push(Action::Exit(1));
                return;
            }
            Phase::Stopping { asked, .. } => {
                *asked = true;
                return;
            }
            Phase::Clearing { .. } | Phase::Over => (None, false),
            Phase::Serving { worker, .. } => (Some(*worker), false),
            // The one that has released may end its last answers.
            Phase::Starting { worker } => (Some(*worker), true),
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
            out.push(Action::Tell(id, Tell::Stop));
            self.workers.not_due(id);
            self.workers
                .due(id, now + budget + STOP_MARGIN_MS, STOP_TOO_SLOW);
        }
        self.phase = Phase::Stopping {
            worker,
            asked: true,
            done: false,
            code: 0,
        };
    }

    /// The pause before the next respawn of a worker that had served for `served`.
    fn backoff(&mut self, served: Option<Millis>, own_doing: bool) -> Millis {
        if served.is_some_and(|served| served >= SETTLED_MS) {
            self.respawns = 0;
        }
        let delay = match self.respawns {
            0 => 0,
            // A kill from outside says nothing against the worker: clients wait no longer than
            // keeps a machine that is out of memory from spinning.
            _ if !own_doing => BACKOFF_FIRST_MS,
            n => (BACKOFF_FIRST_MS << (n - 1).min(16)).min(BACKOFF_MAX_MS),
        };
        if own_doing || self.respawns == 0 {
            self.respawns += 1;
        }
        delay
    }
}
