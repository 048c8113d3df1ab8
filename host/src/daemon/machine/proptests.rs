//! Property tests: random histories against a model that responds as the worker does, and checks
//! the machine's invariants.

use proptest::prelude::*;

use super::{
    Activity, Departure, Outcome, RestartAction, RestartEvent, RestartMachine, Setback, Trigger,
    UnderWay,
};
use crate::domain::Generation;

/// An external input, which may come at any time.
#[derive(Clone, Copy, Debug)]
enum Input {
    /// A candidate, with the planner's decision about it while serving.
    Change(Plan),
    StandbyReady,
    /// Reports from the standby of a restart that is over.
    StaleStandby,
    StandbyFailed,
    /// New components were tried: whether what was found allows the restart.
    Tried(bool),
    Drained,
    Stop,
    ProbationOver,
    Tick,
    /// The store begins (`true`) or ceases to accept writes.
    Store(bool),
}

#[derive(Clone, Copy, Debug)]
enum Plan {
    Nothing,
    Ignored,
    Hot,
    HotFails,
    Restart,
    Rejected,
}

fn input() -> impl Strategy<Value = Input> {
    let plan = prop_oneof![
        1 => Just(Plan::Nothing),
        1 => Just(Plan::Ignored),
        1 => Just(Plan::Hot),
        1 => Just(Plan::HotFails),
        4 => Just(Plan::Restart),
        1 => Just(Plan::Rejected),
    ];
    prop_oneof![
        6 => plan.prop_map(Input::Change),
        4 => Just(Input::StandbyReady),
        1 => Just(Input::StaleStandby),
        2 => Just(Input::StandbyFailed),
        4 => any::<bool>().prop_map(Input::Tried),
        4 => Just(Input::Drained),
        1 => Just(Input::Stop),
        1 => Just(Input::ProbationOver),
        2 => Just(Input::Tick),
        2 => any::<bool>().prop_map(Input::Store),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drain {
    None,
    Running,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trial {
    None,
    Running,
    Over,
}

type Step = RestartEvent<u64, u32, Plan>;

struct World {
    machine: RestartMachine<u64, u32>,
    store_writes: bool,
    generations: u64,
    candidates: u32,
    /// The standby that was requested, unless the supervisor has reported its failure.
    standby: Option<u64>,
    /// The restart that is recorded as in progress.
    record: Option<u64>,
    trial: Trial,
    active_recorded: bool,
    last_written: bool,
    drain: Drain,
    /// The latest change that arrived during a restart.
    pending: Option<u32>,
    /// Whether the store caused the last refusal.
    refused_by_store: bool,
    stopping: bool,
    left: bool,
    reloads: u32,
}

impl World {
    fn new() -> Self {
        Self {
            machine: RestartMachine::new(),
            store_writes: true,
            generations: 1,
            candidates: 0,
            standby: None,
            record: None,
            trial: Trial::None,
            active_recorded: false,
            last_written: false,
            drain: Drain::None,
            pending: None,
            refused_by_store: false,
            stopping: false,
            left: false,
            reloads: 0,
        }
    }

    fn input(&mut self, input: Input) {
        // A worker that has left receives no more input.
        if self.left {
            return;
        }
        match input {
            Input::Change(plan) => self.change(plan),
            Input::StandbyReady => {
                if let Some(generation) = self.standby {
                    self.advance(RestartEvent::StandbyReady(Generation(generation)));
                }
            }
            Input::StaleStandby => {
                let activity = self.machine.activity();
                let stale = Generation(self.generations + 7);
                self.advance(RestartEvent::StandbyReady(stale));
                self.advance(RestartEvent::StandbyFailed(stale, "stale".to_owned()));
                assert_eq!(self.machine.activity(), activity);
            }
            Input::StandbyFailed => {
                if let Some(generation) = self.standby.take() {
                    self.advance(RestartEvent::StandbyFailed(
                        Generation(generation),
                        "it died".to_owned(),
                    ));
                    // A change that arrived meanwhile may have begun another restart.
                    let record = self.record;
                    assert_ne!(
                        record,
                        Some(generation),
                        "what failed is recorded as refused"
                    );
                }
            }
            Input::Tried(allows) => {
                if self.trial == Trial::Running {
                    self.trial = Trial::Over;
                    let result = match allows {
                        true => Ok(()),
                        false => Err(setback("two sessions would lose their state", false)),
                    };
                    self.advance(RestartEvent::Tried(result));
                }
            }
            Input::Drained => {
                if self.drain == Drain::Running {
                    self.drain = Drain::Over;
                    self.advance(RestartEvent::Drained);
                }
            }
            Input::Stop => {
                self.generations += 1;
                self.stopping = true;
                self.pending = None;
                let generation = Generation(self.generations);
                self.advance(RestartEvent::Stop(generation, "asked".to_owned()));
            }
            Input::ProbationOver => {
                self.advance(RestartEvent::ProbationOver);
                assert!(self.machine.is_proven());
            }
            Input::Tick => {
                let due = self.store_writes
                    && self.refused_by_store
                    && self.machine.under_way().is_none();
                let before = self.reloads;
                let store_writes = self.store_writes;
                self.advance(RestartEvent::Tick { store_writes });
                assert_eq!(
                    self.reloads > before,
                    due,
                    "what the store refused is tried again"
                );
            }
            Input::Store(writes) => self.store_writes = writes,
        }
    }

    fn change(&mut self, plan: Plan) {
        self.candidates += 1;
        let candidate = self.candidates;
        self.decide(candidate, plan);
    }

    /// Decides about a candidate as the planner does.
    fn decide(&mut self, candidate: u32, plan: Plan) {
        let outcome = match self.machine.under_way() {
            Some(UnderWay::Restart(_)) => {
                self.pending = Some(candidate);
                Outcome::Deferred(Trigger::Watch)
            }
            Some(UnderWay::Stop(_)) => Outcome::Stopping,
            None => {
                self.refused_by_store = false;
                match plan {
                    Plan::Nothing => Outcome::Nothing,
                    Plan::Ignored => Outcome::Ignored,
                    Plan::Hot | Plan::HotFails => Outcome::Hot(plan),
                    Plan::Restart => Outcome::Restart(plan),
                    Plan::Rejected => Outcome::Rejected(setback("it is wrong", false)),
                }
            }
        };
        self.advance(RestartEvent::Decided(candidate, outcome));
    }

    fn advance(&mut self, event: Step) {
        if self.left {
            return;
        }
        for action in self.machine.step(event) {
            assert!(!self.left, "nothing follows the end, but {action:?}");
            if let Some(event) = self.act(action) {
                self.advance(event);
            }
        }
    }

    /// Returns the store's result of a write.
    fn write(&mut self) -> Result<(), Setback> {
        match self.store_writes {
            true => Ok(()),
            false => {
                self.refused_by_store |= !self.stopping;
                Err(setback("the disk is full", true))
            }
        }
    }

    fn act(&mut self, action: RestartAction<u64, u32, Plan>) -> Option<Step> {
        match action {
            RestartAction::Adopt(_)
            | RestartAction::LogRefusal(_)
            | RestartAction::EvictIdle(_) => {}
            RestartAction::FlushUnpersisted | RestartAction::BeginProbation => {}
            RestartAction::Apply(Plan::HotFails) => {
                return Some(RestartEvent::Refused(setback("no key", false)));
            }
            RestartAction::Apply(_) => return Some(RestartEvent::Applied),
            RestartAction::Accept(_) => {
                assert_eq!(self.record, None, "one restart at a time");
                if let Err(setback) = self.write() {
                    return Some(RestartEvent::Refused(setback));
                }
                self.generations += 1;
                self.record = Some(self.generations);
                self.standby = self.record;
                self.trial = Trial::None;
                self.active_recorded = false;
                self.last_written = false;
                return Some(RestartEvent::Accepted(
                    Generation(self.generations),
                    self.generations,
                ));
            }
            RestartAction::BeginTrial => {
                assert_eq!(self.trial, Trial::None, "a restart has one trial");
                self.trial = Trial::Running;
            }
            RestartAction::CancelTrial => self.trial = Trial::None,
            RestartAction::RecordActive => {
                assert_eq!(self.trial, Trial::Over, "components are tried first");
                let written = self.write();
                self.active_recorded = written.is_ok();
                return Some(RestartEvent::ActiveRecorded(written.map(|()| 3)));
            }
            RestartAction::RecordStop(..) => {
                assert!(self.stopping);
                let written = self.write();
                return Some(RestartEvent::ActiveRecorded(written.map(|()| 3)));
            }
            RestartAction::BeginDrain(_) => {
                assert_eq!(self.drain, Drain::None);
                assert!(self.stopping || self.active_recorded);
                self.drain = Drain::Running;
            }
            RestartAction::CancelDrain => {
                assert_ne!(self.drain, Drain::None, "only what was begun is cancelled");
                assert!(!self.stopping, "a stop goes on");
                self.drain = Drain::None;
            }
            RestartAction::CancelReplace => {
                assert!(self.standby.take().is_some(), "a standby is cancelled once");
            }
            RestartAction::RecordRefused(planned, _) => {
                assert_eq!(self.record.take(), Some(planned));
                assert_eq!(
                    self.standby, None,
                    "the supervisor knows that it is not wanted"
                );
                assert_ne!(self.trial, Trial::Running, "nobody wants its result");
            }
            RestartAction::WriteLast => {
                assert_eq!(self.drain, Drain::Over);
                let written = self.write();
                self.last_written = written.is_ok();
                return Some(RestartEvent::LastWritten(written));
            }
            RestartAction::Leave(departure) => {
                assert_eq!(self.drain, Drain::Over);
                match departure {
                    Departure::HandOver(planned) => {
                        assert!(!self.stopping && self.last_written && self.active_recorded);
                        assert_eq!((self.record, self.standby), (Some(planned), Some(planned)));
                    }
                    Departure::Stop(_) => {
                        assert!(self.stopping);
                        assert_eq!((self.record, self.standby), (None, None));
                    }
                }
                self.left = true;
            }
            RestartAction::Reconsider(_, candidate) => {
                assert_eq!(self.pending.take(), Some(candidate));
                self.decide(candidate, Plan::Restart);
            }
            RestartAction::Reload => {
                self.reloads += 1;
                self.change(Plan::Nothing);
            }
            RestartAction::Prove => assert!(self.machine.is_proven()),
        }
        None
    }

    fn check(&self) {
        if self.left {
            return;
        }
        let activity = self.machine.activity();
        assert_eq!(self.stopping, activity == Activity::Stopping);
        if self.machine.under_way().is_none() {
            assert_eq!(
                self.pending, None,
                "a change that came meanwhile is not forgotten"
            );
            assert_eq!(self.drain, Drain::None, "turns run while it serves");
            assert_eq!(self.standby, None);
            assert_ne!(self.trial, Trial::Running);
        }
        let planned = self.machine.planned().copied();
        assert_eq!(
            self.record, planned,
            "what is recorded is what is under way"
        );
    }
}

fn setback(reason: &str, by_store: bool) -> Setback {
    Setback {
        reason: reason.to_owned(),
        by_store,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_happens_what_must_hold_holds(inputs in proptest::collection::vec(input(), 0..60)) {
        let mut world = World::new();
        for input in inputs {
            world.input(input);
            world.check();
        }
        // Liveness: a stop and a drain always lead to the end.
        if !world.left && !world.stopping {
            world.input(Input::Stop);
        }
        world.input(Input::Drained);
        prop_assert!(world.left);
    }
}
