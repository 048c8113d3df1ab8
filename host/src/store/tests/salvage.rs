//! Damaged tables: whatever is damaged, a session is whole, or it is named.

use std::fs;
use std::path::PathBuf;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::domain::{SalvageReport, TouchedFate};
use crate::store::damage;
use crate::store::recovery::Manifest;

/// A closed store with sessions of every kind, and their owners.
pub(super) struct Stored {
    pub(super) home: TempDir,
    owners: Vec<Owner>,
}

/// Text that takes as much room when it is compressed.
fn noise(draw: &mut StdRng, bytes: usize) -> String {
    (0..bytes).map(|_| draw.random_range('!'..'~')).collect()
}

pub(super) fn stored(seed: u64) -> Stored {
    let mut draw = StdRng::seed_from_u64(seed);
    let home = folder();
    let store = open(&home.path().join("data"));
    let mut owners: Vec<_> = (0..12)
        .map(|n| Owner::create(&store, id(&format!("session/{n}"))))
        .collect();
    for round in 0..6 {
        for owner in &mut owners {
            let text = noise(&mut draw, 1500);
            owner.receive(&text, Some(&format!("key {round}")));
            owner.begin();
            match draw.random_range(0..5) {
                0 => owner.fail(),
                _ => {
                    owner.step(true, true);
                    owner.complete(vec![Output::Text(noise(&mut draw, 1500))], Vec::new(), 0);
                }
            }
            owner.settle();
        }
        if round != 4 {
            store.flush().unwrap();
        }
    }
    for (n, owner) in owners.iter_mut().enumerate() {
        owner.receive("waits", Some("waits"));
        if n % 3 == 0 {
            owner.begin();
            owner.step(false, n % 2 == 0);
        }
        owner.receive("waits as well", None);
        owner.settle();
    }
    store.flush().unwrap();
    owners[1].turn("in the log only");
    owners[1].settle();
    store.close();
    Stored { home, owners }
}

impl Stored {
    pub(super) fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Returns a copy of the data folder.
    fn copy(&self) -> TempDir {
        let copy = folder();
        copy_tree(&self.data(), &copy.path().join("data"));
        copy
    }

    /// Asserts that each session in the store is whole, or was named. Returns how many are whole.
    fn check(&self, store: &Store, report: &SalvageReport) -> usize {
        let mut whole = 0;
        let list = store.list(None, 100, &Patterns::all()).unwrap();
        for owner in &self.owners {
            let named = report.touched.iter().any(|touched| touched.id == owner.id);
            let named = named || report.missing.is_some();
            let is_whole = is_whole(store, owner);
            assert!(is_whole || named, "{} is not whole: {report:?}", owner.id);
            assert!(list.iter().any(|listed| listed.id == owner.id) || named);
            whole += usize::from(is_whole);
        }
        whole
    }
}

/// Whether the store has everything of a session.
fn is_whole(store: &Store, owner: &Owner) -> bool {
    let Ok(Some(session)) = store.load(&owner.id) else {
        return false;
    };
    let events = store.events(&owner.id, 0, 10_000);
    let letters: Vec<_> = owner.letters.values().cloned().collect();
    let known = owner.log.iter().all(|(_, record)| match record {
        Record::Received(received) => received.key.as_ref().is_none_or(|key| {
            let known = store.key(&owner.id, &key.key).unwrap();
            known.is_some_and(|known| known.message == received.message.id)
        }),
        _ => true,
    });
    // The present snapshot can be made again from the one before and the journal.
    let progress = &session.progress;
    let snapshots = [Some(progress.snapshot), progress.previous];
    let has_snapshot = snapshots
        .iter()
        .flatten()
        .any(|kept| store.snapshot(&owner.id, kept.at).unwrap() == Some(snapshot(kept.at.seq)));
    session == owner.session
        && events.is_ok_and(|page| page.items == owner.events())
        && store.dead(&owner.id, None, 100).unwrap() == letters
        && known
        && has_snapshot
        && store.active(UnixMillis(0), 0).unwrap().contains(&owner.id)
}

