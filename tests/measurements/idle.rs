//! Measures what idle sessions cost in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use abide_tests::{Daemon, Setup};
use anyhow::anyhow;
use http::Method;

use crate::curve::take_turns;
use crate::lean::{self, Lean};
use crate::memory::{Memory, Peak};
use crate::told::{chapter, line, load, mib, time};

/// Target: how much memory this many idle sessions may add.
const TARGET_SESSIONS: usize = 100_000;
const TARGET_BYTES: u64 = 64 << 20;
/// Turns of one session that warm up the daemon, so that the growth which any work causes is not
/// attributed to idle sessions.
const WARMING: usize = 20_000;
/// The default of `daemon.resident_idle`.
const RESIDENT_IDLE: Duration = Duration::from_secs(60);
/// Memory counts as settled once it has changed by no more than this for [`STILL`].
const STILL_BYTES: u64 = 1 << 20;
const STILL: Duration = Duration::from_secs(15);
/// How long to wait for memory to settle. Longer than `resident_idle`, for which sessions stay in
/// memory.
const PATIENCE: Duration = Duration::from_secs(240);
const GLANCE: Duration = Duration::from_millis(500);

/// Measures with each of these numbers of sessions, in ascending order in the same daemon.
pub(crate) async fn measure(sessions: &[usize]) -> anyhow::Result<()> {
    let mut sizes = sessions.to_vec();
    sizes.sort_unstable();
    let mut daemon = Daemon::start(Setup::default()).await;
    let port = daemon.setup.port;
    chapter("idle sessions: RSS of all the daemon's processes (anonymous part)");
    load();
    let (empty, _) = settled(&daemon).await;
    line("a fresh daemon without sessions", empty.told());
    warm(port).await?;
    let (none, _) = settled(&daemon).await;
    let turns = format!("after {WARMING} turns of one session");
    line(&turns, none.told());
    let mut there = 0;
    let mut added = Vec::new();
    for &count in &sizes {
        chapter(&format!("{count} sessions, one turn each"));
        let peak = Peak::watch(&daemon);
        let began = Instant::now();
        take_turns(port, there..count, true).await?;
        there = count;
        line("created in", time(began.elapsed()));
        let (idle, after) = settled(&daemon).await;
        line(
            "at most, meanwhile and until they were idle",
            peak.stop().await.told(),
        );
        line(
            "idle, no longer held in memory",
            format!(
                "{} {}, after {}",
                idle.told(),
                idle.more(&none),
                time(after)
            ),
        );
        look_at_all(port, count).await?;
        let (read, _) = settled(&daemon).await;
        line(
            "after each was read once, so that caches are full",
            format!("{} {}", read.told(), read.more(&none)),
        );
        let peak = Peak::watch(&daemon);
        daemon.restart_by_edit().await;
        let (again, after) = settled(&daemon).await;
        line(
            "at most, in a restart that brings all back",
            peak.stop().await.told(),
        );
        line(
            "idle again in the new worker",
            format!(
                "{} {}, after {}",
                again.told(),
                again.more(&empty),
                time(after)
            ),
        );
        added.push((
            count,
            idle.rss_bytes
                .max(read.rss_bytes)
                .saturating_sub(none.rss_bytes),
        ));
    }
    if let Some((count, added)) = added
        .into_iter()
        .find(|(count, _)| *count == TARGET_SESSIONS)
    {
        chapter("target");
        let verdict = if added < TARGET_BYTES {
            "met"
        } else {
            "MISSED"
        };
        line(
            &format!("{count} idle sessions add"),
            format!("{} of at most {}: {verdict}", mib(added), mib(TARGET_BYTES)),
        );
    }
    Ok(())
}

/// Returns the memory once it has settled, and how long it had been changing before. Sessions stay
/// in memory for a while after their last turn.
async fn settled(daemon: &Daemon) -> (Memory, Duration) {
    let began = Instant::now();
    let (mut level, mut since) = (Memory::of(daemon), began);
    // Memory is quiet for longest before idle sessions are evicted; a shorter minimum would mistake
    // that for the final level.
    let least = RESIDENT_IDLE + Duration::from_secs(10);
    loop {
        tokio::time::sleep(GLANCE).await;
        let now = Memory::of(daemon);
        if now.rss_bytes.abs_diff(level.rss_bytes) > STILL_BYTES {
            (level, since) = (now, Instant::now());
        }
        let done = since.elapsed() > STILL && began.elapsed() > least;
        if done || began.elapsed() > PATIENCE {
            return (now, since - began);
        }
    }
}

/// Takes the warm-up turns in one session.
async fn warm(port: u16) -> anyhow::Result<()> {
    let mut client = Lean::new(port);
    client.open("warming", "echo").await?;
    for _ in 0..WARMING {
        let answer = client.say("warming", lean::message()).await?;
        answer.expect_completed()?;
    }
    Ok(())
}

/// Reads each session once.
async fn look_at_all(port: u16, count: usize) -> anyhow::Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let clients = (0..8).map(|_| {
        let next = next.clone();
        tokio::spawn(async move {
            let mut client = Lean::new(port);
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    return Ok::<_, anyhow::Error>(());
                }
                let path = format!("/v1/sessions/{}", lean::session(n));
                let answer = client.ask(Method::GET, &path, Vec::new().into()).await?;
                if answer.status != 200 {
                    return Err(anyhow!(answer.told()));
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await??;
    }
    Ok(())
}
