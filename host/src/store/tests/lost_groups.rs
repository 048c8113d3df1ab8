//! A group of writes that is lost from the log: its sessions are cut, and no others.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::domain::SalvageReport;

/// Some sessions, of which each append was a group of its own.
fn interleaved(store: &Store) -> Vec<Owner> {
    let mut owners = Vec::new();
    for name in 'a'..='f' {
        let mut owner = Owner::create(store, id(&name.to_string()));
        owner.settle();
        owners.push(owner);
    }
    for round in 0..8 {
        for owner in &mut owners {
            owner.receive(&format!("round {round}"), None);
            owner.settle();
            owner.begin();
            owner.complete(vec![Output::Text("answer".to_owned())], Vec::new(), 0);
            owner.settle();
        }
    }
    owners
}

/// What a kill has left of a store, and the owners of its sessions.
struct Killed {
    home: TempDir,
    /// A copy of the data folder.
    copied: PathBuf,
    owners: Vec<Owner>,
}

fn killed() -> Killed {
    let home = folder();
    let data = home.path().join("data");
    let store = open(&data);
    let owners = interleaved(&store);
    let copied = home.path().join("copy");
    copy_tree(&data, &copied);
    store.close();
    Killed {
        home,
        copied,
        owners,
    }
}

/// Salvages the copy. Returns the report, and the new store.
fn salvaged(killed: &Killed) -> (SalvageReport, Store) {
    let new = killed.home.path().join("new");
    let options = StoreOptions::default();
    let report = salvage(&killed.copied, &new, &options, &mut |_| {}).unwrap();
    (report, open(&new))
}

/// The bytes of the live log up to its end, and its place in a copied data folder.
fn live_log(data: &Path) -> (PathBuf, Vec<u8>) {
    let files = fs::read_dir(data.join("db")).unwrap();
    let logs = files.map(|entry| entry.unwrap().path());
    let log = logs
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .max()
        .unwrap();
    let bytes = fs::read(&log).unwrap();
    (log, bytes)
}

/// What is known of a loss, once it was accepted.
struct Accepted {
    cut: BTreeSet<SessionId>,
    whole: BTreeSet<SessionId>,
}

fn accepted(store: &Store, owners: &[Owner]) -> Accepted {
    let (mut cut, mut whole) = (BTreeSet::new(), BTreeSet::new());
    for owner in owners {
        let session = store.load(&owner.id).unwrap().unwrap();
        match session.progress.cut.is_some() {
            true => drop(cut.insert(owner.id.clone())),
            false => {
                assert_eq!(session, owner.session, "{}", owner.id);
                let events = store.events(&owner.id, 0, 1_000).unwrap().items;
                assert_eq!(events, owner.events(), "{}", owner.id);
                whole.insert(owner.id.clone());
            }
        }
    }
    Accepted { cut, whole }
}

fn missing(data: &Path) -> Option<MissingWrites> {
    match Store::open(data, StoreOptions::default()) {
        Err(OpenError::Missing { missing, .. }) => Some(missing),
        Err(error) => panic!("{error}"),
        Ok(store) => {
            store.close();
            None
        }
    }
}

#[test]
fn a_flipped_bit_in_the_log_costs_the_sessions_of_one_group() {
    let home = folder();
    let data = home.path().join("data");
    let store = open(&data);
    let owners = interleaved(&store);
    let (_, bytes) = live_log(&data);
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let mut draw = StdRng::seed_from_u64(18);
    let mut hit = 0;
    for round in 0..24 {
        let copied = home.path().join(format!("copy {round}"));
        copy_tree(&data, &copied);
        let (log, mut bytes) = live_log(&copied);
        // Not in the last groups, behind which nothing tells of them.
        let at = draw.random_range(0..end * 9 / 10);
        bytes[at] ^= 1 << draw.random_range(0..8);
        fs::write(&log, bytes).unwrap();
        let Some(missing) = missing(&copied) else {
            continue;
        };
        hit += 1;
        let LostSessions::These(checksums) = &missing.sessions else {
            panic!("byte {at}: nothing tells whose writes are lost");
        };
        assert!(checksums.len() <= 1, "byte {at}: {missing}");
        let Accepted { cut, whole } = accept(&copied, &owners);
        assert_eq!(cut.len(), checksums.len(), "byte {at}");
        assert_eq!(whole.len(), owners.len() - cut.len(), "byte {at}");
    }
    assert!(hit > 12, "{hit}");
    store.close();
}

/// Accepts the loss of the copy, and returns what became of its sessions.
fn accept(copied: &Path, owners: &[Owner]) -> Accepted {
    let options = StoreOptions {
        accept_loss: true,
        ..StoreOptions::default()
    };
    let opened = Store::open(copied, options).unwrap();
    let accepted = accepted(&opened, owners);
    opened.close();
    accepted
}

#[test]
fn a_lost_end_of_the_log_costs_the_sessions_of_its_groups() {
    let killed = killed();
    let (copied, owners) = (&killed.copied, &killed.owners);
    let (log, bytes) = live_log(copied);
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    // Two groups of each session's turn, and a part of a third one.
    fs::write(&log, &bytes[..end - 700]).unwrap();
    let Some(MissingWrites { sessions, .. }) = missing(copied) else {
        panic!("nothing is missing");
    };
    let LostSessions::These(checksums) = &sessions else {
        panic!("nothing tells whose writes are lost");
    };
    let Accepted { cut, whole } = accept(copied, owners);
    assert_eq!(cut.len(), checksums.len());
    assert!((1..owners.len()).contains(&cut.len()), "{cut:?}");
    assert_eq!(whole.len(), owners.len() - cut.len());
}