/// Returns the tables that count, with the names of their families.
fn tables(data: &Path) -> Vec<(PathBuf, String)> {
    let tables = tables_of(data);
    assert!(tables.len() > 10, "{tables:?}");
    tables
}

fn tables_of(data: &Path) -> Vec<(PathBuf, String)> {
    let manifest = Manifest::read(&data.join("db")).unwrap().unwrap();
    let tables = manifest.tables.iter().map(|(number, table)| {
        let path = data.join(format!("db/{number:06}.sst"));
        (path, manifest.families[&table.family].name.clone())
    });
    tables.collect()
}

pub(super) fn salvaged(data: &Path, new: &Path) -> SalvageReport {
    salvage(data, new, &StoreOptions::default(), &mut |_| {}).unwrap()
}

#[test]
fn a_sound_store_is_found_sound_and_is_salvaged_whole() {
    let stored = stored(1);
    let before = check(&stored.data(), &StoreOptions::default(), &mut |_| {}).unwrap();
    assert!(before.is_sound(), "{before:?}");
    assert_eq!((before.sessions, before.whole), (12, 12));
    let new = stored.home.path().join("new");
    let report = salvaged(&stored.data(), &new);
    assert_eq!(report, before);
    let store = open(&new);
    assert_eq!(stored.check(&store, &report), 12);
    assert_eq!(store.counts().unwrap().open, 12);
    store.close();
    // What it was read from is as it was.
    let store = open(&stored.data());
    assert_eq!(stored.check(&store, &report), 12);
}

/// Damages a table.
fn damage(table: &Path, draw: &mut StdRng) {
    let mut bytes = fs::read(table).unwrap();
    let at = draw.random_range(0..bytes.len());
    match draw.random_range(0..4) {
        0 => bytes[at] ^= 1 << draw.random_range(0..8),
        1 => {
            let end = (at + 4096).min(bytes.len());
            bytes[at..end].fill(0);
        }
        2 => bytes.truncate(at),
        _ => return fs::remove_file(table).unwrap(),
    }
    fs::write(table, bytes).unwrap();
}

#[test]
fn whatever_is_damaged_a_session_is_whole_or_named() {
    let stored = stored(2);
    let (mut cases, mut whole) = (0, 0);
    for seed in 0..60 {
        let mut draw = StdRng::seed_from_u64(seed);
        let copy = stored.copy();
        let data = copy.path().join("data");
        let tables = tables(&data);
        for _ in 0..draw.random_range(1..3) {
            let (table, _) = &tables[draw.random_range(0..tables.len())];
            if table.exists() {
                damage(table, &mut draw);
            }
        }
        let found = check(&data, &StoreOptions::default(), &mut |_| {}).unwrap();
        let new = copy.path().join("new");
        let report = salvaged(&data, &new);
        let store = open(&new);
        let kept = stored.check(&store, &report);
        assert!(kept == 12 || !found.is_sound(), "seed {seed}");
        let cut = report
            .touched
            .iter()
            .filter(|one| one.fate == TouchedFate::Cut);
        let cut = match &report.missing {
            None => cut.count(),
            Some(_) => 12,
        };
        assert_eq!(store.counts().unwrap().parked, cut as u64, "{report:?}");
        store.close();

        // The same when it is opened.
        damage::note(&data, "a test met it").unwrap();
        let store = open(&data);
        let aside = store.kept_aside();
        assert_eq!(aside.len(), 1, "seed {seed}");
        let report = aside[0].report.clone().unwrap();
        assert_eq!(stored.check(&store, &report), kept, "seed {seed}");
        store.close();
        let again = check(&data, &StoreOptions::default(), &mut |_| {}).unwrap();
        assert_eq!((again.damaged_files, again.missing), (Vec::new(), None));
        for session in again.touched {
            // Its snapshots are gone for good.
            assert!(
                session.what.contains("cannot go on"),
                "seed {seed}: {session:?}"
            );
        }
        if report.missing.is_none() {
            (cases, whole) = (cases + 1, whole + kept);
        }
    }
    // A table that is gone may concern all; a bit does not.
    assert!(whole > cases * 12 / 2, "{whole} of {}", cases * 12);
}

