//! The file `TRAIL`: which sessions each acknowledged group of writes was about. The trail in the log
//! tells that of lost groups by the group behind them; this file tells it of the end of the log and of
//! whole logs as well.
//!
//! It is written like `SYNCED`, after each sync and before the acknowledgement, so that it is complete
//! after the death of all processes. It is itself synced only when no writes come: after a power cut,
//! the last groups may not be in it. What is not in it may have been any session's.
//!
//! ```text
//! "ABIDETR1"  group*
//! group: first (u64 LE)  last (u64 LE)  n (u32 LE)  n checksums (u32 LE)  CRC-32C of all before (u32 LE)
//! ```
//!
//! A file that has grown to 2 MiB becomes `TRAIL.old`, in place of the one before. At 28 bytes for a
//! group of one session, both together reach back over as many groups as a log of the default size
//! holds of small ones, and much further where many sessions share a group.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::iter;
use std::mem::size_of;
use std::ops::RangeInclusive;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::trail::{SessionChecksum, TracedGroup};
use crate::atomic_file::{remove, sync_folder};

pub(super) const NAME: &str = "TRAIL";
const OLD: &str = "TRAIL.old";
const MAGIC: &[u8; 8] = b"ABIDETR1";
/// The size from which on a file is replaced.
const FILE_BYTES: u64 = 2 << 20;

/// What the files say of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotedGroup {
    /// The numbers of its operations.
    pub(super) numbers: RangeInclusive<u64>,
    pub(super) sessions: BTreeSet<SessionChecksum>,
}

/// The files of a data folder, to add to.
#[derive(Debug)]
pub(super) struct TrailFile {
    folder: PathBuf,
    /// None once it could not be written. It may be incomplete then, but what it says is true.
    file: Option<File>,
    length: u64,
    is_synced: bool,
}

impl TrailFile {
    /// Opens the files in the data folder `folder`, whose store has recovered the operations up to the
    /// number `last`. Files that tell of others are begun anew: those numbers will be given again.
    pub(super) fn open(folder: &Path, last: u64) -> Self {
        let mut trail = Self {
            folder: folder.to_owned(),
            file: None,
            length: 0,
            is_synced: true,
        };
        if let Err(error) = trail.take_up(last) {
            trail.give_up(&error);
        }
        trail
    }

    fn take_up(&mut self, last: u64) -> io::Result<()> {
        let bytes = bytes_of(&self.folder.join(NAME))?;
        let whole = Whole::of(&bytes);
        let newest = newest(&self.folder);
        let is_whole = whole.bytes == bytes.len() && !bytes.is_empty();
        if is_whole && newest.is_none_or(|newest| newest <= last) {
            self.length = bytes.len() as u64;
            self.file = Some(open(&self.folder)?);
            return Ok(());
        }
        forget(&self.folder)?;
        self.begin()?;
        // Else a power cut could bring back what is wrong from now on.
        self.sync()?;
        sync_folder(&self.folder)
    }

    /// Begins an empty file.
    fn begin(&mut self) -> io::Result<()> {
        let file = open(&self.folder)?;
        file.set_len(0)?;
        file.write_all_at(MAGIC, 0)?;
        self.length = MAGIC.len() as u64;
        self.is_synced = false;
        self.file = Some(file);
        Ok(())
    }

    /// Adds a group that is synced now, whose last operation has the number `last`.
    pub(super) fn note(&mut self, group: &TracedGroup, last: u64) {
        if let Err(error) = self.write(group, last) {
            self.give_up(&error);
        }
    }

    fn write(&mut self, group: &TracedGroup, last: u64) -> io::Result<()> {
        if self.file.is_some() && self.length >= FILE_BYTES {
            fs::rename(self.folder.join(NAME), self.folder.join(OLD))?;
            self.begin()?;
        }
        let Some(file) = &self.file else {
            return Ok(());
        };
        let bytes = encode(group, last);
        file.write_all_at(&bytes, self.length)?;
        self.length += bytes.len() as u64;
        self.is_synced = false;
        Ok(())
    }

    /// Syncs what was written last.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.as_ref().filter(|_| !self.is_synced) {
            file.sync_data()?;
            self.is_synced = true;
        }
        Ok(())
    }

    /// Nothing depends on the file but how many sessions a loss concerns: the store goes on without.
    fn give_up(&mut self, error: &io::Error) {
        self.file = None;
        tracing::warn!(
            "{} cannot be written until the next start; if the log is damaged meanwhile, sessions that \
             were not touched may be cut as well: {error}",
            self.folder.join(NAME).display()
        );
    }
}

