//! The ways in which files are saved in practice.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use abide_tests::{Signal, signal};

/// Pause between two pieces of a file, and between two of many saves.
const MOMENT: Duration = Duration::from_millis(20);
/// Long enough for the daemon to poll an absent file several times.
const A_WHILE: Duration = Duration::from_secs(1);
/// More events than the kernel queues for a process that does not read them.
const OVERFLOW: usize = 20_000;

/// The place of a save, and the watching worker.
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    /// The path of the file in that directory.
    pub(crate) file: PathBuf,
    /// The worker's process id.
    pub(crate) worker: i32,
    /// A number that no earlier save has used.
    pub(crate) number: u64,
}

/// A function that saves bytes; returns the time from which on they are visible.
type SaveFunction = fn(&Place, &[u8]) -> Instant;

/// One row of the table.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) save: SaveFunction,
    /// The requirement on the daemon.
    pub(crate) needs: Needs,
}

/// The daemon that a way of saving requires.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Any daemon.
    Nothing,
    /// A daemon that file modes apply to.
    NotRoot,
    /// A daemon that receives no file events.
    Deaf,
}

const fn way(name: &'static str, save: SaveFunction, needs: Needs) -> Way {
    Way { name, save, needs }
}

pub(crate) const WAYS: &[Way] = &[
    way("renamed over", rename, Needs::Nothing),
    way("truncated, written in pieces", pieces, Needs::Nothing),
    way("link swapped", link, Needs::Nothing),
    way("`..data` swapped", data, Needs::Nothing),
    way("deleted, back after 1 s", delete, Needs::Nothing),
    way("chmod 000 for 1 s", unreadable, Needs::NotRoot),
    way("touched before and after", touch, Needs::Nothing),
    way("40 saves in a second", many, Needs::Nothing),
    way("amid unrelated files", noise, Needs::Nothing),
    way("with times of 1985", old_times, Needs::Nothing),
    way("event queue overflowed", overflow, Needs::Nothing),
    way("no events: renamed over", rename, Needs::Deaf),
    way("no events: in pieces", pieces, Needs::Deaf),
    way("no events: `..data` swapped", data, Needs::Deaf),
];

const OURS: &str = "the folder is ours";

fn rename(place: &Place, bytes: &[u8]) -> Instant {
    let draft = place.folder.join("draft");
    fs::write(&draft, bytes).expect(OURS);
    fs::rename(&draft, &place.file).expect(OURS);
    Instant::now()
}

fn pieces(place: &Place, bytes: &[u8]) -> Instant {
    let mut file = File::create(&place.file).expect(OURS);
    for piece in bytes.chunks(bytes.len().div_ceil(10).max(1)) {
        file.write_all(piece).expect(OURS);
        sleep(MOMENT);
    }
    Instant::now()
}

fn swap(folder: &Path, to: &Path, link: &Path) {
    let aside = folder.join("aside");
    symlink(to, &aside).expect(OURS);
    fs::rename(&aside, link).expect(OURS);
}

fn link(place: &Place, bytes: &[u8]) -> Instant {
    let version = place.folder.join(format!("version-{}", place.number));
    fs::write(&version, bytes).expect(OURS);
    swap(&place.folder, &version, &place.file);
    Instant::now()
}

/// Saves as Kubernetes does: a directory for each version, and a symbolic link to the newest.
fn data(place: &Place, bytes: &[u8]) -> Instant {
    let name = place.file.file_name().expect("a file has a name");
    let version = place.folder.join(format!("..{}", place.number));
    fs::create_dir_all(&version).expect(OURS);
    fs::write(version.join(name), bytes).expect(OURS);
    swap(&place.folder, &version, &place.folder.join("..data"));
    let through = Path::new("..data").join(name);
    if fs::read_link(&place.file).ok().as_ref() != Some(&through) {
        swap(&place.folder, &through, &place.file);
    }
    Instant::now()
}

fn delete(place: &Place, bytes: &[u8]) -> Instant {
    fs::remove_file(&place.file).expect(OURS);
    sleep(A_WHILE);
    fs::write(&place.file, bytes).expect(OURS);
    Instant::now()
}

fn unreadable(place: &Place, bytes: &[u8]) -> Instant {
    let mode = |mode| fs::set_permissions(&place.file, Permissions::from_mode(mode)).expect(OURS);
    let mut file = File::options().write(true).open(&place.file).expect(OURS);
    mode(0);
    file.write_all(bytes).expect(OURS);
    file.set_len(bytes.len() as u64).expect(OURS);
    sleep(A_WHILE);
    mode(0o644);
    Instant::now()
}

fn set_times(file: &Path, time: std::time::SystemTime) {
    let file = File::options().append(true).open(file).expect(OURS);
    file.set_modified(time).expect(OURS);
}

fn touch(place: &Place, bytes: &[u8]) -> Instant {
    let now = std::time::SystemTime::now;
    set_times(&place.file, now());
    fs::write(&place.file, bytes).expect(OURS);
    let saved = Instant::now();
    for _ in 0..5 {
        sleep(MOMENT);
        set_times(&place.file, now());
    }
    saved
}

/// Saves 40 drafts before the content. Half of a text is not a valid configuration, and no draft
/// stays long enough to be read as one.
fn many(place: &Place, bytes: &[u8]) -> Instant {
    for n in 0..40 {
        let mut draft = format!("# draft {n}\n").into_bytes();
        draft.extend(&bytes[..bytes.len() / 2]);
        rename(place, &draft);
        sleep(MOMENT);
    }
    rename(place, bytes)
}

fn noise(place: &Place, bytes: &[u8]) -> Instant {
    let other = |n: usize| {
        let path = place.folder.join(format!("other-{}.log", n % 3));
        fs::write(path, format!("line {n}")).expect(OURS);
        sleep(MOMENT / 10);
    };
    (0..200).for_each(other);
    let saved = rename(place, bytes);
    (0..400).for_each(other);
    saved
}

/// Saves like a copy that preserves the original's old times.
fn old_times(place: &Place, bytes: &[u8]) -> Instant {
    let saved = rename(place, bytes);
    let year = Duration::from_secs(365 * 24 * 3600);
    set_times(&place.file, std::time::UNIX_EPOCH + 15 * year);
    saved
}

/// Stops the worker while the kernel's event queue overflows.
fn overflow(place: &Place, bytes: &[u8]) -> Instant {
    let flood = || {
        for n in 0..OVERFLOW / 4 {
            let path = place.folder.join(format!("flood-{}", n % 2));
            fs::write(path, "").expect(OURS);
        }
    };
    signal(place.worker, Signal::STOP);
    flood();
    let saved = rename(place, bytes);
    flood();
    signal(place.worker, Signal::CONT);
    saved
}
