//! Retention: old events, expired keys, excess dead letters and old restart records are deleted.

use std::time::Duration;

use super::*;
use crate::domain::{
    ActiveSession, Cause, ClockHistory, ClockReading, MachineClock, PastRestart, RestartRecord,
    RestartStatus, Retention,
};
use crate::store::db::expired;

fn options(retention: Retention) -> StoreOptions {
    StoreOptions {
        retention,
        ..StoreOptions::default()
    }
}

#[test]
fn old_events_are_trimmed_and_the_rest_is_whole() {
    let home = folder();
    let retention = Retention {
        events: 40,
        ..Retention::default()
    };
    let store = Store::open(home.path(), options(retention)).unwrap();
    let mut owner = Owner::create(&store, id("s"));
    let mut other = Owner::create(&store, id("s/"));
    other.receive("stays", None);
    other.settle();
    for n in 0..100 {
        owner.turn(&n.to_string());
        owner.settle();
        let all = owner.events();
        let page = store.events(&owner.id, all.len() as u64, 1).unwrap();
        let kept = all.len() as u64 - page.oldest;
        assert!(kept <= 50 && (kept >= 40 || page.oldest == 0), "{kept}");
        let rest = store.events(&owner.id, page.oldest, 1000).unwrap();
        assert_eq!(rest.items, all[page.oldest as usize..]);
        if let Some(before) = page.oldest.checked_sub(1) {
            let refused = store.events(&owner.id, before, 10);
            assert_eq!(
                refused,
                Err(StoreError::Trimmed {
                    oldest: page.oldest
                })
            );
        }
    }
    assert_eq!(
        store.load(&owner.id).unwrap().as_ref(),
        Some(&owner.session)
    );
    other.check();
}

#[test]
fn what_waits_is_never_trimmed() {
    let home = folder();
    let retention = Retention {
        events: 10,
        ..Retention::default()
    };
    let store = Store::open(home.path(), options(retention)).unwrap();
    let mut owner = Owner::create(&store, id("s"));
    for n in 0..50 {
        owner.receive(&n.to_string(), None);
    }
    owner.begin();
    owner.settle();
    let open = owner.session.progress.open.clone().unwrap().queued;
    let message = store.message(&owner.id, open.pos).unwrap();
    assert_eq!(message.unwrap().text, "0");
    for n in 0..50 {
        owner.fail();
        owner.begin();
        owner.settle();
        assert_eq!(store.dead(&owner.id, None, 100).unwrap().len(), n + 1);
    }
    owner.receive("new", None);
    owner.settle();
    let page = store.events(&owner.id, 1_000_000, 1).unwrap();
    assert!(page.last - page.oldest <= 22, "{page:?}");
}

#[test]
fn the_oldest_dead_letters_go() {
    let home = folder();
    let retention = Retention {
        dead_letters: 3,
        ..Retention::default()
    };
    let store = Store::open(home.path(), options(retention)).unwrap();
    let mut owner = Owner::create(&store, id("s"));
    for n in 0..6 {
        owner.receive(&n.to_string(), None);
        owner.begin();
        owner.fail();
        owner.settle();
    }
    let texts = |letters: Vec<DeadLetter>| -> Vec<String> {
        letters
            .into_iter()
            .map(|letter| letter.message.text)
            .collect()
    };
    assert_eq!(
        texts(store.dead(&owner.id, None, 100).unwrap()),
        ["3", "4", "5"]
    );
    assert_eq!(texts(store.dead(&owner.id, None, 2).unwrap()), ["3", "4"]);
}

