//! Which data folders are opened, and which are refused without changing a byte.

use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

/// Reads all files below the folder.
fn bytes_of(folder: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(bytes_of(&path));
        } else {
            files.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    files
}

fn refusal(path: &Path) -> OpenError {
    match Store::open(path, StoreOptions::default()) {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

#[test]
fn a_new_folder_is_its_owners_alone() {
    let home = folder();
    let path = home.path().join("a/b");
    open(&path).close();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(
        fs::read_to_string(path.join("FORMAT")).unwrap(),
        "abide-store 1\n"
    );
}

#[test]
fn a_folder_has_one_owner_at_a_time() {
    let home = folder();
    let store = open(home.path());
    let error = refusal(home.path());
    let owner = std::process::id();
    assert!(matches!(&error, OpenError::Locked { pid: Some(pid), .. } if *pid == owner));
    assert!(error.to_string().contains(&format!("process {owner}")));
    let clone = store.clone();
    store.close();
    let next = open(home.path());
    drop(clone);
    assert!(matches!(refusal(home.path()), OpenError::Locked { .. }));
    drop(next);
    open(home.path()).close();
}

fn stored_format(path: &Path) -> String {
    fs::read_to_string(path.join("FORMAT")).unwrap()
}

#[test]
fn what_needs_a_newer_format_is_refused_until_the_format_is_raised() {
    let home = folder();
    let store = open(home.path());
    let mut owner = Owner::create(&store, id("s"));
    owner.turn("a");
    owner.settle();
    let (session, log) = (owner.session.clone(), owner.log.clone());
    let cut = owner.session.cut(
        TimelineName::draw(1),
        CutCause::Salvage,
        "damage",
        UnixMillis::now(),
    );
    owner.append(cut, Durability::Synced);
    let refused = block_on(owner.pending.remove(0)).unwrap_err();
    assert!(
        matches!(
            refused,
            StoreError::OlderFormat {
                needs: 2,
                has: 1,
                ..
            }
        ),
        "{refused}"
    );
    assert!(refused.to_string().contains("probation"), "{refused}");
    let (stored, tail) = store.load_to_append(&id("s")).unwrap();
    assert_eq!(stored, Some(session.clone()), "nothing was written");
    (owner.session, owner.log, owner.tail) = (session, log, tail);
    assert_eq!(
        (store.format(), &*stored_format(home.path())),
        (1, "abide-store 1\n")
    );

    assert_eq!(store.raise_format(), Ok(true));
    assert_eq!(store.raise_format(), Ok(false));
    assert_eq!(
        (store.format(), &*stored_format(home.path())),
        (2, "abide-store 2 control components points\n")
    );
    owner.cut(1);
    owner.check();
    drop(owner);
    store.close();
    assert_eq!(open(home.path()).format(), 2);
}

#[test]
fn opening_a_folder_does_not_raise_its_format() {
    let home = folder();
    open(home.path()).close();
    open(home.path()).close();
    assert_eq!(stored_format(home.path()), "abide-store 1\n");
}

#[test]
fn a_format_that_cannot_be_raised_is_as_it_was() {
    let home = folder();
    let store = open(home.path());
    // What it would be written to first.
    let temporary = home.path().join(format!(".FORMAT.{}", std::process::id()));
    fs::create_dir(&temporary).unwrap();
    let error = store.raise_format().unwrap_err();
    assert!(error.to_string().contains("FORMAT"), "{error}");
    assert_eq!(
        (store.format(), &*stored_format(home.path())),
        (1, "abide-store 1\n")
    );
    fs::remove_dir(&temporary).unwrap();
    assert_eq!(store.raise_format(), Ok(true));
}

#[test]
fn a_newer_format_is_left_alone() {
    let home = folder();
    open(home.path()).close();
    fs::write(home.path().join("FORMAT"), "abide-store 3\n").unwrap();
    let before = bytes_of(home.path());
    let error = refusal(home.path());
    assert!(
        matches!(
            &error,
            OpenError::NewerFormat {
                found: 3,
                reads: 2,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(bytes_of(home.path()), before);
}

#[test]
fn what_a_later_version_has_added_is_refused_by_its_name() {
    let home = folder();
    open(home.path()).close();
    fs::write(home.path().join("FORMAT"), "abide-store 2 kv\n").unwrap();
    let before = bytes_of(home.path());
    let error = refusal(home.path());
    assert!(
        matches!(&error, OpenError::NewerPart { part, .. } if part == "kv"),
        "{error}"
    );
    assert_eq!(bytes_of(home.path()), before);
}

#[test]
fn other_things_are_refused() {
    let home = folder();
    let file = home.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(refusal(&file), OpenError::NotAFolder { .. }));
    assert!(matches!(
        refusal(&file.join("x")),
        OpenError::NotAFolder { .. }
    ));
    let alien = home.path().join("alien");
    fs::create_dir(&alien).unwrap();
    fs::write(alien.join("FORMAT"), "something else").unwrap();
    assert!(matches!(refusal(&alien), OpenError::NotAStore { .. }));
    fs::write(alien.join("FORMAT"), [0xff, 0xfe]).unwrap();
    assert!(matches!(refusal(&alien), OpenError::NotAStore { .. }));
    let headless = home.path().join("headless");
    open(&headless).close();
    fs::remove_file(headless.join("FORMAT")).unwrap();
    assert!(matches!(refusal(&headless), OpenError::NotAStore { .. }));
    assert!(!headless.join("FORMAT").exists());
    // Nor is one begun anew of which less is left.
    fs::remove_dir_all(headless.join("db")).unwrap();
    for left in ["SYNCED", "TRAIL"] {
        assert!(matches!(refusal(&headless), OpenError::NotAStore { .. }));
        fs::remove_file(headless.join(left)).unwrap();
    }
    open(&headless).close();
    fs::write(headless.join("FORMAT"), "abide-store 0\n").unwrap();
    assert!(matches!(refusal(&headless), OpenError::NotAStore { .. }));
}

#[test]
fn a_store_that_was_wiped_is_not_taken_for_a_new_one() {
    let home = folder();
    open(home.path()).close();
    fs::remove_dir_all(home.path().join("db")).unwrap();
    let error = refusal(home.path());
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
    assert!(!home.path().join("db").exists(), "it is put back there");
}

#[test]
fn none_is_made_where_one_must_be() {
    let home = folder();
    let options = StoreOptions {
        must_exist: true,
        ..StoreOptions::default()
    };
    let empty = home.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for path in [empty, home.path().join("none")] {
        let error = match Store::open(&path, options.clone()) {
            Ok(_) => panic!("it opened"),
            Err(error) => error,
        };
        assert!(matches!(error, OpenError::Gone { .. }), "{error}");
        assert!(bytes_of(home.path()).is_empty(), "{}", path.display());
    }
    assert!(!home.path().join("none").exists());
    let there = home.path().join("there");
    open(&there).close();
    assert!(Store::open(&there, options).is_ok());
}

#[test]
fn a_store_that_does_not_open_is_left_as_it_is_however_often_it_is_tried() {
    for name in ["CURRENT", "MANIFEST"] {
        let home = folder();
        let store = open(home.path());
        Owner::create(&store, id("s")).settle();
        store.close();
        let files = bytes_of(home.path());
        let named = |path: &&std::path::PathBuf| {
            path.file_name()
                .is_some_and(|file| file.to_string_lossy().starts_with(name))
        };
        let file = files.keys().find(named).expect("the file");
        fs::write(file, "damaged").unwrap();
        let state = || {
            let mut files = bytes_of(home.path());
            // RocksDB's own words on each try; it keeps two files of them.
            let log = home.path().join("db/LOG");
            let words = files.len();
            files.retain(|path, _| {
                !path
                    .display()
                    .to_string()
                    .starts_with(log.to_str().unwrap())
            });
            assert!(words - files.len() <= 2, "{name}");
            files
        };
        let before = state();
        for _ in 0..5 {
            let error = refusal(home.path());
            assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
            assert!(state() == before, "{name}");
        }
        fs::write(file, &files[file]).unwrap();
        assert!(
            open(home.path()).load(&id("s")).unwrap().is_some(),
            "{name}"
        );
    }
}

#[test]
fn an_interrupted_creation_is_taken_up() {
    let home = folder();
    fs::write(home.path().join("FORMAT"), "abide-store 1 creating\n").unwrap();
    open(home.path()).close();
    open(home.path()).close();
}

#[test]
fn damage_is_named() {
    let home = folder();
    let store = open(home.path());
    Owner::create(&store, id("s")).settle();
    store.close();
    let db = home.path().join("db");
    let current = fs::read_to_string(db.join("CURRENT")).unwrap();
    let manifest = db.join(current.trim());
    let mut bytes = fs::read(&manifest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&manifest, bytes).unwrap();
    let error = refusal(home.path());
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("backup"));
    fs::write(db.join("CURRENT"), "nonsense").unwrap();
    let error = refusal(home.path());
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
}

#[test]
fn a_record_of_a_newer_version_is_told_apart_from_damage() {
    use super::super::{db::*, keys};
    let home = folder();
    let store = open(home.path());
    let mut owner = Owner::create(&store, id("s"));
    owner.settle();
    let key = keys::position(&owner.id, LogPos::default());
    let newer = [Op::Put(Keyspace::Log, key, vec![99, 0, 0x80])];
    store
        .core()
        .read(|db| Ok(db.write(&crate::store::trail::Trail::default(), &newer)))
        .unwrap()
        .unwrap();
    let error = store.events(&owner.id, 0, 10).unwrap_err();
    assert_eq!(
        error,
        StoreError::NewerRecord {
            what: "record 0 of session `s`".to_owned(),
            kind: 99
        }
    );
}
