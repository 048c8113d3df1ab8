//! The machine itself: its phases and transitions.

use crate::domain::Generation;

use super::event::{Departure, Outcome, RestartAction, RestartEvent, Setback, Trigger, UnderWay};

/// The state machine of restarts and stops; see the [module](super).
pub(in crate::daemon) struct RestartMachine<P, C> {
    phase: Phase<P, C>,
    probation: Probation,
    /// The reason why the configuration file on disk is not the running one.
    refusal: Option<String>,
}

enum Phase<P, C> {
    Serving(RetryRule),
    /// A restart is being recorded; the supervisor does not know of it yet.
    Accepting,
    Restarting(Restart<P, C>),
    Stopping(StopUnderWay),
    /// No turn runs any more, and connections are handed over or closed. There is no way back.
    Leaving(UnderWay),
}

/// Whether the change that was refused last is retried automatically.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RetryRule {
    Never,
    OnceStoreWrites,
}

/// A restart that the supervisor knows of.
struct Restart<P, C> {
    generation: Generation,
    planned: P,
    stage: Stage,
    /// The latest change that arrived during this restart.
    pending: Option<(Trigger, C)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The standby is starting; nothing has changed yet.
    Preparing,
    /// New components are being tried on copies of what sessions have; nothing has changed yet.
    Trying,
    /// The active sessions are being recorded. This precedes the drain, because a service manager
    /// may kill the process during the drain.
    Recording,
    Draining,
    /// The store is being tested with one write before anything is handed over: a store that
    /// refuses writes would be useless to the successor too.
    LastWrite,
}

/// The stop of the daemon. It continues even if the store refuses writes.
struct StopUnderWay {
    generation: Generation,
    is_recorded: bool,
    drain: DrainProgress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DrainProgress {
    NotBegun,
    UnderWay,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probation {
    UnderWay,
    Over,
}

/// The worker's activity, as the status shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Activity {
    Serving,
    /// Turns run, and a standby is starting.
    Preparing,
    Draining,
    Stopping,
}

type Actions<P, C, D> = Vec<RestartAction<P, C, D>>;

impl<P, C> RestartMachine<P, C> {
    /// Creates the machine of a worker that has just begun to serve, and is in probation.
    pub(in crate::daemon) fn new() -> Self {
        Self {
            phase: Phase::Serving(RetryRule::Never),
            probation: Probation::UnderWay,
            refusal: None,
        }
    }

    /// Processes an event and returns the actions to perform.
    pub(in crate::daemon) fn step<D>(&mut self, event: RestartEvent<P, C, D>) -> Actions<P, C, D> {
        let mut out = Vec::new();
        match event {
            RestartEvent::Decided(candidate, outcome) => self.decided(candidate, outcome, &mut out),
            RestartEvent::Refused(setback) => self.refused(setback, &mut out),
            RestartEvent::Applied => {
                self.refusal = None;
                self.probation = Probation::UnderWay;
                out.push(RestartAction::BeginProbation);
            }
            RestartEvent::Accepted(generation, planned) => {
                self.accepted(generation, planned, &mut out)
            }
            RestartEvent::StandbyReady(generation) => self.standby_ready(generation, &mut out),
            RestartEvent::StandbyFailed(generation, reason) => {
                self.standby_failed(generation, reason, &mut out);
            }
            RestartEvent::Tried(result) => self.tried(result, &mut out),
            RestartEvent::ActiveRecorded(result) => self.active_recorded(result, &mut out),
            RestartEvent::Drained => self.drained(&mut out),
            RestartEvent::LastWritten(result) => self.last_written(result, &mut out),
            RestartEvent::Stop(generation, why) => self.stop(generation, why, &mut out),
            RestartEvent::ProbationOver if self.probation == Probation::UnderWay => {
                self.probation = Probation::Over;
                out.push(RestartAction::Prove);
            }
            RestartEvent::ProbationOver => {}
            RestartEvent::Tick { store_writes } => self.tick(store_writes, &mut out),
        }
        out
    }

    /// Returns the restart or stop in progress, if any.
    pub(in crate::daemon) fn under_way(&self) -> Option<UnderWay> {
        match &self.phase {
            Phase::Serving(_) | Phase::Accepting => None,
            Phase::Restarting(restart) => Some(UnderWay::Restart(restart.generation)),
            Phase::Stopping(stop) => Some(UnderWay::Stop(stop.generation)),
            Phase::Leaving(under_way) => Some(*under_way),
        }
    }

    pub(in crate::daemon) fn activity(&self) -> Activity {
        match &self.phase {
            Phase::Serving(_) | Phase::Accepting => Activity::Serving,
            Phase::Restarting(restart) => match restart.stage {
                Stage::Preparing | Stage::Trying | Stage::Recording => Activity::Preparing,
                Stage::Draining | Stage::LastWrite => Activity::Draining,
            },
            Phase::Stopping(_) | Phase::Leaving(UnderWay::Stop(_)) => Activity::Stopping,
            Phase::Leaving(UnderWay::Restart(_)) => Activity::Draining,
        }
    }

