//! Runs a daemon for some turns, and reads what they wrote.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use abide::loadgen::{self, Load, LoadProbe, LoadSessions};
use abide_tests::kill_all;
use rocksdb::{DB, WriteBatchIteratorCf};

use super::learn::{KeyChange, TURNS, ends, find, learn};
use super::{Pattern, options_of};
use crate::chat::{ChatTarget, Shape, TEXT_BYTES, name};
use crate::servers::{Abide, attend};

/// Takes some turns on a daemon, and derives the pattern from what they wrote.
pub(crate) async fn observe(folder: &Path) -> Result<Pattern, String> {
    let home = folder.join("pattern");
    let _ = std::fs::remove_dir_all(&home);
    std::fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
    let port = abide_tests::free_port();
    let mut abide = Abide::start(port, &home).await?;
    let created = abide.create(1);
    attend(|| abide.check(), created).await?;
    let host = format!("127.0.0.1:{port}");
    let load = Load {
        sessions: 1,
        connections: 1,
        text_bytes: TEXT_BYTES,
        turns: Some(TURNS),
        duration: Duration::from_secs(60),
        ..Load::new(host.clone())
    };
    let chat = ChatTarget {
        host,
        shape: Shape::Messages,
    };
    let (probe, sessions) = (LoadProbe::new(), LoadSessions::fresh(1));
    let run = loadgen::run(Arc::new(chat), &load, sessions, &probe);
    let report = attend(|| abide.check(), run).await?;
    if report.counts.completed != TURNS {
        return Err(format!("Abide failed at the chat: {:?}", report.examples));
    }
    // Kill the daemon, because a graceful stop would flush its write-ahead log.
    kill_all(abide.daemon.supervisor_pid());
    drop(abide);
    read(&home.join("data/db"))
}

/// The changes of one write batch.
#[derive(Default)]
struct Changes {
    families: Vec<String>,
    rows: Vec<KeyChange>,
}

impl Changes {
    fn family(&self, id: u32) -> String {
        let name = self.families.get(id as usize);
        name.cloned().unwrap_or_default()
    }
}

impl WriteBatchIteratorCf for Changes {
    fn put_cf(&mut self, cf_id: u32, key: &[u8], value: &[u8]) {
        let row = (self.family(cf_id), key.to_vec(), Some(value.to_vec()));
        self.rows.push(row);
    }

    fn delete_cf(&mut self, cf_id: u32, key: &[u8]) {
        self.rows.push((self.family(cf_id), key.to_vec(), None));
    }

    fn merge_cf(&mut self, _: u32, _: &[u8], _: &[u8]) {}
}

fn read(database: &Path) -> Result<Pattern, String> {
    let text = |error: rocksdb::Error| format!("{}: {error}", database.display());
    let (options, families) = options_of(database)?;
    // RocksDB lists the families in the order of their numbers.
    let mut changes = Changes {
        families: DB::list_cf(&options, database).map_err(text)?,
        rows: Vec::new(),
    };
    let db = DB::open_cf_descriptors(&options, database, families).map_err(text)?;
    let id = name(0);
    let mut turns = vec![Vec::new()];
    for batch in db.get_updates_since(1).map_err(text)? {
        let (_, batch) = batch.map_err(text)?;
        changes.rows.clear();
        batch.iterate_cf(&mut changes);
        let of_session = |key: &[u8]| find(key, id.as_bytes()).is_some();
        let rows = changes.rows.drain(..).filter(|(_, key, _)| of_session(key));
        let rows: Vec<_> = rows.collect();
        let ended = rows.iter().any(ends);
        turns.last_mut().expect("there is always one").extend(rows);
        if ended {
            turns.push(Vec::new());
        }
    }
    // The last group is what follows the last ended turn.
    turns.pop();
    if turns.len() as u64 != TURNS {
        let found = turns.len();
        return Err(format!(
            "{}: {found} turns, not {TURNS}",
            database.display()
        ));
    }
    drop(db);
    learn(database, &turns)
}
