//! Measures what a restart and a `kill -9` cost clients, as a function of the number of stored
//! sessions.

pub(crate) mod bare;
mod report;
mod rounds;
mod stored;

use std::path::PathBuf;

use abide_tests::Daemon;

use crate::told::{chapter, line, load, mib};
use report::Point;
use rounds::MeasuredStore;
use stored::Stores;
pub(crate) use stored::take_turns;

/// Number of client connections.
const CONNECTIONS: usize = 64;

/// Measures with each of these numbers of stored sessions; keeps the stores in `data`, and writes
/// the plots into `plots`.
pub(crate) async fn measure(
    sessions: &[usize],
    active: usize,
    rounds: u32,
    data: Option<PathBuf>,
    plots: Option<PathBuf>,
) -> anyhow::Result<()> {
    let mut sizes = sessions.to_vec();
    sizes.sort_unstable();
    sizes.dedup();
    let stores = Stores::new(data)?;
    let mut points = Vec::new();
    let mut smaller = None;
    for &sessions in &sizes {
        points.push(point(&stores, sessions, active.min(sessions), smaller, rounds).await?);
        smaller = Some(sessions);
    }
    report::print(&points);
    match plots {
        Some(folder) => report::draw(&points, &folder),
        None => Ok(()),
    }
}

async fn point(
    stores: &Stores,
    sessions: usize,
    active: usize,
    smaller: Option<usize>,
    rounds: u32,
) -> anyhow::Result<Point> {
    chapter(&format!(
        "{sessions} sessions stored, {active} of them active"
    ));
    load();
    let data = stores.with(sessions, smaller).await?;
    line("the store's size", mib(bare::folder_bytes(&data)));
    let mut daemon = Daemon::start(stored::setup(&data, active)).await;
    stored::take_turns(daemon.setup.port, 0..active, false).await?;
    let mut measured = MeasuredStore {
        daemon: &mut daemon,
        db: data.join("db"),
        copy: data.with_file_name("copy"),
        active,
    };
    let mut point = Point::new(sessions, active);
    for _ in 0..rounds {
        let restart = measured.restart().await?;
        restart.tell();
        point.restarts.push(restart);
        let kill = measured.kill().await?;
        kill.tell();
        point.kills.push(kill);
    }
    daemon.stop().await;
    Ok(point)
}