#[test]
fn a_log_that_is_gone_costs_the_sessions_that_it_had_writes_of() {
    let home = folder();
    let data = home.path().join("data");
    let store = open(&data);
    let mut owners = interleaved(&store);
    store.close();
    // All of it is in tables.
    let store = open(&data);
    store.core().flush().unwrap().unwrap();
    let mut owner = owners.remove(2);
    owner.store = store.clone();
    owner.receive("later", None);
    owner.settle();
    let copied = home.path().join("copy");
    copy_tree(&data, &copied);
    store.close();
    owners.insert(2, owner);
    let (log, _) = live_log(&copied);
    fs::remove_file(&log).unwrap();

    let found = missing(&copied).expect("its log is gone");
    assert!(found.to_string().contains("of one session"), "{found}");
    let Accepted { cut, whole } = accept(&copied, &owners);
    assert_eq!(cut, [owners[2].id.clone()].into());
    assert_eq!(whole.len(), owners.len() - 1);
}

#[test]
fn a_salvage_names_the_sessions_of_a_lost_block_of_the_log_and_only_those() {
    let killed = killed();
    let (copied, owners) = (&killed.copied, &killed.owners);
    let (log, mut bytes) = live_log(copied);
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let block = end / 2 / 4096 * 4096;
    bytes[block..block + 4096].fill(0);
    fs::write(&log, bytes).unwrap();

    let (report, opened) = salvaged(&killed);
    let named: BTreeSet<_> = report.touched.iter().map(|it| it.id.clone()).collect();
    assert!(report.missing.is_some(), "{report:?}");
    assert!((1..owners.len()).contains(&named.len()), "{report:?}");
    assert_eq!(report.whole as usize, owners.len() - named.len());
    let Accepted { cut, whole } = accepted(&opened, owners);
    assert_eq!(cut, named);
    assert_eq!(whole.len(), owners.len() - named.len());
}

#[test]
fn without_a_manifest_what_is_in_logs_only_is_salvaged() {
    let killed = killed();
    let (copied, owners) = (&killed.copied, &killed.owners);
    for entry in fs::read_dir(copied.join("db")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(!name.ends_with(".sst"), "nothing is in tables");
        if name.starts_with("MANIFEST") {
            let mut bytes = fs::read(&path).unwrap();
            bytes[8] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    let (report, opened) = salvaged(&killed);
    assert_eq!(report.sessions as usize, owners.len(), "{report:?}");
    let Accepted { cut, whole } = accepted(&opened, owners);
    assert_eq!(cut.len() + whole.len(), owners.len());
    for owner in owners {
        let events = opened.events(&owner.id, 0, 1_000).unwrap().items;
        assert!(events.starts_with(&owner.events()), "{}", owner.id);
    }
}

#[test]
fn a_session_that_was_created_in_a_lost_group_is_listed_and_cut() {
    let killed = killed();
    let (_, bytes) = live_log(&killed.copied);
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let mut nameless = 0;
    for (round, at) in (100..end / 10).step_by(450).enumerate() {
        let copied = killed.home.path().join(format!("copy {round}"));
        copy_tree(&killed.copied, &copied);
        let (log, mut bytes) = live_log(&copied);
        bytes[at] ^= 1;
        fs::write(&log, bytes).unwrap();
        if missing(&copied).is_none() {
            continue;
        }
        let options = StoreOptions {
            accept_loss: true,
            ..StoreOptions::default()
        };
        let store = Store::open(&copied, options).unwrap();
        let list = store.list(None, 100, &Patterns::all()).unwrap();
        assert_eq!(list.len(), killed.owners.len(), "byte {at}");
        let created = |listed: &SessionSummary| listed.identity.created_at != UnixMillis(0);
        for listed in list.iter().filter(|listed| !created(listed)) {
            nameless += 1;
            assert_eq!(listed.identity.plugin, "echo");
            assert!(listed.progress.cut.is_some());
            let oldest = match store.events(&listed.id, 0, 1_000) {
                Err(StoreError::Trimmed { oldest }) => oldest,
                read => panic!("{read:?}"),
            };
            assert!(
                !store
                    .events(&listed.id, oldest, 1_000)
                    .unwrap()
                    .items
                    .is_empty()
            );
        }
        assert_eq!(store.counts().unwrap().open, killed.owners.len() as u64);
        store.close();
    }
    assert!(nameless > 0);
}

#[test]
fn a_loss_is_noticed_where_synced_is_damaged_or_gone() {
    let killed = killed();
    let (log, bytes) = live_log(&killed.copied);
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    fs::write(&log, &bytes[..end - 700]).unwrap();
    let synced = killed.copied.join("SYNCED");
    let mut mark = fs::read(&synced).unwrap();
    mark[9] ^= 1;
    fs::write(&synced, mark).unwrap();
    let told = missing(&killed.copied).expect("TRAIL knows of more");
    assert!(matches!(told.sessions, LostSessions::These(_)), "{told}");
    fs::remove_file(&synced).unwrap();
    assert_eq!(missing(&killed.copied), Some(told));
}
