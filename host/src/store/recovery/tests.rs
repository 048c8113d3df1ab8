//! What RocksDB has written is read as RocksDB reads it, and every damage to it is found.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tempfile::TempDir;

use super::Examined;
use super::examine::examine_db;
use super::framing::{Framed, LogRecords};
use super::manifest::Manifest;
use crate::store::db::{Db, Keyspace, Op};
use crate::store::db_files::table_name;
use crate::store::mark::SyncedMark;
use crate::store::options::StoreOptions;
use crate::store::trail::Trail;

/// A database that is written to at random, and its numbers after each write.
struct Writer {
    home: TempDir,
    db: Option<Db>,
    draw: StdRng,
    acknowledged: u64,
}

impl Writer {
    fn new(seed: u64) -> Self {
        let home = tempfile::tempdir().unwrap();
        let options = StoreOptions::default();
        Self {
            db: Some(Db::open(&home.path().join("db"), true, &options).unwrap()),
            home,
            draw: StdRng::seed_from_u64(seed),
            acknowledged: 0,
        }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn folder(&self) -> PathBuf {
        self.home.path().join("db")
    }

    /// Writes batches of a few bytes up to some blocks, to all families.
    fn write(&mut self, batches: usize) {
        for _ in 0..batches {
            let mut ops = Vec::new();
            for _ in 0..self.draw.random_range(1..5) {
                let family = match self.draw.random_range(0..5) {
                    0 => Keyspace::Meta,
                    1 => Keyspace::Snapshots,
                    2 => Keyspace::Sessions,
                    3 => Keyspace::Index,
                    _ => Keyspace::Log,
                };
                let key: [u8; 3] = self.draw.random();
                let length = match self.draw.random_range(0..20) {
                    0 => self.draw.random_range(0..100_000),
                    _ => self.draw.random_range(0..600),
                };
                let value = (0..length).map(|_| self.draw.random()).collect();
                ops.push(match self.draw.random_range(0..8) {
                    0 => Op::Delete(family, key.to_vec()),
                    1 => Op::DeleteRange(family, key[..1].to_vec(), key.to_vec()),
                    _ => Op::Put(family, key.to_vec(), value),
                });
            }
            self.db().write(&Trail::default(), &ops).unwrap();
            self.acknowledged = self.db().last_sequence();
        }
    }

    fn reopen(&mut self) {
        self.db = None;
        self.db = Some(Db::open(&self.folder(), false, &StoreOptions::default()).unwrap());
    }

    /// Copies the files as a kill of the process would leave them: all of one moment, whatever
    /// RocksDB does in the background.
    fn killed(&self) -> TempDir {
        loop {
            let copy = tempfile::tempdir().unwrap();
            let before = files(&self.folder());
            // A file that is gone by now makes the copy differ.
            let copied = before.iter().all(|(path, _)| {
                fs::copy(path, copy.path().join(path.file_name().unwrap())).is_ok()
            });
            if copied && files(&self.folder()) == before {
                return copy;
            }
        }
    }

    fn mark(&self) -> Option<SyncedMark> {
        Some(SyncedMark::at(self.acknowledged))
    }
}

/// Returns the files of a folder with their sizes.
fn files(folder: &Path) -> BTreeSet<(PathBuf, u64)> {
    let entries = fs::read_dir(folder).unwrap();
    let size = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.len());
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), size(&path))).collect()
}

fn examined(folder: &Path, mark: Option<SyncedMark>) -> Examined {
    examine_db(folder, mark)
        .unwrap()
        .expect("the MANIFEST is whole")
}

fn logs(folder: &Path) -> BTreeSet<PathBuf> {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect()
}

/// Returns where the records of a log end.
fn end_of(bytes: &[u8], number: u64) -> usize {
    let mut frames = LogRecords::new(bytes, number);
    let mut end = 0;
    while let Framed::Record(record) = frames.next() {
        end = record.place.end;
    }
    end
}

