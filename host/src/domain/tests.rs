//! The behaviour of a session, in scenarios; the general rules are tested in `rules`.

mod approvals;
mod cancel;
mod clock;
mod export;
mod journal;
mod pins;
mod rewind;
mod rules;
mod stopped;
mod timelines;
mod watchdog;

use std::collections::BTreeMap;

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

/// A session with its log, driven as the real driver does it.
#[derive(Clone)]
struct Driven {
    session: Session,
    log: Vec<(LogPos, Record)>,
    generation: u64,
    restarts: Vec<PastRestart>,
    now: u64,
    limits: Limits,
    /// The component that its plugin has.
    component: Digest,
    /// Recovery messages that the open turn has received from its inbox.
    further_notices: Vec<Notice>,
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
            component: component(),
            further_notices: Vec::new(),
        }
    }

    fn add(&mut self, record: Record) {
        let at = self.session.apply(&record);
        self.log.push((at, record));
    }

    fn receive(&mut self) -> Result<(), Refusal> {
        let at = UnixMillis(self.now);
        let message = NewMessage {
            text: "hello".to_owned(),
            key: None,
            sender: None,
        };
        let record = self.session.receive(message, &self.limits, at)?;
        self.add(record);
        Ok(())
    }

    fn begin(&mut self) -> Option<Begun> {
        let begun = self.session.begin(BeginWith {
            now: UnixMillis(self.now),
            seed: 7,
            component: self.component,
            limits: &self.limits,
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
        self.add(Record::Ended(TurnEnded {
            turn: open.begun.turn,
            message: open.begun.message.clone(),
            end: TurnEnd::Completed {
                notice: open.begun.notice.clone().map(Box::new),
                further_notices: self.further_notices.clone(),
                component: open.begun.component,
                schema: 1,
                outputs: vec![Output::Text("hi".into())],
                timers: Vec::new(),
                received: Vec::new(),
                generation: open.begun.generation,
                crc: None,
            },
            effects: 0,
            usage: ModelUsage::default(),
            at: UnixMillis(self.now),
        }));
    }

    fn fail(&mut self) {
        let failure = TurnFailure {
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
            ahead_ms: 0,
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
            .flat_map(|(at, record)| {
                let timeline = self.session.progress.timeline.of(at.cursor + 1);
                record.events(at.cursor, timeline)
            })
            .collect()
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
fn a_clock_that_was_set_forward_hides_no_restart() {
    let mut driven = Driven::new();
    driven.answer_one();
    driven.now += 25 * WINDOW_MS;
    driven.restart(Cause::Config);
    if let Some(restart) = driven.restarts.last_mut() {
        restart.ahead_ms = 25 * WINDOW_MS;
    }
    assert!(driven.answer_one().is_some());
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
            Some(WorkerDeath::Counted(expected))
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
    let Some(WorkerDeath::Faulted(record)) = driven.session.worker_died(UnixMillis(driven.now))
    else {
        panic!("the third death is one too many");
    };
    driven.add(*record);
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
    driven.add(Record::Ended(TurnEnded {
        turn: open.turn,
        message: open.message,
        end: TurnEnd::Completed {
            notice: None,
            further_notices: Vec::new(),
            component: component(),
            schema: 1,
            outputs: Vec::new(),
            timers: vec![TimerOp::Set(timer(5)), TimerOp::Set(timer(9))],
            received: Vec::new(),
            generation: Generation(1),
            crc: None,
        },
        effects: 0,
        usage: ModelUsage::default(),
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
