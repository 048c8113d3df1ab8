//! What a restore makes of a backup.

use std::fs;

use super::backup::{back_up, files_of, flip, load, restored, store_with};
use super::*;

#[test]
fn two_restores_of_one_backup_begin_different_timelines() {
    let home = folder();
    let (store, mut owner) = store_with(&home.path().join("data"), 3);
    owner.receive("waits", None);
    owner.settle();
    let backup = home.path().join("backup");
    back_up(&store, &backup).unwrap();
    let before = files_of(home.path(), "backup");
    let mut known = None;
    for name in ["one", "two"] {
        let data = home.path().join(name);
        restored(&backup, &data).unwrap();
        let copy = open(&data);
        let session = load(&copy, "s");
        let cut = session.progress.cut.as_ref().unwrap();
        assert!(
            cut.held && cut.detail.contains("the backup is of"),
            "{cut:?}"
        );
        assert_eq!(session.queue.len(), 1);
        let timeline = session.progress.timeline.of(session.cursor()).cloned();
        assert!(timeline.is_some());
        assert_ne!(timeline, known);
        known = timeline;
        copy.close();
    }
    assert_eq!(files_of(home.path(), "backup"), before);
}

#[test]
fn a_damaged_backup_is_not_restored() {
    let home = folder();
    let (store, _owner) = store_with(&home.path().join("data"), 3);
    let backup = home.path().join("backup");
    let manifest = back_up(&store, &backup).unwrap();
    let data = home.path().join("new");
    let refused = |file: &str| {
        let error = restored(&backup, &data).unwrap_err();
        assert!(error.to_string().contains(file), "{file}: {error}");
        assert!(!data.exists() && !home.path().join(".new.restoring").exists());
    };
    for file in &manifest.files {
        if file.name == "abide.toml" {
            continue;
        }
        let path = backup.join(&file.name);
        let whole = fs::read(&path).unwrap();
        flip(&path, whole.len() / 2);
        refused(&file.name);
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        refused(&file.name);
        fs::remove_file(&path).unwrap();
        refused(&file.name);
        fs::write(&path, &whole).unwrap();
    }
    let path = backup.join("BACKUP");
    let whole = fs::read(&path).unwrap();
    flip(&path, whole.len() / 2);
    refused("BACKUP");
    fs::remove_file(&path).unwrap();
    refused("is no backup");
    fs::write(&path, whole).unwrap();
    restored(&backup, &data).unwrap();
}

#[test]
fn a_restore_overwrites_nothing_and_begins_anew_after_one_that_was_killed() {
    let home = folder();
    let (store, _owner) = store_with(&home.path().join("data"), 3);
    let backup = home.path().join("backup");
    back_up(&store, &backup).unwrap();
    let data = home.path().join("new");
    fs::write(&data, "x").unwrap();
    let refused = restored(&backup, &data).unwrap_err();
    assert!(refused.to_string().contains("not a folder"), "{refused}");
    fs::remove_file(&data).unwrap();
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "x").unwrap();
    let refused = restored(&backup, &data).unwrap_err();
    assert!(refused.to_string().contains("not empty"), "{refused}");
    assert_eq!(fs::read(data.join("file")).unwrap(), b"x");
    fs::remove_file(data.join("file")).unwrap();
    let left = home.path().join(".new.restoring/db");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("000007.sst"), "x").unwrap();
    restored(&backup, &data).unwrap();
    assert!(!home.path().join(".new.restoring").exists());
    assert!(!data.join("db/000007.sst").exists());
    assert_eq!(load(&open(&data), "s").progress.turns, 3);
}

#[test]
fn a_restore_says_at_once_what_it_cannot_replace_and_leaves_backups_alone() {
    let home = folder();
    let (store, _owner) = store_with(&home.path().join("data"), 3);
    let backup = home.path().join("backup");
    back_up(&store, &backup).unwrap();
    let empty = home.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let link = home.path().join("link");
    std::os::unix::fs::symlink(&empty, &link).unwrap();
    let other = home.path().join(".new.restoring");
    back_up(&store, &other).unwrap();
    let files = |name| files_of(home.path(), name);
    let before = (files("backup"), files(".new.restoring"));
    for (data, reason) in [
        (&link, "symbolic link"),
        (&backup.join("data"), "inside of the backup"),
        (&home.path().join("new"), "holds a backup"),
    ] {
        let refused = restored(&backup, data).unwrap_err().to_string();
        assert!(refused.contains(reason), "{reason}: {refused}");
    }
    assert_eq!((files("backup"), files(".new.restoring")), before);
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
}

