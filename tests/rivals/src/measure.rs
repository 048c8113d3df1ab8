//! Measures one server in one round.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use abide::loadgen::{self, Load, LoadProbe, LoadSessions, Report, Service};

use crate::chat::{KEPT, TEXT_BYTES};
use crate::servers::{Contender, Kit, Server};
use crate::syncs::{self, SyncCounts};
use crate::timed::{Span, Timed};

/// Number of sessions under load.
const SESSIONS: usize = 1000;
const CONNECTIONS: usize = 64;
/// Warm-up before turns are counted.
const WARM_UP: Duration = Duration::from_secs(2);
/// Number of sessions that must each be answered after a crash, and of connections that they are
/// sent messages over.
const BACK: usize = 100;
const BACK_CONNECTIONS: usize = 10;
/// How long the sessions are under load before the server is killed, so that it is warm.
const BEFORE_CRASH: Duration = Duration::from_secs(1);
/// Idle time before memory is measured: workerd evicts objects after 10 seconds without requests.
const IDLE: Duration = Duration::from_secs(15);
/// Time limit of loads that end with their last turn.
const LONG: Duration = Duration::from_secs(1800);
/// How long a load may see no completed turn. Longer than one turn is retried.
const STALLED: Duration = Duration::from_secs(90);

/// The extent of the measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// How long the sessions are under load.
    pub(crate) load: Duration,
    /// Sessions that take a turn before memory is measured.
    pub(crate) stored: usize,
}

/// A measured quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    /// Turns per second over all connections.
    Turns,
    /// Latency over all connections, in milliseconds.
    P50,
    P99,
    /// Latency over one connection, in milliseconds.
    OneP50,
    OneP99,
    /// Bytes that the processes caused to be written to disk, in KiB per turn.
    Written,
    /// Resident memory of all processes, in MiB.
    Memory,
    /// From a kill to the first response, or to [`BACK`] sessions answered, in milliseconds, with
    /// the sessions under load stored.
    FirstAnswer,
    ManyAnswers,
    /// The same with [`Extent::stored`] sessions.
    FirstAnswerOfMore,
    ManyAnswersOfMore,
}

/// The results of one round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) values: BTreeMap<Figure, f64>,
    pub(crate) seen: Option<SyncCounts>,
    /// Descriptions of what went wrong.
    pub(crate) wrong: Vec<String>,
}

/// Stores with many sessions, each created once per run: its directory, and the client's state of
/// its sessions.
#[derive(Default)]
pub(crate) struct FilledStores(BTreeMap<Contender, (PathBuf, LoadSessions)>);

/// Measures one server with few and with many stored sessions.
pub(crate) async fn round(
    kind: Contender,
    kit: &Kit,
    plan: &Extent,
    stores: &mut FilledStores,
) -> Result<Figures, String> {
    let mut figures = Figures::default();
    let folder = kit.folder.join("run").join(kind.title().replace(' ', "-"));
    few(kind, kit, plan, &mut figures, &empty(folder)?).await?;
    many(kind, kit, plan, &mut figures, stores).await?;
    Ok(figures)
}

/// Measures on a new store that contains only the sessions under load.
async fn few(
    kind: Contender,
    kit: &Kit,
    plan: &Extent,
    figures: &mut Figures,
    folder: &Path,
) -> Result<(), String> {
    let mut server = Server::start(kind, kit, folder).await?;
    let mut sessions = fill(&mut server, SESSIONS, figures).await?;

    let written = written(&server);
    let report = figures
        .drive(&load(&server, plan.load), &mut server, &mut sessions)
        .await?;
    let turns = report.counts.completed as f64;
    // The bytes written include the warm-up's; count only the measured share.
    let share = plan.load.as_secs_f64() / (plan.load + WARM_UP).as_secs_f64();
    let written = (self::written(&server) - written) as f64 * share;
    figures.set(Figure::Turns, report.completed_per_second());
    figures.set(Figure::P50, millis(report.latency(0.5)));
    figures.set(Figure::P99, millis(report.latency(0.99)));
    figures.set(Figure::Written, written / turns / 1024.0);

    let one = Load {
        sessions: 1,
        connections: 1,
        warm_up: WARM_UP / 4,
        ..load(&server, plan.load / 2)
    };
    let mut first = LoadSessions(sessions.0.drain(..1).collect());
    let report = figures.drive(&one, &mut server, &mut first).await?;
    sessions.0.splice(..0, first.0);
    figures.set(Figure::OneP50, millis(report.latency(0.5)));
    figures.set(Figure::OneP99, millis(report.latency(0.99)));

    figures.seen = syncs::watch(&mut server, folder, &mut sessions).await?;

    let (one, all) = crash(&mut server, &mut sessions, figures).await?;
    figures.set(Figure::FirstAnswer, one);
    figures.set(Figure::ManyAnswers, all);
    Ok(())
}

/// Measures on a store with many sessions, which every round reuses as the previous one left it.
async fn many(
    kind: Contender,
    kit: &Kit,
    plan: &Extent,
    figures: &mut Figures,
    stores: &mut FilledStores,
) -> Result<(), String> {
    let (folder, sessions) = match stores.0.entry(kind) {
        Entry::Occupied(made) => made.into_mut(),
        Entry::Vacant(none) => {
            let folder = kit
                .folder
                .join("stored")
                .join(kind.title().replace(' ', "-"));
            let folder = empty(folder)?;
            let mut server = Server::start(kind, kit, &folder).await?;
            eprintln!("filling {} sessions", plan.stored);
            let sessions = fill(&mut server, plan.stored, figures).await?;
            none.insert((folder, sessions))
        }
    };
    let mut server = Server::start(kind, kit, folder).await?;
    let touch = Load {
        turns: Some(1),
        warm_up: Duration::ZERO,
        ..load(&server, LONG)
    };
    figures.drive(&touch, &mut server, sessions).await?;
    let idle = async {
        tokio::time::sleep(IDLE).await;
        Ok::<_, String>(())
    };
    server.attend(idle).await?;
    figures.set(
        Figure::Memory,
        resident(&server) as f64 / f64::from(1 << 20),
    );

    let (one, all) = crash(&mut server, sessions, figures).await?;
    figures.set(Figure::FirstAnswerOfMore, one);
    figures.set(Figure::ManyAnswersOfMore, all);
    Ok(())
}

