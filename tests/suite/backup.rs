//! A copy of a daemon's data folder that comes back, as a backup does, with the history of a session
//! cut as the store's recovery cuts it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use abide::domain::{CutCause, SessionId, TimelineName, UnixMillis};
use abide::store::{Append, Durability, Store, StoreOptions};
use abide_tests::{Daemon, abide_binary};

fn data(daemon: &Daemon) -> PathBuf {
    daemon.folder().join("data")
}

/// Copies a folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    const OURS: &str = "the folders are ours";
    fs::create_dir_all(to).expect(OURS);
    for entry in fs::read_dir(from).expect(OURS) {
        let entry = entry.expect(OURS);
        let target = to.join(entry.file_name());
        match entry.file_type().expect(OURS).is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect(OURS)),
        }
    }
}

/// Copies the data folder of a daemon that does not run.
pub(crate) fn back_up(daemon: &Daemon) -> tempfile::TempDir {
    let backup = tempfile::tempdir().expect("the machine has a folder for temporary files");
    copy(&data(daemon), backup.path());
    backup
}

/// Puts a copy back, and cuts the history of a session. Returns the name of the new timeline.
pub(crate) async fn restore(daemon: &Daemon, backup: &Path, id: &str, bits: u64) -> String {
    let data = data(daemon);
    fs::remove_dir_all(&data).expect("the daemon does not run");
    copy(backup, &data);
    let store = Store::open(&data, StoreOptions::default()).expect("it opens");
    store.raise_format().expect("the folder is ours");
    let id = SessionId::new(id).expect("it is one");
    let (session, mut tail) = store.load_to_append(&id).expect("it can be read");
    let mut session = session.expect("it is in the backup");
    let name = TimelineName::draw(bits);
    let cause = CutCause::Restore;
    let records = session.cut(name.clone(), cause, "a test put it back", UnixMillis::now());
    let records = records
        .into_iter()
        .map(|record| (session.apply(&record), record));
    let append = Append {
        id,
        records: records.collect(),
        after: &session,
        snapshot: None,
        durability: Durability::Synced,
    };
    store
        .append(&mut tail, append)
        .await
        .expect("the disk takes it");
    store.close();
    name.to_string()
}

/// Runs a command of the command line against a daemon.
pub(crate) fn abide(daemon: &Daemon, args: &[&str]) -> Output {
    let mut command = Command::new(abide_binary());
    let config = daemon.folder().join("abide.toml");
    command.arg("--config").arg(config).args(args);
    command.output().expect("the binary runs")
}
