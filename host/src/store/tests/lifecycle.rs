//! Whatever happens to a session, the store returns the same state as the domain's fold, across
//! restarts and crashes.

use proptest::prelude::*;

use super::*;
use crate::domain::{CancelScope, Relabelled, Timer};

/// A random action on a session, or on the store.
#[derive(Clone, Debug)]
enum Act {
    Receive {
        text: String,
        key: Option<u8>,
    },
    Begin,
    Step {
        repeatable: bool,
        done: bool,
    },
    Complete {
        outputs: u8,
        timers: Vec<(u8, Option<u8>)>,
        received: usize,
    },
    Fail,
    Fault,
    Resume,
    Cancel {
        queue: bool,
    },
    Retry(usize),
    Fire,
    Relabel(u8),
    Cut(u64),
    Close,
    Check,
    /// The store is closed and opened again.
    Reopen,
    /// The process dies: the store is opened from a copy of what is on disk.
    Crash,
}

fn act() -> impl Strategy<Value = Act> {
    let timers = prop::collection::vec((0..4_u8, prop::option::of(0..4_u8)), 0..3);
    prop_oneof![
        8 => ("[a-z]{0,20}", prop::option::of(0..8_u8))
            .prop_map(|(text, key)| Act::Receive { text, key }),
        10 => Just(Act::Begin),
        8 => (any::<bool>(), any::<bool>())
            .prop_map(|(repeatable, done)| Act::Step { repeatable, done }),
        6 => (0..4_u8, timers, 0..3_usize)
            .prop_map(|(outputs, timers, received)| Act::Complete { outputs, timers, received }),
        3 => Just(Act::Fail),
        1 => Just(Act::Fault),
        2 => Just(Act::Resume),
        2 => any::<bool>().prop_map(|queue| Act::Cancel { queue }),
        2 => (0..4_usize).prop_map(Act::Retry),
        2 => Just(Act::Fire),
        1 => (0..9_u8).prop_map(Act::Relabel),
        1 => any::<u64>().prop_map(Act::Cut),
        1 => Just(Act::Check),
        1 => Just(Act::Reopen),
        1 => Just(Act::Crash),
    ]
}

impl Owner {
    fn act(&mut self, act: Act) {
        let at = self.now();
        match act {
            Act::Receive { text, key } => {
                let key = key.map(|key| format!("{key}\0"));
                self.receive(&text, key.as_deref());
            }
            Act::Begin => drop(self.begin()),
            Act::Step { repeatable, done } => self.step(repeatable, done),
            Act::Complete {
                outputs,
                timers,
                received,
            } => {
                let outputs = (0..outputs)
                    .map(|n| Output::Text(format!("text {n}")))
                    .collect();
                let timers = timers.into_iter().map(|(name, due)| match due {
                    Some(due) => TimerOp::Set(Timer {
                        name: format!("timer {name}"),
                        due: UnixMillis(u64::from(due)),
                        text: String::new(),
                    }),
                    None => TimerOp::Cancel {
                        name: format!("timer {name}"),
                    },
                });
                self.complete(outputs, timers.collect(), received);
            }
            Act::Fail => self.fail(),
            Act::Fault => {
                let fault = Fault {
                    code: FaultCode::Restore,
                    text: "it cannot".to_owned(),
                    component: None,
                };
                if let Some(record) = self.session.fault(fault, at) {
                    self.append(vec![record], Durability::Synced);
                }
            }
            Act::Resume => {
                if let Ok(record) = self.session.resume(at) {
                    self.append(vec![record], Durability::Synced);
                }
            }
            Act::Cancel { queue } => {
                let scope = match queue {
                    true => CancelScope::Queue,
                    false => CancelScope::Turn,
                };
                if let Ok(records) = self.session.cancel(&scope, &[], at)
                    && !records.is_empty()
                {
                    self.append(records, Durability::Synced);
                }
            }
            Act::Retry(n) => {
                let letter = self.letters.values().nth(n).cloned();
                let limits = Limits::default();
                if let Some(letter) = letter
                    && let Ok(record) = self.session.retry(letter, true, &limits, at)
                {
                    self.append(vec![record], Durability::Synced);
                }
            }
            Act::Fire => {
                let timer = self.session.progress.timers.first().cloned();
                if let Some(record) = timer.and_then(|timer| self.session.fire_timer(&timer, at)) {
                    self.append(vec![record], Durability::Lazy);
                }
            }
            Act::Relabel(n) => {
                let labels = [("n".to_owned(), n.to_string())].into();
                let record = Record::Relabelled(Relabelled { labels, at });
                if self.session.progress.closed.is_none() {
                    self.append(vec![record], Durability::Lazy);
                }
            }
            Act::Cut(bits) => self.cut(bits),
            Act::Close => {
                if let Ok(records) = self.session.close(at) {
                    self.append(records, Durability::Synced);
                }
            }
            Act::Check => self.check(),
            Act::Reopen | Act::Crash => unreachable!("these happen to the store"),
        }
    }
}