#[test]
fn whatever_rocksdb_does_nothing_is_missing() {
    let mut writer = Writer::new(1);
    for round in 0..60 {
        let batches = writer.draw.random_range(0..30);
        writer.write(batches);
        match round % 4 {
            1 => writer.db().flush().unwrap(),
            3 => writer.reopen(),
            _ => {}
        }
        let copy = writer.killed();
        let manifest = Manifest::read(copy.path()).unwrap().unwrap();
        assert!(
            manifest.last_sequence <= writer.acknowledged,
            "round {round}: {manifest:?}"
        );
        let found = examined(copy.path(), writer.mark());
        assert_eq!(found.missing(), None, "round {round}");
        assert_eq!(found.synced(), writer.acknowledged, "round {round}");
        assert!(found.behind(writer.acknowledged).is_empty());
        let opened = Db::open(copy.path(), false, &StoreOptions::default()).unwrap();
        assert_eq!(opened.last_sequence(), writer.acknowledged);
    }
    let manifest = Manifest::read(&writer.folder()).unwrap().unwrap();
    for (number, table) in &manifest.tables {
        let file = writer.folder().join(table_name(*number));
        assert_eq!(fs::metadata(file).unwrap().len(), table.bytes);
    }
    let names: Vec<_> = manifest
        .families
        .values()
        .map(|f| f.name.as_str())
        .collect();
    assert_eq!(names, ["default", "log", "snapshots", "sessions", "index"]);
}

