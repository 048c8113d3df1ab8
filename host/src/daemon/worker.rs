//! Starts a worker up, from the first message of the supervisor until the worker serves.

use std::fs;
use std::mem;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc;

use crate::allocator;
use crate::config::{Config, Env, process_env};
use crate::engine;
use crate::private_files;
use crate::private_process;
use crate::store::StoreOptions;
use crate::supervisor::{
    self, ConfigBytes, Connection, FromWorker, Link, LinkError, LogQueue, Mode, Start, StartCause,
    ToWorker,
};

use super::bootstrap;
use super::error_text::error_text;
use super::frontend::Frontend;
use super::launch_spec::LaunchSpec;
use super::logging;
use super::open_store::{OpenedStore, StoreOpening};
use super::refused::{self, RefusalEnd, RefusedWorker, ServiceAttempt};
use super::serve::{self, StartedWorker};
use super::service_retry::{CannotServe, stays_up};
use super::signals;
use super::standby::{self, Preparation};

/// The interval of heartbeats, which show the supervisor that this worker does not hang.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The most that waits to be written to standard error before the configuration is known, in bytes:
/// some thousand lines.
const LOG_BYTES: usize = 1 << 20;
/// What is added to the kernel's score by which it chooses what to kill when memory runs out, in
/// thousandths of the machine's memory.
const OOM_SCORE_MORE: i32 = 10;
/// The exit code for a configuration or an environment that the daemon cannot run with.
const EXIT_UNUSABLE: u8 = 1;

/// How a supervisor's first worker starts. Later ones take no notice of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct FirstStart {
    /// Whether it runs on the last good configuration instead of the file.
    pub last_good: bool,
    /// Whether it opens a store that lacks what was acknowledged.
    pub accept_loss: bool,
    /// Whether its data folder was put back from a copy.
    pub restored: bool,
}

impl FirstStart {
    /// Returns the options that a first worker opens its store with.
    fn store_options(self) -> StoreOptions {
        let restored = "a copy of the data folder was put in its place";
        StoreOptions {
            accept_loss: self.accept_loss,
            restored: self.restored.then(|| restored.to_owned()),
            ..StoreOptions::default()
        }
    }
}

/// Runs `abide worker`, which the supervisor starts, until the worker exits.
pub fn run(config_path: &Path, first: FirstStart) -> ExitCode {
    let log = match LogQueue::for_process(LOG_BYTES) {
        Ok(log) => log,
        Err(code) => return code,
    };
    // Both before the next, which takes away the right to them.
    die_before_the_supervisor();
    engine::open_page_map();
    if let Err(error) = private_process::keep_private() {
        log.log(&format!(
            "tool servers may be able to read this process: {error}"
        ));
    }
    private_files::keep_private();
    let code = run_logged(config_path, first, &log);
    log.flush(logging::PATIENCE);
    code
}

/// Makes the kernel choose the worker and its tool servers, which inherit this, before the supervisor
/// when memory runs out: the supervisor starts another worker, nobody starts another supervisor.
fn die_before_the_supervisor() {
    const FILE: &str = "/proc/self/oom_score_adj";
    let now = fs::read_to_string(FILE).ok();
    let now = now.and_then(|text| text.trim().parse::<i32>().ok());
    if let Some(now) = now {
        // An error leaves the order to the kernel, which prefers the larger process anyway.
        let _ = fs::write(FILE, (now + OOM_SCORE_MORE).min(1000).to_string());
    }
}