/// Kills a server that is warm. Returns how long it took until the first response, and until one
/// response of each of [`BACK`] sessions.
async fn crash(
    server: &mut Server,
    sessions: &mut LoadSessions,
    figures: &mut Figures,
) -> Result<(f64, f64), String> {
    let warm = Load {
        warm_up: Duration::ZERO,
        ..load(server, BEFORE_CRASH)
    };
    figures.drive(&warm, server, sessions).await?;
    let killed = server.crash().await?;
    let back = Load {
        connections: BACK_CONNECTIONS,
        turns: Some(1),
        duration: LONG,
        ..warm
    };
    let mut asked = LoadSessions(sessions.0.drain(..BACK).collect());
    let timed = Timed::new(server.chat.clone());
    let report = figures
        .drive_as(timed.clone(), &back, server, &mut asked)
        .await?;
    sessions.0.splice(..0, asked.0);
    if report.counts.completed != BACK as u64 {
        let completed = report.counts.completed;
        figures
            .wrong
            .push(format!("{completed} of {BACK} answered after a kill"));
    }
    let turns = timed.turns();
    let since = |turn: Option<&Span>| {
        let time = turn.map(|turn| turn.to.saturating_sub(killed));
        time.map_or(f64::NAN, millis)
    };
    Ok((since(turns.first()), since(turns.last())))
}

/// Sends each session as many messages as a session keeps.
async fn fill(
    server: &mut Server,
    count: usize,
    figures: &mut Figures,
) -> Result<LoadSessions, String> {
    let mut sessions = LoadSessions::fresh(count);
    server.create(&sessions).await?;
    let fill = Load {
        turns: Some(KEPT),
        warm_up: Duration::ZERO,
        ..load(server, LONG)
    };
    figures.drive(&fill, server, &mut sessions).await?;
    Ok(sessions)
}

fn load(server: &Server, duration: Duration) -> Load {
    Load {
        sessions: SESSIONS,
        connections: CONNECTIONS,
        duration,
        warm_up: WARM_UP,
        text_bytes: TEXT_BYTES,
        ..Load::new(server.address.to_string())
    }
}

impl Figures {
    fn set(&mut self, figure: Figure, value: f64) {
        self.values.insert(figure, value);
    }

    /// Runs a load against a server, and records what went wrong.
    async fn drive(
        &mut self,
        load: &Load,
        server: &mut Server,
        sessions: &mut LoadSessions,
    ) -> Result<Report, String> {
        let chat = server.chat.clone();
        self.drive_as(chat, load, server, sessions).await
    }

    async fn drive_as<S: Service>(
        &mut self,
        service: Arc<S>,
        load: &Load,
        server: &mut Server,
        sessions: &mut LoadSessions,
    ) -> Result<Report, String> {
        let load = Load {
            sessions: sessions.0.len(),
            ..load.clone()
        };
        let taken = std::mem::take(sessions);
        let probe = LoadProbe::new();
        let run = loadgen::run(service, &load, taken, &probe);
        let run = async {
            tokio::select! {
                report = run => report.map_err(|error| error.to_string()),
                () = stalled(&probe) => Err(format!(
                    "{} has completed no turn for {STALLED:?}", load.address
                )),
            }
        };
        let report = server.attend(run).await?;
        *sessions = report.sessions.clone();
        let counts = &report.counts;
        let bad = [
            ("reset", counts.reset),
            ("slow", counts.slow),
            ("errors", counts.errors),
            ("unanswered", counts.unanswered),
            ("lost", counts.lost),
            ("doubled", counts.doubled),
            ("wrong", counts.wrong),
        ];
        for (what, count) in bad.into_iter().filter(|(_, count)| *count > 0) {
            self.wrong.push(format!("{what}: {count}"));
        }
        let examples = report.examples.iter();
        self.wrong
            .extend(examples.map(|example| example.text.clone()));
        Ok(report)
    }
}

/// Waits until no turn has been completed for [`STALLED`].
async fn stalled(probe: &LoadProbe) {
    let (mut completed, mut since) = (0, Instant::now());
    while since.elapsed() < STALLED {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = probe.counts().completed;
        if now != completed {
            (completed, since) = (now, Instant::now());
        }
    }
}

fn empty(folder: PathBuf) -> Result<PathBuf, String> {
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The resident memory of all of a server's processes, in bytes.
fn resident(server: &Server) -> u64 {
    let of = |pid| number(pid, "status", "VmRSS:") * 1024;
    server.pids().into_iter().map(of).sum()
}

/// The bytes that all of a server's processes have caused to be written to disk.
fn written(server: &Server) -> u64 {
    let of = |pid| number(pid, "io", "write_bytes:");
    server.pids().into_iter().map(of).sum()
}

/// Returns the number after a name in a file of `/proc`, or 0 if the process has exited.
fn number(pid: i32, file: &str, name: &str) -> u64 {
    let text = match fs::read_to_string(format!("/proc/{pid}/{file}")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            panic!("/proc/{pid}/{file}: {error}; measure as root")
        }
        Err(_) => return 0,
    };
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}