/// Returns the number of the last acknowledged operation that the files in the data folder `folder` tell
/// of: none if they tell of none, or cannot be read.
pub(super) fn newest(folder: &Path) -> Option<u64> {
    let mut names = [NAME, OLD].into_iter();
    names.find_map(|name| Whole::of(&bytes_of(&folder.join(name)).ok()?).newest)
}

/// Removes the files.
pub(super) fn forget(folder: &Path) -> io::Result<()> {
    for name in [NAME, OLD] {
        remove(&folder.join(name))?;
    }
    Ok(())
}

/// Reads what the files in the data folder `folder` say, in the order of the numbers. Behind damage
/// they say nothing.
pub(super) fn read(folder: &Path) -> io::Result<Vec<NotedGroup>> {
    let mut all: Vec<NotedGroup> = Vec::new();
    for name in [OLD, NAME] {
        for record in records(&bytes_of(&folder.join(name))?) {
            let group = record.group();
            // Numbers that were given again count as they were given last.
            while all
                .last()
                .is_some_and(|g| g.numbers.end() >= group.numbers.start())
            {
                all.pop();
            }
            all.push(group);
        }
    }
    Ok(all)
}

/// Returns the sessions that the operations with these numbers were about, if the groups say it of all.
pub(super) fn sessions_of(
    numbers: &RangeInclusive<u64>,
    groups: &[NotedGroup],
) -> Option<BTreeSet<SessionChecksum>> {
    let mut sessions = BTreeSet::new();
    let mut next = *numbers.start();
    let touches = |group: &&NotedGroup| group.numbers.end() >= numbers.start();
    for group in groups.iter().filter(touches) {
        if next > *numbers.end() || *group.numbers.start() > next {
            break;
        }
        sessions.extend(&group.sessions);
        next = group.numbers.end() + 1;
    }
    (next > *numbers.end()).then_some(sessions)
}

fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

fn open(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false);
    options.mode(0o600).open(folder.join(NAME))
}

fn encode(group: &TracedGroup, last: u64) -> Vec<u8> {
    let mut bytes = group.first.to_le_bytes().to_vec();
    bytes.extend(last.to_le_bytes());
    bytes.extend((group.sessions.len() as u32).to_le_bytes());
    for sum in &group.sessions {
        bytes.extend(sum.to_le_bytes());
    }
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

/// What is whole of a file's bytes.
#[derive(Default)]
struct Whole {
    /// Their number from the beginning.
    bytes: usize,
    /// The last operation that they tell of.
    newest: Option<u64>,
}

impl Whole {
    fn of(bytes: &[u8]) -> Self {
        let mut whole = Self::default();
        if bytes.starts_with(MAGIC) {
            whole.bytes = MAGIC.len();
        }
        for record in records(bytes) {
            whole.bytes += record.bytes;
            whole.newest = Some(record.last);
        }
        whole
    }
}

/// A whole group in a file.
struct NoteRecord<'b> {
    first: u64,
    last: u64,
    sums: &'b [[u8; size_of::<u32>()]],
    bytes: usize,
}

impl NoteRecord<'_> {
    fn group(&self) -> NotedGroup {
        let sums = self.sums.iter();
        NotedGroup {
            numbers: self.first..=self.last,
            sessions: sums
                .map(|sum| SessionChecksum::from_le_bytes(*sum))
                .collect(),
        }
    }
}

/// Returns the whole groups up to the first damage.
fn records(bytes: &[u8]) -> impl Iterator<Item = NoteRecord<'_>> {
    let mut rest = bytes.strip_prefix(MAGIC).unwrap_or_default();
    iter::from_fn(move || {
        let record = record(rest)?;
        rest = &rest[record.bytes..];
        Some(record)
    })
}