#[test]
fn keys_are_known_until_they_expire() {
    let home = folder();
    let store = open(home.path());
    let mut owner = Owner::create(&store, id("s"));
    owner.receive("hello", Some("key"));
    owner.settle();
    let known = KnownKey {
        message: MessageId::on(None, 2),
        cursor: 2,
        body: Digest::of(b"hello"),
    };
    assert_eq!(store.key(&owner.id, "key"), Ok(Some(known)));
    assert_eq!(store.key(&owner.id, "other"), Ok(None));
    assert_eq!(store.key(&id("t"), "key"), Ok(None));
    drop(owner);
    store.close();
    let retention = Retention {
        keys: Duration::ZERO,
        ..Retention::default()
    };
    // The clock's setting wavers by a millisecond or two between two readings.
    std::thread::sleep(Duration::from_millis(20));
    let store = Store::open(home.path(), options(retention)).unwrap();
    assert_eq!(store.key(&id("s"), "key"), Ok(None));
}

#[test]
fn a_clock_that_was_set_forward_lets_no_key_expire() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let hours = |hours: u64| hours * 3_600_000;
    let now = ClockReading::now();
    let stored = |age_ms: u64| (now.wall.0 - age_ms).to_be_bytes();
    let right = MachineClock::new(ClockHistory::new(now));
    assert!(expired(&stored(hours(25)), DAY, &right));
    assert!(!expired(&stored(hours(23)), DAY, &right));
    let mut behind = now;
    behind.wall.0 -= hours(25);
    // Whether it was noticed or not.
    let set = MachineClock::new(ClockHistory::new(behind));
    for _ in 0..2 {
        assert!(!expired(&stored(hours(25)), DAY, &set));
        assert!(!expired(&stored(hours(48)), DAY, &set));
        assert!(expired(&stored(hours(50)), DAY, &set));
        set.observe();
    }
}

fn restart(generation: u64, status: RestartStatus) -> RestartRecord {
    RestartRecord {
        generation: Generation(generation),
        cause: Cause::Config,
        trigger: "a test".to_owned(),
        status,
        at: UnixMillis(generation),
        config_from: None,
        config_to: Some(Digest::of(b"config")),
        tried: None,
        version: String::new(),
        active: 0,
        drain: Default::default(),
        phases: Default::default(),
        trial: Vec::new(),
        relaunch: Default::default(),
        reason: None,
        handover_at: None,
    }
}

#[test]
fn restart_records_stay_as_long_as_they_are_asked_for() {
    let home = folder();
    let store = open(home.path());
    assert_eq!(store.last_generation(), Ok(None));
    let records: Vec<_> = [
        RestartStatus::Completed,
        RestartStatus::Refused,
        RestartStatus::Running,
    ]
    .into_iter()
    .zip(2..)
    .map(|(status, generation)| restart(generation, status))
    .collect();
    for record in &records {
        store.put_restart(record).unwrap();
    }
    store.close();
    let store = open(home.path());
    assert_eq!(store.last_generation(), Ok(Some(Generation(4))));
    assert_eq!(store.restart(Generation(3)), Ok(Some(records[1].clone())));
    assert_eq!(store.restart(Generation(9)), Ok(None));
    let newest: Vec<_> = records.iter().rev().cloned().collect();
    assert_eq!(store.restarts(10), Ok(newest.clone()));
    assert_eq!(store.restarts(1).unwrap(), newest[..1]);
    let past = [2, 4].map(|generation| PastRestart {
        generation: Generation(generation),
        cause: Cause::Config,
        at: UnixMillis(generation),
        ahead_ms: 0,
    });
    assert_eq!(store.past_restarts().unwrap(), past);
    for generation in 5..20 {
        let active = ActiveSession {
            id: id("s"),
            turns: generation,
            seq: 0,
            cursor: 0,
            subscribers: 0,
        };
        let list = std::slice::from_ref(&active);
        store
            .put_active_sessions(Generation(generation), list)
            .unwrap();
        assert_eq!(store.active_sessions(Generation(generation)).unwrap(), list);
    }
    assert_eq!(store.active_sessions(Generation(11)), Ok(Vec::new()));
    assert_eq!(store.active_sessions(Generation(12)).unwrap().len(), 1);
}
