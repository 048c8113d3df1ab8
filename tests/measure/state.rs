//! What a turn costs over the size of its session's state, all of which a turn's snapshot holds.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use abide_tests::Daemon;
use serde_json::json;

use crate::lean::{self, Lean};
use crate::plot::{Plot, Scale, Series};
use crate::told::{chapter, line, load, median};
use crate::{acrobat, disk, proc};

/// States, in KiB.
const SIZES_KIB: &[usize] = &[0, 1, 4, 16, 64, 256, 1024];
/// How long each has its go.
const GO: Duration = Duration::from_secs(1);
/// The disk is quiet when nothing was written for so long. Above the three seconds after which an
/// idle store moves its log into tables, which belongs to what a turn costs.
const QUIET: Duration = Duration::from_millis(3500);
const GLANCE: Duration = Duration::from_millis(100);

/// The gos of one size.
#[derive(Default)]
struct Cost {
    us: Vec<f64>,
    written_kib: Vec<f64>,
}

/// Measures that; draws into `plots`.
pub(crate) async fn measure(rounds: u32, plots: Option<PathBuf>) -> Result<(), String> {
    let mut setup = acrobat(&[]);
    setup.plugins[0]
        .limits
        .push("snapshot = \"4MiB\"".to_owned());
    let daemon = Daemon::start(setup).await;
    let worker = daemon.worker_pid().await;
    let mut client = Lean::new(daemon.setup.port);
    chapter("a turn over the size of the state");
    load();
    line(
        "a sync takes",
        format!("{} us", disk::sync_cost().as_micros()),
    );
    for kib in SIZES_KIB {
        let session = session(*kib);
        client.open(&session, "acrobat").await?;
        let hold = lean::script(&json!([{"act": "hold", "bytes": kib * 1024}]));
        client.say(&session, hold).await?.expect_completed()?;
    }
    let mut costs: Vec<Cost> = SIZES_KIB.iter().map(|_| Cost::default()).collect();
    for _ in 0..rounds {
        for (kib, cost) in SIZES_KIB.iter().zip(&mut costs) {
            quiet(worker).await;
            go(&mut client, worker, &session(*kib), cost).await?;
        }
    }
    println!(
        "  {:>10} {:>12} {:>14}",
        "state", "us a turn", "KiB written"
    );
    let medians = |of: fn(&Cost) -> &Vec<f64>| -> Vec<f64> {
        costs.iter().map(|cost| median(of(cost).clone())).collect()
    };
    let (us, written) = (medians(|cost| &cost.us), medians(|cost| &cost.written_kib));
    for ((kib, us), written) in SIZES_KIB.iter().zip(&us).zip(&written) {
        println!("  {:>6} KiB {us:>12.0} {written:>14.1}", kib);
    }
    match plots {
        Some(folder) => draw(us, written, &folder),
        None => Ok(()),
    }
}

fn session(kib: usize) -> String {
    format!("holds{kib}")
}

/// Turns of one session, one after the other, and all that is written because of them.
async fn go(client: &mut Lean, worker: i32, session: &str, cost: &mut Cost) -> Result<(), String> {
    let written = proc::written_bytes(worker);
    let began = Instant::now();
    let message = lean::script(&json!([]));
    let mut times = Vec::new();
    while began.elapsed() < GO {
        let sent = Instant::now();
        client
            .say(session, message.clone())
            .await?
            .expect_completed()?;
        times.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    quiet(worker).await;
    let written = proc::written_bytes(worker) - written;
    cost.written_kib
        .push(written as f64 / 1024.0 / times.len() as f64);
    cost.us.push(median(times));
    Ok(())
}

/// Waits until a process has written nothing for a while.
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

fn draw(us: Vec<f64>, written_kib: Vec<f64>, folder: &std::path::Path) -> Result<(), String> {
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
