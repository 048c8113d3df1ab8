//! The handling of workers' messages.

use super::event::{Action, Millis, Replacement, SupervisorMessage, WorkerId, WorkerMessage};
use super::exits::{RELEASED_TOO_SLOW, STOP_TOO_SLOW};
use super::limits::{
    ALIVE_TIMEOUT_MS, EXIT_DEADLINE_MS, MAX_STOP_BUDGET_MS, SERVE_DEADLINE_MS, STOP_MARGIN_MS,
};
use super::step::{Good, Machine, Standby, SupervisorPhase};
use crate::supervisor::message::StartCause;

const FAILED_TOO_SLOW: &str = "failed and did not exit";

impl<C: Clone + PartialEq> Machine<C> {
    pub(super) fn on_message(
        &mut self,
        now: Millis,
        id: WorkerId,
        message: WorkerMessage<C>,
        out: &mut Vec<Action<C>>,
    ) {
        if !self.workers.is_trusted(id) {
            return;
        }
        match message {
            WorkerMessage::Mending => self.mends(now, id),
            WorkerMessage::Alive => self.workers.alive(id, now + ALIVE_TIMEOUT_MS),
            WorkerMessage::Fatal { reason, code } => {
                self.workers.failed(id, reason, code);
                self.workers
                    .due(id, now + EXIT_DEADLINE_MS, FAILED_TOO_SLOW);
            }
            WorkerMessage::Serving {
                stop_budget,
                config,
            } => self.serving(now, id, stop_budget, config, out),
            WorkerMessage::LastGood(config) => {
                // A config that passed its probation under this supervisor takes precedence.
                self.proven.get_or_insert(config);
            }
            WorkerMessage::Proven => self.proves(id),
            WorkerMessage::Replace(planned) => self.replace(id, planned, out),
            WorkerMessage::StandbyReady => self.standby_ready(id, out),
            WorkerMessage::StandbyFailed { reason } => self.standby_failed(now, id, reason, out),
            WorkerMessage::CancelReplace => self.cancel(id, out),
            WorkerMessage::Connection => self.connection(id, out),
            WorkerMessage::Released => self.released(now, id, out),
            WorkerMessage::Stopped => self.stopped(now, id, out),
        }
    }

    fn serving(
        &mut self,
        now: Millis,
        id: WorkerId,
        stop_budget: Millis,
        config: C,
        out: &mut Vec<Action<C>>,
    ) {
        let stop_budget = stop_budget.min(MAX_STOP_BUDGET_MS);
        match &mut self.phase {
            SupervisorPhase::Starting { worker, .. } if *worker == id => {
                self.phase = SupervisorPhase::Serving {
                    worker: id,
                    since: now,
                    standby: Standby::None,
                };
                self.workers.not_due(id);
                for old in self.workers.others(&[id]) {
                    self.workers
                        .due(old, now + EXIT_DEADLINE_MS, RELEASED_TOO_SLOW);
                }
            }
            SupervisorPhase::Serving { worker, .. } if *worker == id => {}
            // It was sent `Stop` while it opened the store; only now is its own budget known.
            SupervisorPhase::Stopping {
                worker: Some(worker),
                done: false,
                ..
            } if *worker == id => {
                self.workers.not_due(id);
                self.workers
                    .due(id, now + stop_budget + STOP_MARGIN_MS, STOP_TOO_SLOW);
            }
            _ => return,
        }
        self.good = Some(Good {
            config,
            stop_budget,
        });
        out.push(Action::Settle(id));
    }

    /// Gives a worker more time that writes its store anew, or compiles: that ends, since it comes further,
    /// or has limits of its own.
    fn mends(&mut self, now: Millis, id: WorkerId) {
        let is_awaited = match &self.phase {
            SupervisorPhase::Starting { worker, .. } => *worker == id,
            SupervisorPhase::Serving {
                standby: Standby::Preparing { id: standby, .. },
                ..
            } => *standby == id,
            _ => false,
        };
        if is_awaited {
            self.workers.put_off(id, now + SERVE_DEADLINE_MS);
        }
    }

    /// Records the serving worker's config as the one that later workers are rolled back to.
    fn proves(&mut self, id: WorkerId) {
        if let SupervisorPhase::Serving { worker, .. } = &self.phase
            && *worker == id
        {
            self.proven = self.good.as_ref().map(|good| good.config.clone());
            self.respawns = 0;
        }
    }

    fn replace(&mut self, id: WorkerId, planned: Replacement<C>, out: &mut Vec<Action<C>>) {
        match &mut self.phase {
            SupervisorPhase::Serving {
                worker, standby, ..
            } if *worker == id => {
                let before = std::mem::replace(standby, Standby::Waiting(planned));
                if let Standby::Preparing { id, .. } | Standby::Ready { id, .. } = before {
                    self.workers
                        .kill(id, "a later restart takes its place", out);
                }
            }
            _ => out.push(Action::Send(
                id,
                SupervisorMessage::StandbyFailed {
                    generation: planned.generation,
                    reason: "only the worker that serves, and is not being stopped, can be \
                             replaced"
                        .to_owned(),
                },
            )),
        }
    }

