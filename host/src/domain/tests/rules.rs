//! Rules that hold for a session under any sequence of requests.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
pub(super) enum Scope {
    Turn,
    Queue,
    /// The message that has waited the longest, or the open turn's.
    First,
    Working,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Receive,
    Begin,
    Step { repeatable: bool, done: bool },
    Complete,
    Fail,
    Cancel(Scope),
    Fault,
    Resume,
    Retry,
    Restart,
    Cut(u64),
    Close,
}

pub(super) fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Receive),
        8 => Just(Act::Begin),
        6 => any::<(bool, bool)>()
            .prop_map(|(repeatable, done)| Act::Step { repeatable, done }),
        5 => Just(Act::Complete),
        2 => Just(Act::Fail),
        2 => prop_oneof![
            Just(Scope::Turn), Just(Scope::Queue), Just(Scope::First), Just(Scope::Working),
        ].prop_map(Act::Cancel),
        1 => Just(Act::Fault),
        2 => Just(Act::Resume),
        1 => Just(Act::Retry),
        2 => Just(Act::Restart),
        1 => any::<u64>().prop_map(Act::Cut),
        1 => prop::bool::weighted(0.1).prop_map(|yes| if yes { Act::Close } else { Act::Begin }),
    ]
}

pub(super) fn drive(acts: &[Act]) -> Driven {
    go_on(Driven::new(), acts)
}

pub(super) fn go_on(mut driven: Driven, acts: &[Act]) -> Driven {
    let mut dead = dead_letters(&driven.log);
    for act in acts {
        driven.now += 1;
        let at = UnixMillis(driven.now);
        let records = match act {
            Act::Receive => {
                // Only a full inbox and a closed session may refuse.
                if let Err(no) = driven.receive() {
                    assert!(matches!(
                        no,
                        Refusal::InboxFull { .. } | Refusal::Closed { .. }
                    ));
                }
                Vec::new()
            }
            Act::Begin => {
                // A driver begins no turn while another one of its own runs; it begins the open
                // turn of an older generation again.
                let open = driven.session.progress.open.as_ref();
                if open.is_none_or(|open| open.begun.runs_in().0 < driven.generation) {
                    driven.begin();
                }
                Vec::new()
            }
            Act::Step { repeatable, done } => {
                driven.step(*repeatable, *done);
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
            Act::Cancel(scope) => {
                let open = driven.session.progress.open.as_ref();
                let first = driven.session.queue.front();
                let message = |queued: Option<&Queued>| {
                    let none = MessageId::on(None, 0);
                    CancelScope::Message(queued.map_or(none, |queued| queued.id.clone()))
                };
                let scope = match scope {
                    Scope::Turn => CancelScope::Turn,
                    Scope::Queue => CancelScope::Queue,
                    Scope::First => message(first),
                    Scope::Working => message(open.map(|open| &open.queued)),
                };
                driven.session.cancel(&scope, &[], at).unwrap_or_default()
            }
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
                    let retried = {
                        let letter = DeadLetter {
                            message: letter.clone(),
                            reason: TurnFailure {
                                code: FailureCode::Guest,
                                text: "no".into(),
                            },
                            turn: None,
                            effects: 0,
                            at,
                        };
                        driven.session.retry(letter, false, &driven.limits, at)
                    };
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
            Act::Cut(bits) => {
                driven.cut(*bits);
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

/// Returns the dead letters of a log, computed without the fold.
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
            Record::Ended(TurnEnded {
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
    /// waits; it always has exactly one of these fates.
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
                Record::Ended(TurnEnded { message, end: TurnEnd::Completed { .. }, .. })
                    if message == id)).count();
            let fates = committed
                + waiting.iter().filter(|w| *w == id).count()
                + dead.iter().filter(|d| *d == id).count();
            prop_assert_eq!(fates, 1, "message {}", id);
        }
    }

    /// A turn has one `started` event, however many attempts it takes, and turn numbers have no
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

    /// A session is notified of a generation at most once.
    #[test]
    fn no_notice_twice(acts in prop::collection::vec(act(), 0..200)) {
        let notified: Vec<u64> = drive(&acts).events().iter().filter_map(|event| match event.body {
            // A notice about stopped turns or a cut history need not report a generation.
            EventBody::Notice { cause: NoticeCause::Stopped | NoticeCause::HistoryCut, .. } => None,
            EventBody::Notice { generation, .. } => Some(generation.0),
            _ => None,
        }).collect();
        prop_assert!(notified.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", notified);
    }

    /// A closed session keeps nothing waiting and accepts nothing.
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
