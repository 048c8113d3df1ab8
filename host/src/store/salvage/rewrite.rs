//! Reads a damaged database as far as it can be read, judges its sessions, and writes a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::deliberate_bugs;
use crate::domain::{
    DamagedFile, SalvageReport, SessionId, TouchedFate, TouchedSession, UnixMillis,
};
use crate::store::{
    StoreError, codec,
    counts::{StoredCounts, stored_counts},
    cut_all::CutOrder,
    damage::table_in,
    db::{Db, Keyspace, Op},
    db_files::table_name,
    failed_io::FailedIo,
    keys,
    options::StoreOptions,
    recovery::{Examined, LostSessions, MissingWrites},
    trail::SessionChecksum,
};

use super::around::Blocked;
use super::copy::{CopiedStore, copy};
use super::culprit::culprit;
use super::error::SalvageError;
use super::facts::SessionFacts;
use super::image::StoreImage;
use super::judge::judge;
use super::salvaged::{SessionVerdict, SoundFamilies};
use super::write_back::{clear_index, close, forget, name_only, write_back};

/// Where the new database is written.
pub(super) struct NewDatabase<'a> {
    /// The folder of the new database, which does not exist.
    pub(super) db: &'a Path,
    /// The order to cut all sessions that is due anyway.
    pub(super) order: Option<CutOrder>,
}

/// A database that was read, and written anew if there was a target.
pub(super) struct Rewritten {
    pub(super) report: SalvageReport,
    /// RocksDB's number of the new database's last operation.
    pub(super) last_sequence: u64,
    /// Whether histories are to be cut when it is opened.
    pub(super) cuts: bool,
}

/// Reads the database in `folder`. `scratch` is for an image of it. `examined` is what its files hold, if
/// its MANIFEST can be read. `tell` is told how many bytes were read so far.
pub(super) fn rewrite(
    folder: &Path,
    scratch: &Path,
    examined: Option<&Examined>,
    target: Option<&NewDatabase<'_>>,
    options: &StoreOptions,
    tell: &mut dyn FnMut(u64),
) -> Result<Rewritten, SalvageError> {
    let mut left_out = BTreeSet::new();
    loop {
        let image = StoreImage::make(folder, scratch, &left_out, examined, options)?;
        let written = target.map(|target| fresh(target.db, options)).transpose()?;
        let mut rest = RestImage {
            folder,
            scratch: scratch.join("rest"),
            left_out: left_out.clone(),
            examined,
            options,
            image: None,
        };
        let mut without = |number: u64, read: &mut dyn FnMut(&Db) -> Result<(), Blocked>| {
            read(rest.without(number)?)
        };
        match copy(&image.db, written.as_ref(), &mut without, tell) {
            Ok(copied) => {
                let reading = Reading {
                    image: &image,
                    written: written.as_ref(),
                    copied,
                    examined,
                    options,
                };
                let order = target.and_then(|target| target.order.clone());
                return reading.finish(order);
            }
            // It can be read at its end and not everywhere else: it is left out as a whole.
            Err(Blocked::ByTable { number, reason }) if !left_out.insert(number) => {
                return Err(SalvageError::unreadable(folder, reason));
            }
            Err(Blocked::ByTable { .. }) => {}
            Err(Blocked::ByUnnamed { reason }) => {
                let found = culprit(folder, &scratch.join("probe"), &left_out, options)?;
                left_out.insert(found.ok_or(SalvageError::unreadable(folder, reason))?);
            }
            Err(Blocked::Failed(error)) => return Err(error.into()),
        }
    }
}

/// An image without damaged tables, which is made anew when there is another one.
struct RestImage<'a> {
    folder: &'a Path,
    scratch: PathBuf,
    left_out: BTreeSet<u64>,
    examined: Option<&'a Examined>,
    options: &'a StoreOptions,
    image: Option<StoreImage>,
}

impl RestImage<'_> {
    /// Returns it without the table with that number, and without those of earlier calls.
    fn without(&mut self, number: u64) -> Result<&Db, Blocked> {
        if self.left_out.insert(number) {
            self.image = None;
        }
        let image = match self.image.take() {
            Some(image) => image,
            None => {
                let (scratch, options) = (&self.scratch, self.options);
                let made =
                    StoreImage::make(self.folder, scratch, &self.left_out, self.examined, options);
                made.map_err(|error| StoreError::Read {
                    reason: error.to_string(),
                })?
            }
        };
        Ok(&self.image.insert(image).db)
    }
}