#[test]
fn a_merge_that_meets_damage_ends_nothing() {
    let stored = stored(3);
    let data = stored.data();
    // Others are met when it is opened.
    let tables = tables(&data);
    let of_logs = tables.iter().filter(|(_, family)| family == "log");
    for (table, _) in of_logs {
        let mut bytes = fs::read(table).unwrap();
        bytes[20] ^= 1;
        fs::write(table, bytes).unwrap();
    }
    let store = open(&data);
    let mut busy = Owner::create(&store, id("busy"));
    let mut turns = 0;
    while store.damage().is_none() || turns < 20 {
        busy.turn("goes on");
        busy.settle();
        // Fails if the merge was first: only a write opens the store again.
        let _ = store.flush();
        turns += 1;
        assert!(turns < 500, "no merge has met the damage");
    }
    for _ in 0..20 {
        busy.turn("goes on");
        busy.settle();
        // Fails if the merge was first: only a write opens the store again.
        let _ = store.flush();
    }
    assert_eq!(store.failing(), None);
    store.close();
    let store = open(&data);
    assert_eq!(store.damage(), None);
    let report = store.kept_aside()[0].report.clone().unwrap();
    assert!(!report.is_sound());
    stored.check(&store, &report);
    assert!(report.touched.iter().all(|touched| touched.id != busy.id));
    assert_eq!(store.load(&busy.id).unwrap().as_ref(), Some(&busy.session));
    let events = store.events(&busy.id, 0, 10_000).unwrap();
    assert_eq!(events.items, busy.events());
}

#[test]
fn a_table_that_is_gone_keeps_no_store_from_opening() {
    let stored = stored(4);
    let tables = tables(&stored.data());
    for (table, _) in &tables {
        let copy = stored.copy();
        let data = copy.path().join("data");
        fs::remove_file(data.join("db").join(table.file_name().unwrap())).unwrap();
        let store = open(&data);
        let report = store.kept_aside()[0].report.clone().unwrap();
        assert_eq!(report.damaged_files.len(), 1, "{report:?}");
        stored.check(&store, &report);
        let mut busy = Owner::create(&store, id("new"));
        busy.turn("goes on");
        busy.check();
    }
}

#[test]
fn where_nothing_shows_which_sessions_are_older_all_are_cut() {
    let stored = stored(7);
    let tables = tables(&stored.data());
    let last_of = |family: &str| {
        let mut own = tables.iter().rev().filter(|(_, of)| of == family);
        own.next().unwrap().0.clone()
    };
    for family in ["log", "sessions"] {
        fs::remove_file(last_of(family)).unwrap();
    }
    let store = open(&stored.data());
    let report = store.kept_aside()[0].report.clone().unwrap();
    assert!(report.missing.is_some(), "{report:?}");
    assert_eq!(store.counts().unwrap().parked, 12);
}

#[test]
fn without_a_manifest_the_tables_are_salvaged() {
    let stored = stored(5);
    for gone in ["CURRENT", "MANIFEST"] {
        let copy = stored.copy();
        let data = copy.path().join("data");
        for entry in fs::read_dir(data.join("db")).unwrap() {
            let path = entry.unwrap().path();
            if path
                .file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(gone)
            {
                fs::remove_file(path).unwrap();
            }
        }
        let refused = Store::open(&data, StoreOptions::default()).err().unwrap();
        assert!(
            refused.to_string().contains("abide store salvage"),
            "{refused}"
        );
        let new = copy.path().join("new");
        let report = salvaged(&data, &new);
        assert_eq!(report.damaged_files.len(), 1, "{report:?}");
        assert_eq!(stored.check(&open(&new), &report), 12, "{gone}: {report:?}");
    }
}

