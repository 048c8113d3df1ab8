//! The store's use of RocksDB: column families and options, range reads, the one synced write.

use std::{path::Path, time::Duration};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactionDecision, DB,
    DBCompactionStyle, DBCompressionType, DBRawIterator, DBRecoveryMode, FlushOptions, LogLevel,
    Options, ReadOptions, WriteBatch, WriteOptions, checkpoint::Checkpoint,
};

use crate::domain::{MachineClock, UnixMillis};

use super::{StoreError, keys, options::StoreOptions, recovery::LoggedBatch, trail::Trail};

/// WAL files that are kept for recycling: syncing a file that does not grow takes half the time.
const WALS_RECYCLED: usize = 2;
/// The maximum number of files that RocksDB holds open.
const OPEN_FILES: i32 = 512;
/// The block size, and the size from which a block is worth compressing.
const BLOCK_BYTES: usize = 16 << 10;
/// How much is read ahead when all of a database is read, and the cache for that.
const READ_ALL_BYTES: usize = 1 << 20;

/// The number of level-0 tables of a family that starts their compaction.
const TABLES_BEFORE_MERGE: i32 = 8;

/// A column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyspace {
    /// Counts and restart records.
    Meta,
    /// The records of all sessions.
    Log,
    /// The snapshots of all sessions.
    Snapshots,
    /// The identity and the progress of each session.
    Sessions,
    /// Small projections, distinguished by the first byte of their keys.
    Index,
}

impl Keyspace {
    pub(super) const ALL: [Self; 5] = [
        Self::Meta,
        Self::Log,
        Self::Snapshots,
        Self::Sessions,
        Self::Index,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Meta => rocksdb::DEFAULT_COLUMN_FAMILY_NAME,
            Self::Log => "log",
            Self::Snapshots => "snapshots",
            Self::Sessions => "sessions",
            Self::Index => "index",
        }
    }
}

/// One change of an atomic batch.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Put(Keyspace, Vec<u8>, Vec<u8>),
    Delete(Keyspace, Vec<u8>),
    /// Deletes all keys from the first (inclusive) to the second (exclusive).
    DeleteRange(Keyspace, Vec<u8>, Vec<u8>),
}

impl Op {
    /// Returns the approximate size of the change in a write batch.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Put(_, key, value) => key.len() + value.len() + 8,
            Self::Delete(_, key) => key.len() + 8,
            Self::DeleteRange(_, from, to) => from.len() + to.len() + 8,
        }
    }
}

/// An open database.
pub(super) struct Db {
    db: DB,
}

impl Db {
    /// Opens the database at `path`; creates it if `create` is set.
    pub(super) fn open(
        path: &Path,
        create: bool,
        options: &StoreOptions,
    ) -> Result<Self, rocksdb::Error> {
        let families = families(options, |_| {});
        let db = DB::open_cf_descriptors(&db_options(create, options)?, path, families)?;
        Ok(Self { db })
    }

    /// Creates a database at `path` for [`Self::write_unlogged`].
    pub(super) fn create_unlogged(
        path: &Path,
        options: &StoreOptions,
    ) -> Result<Self, rocksdb::Error> {
        let mut db = db_options(true, options)?;
        // RocksDB writes nothing beside logs that it reuses.
        db.set_recycle_log_file_num(0);
        let db = DB::open_cf_descriptors(&db, path, families(options, |_| {}))?;
        Ok(Self { db })
    }

    /// Opens a database of which tables are damaged or not there. Nothing is merged, so that the damage
    /// is met only by reads of what is damaged. (A merge that meets it would end all writes.) Families
    /// that are not there are created.
    pub(super) fn open_damaged(
        path: &Path,
        options: &StoreOptions,
    ) -> Result<Self, rocksdb::Error> {
        let mut db = db_options(false, options)?;
        db.create_missing_column_families(true);
        // Else a table that is not there or is too short keeps the database from opening.
        db.set_paranoid_checks(false);
        let families = families(options, |family| family.set_disable_auto_compactions(true));
        let db = DB::open_cf_descriptors(&db, path, families)?;
        Ok(Self { db })
    }

