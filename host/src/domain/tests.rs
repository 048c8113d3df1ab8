//! The rules that hold whatever is asked of a session, in whatever order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const WINDOW_MS: u64 = 3_600_000;

fn component() -> Digest {
    Digest::of(b"component")
}

fn created(generation: u64) -> Record {
    Record::Created(Created {
        plugin: "echo".into(),
        args: "null".into(),
        labels: BTreeMap::new(),
        generation: Generation(generation),
        component: component(),
        schema: 1,
        outputs: Vec::new(),
        timers: Vec::new(),
        at: UnixMillis(0),
    })
}

/// A session with its log, driven as a driver would.
struct Driven {
    session: Session,
    log: Vec<(LogPos, Record)>,
    generation: u64,
    restarts: Vec<PastRestart>,
    now: u64,
    limits: Limits,
}

impl Driven {
    fn new() -> Self {
        let first = created(1);
        let session = Session::create(&first).expect("the record is a Created");
        let limits = Limits {
            inbox: 4,
            ..Limits::default()
        };
        let log = vec![(LogPos::default(), first)];
        Self {
            session,
            log,
            generation: 1,
            restarts: Vec::new(),
            now: 1,
            limits,
        }
    }

    fn add(&mut self, record: Record) {
        let at = self.session.apply(&record);
        self.log.push((at, record));
    }

    fn receive(&mut self) -> Result<(), Refusal> {
        let at = UnixMillis(self.now);
        let record = self
            .session
            .receive("hello".into(), None, &self.limits, at)?;
        self.add(record);
        Ok(())
    }

    fn begin(&mut self) -> Option<Begun> {
        let begun = self.session.begin(BeginWith {
            now: UnixMillis(self.now),
            seed: 7,
            component: component(),
            generation: Generation(self.generation),
            restarts: &self.restarts,
            notice_window_ms: WINDOW_MS,
        })?;
        self.add(Record::Begun(begun.clone()));
        Some(begun)
    }

    fn complete(&mut self) {
        let Some(open) = self.session.progress.open.clone() else {
            return;
        };
        self.add(Record::Ended(Ended {
            turn: open.begun.turn,
            message: open.begun.message.clone(),
            end: TurnEnd::Completed {
                notice: open.begun.notice.clone(),
                component: component(),
                schema: 1,
                outputs: vec![Output::Text("hi".into())],
                timers: Vec::new(),
                received: Vec::new(),
                generation: open.begun.generation,
            },
            at: UnixMillis(self.now),
        }));
    }

    fn fail(&mut self) {
        let failure = Failure {
            code: FailureCode::Guest,
            text: "no".into(),
        };
        if let Some(record) = self.session.fail(failure, UnixMillis(self.now)) {
            self.add(record);
        }
    }

    fn restart(&mut self, cause: Cause) {
        self.now += 1;
        self.generation += 1;
        let (generation, at) = (Generation(self.generation), UnixMillis(self.now));
        self.restarts.push(PastRestart {
            generation,
            cause,
            at,
        });
        self.now += 1;
    }

    fn answer_one(&mut self) -> Option<Notice> {
        self.receive().expect("the inbox has room");
        let begun = self.begin().expect("a message waits");
        self.complete();
        begun.notice
    }

    fn events(&self) -> Vec<Event> {
        self.log
            .iter()
            .flat_map(|(at, record)| record.events(at.cursor))
            .collect()
    }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Receive,
    Begin,
    Complete,
    Fail,
    Cancel,
    Fault,
    Resume,
    Retry,
    Restart,
    Close,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Receive),
        8 => Just(Act::Begin),
        5 => Just(Act::Complete),
        2 => Just(Act::Fail),
        1 => Just(Act::Cancel),
        1 => Just(Act::Fault),
        2 => Just(Act::Resume),
        1 => Just(Act::Retry),
        2 => Just(Act::Restart),
        1 => prop::bool::weighted(0.1).prop_map(|yes| if yes { Act::Close } else { Act::Begin }),
    ]
}

fn drive(acts: &[Act]) -> Driven {
    let mut driven = Driven::new();
    let mut dead: Vec<Message> = Vec::new();
    for act in acts {
        driven.now += 1;
        let at = UnixMillis(driven.now);
        let records = match act {
            Act::Receive => {
                // A full inbox and a closed session refuse; nothing else may.
                if let Err(no) = driven.receive() {
                    assert!(matches!(
                        no,
                        Refusal::InboxFull { .. } | Refusal::Closed { .. }
                    ));
                }
                Vec::new()
            }
            Act::Begin => {
                // A driver begins nothing while a turn of its own runs; an open turn of an older
                // generation is begun again.
                let open = driven.session.progress.open.as_ref();
                if open.is_none_or(|open| open.begun.generation.0 < driven.generation) {
                    driven.begin();
                }
                Vec::new()
            }
            Act::Complete => {
                driven.complete();
                Vec::new()
            }
            Act::Fail => {
                driven.fail();
                Vec::new()
            }
            Act::Cancel => driven.session.cancel(at).unwrap_or_default(),
            Act::Fault => {
                let (code, text) = (FaultCode::Restore, "no".to_owned());
                let fault = Fault {
                    code,
                    text,
                    component: Some(component()),
                };
                driven.session.fault(fault, at).into_iter().collect()
            }
            Act::Resume => driven.session.resume(at).into_iter().collect(),
            Act::Retry => match dead.pop() {
                Some(letter) => {
                    let retried = driven.session.retry(letter.clone(), &driven.limits, at);
                    if retried.is_err() {
                        dead.push(letter);
                    }
                    retried.into_iter().collect()
                }
                None => Vec::new(),
            },
            Act::Restart => {
                driven.restart(Cause::Config);
                Vec::new()
            }
            Act::Close => driven.session.close(at).unwrap_or_default(),
        };
        for record in records {
            driven.add(record);
        }
        let known: Vec<_> = dead.iter().map(|letter| letter.id.clone()).collect();
        dead.extend(
            dead_letters(&driven.log)
                .into_iter()
                .filter(|l| !known.contains(&l.id)),
        );
    }
    driven
}

