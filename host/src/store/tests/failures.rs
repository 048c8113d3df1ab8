//! Failed writes: they are never acknowledged, and the session continues from what is stored.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{super::handle::Sabotage, *};
use crate::domain::WriterSigns;

fn sabotage(store: &Store, how: Sabotage) {
    store.core().sabotage.lock().unwrap().push(how);
}

#[test]
fn after_a_failed_write_a_session_is_loaded_again() {
    for how in [Sabotage::Before, Sabotage::After] {
        let home = folder();
        let store = open(home.path());
        let mut owner = Owner::create(&store, id("s"));
        let mut other = Owner::create(&store, id("t"));
        owner.settle();
        other.settle();
        sabotage(&store, how);
        owner.receive("lost?", Some("key"));
        let failed = block_on(owner.pending.pop().unwrap());
        assert!(
            matches!(failed, Err(StoreError::Write { .. })),
            "{failed:?}"
        );
        owner.receive("stands on nothing", None);
        let refused = block_on(owner.pending.pop().unwrap());
        assert_eq!(refused, Err(StoreError::Reload(owner.id.clone())));
        other.turn("is not concerned");
        other.check();
        let (there, tail) = store.load_to_append(&owner.id).unwrap();
        let there = there.unwrap();
        let expected = usize::from(how == Sabotage::After);
        assert_eq!(there.queue.len(), expected);
        assert_eq!(
            store.key(&owner.id, "key").unwrap().is_some(),
            expected == 1
        );
        owner.log.truncate(1 + expected);
        (owner.session, owner.tail) = (there, tail);
        owner.turn("goes on");
        owner.check();
        assert_eq!(store.stats().failures, 1);
        assert_eq!(store.counts().unwrap().open, 2);
    }
}

/// Loads the owner's session again, as is due after a failed append.
fn reload(owner: &mut Owner, store: &Store) {
    let (session, tail) = store.load_to_append(&owner.id).unwrap();
    (owner.session, owner.tail) = (session.unwrap(), tail);
}

/// Waits until another thread makes the condition true.
fn until(is_so: impl Fn() -> bool) {
    let since = std::time::Instant::now();
    while !is_so() {
        assert!(since.elapsed() < std::time::Duration::from_secs(60));
        std::thread::yield_now();
    }
}

#[test]
fn whoever_reads_while_the_database_is_opened_again_waits() {
    let home = folder();
    let store = open(home.path());
    let mut owner = Owner::create(&store, id("s"));
    owner.settle();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut read = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        store.load(&id("s")).unwrap().unwrap();
                        read += 1;
                    }
                    read
                })
            })
            .collect();
        for _ in 0..10 {
            sabotage(&store, Sabotage::Before);
            owner.receive("lost", None);
            block_on(owner.pending.pop().unwrap()).unwrap_err();
            reload(&mut owner, &store);
        }
        is_over.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
}

#[test]
fn a_writer_that_failed_shows_it_until_a_write_succeeds() {
    let home = folder();
    let store = open(home.path());
    let mut owner = Owner::create(&store, id("s"));
    owner.settle();
    // The writer resolves the waiters of a write before it becomes idle, hence the wait.
    until(|| store.writer_signs() == WriterSigns::default());
    sabotage(&store, Sabotage::Before);
    owner.receive("lost", None);
    block_on(owner.pending.pop().unwrap()).unwrap_err();
    assert!(store.writer_signs().failing.is_some());
    // There are no further appends: the writer retries by itself.
    until(|| store.writer_signs().failing.is_none());
    assert_eq!(store.counts().unwrap().open, 1);
    store.clone().close();
    assert!(!store.writer_signs().gone, "it has ended in order");
}

#[test]
fn a_database_without_its_files_takes_no_write_until_they_are_back() {
    let home = folder();
    let data = home.path().join("data");
    let store = open(&data);
    let mut owner = Owner::create(&store, id("s"));
    owner.settle();
    let (there, away) = (data.join("db/CURRENT"), home.path().join("away"));
    fs::rename(&there, &away).unwrap();
    owner.receive("into the void", None);
    let refused = block_on(owner.pending.pop().unwrap()).unwrap_err();
    assert!(refused.to_string().contains("CURRENT"), "{refused}");
    assert_eq!(store.failing(), Some(refused.to_string()));
    fs::rename(&away, &there).unwrap();
    until(|| store.failing().is_none());
    reload(&mut owner, &store);
    owner.receive("is kept", None);
    assert_eq!(block_on(owner.pending.pop().unwrap()), Ok(()));
}

/// What is in the data folder now, as a kill leaves it, has all of the session.
fn is_whole_after_a_kill(home: &TempDir, owner: &Owner) {
    let copy = home.path().join("copy");
    copy_tree(&home.path().join("data"), &copy);
    let copied = open(&copy);
    assert_eq!(
        copied.load(&owner.id).unwrap().as_ref(),
        Some(&owner.session)
    );
    copied.close();
}

