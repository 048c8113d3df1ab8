//! The rounds of the curve: one planned restart and one kill, each under load.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use abide_tests::{Daemon, How, Signal, signal, until, until_within};
use anyhow::anyhow;
use serde_json::Value;

use super::{CONNECTIONS, bare};
use crate::crowd::{Asked, Crowd, Got};
use crate::told::{line, millis};

/// How long clients send requests before the restart or the kill.
const LEAD: Duration = Duration::from_secs(2);
/// How long clients continue after the restart is over.
const TAIL: Duration = Duration::from_millis(500);
/// The supervisor treats a new worker as unproven for 10 s, and restarts one that exits sooner only
/// after a backoff. Half a second is the margin.
const SETTLED: Duration = Duration::from_millis(10_500);
/// How long a restart, or restoring the sessions after it, may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Number of distinct sessions that must be answered after a kill.
const SESSIONS: usize = 100;
/// Answers after which at least [`SESSIONS`] distinct sessions are certainly among them:
/// consecutive answers of one client belong to different sessions.
const ANSWERS: u64 = 3 * SESSIONS as u64;

pub(crate) struct MeasuredStore<'a> {
    pub(crate) daemon: &'a mut Daemon,
    /// RocksDB's directory.
    pub(crate) db: PathBuf,
    /// Where RocksDB's directory is copied to.
    pub(crate) copy: PathBuf,
    pub(crate) active: usize,
}

/// The cost of one planned restart.
pub(crate) struct Restart {
    /// The longest duration of a request, from the edit until the sessions were restored.
    pub(crate) pause: Duration,
    /// The longest duration of a request before the edit.
    pub(crate) usual: Duration,
    /// Requests that failed.
    pub(crate) troubles: usize,
    /// The daemon's restart record.
    pub(crate) record: Value,
}

/// The cost of one kill.
pub(crate) struct Kill {
    /// From the kill to the first answered turn.
    pub(crate) first: Duration,
    /// From the first answered turn until [`SESSIONS`] distinct sessions were answered.
    pub(crate) hundred: Duration,
    /// The duration of a bare opening of the same store.
    pub(crate) bare: Duration,
    /// The size of the write-ahead log files that RocksDB had to replay.
    pub(crate) wal_bytes: u64,
}

impl MeasuredStore<'_> {
    fn crowd(&self) -> Crowd {
        Crowd::start(self.daemon.setup.port, CONNECTIONS, self.active)
    }

    /// Changes the configuration under load and measures the restart that it triggers.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<Restart> {
        let old = self.daemon.generation().await;
        let crowd = self.crowd();
        tokio::time::sleep(LEAD).await;
        let edited = Instant::now();
        self.daemon.edit(How::Rename, |setup| setup.spare += 1);
        let generation = self.daemon.after_generation(old).await;
        let record = until_within(PATIENCE, "the sessions' return", async || {
            let record = self.daemon.restart_record(generation).await?;
            (record["phases"]["relaunch_ms"].as_u64() > Some(0)).then_some(record)
        })
        .await;
        tokio::time::sleep(TAIL).await;
        let asked = crowd.stop().await;
        let longest = |asked: &mut dyn Iterator<Item = &Asked>| {
            let times = asked.map(Asked::took);
            times.max().unwrap_or_default()
        };
        // Skip the first half of the lead: its first requests include opening the connections.
        let began = edited - LEAD / 2;
        let before = asked.iter().filter(|asked| asked.ended < edited);
        Ok(Restart {
            pause: longest(&mut asked.iter().filter(|asked| asked.ended >= edited)),
            usual: longest(&mut before.filter(|asked| asked.sent >= began)),
            troubles: asked
                .iter()
                .filter(|asked| asked.got == Got::Trouble)
                .count(),
            record,
        })
    }

    /// Kills the worker with `kill -9` under load and measures until its successor answers.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<Kill> {
        // Wait, without load, until the previous round's worker counts as proven, or the supervisor
        // would delay the restart.
        tokio::time::sleep(SETTLED).await;
        let crowd = self.crowd();
        tokio::time::sleep(LEAD).await;
        let worker = self.daemon.worker_pid().await;
        // A stopped worker writes nothing, so the copied files are exactly what the kill leaves
        // behind.
        signal(worker, Signal::STOP);
        until("the worker's standing still", async || {
            stands(worker).then_some(())
        })
        .await;
        let copied = bare::copy(&self.db, &self.copy).map_err(anyhow::Error::from);
        let turns = crowd.turns();
        let killed = Instant::now();
        signal(worker, Signal::KILL);
        until_within(PATIENCE, "answers after a kill", async || {
            (crowd.turns() >= turns + ANSWERS).then_some(())
        })
        .await;
        let mut asked = crowd.stop().await;
        copied?;
        let wal_bytes = log_bytes(&self.copy);
        let copy = self.copy.clone();
        let bare = tokio::task::spawn_blocking(move || {
            let took = bare::open(&copy);
            drop(fs::remove_dir_all(copy));
            took
        });
        let bare = bare.await??;
        asked.retain(|asked| asked.ended >= killed && asked.got == Got::Turn);
        asked.sort_by_key(|asked| asked.ended);
        let mut seen = HashSet::new();
        let mut firsts = asked.iter().filter(|asked| seen.insert(asked.session));
        let first = firsts.next().map(|asked| asked.ended - killed);
        let all = firsts.nth(SESSIONS - 2).map(|asked| asked.ended - killed);
        let (Some(first), Some(all)) = (first, all) else {
            return Err(anyhow!("too few sessions answered after the kill"));
        };
        Ok(Kill {
            first,
            hundred: all - first,
            bare,
            wal_bytes,
        })
    }
}

impl Restart {
    pub(crate) fn tell(&self) {
        let phases = &self.record["phases"];
        line(
            "a restart: the longest wait of a client",
            format!(
                "{} (before: {}; {} active, standby {} ms, drain {}, hand-over {}, relaunch {}; \
                 {} requests failed)",
                millis(self.pause),
                millis(self.usual),
                self.record["active"],
                phases["standby_ms"],
                phases["drain_ms"],
                phases["handover_ms"],
                phases["relaunch_ms"],
                self.troubles
            ),
        );
    }
}

impl Kill {
    pub(crate) fn tell(&self) {
        line(
            "a kill: to the first answered turn",
            format!(
                "{}, {SESSIONS} sessions {} later; bare opening {} ({:.1} MiB of logs)",
                millis(self.first),
                millis(self.hundred),
                millis(self.bare),
                self.wal_bytes as f64 / f64::from(1 << 20),
            ),
        );
    }
}

/// Returns whether all threads of a process are stopped.
fn stands(pid: i32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, state)| state.starts_with('T'))
    })
}

/// Returns the total size of a store's write-ahead logs in bytes, including those that RocksDB
/// keeps for recycling.
fn log_bytes(db: &PathBuf) -> u64 {
    let entries = fs::read_dir(db).into_iter().flatten().flatten();
    let logs = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "log"));
    logs.filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .sum()
}