/// Makes a new database; what is there is removed.
fn fresh(folder: &Path, options: &StoreOptions) -> Result<Db, SalvageError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(FailedIo::of("remove", folder)(error).into());
        }
        _ => {}
    }
    let created = Db::create_unlogged(folder, options);
    Ok(created.map_err(FailedIo::of("write", folder))?)
}

/// A database that has been copied, and whose sessions are to be judged.
struct Reading<'a> {
    image: &'a StoreImage,
    written: Option<&'a Db>,
    copied: CopiedStore,
    examined: Option<&'a Examined>,
    options: &'a StoreOptions,
}

/// What the sessions have come to.
#[derive(Default)]
struct Judged {
    counts: StoredCounts,
    touched: Vec<TouchedSession>,
    /// What is missing of those whose history is cut.
    cut: BTreeMap<SessionId, String>,
    /// How many sessions lack a write.
    lacking: usize,
}

impl Reading<'_> {
    fn finish(self, order: Option<CutOrder>) -> Result<Rewritten, SalvageError> {
        let sound = self.sound();
        let mut missing = self.missing();
        deliberate_bugs::lacking(&mut missing);
        let judged = self.judge_all(sound, missing.as_ref())?;
        let mut report = SalvageReport {
            sessions: judged.counts.created,
            whole: 0,
            touched: judged.touched,
            damaged_files: self.damaged_files(),
            missing: missing.as_ref().map(ToString::to_string),
            lost: self.lost(sound, &judged.counts),
            bytes: self.copied.bytes,
        };
        if let Some(LostSessions::These(checksums)) = missing.as_ref().map(|it| &it.sessions)
            && checksums.len() > judged.lacking
        {
            let count = checksums.len() - judged.lacking;
            let lost = format!("{count} sessions that were created in what is missing");
            report.lost.push(lost);
        }
        let touched = report.touched.len() as u64;
        report.whole = report.sessions.saturating_sub(touched);
        let order = match (order, &missing) {
            (Some(order), _) => Some(order.and(judged.cut)),
            (None, Some(missing)) => Some(CutOrder::damaged(missing).and(judged.cut)),
            (None, None) if judged.cut.is_empty() => None,
            (None, None) => Some(CutOrder::salvaged(judged.cut)),
        };
        let mut last_sequence = 0;
        if let Some(db) = self.written {
            let bytes = codec::encode("the count of sessions", &judged.counts)?;
            let mut ops = vec![Op::Put(Keyspace::Meta, keys::COUNTS.to_vec(), bytes)];
            if let Some(order) = &order {
                ops.push(order.op()?);
            }
            db.write_unlogged(&ops)?;
            db.flush().map_err(|error| StoreError::write(&error))?;
            last_sequence = db.last_sequence();
        }
        Ok(Rewritten {
            report,
            last_sequence,
            cuts: order.is_some(),
        })
    }

    /// Returns which families can be relied on.
    fn sound(&self) -> SoundFamilies {
        let is_sound = |family| {
            let unreadable = &self.copied.unreadable;
            !self.image.left_out_of(family) && !unreadable.iter().any(|part| part.family == family)
        };
        SoundFamilies {
            log: is_sound(Keyspace::Log),
            sessions: is_sound(Keyspace::Sessions),
            index: is_sound(Keyspace::Index),
        }
    }

    /// Returns the writes that are missing.
    fn missing(&self) -> Option<MissingWrites> {
        let files = self.image.damaged.iter().map(|file| file.file.clone());
        match self.examined.and_then(Examined::missing) {
            missing if !self.image.may_be_older() => missing,
            Some(missing) => Some(MissingWrites {
                sessions: LostSessions::Any,
                ..missing
            }),
            None => Some(MissingWrites {
                operations: 1,
                places: files.collect(),
                sessions: LostSessions::Any,
            }),
        }
    }

    fn judge_all(
        &self,
        sound: SoundFamilies,
        missing: Option<&MissingWrites>,
    ) -> Result<Judged, StoreError> {
        if let Some(db) = self.written
            && !sound.is_index_kept()
        {
            db.write_unlogged(&clear_index())?;
        }
        let mut judged = Judged::default();
        for id in &self.copied.ids {
            let checksum = SessionChecksum::of(id);
            let lacks_a_write = missing.is_some_and(|missing| match &missing.sessions {
                LostSessions::These(checksums) => checksums.contains(&checksum),
                // The order to cut all tells of it.
                LostSessions::Any => false,
            });
            judged.lacking += usize::from(lacks_a_write);
            self.judge(id, sound, lacks_a_write, &mut judged)?;
        }
        Ok(judged)
    }

    fn judge(
        &self,
        id: &SessionId,
        sound: SoundFamilies,
        lacks_a_write: bool,
        judged: &mut Judged,
    ) -> Result<(), StoreError> {
        let mut touch = |fate, what| {
            let id = id.clone();
            judged.touched.push(TouchedSession { id, fate, what });
        };
        let facts = match (self.written, SessionFacts::gather(self.db(), id)) {
            (_, Ok(facts)) => facts,
            (Some(_), Err(error)) => return Err(error),
            // An image is as damaged as what it shows.
            (None, Err(error)) => {
                judged.counts.created += 1;
                touch(TouchedFate::Cut, error.to_string());
                return Ok(());
            }
        };
        let ops = match judge(&facts, sound, self.options.retention.dead_letters) {
            SessionVerdict::Closed => {
                judged.counts.created += 1;
                judged.counts.closed += 1;
                let mut ops = forget(id);
                if facts.identity.is_none() {
                    ops.push(name_only(id)?);
                }
                ops
            }
            SessionVerdict::Gone => {
                judged.counts.created += 1;
                judged.counts.closed += 1;
                let left = "nothing but its name can be read";
                touch(TouchedFate::Gone, left.to_owned());
                close(id, UnixMillis::now())?
            }
            SessionVerdict::GoesOn(mut salvaged) => {
                if lacks_a_write {
                    let what = "a write of it was lost with a damaged part of the log";
                    salvaged.cut.get_or_insert(what.to_owned());
                }
                deliberate_bugs::salvaged(&mut salvaged.cut, &mut salvaged.lost);
                judged.counts.created += 1;
                let mut all = salvaged.lost.clone();
                let fate = match &salvaged.cut {
                    Some(cut) => {
                        all.insert(0, cut.clone());
                        judged.cut.insert(id.clone(), cut.clone());
                        TouchedFate::Cut
                    }
                    None => TouchedFate::GoesOn,
                };
                if !all.is_empty() {
                    touch(fate, all.join("; "));
                }
                write_back(&facts, &salvaged, sound)?
            }
        };
        match self.written {
            Some(db) => db.write_unlogged(&ops),
            None => Ok(()),
        }
    }

    fn db(&self) -> &Db {
        self.written.unwrap_or(&self.image.db)
    }

    fn damaged_files(&self) -> Vec<DamagedFile> {
        let mut files = self.image.damaged.clone();
        for part in &self.copied.unreadable {
            let number = table_in(&part.reason);
            let file = number.map_or_else(|| part.family.name().to_owned(), table_name);
            let known = files
                .iter()
                .any(|known| known.file == file && known.what == part.reason);
            if !known {
                files.push(DamagedFile::new(&file, &part.reason));
            }
        }
        files
    }

    /// Returns what is lost beside the sessions.
    fn lost(&self, sound: SoundFamilies, counts: &StoredCounts) -> Vec<String> {
        let mut lost = Vec::new();
        if !sound.sessions && !sound.log {
            lost.push("perhaps sessions of which not even the name can be read".to_owned());
        }
        let unreadable = &self.copied.unreadable;
        if self.image.left_out_of(Keyspace::Meta)
            || unreadable.iter().any(|part| part.family == Keyspace::Meta)
        {
            lost.push(
                "a part of the restart history, of the access tokens and of the audit log"
                    .to_owned(),
            );
        }
        if let Ok(stored) = stored_counts(self.db())
            && stored.created > counts.created
        {
            let count = stored.created - counts.created;
            lost.push(format!(
                "{count} sessions, closed ones perhaps, even their names"
            ));
        }
        lost
    }
}
