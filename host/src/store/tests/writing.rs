//! The writer: many appends share few syncs, stay in order, and are visible once synced.

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
            .load(&owner.id)
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
    let message = owner.tail.message(at);
    assert_eq!(message.map(|message| message.text.as_str()), Some("hello"));
    owner.begin();
    owner.fail();
    owner.check();
    assert_eq!(owner.tail.message(at), None, "nobody needs it any more");
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
fn messages_that_take_too_much_memory_are_read_from_the_disk() {
    let home = folder();
    let store = open(home.path());
    let mut owner = Owner::create(&store, id("s"));
    for letter in ["a", "b", "c"] {
        owner.receive(&letter.repeat(40 << 10), None);
    }
    let at: Vec<_> = owner
        .session
        .queue
        .iter()
        .map(|queued| queued.pos)
        .collect();
    let in_memory = |owner: &Owner| {
        at.iter()
            .map(|at| owner.tail.message(*at).is_some())
            .collect()
    };
    let all: Vec<bool> = in_memory(&owner);
    assert_eq!(all, [true; 3], "they may not be on the disk yet");
    owner.settle();
    owner.tail.settled();
    let few: Vec<bool> = in_memory(&owner);
    assert_eq!(few, [false, false, true]);
    owner.begin();
    owner.fail();
    owner.check();
    let letter = store.dead(&owner.id, None, 10).unwrap().remove(0);
    assert_eq!(letter.message.text, "a".repeat(40 << 10));
}

#[test]
fn what_is_active_is_what_has_work_or_lately_had() {
    const SPAN: u64 = 10 * 60 * 1000;
    let home = folder();
    let store = open(home.path());
    let mut owners: Vec<_> = ["early", "late", "later", "busy", "never"]
        .map(|name| Owner::create(&store, id(name)))
        .into();
    for (owner, spans) in owners.iter_mut().zip([1, 2, 3, 1]) {
        owner.now = spans * SPAN;
        owner.turn("a");
    }
    owners[1].now = 3 * SPAN;
    owners[1].turn("again");
    owners[3].receive("b", None);
    for owner in &mut owners {
        owner.check();
    }
    let active = |since: u64, others: usize| -> Vec<String> {
        let ids = store.active(UnixMillis(since), others).unwrap();
        ids.iter().map(|id| id.as_str().to_owned()).collect()
    };
    assert_eq!(active(0, 10), ["busy", "later", "late", "early"]);
    assert_eq!(active(0, 1), ["busy", "later"]);
    assert_eq!(active(2 * SPAN + 5, 10), ["busy", "later", "late"]);
    assert_eq!(active(4 * SPAN, 10), ["busy"]);
    store.prune_active(UnixMillis(3 * SPAN)).unwrap();
    assert_eq!(active(0, 10), ["busy", "later", "late"]);
    store.prune_active(UnixMillis(9 * SPAN)).unwrap();
    assert_eq!(active(0, 10), ["busy"], "what has work is never forgotten");
    owners[0].now = 9 * SPAN;
    owners[0].turn("again");
    owners[0].check();
    assert_eq!(active(0, 10), ["busy", "early"]);
}