/// Copies the files of a folder in which nobody writes.
fn copied(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for (path, _) in files(folder) {
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

fn manifest_of(folder: &Path) -> PathBuf {
    super::manifest::current(folder).unwrap().unwrap()
}

#[test]
fn edits_that_a_power_cut_has_torn_are_cut_off() {
    let mut writer = Writer::new(4);
    writer.write(40);
    writer.db().flush().unwrap();
    writer.write(40);
    let before = writer.killed();
    let whole = fs::read(manifest_of(before.path())).unwrap();
    writer.db().flush().unwrap();
    let more = fs::read(manifest_of(&writer.folder())).unwrap();
    assert!(more.len() > whole.len() && more.starts_with(&whole));
    // The flush was being noted: of its edits, these bytes are not on the disk.
    let edits = whole.len()..more.len();
    let middle = edits.start + edits.len() / 2;
    let mut refused = 0;
    for lost in [
        edits.clone(),
        edits.start..middle,
        middle..edits.end,
        middle..middle + 1,
    ] {
        let copy = copied(before.path());
        let mut torn = more.clone();
        torn[lost.clone()]
            .iter_mut()
            .for_each(|byte| *byte = !*byte);
        fs::write(manifest_of(copy.path()), &torn).unwrap();
        let alone = Db::open(copied(copy.path()).path(), false, &StoreOptions::default());
        refused += u32::from(alone.is_err());
        let found = examined(copy.path(), writer.mark());
        assert_eq!(found.missing(), None, "{lost:?}");
        found.drop_torn_edits(copy.path()).unwrap();
        let left = fs::read(manifest_of(copy.path())).unwrap();
        assert!(
            left.starts_with(&whole) && left.len() < torn.len(),
            "{lost:?}"
        );
        let opened = Db::open(copy.path(), false, &StoreOptions::default()).unwrap();
        assert_eq!(opened.last_sequence(), writer.acknowledged, "{lost:?}");
    }
    assert!(refused > 0, "RocksDB alone would open all of these");
}

#[test]
fn a_manifest_that_is_damaged_in_its_first_state_is_left_as_it_is() {
    // Nothing is in tables: whatever the MANIFEST says, the logs have everything.
    let mut writer = Writer::new(5);
    writer.write(40);
    let copy = writer.killed();
    let path = manifest_of(copy.path());
    let bytes = fs::read(&path).unwrap();
    let mut torn = 0;
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let Some(found) = examine_db(copy.path(), writer.mark()).unwrap() else {
            continue;
        };
        torn += u32::from(found.missing().is_none());
        found.drop_torn_edits(copy.path()).unwrap();
        assert!(fs::read(&path).unwrap() == damaged, "byte {at}");
    }
    assert!(torn > 0, "something else keeps it from being cut off");
}

#[test]
fn edits_that_are_needed_are_not_cut_off() {
    let mut writer = Writer::new(6);
    for _ in 0..3 {
        writer.write(40);
        writer.db().flush().unwrap();
    }
    let copy = writer.killed();
    let path = manifest_of(copy.path());
    let bytes = fs::read(&path).unwrap();
    let mut draw = StdRng::seed_from_u64(7);
    for _ in 0..60 {
        let mut damaged = bytes.clone();
        let at = draw.random_range(0..bytes.len());
        damaged[at] ^= 1 << draw.random_range(0..8);
        fs::write(&path, &damaged).unwrap();
        let Some(found) = examine_db(copy.path(), writer.mark()).unwrap() else {
            continue;
        };
        found.drop_torn_edits(copy.path()).unwrap();
        let left = fs::read(&path).unwrap();
        // The rest, after the last flush, is not needed.
        let is_needed = found.missing().is_some();
        assert!(!is_needed || left == damaged, "byte {at}");
        if !is_needed {
            let copy = copied(copy.path());
            let opened = Db::open(copy.path(), false, &StoreOptions::default()).unwrap();
            assert_eq!(opened.last_sequence(), writer.acknowledged, "byte {at}");
        }
    }
}

#[test]
fn a_flipped_bit_in_what_counts_is_found() {
    let mut writer = Writer::new(2);
    writer.write(40);
    writer.db().flush().unwrap();
    // So that the log is a reused file.
    writer.write(200);
    writer.db().flush().unwrap();
    writer.write(60);
    let whole = writer.killed();
    let log = logs(whole.path()).pop_last().unwrap();
    let bytes = fs::read(&log).unwrap();
    let found = examined(whole.path(), writer.mark());
    let end = end_of(&bytes, found.logs.last().unwrap().number);
    assert!(end > 1000 && found.missing().is_none());
    let mut draw = StdRng::seed_from_u64(3);
    for _ in 0..150 {
        let at = draw.random_range(0..end);
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << draw.random_range(0..8);
        fs::write(&log, &damaged).unwrap();
        let found = examined(whole.path(), writer.mark());
        // A byte between two fragments at the end of a block means nothing.
        let Some(missing) = found.missing() else {
            let opened = found.verdict.recovered;
            assert_eq!(opened, writer.acknowledged, "byte {at}");
            continue;
        };
        assert!(missing.operations > 0 && !missing.places.is_empty());
        // Without knowing what was acknowledged, damage before the last batch is found all the same.
        let last = found.logs.last().unwrap().all_batches().last().unwrap();
        if last.last() == writer.acknowledged {
            assert!(
                examined(whole.path(), None).missing().is_some(),
                "byte {at}"
            );
        }
    }
}

#[test]
fn a_log_that_is_cut_or_gone_is_found() {
    let mut writer = Writer::new(4);
    writer.write(40);
    writer.db().flush().unwrap();
    writer.write(40);
    let copy = writer.killed();
    let log = logs(copy.path()).pop_last().unwrap();
    let bytes = fs::read(&log).unwrap();
    for cut in [0, 1, 10_000, 11_000] {
        fs::write(&log, &bytes[..cut]).unwrap();
        let missing = examined(copy.path(), writer.mark()).missing();
        assert!(missing.is_some(), "cut to {cut} bytes");
    }
    fs::remove_file(&log).unwrap();
    let missing = examined(copy.path(), writer.mark()).missing().unwrap();
    assert!(missing.places[0].contains("is not there"), "{missing:?}");
}
