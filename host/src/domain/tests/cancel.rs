//! Cancelling: what each scope cancels, and what the caller learns of it.

use super::journal::{done, ok, planned, tool};
use super::*;

impl Driven {
    pub(super) fn cancel(&mut self, scope: &CancelScope) -> Result<Cancelled, Refusal> {
        let at = UnixMillis(self.now);
        let records = self.session.cancel(scope, &[], at)?;
        let cancelled = Cancelled::by(&records);
        for record in records {
            self.add(record);
        }
        Ok(cancelled)
    }

    fn send(&mut self) -> MessageId {
        self.receive().expect("room");
        MessageId::on(None, self.session.cursor())
    }
}

fn nothing() -> Cancelled {
    Cancelled::default()
}

#[test]
fn each_scope_gives_up_what_it_says_and_nothing_else() {
    let mut driven = Driven::new();
    let [first, second, third] = [driven.send(), driven.send(), driven.send()];
    driven.begin().expect("it waits");
    let fourth = driven.send();

    let one = driven.cancel(&CancelScope::Message(third.clone()));
    let expected = Cancelled {
        turn: None,
        messages: vec![third],
    };
    assert_eq!(one, Ok(expected));
    let turn = driven.cancel(&CancelScope::Turn);
    let expected = Cancelled {
        turn: Some(1),
        messages: vec![first],
    };
    assert_eq!(turn, Ok(expected));
    assert_eq!(
        driven.begin().map(|begun| begun.message),
        Some(second.clone())
    );
    let rest = driven.cancel(&CancelScope::Queue);
    let expected = Cancelled {
        turn: Some(2),
        messages: vec![second, fourth],
    };
    assert_eq!(rest, Ok(expected));
    assert_eq!(driven.session.state(), SessionState::Idle);
    assert_eq!(driven.session.progress.dead_letters, 4);
}

#[test]
fn nothing_to_give_up_is_refused_for_a_turn_and_an_answer_for_the_rest() {
    let mut driven = Driven::new();
    let message = driven.send();
    assert_eq!(driven.cancel(&CancelScope::Turn), Err(Refusal::NothingRuns));
    driven.begin().expect("it waits");
    driven.complete();
    let answered = CancelScope::Message(message);
    for scope in [&CancelScope::Queue, &answered] {
        assert_eq!(driven.cancel(scope), Ok(nothing()), "{scope:?}");
        assert_eq!(driven.cancel(scope), Ok(nothing()), "{scope:?}, again");
    }
}

#[test]
fn a_message_that_a_turn_has_taken_ends_with_that_turn() {
    let mut driven = Driven::new();
    let first = driven.send();
    driven.begin().expect("it waits");
    let taken = driven.send();
    let message = Message {
        id: taken.clone(),
        from: Role::User,
        name: None,
        text: "hello".into(),
        at: UnixMillis(1),
        due: None,
    };
    let received = FromInbox {
        notice: None,
        messages: vec![message],
    };
    driven.add(planned(1, 1, "", vec![Effect::Local]));
    let scope = CancelScope::Message(taken.clone());
    let expected = Cancelled {
        turn: Some(1),
        messages: vec![first, taken.clone()],
    };
    // Until the log has it, only the driver knows of it.
    let at = UnixMillis(driven.now);
    let unwritten = driven.session.cancel(&scope, &[taken], at);
    assert_eq!(unwritten.map(|r| Cancelled::by(&r)), Ok(expected.clone()));
    driven.add(done(1, 1, 0, Ok(StepResult::Receive(received))));
    assert_eq!(driven.cancel(&scope), Ok(expected));
    assert!(driven.session.queue.is_empty());
}

#[test]
fn timers_that_fired_are_given_up_and_those_that_are_not_due_stay() {
    let mut driven = Driven::new();
    let timer = |name: &str, due| Timer {
        name: name.into(),
        due: UnixMillis(due),
        text: "now".into(),
    };
    let timers = [timer("soon", 5), timer("late", 500)];
    driven.session.progress.timers.extend(timers.clone());
    driven.now = 6;
    let fired = driven.session.fire_timer(&timers[0], UnixMillis(6));
    driven.add(fired.expect("it is due"));
    let cancelled = driven.cancel(&CancelScope::Queue).expect("it waits");
    assert_eq!((cancelled.turn, cancelled.messages.len()), (None, 1));
    assert_eq!(driven.session.progress.timers, timers[1..]);
}

#[test]
fn the_end_of_a_faulted_sessions_turn_ends_the_fault_and_the_end_of_its_queue_does_not() {
    let fault = || Fault {
        code: FaultCode::Plugin,
        text: "no".into(),
        component: None,
    };
    let mut driven = Driven::new();
    driven.send();
    let at = UnixMillis(driven.now);
    driven.add(driven.session.fault(fault(), at).expect("it is news"));
    driven.cancel(&CancelScope::Queue).expect("one waits");
    assert_eq!(driven.session.state(), SessionState::Faulted);

    let mut driven = Driven::new();
    driven.send();
    driven.begin().expect("it waits");
    driven.add(planned(1, 1, "a", vec![tool(false)]));
    driven.add(done(1, 1, 0, ok("A")));
    driven.add(driven.session.fault(fault(), at).expect("it is news"));
    driven.cancel(&CancelScope::Turn).expect("it is open");
    assert_eq!(driven.session.state(), SessionState::Idle);
    let notice = driven.answer_one().expect("what it did is told");
    assert_eq!(notice.notice_cause(), NoticeCause::Stopped);
}

#[test]
fn a_closed_session_has_nothing_to_give_up() {
    let mut driven = Driven::new();
    driven.send();
    for record in driven.session.close(UnixMillis(3)).expect("it is open") {
        driven.add(record);
    }
    for scope in [CancelScope::Turn, CancelScope::Queue] {
        let refused = driven.cancel(&scope);
        assert!(
            matches!(refused, Err(Refusal::Closed { .. })),
            "{refused:?}"
        );
    }
}