/// Runs the actions on two sessions that share a store; one's id is a prefix of the other's.
fn live(acts: Vec<(bool, Act)>, close: bool) {
    let home = folder();
    let mut path = home.path().join("0");
    let mut store = open(&path);
    let mut owners = ["s", "s/1"].map(|name| Owner::create(&store, id(name)));
    for (n, (second, act)) in acts.into_iter().enumerate() {
        match act {
            Act::Reopen | Act::Crash => {
                let crash = matches!(act, Act::Crash);
                owners.iter_mut().for_each(Owner::settle);
                let old = store;
                if crash {
                    let next = home.path().join((n + 1).to_string());
                    copy_tree(&path, &next);
                    path = next;
                    store = open(&path);
                    old.close();
                } else {
                    old.close();
                    store = open(&path);
                }
                owners
                    .iter_mut()
                    .for_each(|owner| owner.store = store.clone());
                owners.iter_mut().for_each(Owner::check);
            }
            act => owners[usize::from(second)].act(act),
        }
    }
    if close {
        owners[0].act(Act::Close);
    }
    owners.iter_mut().for_each(Owner::check);
    let counts = store.counts().unwrap();
    assert_eq!(
        (counts.open, counts.closed),
        if close { (1, 1) } else { (2, 0) }
    );
    store.close();
    store = open(&path);
    assert_eq!(store.counts().unwrap(), counts);
    for owner in &mut owners {
        owner.store = store.clone();
        owner.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn what_is_loaded_is_the_fold(
        acts in prop::collection::vec((any::<bool>(), act()), 0..80),
        close: bool,
    ) {
        live(acts, close);
    }
}

#[test]
fn a_page_ends_by_its_size() {
    let home = folder();
    let store = open(home.path());
    let mut owner = Owner::create(&store, id("s"));
    for n in 0..8 {
        owner.receive(&format!("{n}").repeat(200_000), None);
    }
    owner.settle();
    let page = store.events(&owner.id, 0, 1000).unwrap();
    assert_eq!((page.items.len(), page.last), (7, 9));
    let rest = store.events(&owner.id, 7, 1000).unwrap();
    assert_eq!(rest.items.len(), 2);
    assert_eq!(store.events(&owner.id, 9, 1000).unwrap().items, []);
    assert_eq!(store.events(&owner.id, 99, 1000).unwrap().items, []);
    assert_eq!(
        store.events(&id("t"), 0, 1000).unwrap(),
        EventPage::default()
    );
}

#[test]
fn lists_go_on_behind_an_id() {
    let home = folder();
    let store = open(home.path());
    let names = ["a", "a b", "a/b", "ab", "b", "\u{10ffff}"];
    for name in names {
        Owner::create(&store, id(name)).settle();
    }
    let all = store.list(None, 100, &Patterns::all()).unwrap();
    assert_eq!(all.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), names);
    for n in 0..names.len() {
        let next = store.list(Some(&all[n].id), 2, &Patterns::all()).unwrap();
        assert_eq!(
            next,
            all[n + 1..].iter().take(2).cloned().collect::<Vec<_>>()
        );
    }
}
