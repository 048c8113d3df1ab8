//! Measures what a backup costs the clients of a running daemon.
//!
//! Windows with and without backups alternate, so that other load on the machine affects both equally.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use abide_tests::{Daemon, Setup, abide_binary};
use anyhow::{Context as _, anyhow};
use bytes::Bytes;

use crate::crowd::{Crowd, Got};
use crate::curve::bare::folder_bytes;
use crate::lean::{self, Lean};
use crate::parallel;
use crate::told::{chapter, line, load, median, quantile, time};

/// Clients that send one message after the other, each to its own session.
const CLIENTS: usize = 64;
/// The text of the messages that fill the store.
const FILLER_BYTES: usize = 64 << 10;
/// Sessions that the filler goes to, beside those of the clients.
const FILLED: usize = 200;

/// Durations of turns, and of the backups taken meanwhile.
#[derive(Default)]
struct Lane {
    turns: Vec<Duration>,
    backups: Vec<Duration>,
    measured: Duration,
}

/// Measures `rounds` windows of `window` without and as many with backups, one after the other, of a
/// store of at least `store_mib` MiB.
pub(crate) async fn measure(store_mib: u64, window: Duration, rounds: u32) -> anyhow::Result<()> {
    let daemon = Daemon::start(Setup::default()).await;
    chapter(&format!(
        "{CLIENTS} clients, without and beside backups of a store of {store_mib} MiB"
    ));
    load();
    fill(&daemon, store_mib << 20).await?;
    parallel::for_each(CLIENTS, CLIENTS, {
        let port = daemon.setup.port;
        move |n| async move {
            let opened = Lean::new(port).open(&lean::session(n), "echo").await;
            opened.expect("a session can be opened");
        }
    })
    .await;
    let mut lanes = [Lane::default(), Lane::default()];
    for _ in 0..rounds {
        for (lane, is_beside) in lanes.iter_mut().zip([false, true]) {
            measure_window(&daemon, window, is_beside, lane).await?;
        }
    }
    tell(&mut lanes);
    load();
    Ok(())
}

/// Sends messages until the data folder has that many bytes.
async fn fill(daemon: &Daemon, bytes: u64) -> anyhow::Result<()> {
    let port = daemon.setup.port;
    let message: Bytes = format!("{{\"text\":\"{}\"}}", "word ".repeat(FILLER_BYTES / 5)).into();
    let data = daemon.folder().join("data");
    while folder_bytes(&data) < bytes {
        let message = message.clone();
        parallel::for_each(FILLED, CLIENTS, move |n| {
            let message = message.clone();
            async move {
                let mut client = Lean::new(port);
                let session = lean::session(CLIENTS + n);
                client
                    .open(&session, "echo")
                    .await
                    .expect("a session can be opened");
                let said = client.say(&session, message).await;
                said.and_then(lean::LeanResponse::expect_completed)
                    .expect("a message is answered");
            }
        })
        .await;
    }
    Ok(())
}

async fn measure_window(
    daemon: &Daemon,
    window: Duration,
    is_beside: bool,
    lane: &mut Lane,
) -> anyhow::Result<()> {
    let stop = Arc::new(AtomicBool::new(!is_beside));
    let backups = {
        let (folder, stop) = (daemon.folder().to_owned(), stop.clone());
        tokio::task::spawn_blocking(move || take_backups(&folder, &stop))
    };
    let began = Instant::now();
    let crowd = Crowd::start(daemon.setup.port, CLIENTS, CLIENTS);
    tokio::time::sleep(window).await;
    let asked = crowd.stop().await;
    lane.measured += began.elapsed();
    stop.store(true, Ordering::Relaxed);
    lane.backups.extend(backups.await??);
    for one in asked {
        match one.got {
            Got::Turn => lane.turns.push(one.took()),
            Got::Accepted | Got::Trouble => return Err(anyhow!("a client was not served")),
        }
    }
    Ok(())
}

/// Takes backups of the daemon in `folder` until it is stopped. Returns how long each took.
fn take_backups(folder: &Path, stop: &AtomicBool) -> anyhow::Result<Vec<Duration>> {
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let target = tempfile::tempdir()?;
        let began = Instant::now();
        let ran = Command::new(abide_binary())
            .arg("--config")
            .arg(folder.join("abide.toml"))
            .arg("backup")
            .arg(target.path().join("backup"))
            .stdin(Stdio::null())
            .output()
            .context("`abide backup` cannot be run")?;
        if !ran.status.success() {
            let words = String::from_utf8_lossy(&ran.stderr);
            return Err(anyhow!("a backup failed: {words}"));
        }
        took.push(began.elapsed());
    }
    Ok(took)
}

fn tell(lanes: &mut [Lane; 2]) {
    line("", "turns/s      p50        p99        p99.9");
    let mut p99 = Vec::new();
    for (lane, name) in lanes.iter_mut().zip(["without", "beside backups"]) {
        lane.turns.sort();
        let rate = lane.turns.len() as f64 / lane.measured.as_secs_f64();
        let times = [0.5, 0.99, 0.999].map(|part| quantile(&lane.turns, part));
        let [p50, this, p999] = times.map(|ms| format!("{ms:7.2} ms"));
        line(name, format!("{rate:7.0}  {p50} {this} {p999}"));
        p99.push(times[1]);
    }
    line(
        "p99 beside backups, of that without",
        format!("{:.2}x", p99[1] / p99[0]),
    );
    let backups = &lanes[1].backups;
    let seconds = backups.iter().map(Duration::as_secs_f64).collect();
    let typical = Duration::try_from_secs_f64(median(seconds)).unwrap_or_default();
    line(
        "backups; one took (median)",
        format!("{}; {}", backups.len(), time(typical)),
    );
}