fn run_logged(config_path: &Path, first: FirstStart, log: &LogQueue) -> ExitCode {
    let (link, start) = match supervisor::connect() {
        Ok(connected) => connected,
        Err(error) => {
            log.log(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        // One more than guests can occupy.
        .worker_threads(engine::processors() + 1)
        .enable_all()
        .on_thread_park(allocator::purge_if_requested)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            log.log(&format!("the worker's threads cannot be started: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run_async(
        Arc::new(link),
        start,
        config_path.to_owned(),
        first,
        log,
    ));
    // Do not wait for tasks that still run (a step's connection, a blocking read): nothing needs
    // their results any more.
    runtime.shutdown_background();
    code
}

async fn run_async(
    link: Arc<Link>,
    start: Start,
    config_path: PathBuf,
    first: FirstStart,
    log: &LogQueue,
) -> ExitCode {
    signals::leave_to_the_supervisor();
    let standby = start.mode == Mode::Standby;
    match start_up(link.clone(), start, config_path, first, log).await {
        Ok(Startup::Serves(worker)) => serve::serve(*worker).await,
        Ok(Startup::Exit(code)) => code,
        Err(error) => {
            let reason = error_text(&error);
            let last_word = if standby {
                FromWorker::StandbyFailed { reason }
            } else {
                log.write(format!("{reason}\n").into_bytes());
                FromWorker::Fatal {
                    reason,
                    code: EXIT_UNUSABLE,
                }
            };
            // An error means that the supervisor is gone; this worker exits anyway.
            let _ = link.send(last_word);
            ExitCode::from(EXIT_UNUSABLE)
        }
    }
}

/// What a worker has become when its start is over.
enum Startup {
    /// It has its store.
    Serves(Box<StartedWorker>),
    /// It has ended before it had its store: the daemon was stopped.
    Exit(ExitCode),
}

/// Starts up until the store is open, however long that takes.
async fn start_up(
    link: Arc<Link>,
    start: Start,
    config_path: PathBuf,
    first: FirstStart,
    log: &LogQueue,
) -> anyhow::Result<Startup> {
    let Start {
        mode,
        cause,
        generation,
        config,
        listeners,
        acknowledged,
        ..
    } = start;
    let mending = Arc::new(AtomicU64::new(0));
    let mut orders = listen(link.clone(), mending.clone());
    let env = Arc::new(process_env());
    let spec = match config {
        Some(bytes) => decode(&bytes).context("the handed-over configuration")?,
        None => bootstrap::launch_spec(&config_path, &env, first.last_good)?,
    };
    let config = match cause {
        StartCause::First => {
            let config = Config::validate(&spec.config, &config_path, &env).map_err(|error| {
                bootstrap::unusable(error.to_string(), &spec, &config_path, &env)
            })?;
            bootstrap::announce_fallback(&config, &env, &link)?;
            config
        }
        StartCause::Planned => Config::validate(&spec.config, &config_path, &env)?,
        // A worker has served on this configuration: changes since to the files that it names must
        // not prevent a start.
        StartCause::Crash { .. } | StartCause::Rollback { .. } => {
            Config::parse(&spec.config, &config_path, &env)?
        }
    };
    // A loss that is found later was not known to whoever accepted this one, and a later worker's
    // folder is the one that the first had.
    let accepted = match cause {
        StartCause::First => first.store_options(),
        _ => StoreOptions::default(),
    };
    // A worker before this one has served from the folder.
    let must_exist = !matches!(cause, StartCause::First);
    let options = StoreOptions {
        mending: mending.clone(),
        must_exist,
        witness: acknowledged.map(|file| Arc::new(file.into())),
        ..accepted
    };
    logging::start(log, &config.daemon);
    let config = Arc::new(config);
    let mut opening = StoreOpening {
        config: config.clone(),
        planned: generation,
        cause,
        options,
    };
    let spec = Arc::new(spec);
    let frontend = {
        let (config, spec, env, link) = (config.clone(), spec.clone(), env.clone(), link.clone());
        tokio::task::spawn_blocking(move || {
            Frontend::prepare(config, &spec, &env, listeners, &link)
        })
        .await
        .context("the preparation ended early")?
        .with_context(|| config_path.display().to_string())?
    };
    let preparation = Preparation {
        config: config.clone(),
        spec,
        env: env.clone(),
        secrets: frontend.secrets.clone(),
        store: opening.options.clone(),
        beside_another: mode == Mode::Standby,
        progress: mending,
    };
    let mut connections = Vec::new();
    let follows_a_death = mode == Mode::Serve
        && matches!(
            opening.cause,
            StartCause::Crash { .. } | StartCause::Rollback { .. }
        );
    let (prepared, opened) = if follows_a_death {
        // Clients are waiting. The store can be opened at once, in parallel to the preparation: a
        // worker has served on this configuration, and the supervisor has seen it exit.
        let (prepared, opened, ()) = tokio::join!(
            preparation.run(),
            opening.open(),
            standby::end_leftovers(&config)
        );
        (prepared, opened)
    } else {
        let prepared = preparation.run().await;
        let prepared = prepared.map_err(|source| CannotServe::unprepared(&config, source))?;
        if mode == Mode::Standby {
            link.send(FromWorker::StandbyReady)?;
            match stand_by(&mut orders, &mut connections).await {
                Some(why) => opening.cause = why,
                None => return Ok(Startup::Exit(ExitCode::SUCCESS)),
            }
        }
        (Ok(prepared), opening.open().await)
    };
    let ready = match (prepared, opened) {
        (Ok(prepared), Ok(opened)) => Ok((prepared, opened)),
        (prepared, Err(error)) => Err((CannotServe::Store(error), prepared.ok())),
        (Err(source), Ok(opened)) => {
            // It is opened again once it can be served, with the reason for its record.
            let closing = tokio::task::spawn_blocking(move || opened.store.close());
            closing.await.context("the store's closing ended early")?;
            Err((CannotServe::unprepared(&config, source), None))
        }
    };
    let (prepared, opened) = match ready {
        Ok(ready) => ready,
        Err((error, prepared)) if stays_up(&error, mode, &opening.cause) => {
            let refused = RefusedWorker {
                link: &link,
                orders: &mut orders,
                frontend: &frontend,
                connections: &mut connections,
            };
            let attempt = ServiceAttempt {
                preparation,
                opening,
                prepared,
            };
            match refused::refuse(refused, attempt, error).await? {
                RefusalEnd::Ready(ready) => *ready,
                RefusalEnd::Exit(code) => return Ok(Startup::Exit(code)),
            }
        }
        Err((error, _)) => return Err(error.into()),
    };
    if !follows_a_death && opened.life.follows_no_stop {
        // This worker holds the store, so its previous owner is dead. A worker that hands over has
        // ended its tool servers itself.
        standby::end_leftovers(&config).await;
    }
    let OpenedStore {
        store,
        life,
        previous,
        rejected_configs,
        memory_kills,
    } = opened;
    Ok(Startup::Serves(Box::new(StartedWorker {
        link,
        orders,
        frontend,
        prepared,
        env: Env::clone(&env),
        store,
        life,
        previous,
        rejected_configs,
        memory_kills,
        connections,
    })))
}

/// Waits for the order to take over and returns its cause; collects the connections that the
/// leaving worker passes on. Returns `None` if the daemon stops instead.
async fn stand_by(
    orders: &mut mpsc::UnboundedReceiver<ToWorker>,
    connections: &mut Vec<Connection>,
) -> Option<StartCause> {
    loop {
        match orders.recv().await? {
            ToWorker::Go { cause } => return Some(cause),
            ToWorker::Connection(connection) => connections.push(connection),
            ToWorker::Stop => return None,
            _ => {}
        }
    }
}

/// Forwards the supervisor's messages to a channel and sends heartbeats, and whether the store, which is
/// written anew, has come further, or a plugin is compiled. The channel closes when the supervisor is gone.
fn listen(link: Arc<Link>, mending: Arc<AtomicU64>) -> mpsc::UnboundedReceiver<ToWorker> {
    let (sender, orders) = mpsc::unbounded_channel();
    let ears = link.clone();
    // A thread, because the link blocks. It ends with the link, or at the latest with the process.
    std::thread::spawn(move || {
        loop {
            match ears.recv() {
                Ok(order) => {
                    if sender.send(order).is_err() {
                        return;
                    }
                }
                Err(LinkError::Wire(error)) => {
                    tracing::error!(%error, "the supervisor was not understood")
                }
                Err(_) => return,
            }
        }
    });
    tokio::spawn(async move {
        // On the runtime that does all the work, so that the heartbeat stops if the runtime hangs.
        let mut before = 0;
        while link.send(FromWorker::Alive).is_ok() {
            let now = mending.load(Ordering::Relaxed);
            if now != mem::replace(&mut before, now) && link.send(FromWorker::Mending).is_err() {
                return;
            }
            tokio::time::sleep(HEARTBEAT).await;
        }
    });
    orders
}

fn decode(bytes: &ConfigBytes) -> anyhow::Result<LaunchSpec> {
    Ok(LaunchSpec::decode(&bytes.read()?)?)
}