    /// Returns the restart in progress, until it is handed over or given up.
    pub(in crate::daemon) fn planned(&self) -> Option<&P> {
        match &self.phase {
            Phase::Restarting(restart) => Some(&restart.planned),
            _ => None,
        }
    }

    pub(in crate::daemon) fn planned_mut(&mut self) -> Option<&mut P> {
        match &mut self.phase {
            Phase::Restarting(restart) => Some(&mut restart.planned),
            _ => None,
        }
    }

    /// Returns why the configuration file on disk is not the running one.
    pub(in crate::daemon) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    #[cfg(test)]
    pub(super) fn is_proven(&self) -> bool {
        self.probation == Probation::Over
    }

    fn decided<D>(&mut self, candidate: C, outcome: Outcome<D>, out: &mut Actions<P, C, D>) {
        match (&mut self.phase, outcome) {
            (Phase::Restarting(restart), Outcome::Deferred(trigger)) => {
                // Only the latest change is kept.
                restart.pending = Some((trigger, candidate));
            }
            (Phase::Serving(retry), outcome) => {
                *retry = RetryRule::Never;
                match outcome {
                    Outcome::Nothing => {
                        self.refusal = None;
                        out.push(RestartAction::Adopt(candidate));
                    }
                    Outcome::Ignored => self.refusal = None,
                    Outcome::Hot(change) => out.push(RestartAction::Apply(change)),
                    Outcome::Restart(change) => {
                        self.phase = Phase::Accepting;
                        out.push(RestartAction::Accept(change));
                    }
                    Outcome::Rejected(setback) => self.refused(setback, out),
                    // The planner decided this in a phase that is over.
                    Outcome::Deferred(_) | Outcome::Stopping => {}
                }
            }
            // A worker that is stopping or leaving adopts no change.
            _ => {}
        }
    }

    /// Handles a refusal: the worker continues as it was.
    fn refused<D>(&mut self, setback: Setback, out: &mut Actions<P, C, D>) {
        if let Phase::Serving(_) | Phase::Accepting = self.phase {
            self.phase = Phase::Serving(match setback.by_store {
                true => RetryRule::OnceStoreWrites,
                false => RetryRule::Never,
            });
        }
        if self.refusal.as_ref() != Some(&setback.reason) {
            out.push(RestartAction::LogRefusal(setback.reason.clone()));
        }
        self.refusal = Some(setback.reason);
    }

    fn accepted<D>(&mut self, generation: Generation, planned: P, out: &mut Actions<P, C, D>) {
        match self.phase {
            Phase::Accepting => {
                self.refusal = None;
                self.phase = Phase::Restarting(Restart {
                    generation,
                    planned,
                    stage: Stage::Preparing,
                    pending: None,
                });
            }
            // A stop was requested while the restart was being recorded.
            _ => {
                out.push(RestartAction::CancelReplace);
                out.push(RestartAction::RecordRefused(
                    planned,
                    "given up: the daemon stops".to_owned(),
                ));
            }
        }
    }

    fn standby_ready<D>(&mut self, generation: Generation, out: &mut Actions<P, C, D>) {
        if let Phase::Restarting(restart) = &mut self.phase
            && restart.generation == generation
            && restart.stage == Stage::Preparing
        {
            restart.stage = Stage::Trying;
            out.push(RestartAction::BeginTrial);
        }
    }

    fn tried<D>(&mut self, result: Result<(), Setback>, out: &mut Actions<P, C, D>) {
        let Phase::Restarting(restart) = &mut self.phase else {
            return;
        };
        if restart.stage != Stage::Trying {
            return;
        }
        match result {
            Ok(()) => {
                restart.stage = Stage::Recording;
                out.push(RestartAction::EvictIdle(true));
                out.push(RestartAction::RecordActive);
            }
            Err(setback) => self.give_up(setback, None, out),
        }
    }

    fn standby_failed<D>(
        &mut self,
        generation: Generation,
        reason: String,
        out: &mut Actions<P, C, D>,
    ) {
        let Phase::Restarting(restart) = &self.phase else {
            return;
        };
        if restart.generation != generation {
            return;
        }
        let setback = Setback {
            reason: format!(
                "{reason}\nnothing has changed; new content of the files is tried by itself, the \
                 same again by `abide restart`"
            ),
            by_store: false,
        };
        self.give_up(setback, Some(reason), out);
    }

