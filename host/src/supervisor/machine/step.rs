//! The machine itself: its phases, and the transitions between them.

use super::event::{
    Action, MachineEvent, Millis, Replacement, SpawnMode, SupervisorMessage, WorkerId,
};
use super::limits::{SERVE_DEADLINE_MS, SILENT_DEADLINE_MS, START_DEADLINE_MS};
use super::workers::Workers;
use crate::supervisor::message::{Mode, StartCause};

const SERVE_TOO_SLOW: &str = "did not serve in time";

/// See the [module](super).
pub(in crate::supervisor) struct Machine<C> {
    pub(super) phase: SupervisorPhase<C>,
    pub(super) workers: Workers,
    /// The content of the last `Serving`; after a rollback, the config that is rolled back to.
    pub(super) good: Option<Good<C>>,
    /// The config that last passed its probation, in this life of the supervisor or an earlier one.
    pub(super) proven: Option<C>,
    /// Respawns since a worker last settled, was proven or was rolled back to; determines the
    /// backoff.
    pub(super) respawns: u32,
    /// Workers in a row that died of a SIGKILL from nobody knows where.
    pub(super) unaccounted: u32,
    /// Workers in a row that a signal from outside ended before they had settled.
    pub(super) outside: u32,
    /// The number of workers started, which is the id of the latest one.
    pub(super) started: WorkerId,
}

pub(super) struct Good<C> {
    pub(super) config: C,
    pub(super) stop_budget: Millis,
}

pub(super) enum SupervisorPhase<C> {
    /// One worker has been ordered to open the store. It runs on `config`, or at the first boot on
    /// the config file as it is.
    Starting {
        worker: WorkerId,
        config: Option<C>,
    },
    /// One worker owns the store and serves, or answers why it cannot open the store and goes on
    /// trying: no other worker may either way.
    Serving {
        worker: WorkerId,
        since: Millis,
        standby: Standby<C>,
    },
    /// No worker owns the store, and those still alive are being killed. The next worker is started
    /// once all are gone, at `until` at the earliest.
    Clearing {
        until: Millis,
        cause: StartCause,
        config: Option<C>,
    },
    /// The daemon is stopping. `asked`: a signal has requested it; `done`: the worker has stopped
    /// in order, so that its exit is not a failure; `code`: the exit code.
    Stopping {
        worker: Option<WorkerId>,
        asked: bool,
        done: bool,
        code: u8,
    },
    Over,
}

pub(super) enum Standby<C> {
    None,
    /// Waits for workers of earlier restarts to exit, which may hold its addresses.
    Waiting(Replacement<C>),
    Preparing {
        id: WorkerId,
        generation: u64,
        config: C,
    },
    Ready {
        id: WorkerId,
        generation: u64,
        config: C,
    },
}

impl<C: Clone + PartialEq> Machine<C> {
    /// Returns the machine and its first actions.
    pub(in crate::supervisor) fn new() -> (Self, Vec<Action<C>>) {
        let mut machine = Self {
            phase: SupervisorPhase::Over,
            workers: Workers::default(),
            good: None,
            proven: None,
            respawns: 0,
            unaccounted: 0,
            outside: 0,
            started: 0,
        };
        let mut out = Vec::new();
        machine.serve(0, StartCause::First, None, &mut out);
        (machine, out)
    }

    /// Processes an event. Returns the actions to execute, in this order.
    pub(in crate::supervisor) fn step(
        &mut self,
        now: Millis,
        event: MachineEvent<C>,
    ) -> Vec<Action<C>> {
        let mut out = Vec::new();
        if matches!(self.phase, SupervisorPhase::Over) {
            return out;
        }
        match event {
            MachineEvent::Message(id, message) => self.on_message(now, id, message, &mut out),
            MachineEvent::Closed(id) => {
                self.workers
                    .due(id, now + SILENT_DEADLINE_MS, "closed its link and lived on");
            }
            MachineEvent::Broken(id, reason) => self.workers.kill(id, &reason, &mut out),
            MachineEvent::Gone(id, death) => self.gone(now, id, &death, &mut out),
            MachineEvent::Terminate => self.terminate(now, &mut out),
            MachineEvent::Hangup => self.hangup(&mut out),
            MachineEvent::Tick => {}
        }
        self.workers.expire(now, &mut out);
        self.proceed(now, &mut out);
        out
    }

