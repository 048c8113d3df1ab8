//! The writer: many appends, few syncs, in order, seen once synced.

use super::*;

#[test]
fn appends_of_many_share_a_write() {
    let home = folder();
    let store = open(home.path());
    let mut owners: Vec<_> = (0..20)
        .map(|n| Owner::create(&store, id(&format!("s{n}"))))
        .collect();
    for n in 0..20 {
        for owner in &mut owners {
            owner.turn(&n.to_string());
        }
    }
    for owner in &mut owners {
        owner.check();
    }
    let stats = store.stats();
    assert_eq!(stats.appends, 20 * (1 + 20 * 3));
    assert!(stats.writes * 3 < stats.appends, "{stats:?}");
    assert_eq!(stats.failures, 0);
}

#[test]
fn a_lazy_append_is_synced_by_itself() {
    let home = folder();
    let store = open(home.path());
    let mut owner = Owner::create(&store, id("s"));
    owner.receive("hello", None);
    owner.settle();
    owner.begin();
    owner.check();
    assert!(
        store
            .load_to_append(&owner.id)
            .unwrap()
            .unwrap()
            .progress
            .open
            .is_some()
    );
}

#[test]
fn a_message_in_flight_can_be_read_and_buried() {
    let home = folder();
    let store = open(home.path());
    let mut owner = Owner::create(&store, id("s"));
    owner.receive("hello", None);
    let at = owner.session.queue[0].pos;
    let message = store.message(&owner.id, at).unwrap();
    assert_eq!(
        message.map(|message| message.text).as_deref(),
        Some("hello")
    );
    owner.begin();
    owner.fail();
    owner.check();
    let letters = store.dead(&owner.id, None, 10).unwrap();
    let [letter] = &letters[..] else {
        panic!("{letters:?}")
    };
    assert_eq!(letter.message.text, "hello");
    assert_eq!(letter.reason, failure());
    let again = store.dead_letter(&owner.id, &letter.message.id).unwrap();
    assert_eq!(again.as_ref(), Some(letter));
    assert_eq!(
        store.dead(&owner.id, Some(&letter.message.id), 10).unwrap(),
        []
    );
    let none = MessageId::from_client("nonsense");
    assert_eq!(store.dead_letter(&owner.id, &none), Ok(None));
}

#[test]
fn only_idle_sessions_are_pruned() {
    let home = folder();
    let store = open(home.path());
    let mut idle = Owner::create(&store, id("idle"));
    let mut busy = Owner::create(&store, id("busy"));
    let mut never = Owner::create(&store, id("never"));
    idle.turn("a");
    busy.turn("a");
    busy.receive("b", None);
    for owner in [&mut idle, &mut busy, &mut never] {
        owner.settle();
    }
    assert_eq!(store.active(), Ok(vec![busy.id.clone(), idle.id.clone()]));
    let last = idle.session.progress.last_commit.unwrap();
    assert_eq!(store.prune_active(last), Ok(0));
    assert_eq!(store.prune_active(UnixMillis(last.0 + 1)), Ok(1));
    assert_eq!(store.active(), Ok(vec![busy.id.clone()]));
    idle.receive("again", None);
    idle.check();
}