/// Returns the group that the bytes begin with.
fn record(bytes: &[u8]) -> Option<NoteRecord<'_>> {
    let (first, rest) = bytes.split_first_chunk()?;
    let (last, rest) = rest.split_first_chunk()?;
    let (count, rest) = rest.split_first_chunk()?;
    let count = u32::from_le_bytes(*count) as usize;
    let (sums, rest) = rest.split_at_checked(count.checked_mul(size_of::<u32>())?)?;
    let (crc, after) = rest.split_first_chunk()?;
    let body = &bytes[..bytes.len() - rest.len()];
    let is_whole = crc32c::crc32c(body) == u32::from_le_bytes(*crc);
    is_whole.then_some(NoteRecord {
        first: u64::from_le_bytes(*first),
        last: u64::from_le_bytes(*last),
        sums: sums.as_chunks().0,
        bytes: bytes.len() - after.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(n: u32) -> SessionChecksum {
        SessionChecksum::from_le_bytes(n.to_le_bytes())
    }

    /// A group of three operations about session n.
    fn group(n: u32) -> TracedGroup {
        TracedGroup {
            first: 1 + 3 * u64::from(n),
            sessions: [sum(n)].into(),
        }
    }

    fn note(trail: &mut TrailFile, groups: std::ops::Range<u32>) {
        for n in groups {
            trail.note(&group(n), 3 * u64::from(n) + 3);
        }
    }

    fn sessions(folder: &Path, numbers: RangeInclusive<u64>) -> Option<Vec<SessionChecksum>> {
        let groups = read(folder).expect("the folder is ours");
        Some(sessions_of(&numbers, &groups)?.into_iter().collect())
    }

    #[test]
    fn the_sessions_of_numbers_are_known_where_all_are_covered() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path();
        assert_eq!(sessions(folder, 1..=1), None);
        let mut trail = TrailFile::open(folder, 0);
        note(&mut trail, 0..10);
        assert_eq!(sessions(folder, 1..=3), Some(vec![sum(0)]));
        assert_eq!(sessions(folder, 3..=7), Some(vec![sum(0), sum(1), sum(2)]));
        assert_eq!(sessions(folder, 30..=30), Some(vec![sum(9)]));
        assert_eq!(sessions(folder, 30..=31), None);
        // One group is not noted.
        note(&mut trail, 11..13);
        assert_eq!(sessions(folder, 28..=34), None);
        assert_eq!(sessions(folder, 34..=39), Some(vec![sum(11), sum(12)]));
    }

    #[test]
    fn a_file_is_gone_on_with_and_begun_anew_where_numbers_are_given_again() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path();
        note(&mut TrailFile::open(folder, 0), 0..5);
        note(&mut TrailFile::open(folder, 15), 5..6);
        assert_eq!(sessions(folder, 13..=18), Some(vec![sum(4), sum(5)]));
        // The last group is lost, and its numbers will be given to another one.
        let mut trail = TrailFile::open(folder, 15);
        assert_eq!(sessions(folder, 16..=18), None);
        trail.note(
            &TracedGroup {
                sessions: [sum(77)].into(),
                ..group(5)
            },
            18,
        );
        assert_eq!(sessions(folder, 16..=18), Some(vec![sum(77)]));
    }

    #[test]
    fn old_groups_make_room() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path();
        let mut trail = TrailFile::open(folder, 0);
        let each = encode(&group(0), 3).len() as u64;
        let many = u32::try_from(5 * FILE_BYTES / each).unwrap();
        note(&mut trail, 0..many);
        let last = u64::from(many) * 3;
        let reach = FILE_BYTES / each * 3;
        assert!(sessions(folder, last - reach..=last).is_some());
        assert_eq!(sessions(folder, 1..=1), None);
        for name in [OLD, NAME] {
            let bytes = fs::metadata(folder.join(name)).unwrap().len();
            assert!(bytes <= FILE_BYTES + each, "{name}: {bytes}");
        }
        // After a restart, they count as before.
        TrailFile::open(folder, last);
        assert!(sessions(folder, last - reach..=last).is_some());
    }

    #[test]
    fn damage_takes_what_is_behind_it_and_never_names_others() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path();
        note(&mut TrailFile::open(folder, 0), 0..4);
        let path = folder.join(NAME);
        let whole = fs::read(&path).unwrap();
        let groups = read(folder).unwrap();
        assert_eq!(groups.len(), 4);
        for bit in 0..8 * whole.len() {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bytes).unwrap();
            let left = read(folder).unwrap();
            assert!(
                left.len() < 4 && groups.starts_with(&left),
                "bit {bit}: {left:?}"
            );
        }
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            assert!(groups.starts_with(&read(folder).unwrap()), "{end} bytes");
            // A start goes on with a whole file.
            note(&mut TrailFile::open(folder, 12), 4..5);
            assert_eq!(sessions(folder, 13..=15), Some(vec![sum(4)]), "{end} bytes");
        }
    }
}