    /// Opens a copy of a database, and all of its tables, which fails if one cannot be opened.
    pub(super) fn open_all_tables(
        path: &Path,
        options: &StoreOptions,
    ) -> Result<Self, rocksdb::Error> {
        let mut db = db_options(false, options)?;
        db.set_max_open_files(-1);
        let families = families(options, |family| family.set_disable_auto_compactions(true));
        let db = DB::open_cf_descriptors(&db, path, families)?;
        Ok(Self { db })
    }

    /// Makes a new MANIFEST from the tables and the logs in `path`, for a database whose own cannot be
    /// read. A table that cannot be read completely is left out.
    pub(super) fn make_manifest(path: &Path) -> Result<(), rocksdb::Error> {
        DB::repair(&Options::default(), path)
    }

    /// Opens a closed database without logs at `path` to read it; nothing is written.
    pub(super) fn open_to_read(
        path: &Path,
        options: &StoreOptions,
    ) -> Result<Self, rocksdb::Error> {
        let cache = Cache::new_lru_cache(READ_ALL_BYTES);
        let families = Keyspace::ALL.map(|family| {
            let mut options = family_options(family, &cache, options);
            // Older values of a key are read as well, not skipped.
            options.set_max_sequential_skip_in_iterations(u64::MAX);
            ColumnFamilyDescriptor::new(family.name(), options)
        });
        let mut options = Options::default();
        options.set_max_open_files(OPEN_FILES);
        let db = DB::open_cf_descriptors_read_only(&options, path, families, true)?;
        Ok(Self { db })
    }

