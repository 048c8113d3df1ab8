//! Measures a turn's cost as a function of the size of its session's state, all of which the turn's
//! snapshot contains.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use abide_tests::Daemon;
use anyhow::anyhow;
use serde_json::json;

use crate::lean::{self, Lean};
use crate::plot::{Plot, Scale, Series};
use crate::told::{chapter, line, load, median};
use crate::{disk, proc, scripted};

const SESSION: &str = "holds";
/// State sizes, in KiB.
const SIZES_KIB: &[usize] = &[0, 1, 4, 16, 64, 256, 1024];
/// How long each subject is measured in a round.
const GO: Duration = Duration::from_secs(1);
/// The disk counts as quiet when nothing was written for this long. Longer than the three seconds
/// after which an idle store flushes its log into tables, which is part of a turn's cost.
const QUIET: Duration = Duration::from_millis(3500);
const GLANCE: Duration = Duration::from_millis(100);

/// A session with a state of one size, in a daemon of its own, so that compaction costs are
/// attributable to states of this size alone.
struct Subject {
    kib: usize,
    /// Stops the daemon when dropped.
    _daemon: Daemon,
    worker: i32,
    client: Lean,
    /// The median time of a turn in each round.
    us: Vec<f64>,
    /// The number of all turns, and the bytes written because of them.
    turns: usize,
    written_bytes: u64,
}

/// Measures all sizes and writes the plots into `plots`.
pub(crate) async fn measure(rounds: u32, plots: Option<PathBuf>) -> anyhow::Result<()> {
    chapter("a turn over the size of the state");
    load();
    line(
        "a sync takes",
        format!("{} us", disk::sync_cost().as_micros()),
    );
    let mut subjects = Vec::new();
    for &kib in SIZES_KIB {
        subjects.push(Subject::new(kib).await?);
    }
    for _ in 0..rounds {
        for subject in &mut subjects {
            subject.go().await?;
        }
    }
    println!(
        "  {:>10} {:>12} {:>14}",
        "state", "us a turn", "KiB written"
    );
    let us: Vec<f64> = subjects.iter().map(Subject::median_us).collect();
    let written: Vec<f64> = subjects.iter().map(Subject::written_kib).collect();
    for ((kib, us), written) in SIZES_KIB.iter().zip(&us).zip(&written) {
        println!("  {kib:>6} KiB {us:>12.0} {written:>14.1}");
    }
    match plots {
        Some(folder) => draw(us, written, &folder),
        None => Ok(()),
    }
}

impl Subject {
    async fn new(kib: usize) -> anyhow::Result<Self> {
        let mut setup = scripted(&[]);
        // Room for the largest state and the guest's other memory.
        let limit = "snapshot = \"2MiB\"".to_owned();
        setup.plugins[0].limits.push(limit);
        let daemon = Daemon::start(setup).await;
        let mut client = Lean::new(daemon.setup.port);
        client.open(SESSION, "scripted").await?;
        let hold = lean::script(&json!([{"act": "hold", "bytes": kib * 1024}]));
        client.say(SESSION, hold).await?.expect_completed()?;
        Ok(Self {
            kib,
            worker: daemon.worker_pid().await,
            _daemon: daemon,
            client,
            us: Vec::new(),
            turns: 0,
            written_bytes: 0,
        })
    }

    /// Takes turns one after the other for [`GO`], and counts every byte that is written because of
    /// them.
    async fn go(&mut self) -> anyhow::Result<()> {
        quiet(self.worker).await;
        let written = proc::written_bytes(self.worker);
        let began = Instant::now();
        let message = lean::script(&json!([]));
        let mut times = Vec::new();
        while began.elapsed() < GO {
            let sent = Instant::now();
            let answer = self.client.say(SESSION, message.clone()).await;
            let ended = answer.and_then(lean::LeanResponse::expect_completed);
            ended.map_err(|error| anyhow!("with {} KiB: {error}", self.kib))?;
            times.push(sent.elapsed().as_secs_f64() * 1e6);
        }
        quiet(self.worker).await;
        self.written_bytes += proc::written_bytes(self.worker) - written;
        self.turns += times.len();
        self.us.push(median(times));
        Ok(())
    }

    fn median_us(&self) -> f64 {
        median(self.us.clone())
    }

    fn written_kib(&self) -> f64 {
        self.written_bytes as f64 / 1024.0 / self.turns as f64
    }
}

/// Waits until a process has written nothing for [`QUIET`].
async fn quiet(pid: i32) {
    let (mut written, mut since) = (proc::written_bytes(pid), Instant::now());
    while since.elapsed() < QUIET {
        tokio::time::sleep(GLANCE).await;
        let now = proc::written_bytes(pid);
        if now != written {
            (written, since) = (now, Instant::now());
        }
    }
}

fn draw(us: Vec<f64>, written_kib: Vec<f64>, folder: &std::path::Path) -> anyhow::Result<()> {
    let plot = |title: &str, up: &str, name: &str, values| Plot {
        title: title.to_owned(),
        across: "state, in KiB".to_owned(),
        places: SIZES_KIB.iter().map(ToString::to_string).collect(),
        up: up.to_owned(),
        scale: Scale::Logarithmic,
        series: vec![Series {
            name: name.to_owned(),
            rival: false,
            values,
        }],
    };
    plot(
        "The time of a durable turn over the size of the state",
        "microseconds",
        "one session, one connection: median",
        us,
    )
    .write(folder, "state-time")?;
    plot(
        "What a turn writes over the size of the state",
        "KiB",
        "log, tables and their rewriting, by turn",
        written_kib,
    )
    .write(folder, "state-bytes")
}