    fn standby_ready(&mut self, id: WorkerId, out: &mut Vec<Action<C>>) {
        if let SupervisorPhase::Serving {
            worker, standby, ..
        } = &mut self.phase
            && let Standby::Preparing {
                id: of,
                generation,
                config,
            } = &*standby
            && *of == id
        {
            let (generation, config) = (*generation, config.clone());
            *standby = Standby::Ready {
                id,
                generation,
                config,
            };
            out.push(Action::Send(
                *worker,
                SupervisorMessage::StandbyReady { generation },
            ));
            self.workers.not_due(id);
        }
    }

    fn standby_failed(
        &mut self,
        now: Millis,
        id: WorkerId,
        reason: String,
        out: &mut Vec<Action<C>>,
    ) {
        self.workers.failed(id, reason.clone(), 1);
        self.workers
            .due(id, now + EXIT_DEADLINE_MS, FAILED_TOO_SLOW);
        self.drop_standby(id, reason, out);
    }

    /// Reports to the current worker that its standby is gone, if `id` is the standby.
    pub(super) fn drop_standby(&mut self, id: WorkerId, reason: String, out: &mut Vec<Action<C>>) {
        if let SupervisorPhase::Serving {
            worker, standby, ..
        } = &mut self.phase
            && let Standby::Preparing {
                id: of, generation, ..
            }
            | Standby::Ready {
                id: of, generation, ..
            } = *standby
            && of == id
        {
            *standby = Standby::None;
            let tell = SupervisorMessage::StandbyFailed { generation, reason };
            out.push(Action::Send(*worker, tell));
        }
    }

    fn cancel(&mut self, id: WorkerId, out: &mut Vec<Action<C>>) {
        if let SupervisorPhase::Serving {
            worker, standby, ..
        } = &mut self.phase
            && *worker == id
            && let Standby::Preparing { id, .. } | Standby::Ready { id, .. } =
                std::mem::replace(standby, Standby::None)
        {
            self.workers.kill(id, "the restart was given up", out);
        }
    }

    fn connection(&mut self, id: WorkerId, out: &mut Vec<Action<C>>) {
        match &self.phase {
            SupervisorPhase::Serving {
                worker,
                standby: Standby::Ready { id: next, .. },
                ..
            } if *worker == id && self.workers.is_trusted(*next) => out.push(Action::Relay(*next)),
            // The standby died meanwhile: return the connection, so that the client loses nothing.
            SupervisorPhase::Serving { worker, .. } if *worker == id => out.push(Action::Relay(id)),
            SupervisorPhase::Starting { worker, .. } if *worker != id => {
                out.push(Action::Relay(*worker))
            }
            _ => {}
        }
    }

    fn released(&mut self, now: Millis, id: WorkerId, out: &mut Vec<Action<C>>) {
        match &mut self.phase {
            SupervisorPhase::Serving {
                worker, standby, ..
            } if *worker == id => match std::mem::replace(standby, Standby::None) {
                Standby::Preparing {
                    id: next, config, ..
                }
                | Standby::Ready {
                    id: next, config, ..
                } => {
                    self.go(now, (next, config), StartCause::Planned, out);
                    // Sweep only after `Go`, so that the new worker starts first: clients wait.
                    out.push(Action::Sweep(Some(id)));
                }
                Standby::None | Standby::Waiting(_) => {
                    // It may finish its last responses, so it is not killed at once.
                    self.workers
                        .due(id, now + EXIT_DEADLINE_MS, RELEASED_TOO_SLOW);
                    let cause = StartCause::Crash {
                        own_doing: true,
                        detail: "the worker that was to take over died before it could".to_owned(),
                    };
                    let config = self.good.as_ref().map(|good| good.config.clone());
                    self.clear(now, (cause, config), 0, &[id], out);
                }
            },
            SupervisorPhase::Stopping { .. } => return self.stopped(now, id, out),
            _ => return,
        }
        self.workers.need_not_be_alive(id);
    }

    fn stopped(&mut self, now: Millis, id: WorkerId, out: &mut Vec<Action<C>>) {
        match &mut self.phase {
            SupervisorPhase::Stopping {
                worker: Some(worker),
                done,
                code,
                ..
            } if *worker == id => {
                *done = true;
                *code = 0;
            }
            SupervisorPhase::Serving { worker, .. } | SupervisorPhase::Starting { worker, .. }
                if *worker == id =>
            {
                self.phase = SupervisorPhase::Stopping {
                    worker: Some(id),
                    asked: false,
                    done: true,
                    code: 0,
                };
                for other in self.workers.others(&[id]) {
                    self.workers.kill(other, "the daemon stops", out);
                }
            }
            _ => return,
        }
        self.workers.need_not_be_alive(id);
        self.workers
            .due(id, now + EXIT_DEADLINE_MS, "had stopped and did not exit");
    }
}
