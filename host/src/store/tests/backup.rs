//! Backups: what they hold, and what damage does to them.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::*;

fn job(folder: &Path) -> BackupJob<'_> {
    BackupJob {
        folder,
        config: b"[daemon]\n",
        reserve_bytes: 0,
        version: "test",
    }
}

pub(super) fn back_up(store: &Store, folder: &Path) -> Result<BackupManifest, BackupError> {
    store.back_up(job(folder), &|| false)
}

pub(super) fn restored(backup: &Path, data: &Path) -> Result<Restored, RestoreError> {
    restore(backup, data, StoreOptions::default())
}

/// A store in `data` with a session that has had `turns` turns.
pub(super) fn store_with(data: &Path, turns: usize) -> (Store, Owner) {
    let store = open(data);
    let mut owner = Owner::create(&store, id("s"));
    for n in 0..turns {
        owner.turn(&format!("{n}: {}", "x".repeat(200)));
    }
    owner.settle();
    (store, owner)
}

pub(super) fn load(store: &Store, name: &str) -> Session {
    store.load(&id(name)).unwrap().unwrap()
}

/// Returns the cursors of all events of a session.
fn cursors(store: &Store, name: &str) -> Vec<u64> {
    let mut cursors: Vec<u64> = Vec::new();
    loop {
        let after = cursors.last().copied().unwrap_or(0);
        let page = store.events(&id(name), after, 1000).unwrap().items;
        if page.is_empty() {
            return cursors;
        }
        cursors.extend(page.iter().map(|event| event.cursor));
    }
}

fn tables(data: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(data.join("db")).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    let mut tables: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .collect();
    tables.sort();
    tables
}

pub(super) fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

/// Ends the writers when a test ends, by a panic too.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_backup_under_writes_has_everything_that_was_acknowledged_before_it() {
    let home = folder();
    let store = open(&home.path().join("data"));
    let names = ["a", "b", "c"];
    let turns: [AtomicU64; 3] = Default::default();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for (name, turns) in names.iter().zip(&turns) {
            let (store, stop) = (&store, &stop);
            scope.spawn(move || {
                let mut owner = Owner::create(store, id(name));
                while !stop.load(Ordering::Relaxed) {
                    owner.turn(&"x".repeat(3000));
                    owner.settle();
                    turns.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _stop = Stop(&stop);
        let counts = || turns.each_ref().map(|turns| turns.load(Ordering::Relaxed));
        for round in 0..3 {
            let since = Instant::now();
            let last = counts();
            while counts()
                .iter()
                .zip(last)
                .any(|(now, last)| *now < last + 10)
            {
                assert!(since.elapsed() < Duration::from_secs(60));
                thread::yield_now();
            }
            let before = counts();
            let backup = home.path().join(format!("backup{round}"));
            let manifest = back_up(&store, &backup).unwrap();
            let data = home.path().join(format!("data{round}"));
            let restored = restored(&backup, &data).unwrap();
            assert_eq!(restored.manifest, manifest);
            assert_eq!((restored.sessions.open, restored.sessions.parked), (3, 3));
            let copy = open(&data);
            for (name, before) in names.iter().zip(before) {
                let session = load(&copy, name);
                assert!(session.progress.turns >= before, "{name}: {session:?}");
                let cut = session.progress.cut.as_ref().unwrap();
                assert_eq!(cut.cause, CutCause::Restore);
                let cursors = cursors(&copy, name);
                assert!(cursors.into_iter().eq(1..=session.cursor()), "{name}");
            }
            copy.close();
        }
    });
    let left: BTreeMap<_, _> = files_of(home.path(), "data");
    assert!(
        !left.keys().any(|name| name.contains("scratch")),
        "{left:?}"
    );
}

/// Returns the sizes of the files below a folder, by their paths in it.
pub(super) fn files_of(home: &Path, below: &str) -> BTreeMap<String, u64> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(home.join(below)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}/{}", entry.file_name().to_str().unwrap());
        match entry.file_type().unwrap().is_dir() {
            true => {
                files.extend(files_of(home, &name));
                files.insert(name, 0);
            }
            false => drop(files.insert(name, entry.metadata().unwrap().len())),
        }
    }
    files
}

