//! What tells which write was acknowledged last, beside the database.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};

use super::backup::{back_up, restored};
use super::*;
use crate::store::{Witness, found_files::FoundFiles};

/// The options of each worker of one daemon.
fn of_one_daemon() -> StoreOptions {
    let file = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
    StoreOptions {
        witness: Some(Arc::new(Witness::from(file))),
        ..StoreOptions::default()
    }
}

fn refusal(data: &Path, options: StoreOptions) -> String {
    match Store::open(data, options) {
        Err(error @ OpenError::Missing { .. }) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it opened"),
    }
}

#[test]
fn an_older_copy_of_the_folder_is_noticed_by_the_next_worker() {
    let home = folder();
    let (data, older) = (home.path().join("data"), home.path().join("older"));
    let options = of_one_daemon();
    let store = Store::open(&data, options.clone()).unwrap();
    let mut owner = Owner::create(&store, id("s"));
    owner.turn("in both");
    owner.settle();
    store.close();
    copy_tree(&data, &older);
    let store = Store::open(&data, options.clone()).unwrap();
    let mut owner = Owner {
        store: store.clone(),
        ..owner
    };
    owner.turn("in one");
    owner.settle();
    store.close();
    let unrefused = home.path().join("copy");
    copy_tree(&older, &unrefused);
    let refused = refusal(&older, options.clone());
    assert!(refused.contains("older copy"), "{refused}");
    // The folder itself goes on. Another daemon knows of what was refused, and else of nothing.
    Store::open(&data, options.clone()).unwrap().close();
    open(&unrefused).close();
    refusal(&older, StoreOptions::default());
    // Who accepts it has what is there count from then on, and the sessions are told.
    let accepted = StoreOptions {
        accept_loss: true,
        ..options.clone()
    };
    let store = Store::open(&older, accepted.clone()).unwrap();
    assert_eq!(cuts(&store, "s"), 1);
    store.close();
    Store::open(&older, accepted).unwrap().close();
    Store::open(&older, options).unwrap().close();
}

#[test]
fn a_restored_or_salvaged_folder_is_no_older_copy() {
    let home = folder();
    let options = of_one_daemon();
    let path = |name: &str| home.path().join(name);
    let store = Store::open(&path("data"), options.clone()).unwrap();
    let mut owner = Owner::create(&store, id("s"));
    back_up(&store, &path("backup")).unwrap();
    (0..9).for_each(|_| {
        owner.turn("more");
    });
    owner.settle();
    store.close();
    restored(&path("backup"), &path("restored")).unwrap();
    let to_read = StoreOptions::default();
    salvage(&path("restored"), &path("salvaged"), &to_read, &mut |_| {}).unwrap();
    for name in ["restored", "salvaged"] {
        let store = Store::open(&path(name), options.clone()).unwrap();
        assert!(cuts(&store, "s") > 0);
        store.close();
    }
}

fn cuts(store: &Store, session: &str) -> u32 {
    let progress = store.load(&id(session)).unwrap().unwrap().progress;
    progress.cut.map_or(0, |cut| cut.cuts)
}

#[test]
fn a_store_beside_which_nothing_tells_is_not_taken_for_whole() {
    let home = folder();
    let data = home.path().join("data");
    let store = open(&data);
    let mut owner = Owner::create(&store, id("s"));
    owner.turn("told");
    owner.settle();
    store.close();
    let lose = |empty: bool| {
        for name in ["SYNCED", "TRAIL"] {
            match empty {
                true => fs::write(data.join(name), "").unwrap(),
                false => fs::remove_file(data.join(name)).unwrap(),
            }
        }
    };
    // The first format is also that of versions that do not write them.
    lose(false);
    let store = open(&data);
    store.raise_format().unwrap();
    let mut owner = Owner {
        store: store.clone(),
        ..owner
    };
    owner.turn("once more");
    owner.settle();
    store.close();
    let mut rounds = 0;
    for empty in [false, true] {
        lose(empty);
        let refused = refusal(&data, StoreOptions::default());
        assert!(
            refused.contains("neither `SYNCED` nor `TRAIL`"),
            "{refused}"
        );
        let report = check(&data, &StoreOptions::default(), &mut |_| {}).unwrap();
        assert!(!report.is_sound() && report.missing.is_some(), "{report:?}");
        let accepted = StoreOptions {
            accept_loss: true,
            ..StoreOptions::default()
        };
        // A start that ends before it has cut anything has accepted nothing.
        FoundFiles::read(&data, &accepted).unwrap();
        refusal(&data, StoreOptions::default());
        let store = Store::open(&data, accepted).unwrap();
        rounds += 1;
        assert_eq!(cuts(&store, "s"), rounds);
        store.close();
        open(&data).close();
        let mut again = open(&data);
        let mut owner = Owner::create(&again, id(if empty { "t" } else { "u" }));
        owner.turn("so that `TRAIL` tells again");
        owner.settle();
        again = owner.store.clone();
        again.close();
    }
    // Of a folder that was put back by hand, all is cut anyway.
    lose(false);
    let by_hand = StoreOptions {
        restored: Some("put back".to_owned()),
        ..StoreOptions::default()
    };
    Store::open(&data, by_hand).unwrap().close();
}
