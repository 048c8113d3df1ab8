//! The batches of the write-ahead log, those behind damage included.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::fields::Fields;
use super::framing::{BLOCK, Framed, FramedRecord, LogRecords};
use crate::store::db_files::log_number;
use crate::store::trail::{self, TracedGroup};

/// The length of a batch without operations: its sequence number (u64 LE), the number of its
/// operations (u32 LE).
const BATCH_HEADER: usize = 12;
/// The tag of log data in a batch.
const LOG_DATA: u8 = 3;
/// How much of a log is read first; most hold less when a store is opened.
const FIRST_READ: usize = 1 << 20;

/// A batch in a log: the operations that were written, and synced, as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct LoggedBatch {
    /// The sequence number of its first operation.
    pub(in crate::store) first: u64,
    /// The number of its operations. RocksDB writes a batch of none when it opens a database.
    pub(in crate::store) count: u64,
    /// The bytes, in RocksDB's form of a batch.
    pub(in crate::store) bytes: Vec<u8>,
}

impl LoggedBatch {
    /// The sequence number before its first operation.
    pub(super) fn before(&self) -> u64 {
        self.first.saturating_sub(1)
    }

    /// The sequence number of its last operation, or the one before its first if it has none.
    pub(super) fn last(&self) -> u64 {
        self.before().saturating_add(self.count)
    }

    /// Returns what the batch says of those before it: none if it says nothing.
    pub(super) fn trail(&self) -> Option<Vec<TracedGroup>> {
        let (&tag, rest) = self.bytes.get(BATCH_HEADER..)?.split_first()?;
        let data = Fields(rest).bytes().filter(|_| tag == LOG_DATA)?;
        trail::parse(data)
    }

    fn of(record: FramedRecord) -> Option<Self> {
        let bytes = record.bytes;
        let (first, rest) = bytes.split_first_chunk()?;
        let count = rest.first_chunk()?;
        Some(Self {
            first: u64::from_le_bytes(*first),
            count: u64::from(u32::from_le_bytes(*count)),
            bytes,
        })
    }
}

/// A file of the write-ahead log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct LogFile {
    pub(super) path: PathBuf,
    pub(super) number: u64,
    /// The batches up to the end, or to the first damage: those that RocksDB reads.
    pub(super) batches: Vec<LoggedBatch>,
    /// Whether reading ended between two records at the end of the file. A file in use does not: it
    /// is reused, so that its former content follows.
    pub(super) is_whole: bool,
    /// Damage that complete batches follow.
    pub(super) damage: Vec<Damage>,
}

/// A damaged part of a log, and the complete batches that follow up to the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Damage {
    /// Where it is in the file.
    pub(super) place: Range<usize>,
    pub(super) behind: Vec<LoggedBatch>,
}

impl LogFile {
    /// Reads a log up to its end or to its first damage. A reused file is read as far as it is in
    /// use, not as far as its former content goes.
    fn read(path: PathBuf, number: u64) -> io::Result<Self> {
        let file = File::open(&path)?;
        let mut bytes = Vec::new();
        let mut length = FIRST_READ;
        loop {
            let more = length - bytes.len();
            let read = (&file).take(more as u64).read_to_end(&mut bytes)?;
            let mut frames = LogRecords::new(&bytes, number);
            let mut batches = Vec::new();
            let stop = batches_of(&mut frames, &mut batches);
            // What a longer read could show is a fragment that this one has cut.
            let is_clear = stop.is_some_and(|stop| stop.at + 2 * BLOCK < bytes.len());
            if is_clear || read < more {
                return Ok(Self {
                    path,
                    number,
                    batches,
                    is_whole: stop.is_none(),
                    damage: Vec::new(),
                });
            }
            length *= 4;
        }
    }

    /// Looks for complete batches behind the point at which reading ended.
    pub(super) fn search_behind(&mut self) -> io::Result<()> {
        let bytes = fs::read(&self.path)?;
        let mut frames = LogRecords::new(&bytes, self.number);
        let mut stop = batches_of(&mut frames, &mut Vec::new());
        self.damage.clear();
        while let Some(Break { from, .. }) = stop
            && let Some(until) = frames.skip_damage()
        {
            let mut behind = Vec::new();
            stop = batches_of(&mut frames, &mut behind);
            match self.damage.last_mut() {
                // Nothing readable between two damages: they are one.
                Some(last) if last.behind.is_empty() => {
                    last.place.end = until;
                    last.behind = behind;
                }
                _ => self.damage.push(Damage {
                    place: from..until,
                    behind,
                }),
            }
        }
        self.damage.retain(|damage| !damage.behind.is_empty());
        Ok(())
    }

    /// Returns the batches before and behind damage, in the order of the file.
    pub(in crate::store) fn all_batches(&self) -> impl Iterator<Item = &LoggedBatch> {
        let behind = self.damage.iter().flat_map(|damage| &damage.behind);
        self.batches.iter().chain(behind)
    }
}

/// Where a log cannot be read on.
#[derive(Clone, Copy)]
struct Break {
    /// The end of the last record.
    from: usize,
    /// Where there is no fragment.
    at: usize,
}

/// Adds the batches up to the next damage, and returns its place; none at the end of the file.
fn batches_of(frames: &mut LogRecords<'_>, batches: &mut Vec<LoggedBatch>) -> Option<Break> {
    loop {
        match frames.next() {
            Framed::Record(record) => {
                let from = record.place.start;
                match record.bytes.len() >= BATCH_HEADER {
                    true => batches.extend(LoggedBatch::of(record)),
                    false => return Some(Break { from, at: from }),
                }
            }
            Framed::End => return None,
            Framed::Stop { from, at } => return Some(Break { from, at }),
        }
    }
}

/// Reads the logs of the database in `folder` from number `first` on, in the order of their numbers.
pub(super) fn read_logs(folder: &Path, first: u64) -> io::Result<Vec<LogFile>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let number = log_number(&path);
        numbers.extend(number.filter(|number| *number >= first).map(|n| (n, path)));
    }
    numbers.sort();
    let logs = numbers.into_iter();
    logs.map(|(number, path)| LogFile::read(path, number))
        .collect()
}
