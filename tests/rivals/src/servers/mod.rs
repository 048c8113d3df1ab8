//! Starts, kills and restarts each server.

mod abide;
mod attend;
mod program;
mod restate;

use std::fmt::Display;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::abide::loadgen::LoadSessions;
use abide_tests::{PATIENCE, Signal, descendants, signal};
use clap::ValueEnum;
use rustix::fs::statfs;
use tokio::net::TcpStream;

pub(crate) use self::abide::Abide;
pub(crate) use self::attend::attend;
use self::program::ChildProgram;
use self::restate::Restate;
use crate::chat::{ChatTarget, Shape};
use crate::npm::Installed;
use crate::pattern::Pattern;
use crate::timed::now;

const WORKERD_CONFIG: &str = include_str!("../../workerd/config.capnp");
const WORKERD_WORKER: &str = include_str!("../../workerd/worker.js");
/// The `statfs` magic numbers of in-memory file systems.
const TMPFS: u32 = 0x0102_1994;
const RAMFS: u32 = 0x8584_58f6;
/// Pause between two attempts to connect to a server that is not listening yet.
const KNOCK_PAUSE: Duration = Duration::from_micros(500);

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Contender {
    /// The daemon, with the chat as a guest.
    Abide,
    /// RocksDB behind Abide's HTTP server.
    Bare,
    /// Restate, and a service with its Rust SDK.
    Restate,
    /// workerd, the chat as a Durable Object.
    Workerd,
}

impl Contender {
    /// All servers, in the order of the table.
    pub(crate) const ALL: [Self; 4] = [Self::Abide, Self::Bare, Self::Restate, Self::Workerd];

    /// Returns the server's name in the table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Abide => "Abide",
            Self::Bare => "bare RocksDB",
            Self::Restate => "Restate",
            Self::Workerd => "workerd",
        }
    }
}

/// Everything that is needed to start a server.
pub(crate) struct Kit {
    /// The directory of the stores.
    pub(crate) folder: PathBuf,
    pub(crate) installed: Installed,
    pub(crate) pattern: Pattern,
}

/// A running server.
pub(crate) struct Server {
    pub(crate) chat: Arc<ChatTarget>,
    pub(crate) address: SocketAddr,
    runs: Runs,
}

enum Runs {
    Abide(Abide),
    Alone(ChildProgram),
    Restate(Restate),
}

impl Server {
    /// Starts a server on a directory, which is empty or contains the server's earlier data.
    pub(crate) async fn start(kind: Contender, kit: &Kit, folder: &Path) -> Result<Self, String> {
        let address = free_address();
        let (shape, runs) = match kind {
            Contender::Abide => {
                let abide = Abide::start(address.port(), folder).await?;
                (Shape::Messages, Runs::Abide(abide))
            }
            Contender::Bare => {
                kit.pattern.leave_in(folder)?;
                let program = std::env::current_exe().map_err(|error| error.to_string())?;
                let args = ["bare".into(), address.to_string().into(), folder.into()];
                let program = ChildProgram::start("bare", program, args.into(), folder)?;
                (Shape::Messages, Runs::Alone(program))
            }
            Contender::Restate => {
                let program = &kit.installed.restate;
                let restate = Restate::start(program, address.port(), folder).await?;
                (Shape::Object, Runs::Restate(restate))
            }
            Contender::Workerd => (Shape::Path, Runs::Alone(workerd(kit, address, folder)?)),
        };
        let host = address.to_string();
        let mut server = Self {
            chat: Arc::new(ChatTarget { host, shape }),
            address,
            runs,
        };
        server.knock().await?;
        Ok(server)
    }

    /// Creates the sessions, if the server requires that before messages are sent to them.
    pub(crate) async fn create(&mut self, sessions: &LoadSessions) -> Result<(), String> {
        let Runs::Abide(abide) = &self.runs else {
            return Ok(());
        };
        let created = abide.create(sessions.0.len());
        self.attend(created).await
    }

    /// Awaits work that this server does.
    ///
    /// # Errors
    /// The work's, or as soon as one of the server's processes has exited, its exit status and the
    /// end of its log.
    pub(crate) async fn attend<T, E: Display>(
        &mut self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, String> {
        attend(|| self.check(), work).await
    }

    fn check(&mut self) -> Result<(), String> {
        match &mut self.runs {
            Runs::Abide(abide) => abide.check(),
            Runs::Alone(program) => program.check(),
            Runs::Restate(restate) => restate.check(),
        }
    }

    /// Returns the process that a crash kills: the one that holds the store.
    pub(crate) async fn pid(&self) -> i32 {
        match &self.runs {
            Runs::Abide(abide) => abide.daemon.worker_pid().await,
            Runs::Alone(program) => program.pid(),
            Runs::Restate(restate) => restate.server.pid(),
        }
    }

    /// Returns all of the server's processes.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let roots = match &self.runs {
            Runs::Abide(abide) => vec![abide.daemon.supervisor_pid()],
            Runs::Alone(program) => vec![program.pid()],
            Runs::Restate(restate) => vec![restate.server.pid(), restate.service.pid()],
        };
        let below: Vec<_> = roots.iter().flat_map(|root| descendants(*root)).collect();
        roots.into_iter().chain(below).collect()
    }

    /// Kills the process that holds the store with `kill -9` and has it restarted: Abide's worker
    /// by its supervisor, the others by this program at once. Returns the time of the kill since
    /// the epoch; the server accepts connections when this returns.
    pub(crate) async fn crash(&mut self) -> Result<Duration, String> {
        let pid = self.pid().await;
        let killed = now();
        signal(pid, Signal::KILL);
        match &mut self.runs {
            Runs::Abide(_) => {}
            Runs::Alone(program) => program.start_again()?,
            Runs::Restate(restate) => restate.server.start_again()?,
        }
        self.knock().await?;
        Ok(killed)
    }

    /// Waits until the server accepts connections.
    async fn knock(&mut self) -> Result<(), String> {
        let address = self.address;
        self.attend(async {
            let listens = async {
                while TcpStream::connect(address).await.is_err() {
                    tokio::time::sleep(KNOCK_PAUSE).await;
                }
            };
            let listens = tokio::time::timeout(PATIENCE, listens).await;
            listens.map_err(|_| format!("{address} accepts no connection after {PATIENCE:?}"))
        })
        .await
    }
}

fn workerd(kit: &Kit, address: SocketAddr, folder: &Path) -> Result<ChildProgram, String> {
    let storage = folder.join("storage");
    std::fs::create_dir_all(&storage).map_err(|error| error.to_string())?;
    let config = folder.join("config.capnp");
    for (path, text) in [
        (&config, WORKERD_CONFIG),
        (&folder.join("worker.js"), WORKERD_WORKER),
    ] {
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let args = [
        "serve".into(),
        config.into_os_string(),
        format!("--socket-addr=http={address}").into(),
        format!("--directory-path=storage={}", storage.display()).into(),
    ];
    ChildProgram::start(
        "workerd",
        kit.installed.workerd.clone(),
        args.into(),
        folder,
    )
}

/// Returns a loopback address that is currently unused.
fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], abide_tests::free_port()))
}

/// Returns an error for a directory on an in-memory file system, where a sync costs nothing.
pub(crate) fn check_disk(folder: &Path) -> Result<(), String> {
    let what = statfs(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let kind = what.f_type as u32;
    if [TMPFS, RAMFS].contains(&kind) {
        let folder = folder.display();
        return Err(format!(
            "{folder} is in memory, where a sync costs nothing; name a folder on a disk with \
             --folder"
        ));
    }
    Ok(())
}