    /// Gives up the restart, reports why, and lets a pending change be planned again.
    /// `standby_failed` is the standby's own reason if it failed; the supervisor already knows
    /// then, so nothing needs to be cancelled there.
    fn give_up<D>(
        &mut self,
        setback: Setback,
        standby_failed: Option<String>,
        out: &mut Actions<P, C, D>,
    ) {
        let phase = std::mem::replace(&mut self.phase, Phase::Accepting);
        let Phase::Restarting(restart) = phase else {
            self.phase = phase;
            return;
        };
        if standby_failed.is_none() {
            out.push(RestartAction::CancelReplace);
        }
        match restart.stage {
            Stage::Preparing => {}
            Stage::Trying => out.push(RestartAction::CancelTrial),
            Stage::Recording => out.push(RestartAction::EvictIdle(false)),
            Stage::Draining | Stage::LastWrite => out.push(RestartAction::CancelDrain),
        }
        let reason = standby_failed.unwrap_or_else(|| setback.reason.clone());
        self.refused(setback, out);
        out.push(RestartAction::RecordRefused(restart.planned, reason));
        if let Some((trigger, candidate)) = restart.pending {
            out.push(RestartAction::Reconsider(trigger, candidate));
        }
    }

    fn active_recorded<D>(&mut self, result: Result<u64, Setback>, out: &mut Actions<P, C, D>) {
        match (&mut self.phase, result) {
            (Phase::Restarting(restart), Ok(active)) if restart.stage == Stage::Recording => {
                restart.stage = Stage::Draining;
                out.push(RestartAction::BeginDrain(active));
            }
            // The drain must not begin before the active sessions are recorded.
            (Phase::Restarting(restart), Err(setback)) if restart.stage == Stage::Recording => {
                self.give_up(setback, None, out);
            }
            (Phase::Stopping(stop), result) => {
                stop.is_recorded = true;
                if stop.drain == DrainProgress::NotBegun {
                    stop.drain = DrainProgress::UnderWay;
                    out.push(RestartAction::BeginDrain(result.unwrap_or(0)));
                }
                self.leave_if_stopped(out);
            }
            _ => {}
        }
    }

    fn drained<D>(&mut self, out: &mut Actions<P, C, D>) {
        match &mut self.phase {
            Phase::Restarting(restart) if restart.stage == Stage::Draining => {
                restart.stage = Stage::LastWrite;
                out.push(RestartAction::WriteLast);
            }
            Phase::Stopping(stop) => {
                stop.drain = DrainProgress::Over;
                self.leave_if_stopped(out);
            }
            _ => {}
        }
    }

    fn last_written<D>(&mut self, result: Result<(), Setback>, out: &mut Actions<P, C, D>) {
        match (&self.phase, result) {
            (Phase::Restarting(restart), Err(setback)) if restart.stage == Stage::LastWrite => {
                self.give_up(setback, None, out);
            }
            (Phase::Restarting(restart), Ok(())) if restart.stage == Stage::LastWrite => {
                let leaving = Phase::Leaving(UnderWay::Restart(restart.generation));
                if let Phase::Restarting(restart) = std::mem::replace(&mut self.phase, leaving) {
                    out.push(RestartAction::Leave(Departure::HandOver(restart.planned)));
                }
            }
            _ => {}
        }
    }

    fn stop<D>(&mut self, generation: Generation, why: String, out: &mut Actions<P, C, D>) {
        let stopping = |drain| {
            Phase::Stopping(StopUnderWay {
                generation,
                is_recorded: false,
                drain,
            })
        };
        match &self.phase {
            Phase::Serving(_) | Phase::Accepting => self.phase = stopping(DrainProgress::NotBegun),
            Phase::Restarting(restart) => {
                let drain = match restart.stage {
                    Stage::Preparing | Stage::Trying | Stage::Recording => DrainProgress::NotBegun,
                    Stage::Draining => DrainProgress::UnderWay,
                    Stage::LastWrite => DrainProgress::Over,
                };
                let before = std::mem::replace(&mut self.phase, stopping(drain));
                if let Phase::Restarting(restart) = before {
                    if restart.stage == Stage::Trying {
                        out.push(RestartAction::CancelTrial);
                    }
                    out.push(RestartAction::CancelReplace);
                    let reason = format!("given up: {why}");
                    out.push(RestartAction::RecordRefused(restart.planned, reason));
                }
            }
            Phase::Stopping(_) | Phase::Leaving(_) => return,
        }
        out.push(RestartAction::RecordStop(generation, why));
    }

    fn leave_if_stopped<D>(&mut self, out: &mut Actions<P, C, D>) {
        if let Phase::Stopping(stop) = &self.phase
            && stop.is_recorded
            && stop.drain == DrainProgress::Over
        {
            let generation = stop.generation;
            self.phase = Phase::Leaving(UnderWay::Stop(generation));
            out.push(RestartAction::Leave(Departure::Stop(generation)));
        }
    }

    fn tick<D>(&mut self, store_writes: bool, out: &mut Actions<P, C, D>) {
        if !store_writes {
            return;
        }
        out.push(RestartAction::FlushUnpersisted);
        if let Phase::Serving(retry @ RetryRule::OnceStoreWrites) = &mut self.phase {
            *retry = RetryRule::Never;
            out.push(RestartAction::Reload);
        }
    }
}