#[test]
fn a_backup_has_the_files_that_its_manifest_lists_and_no_logs() {
    let home = folder();
    let data = home.path().join("data");
    let (store, _owner) = store_with(&data, 3);
    let component = b"\0asm";
    let digest = Digest::of(component);
    fs::create_dir(data.join("components")).unwrap();
    fs::write(data.join(format!("components/{digest}.wasm")), component).unwrap();
    fs::write(data.join("components/.unfinished.wasm.7"), "x").unwrap();
    fs::write(data.join("last-good"), "good").unwrap();
    let backup = home.path().join("backup");
    let manifest = back_up(&store, &backup).unwrap();
    let mut listed: BTreeMap<String, u64> = manifest
        .files
        .iter()
        .map(|file| (format!("backup/{}", file.name), file.bytes))
        .collect();
    let mut there = files_of(home.path(), "backup");
    there.retain(|name, _| !matches!(&name[..], "backup/db" | "backup/components"));
    assert!(there.remove("backup/BACKUP").is_some());
    assert_eq!(there, listed);
    assert!(
        !there.keys().any(|name| name.ends_with(".log")),
        "{there:?}"
    );
    for name in ["FORMAT", "SYNCED", "last-good", "abide.toml", "db/CURRENT"] {
        assert!(listed.remove(&format!("backup/{name}")).is_some(), "{name}");
    }
    let component = format!("components/{digest}.wasm");
    assert!(listed.contains_key(&format!("backup/{component}")));
    let new = home.path().join("new");
    restored(&backup, &new).unwrap();
    assert_eq!(fs::read(new.join(component)).unwrap(), b"\0asm");
    assert_eq!(fs::read(new.join("last-good")).unwrap(), b"good");
    assert!(!new.join("abide.toml").exists());
    assert_eq!(
        fs::read_to_string(new.join("FORMAT")).unwrap(),
        "abide-store 2 control components points\n"
    );
}

#[test]
fn a_damaged_table_is_named_wherever_it_matters() {
    let home = folder();
    let data = home.path().join("data");
    let (store, mut owner) = store_with(&data, 30);
    store.flush().unwrap();
    let mut draw = StdRng::seed_from_u64(3);
    let mut found = 0;
    for round in 0..24 {
        let tables = tables(&data);
        let table = &tables[draw.random_range(0..tables.len())];
        let bytes = fs::metadata(table).unwrap().len() as usize;
        let at = draw.random_range(0..bytes);
        flip(table, at);
        let backup = home.path().join(format!("backup{round}"));
        match back_up(&store, &backup) {
            Err(BackupError::Damaged { file, reason, .. }) => {
                found += 1;
                let is_named = file == *table || file == data.join("db");
                assert!(is_named, "{}: {reason}", file.display());
                assert!(!backup.exists());
            }
            Err(error) => panic!("{}, byte {at}: {error}", table.display()),
            // What RocksDB reads without; it must not cost anything.
            Ok(_) => {
                let new = home.path().join(format!("new{round}"));
                restored(&backup, &new).unwrap();
                let copy = open(&new);
                let session = load(&copy, "s");
                assert_eq!(session.progress.turns, 30);
                let cursors = cursors(&copy, "s");
                assert!(cursors.into_iter().eq(1..=session.cursor()));
                copy.close();
            }
        }
        flip(table, at);
    }
    assert!(found > 8, "{found} of 24 were found");
    // Data, at the beginning of a table, always matters.
    for table in tables(&data) {
        flip(&table, 20);
        let damaged = back_up(&store, &home.path().join("backup"));
        flip(&table, 20);
        match damaged {
            Err(BackupError::Damaged { file, .. }) => assert_eq!(file, table),
            other => panic!("{}: {other:?}", table.display()),
        }
    }
    // What a backup has met is mended by the next start, and is told of until then.
    let met = store.damage().expect("it was noted");
    assert!(
        met.contains(&format!("{}/", data.join("db").display())),
        "{met}"
    );
    back_up(&store, &home.path().join("backup")).unwrap();
    owner.turn("goes on");
    owner.check();
}

