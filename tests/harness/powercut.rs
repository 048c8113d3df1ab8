//! Simulated power cuts. A killed process leaves what it wrote in the page cache, from where the
//! next process reads it; only a power cut shows what was synced. Here a preloaded library,
//! `powercut/shim.c`, logs the operations of the daemon's processes on the files of a directory. A
//! power cut kills all of these processes at once, replays the log, and replaces the directory by
//! what a disk would have kept:
//!
//! - of every file, its content at its last `fsync` or `fdatasync`: what was appended, overwritten
//!   or truncated since then is undone;
//! - of every directory, its entries at its last `fsync`: files that were created since then are
//!   missing, renamed ones have their old names, removed ones exist again. A file that was synced
//!   in a directory that was not is lost.
//!
//! This is the least that POSIX requires a file system to keep. A disk may also keep any part of
//! the rest: [`PowerCut::cut_leaving_parts`] keeps a random one, see `powercut/remains.rs`.
//!
//! The state according to the log is compared with the real content of the directory, so that
//! operations which the library does not intercept (`rustix` makes raw system calls) fail a test
//! instead of being missed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rustix::process::Signal;
use tempfile::NamedTempFile;

use self::image::{Image, View};
use crate::PATIENCE;
use crate::preload::compile;
use crate::process::{all, gone, is_about, signal};

mod image;
mod log;
mod remains;

const SHIM: &str = include_str!("powercut/shim.c");
/// The environment variable with the path of the log. A process that has it is killed by a power
/// cut.
const LOG: &str = "ABIDE_POWERCUT_LOG";
/// Files whose content may differ from the log because it is meaningless: the daemon extends the
/// reserve by a raw system call.
const MEANINGLESS: &[&str] = &["RESERVE"];

/// A directory whose power can be cut.
#[derive(Debug)]
pub struct PowerCut {
    folder: PathBuf,
    log: NamedTempFile,
    shim: PathBuf,
    image: Image,
}

/// What a power cut has discarded. One that leaves parts has spared some of the bytes and entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Operations in the run that it ended.
    pub records: u64,
    /// Bytes that were written to files and not synced.
    pub bytes: u64,
    /// Files, directories and links that are missing now.
    pub files: u64,
    /// Directory entries that were created, changed or removed, and are now as they were before.
    pub entries: u64,
}

impl PowerCut {
    /// Watches a directory. Its present content counts as durable.
    ///
    /// # Panics
    /// If the directory cannot be read, or there is no C compiler.
    pub fn new(folder: &Path) -> Self {
        let folder = folder.canonicalize();
        let folder = folder.expect("a folder must exist before it is watched");
        Self {
            image: scan(&folder),
            folder,
            log: NamedTempFile::new().expect("the machine has a folder for temporary files"),
            shim: shim(),
        }
    }

    /// Returns the environment for the processes that write to the directory.
    pub fn env(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_str().expect("folders have plain names").to_owned();
        vec![
            ("LD_PRELOAD".to_owned(), text(&self.shim)),
            ("ABIDE_POWERCUT_DIR".to_owned(), text(&self.folder)),
            (LOG.to_owned(), text(self.log.path())),
        ]
    }

    /// Kills one process with SIGKILL, between two operations: what it has written stays, and the
    /// log has it. A process that is killed in another way may perform a last operation that is not
    /// in the log.
    pub fn kill(&self, pid: i32) {
        let _frozen = self.freeze();
        signal(pid, Signal::KILL);
        wait_for_end(&[pid]);
    }

    /// Cuts the power: kills all processes that have the environment, at once, and leaves only
    /// durable content in the directory. Then they can be started again.
    ///
    /// # Panics
    /// If the log does not explain the content of the directory.
    pub fn cut(&mut self) -> Losses {
        self.cut_sparing(|_| {})
    }

    /// Like [`Self::cut`], but leaves a random part of what was not synced, too. The same operations
    /// and the same seed leave the same.
    ///
    /// # Panics
    /// If the log does not explain the content of the directory.
    pub fn cut_leaving_parts(&mut self, seed: u64) -> Losses {
        self.cut_sparing(|image| image.keep_parts(&mut StdRng::seed_from_u64(seed)))
    }

    /// Cuts the power; `spare` makes more of the image durable.
    fn cut_sparing(&mut self, spare: impl FnOnce(&mut Image)) -> Losses {
        let frozen = self.freeze();
        // Repeated until none is left: a process may have started another one meanwhile.
        loop {
            let pids = self.processes();
            if pids.is_empty() {
                break;
            }
            for pid in &pids {
                signal(*pid, Signal::KILL);
            }
            wait_for_end(&pids);
        }
        let mut log = BufReader::new(File::open(self.log.path()).expect("the log is ours"));
        while let Some(op) = log::next(&mut log).unwrap_or_else(|error| panic!("{error}")) {
            let replayed = self.image.replay(op);
            replayed.unwrap_or_else(|error| panic!("{error}"));
        }
        self.compare();
        let (bytes, entries) = self.image.unsynced();
        let live = self.image.items(View::Live);
        spare(&mut self.image);
        let durable = self.image.items(View::Durable);
        let lost = live.keys().filter(|path| !durable.contains_key(*path));
        let losses = Losses {
            records: self.image.records,
            bytes,
            files: lost.count() as u64,
            entries,
        };
        let restored = self.image.restore(&self.folder);
        restored.expect("the folder can be written");
        self.image = scan(&self.folder);
        frozen.set_len(0).expect("the log is ours");
        losses
    }

    /// Locks the log. While the lock is held, no process is in the middle of an operation.
    fn freeze(&self) -> File {
        let log = File::options().write(true).open(self.log.path());
        let log = log.expect("the log is ours");
        log.lock().expect("the log can be locked");
        log
    }

    /// Returns the pids of the living processes that have the environment, as far as that is readable, or
    /// are about the directory.
    fn processes(&self) -> Vec<i32> {
        let log = self.log.path().to_str().expect("folders have plain names");
        let ours = format!("{LOG}={log}");
        let mut pids = all();
        pids.retain(|pid| {
            // The processes of other users cannot be read.
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let mut variables = environment.split(|byte| *byte == 0);
            let has_it = variables.any(|variable| variable == ours.as_bytes());
            (has_it || is_about(*pid, &self.folder)) && !gone(*pid)
        });
        pids
    }

    /// Compares the state according to the log with the real content of the directory.
    fn compare(&self) {
        let logged = self.image.items(View::Live);
        let held = scan(&self.folder).items(View::Durable);
        let paths: BTreeSet<_> = logged.keys().chain(held.keys()).collect();
        let differing = paths.into_iter().filter(|path| {
            let meaningless = MEANINGLESS.iter().any(|name| path.ends_with(name));
            match meaningless {
                true => logged.contains_key(*path) != held.contains_key(*path),
                false => logged.get(*path) != held.get(*path),
            }
        });
        let differing: Vec<_> = differing.map(|path| path.display().to_string()).collect();
        assert!(
            differing.is_empty(),
            "what was done to these is not all in the log: {differing:?}"
        );
    }
}

fn scan(folder: &Path) -> Image {
    Image::scan(folder).expect("the folder can be read, and nobody writes to it")
}

fn wait_for_end(pids: &[i32]) {
    let started = Instant::now();
    while !pids.iter().all(|pid| gone(*pid)) {
        assert!(
            started.elapsed() < PATIENCE,
            "killed and not dead: {pids:?}"
        );
        thread::sleep(Duration::from_millis(1));
    }
}

/// Returns the path of the library, which each process that needs it compiles once.
fn shim() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| compile("powercut", SHIM)).clone()
}
