//! Compares a session that has taken very many turns with one that has taken few.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use abide_tests::{Daemon, Setup, Signal, signal};
use anyhow::anyhow;

use crate::curve::bare;
use crate::lean::{self, Lean};
use crate::told::{chapter, line, load, median, mib};
use crate::{disk, proc};

/// Turns in a window, half of them in the old session.
const WINDOW: usize = 2_000;
/// Consecutive turns of one session before the other one takes over.
const GO: usize = 50;
/// Turns that a fresh session takes before it is compared.
const FRESH: usize = 100;
/// Number of intervals between the first window and the last.
const WINDOWS: usize = 10;
/// Target: the ratio that the last turns' cost may reach.
const TARGET: f64 = 1.1;
const GUEST: &str = "echo";

/// The results of one window.
struct Window {
    /// Turns that the old session had taken before the window.
    turns: usize,
    /// Median time of a turn in the old session and in the fresh one.
    old_us: f64,
    fresh_us: f64,
    /// Bytes written per turn, averaged over both sessions and including compaction.
    written_bytes: f64,
    /// Size of the data directory.
    folder_bytes: u64,
    /// How much of it is live data.
    live_bytes: u64,
}

struct LongSession {
    daemon: Daemon,
    worker: i32,
    client: Lean,
    /// Where RocksDB's directory is copied to.
    copy: PathBuf,
}

/// Measures `turns` turns of one session.
pub(crate) async fn measure(turns: u32) -> anyhow::Result<()> {
    let turns = turns as usize;
    let daemon = Daemon::start(Setup::default()).await;
    let mut subject = LongSession {
        worker: daemon.worker_pid().await,
        client: Lean::new(daemon.setup.port),
        copy: daemon.folder().join("copy"),
        daemon,
    };
    chapter(&format!("one session, {turns} turns, one after the other"));
    load();
    line(
        "a sync takes",
        format!("{} us", disk::sync_cost().as_micros()),
    );
    subject.client.open("old", GUEST).await?;
    let mut taken = 0;
    let mut windows = Vec::new();
    println!(
        "  {:>8} {:>10} {:>10} {:>7} {:>12} {:>12} {:>12}",
        "turns", "us a turn", "a fresh", "ratio", "KiB written", "folder", "needed"
    );
    for n in 0..=WINDOWS {
        // The first window begins with as many turns as the fresh sessions have; the last one ends
        // with the last turn.
        let until = FRESH + (turns - FRESH - WINDOW / 2) * n / WINDOWS;
        while taken < until {
            subject.turn("old").await?;
            taken += 1;
        }
        let window = subject.window(n, &mut taken).await?;
        window.tell();
        windows.push(window);
    }
    judge(&windows);
    Ok(())
}

impl LongSession {
    async fn turn(&mut self, session: &str) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let answer = self.client.say(session, lean::message()).await?;
        answer.expect_completed()?;
        Ok(began.elapsed())
    }

    async fn window(&mut self, n: usize, taken: &mut usize) -> anyhow::Result<Window> {
        let fresh = format!("fresh{n}");
        self.client.open(&fresh, GUEST).await?;
        for _ in 0..FRESH {
            self.turn(&fresh).await?;
        }
        let turns = *taken;
        let (mut olds, mut freshes) = (Vec::new(), Vec::new());
        let written = proc::written_bytes(self.worker);
        for _ in 0..WINDOW / GO / 2 {
            for _ in 0..GO {
                olds.push(self.turn("old").await?.as_secs_f64() * 1e6);
                *taken += 1;
            }
            for _ in 0..GO {
                freshes.push(self.turn(&fresh).await?.as_secs_f64() * 1e6);
            }
        }
        let written = proc::written_bytes(self.worker) - written;
        // The fresh session still exists here and is closed afterwards, so that later windows do
        // not count its log as the old session's.
        let (folder_bytes, live_bytes) = self.sizes()?;
        let closed = self
            .client
            .ask(
                http::Method::DELETE,
                &format!("/v1/sessions/{fresh}"),
                Vec::new().into(),
            )
            .await?;
        if closed.status != 200 {
            return Err(anyhow!(closed.told()));
        }
        Ok(Window {
            turns,
            old_us: median(olds),
            fresh_us: median(freshes),
            written_bytes: written as f64 / WINDOW as f64,
            folder_bytes,
            live_bytes,
        })
    }

    /// Returns the data directory's size, and the size of RocksDB's live data. The worker is
    /// stopped while its files are copied.
    fn sizes(&self) -> anyhow::Result<(u64, u64)> {
        let data = self.daemon.folder().join("data");
        signal(self.worker, Signal::STOP);
        let copied = bare::copy(&data.join("db"), &self.copy);
        signal(self.worker, Signal::CONT);
        copied.map_err(|error| anyhow!("{}: {error}", self.copy.display()))?;
        let live = bare::live_bytes(&self.copy);
        drop(fs::remove_dir_all(&self.copy));
        Ok((bare::folder_bytes(Path::new(&data)), live?))
    }
}

impl Window {
    fn tell(&self) {
        println!(
            "  {:>8} {:>10.0} {:>10.0} {:>7.3} {:>12.2} {:>12} {:>12}",
            self.turns,
            self.old_us,
            self.fresh_us,
            self.old_us / self.fresh_us,
            self.written_bytes / 1024.0,
            mib(self.folder_bytes),
            mib(self.live_bytes)
        );
    }
}

/// Compares the time with a fresh session's in the same window, and bytes with those of the middle
/// window, by which time the log has reached its maximum length.
fn judge(windows: &[Window]) {
    let (Some(last), Some(middle)) = (windows.last(), windows.get(windows.len() / 2)) else {
        return;
    };
    chapter("targets");
    let judge = |what: &str, ratio: f64| {
        let verdict = if ratio <= TARGET { "met" } else { "MISSED" };
        line(what, format!("{ratio:.3}x of {TARGET}x: {verdict}"));
    };
    judge(
        "the last turns' time, to a fresh session's",
        last.old_us / last.fresh_us,
    );
    judge(
        "needed bytes at the end, to those in the middle",
        last.live_bytes as f64 / middle.live_bytes as f64,
    );
    judge(
        "bytes written a turn at the end, to the middle",
        last.written_bytes / middle.written_bytes,
    );
}