#[test]
fn a_damaged_component_is_named() {
    let home = folder();
    let data = home.path().join("data");
    let (store, _owner) = store_with(&data, 1);
    let component = data.join(format!("components/{}.wasm", Digest::of(b"one")));
    fs::create_dir(data.join("components")).unwrap();
    fs::write(&component, "other").unwrap();
    let backup = home.path().join("backup");
    match back_up(&store, &backup) {
        Err(BackupError::Damaged { file, .. }) => assert_eq!(file, component),
        other => panic!("{other:?}"),
    }
    assert!(!backup.exists());
    fs::write(&component, "one").unwrap();
    back_up(&store, &backup).unwrap();
}

#[test]
fn folders_that_cannot_take_a_backup_are_left_alone() {
    let home = folder();
    let data = home.path().join("data");
    let (store, _owner) = store_with(&data, 1);
    let at = |name: &str| home.path().join(name);
    fs::write(at("file"), "x").unwrap();
    fs::create_dir(at("full")).unwrap();
    fs::write(at("full/file"), "x").unwrap();
    fs::create_dir(at("unfinished")).unwrap();
    fs::write(at("unfinished/BACKUP.partial"), "").unwrap();
    back_up(&store, &at("finished")).unwrap();
    let before = files_of(home.path(), ".");
    for (folder, reason) in [
        (PathBuf::from("relative"), "not absolute"),
        (at("file"), "not a folder"),
        (at("full"), "not empty"),
        (at("unfinished"), "not finished"),
        (at("finished"), "there is a backup in it"),
        (at("none/backup"), "create the folder above it"),
        (data.join("backup"), "inside of the data folder"),
    ] {
        match back_up(&store, &folder) {
            Err(error @ BackupError::Folder { .. }) => {
                assert!(error.to_string().contains(reason), "{error}");
            }
            other => panic!("{}: {other:?}", folder.display()),
        }
    }
    let mut after = files_of(home.path(), ".");
    assert!(!data.join("backup").exists());
    // Only RocksDB's own log may have grown.
    after.retain(|name, _| before.contains_key(name));
    assert_eq!(after.len(), before.len());
    let folder = at("no-room");
    let no_room = BackupJob {
        reserve_bytes: u64::MAX,
        ..job(&folder)
    };
    let no_room = store.back_up(no_room, &|| false);
    assert!(
        matches!(no_room, Err(BackupError::NoRoom { .. })),
        "{no_room:?}"
    );
    assert!(!folder.exists());
    fs::create_dir(at("empty")).unwrap();
    back_up(&store, &at("empty")).unwrap();
}

#[test]
fn a_backup_that_is_given_up_leaves_nothing() {
    let home = folder();
    let data = home.path().join("data");
    let (store, mut owner) = store_with(&data, 3);
    let backup = home.path().join("backup");
    for looks in 0.. {
        let left = Cell::new(looks);
        let is_abandoned = || match left.get() {
            0 => true,
            more => {
                left.set(more - 1);
                false
            }
        };
        match store.back_up(job(&backup), &is_abandoned) {
            Err(BackupError::Abandoned) => assert!(!backup.exists(), "{looks}"),
            Ok(_) => {
                assert!(looks > 10, "{looks}");
                break;
            }
            Err(error) => panic!("{error}"),
        }
        assert!(!data.join("backup-scratch").exists());
    }
    owner.turn("goes on");
    owner.check();
    restored(&backup, &home.path().join("new")).unwrap();
}

#[test]
fn what_a_killed_backup_has_left_in_the_data_folder_is_removed_at_the_next_start() {
    let home = folder();
    let scratch = home.path().join("backup-scratch/db.tmp");
    open(home.path()).close();
    fs::create_dir_all(&scratch).unwrap();
    fs::write(scratch.join("000007.sst"), "x").unwrap();
    open(home.path()).close();
    assert!(!home.path().join("backup-scratch").exists());
}