    /// Reads all blocks of all tables and verifies their checksums. Calls `goes_on` after each entry;
    /// returns false if that has returned false.
    pub(super) fn read_all(
        &self,
        mut goes_on: impl FnMut() -> bool,
    ) -> Result<bool, rocksdb::Error> {
        for family in Keyspace::ALL {
            let mut options = read_once();
            #[expect(
                deprecated,
                reason = "deprecated for its cost where nothing is deleted"
            )]
            // Or blocks that hold only what was deleted would be skipped, as [`Self::walk`] does: a
            // compaction reads them.
            options.set_ignore_range_deletions(true);
            let mut entries = self.db.raw_iterator_cf_opt(self.family(family), options);
            entries.seek_to_first();
            while entries.valid() {
                if !goes_on() {
                    return Ok(false);
                }
                entries.next();
            }
            entries.status()?;
        }
        Ok(true)
    }

    /// Makes a checkpoint in the folder `path`, which must not exist: flushes all families up to one
    /// number, and links or copies the files that hold it. Writes go on meanwhile.
    pub(super) fn checkpoint(&self, path: &Path) -> Result<(), rocksdb::Error> {
        Checkpoint::new(&self.db)?.create_checkpoint(path)
    }

    fn family(&self, family: Keyspace) -> &ColumnFamily {
        self.db
            .cf_handle(family.name())
            .expect("every family is named when the database is opened")
    }

    pub(super) fn get(&self, family: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.db
            .get_cf(self.family(family), key)
            .map_err(|error| StoreError::read(&error))
    }

    /// Returns whether a key has a value.
    pub(super) fn has(&self, family: Keyspace, key: &[u8]) -> Result<bool, StoreError> {
        let found = self.db.get_pinned_cf(self.family(family), key);
        Ok(found.map_err(|error| StoreError::read(&error))?.is_some())
    }

    /// Returns an iterator over the keys from `first` (inclusive) to `bound` (exclusive). It is not
    /// positioned yet: the caller seeks.
    pub(super) fn range(&self, family: Keyspace, first: &[u8], bound: &[u8]) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(first);
        options.set_iterate_upper_bound(bound);
        self.db.raw_iterator_cf_opt(self.family(family), options)
    }

    /// Returns an iterator over all keys, for reading a whole family once. It is not positioned yet.
    pub(super) fn walk(&self, family: Keyspace) -> DBRawIterator<'_> {
        let options = read_once();
        self.db.raw_iterator_cf_opt(self.family(family), options)
    }

    /// Returns the first and the last key of each table of a family, in order.
    pub(super) fn table_bounds(&self, family: Keyspace) -> Result<Vec<Vec<u8>>, StoreError> {
        let tables = self
            .db
            .live_files()
            .map_err(|error| StoreError::read(&error))?;
        let own = tables
            .into_iter()
            .filter(|table| table.column_family_name == family.name());
        let mut keys: Vec<_> = own
            .flat_map(|table| [table.start_key, table.end_key])
            .flatten()
            .collect();
        keys.sort();
        keys.dedup();
        Ok(keys)
    }

    /// Calls `each` with the entries from `first` (inclusive) to `bound` (exclusive), in key order,
    /// until it returns false.
    pub(super) fn scan(
        &self,
        family: Keyspace,
        first: &[u8],
        bound: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let mut entries = self.range(family, first, bound);
        entries.seek_to_first();
        while let Some((key, value)) = entries.item() {
            if !each(key, value)? {
                return Ok(());
            }
            entries.next();
        }
        entries.status().map_err(|error| StoreError::read(&error))
    }

    /// Writes `ops` atomically, and returns once they are synced. In the log, `trail` is before them.
    pub(super) fn write<'a>(
        &self,
        trail: &Trail,
        ops: impl IntoIterator<Item = &'a Op>,
    ) -> Result<(), rocksdb::Error> {
        let mut batch = WriteBatch::default();
        batch.put_log_data(trail.encode());
        for op in ops {
            self.add(&mut batch, op);
        }
        self.write_synced(batch)
    }

    fn add(&self, batch: &mut WriteBatch, op: &Op) {
        match op {
            Op::Put(family, key, value) => batch.put_cf(self.family(*family), key, value),
            Op::Delete(family, key) => batch.delete_cf(self.family(*family), key),
            Op::DeleteRange(family, from, to) => {
                batch.delete_range_cf(self.family(*family), from, to);
            }
        }
    }

    /// Writes `ops` atomically, but neither logged nor synced: only [`Self::flush`] makes them durable.
    /// For a database that [`Self::create_unlogged`] has made.
    pub(super) fn write_unlogged<'a>(
        &self,
        ops: impl IntoIterator<Item = &'a Op>,
    ) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for op in ops {
            self.add(&mut batch, op);
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db
            .write_opt(batch, &options)
            .map_err(|error| StoreError::write(&error))
    }

    fn write_synced(&self, batch: WriteBatch) -> Result<(), rocksdb::Error> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.db.write_opt(batch, &options)
    }

    /// Writes batches of an earlier life, in RocksDB's own form, and `more` as one, and returns once
    /// they are synced.
    pub(super) fn write_again(
        &self,
        batches: &[&LoggedBatch],
        more: Option<&Op>,
    ) -> Result<(), rocksdb::Error> {
        let mut last = WriteBatch::default();
        if let Some(op) = more {
            self.add(&mut last, op);
        }
        // Their trails are about numbers that are not theirs any more.
        let mut first = WriteBatch::default();
        first.put_log_data(Trail::default().encode());
        let parts = batches.iter().map(|batch| &batch.bytes[..]);
        let parts = [first.data()].into_iter().chain(parts);
        let all = WriteBatch::from_data(&joined(parts.chain([last.data()])));
        self.write_synced(all)
    }

    /// Returns RocksDB's number of the last operation that can be read.
    pub(super) fn last_sequence(&self) -> u64 {
        self.db.latest_sequence_number()
    }

    /// Flushes what the WAL holds into tables, so that the next opening has nothing to replay.
    pub(super) fn flush(&self) -> Result<(), rocksdb::Error> {
        let families = Keyspace::ALL.map(|family| self.family(family));
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cfs_opt(&families, &options)
    }

    /// Cancels all background work, so that closing does not wait for a long compaction.
    pub(super) fn stop_background_work(&self) {
        self.db.cancel_all_background_work(true);
    }
}

/// Returns the options for reading a whole family once, with the checksums of what is read.
fn read_once() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    options.fill_cache(false);
    options.set_readahead_size(READ_ALL_BYTES);
    options
}

/// Joins batches in RocksDB's form: a sequence number (8 bytes, given anew by the write), the number of
/// operations (u32 LE), the operations.
fn joined<'b>(batches: impl Iterator<Item = &'b [u8]>) -> Vec<u8> {
    let mut all = vec![0; 12];
    let mut count = 0_u32;
    for batch in batches {
        let (Some(number), Some(ops)) = (batch.get(8..12), batch.get(12..)) else {
            continue;
        };
        count += number.try_into().map_or(0, u32::from_le_bytes);
        all.extend(ops);
    }
    all[8..12].copy_from_slice(&count.to_le_bytes());
    all
}

