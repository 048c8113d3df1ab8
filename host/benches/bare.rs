//! A store's database without the store: the same options, and the rows of the store's last turn.

use std::path::Path;

use rocksdb::{Cache, DB, Env, Options, WriteBatch, WriteBatchIteratorCf, WriteOptions};

/// The name of a column family, a key in it, and the new value; `None` deletes the key.
pub(crate) type Row = (String, Vec<u8>, Option<Vec<u8>>);

/// Opens the database at `path` with the options of the one at `like`; both may be the same.
pub(crate) fn open(like: &Path, path: &Path) -> DB {
    let env = Env::new().expect("RocksDB has an environment");
    let cache = Cache::new_lru_cache(32 << 20);
    let (mut options, families) =
        Options::load_latest(like, env, false, cache).expect("a database keeps its options");
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    DB::open_cf_descriptors(&options, path, families).expect("the database opens")
}

/// Returns the rows of the last batch in the write-ahead log of a database that has flushed none of
/// it.
pub(crate) fn last_rows(database: &Path) -> Vec<Row> {
    struct Rows {
        families: Vec<String>,
        rows: Vec<Row>,
    }
    impl WriteBatchIteratorCf for Rows {
        fn put_cf(&mut self, family: u32, key: &[u8], value: &[u8]) {
            let family = self.families[family as usize].clone();
            self.rows.push((family, key.to_vec(), Some(value.to_vec())));
        }

        fn delete_cf(&mut self, family: u32, key: &[u8]) {
            let family = self.families[family as usize].clone();
            self.rows.push((family, key.to_vec(), None));
        }

        fn merge_cf(&mut self, _: u32, _: &[u8], _: &[u8]) {}
    }
    let db = open(database, database);
    let families = DB::list_cf(&Options::default(), database).expect("a database has families");
    let batches = db.get_updates_since(1).expect("its log is whole");
    let last = batches.last().expect("a turn was written");
    let (_, last) = last.expect("and can be read");
    let mut rows = Rows {
        families,
        rows: Vec::new(),
    };
    last.iterate_cf(&mut rows);
    rows.rows
}

/// Returns the size of the rows' keys and values in bytes.
pub(crate) fn bytes(rows: &[Row]) -> usize {
    let sizes = rows
        .iter()
        .map(|(_, key, value)| key.len() + value.as_ref().map_or(0, Vec::len));
    sizes.sum()
}

/// Writes the rows `times` times, under distinct keys, in one synced batch.
pub(crate) fn write(db: &DB, rows: &[Row], times: usize) {
    let mut batch = WriteBatch::default();
    for n in 0..times {
        for (family, key, value) in rows {
            let family = db.cf_handle(family).expect("all were opened");
            let mut key = key.clone();
            // The placeholder for the session's number, at the end of its name.
            if let Some(digit) = key.iter_mut().find(|byte| **byte == b'#') {
                *digit = n as u8;
            }
            match value {
                Some(value) => batch.put_cf(family, key, value),
                None => batch.delete_cf(family, key),
            }
        }
    }
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    db.write_opt(batch, &synced).expect("the disk takes it");
}