/// The dead letters that a log leaves, told without the fold.
fn dead_letters(log: &[(LogPos, Record)]) -> Vec<Message> {
    let mut messages = BTreeMap::new();
    let mut dead = BTreeMap::new();
    for (_, record) in log {
        match record {
            Record::Received(received) => {
                messages.insert(received.message.id.clone(), received.message.clone());
            }
            Record::Requeued(requeued) => {
                dead.remove(&requeued.message.id);
            }
            Record::Ended(Ended {
                message,
                end: TurnEnd::Failed(_),
                ..
            })
            | Record::Discarded(Discarded { message, .. }) => {
                dead.insert(message.clone(), messages[message].clone());
            }
            _ => {}
        }
    }
    dead.into_values().collect()
}

proptest! {
    /// Invariant 5: cursors count from 1 without gaps.
    #[test]
    fn cursors_have_no_gaps(acts in prop::collection::vec(act(), 0..200)) {
        let driven = drive(&acts);
        let cursors: Vec<u64> = driven.events().iter().map(|event| event.cursor).collect();
        let expected: Vec<u64> = (1..=driven.session.cursor()).collect();
        prop_assert_eq!(cursors, expected);
    }

    /// Invariant 2: each message is consumed by exactly one committed turn, is a dead letter, or
    /// waits; never two of them, never none.
    #[test]
    fn each_message_has_one_fate(acts in prop::collection::vec(act(), 0..200)) {
        let driven = drive(&acts);
        let dead: Vec<_> = dead_letters(&driven.log).into_iter().map(|letter| letter.id).collect();
        prop_assert_eq!(dead.len() as u64, driven.session.progress.dead_letters);
        let open = driven.session.progress.open.iter().map(|open| open.queued.id.clone());
        let waiting: Vec<_> =
            driven.session.queue.iter().map(|queued| queued.id.clone()).chain(open).collect();
        for (_, record) in &driven.log {
            let Record::Received(received) = record else { continue };
            let id = &received.message.id;
            let committed = driven.log.iter().filter(|(_, record)| matches!(record,
                Record::Ended(Ended { message, end: TurnEnd::Completed { .. }, .. })
                    if message == id)).count();
            let fates = committed
                + waiting.iter().filter(|w| *w == id).count()
                + dead.iter().filter(|d| *d == id).count();
            prop_assert_eq!(fates, 1, "message {}", id);
        }
    }

    /// A started event is told once a turn number, whatever the attempts, and turn numbers have no
    /// gaps.
    #[test]
    fn turns_start_once(acts in prop::collection::vec(act(), 0..200)) {
        let started: Vec<u64> = drive(&acts).events().iter().filter_map(|event| match event.body {
            EventBody::Turn { status: TurnStatus::Started, .. } => event.turn,
            _ => None,
        }).collect();
        let expected: Vec<u64> = (1..=started.len() as u64).collect();
        prop_assert_eq!(started, expected);
    }

    /// A generation is told to a session at most once.
    #[test]
    fn no_notice_twice(acts in prop::collection::vec(act(), 0..200)) {
        let told: Vec<u64> = drive(&acts).events().iter().filter_map(|event| match event.body {
            EventBody::Notice { generation, .. } => Some(generation.0),
            _ => None,
        }).collect();
        prop_assert!(told.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", told);
    }

    /// A closed session holds nothing back and takes nothing in.
    #[test]
    fn closed_is_closed(acts in prop::collection::vec(act(), 0..100)) {
        let mut driven = drive(&acts);
        let at = UnixMillis(driven.now);
        for record in driven.session.close(at).unwrap_or_default() {
            driven.add(record);
        }
        prop_assert_eq!(driven.session.state(), SessionState::Closed);
        prop_assert!(driven.session.queue.is_empty() && driven.session.progress.open.is_none());
        let refused = matches!(driven.receive(), Err(Refusal::Closed { .. }));
        prop_assert!(refused);
        prop_assert!(driven.begin().is_none());
    }
}

#[test]
fn ten_restarts_make_one_notice() {
    let mut driven = Driven::new();
    assert_eq!(driven.answer_one(), None);
    for _ in 0..9 {
        driven.restart(Cause::Config);
    }
    driven.restart(Cause::Crash);
    let notice = driven
        .answer_one()
        .expect("it was active before the first of them");
    assert_eq!(
        (notice.cause, notice.generation),
        (Cause::Crash, Generation(11))
    );
    assert_eq!(driven.answer_one(), None);
}

#[test]
fn a_session_created_since_or_idle_for_long_is_told_nothing() {
    let mut fresh = Driven::new();
    fresh.restart(Cause::Config);
    assert_eq!(fresh.answer_one(), None, "it never ran before the restart");

    let mut idle = Driven::new();
    idle.answer_one();
    idle.now += WINDOW_MS + 1;
    idle.restart(Cause::Config);
    assert_eq!(
        idle.answer_one(),
        None,
        "its last turn was longer ago than the window"
    );
}

#[test]
fn a_message_that_waited_through_a_restart_is_told_of_it() {
    let mut driven = Driven::new();
    driven.receive().expect("room");
    driven.restart(Cause::Upgrade);
    let begun = driven.begin().expect("it waits");
    assert_eq!(
        begun.notice.map(|n| (n.cause, n.interruption)),
        Some((Cause::Upgrade, Interruption::None))
    );
}

#[test]
fn a_cut_turn_runs_again_under_its_number_with_the_notice_in_front() {
    let mut driven = Driven::new();
    driven.receive().expect("room");
    let first = driven.begin().expect("it waits");
    driven.restart(Cause::Config);
    let again = driven.begin().expect("it is open");
    assert_eq!(
        (again.turn, again.attempt, &again.message),
        (first.turn, 2, &first.message)
    );
    let notice = again.notice.expect("its turn was open");
    assert_eq!(notice.interruption, Interruption::Rerun);
    assert!(notice.text().starts_with(
        "[system] The daemon restarted due to a configuration change. Your session state has been \
         recovered from the last checkpoint."
    ));
    driven.complete();
    let kinds: Vec<_> = driven
        .events()
        .iter()
        .map(|event| event.body.kind())
        .collect();
    assert_eq!(kinds, ["message", "turn", "notice", "message", "turn"]);
}

#[test]
fn a_failed_turn_gives_its_notice_back() {
    let mut driven = Driven::new();
    driven.answer_one();
    driven.restart(Cause::Operator);
    driven.receive().expect("room");
    assert!(driven.begin().expect("it waits").notice.is_some());
    driven.fail();
    assert!(driven.answer_one().is_some(), "nobody has consumed it");
    assert_eq!(driven.answer_one(), None);
}

#[test]
fn the_third_death_faults_the_session_and_a_resume_forgets_them() {
    let mut driven = Driven::new();
    driven.receive().expect("room");
    for expected in 1..DEATHS_MAX {
        driven.begin().expect("it may run");
        driven.restart(Cause::Crash);
        let at = UnixMillis(driven.now);
        assert_eq!(
            driven.session.worker_died(at),
            Some(Death::Counted(expected))
        );
        let open = driven
            .session
            .progress
            .open
            .as_mut()
            .expect("its turn is open");
        open.begun.deaths = expected;
    }
    driven.begin().expect("it may run once more");
    let Some(Death::Faulted(record)) = driven.session.worker_died(UnixMillis(driven.now)) else {
        panic!("the third death is one too many");
    };
    driven.add(record);
    assert_eq!(driven.session.state(), SessionState::Faulted);
    assert!(driven.begin().is_none());
    assert!(
        driven.receive().is_ok(),
        "a faulted session accepts and holds"
    );
    let resumed = driven
        .session
        .resume(UnixMillis(driven.now))
        .expect("it is faulted");
    driven.add(resumed);
    assert_eq!(driven.begin().map(|begun| begun.deaths), Some(0));
}

#[test]
fn timers_are_replaced_by_name_and_gone_once_fired() {
    let mut driven = Driven::new();
    let timer = |due| Timer {
        name: "t".into(),
        due: UnixMillis(due),
        text: "now".into(),
    };
    driven.receive().expect("room");
    let open = driven.begin().expect("it waits");
    driven.add(Record::Ended(Ended {
        turn: open.turn,
        message: open.message,
        end: TurnEnd::Completed {
            notice: None,
            component: component(),
            schema: 1,
            outputs: Vec::new(),
            timers: vec![TimerOp::Set(timer(5)), TimerOp::Set(timer(9))],
            received: Vec::new(),
            generation: Generation(1),
        },
        at: UnixMillis(driven.now),
    }));
    assert_eq!(driven.session.progress.timers, [timer(9)]);
    let at = UnixMillis(10);
    assert_eq!(
        driven.session.fire_timer(&timer(5), at),
        None,
        "it was replaced"
    );
    let fired = driven.session.fire_timer(&timer(9), at).expect("it is due");
    driven.add(fired);
    assert!(driven.session.progress.timers.is_empty());
    assert_eq!(
        driven.session.fire_timer(&timer(9), at),
        None,
        "it fires once"
    );
    assert_eq!(
        driven.session.queue.front().map(|queued| queued.from),
        Some(Role::Timer)
    );
}
