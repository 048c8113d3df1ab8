//! One case: a file is damaged, a daemon is started, and its sessions are judged.

use std::path::Path;
use std::time::{Duration, Instant};

use abide_tests::damage::{self, DamagedStart, Harm, damage, damaged_start, files_by_kind};
use abide_tests::{Daemon, Signal, kill_all, signal};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::Value;

use crate::judge::{Named, judge};
use crate::world::{Death, World, disturb, kill_worker_under_stopped_supervisor, spawn};

/// How long a start may take until it serves, refuses, or ends. Components may have to be compiled again, on a
/// machine that others use.
const START: Duration = Duration::from_secs(120);
/// How long a daemon may need to stop.
const STOP: Duration = Duration::from_secs(30);

/// Tables in which each session has more bytes than a block: those of the log, from this length on. A damaged
/// place lies in two blocks at most, and touches few sessions.
const LONG_TABLES: &str = "table log";
const LONG_BYTES: usize = 512 << 10;
const FEW: usize = 6;

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) kind: String,
    pub(crate) harm: Harm,
    pub(crate) death: Death,
    pub(crate) seed: u64,
}

/// How a case ended.
#[derive(Debug)]
pub(crate) enum End {
    /// There is no such file, or nothing in it that could be damaged so.
    NotThere,
    Whole,
    /// Served, with this many sessions named.
    Named(usize),
    /// Refused; salvaged with this many sessions named.
    Salvaged(usize),
    Failed(String),
}

impl Case {
    /// Runs the case. Returns what was damaged, and how it ended.
    pub(crate) async fn run(&self, stopped: &World, killed: &World) -> (String, End) {
        match self.act(stopped, killed).await {
            Ok(outcome) => outcome,
            Err(error) => (
                "".to_owned(),
                End::Failed(format!("the case itself: {error:#}")),
            ),
        }
    }

    async fn act(&self, stopped: &World, killed: &World) -> anyhow::Result<(String, End)> {
        let world = match self.death {
            Death::Stop | Death::Worker => stopped,
            Death::Everything => killed,
        };
        let mut known = world.known.clone();
        let folder = world.copied()?;
        let mut random = StdRng::seed_from_u64(self.seed);
        let data = folder.path().join("data");
        let harm =
            |random: &mut StdRng| damage(&files_by_kind(&data)?, &self.kind, self.harm, random);
        let (damaged, mut daemon) = match self.death {
            Death::Worker => {
                let daemon = spawn(folder);
                disturb(&daemon, &mut known).await?;
                kill_worker_under_stopped_supervisor(&daemon).await;
                let damaged = harm(&mut random);
                signal(daemon.supervisor_pid(), Signal::CONT);
                (damaged?, daemon)
            }
            Death::Stop | Death::Everything => (harm(&mut random)?, spawn(folder)),
        };
        let Some(damaged) = damaged else {
            return Ok((String::new(), End::NotThere));
        };
        let file = damaged.file.strip_prefix(&data)?.display();
        let what = format!("{file}: {}", damaged.what);
        let end = match damaged_start(&mut daemon, START).await {
            DamagedStart::Serves => match judge(&daemon, &known, Named::new(), 1_000).await {
                Ok(named) => self.again(&mut daemon, &known, named).await,
                Err(wrong) => End::Failed(wrong.join("; ")),
            },
            DamagedStart::Refuses(reason) => match is_helpful(&reason, daemon.folder()) {
                true => salvage(&mut daemon, &known, &reason).await,
                false => End::Failed(format!("refused without a remedy: {reason}")),
            },
            DamagedStart::Neither(why) => End::Failed(why),
        };
        let length = damaged.length_if_end_spared;
        let is_confined =
            self.kind == LONG_TABLES && length.is_some_and(|length| length >= LONG_BYTES);
        let end = match end {
            End::Named(named) if is_confined && named > FEW => {
                End::Failed(format!("one damaged place names {named} sessions"))
            }
            end => end,
        };
        if let (End::Failed(_), Ok(keep)) = (&end, std::env::var("ABIDE_DAMAGE_KEEP")) {
            let name = [&self.kind, self.harm.name(), self.death.name()].join("-");
            let name = format!("{}-{}", self.seed, name.replace(['/', ' ', '*'], "_"));
            let to = Path::new(&keep).join(name);
            std::fs::create_dir_all(&keep)?;
            kill_all(daemon.supervisor_pid());
            std::fs::rename(daemon.folder(), to)?;
        }
        Ok((what, end))
    }

    /// Starts the daemon again, which meets the damage at other places.
    async fn again(
        &self,
        daemon: &mut Daemon,
        known: &crate::world::KnownSessions,
        named: Named,
    ) -> End {
        if !stopped(daemon).await {
            return End::Failed("it does not stop".to_owned());
        }
        daemon.spawn_again();
        match damaged_start(daemon, START).await {
            DamagedStart::Serves => match judge(daemon, known, named, 2_000).await {
                Ok(named) if named.is_empty() => End::Whole,
                Ok(named) => End::Named(named.len()),
                Err(wrong) => End::Failed(format!("after another start: {}", wrong.join("; "))),
            },
            DamagedStart::Refuses(reason) => match is_helpful(&reason, daemon.folder()) {
                true => salvage(daemon, known, &reason).await,
                false => End::Failed(format!("refused later, without a remedy: {reason}")),
            },
            DamagedStart::Neither(why) => End::Failed(format!("after another start: {why}")),
        }
    }
}

/// Whether the words name a place in the folder and something to do.
fn is_helpful(reason: &str, folder: &Path) -> bool {
    let remedies = [
        "salvage",
        "restore",
        "backup",
        "--accept-loss",
        "remove",
        "delete",
        "run that version",
    ];
    reason.contains(&*folder.to_string_lossy())
        && remedies.iter().any(|remedy| reason.contains(remedy))
}

async fn stopped(daemon: &mut Daemon) -> bool {
    signal(daemon.supervisor_pid(), Signal::TERM);
    let begun = Instant::now();
    while daemon.exited().is_none() {
        if begun.elapsed() > STOP {
            kill_all(daemon.supervisor_pid());
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

/// Repairs or salvages the folder of a daemon that refuses it, and judges the daemon then.
async fn salvage(daemon: &mut Daemon, known: &crate::world::KnownSessions, reason: &str) -> End {
    if daemon.exited().is_none() && !stopped(daemon).await {
        return End::Failed(format!("it does not stop; it refused: {reason}"));
    }
    let report = match damage::repair(daemon, reason, "new") {
        Ok(report) => report,
        Err(error) => return End::Failed(format!("{error}; it refused: {reason}")),
    };
    daemon.spawn_again();
    match damaged_start(daemon, START).await {
        DamagedStart::Serves => match judge(daemon, known, touched(&report), 3_000).await {
            Ok(named) => End::Salvaged(named.len()),
            Err(wrong) => End::Failed(format!("salvaged: {}", wrong.join("; "))),
        },
        DamagedStart::Refuses(reason) | DamagedStart::Neither(reason) => {
            End::Failed(format!("what was salvaged does not start: {reason}"))
        }
    }
}

/// Returns the sessions that a report of `abide store salvage` names.
fn touched(report: &Value) -> Named {
    let touched = report["touched"].as_array().into_iter().flatten();
    touched
        .filter_map(|it| Some((it["id"].as_str()?.to_owned(), it["what"].to_string())))
        .collect()
}
