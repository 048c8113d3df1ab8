//! Reads the files of the database and asks for the verdict.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::lost::LostSessions;
use super::manifest::{Manifest, current};
use super::verdict::{LogRun, MissingWrites, Verdict};
use super::wal::{LogFile, LoggedBatch, read_logs};
use crate::store::db_files::table_name;
use crate::store::mark::SyncedMark;
use crate::store::trail_file::{self, NotedGroup};

/// What the files of a closed database hold.
#[derive(Debug)]
pub(in crate::store) struct Examined {
    pub(super) manifest: Manifest,
    pub(super) logs: Vec<LogFile>,
    pub(super) verdict: Verdict,
    /// The number up to which everything is in tables.
    tables: u64,
    /// The groups of writes that are noted beside the database, if any are missing.
    noted: Vec<NotedGroup>,
    /// Whether nothing tells which write was acknowledged last, though something should.
    end_is_unknown: bool,
}

/// Examines the database in the data folder `data`: none if its MANIFEST cannot be read, of which
/// RocksDB will tell more. `must_know`: whether the store is one that tells, beside the database, which write
/// was acknowledged last. Nothing is written.
pub(in crate::store) fn examine(
    data: &Path,
    mark: Option<SyncedMark>,
    must_know: bool,
) -> io::Result<Option<Examined>> {
    let mut examined = examine_db(&data.join("db"), mark)?;
    if let Some(examined) = &mut examined {
        examined.end_is_unknown = must_know && mark.is_none();
        if examined.verdict.operations() > 0 {
            examined.noted = trail_file::read(data)?;
        }
    }
    Ok(examined)
}

/// Examines the database in `folder` by itself.
pub(super) fn examine_db(folder: &Path, mark: Option<SyncedMark>) -> io::Result<Option<Examined>> {
    let Some(manifest) = Manifest::read(folder)? else {
        return Ok(None);
    };
    let first = manifest.first_log();
    let mut logs = read_logs(folder, first)?;
    // Up to where everything is in tables. Versions before this one flushed the families one by one,
    // and may have written to the tables last: then the logs count from their first operation on.
    let is_ours = mark.is_some_and(|mark| mark.sequence >= manifest.last_sequence);
    let tables = match is_ours || manifest.is_even() {
        true => manifest.last_sequence,
        false => first_number(&logs).map_or(manifest.last_sequence, |first| first - 1),
    };
    let synced = mark.map(|mark| mark.sequence);
    let mut verdict = Verdict::of(tables, &runs(&logs), synced);
    let is_as_closed = mark.is_some_and(|mark| mark.closed && mark.sequence == verdict.recovered);
    if !is_as_closed {
        for log in logs.iter_mut().filter(|log| !log.is_whole) {
            log.search_behind()?;
        }
        verdict = Verdict::of(tables, &runs(&logs), synced);
    }
    Ok(Some(Examined {
        manifest,
        logs,
        verdict,
        tables,
        noted: Vec::new(),
        end_is_unknown: false,
    }))
}

/// Returns the number of the first operation in the logs.
fn first_number(logs: &[LogFile]) -> Option<u64> {
    let batches = logs.iter().flat_map(LogFile::all_batches);
    batches.map(|batch| batch.first).next()
}

/// Returns the readable parts of the logs.
fn runs(logs: &[LogFile]) -> Vec<LogRun<'_>> {
    let mut runs = Vec::new();
    let mut follows = true;
    for log in logs {
        let batches = &log.batches[..];
        runs.push(LogRun { batches, follows });
        let behind = log.damage.iter().map(|damage| LogRun {
            batches: &damage.behind,
            follows: false,
        });
        runs.extend(behind);
        follows = log.is_whole;
    }
    runs
}

impl Examined {
    /// Returns the acknowledged writes that opening the store would lose.
    pub(in crate::store) fn missing(&self) -> Option<MissingWrites> {
        let operations = self.verdict.operations();
        if operations == 0 && !self.end_is_unknown {
            return None;
        }
        let damage = self.logs.iter().flat_map(|log| {
            log.damage.iter().map(|damage| {
                let place = &damage.place;
                format!(
                    "{} is damaged from byte {} to byte {}",
                    log.path.display(),
                    place.start,
                    place.end
                )
            })
        });
        let mut places: Vec<String> = damage.collect();
        if self.end_is_unknown {
            places.push(
                "neither `SYNCED` nor `TRAIL` tells which write was acknowledged last: they are gone or \
                 damaged"
                    .to_owned(),
            );
        } else if places.is_empty() {
            places.push(match self.logs.last() {
                Some(log) => format!("{} ends too early", log.path.display()),
                None => "a log is not there".to_owned(),
            });
        }
        let batches: Vec<_> = self.logs.iter().flat_map(LogFile::all_batches).collect();
        let sessions = match self.end_is_unknown {
            true => LostSessions::Any,
            false => LostSessions::of(&self.verdict.missing, &batches, &self.noted),
        };
        Some(MissingWrites {
            operations,
            places,
            sessions,
        })
    }

    /// Returns all batches that are in no table, those behind damage included.
    pub(in crate::store) fn logged(&self) -> Vec<&LoggedBatch> {
        self.behind(self.tables)
    }

    /// Cuts off what follows the whole edits of the MANIFEST, which RocksDB may take for damage and
    /// refuse: a power cut has left parts of edits that were being written. If tables and logs hold
    /// everything without them, they had no effect yet; for a log or a table is removed only once the
    /// edit that makes it needless is synced. Otherwise the MANIFEST is left as it is, and so is one that
    /// would be left without a state: RocksDB opens neither.
    pub(in crate::store) fn drop_torn_edits(&self, folder: &Path) -> io::Result<()> {
        let Some(length) = self.manifest.torn_at else {
            return Ok(());
        };
        if !self.manifest.has_state()
            || self.verdict.operations() > 0
            || !self.has_all_tables(folder)?
        {
            return Ok(());
        }
        let Some(path) = current(folder)? else {
            return Ok(());
        };
        let file = File::options().write(true).open(&path)?;
        tracing::warn!(
            "{} ends in edits that were not written completely, which had no effect: they are cut off \
             at byte {length}",
            path.display()
        );
        file.set_len(length)?;
        file.sync_all()
    }

    /// Whether a table is gone, or has another length than the MANIFEST says, which is whole itself.
    /// RocksDB finds that out only when it reads the table.
    pub(in crate::store) fn lacks_a_table(&self, folder: &Path) -> io::Result<bool> {
        Ok(self.manifest.torn_at.is_none() && !self.has_all_tables(folder)?)
    }

    /// Whether the tables that the whole edits name are there, each with its length.
    fn has_all_tables(&self, folder: &Path) -> io::Result<bool> {
        for (number, table) in &self.manifest.tables {
            match fs::metadata(folder.join(table_name(*number))) {
                Ok(meta) if meta.len() == table.bytes => {}
                Ok(_) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Returns the highest number that is known to have been synced.
    pub(in crate::store) fn synced(&self) -> u64 {
        self.verdict.synced
    }

    /// Returns the batches that RocksDB, which has recovered up to the number `recovered`, has not
    /// read because they are behind damage, in order.
    pub(in crate::store) fn behind(&self, recovered: u64) -> Vec<&LoggedBatch> {
        let batches = self.logs.iter().flat_map(LogFile::all_batches);
        batches
            .filter(|batch| batch.count > 0 && batch.first > recovered)
            .collect()
    }
}
