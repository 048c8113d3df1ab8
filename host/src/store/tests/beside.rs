//! What is in a data folder beside the store, in checks and salvages.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::salvage::{salvaged, stored};
use super::*;
use crate::checksummed::{seal, seal_json};

#[test]
fn a_check_sees_what_is_damaged_beside_the_store() {
    let stored = stored(10);
    let data = stored.data();
    let checked = || check(&data, &StoreOptions::default(), &mut |_| {}).unwrap();
    assert!(checked().is_sound());
    let name = format!("{}.wasm", Digest::of(b"a component"));
    let component = data.join("components").join(name);
    fs::create_dir(data.join("components")).unwrap();
    fs::write(&component, "a component").unwrap();
    assert!(checked().is_sound());
    fs::write(&component, "another").unwrap();
    fs::write(data.join("FORMAT"), "").unwrap();
    fs::write(data.join("last-good"), damaged(&seal(b"a".to_vec()))).unwrap();
    let settings = seal_json("{\n  \"a\": 1\n}");
    let file = data.join("components/x.p.json");
    fs::write(file, damaged(settings.as_bytes())).unwrap();
    assert_eq!(checked().lost.len(), 4, "{:?}", checked());
}

fn damaged(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    bytes
}

#[test]
fn a_salvage_that_was_cut_short_is_known() {
    let stored = stored(11);
    let new = stored.home.path().join("new");
    fs::create_dir_all(new.join("db")).unwrap();
    fs::write(new.join("SALVAGE.partial"), "").unwrap();
    let refused = Store::open(&new, StoreOptions::default());
    let refused = refused.err().unwrap().to_string();
    assert!(refused.contains("cut short"), "{refused}");
    let again = salvage(&stored.data(), &new, &StoreOptions::default(), &mut |_| {});
    assert!(
        matches!(again, Err(SalvageError::Unfinished(_))),
        "{again:?}"
    );
    fs::remove_dir_all(&new).unwrap();
    salvaged(&stored.data(), &new);
    assert!(!new.join("SALVAGE.partial").exists());
}

#[test]
fn a_salvage_that_fails_leaves_nothing_behind() {
    let stored = stored(13);
    let (data, new) = (stored.data(), stored.home.path().join("new"));
    fs::remove_dir_all(data.join("db")).unwrap();
    fs::write(data.join("db"), "no folder").unwrap();
    for _ in 0..2 {
        let failed = salvage(&data, &new, &StoreOptions::default(), &mut |_| {});
        let refused = matches!(failed, Err(SalvageError::Unfinished(_)));
        assert!(failed.is_err() && !refused, "{failed:?}");
        assert_eq!(fs::read_dir(&new).unwrap().count(), 0);
    }
}

#[test]
fn what_others_name_like_a_damaged_database_keeps_no_store_from_opening() {
    let stored = stored(12);
    fs::write(stored.data().join("damaged-5"), "a file").unwrap();
    let store = open(&stored.data());
    let kept = store.kept_aside();
    assert_eq!((kept.len(), &kept[0].report), (1, &None));
}

#[test]
fn what_is_beside_the_store_is_salvaged_but_not_what_is_incomplete() {
    let stored = stored(8);
    let (data, new) = (stored.data(), stored.home.path().join("new"));
    fs::create_dir(data.join("components")).unwrap();
    for name in ["last-good", "components/a.wasm"] {
        fs::write(data.join(name), name).unwrap();
    }
    // A killed process has left them.
    let left = [".FORMAT.7", ".last-good.7", "components/.b.wasm.7"];
    for name in left {
        fs::write(data.join(name), name).unwrap();
    }
    fs::create_dir(data.join("cache")).unwrap();
    let report = salvaged(&data, &new);
    assert!(report.is_sound(), "{report:?}");
    assert!(!new.join("cache").exists());
    let inside = salvage(
        &data,
        &data.join("components/x/y"),
        &StoreOptions::default(),
        &mut |_| {},
    );
    assert!(matches!(inside, Err(SalvageError::Inside(_))), "{inside:?}");
    assert!(!data.join("components/x").exists());
    let mode = fs::metadata(&new).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    for name in ["last-good", "components/a.wasm"] {
        assert_eq!(fs::read_to_string(new.join(name)).unwrap(), name);
    }
    for name in left {
        assert!(!new.join(name).exists(), "{name}");
    }
}
