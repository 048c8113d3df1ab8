//! Checks the machine's invariants on random histories.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::supervisor::message::{Mode, StartCause};

/// A step of a random history. Its numbers select among the live workers.
#[derive(Clone, Debug)]
enum Move {
    Say(usize, u8),
    Die(usize, u8),
    Close(usize),
    Break(usize),
    Terminate,
    Hangup,
    Pass(Millis),
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        12 => (0..2_usize, 0..12_u8).prop_map(|(who, what)| Move::Say(who, what)),
        3 => (0..2_usize, 0..5_u8).prop_map(|(who, how)| Move::Die(who, how)),
        1 => (0..2_usize).prop_map(Move::Close),
        1 => (0..2_usize).prop_map(Move::Break),
        1 => Just(Move::Terminate),
        1 => Just(Move::Hangup),
        4 => prop_oneof![0..200_u64, 0..20_000_u64, 0..200_000_u64].prop_map(Move::Pass),
    ]
}

fn worker_message(what: u8, config: u32) -> WorkerMessage<u32> {
    match what {
        0 => WorkerMessage::Serving {
            stop_budget: u64::from(config),
            config,
        },
        1 => WorkerMessage::Replace(Replacement {
            generation: config.into(),
            config,
            info: Vec::new(),
        }),
        2 => WorkerMessage::StandbyReady,
        3 => WorkerMessage::StandbyFailed {
            reason: "why".to_owned(),
        },
        4 => WorkerMessage::CancelReplace,
        5 => WorkerMessage::Connection,
        6 => WorkerMessage::Released,
        7 => WorkerMessage::Stopped,
        8 => WorkerMessage::Fatal {
            reason: "why".to_owned(),
            code: 3,
        },
        9 => WorkerMessage::Proven,
        10 => WorkerMessage::LastGood(config),
        11 => WorkerMessage::Mending,
        _ => WorkerMessage::Alive,
    }
}

/// The state that an observer of the machine knows, against which it checks each action.
#[derive(Default)]
struct Observer {
    live: Vec<WorkerId>,
    doomed: BTreeSet<WorkerId>,
    /// The worker that was ordered to open the store and has neither released it nor died.
    owner: Option<WorkerId>,
    /// The last worker that has served.
    served: Option<WorkerId>,
    good: Option<u32>,
    /// The configs that have passed probation, or are reported to have (`LastGood`).
    proven: BTreeSet<u32>,
    exited: bool,
    spawned: u64,
}

impl Observer {
    fn see(&mut self, actions: &[Action<u32>]) {
        for action in actions {
            assert!(!self.exited, "acts after its exit: {action:?}");
            match action {
                Action::Spawn(id, birth) => {
                    assert!(*id > self.spawned, "a number is used twice");
                    self.spawned = *id;
                    if birth.mode == Mode::Serve {
                        assert!(self.live.is_empty(), "serves beside others");
                        if let StartCause::Rollback { .. } = birth.cause {
                            let config = birth.config.expect("something is gone back to");
                            let known = self.proven.contains(&config) || self.good == Some(config);
                            assert!(known, "rolled back to what nobody knows");
                            self.good = birth.config;
                        }
                        assert_eq!(birth.config, self.good, "not the running config");
                        assert_eq!(self.owner.replace(*id), None, "two owners");
                    }
                    self.live.push(*id);
                    assert!(self.live.len() <= 2, "more than two workers");
                }
                Action::Send(id, tell) => {
                    assert!(self.live.contains(id));
                    if let SupervisorMessage::Go(_) = tell {
                        assert_eq!(self.owner.replace(*id), None, "two owners");
                    }
                }
                Action::Relay(id) => assert!(self.live.contains(id)),
                Action::Kill(id) => {
                    assert!(self.live.contains(id) && self.doomed.insert(*id));
                }
                Action::Settle(id) => {
                    assert_eq!(self.owner, Some(*id), "another than the owner serves");
                    self.served = Some(*id);
                }
                Action::Exit(code) => {
                    let all = self.live.iter().all(|id| self.doomed.contains(id));
                    assert!(all && (self.live.is_empty() || *code == 1));
                    self.exited = true;
                }
                Action::Sweep(_) | Action::Log(..) => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_history_breaks_what_must_always_hold(
        history in proptest::collection::vec(moves(), 1..60)
    ) {
        let (mut machine, first) = Machine::new();
        let mut observer = Observer::default();
        observer.see(&first);
        let mut now = 0;
        for (index, one) in history.into_iter().enumerate() {
            let config = u32::try_from(index).unwrap();
            let pick = |who: usize| observer.live.get(who).copied();
            let event = match one {
                Move::Say(who, what) => pick(who).map(|id| MachineEvent::Message(id, worker_message(what, config))),
                Move::Die(who, how) => pick(who).map(|id| MachineEvent::Gone(id, match how {
                    0 => ExitStatus::Exited(0),
                    1 => ExitStatus::Exited(1),
                    2 => ExitStatus::Unaccounted,
                    how => ExitStatus::Signal {
                        number: 9 + how,
                        name: "SIGNAL".to_owned(),
                        fault: how == 3,
                    },
                })),
                Move::Close(who) => pick(who).map(MachineEvent::Closed),
                Move::Break(who) => pick(who).map(|id| MachineEvent::Broken(id, "why".to_owned())),
                Move::Terminate => Some(MachineEvent::Terminate),
                Move::Hangup => Some(MachineEvent::Hangup),
                Move::Pass(time) => {
                    now += time;
                    Some(MachineEvent::Tick)
                }
            };
            let Some(event) = event else { continue };
            let mut serving = None;
            match &event {
                MachineEvent::Gone(id, _) => {
                    observer.live.retain(|live| live != id);
                    observer.owner.take_if(|owner| owner == id);
                }
                // The owner's message alone releases the store, before the machine responds to it.
                // Before the owner has served, the message has no effect.
                MachineEvent::Message(id, WorkerMessage::Released) if observer.served == Some(*id) => {
                    observer.owner.take_if(|owner| owner == id);
                }
                MachineEvent::Message(_, WorkerMessage::Serving { config, .. }) => serving = Some(*config),
                MachineEvent::Message(_, WorkerMessage::LastGood(config)) => {
                    observer.proven.insert(*config);
                }
                MachineEvent::Message(_, WorkerMessage::Proven) => observer.proven.extend(observer.good),
                _ => {}
            }
            let actions = machine.step(now, event);
            let settles = actions.iter().any(|action| matches!(action, Action::Settle(_)));
            if settles {
                observer.good = serving;
            }
            observer.see(&actions);
            // No deadlock: there is a live worker or a deadline, or the supervisor has exited.
            prop_assert!(
                observer.exited || !observer.live.is_empty() || machine.next_deadline().is_some()
            );
            if observer.exited {
                break;
            }
        }
    }
}