    /// Returns when the next [`MachineEvent::Tick`] is due at the latest.
    pub(in crate::supervisor) fn next_deadline(&self) -> Option<Millis> {
        let clearing = match self.phase {
            SupervisorPhase::Clearing { until, .. } if self.workers.is_empty() => Some(until),
            _ => None,
        };
        self.workers.deadlines().chain(clearing).min()
    }

    fn hangup(&mut self, out: &mut Vec<Action<C>>) {
        match &self.phase {
            SupervisorPhase::Starting { worker, .. } | SupervisorPhase::Serving { worker, .. } => {
                out.push(Action::Send(*worker, SupervisorMessage::Reload));
            }
            // The next worker compares the file with its running config anyway.
            SupervisorPhase::Clearing { .. }
            | SupervisorPhase::Stopping { .. }
            | SupervisorPhase::Over => {}
        }
    }

    /// Executes transitions that waited for other workers to be gone, or for a pause to end.
    fn proceed(&mut self, now: Millis, out: &mut Vec<Action<C>>) {
        match &mut self.phase {
            SupervisorPhase::Clearing {
                until,
                cause,
                config,
            } if self.workers.is_empty() && *until <= now => {
                let (cause, config) = (cause.clone(), config.clone());
                out.push(Action::Sweep(None));
                self.serve(now, cause, config, out);
            }
            SupervisorPhase::Serving { standby, .. } if self.workers.only_one() => {
                if let Standby::Waiting(planned) = standby {
                    let planned = planned.clone();
                    self.started += 1;
                    let id = self.started;
                    *standby = Standby::Preparing {
                        id,
                        generation: planned.generation,
                        config: planned.config.clone(),
                    };
                    self.workers.insert(id);
                    self.workers
                        .due(id, now + START_DEADLINE_MS, "was not ready in time");
                    let birth = SpawnMode {
                        mode: Mode::Standby,
                        cause: StartCause::Planned,
                        generation: Some(planned.generation),
                        config: Some(planned.config),
                        info: planned.info,
                    };
                    out.push(Action::Spawn(id, birth));
                }
            }
            SupervisorPhase::Stopping { code, .. } if self.workers.is_empty() => {
                out.push(Action::Sweep(None));
                out.push(Action::Exit(*code));
                self.phase = SupervisorPhase::Over;
            }
            _ => {}
        }
    }

    /// Starts a worker that may open the store at once.
    pub(super) fn serve(
        &mut self,
        now: Millis,
        cause: StartCause,
        config: Option<C>,
        out: &mut Vec<Action<C>>,
    ) {
        self.started += 1;
        let id = self.started;
        self.workers.insert(id);
        // The first boot has no deadline: there is no last good state to go back to, and the user
        // who started it can decide.
        if self.good.is_some() {
            self.workers
                .due(id, now + SERVE_DEADLINE_MS, SERVE_TOO_SLOW);
        }
        self.phase = SupervisorPhase::Starting {
            worker: id,
            config: config.clone(),
        };
        let birth = SpawnMode {
            mode: Mode::Serve,
            cause,
            generation: None,
            config,
            info: Vec::new(),
        };
        out.push(Action::Spawn(id, birth));
    }

    /// Orders a standby to open the store.
    pub(super) fn go(
        &mut self,
        now: Millis,
        (id, config): (WorkerId, C),
        cause: StartCause,
        out: &mut Vec<Action<C>>,
    ) {
        self.phase = SupervisorPhase::Starting {
            worker: id,
            config: Some(config),
        };
        self.workers.not_due(id);
        self.workers
            .due(id, now + SERVE_DEADLINE_MS, SERVE_TOO_SLOW);
        out.push(Action::Send(id, SupervisorMessage::Go(cause)));
    }

    /// Kills all workers except `spared`, which exit by themselves. Once all are gone, and `delay`
    /// from now at the earliest, a new worker is started.
    pub(super) fn clear(
        &mut self,
        now: Millis,
        (cause, config): (StartCause, Option<C>),
        delay: Millis,
        spared: &[WorkerId],
        out: &mut Vec<Action<C>>,
    ) {
        for id in self.workers.others(spared) {
            self.workers.kill(id, "a worker is started anew", out);
        }
        self.phase = SupervisorPhase::Clearing {
            until: now + delay,
            cause,
            config,
        };
    }
}
