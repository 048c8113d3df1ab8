//! The machine itself: its phases, and what moves it from one to the next.

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
    /// All that are started and not reaped.
    pub(super) workers: Workers,
    /// What the last `Serving` said; after a rollback, what is gone back to.
    pub(super) good: Option<Good<C>>,
    /// What last proved itself, in this life of the supervisor or an earlier one.
    pub(super) proven: Option<C>,
    /// Respawns since a worker was last settled; governs the backoff.
    pub(super) respawns: u32,
    pub(super) started: WorkerId,
}

pub(super) struct Good<C> {
    pub(super) config: C,
    pub(super) stop_budget: Millis,
}

pub(super) enum SupervisorPhase<C> {
    /// One worker was told to open the store. It runs on `config`, or at the first boot on the
    /// file as it is.
    Starting {
        worker: WorkerId,
        config: Option<C>,
    },
    /// It did, and serves.
    Serving {
        worker: WorkerId,
        since: Millis,
        standby: Standby<C>,
    },
    /// Nobody owns the store; what still lives is being ended.
    Clearing {
        until: Millis,
        cause: StartCause,
        config: Option<C>,
    },
    /// The end was asked for, by a signal or by the worker.
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
    /// For workers of earlier restarts to be gone, who may hold its addresses.
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
    /// The machine and its first actions.
    pub(in crate::supervisor) fn new() -> (Self, Vec<Action<C>>) {
        let mut machine = Self {
            phase: SupervisorPhase::Over,
            workers: Workers::default(),
            good: None,
            proven: None,
            respawns: 0,
            started: 0,
        };
        let mut out = Vec::new();
        machine.serve(0, StartCause::First, None, &mut out);
        (machine, out)
    }

    /// Takes an event in and says what to do, in this order.
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
            MachineEvent::Message(id, said) => self.on_message(now, id, said, &mut out),
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

    /// When [`Event::Tick`] is due at the latest.
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
            // The next worker compares the file with what it runs on anyway.
            SupervisorPhase::Clearing { .. }
            | SupervisorPhase::Stopping { .. }
            | SupervisorPhase::Over => {}
        }
    }

    /// Does what waited for others to be gone, or for time.
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
        // The first boot has no last good state to go back to: whoever started it decides.
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

    /// Lets a standby open the store.
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

    /// Ends all that live but `spared`, who end themselves. Once all are gone, and `delay` from now
    /// at the earliest, a new worker is started.
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