/// Returns all families with their options, each changed by `change`.
fn families(
    options: &StoreOptions,
    change: impl Fn(&mut Options),
) -> impl Iterator<Item = ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(options.cache_bytes);
    Keyspace::ALL.into_iter().map(move |family| {
        let mut options = family_options(family, &cache, options);
        change(&mut options);
        ColumnFamilyDescriptor::new(family.name(), options)
    })
}

fn db_options(create: bool, options: &StoreOptions) -> Result<Options, rocksdb::Error> {
    // This option has no setter. What the WAL holds after a kill stays there, bounded by the WAL's
    // cap, instead of being flushed before the first client is served.
    let mut db = Options::default().get_options_from_string("avoid_flush_during_recovery=true")?;
    db.create_if_missing(create);
    db.create_missing_column_families(create);
    // After a power failure, the WAL is valid up to its first damaged record, which was never
    // acknowledged, so recovery may stop there; damage of another kind is found beforehand, by
    // `recovery`. This is also the mode that allows WAL recycling.
    db.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    db.set_recycle_log_file_num(WALS_RECYCLED);
    // All families together, so that everything up to one number is in tables, and the logs hold
    // everything after it: else a missing log could not be told from one that is not needed.
    db.set_atomic_flush(true);
    db.set_max_total_wal_size(options.wal_bytes);
    db.set_db_write_buffer_size(options.memtable_bytes);
    db.set_max_open_files(OPEN_FILES);
    db.set_skip_stats_update_on_db_open(true);
    db.set_max_background_jobs(2);
    db.set_stats_dump_period_sec(0);
    db.set_stats_persist_period_sec(0);
    db.set_log_level(LogLevel::Warn);
    db.set_keep_log_file_num(2);
    db.set_max_log_file_size(1 << 20);
    db.set_max_manifest_file_size(4 << 20);
    Ok(db)
}

fn family_options(family: Keyspace, cache: &Cache, options: &StoreOptions) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(BLOCK_BYTES);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    if matches!(family, Keyspace::Sessions | Keyspace::Index) {
        table.set_bloom_filter(10.0, false);
    }
    let mut cf = Options::default();
    cf.set_block_based_table_factory(&table);
    cf.set_write_buffer_size(options.memtable_bytes);
    // Tables are compacted later than by default. The log, which is large and is trimmed from its
    // oldest end, uses universal compaction instead of levels: compacting it by level was a third
    // of all work done.
    cf.set_level_zero_file_num_compaction_trigger(TABLES_BEFORE_MERGE);
    if family == Keyspace::Log {
        cf.set_compaction_style(DBCompactionStyle::Universal);
    }
    // Young data is about to be trimmed or replaced: compress only what stays.
    if matches!(family, Keyspace::Log | Keyspace::Snapshots) {
        let (young, old) = (DBCompressionType::None, DBCompressionType::Lz4);
        cf.set_compression_per_level(&[young, young, old, old, old, old, old]);
    } else {
        cf.set_compression_type(DBCompressionType::None);
    }
    if family == Keyspace::Index {
        let (lifetime, clock) = (options.retention.keys, options.clock.clone());
        cf.set_compaction_filter(c"expired-keys", move |_, key, value| {
            match key.first() == Some(&keys::kind::KEY) && expired(value, lifetime, &clock) {
                true => CompactionDecision::Remove,
                false => CompactionDecision::Keep,
            }
        });
    }
    cf
}

/// Returns whether the stored value of an idempotency key is older than `lifetime`. A clock that was
/// set forward since makes it live longer, never shorter.
pub(super) fn expired(value: &[u8], lifetime: Duration, clock: &MachineClock) -> bool {
    let Some((at, _)) = value.split_first_chunk() else {
        return false;
    };
    let age = clock
        .cautious(lifetime)
        .since(UnixMillis(u64::from_be_bytes(*at)));
    u128::from(age) > lifetime.as_millis()
}
