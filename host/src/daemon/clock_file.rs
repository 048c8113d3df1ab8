//! The history of the machine's clock, kept over restarts in the file `CLOCK` of the data folder, so
//! that idempotency keys outlive a clock that was set forward just before one. It is no part of the
//! store: without it, or if it cannot be read, the clock counts as never set.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::atomic_file;
use crate::domain::{ClockHistory, ClockReading, MachineClock};

const FILE: &str = "CLOCK";
/// The kernel's name for the present boot of the machine.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// The content of the file.
#[derive(Serialize, Deserialize)]
struct StoredClock {
    boot: String,
    history: ClockHistory,
}

/// Returns the clock with the history that the folder holds, up to now: a step while no worker ran
/// is noticed, unless the machine was booted since.
pub(super) fn load(folder: &Path) -> MachineClock {
    let now = ClockReading::now();
    let stored = read(folder).unwrap_or_else(|error| {
        tracing::warn!(
            %error,
            "the file {FILE} of the data folder cannot be read: the clock counts as never set"
        );
        None
    });
    MachineClock::new(match stored {
        None => ClockHistory::new(now),
        Some(stored) if boot().is_ok_and(|boot| boot == stored.boot) => {
            let mut history = stored.history;
            history.observe(now);
            history
        }
        Some(stored) => stored.history.after_boot(now),
    })
}

/// Writes the history, unless the folder holds it already. Waits for the disk.
pub(super) fn keep(folder: &Path, history: &ClockHistory) -> io::Result<()> {
    let boot = boot()?;
    let known = read(folder).ok().flatten();
    if known.is_some_and(|known| known.boot == boot && known.history == *history) {
        return Ok(());
    }
    let history = history.clone();
    let text = serde_json::to_vec(&StoredClock { boot, history })?;
    atomic_file::write_whole(folder, FILE, &[&text])
}

fn boot() -> io::Result<String> {
    Ok(std::fs::read_to_string(BOOT)?.trim().to_owned())
}

fn read(folder: &Path) -> io::Result<Option<StoredClock>> {
    let bytes = atomic_file::read(&folder.join(FILE))?;
    let stored = bytes.map(|bytes| serde_json::from_slice(&bytes));
    Ok(stored.transpose()?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn a_history_outlives_its_worker_and_a_damaged_file_is_none() {
        let folder = tempfile::tempdir().expect("the machine has one");
        let path = folder.path();
        let steps = || load(path).steps(DAY, Duration::ZERO).len();
        assert_eq!(steps(), 0);
        // The clock was a day behind until just now.
        let mut before = ClockReading::now();
        before.wall.0 -= 24 * 3600 * 1000;
        keep(path, &ClockHistory::new(before)).expect("the folder is ours");
        assert_eq!(steps(), 1);
        let clock = load(path);
        assert!(clock.cautious(DAY).since(before.wall) < 60_000);
        let history = clock.history();
        keep(path, &history).expect("the folder is ours");
        assert_eq!(load(path).history(), history);
        std::fs::write(path.join(FILE), "{").expect("the folder is ours");
        assert_eq!(steps(), 0);
    }
}