#[test]
fn what_a_removed_log_held_is_kept() {
    for waits in [false, true] {
        let home = folder();
        let data = home.path().join("data");
        let store = open(&data);
        let mut owner = Owner::create(&store, id("s"));
        owner.turn("before");
        owner.settle();
        let logs = || {
            let files = fs::read_dir(data.join("db")).unwrap();
            let paths = files.map(|entry| entry.unwrap().path());
            paths.filter(|path| path.extension().is_some_and(|end| end == "log"))
        };
        logs().for_each(|log| fs::remove_file(log).unwrap());
        if waits {
            // Noticed without a write as well.
            until(|| logs().next().is_some());
        }
        owner.turn("after");
        owner.settle();
        is_whole_after_a_kill(&home, &owner);
    }
}

#[test]
fn a_removed_manifest_is_put_back() {
    for waits in [false, true] {
        let home = folder();
        let data = home.path().join("data");
        let store = open(&data);
        let mut owner = Owner::create(&store, id("s"));
        owner.turn("before");
        owner.settle();
        // So that only the MANIFEST knows where the turn is.
        store.flush().unwrap();
        owner.turn("in the log");
        owner.settle();
        let manifests = || {
            let files = fs::read_dir(data.join("db")).unwrap();
            let names = files.map(|entry| entry.unwrap().path());
            names.filter(|path| path.to_string_lossy().contains("/MANIFEST-"))
        };
        manifests().for_each(|manifest| fs::remove_file(manifest).unwrap());
        if waits {
            until(|| manifests().next().is_some());
        }
        owner.turn("after");
        owner.settle();
        until(|| manifests().next().is_some());
        is_whole_after_a_kill(&home, &owner);
    }
}

#[test]
fn a_folder_that_is_gone_takes_no_write_until_it_is_back() {
    let home = folder();
    let data = home.path().join("data");
    let store = open(&data);
    let mut owner = Owner::create(&store, id("s"));
    owner.settle();
    for place in ["", "LOCK", "db"] {
        let refused = |owner: &mut Owner, text: &str| {
            owner.receive(text, None);
            let refused = block_on(owner.pending.pop().unwrap()).unwrap_err();
            let is_gone = matches!(refused, StoreError::FolderGone { .. });
            assert!(is_gone, "{place}, {text}: {refused}");
            refused
        };
        let (there, away) = (data.join(place), home.path().join("away"));
        fs::rename(&there, &away).unwrap();
        let refusal = refused(&mut owner, "into the void");
        assert_eq!(store.failing(), Some(refusal.to_string()));
        // Another folder or file in its place is not it.
        match place {
            "LOCK" => fs::write(&there, "").unwrap(),
            _ => fs::create_dir(&there).unwrap(),
        }
        reload(&mut owner, &store);
        refused(&mut owner, "into another one");
        match place {
            "LOCK" => fs::remove_file(&there).unwrap(),
            _ => fs::remove_dir(&there).unwrap(),
        }
        // Nor is a copy of it, even one of links to the same files.
        for how in ["-a", "-al"] {
            let copied = Command::new("cp").arg(how).arg(&away).arg(&there).status();
            assert!(copied.unwrap().success());
            if (place, how) != ("LOCK", "-al") {
                reload(&mut owner, &store);
                refused(&mut owner, &format!("into a copy, {how}"));
            }
            match place {
                "LOCK" => fs::remove_file(&there).unwrap(),
                _ => fs::remove_dir_all(&there).unwrap(),
            }
        }
        fs::rename(&away, &there).unwrap();
        until(|| store.failing().is_none());
        reload(&mut owner, &store);
        owner.receive("is kept", None);
        assert_eq!(block_on(owner.pending.pop().unwrap()), Ok(()));
    }
}

#[test]
fn a_folder_that_is_gone_is_noticed_without_a_write() {
    let home = folder();
    let data = home.path().join("data");
    let store = open(&data);
    fs::rename(&data, home.path().join("away")).unwrap();
    until(|| store.failing().is_some());
}

#[test]
fn a_failed_creation_is_not_counted() {
    let home = folder();
    let store = open(home.path());
    sabotage(&store, Sabotage::Before);
    let mut owner = Owner::create(&store, id("s"));
    block_on(owner.pending.pop().unwrap()).unwrap_err();
    assert_eq!(store.counts().unwrap(), SessionCounts::default());
    assert_eq!(store.load_to_append(&owner.id).unwrap().0, None);
    let mut owner = Owner::create(&store, id("s"));
    owner.check();
    assert_eq!(store.counts().unwrap().open, 1);
}

#[test]
fn a_closed_store_says_so() {
    let home = folder();
    let store = open(home.path());
    let mut owner = Owner::create(&store, id("s"));
    owner.receive("is written before the store closes", None);
    store.clone().close();
    for pending in owner.pending.drain(..) {
        assert_eq!(block_on(pending), Ok(()));
    }
    let refused = store.load_to_append(&owner.id);
    assert_eq!(refused.unwrap_err(), StoreError::Closed);
    assert_eq!(store.flush(), Err(StoreError::Closed));
    owner.receive("too late", None);
    assert_eq!(
        block_on(owner.pending.pop().unwrap()),
        Err(StoreError::Closed)
    );
    let again = open(home.path());
    let loaded = again.load(&owner.id).unwrap().unwrap();
    assert_eq!(loaded.queue.len(), 1);
}
