//! Sessions that stay on the component that they last ran on.

use super::*;

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

impl Driven {
    /// Its turn has begun on `failed`, and its guest could not be restored.
    fn fall_back(&mut self, failed: &str) -> bool {
        let at = UnixMillis(self.now);
        let moved = self.session.fall_back(digest(failed), "it traps", at);
        let falls_back = moved.is_some();
        moved
            .into_iter()
            .for_each(|moved| self.add(Record::Moved(moved)));
        falls_back
    }

    fn turn_on(&mut self) -> Digest {
        self.receive().expect("it has room");
        let begun = self.begin().expect("a message waits");
        self.complete();
        begun.component
    }
}

#[test]
fn a_session_goes_back_to_what_it_last_ran_on_until_there_is_another_component() {
    let mut driven = Driven::new();
    driven.component = digest("old");
    assert_eq!(driven.turn_on(), digest("old"));
    driven.component = digest("new");
    driven.receive().expect("it has room");
    let begun = driven.begin().expect("a message waits");
    assert_eq!((begun.component, begun.attempt), (digest("new"), 1));
    assert!(driven.fall_back("new"));
    // The same turn, for its guest has not run.
    let again = driven.begin().expect("the turn is open");
    assert_eq!((again.component, again.attempt), (digest("old"), 2));
    assert_eq!(again.turn, begun.turn);
    driven.complete();
    assert_eq!(driven.turn_on(), digest("old"));
    assert_eq!(
        driven
            .session
            .view(&SessionId::new("s").expect("an id"))
            .pinned
            .expect("it is")
            .refused,
        digest("new")
    );
    // What it ran on before is the end: there is nothing to go back to.
    assert!(!driven.fall_back("old"));

    // Another component is tried, and ends it.
    driven.component = digest("newer");
    assert_eq!(driven.turn_on(), digest("newer"));
    let moved = driven.session.unpin(digest("newer"), UnixMillis(9));
    driven.add(Record::Moved(moved.expect("it is pinned")));
    driven.component = digest("new");
    assert_eq!(driven.turn_on(), digest("new"));
}

#[test]
fn a_turn_that_is_bound_to_its_journal_stays_on_its_component() {
    let mut driven = Driven::new();
    driven.component = digest("new");
    driven.receive().expect("it has room");
    driven.begin().expect("a message waits");
    driven.add(Record::Asked(super::approvals::asked(0)));
    // It has run on it: that it cannot be restored now is no affair of the change.
    assert!(!driven.fall_back("new"));
}

#[test]
fn an_operator_ends_a_pin() {
    let mut driven = Driven::new();
    driven.component = digest("old");
    driven.turn_on();
    let at = UnixMillis(5);
    assert_eq!(driven.session.unpin(digest("new"), at), None);
    driven.component = digest("new");
    assert!(driven.fall_back("new"));
    assert_eq!(driven.session.next_component(digest("new")), digest("old"));
    let moved = driven.session.unpin(digest("new"), at);
    driven.add(Record::Moved(moved.expect("it is pinned")));
    assert_eq!(driven.session.next_component(digest("new")), digest("new"));
    assert_eq!(driven.turn_on(), digest("new"));
}

#[test]
fn further_components_that_fail_change_neither_where_it_is_nor_since_when() {
    let mut driven = Driven::new();
    driven.component = digest("old");
    driven.turn_on();
    driven.now = 10;
    assert!(driven.fall_back("new"));
    driven.now = 20;
    assert!(driven.fall_back("newer"));
    let pin = driven.session.progress.pin.clone().expect("it is pinned");
    assert_eq!(
        (pin.component, pin.refused),
        (digest("old"), digest("newer"))
    );
    assert_eq!(pin.at, UnixMillis(10));
    // That it fails on the old one as well is another one's affair.
    let fault = Fault {
        code: FaultCode::Restore,
        text: "it traps".into(),
        component: Some(digest("old")),
    };
    let at = UnixMillis(30);
    driven.add(driven.session.fault(fault, at).expect("a new one"));
    assert!(!driven.session.mended_by(digest("newer")));
    assert!(driven.session.mended_by(digest("newest")));
}

#[test]
fn a_move_without_a_record_is_not_stored() {
    let mut driven = Driven::new();
    driven.component = digest("old");
    driven.turn_on();
    let moved = driven
        .session
        .fall_back(digest("new"), "it traps", UnixMillis(5));
    driven
        .session
        .move_for_now(&moved.expect("it ran on another"));
    assert_eq!(driven.session.next_component(digest("new")), digest("old"));
    let stored = serde_json::to_value(&driven.session.progress).expect("JSON");
    assert_eq!(stored.get("pin"), None);
}

#[test]
fn a_long_reason_is_cut() {
    let driven = Driven::new();
    let moved = driven
        .session
        .fall_back(digest("new"), &"x\n".repeat(9000), UnixMillis(1));
    let reason = moved.expect("it ran on another").reason;
    assert!(reason.len() < 3000 && reason.ends_with('…') && !reason.contains('\n'));
}
