//! Stores with many sessions, each of which has had one turn. They are made once, by the daemon,
//! and kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use abide_tests::{Daemon, Setup};
use tempfile::TempDir;

use crate::lean::{self, Lean};
use crate::told::{line, time};

/// The sessions' guest.
const PLUGIN: &str = "echo";
/// Requests at a time.
const CONNECTIONS: usize = 64;
/// Sessions after which it is written down how many there are.
const STRIDE: usize = 50_000;

/// Where the stores lie: a folder for each number of sessions.
pub(crate) struct Stores {
    folder: PathBuf,
    /// Removed with the value.
    _temporary: Option<TempDir>,
}

impl Stores {
    /// In this folder, or in a temporary one.
    pub(crate) fn new(kept: Option<PathBuf>) -> Result<Self, String> {
        let told = |error: io::Error| format!("no folder for the stores: {error}");
        let (folder, temporary) = match kept {
            Some(folder) => {
                fs::create_dir_all(&folder).map_err(told)?;
                (folder.canonicalize().map_err(told)?, None)
            }
            None => {
                let temporary = tempfile::tempdir().map_err(told)?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        Ok(Self {
            folder,
            _temporary: temporary,
        })
    }

    /// A store with so many sessions: as it was left by an earlier run, or grown from a smaller
    /// one, which is kept.
    pub(crate) async fn with(
        &self,
        sessions: usize,
        smaller: Option<usize>,
    ) -> Result<PathBuf, String> {
        let place = self.folder.join(sessions.to_string());
        let data = place.join("data");
        let mut there = count(&place);
        if there >= sessions {
            return Ok(data);
        }
        let told = |error: io::Error| format!("{}: {error}", place.display());
        if let Some(smaller) = smaller.filter(|smaller| *smaller > there) {
            let from = self.folder.join(smaller.to_string());
            // What an earlier run that was ended may have left.
            match fs::remove_dir_all(&data) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(told(error)),
                _ => {}
            }
            copy(&from.join("data"), &data).map_err(told)?;
            there = smaller;
        }
        fs::create_dir_all(&place).map_err(told)?;
        let began = Instant::now();
        let mut daemon = Daemon::start(Setup {
            daemon: vec!["resident_idle = \"1s\"".to_owned()],
            ..setup(&data, 0)
        })
        .await;
        for from in (there..sessions).step_by(STRIDE) {
            let to = (from + STRIDE).min(sessions);
            take_turns(daemon.setup.port, from..to, true).await?;
            fs::write(place.join("sessions"), to.to_string()).map_err(told)?;
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

/// The daemon's configuration on a store, of which so many sessions count as active, the latest.
pub(crate) fn setup(data: &Path, active: usize) -> Setup {
    Setup {
        data_dir: data.to_string_lossy().into_owned(),
        daemon: vec![format!("relaunch_max = {active}")],
        ..Setup::default()
    }
}

/// One turn in each of these sessions, which are created before if `new`.
pub(crate) async fn take_turns(
    port: u16,
    sessions: std::ops::Range<usize>,
    new: bool,
) -> Result<(), String> {
    let next = Arc::new(AtomicUsize::new(sessions.start));
    let clients = (0..CONNECTIONS).map(|_| {
        let (next, end) = (next.clone(), sessions.end);
        tokio::spawn(async move {
            let mut client = Lean::new(port);
            let message = lean::message();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= end {
                    return Ok::<(), String>(());
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
        client.await.map_err(|error| error.to_string())??;
    }
    Ok(())
}

/// How many sessions a store has for sure.
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