#[test]
fn a_folder_that_was_put_back_by_hand_is_cut() {
    let home = folder();
    let data = home.path().join("data");
    let (store, owner) = store_with(&data, 5);
    drop(owner);
    store.close();
    let by_hand = |accept_loss| StoreOptions {
        accept_loss,
        restored: Some("put back".to_owned()),
        ..StoreOptions::default()
    };
    let store = Store::open(&data, by_hand(false)).unwrap();
    let cut = load(&store, "s").progress.cut.unwrap();
    assert_eq!(
        (cut.cause, &cut.detail[..]),
        (CutCause::Restore, "put back")
    );
    assert_eq!(
        fs::read_to_string(data.join("FORMAT")).unwrap(),
        "abide-store 2 control components points\n"
    );
    store.close();
    // It counts for one start.
    let store = open(&data);
    assert_eq!(load(&store, "s").progress.cut.unwrap().cuts, 1);
    store.close();
    let logs = fs::read_dir(data.join("db")).unwrap();
    for log in logs.map(|entry| entry.unwrap().path()) {
        if log.extension().is_some_and(|extension| extension == "log") {
            fs::remove_file(log).unwrap();
        }
    }
    match Store::open(&data, by_hand(false)) {
        Err(OpenError::Missing { .. }) => {}
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it opened"),
    }
    let store = Store::open(&data, by_hand(true)).unwrap();
    let cut = load(&store, "s").progress.cut.unwrap();
    assert_eq!(cut.cause, CutCause::Restore);
    assert!(cut.detail.contains("are missing"), "{}", cut.detail);
}

#[test]
fn who_restored_a_store_or_accepts_a_loss_means_one_that_is_there() {
    let home = folder();
    for (restored, accept_loss) in [(Some("put back".to_owned()), false), (None, true)] {
        let options = StoreOptions {
            restored,
            accept_loss,
            ..StoreOptions::default()
        };
        let refused = Store::open(home.path(), options).err().unwrap();
        assert!(matches!(refused, OpenError::Gone { .. }), "{refused}");
    }
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_backup_is_no_data_folder_unless_an_operator_says_so() {
    let home = folder();
    let (store, _owner) = store_with(&home.path().join("data"), 3);
    let backup = home.path().join("backup");
    back_up(&store, &backup).unwrap();
    let manifest = fs::read(backup.join("BACKUP")).unwrap();
    let new = home.path().join("salvaged");
    salvage(&backup, &new, &StoreOptions::default(), &mut |_| {}).unwrap();
    open(&new).close();
    let before = files_of(home.path(), "backup");
    let refused = Store::open(&backup, StoreOptions::default()).err().unwrap();
    assert!(matches!(refused, OpenError::IsBackup { .. }), "{refused}");
    assert_eq!(files_of(home.path(), "backup"), before);
    let by_hand = StoreOptions {
        restored: Some("put back".to_owned()),
        ..StoreOptions::default()
    };
    let store = Store::open(&backup, by_hand.clone()).unwrap();
    assert_eq!(load(&store, "s").progress.cut.unwrap().cuts, 1);
    store.close();
    open(&backup).close();
    // Versions before this one have left the manifest there.
    fs::write(backup.join("BACKUP"), manifest).unwrap();
    open(&backup).close();
    let own = backup.join("BACKUP");
    fs::remove_file(&own).unwrap();
    fs::create_dir(&own).unwrap();
    Store::open(&backup, by_hand).unwrap().close();
    fs::remove_dir(&own).unwrap();
    fs::write(&own, "of the operator").unwrap();
    open(&backup).close();
    assert_eq!(fs::read(&own).unwrap(), b"of the operator");
    fs::write(backup.join("BACKUP.partial"), "").unwrap();
    let refused = Store::open(&backup, StoreOptions::default()).err().unwrap();
    assert!(
        matches!(refused, OpenError::PartialBackup { .. }),
        "{refused}"
    );
}
