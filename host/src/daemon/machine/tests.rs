//! Single paths through the machine, step by step.

use super::{
    Activity, Departure, Outcome, RestartAction, RestartEvent, RestartMachine, Setback, Trigger,
    UnderWay,
};
use crate::domain::Generation;

const SECOND: Generation = Generation(2);

type TestMachine = RestartMachine<&'static str, u32>;
type TestEvent = RestartEvent<&'static str, u32, ()>;

/// Returns the names of the actions that an event leads to.
fn step(machine: &mut TestMachine, event: TestEvent) -> Vec<String> {
    let actions = machine.step(event);
    actions.iter().map(name).collect()
}

fn name(action: &RestartAction<&'static str, u32, ()>) -> String {
    let text = format!("{action:?}");
    let end = text.find(|c: char| !c.is_alphanumeric());
    text[..end.unwrap_or(text.len())].to_owned()
}

fn full_disk() -> Setback {
    Setback {
        reason: "the disk is full".to_owned(),
        by_store: true,
    }
}

/// Returns a machine with a restart in progress whose standby is starting.
fn preparing() -> TestMachine {
    let mut machine = RestartMachine::new();
    let asked = step(&mut machine, RestartEvent::Decided(1, Outcome::Restart(())));
    assert_eq!(asked, ["Accept"]);
    assert!(step(&mut machine, RestartEvent::Accepted(SECOND, "two")).is_empty());
    machine
}

fn draining() -> TestMachine {
    let mut machine = preparing();
    let ready = step(&mut machine, RestartEvent::StandbyReady(SECOND));
    assert_eq!(ready, ["BeginTrial"]);
    let tried = step(&mut machine, RestartEvent::Tried(Ok(())));
    assert_eq!(tried, ["EvictIdle", "RecordActive"]);
    let recorded = step(&mut machine, RestartEvent::ActiveRecorded(Ok(5)));
    assert_eq!(recorded, ["BeginDrain"]);
    machine
}

#[test]
fn a_restart_records_then_drains_then_writes_then_leaves() {
    let mut machine = draining();
    assert_eq!(machine.activity(), Activity::Draining);
    assert_eq!(step(&mut machine, RestartEvent::Drained), ["WriteLast"]);
    let end = machine.step::<()>(RestartEvent::LastWritten(Ok(())));
    assert!(matches!(
        end.as_slice(),
        [RestartAction::Leave(Departure::HandOver("two"))]
    ));
    assert_eq!(machine.under_way(), Some(UnderWay::Restart(SECOND)));
}

#[test]
fn a_standby_that_fails_in_the_drain_lets_turns_begin_again() {
    let mut machine = draining();
    let failed = RestartEvent::StandbyFailed(SECOND, "its port is taken".to_owned());
    assert_eq!(
        step(&mut machine, failed),
        ["CancelDrain", "LogRefusal", "RecordRefused"]
    );
    assert_eq!(machine.activity(), Activity::Serving);
    let refusal = machine.refusal().expect("it is shown");
    assert!(refusal.starts_with("its port is taken\nnothing has changed"));
}

#[test]
fn a_change_during_a_restart_that_is_given_up_is_planned_again() {
    let mut machine = preparing();
    step(
        &mut machine,
        RestartEvent::Decided(7, Outcome::Deferred(Trigger::Watch)),
    );
    step(
        &mut machine,
        RestartEvent::Decided(8, Outcome::Deferred(Trigger::Operator)),
    );
    let failed = machine.step::<()>(RestartEvent::StandbyFailed(SECOND, "it died".to_owned()));
    assert!(matches!(
        failed.last(),
        Some(RestartAction::Reconsider(Trigger::Operator, 8))
    ));
}

#[test]
fn what_the_store_refused_is_tried_once_it_writes() {
    let mut machine: TestMachine = RestartMachine::new();
    step(&mut machine, RestartEvent::Decided(1, Outcome::Restart(())));
    assert_eq!(
        step(&mut machine, RestartEvent::Refused(full_disk())),
        ["LogRefusal"]
    );
    let failing = RestartEvent::Tick {
        store_writes: false,
    };
    assert!(step(&mut machine, failing).is_empty());
    let writes = || RestartEvent::Tick { store_writes: true };
    assert_eq!(step(&mut machine, writes()), ["FlushUnpersisted", "Reload"]);
    assert_eq!(step(&mut machine, writes()), ["FlushUnpersisted"]);
}

#[test]
fn a_store_that_refuses_the_last_write_keeps_the_sessions_here() {
    let mut machine = draining();
    step(&mut machine, RestartEvent::Drained);
    assert_eq!(
        step(&mut machine, RestartEvent::LastWritten(Err(full_disk()))),
        [
            "CancelReplace",
            "CancelDrain",
            "LogRefusal",
            "RecordRefused"
        ]
    );
    assert_eq!(machine.activity(), Activity::Serving);
    assert_eq!(machine.under_way(), None);
}

#[test]
fn a_stop_during_a_drain_goes_on_with_that_drain() {
    let mut machine = draining();
    let stop = RestartEvent::Stop(Generation(3), "SIGTERM".to_owned());
    assert_eq!(
        step(&mut machine, stop),
        ["CancelReplace", "RecordRefused", "RecordStop"]
    );
    // The stop continues even if the store refuses the write.
    assert!(step(&mut machine, RestartEvent::ActiveRecorded(Err(full_disk()))).is_empty());
    let end = machine.step::<()>(RestartEvent::Drained);
    assert!(matches!(
        end.as_slice(),
        [RestartAction::Leave(Departure::Stop(Generation(3)))]
    ));
}

#[test]
fn the_same_refusal_is_logged_once() {
    let mut machine: TestMachine = RestartMachine::new();
    let rejected = || RestartEvent::Decided(1, Outcome::Rejected(full_disk()));
    assert_eq!(step(&mut machine, rejected()), ["LogRefusal"]);
    assert!(step(&mut machine, rejected()).is_empty());
    assert_eq!(machine.refusal(), Some("the disk is full"));
    assert_eq!(
        step(&mut machine, RestartEvent::Decided(2, Outcome::Nothing)),
        ["Adopt"]
    );
    assert_eq!(machine.refusal(), None);
}

#[test]
fn a_hot_change_has_to_prove_itself_again() {
    let mut machine: TestMachine = RestartMachine::new();
    assert_eq!(step(&mut machine, RestartEvent::ProbationOver), ["Prove"]);
    assert!(step(&mut machine, RestartEvent::ProbationOver).is_empty());
    let hot = RestartEvent::Decided(1, Outcome::Hot(()));
    assert_eq!(step(&mut machine, hot), ["Apply"]);
    assert_eq!(
        step(&mut machine, RestartEvent::Applied),
        ["BeginProbation"]
    );
    assert!(!machine.is_proven());
}