#[test]
fn what_a_start_could_not_end_the_next_one_ends() {
    let stored = stored(6);
    let whole = SalvageReport::default();
    for left in ["mending", "db.mended"] {
        let copy = stored.copy();
        let data = copy.path().join("data");
        fs::create_dir(data.join(left)).unwrap();
        fs::write(data.join(left).join("half"), "of it").unwrap();
        assert_eq!(stored.check(&open(&data), &whole), 12, "{left}");
        assert!(!data.join(left).exists(), "{left}");
    }
    // The damaged database is aside, and the new one has not got its name yet.
    let copy = stored.copy();
    let data = copy.path().join("data");
    let new = copy.path().join("new");
    salvaged(&data, &new);
    damage::note(&data, "a test met it").unwrap();
    fs::create_dir(data.join("damaged-7")).unwrap();
    // The number in SYNCED is still the damaged one's, beyond what the new one counts.
    fs::rename(data.join("db"), data.join("damaged-7/db")).unwrap();
    fs::rename(new.join("db"), data.join("db.mended")).unwrap();
    let store = open(&data);
    assert_eq!(stored.check(&store, &whole), 12);
    assert_eq!(store.kept_aside().len(), 2);
}

/// Damages a table's properties, so that RocksDB's error does not name the table.
fn damage_properties(table: &Path) {
    let mut bytes = fs::read(table).unwrap();
    // Names that begin alike are stored without what they share. They are in order, and this one is
    // not the first.
    let name = memchr::memmem::rfind(&bytes, b"column.family.id").unwrap();
    bytes[name] = 0;
    fs::write(table, bytes).unwrap();
}

#[test]
fn a_damaged_table_is_found_although_the_error_does_not_name_it() {
    let stored = stored(6);
    let copy = stored.copy();
    let data = copy.path().join("data");
    let tables = tables(&data).into_iter().step_by(3);
    let damaged = tables.map(|(table, _)| damage_properties(&table)).count();
    let found = check(&data, &StoreOptions::default(), &mut |_| {}).unwrap();
    assert_eq!(found.damaged_files.len(), damaged, "{found:?}");
    for file in &found.damaged_files {
        assert!(file.what.contains("properties unsorted"), "{file:?}");
    }
    // RocksDB blames the MANIFEST when it opens the tables.
    let store = open(&data);
    let report = store.kept_aside()[0].report.clone().unwrap();
    assert_eq!(report.damaged_files.len(), damaged);
    stored.check(&store, &report);
}

#[test]
fn a_damaged_block_of_a_long_table_touches_the_sessions_of_that_block_alone() {
    let mut draw = StdRng::seed_from_u64(9);
    let home = folder();
    let store = open(&home.path().join("data"));
    let mut owners: Vec<_> = (0..40)
        .map(|n| Owner::create(&store, id(&format!("session {n}"))))
        .collect();
    for _ in 0..5 {
        for owner in &mut owners {
            owner.receive(&noise(&mut draw, 6_000), None);
            owner.begin();
            let output = Output::Text(noise(&mut draw, 6_000));
            owner.complete(vec![output], Vec::new(), 0);
            owner.settle();
        }
    }
    for owner in &mut owners {
        owner.receive("waits", None);
        owner.settle();
    }
    store.flush().unwrap();
    store.close();
    let stored = Stored { home, owners };
    let tables = tables_of(&stored.data());
    let logs = tables.iter().filter(|(_, family)| family == "log");
    let (table, _) = logs
        .max_by_key(|(path, _)| fs::metadata(path).unwrap().len())
        .unwrap();
    let bytes = fs::read(table).unwrap();
    for part in 0..8 {
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 10 * (part + 1)] ^= 1;
        fs::write(table, damaged).unwrap();
        let new = stored.home.path().join(format!("new {part}"));
        let report = salvaged(&stored.data(), &new);
        assert!((1..=3).contains(&report.touched.len()), "{report:?}");
        assert_eq!(report.missing, None);
        let store = open(&new);
        assert!(stored.check(&store, &report) >= 37);
        store.close();
    }
}
