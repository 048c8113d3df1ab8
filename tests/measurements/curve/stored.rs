//! Stores with many sessions, each of which has taken one turn. The daemon creates each store once;
//! later runs reuse it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use abide_tests::{Daemon, Setup};
use anyhow::anyhow;
use tempfile::TempDir;

use crate::lean::{self, Lean};
use crate::told::{line, time};

/// The plugin of all sessions.
const PLUGIN: &str = "echo";
/// Number of concurrent client connections.
const CONNECTIONS: usize = 64;
/// How many sessions are created before the current count is recorded on disk.
const STRIDE: usize = 50_000;

/// The directory of all stores, with one subdirectory for each number of sessions.
pub(crate) struct Stores {
    folder: PathBuf,
    /// Deletes a temporary directory when dropped.
    _temporary: Option<TempDir>,
}

impl Stores {
    /// Keeps the stores in the given directory, or in a temporary one.
    pub(crate) fn new(kept: Option<PathBuf>) -> anyhow::Result<Self> {
        let text = |error: io::Error| anyhow!("no folder for the stores: {error}");
        let (folder, temporary) = match kept {
            Some(folder) => {
                fs::create_dir_all(&folder).map_err(text)?;
                (folder.canonicalize().map_err(text)?, None)
            }
            None => {
                let temporary = tempfile::tempdir().map_err(text)?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        Ok(Self {
            folder,
            _temporary: temporary,
        })
    }

    /// Returns the data directory of a store with `sessions` sessions: left by an earlier run, or
    /// grown from a copy of a smaller store, which is kept.
    pub(crate) async fn with(
        &self,
        sessions: usize,
        smaller: Option<usize>,
    ) -> anyhow::Result<PathBuf> {
        let place = self.folder.join(sessions.to_string());
        let data = place.join("data");
        let mut there = count(&place);
        if there >= sessions {
            return Ok(data);
        }
        let text = |error: io::Error| anyhow!("{}: {error}", place.display());
        if let Some(smaller) = smaller.filter(|smaller| *smaller > there) {
            let from = self.folder.join(smaller.to_string());
            // Remove what an interrupted earlier run may have left behind.
            match fs::remove_dir_all(&data) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(text(error)),
                _ => {}
            }
            copy(&from.join("data"), &data).map_err(text)?;
            there = smaller;
        }
        fs::create_dir_all(&place).map_err(text)?;
        let began = Instant::now();
        let mut daemon = Daemon::start(Setup {
            daemon: vec!["resident_idle = \"1s\"".to_owned()],
            ..setup(&data, 0)
        })
        .await;
        for from in (there..sessions).step_by(STRIDE) {
            let to = (from + STRIDE).min(sessions);
            take_turns(daemon.setup.port, from..to, true).await?;
            fs::write(place.join("sessions"), to.to_string()).map_err(text)?;
        }
        let rate = (sessions - there) as f64 / began.elapsed().as_secs_f64();
        line(
            &format!("{sessions} sessions stored, each with one turn, after"),
            format!("{} ({rate:.0}/s)", time(began.elapsed())),
        );
        daemon.stop().await;
        Ok(data)
    }
}

/// Returns a daemon configuration for a store in which the most recent `active` sessions count as
/// active.
pub(crate) fn setup(data: &Path, active: usize) -> Setup {
    Setup {
        data_dir: data.to_string_lossy().into_owned(),
        daemon: vec![format!("relaunch_max = {active}")],
        ..Setup::default()
    }
}

/// Takes one turn in each of these sessions, creating them first if `new`.
pub(crate) async fn take_turns(
    port: u16,
    sessions: std::ops::Range<usize>,
    new: bool,
) -> anyhow::Result<()> {
    let next = Arc::new(AtomicUsize::new(sessions.start));
    let clients = (0..CONNECTIONS).map(|_| {
        let (next, end) = (next.clone(), sessions.end);
        tokio::spawn(async move {
            let mut client = Lean::new(port);
            let message = lean::message();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= end {
                    return Ok::<(), anyhow::Error>(());
                }
                let session = lean::session(n);
                if new {
                    client.open(&session, PLUGIN).await?;
                }
                let answer = client.say(&session, message.clone()).await?;
                answer.expect_completed()?;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await??;
    }
    Ok(())
}

/// Returns the last recorded count: a lower bound on the sessions that a store has.
fn count(place: &Path) -> usize {
    let text = fs::read_to_string(place.join("sessions")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let copy = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => self::copy(&entry.path(), &copy)?,
            false => drop(fs::copy(entry.path(), copy)?),
        }
    }
    Ok(())
}
